//! `cargo xtask soak NAME` runs this: a long run, its table printed and kept in `artifacts/`.
#![expect(clippy::print_stdout, reason = "it prints its table")]

use clap::Parser;
use relay_tests::farm::Picture;
use relay_tests::soak::{cameras, churn, kill, viewers};

/// Long runs.
#[derive(Parser)]
#[command(name = "cargo xtask soak")]
enum Soak {
    /// Cameras of which four are killed, frozen, resized or refuse the password, again and again.
    Cameras {
        /// Cameras, the faulty ones included.
        #[arg(long, default_value_t = 20)]
        cameras: usize,
        /// How often the faults come; a round lasts about 25 s.
        #[arg(long, default_value_t = 10)]
        rounds: usize,
    },
    /// `kill -9` at random moments.
    Kill {
        /// Kills; each takes about 4 s.
        #[arg(long, default_value_t = 100)]
        kills: usize,
        /// Cameras recorded meanwhile.
        #[arg(long, default_value_t = 4)]
        cameras: usize,
        /// Where chance begins.
        #[arg(long, default_value_t = 0x5eed)]
        seed: u64,
    },
    /// Connections cut as soon as they are up.
    Churn {
        /// Connects, all cameras together.
        #[arg(long, default_value_t = 10_000)]
        connects: u64,
        /// Cameras at once.
        #[arg(long, default_value_t = 50)]
        cameras: usize,
    },
    /// WebRTC viewers that come and go.
    Viewers {
        /// Sessions, all waves together.
        #[arg(long, default_value_t = 2_000)]
        sessions: usize,
        /// Viewers at once.
        #[arg(long, default_value_t = 50)]
        wave: usize,
    },
}

fn main() -> anyhow::Result<()> {
    let (name, report) = match Soak::parse() {
        Soak::Cameras { cameras, rounds } => {
            ("cameras", cameras::run(&cameras::Scale { cameras, rounds, picture: Picture::HD })?)
        }
        Soak::Kill { kills, cameras, seed } => ("kill", kill::run(&kill::Scale { kills, cameras, seed })?),
        Soak::Churn { connects, cameras } => ("churn", churn::run(&churn::Scale { connects, cameras })?),
        Soak::Viewers { sessions, wave } => ("viewers", viewers::run(&viewers::Scale { sessions, wave })?),
    };
    println!("\n{report}");
    let artifacts = relay_tests::root().join("artifacts");
    std::fs::create_dir_all(&artifacts)?;
    std::fs::write(artifacts.join(format!("soak-{name}.md")), report.to_string())?;
    anyhow::ensure!(report.broken.is_empty(), "{} promises were broken", report.broken.len());
    Ok(())
}

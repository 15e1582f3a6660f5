//! `cargo xtask soak NAME` runs this: a long run, its table printed and kept in `artifacts/`.
#![expect(clippy::print_stdout, reason = "it prints its table")]

use clap::Parser;
use relay_tests::farm::Picture;
use relay_tests::soak::{cameras, churn, hls, kill, kvs, kvs_cut, viewers};

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
    /// Live HLS from origins that fail in every way: ten minutes.
    Hls {
        /// A minute of it, with small pictures.
        #[arg(long)]
        short: bool,
    },
    /// Live HLS into a stand-in for Kinesis Video Streams, and all that ever went wrong goes wrong: ten minutes.
    Kvs {
        /// Instead: the network is cut for so many seconds, with a spool.
        #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "600")]
        cut: Option<u64>,
        /// A minute of it, with small pictures.
        #[arg(long)]
        short: bool,
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
        Soak::Hls { short } => {
            ("hls", hls::run(&if short { hls::Scale::a_minute() } else { hls::Scale::ten_minutes() })?)
        }
        Soak::Kvs { cut: Some(seconds), .. } => {
            let cut = std::time::Duration::from_secs(seconds);
            ("kvs-cut", kvs_cut::run(&kvs_cut::Scale { picture: Picture::HD, cut })?)
        }
        Soak::Kvs { short: true, seed, .. } => ("kvs", kvs::run(&kvs::Scale::a_minute(seed))?),
        Soak::Kvs { seed, .. } => ("kvs", kvs::run(&kvs::Scale::ten_minutes(seed))?),
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

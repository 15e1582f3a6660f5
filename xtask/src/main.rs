//! The project's chores, one module each: `cargo xtask test` is the whole check, `cargo xtask bench-peers record` the
//! comparison with ffmpeg and GStreamer, `cargo xtask bench` the hot paths, `cargo xtask soak NAME` the long runs.
#![expect(clippy::print_stdout, reason = "what a chore does is print")]
#![expect(clippy::disallowed_methods, reason = "chores measure and wait in real time; they are no part of the product")]

mod bench;
mod bench_peers;
mod debian;
mod python;
mod shell;
mod soak;
mod steps;
mod test;

use std::process::ExitCode;

use clap::Parser;

/// The project's chores.
#[derive(Parser)]
#[command(name = "cargo xtask", after_help = "Example: cargo xtask test")]
enum Chore {
    /// Everything that must hold: formatting, lints, docs, all tests, the model check, the fuzz targets.
    Test(test::Options),
    /// Criterion benches of the hot paths, as one table of ns and allocations per packet.
    Bench(bench::Options),
    /// relayd, other programs and a floor program at the same job, side by side.
    BenchPeers(bench_peers::Options),
    /// A long run that prints its table: cameras, kill, churn, viewers or kvs.
    Soak(soak::Options),
}

fn main() -> ExitCode {
    let outcome = match Chore::parse() {
        Chore::Test(options) => test::run(&options),
        Chore::Bench(options) => bench::run(&options),
        Chore::BenchPeers(options) => bench_peers::run(&options),
        Chore::Soak(options) => soak::run(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("\nfailed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    /// Every `cargo xtask …` line that the documents quote must parse.
    #[test]
    fn quoted_chores_exist() {
        Chore::command().debug_assert();
        let root = shell::root();
        for document in ["README.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "CHANGELOG.md", ".ci/run"] {
            let text = std::fs::read_to_string(root.join(document)).expect(document);
            for quoted in text.split("cargo xtask ").skip(1) {
                let line = quoted.split(['`', '\n', '#', '|', '(', ';', '<']).next().unwrap_or_default().trim();
                let words = line.split_whitespace().filter(|word| !word.chars().any(|c| c.is_ascii_uppercase()));
                let words: Vec<_> = std::iter::once("cargo xtask").chain(words).collect();
                let parsed = Chore::try_parse_from(&words);
                let missing_argument = |e: &clap::Error| e.kind() == clap::error::ErrorKind::MissingRequiredArgument;
                assert!(
                    parsed.as_ref().err().is_none_or(missing_argument),
                    "{document} quotes `cargo xtask {line}`: {}",
                    parsed.err().map(|e| e.to_string()).unwrap_or_default()
                );
            }
        }
    }
}

//! `cargo xtask soak NAME`: the long runs. What they do is in the package `relay-tests`, whose tests run the same code
//! for less than a minute each; here they are built as they ship and run for as long as is asked.

use crate::shell;

/// Which run, and how long.
#[derive(clap::Args)]
#[command(after_help = "Example: cargo xtask soak cameras --seconds 600")]
pub(crate) struct Options {
    /// cameras, kill, churn, viewers or kvs; and what it takes, see `cargo xtask soak cameras --help`.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

/// Builds relayd and the soak program in release, and runs it.
///
/// # Errors
/// When it doesn't build, or a run breaks one of its promises.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    shell::run(&mut shell::cargo(&["build", "--release", "-p", "relayd", "-p", "relay-sim", "-p", "relay-tests"]))?;
    shell::run(std::process::Command::new(shell::target_dir().join("release/soak")).args(&options.words))
}

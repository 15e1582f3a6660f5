//! `cargo xtask test`: everything that must hold, in one command, with a table of what took how long.

mod fuzz;

use std::path::PathBuf;

use anyhow::{Context, bail};

use crate::{debian, python, shell, steps::Steps};

/// What to run.
#[derive(clap::Args)]
#[command(after_help = "Example: cargo xtask test --only tests")]
pub(crate) struct Options {
    /// Only the steps whose name contains this word.
    #[arg(long)]
    only: Option<String>,
    /// Seconds that each fuzz target runs; 0 only builds them.
    #[arg(long, default_value_t = 5)]
    fuzz_seconds: u32,
}

/// Runs the steps and prints their times.
///
/// # Errors
/// When a step failed, or in CI when one was skipped.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let mut steps = Steps::new();
    let wanted = |name: &str| options.only.as_deref().is_none_or(|word| name.contains(word));
    let mut step = |name: &str, work: &mut dyn FnMut() -> anyhow::Result<()>| {
        if wanted(name) {
            steps.step(name, work);
        }
    };
    let skips = shell::target_dir().join("skipped-tests");

    step("packages", &mut debian::provide);
    step("Python packages", &mut python::provide);
    step("nasm", &mut require_nasm);
    step("format", &mut || shell::run(&mut shell::cargo(&["fmt", "--all", "--check"])));
    step("lints", &mut || {
        shell::run(&mut shell::cargo(&["clippy", "--workspace", "--all-targets", "--", "-Dwarnings"]))
    });
    step("documentation", &mut || {
        shell::run(shell::cargo(&["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-Dwarnings"))
    });
    step("build", &mut || shell::run(&mut shell::cargo(&["build", "--workspace", "--all-targets"])));
    step("tests", &mut || run_tests(&skips));
    step("ring model", &mut model_check_ring);
    step("fuzz targets", &mut || fuzz::run(options.fuzz_seconds));

    for line in std::fs::read_to_string(&skips).unwrap_or_default().lines() {
        if let Some((name, why)) = line.split_once(": ") {
            steps.skip(&format!("test {name}"), why);
        }
    }
    steps.finish()
}

/// openh264 builds without nasm too, silently, and then encodes at less than half the speed.
fn require_nasm() -> anyhow::Result<()> {
    match (shell::has("nasm"), shell::is_ci()) {
        (true, _) => shell::run(std::process::Command::new("nasm").arg("--version")),
        (false, true) => bail!("nasm is missing: the H.264 encoder would be built without its assembly"),
        (false, false) => {
            println!("   nasm is missing: the H.264 encoder will be less than half as fast");
            Ok(())
        }
    }
}

/// All tests. One that lacks a program says so in the file that `RELAY_SKIPS` names (`relay_tests::needs`).
fn run_tests(skips: &PathBuf) -> anyhow::Result<()> {
    std::fs::create_dir_all(shell::target_dir())?;
    std::fs::write(skips, "").with_context(|| format!("write {}", skips.display()))?;
    shell::run(shell::cargo(&["test", "--workspace", "--no-fail-fast"]).env("RELAY_SKIPS", skips))
}

/// loom walks through every interleaving of the ring's small scenarios. Only this package is built with `--cfg loom`,
/// in a folder of its own, or every other build would start from nothing.
fn model_check_ring() -> anyhow::Result<()> {
    let mut command = shell::cargo(&["test", "--package", "relay-ring", "--release", "--lib", "--tests"]);
    command.env("RUSTFLAGS", "--cfg loom").env("CARGO_TARGET_DIR", shell::target_dir().join("loom"));
    shell::run(&mut command)
}

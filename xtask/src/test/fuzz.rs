//! The fuzz targets, built and run on the stable toolchain without cargo-fuzz: libFuzzer needs no more than the
//! compiler's coverage counters, which `-C passes=sancov-module` inserts. No sanitizer: unsafe code is forbidden here.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};

use crate::shell;

/// What `cargo fuzz build --sanitizer none` hands to rustc, and the checks of a debug build.
const RUSTFLAGS: &[&str] = &[
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
    "-Cdebug-assertions",
    "-Coverflow-checks",
];

/// Builds every target of `fuzz/` and runs each for `seconds` on a copy of its corpus.
///
/// # Errors
/// When one doesn't build, panics, takes more than 10 s for one input, or more than 1 GiB of memory.
pub(super) fn run(seconds: u32) -> anyhow::Result<()> {
    let fuzz = shell::root().join("fuzz");
    let host = host()?;
    let build = shell::target_dir().join("fuzz");
    // With --target, build scripts and macros are built without the flags: they have no counters to link to.
    let mut command = shell::cargo(&["build", "--release", "--target", &host]);
    command.current_dir(&fuzz).env("RUSTFLAGS", RUSTFLAGS.join(" ")).env("CARGO_TARGET_DIR", &build);
    shell::run(&mut command)?;

    let mut failed = Vec::new();
    for name in targets(&fuzz)? {
        if seconds == 0 {
            println!("   {name}: built");
            continue;
        }
        let program = build.join(&host).join("release").join(&name);
        match fuzz_one(&program, &fuzz, &name, seconds) {
            Ok(runs) => println!("   {name}: {runs}"),
            Err(error) => {
                println!("   {name}: {error:#}");
                failed.push(name);
            }
        }
    }
    if !failed.is_empty() {
        bail!("{}", failed.join(", "));
    }
    Ok(())
}

/// Runs one target and hands back libFuzzer's closing line.
fn fuzz_one(program: &Path, fuzz: &Path, name: &str, seconds: u32) -> anyhow::Result<String> {
    // New inputs go to the first folder: the committed corpus is read only.
    let found = shell::target_dir().join("fuzz-corpus").join(name);
    let artifacts = shell::artifacts()?.join("fuzz");
    std::fs::create_dir_all(&found)?;
    std::fs::create_dir_all(&artifacts)?;
    let mut command = Command::new(program);
    command.arg(&found);
    let corpus = fuzz.join("corpus").join(name);
    if corpus.is_dir() {
        command.arg(corpus);
    }
    command.args([&format!("-max_total_time={seconds}"), "-timeout=10", "-rss_limit_mb=1024", "-max_len=65536"]);
    command.arg(format!("-artifact_prefix={}/{name}-", artifacts.display()));
    let output = command.output().with_context(|| format!("start {}", program.display()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        return Ok(said.lines().rfind(|line| line.starts_with("Done ")).unwrap_or("done").to_owned());
    }
    let tail: Vec<_> = said.lines().rev().take(40).collect();
    bail!("{}\n{}", output.status, tail.into_iter().rev().collect::<Vec<_>>().join("\n"))
}

/// The names of the binaries of `fuzz/`.
fn targets(fuzz: &Path) -> anyhow::Result<Vec<String>> {
    let args = ["metadata", "--no-deps", "--format-version=1"];
    let metadata: serde_json::Value = serde_json::from_str(&shell::capture(shell::cargo(&args).current_dir(fuzz))?)?;
    let targets = metadata.pointer("/packages/0/targets").and_then(serde_json::Value::as_array);
    let names = targets.into_iter().flatten().filter_map(|target| target.get("name")?.as_str()).map(str::to_owned);
    Ok(names.collect())
}

/// The triple that rustc builds for.
fn host() -> anyhow::Result<String> {
    let version = shell::capture(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc -vV names no host")
}

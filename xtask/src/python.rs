//! The Python packages that the tests with real peers need, in an environment of their own below the target folder.

use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use crate::shell;

/// A WebRTC implementation that shares nothing with browsers.
const PACKAGES: &[&str] = &["aiortc==1.16.0"];

/// Makes the environment and installs what is missing there.
///
/// # Errors
/// In CI, when it can't be had.
pub(crate) fn provide() -> anyhow::Result<()> {
    let Err(error) = install() else { return Ok(()) };
    println!("   missing; the tests that need them are skipped by name: {} ({error:#})", PACKAGES.join(" "));
    if shell::is_ci() {
        bail!("missing in CI: {}", PACKAGES.join(" "));
    }
    Ok(())
}

fn install() -> anyhow::Result<()> {
    // Tests look for it there: see `tests/tests/it/whep_peers.rs`.
    let environment = shell::root().join("target/peers");
    let python = environment.join("bin/python");
    let mut present = Command::new(&python);
    present.args(["-c", "import aiortc"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if present.status().is_ok_and(|status| status.success()) {
        return Ok(());
    }
    shell::run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment)).context("python3 -m venv")?;
    shell::run(
        Command::new(&python).args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(PACKAGES),
    )
    .context("pip install")
}

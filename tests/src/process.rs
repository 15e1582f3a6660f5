//! Programs that a test starts: they end with it, whatever happens.

use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

/// A child process, killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
}

impl Process {
    /// Starts `command`.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start(command: &mut Command) -> anyhow::Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let child = command.spawn().with_context(|| format!("start {name}"))?;
        Ok(Self { child, name })
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it writes, if its standard output is a pipe that nobody took yet.
    pub fn stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When it has ended.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.child.id())?).context("no process id")?;
        kill_process(pid, signal).with_context(|| format!("signal {}", self.name))
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// When the system can't say.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Sends a signal and waits for the end.
    ///
    /// # Errors
    /// When it had ended before, or has not after `deadline`; then it is killed.
    pub fn stop(mut self, signal: Signal, deadline: Duration) -> anyhow::Result<ExitStatus> {
        self.signal(signal)?;
        let asked = Instant::now();
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if asked.elapsed() > deadline {
                bail!("{} did not end within {deadline:?} of {signal:?}", self.name);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing left to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program of this workspace, built as this one was: freshly, so that no test runs an old one.
///
/// # Errors
/// When it doesn't build.
pub fn built(name: &str) -> anyhow::Result<PathBuf> {
    let me = std::env::current_exe()?;
    // target/debug/deps/it-0123 and target/release/soak
    let folder = me.ancestors().find(|path| path.ends_with("debug") || path.ends_with("release"));
    let folder = folder.context("this program lies in no target folder")?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // All targets at once: chosen singly they would be built with other features, and everything below them again.
    cargo.args(["build", "--quiet", "--workspace", "--all-targets"]).current_dir(crate::root());
    if folder.ends_with("release") || std::env::var_os("RELAY_BUILT").is_some() {
        // The soak program comes with the others: `cargo xtask soak` has built them all. And whoever sets RELAY_BUILT
        // says that they are.
        return Ok(folder.join(name));
    }
    static BUILD: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    if !BUILD.get_or_init(|| cargo.status().is_ok_and(|status| status.success())) {
        bail!("the workspace doesn't build");
    }
    Ok(folder.join(name))
}

/// Asks again and again until there is an answer.
///
/// # Errors
/// When there is none by the deadline; `what` says what was waited for.
pub fn wait_for<T>(what: &str, deadline: Duration, mut ask: impl FnMut() -> Option<T>) -> anyhow::Result<T> {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return Ok(answer);
        }
        if started.elapsed() > deadline {
            bail!("not within {deadline:?}: {what}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

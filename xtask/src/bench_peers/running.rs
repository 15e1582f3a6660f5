//! The processes of one program under measurement: started, watched, stopped.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

/// How long a program may take to finish its files when asked to stop, before it is killed.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// The processes of one program; killed when dropped.
pub(super) struct Running {
    name: String,
    children: Vec<Child>,
    log: PathBuf,
}

impl Running {
    /// Starts the processes of the program `name`, which record into `dir`.
    ///
    /// # Errors
    /// When a process can't be started.
    pub(super) fn start(name: &str, commands: Vec<Command>, dir: &Path) -> anyhow::Result<Self> {
        let log = log_dir(dir).join(format!("{name}.log"));
        let said = std::fs::File::create(&log).with_context(|| format!("create {}", log.display()))?;
        let mut running = Self { name: name.to_owned(), children: Vec::new(), log };
        for mut command in commands {
            command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said.try_clone()?);
            running.children.push(command.spawn().with_context(|| format!("start {name}"))?);
        }
        Ok(running)
    }

    /// The processes whose cost counts: exactly those that were started.
    pub(super) fn pids(&self) -> impl Iterator<Item = u32> + '_ {
        self.children.iter().map(Child::id)
    }

    /// # Errors
    /// When a process has ended.
    pub(super) fn check_alive(&mut self) -> anyhow::Result<()> {
        for child in &mut self.children {
            if let Some(status) = child.try_wait()? {
                bail!("{} ended with {status}: {}", self.name, last_line(&self.log));
            }
        }
        Ok(())
    }

    /// The last line that the program logged.
    pub(super) fn last_words(&self) -> String {
        last_line(&self.log)
    }

    /// Asks all to finish their files, and waits.
    ///
    /// # Errors
    /// When one had ended before it was asked, or doesn't end in time.
    pub(super) fn stop(mut self) -> anyhow::Result<()> {
        self.check_alive()?;
        for pid in self.pids().filter_map(|pid| Pid::from_raw(i32::try_from(pid).ok()?)) {
            kill_process(pid, Signal::INT)?;
        }
        let asked = Instant::now();
        for child in &mut self.children {
            while child.try_wait()?.is_none() {
                if asked.elapsed() > STOP_WITHIN {
                    bail!("{} did not stop within {STOP_WITHIN:?}: {}", self.name, last_line(&self.log));
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for child in &mut self.children {
            // It may have ended already; then there is nothing left to do.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn last_line(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing").to_owned()
}

/// Logs and configurations lie beside the recordings, not among them.
pub(super) fn log_dir(dir: &Path) -> PathBuf {
    dir.parent().unwrap_or(dir).to_path_buf()
}

//! The cameras of a round: one `relay-sim camera` process that costs little.

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context, bail};

use crate::shell;

/// Running cameras; they end when this is dropped.
pub(super) struct Cameras {
    child: Child,
    /// Kept open: who writes to a closed pipe ends.
    said: Option<Lines<BufReader<ChildStdout>>>,
    urls: Vec<String>,
}

impl Cameras {
    /// Starts `count` cameras of the clip that `clip` asks for, and waits until each has said `ready URL`.
    ///
    /// # Errors
    /// When the process can't be started or ends before all are ready.
    pub(super) fn start(count: usize, clip: &[&str]) -> anyhow::Result<Self> {
        let mut command = Command::new(shell::target_dir().join("release/relay-sim"));
        command.args(["camera", "--count", &count.to_string(), "--listen", "127.0.0.1:0"]).args(clip);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let child = command.spawn().context("start relay-sim")?;
        let mut cameras = Self { child, said: None, urls: Vec::new() };
        let said = BufReader::new(cameras.child.stdout.take().context("relay-sim has no stdout")?);
        let mut lines = said.lines();
        while let Some(line) = lines.next() {
            if let Some(url) = line?.strip_prefix("ready ") {
                cameras.urls.push(url.trim().to_owned());
            }
            if cameras.urls.len() == count {
                cameras.said = Some(lines);
                return Ok(cameras);
            }
        }
        bail!("relay-sim ended when {} of {count} cameras were ready", cameras.urls.len())
    }

    /// Where to watch them.
    pub(super) fn urls(&self) -> &[String] {
        &self.urls
    }

    /// The process that plays them all.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Cameras {
    fn drop(&mut self) {
        drop(self.said.take());
        // It may have ended already; then there is nothing left to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

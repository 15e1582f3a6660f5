//! The service of a round: one `relay-sim kvs` process, asked over its standard input.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, bail};
use serde_json::Value;

use crate::shell;

/// The running service; it ends when this is dropped.
pub(super) struct Service {
    child: Child,
    asked: ChildStdin,
    said: Lines<BufReader<ChildStdout>>,
    url: String,
    data_url: String,
    certificate: Option<PathBuf>,
}

/// What it got.
#[derive(Default)]
pub(super) struct Said {
    /// Frames by stream, those of plain uploads too.
    pub(super) frames: BTreeMap<String, u64>,
    pub(super) bytes: u64,
    /// From each fragment's first frame to its PERSISTED.
    pub(super) lags_ms: Vec<f64>,
    /// What must never be.
    pub(super) wrong: Vec<String>,
}

impl Said {
    /// What came after `before`.
    pub(super) fn since(mut self, before: &Self) -> Self {
        for (stream, frames) in &mut self.frames {
            *frames -= before.frames.get(stream).copied().unwrap_or(0);
        }
        self.bytes -= before.bytes;
        self
    }
}

impl Service {
    /// Starts it with streams `cam000` and so on; over TLS with a certificate in a folder, if there is one.
    ///
    /// # Errors
    /// When it can't be started or doesn't say that it is ready.
    pub(super) fn start(streams: usize, tls: Option<&Path>) -> anyhow::Result<Self> {
        let certificate = tls.map(|dir| dir.join("service.pem"));
        let mut command = Command::new(shell::target_dir().join("release/relay-sim"));
        command.args(["kvs", "--quiet", "--listen", "127.0.0.1:0"]);
        command.args((0..streams).flat_map(|index| ["--stream".to_owned(), name(index)]));
        if let Some(certificate) = &certificate {
            command.arg("--tls").arg(certificate);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("start relay-sim")?;
        let asked = child.stdin.take().context("relay-sim has no stdin")?;
        let mut said = BufReader::new(child.stdout.take().context("relay-sim has no stdout")?).lines();
        let ready = said.next().context("relay-sim ended")??;
        let mut words = ready.strip_prefix("ready ").unwrap_or_default().split(' ').map(str::to_owned);
        let (Some(url), Some(data_url)) = (words.next(), words.next()) else { bail!("relay-sim said {ready:?}") };
        Ok(Self { child, asked, said, url, data_url, certificate })
    }

    /// The control plane.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Where media goes.
    pub(super) fn data_url(&self) -> &str {
        &self.data_url
    }

    /// What a client must trust.
    pub(super) fn certificate(&self) -> Option<&Path> {
        self.certificate.as_deref()
    }

    /// What is received from now on is reported.
    ///
    /// # Errors
    /// When it has ended.
    pub(super) fn window(&mut self) -> anyhow::Result<()> {
        self.ask("window").map(drop)
    }

    /// What was received.
    ///
    /// # Errors
    /// When it has ended.
    pub(super) fn report(&mut self) -> anyhow::Result<Said> {
        let mut said = Said::default();
        for line in self.ask("report")? {
            let Ok(line) = serde_json::from_str::<Value>(&line) else { bail!("relay-sim said {line:?}") };
            let name = line.get("stream").or(line.get("upload")).and_then(Value::as_str).unwrap_or_default().to_owned();
            let number = |key: &str| line.get(key).and_then(Value::as_u64).unwrap_or(0);
            let list = |key: &str| line.get(key).and_then(Value::as_array).into_iter().flatten();
            *said.frames.entry(name).or_default() += number("frames");
            said.bytes += number("bytes");
            said.lags_ms.extend(list("lags_ms").filter_map(Value::as_f64));
            said.wrong.extend(list("wrong").filter_map(Value::as_str).map(str::to_owned));
        }
        Ok(said)
    }

    fn ask(&mut self, line: &str) -> anyhow::Result<Vec<String>> {
        writeln!(self.asked, "{line}")?;
        let mut lines = Vec::new();
        for said in self.said.by_ref() {
            match said? {
                said if said == "done" => return Ok(lines),
                said => lines.push(said),
            }
        }
        bail!("relay-sim ended")
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing left to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A stream's name.
pub(super) fn name(index: usize) -> String {
    format!("cam{index:03}")
}

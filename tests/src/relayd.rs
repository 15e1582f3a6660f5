//! A running relayd: started on a configuration, asked over HTTP, stopped or killed.

use std::fmt::Write as _;
use std::fs::File;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::Signal;
use serde_json::Value;

use crate::http;
use crate::process::{Process, built, wait_for};

/// One stream of a configuration: where it comes from and how it is recorded.
#[derive(Clone, Debug)]
pub struct Stream {
    /// Its name.
    pub name: String,
    /// Its source.
    pub url: String,
    /// Lines that go into `[streams.NAME.source]`, beside the URL.
    pub source: &'static str,
    /// Lines that go into its recorder, beside the folder.
    pub record: &'static str,
}

/// The daemon; killed when dropped.
#[derive(Debug)]
pub struct Relayd {
    process: Process,
    address: SocketAddr,
    log: PathBuf,
}

/// Binding its port and repairing a handful of files takes less, also in a debug build on a busy machine.
const START: Duration = Duration::from_secs(20);
/// What the daemon promises.
const STOP: Duration = Duration::from_secs(5);

impl Relayd {
    /// Starts it on `streams`, recording below `dir/recordings`, and waits until it is ready. Its configuration and
    /// its log are in `dir` too.
    ///
    /// # Errors
    /// When it doesn't start; the message has the end of its log.
    pub fn start(dir: &Path, streams: &[Stream]) -> anyhow::Result<Self> {
        Self::start_with(dir, &toml(dir, streams)?)
    }

    /// Starts it on a configuration, which is kept with its log in `dir`, and waits until it is ready.
    ///
    /// # Errors
    /// When it doesn't start; the message has the end of its log.
    pub fn start_with(dir: &Path, toml: &str) -> anyhow::Result<Self> {
        Self::start_in(dir, toml, &[])
    }

    /// As [`start_with`](Self::start_with), with these variables in its environment.
    ///
    /// # Errors
    /// When it doesn't start; the message has the end of its log.
    pub fn start_in(dir: &Path, toml: &str, environment: &[(&str, String)]) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let config = dir.join("relayd.toml");
        std::fs::write(&config, toml)?;
        let log = dir.join("relayd.log");
        let mut command = Command::new(built("relayd")?);
        command.arg("run").arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log)?);
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        let mut process = Process::start(&mut command)?;
        let address = wait_for("relayd says its address", START, || match process.ended() {
            Ok(None) => said_address(&log).map(Ok),
            _ => Some(Err(anyhow::anyhow!("relayd ended: {}", tail(&log)))),
        })??;
        let relayd = Self { process, address, log };
        wait_for("relayd is ready", START, || relayd.get("/readyz").ok())?;
        Ok(relayd)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The end of its log.
    #[must_use]
    pub fn last_words(&self) -> String {
        tail(&self.log)
    }

    /// The body of `path`.
    ///
    /// # Errors
    /// When it can't be reached or answers with anything but 200.
    pub fn get(&self, path: &str) -> anyhow::Result<String> {
        let answer = http::request(self.address, "GET", path, None)?;
        if answer.status != 200 {
            bail!("GET {path}: {}: {}", answer.status, answer.text());
        }
        Ok(answer.text())
    }

    /// `/api/v1/streams`.
    ///
    /// # Errors
    /// As [`get`](Self::get), and when the answer is no JSON array.
    pub fn streams(&self) -> anyhow::Result<Vec<Value>> {
        Ok(serde_json::from_str(&self.get("/api/v1/streams")?)?)
    }

    /// Waits until every stream is live.
    ///
    /// # Errors
    /// When one is not by the deadline; the message has what the API says about it.
    pub fn await_all_live(&self, deadline: Duration) -> anyhow::Result<()> {
        let is_live = |stream: &Value| stream["state"] == "live";
        let all = || self.streams().is_ok_and(|streams| streams.iter().all(is_live)).then_some(());
        wait_for("every stream is live", deadline, all).with_context(|| {
            let streams = self.streams().unwrap_or_default();
            streams.iter().find(|stream| !is_live(stream)).map(Value::to_string).unwrap_or_default()
        })
    }

    /// One sample of `/metrics`, labels included in its name as they are written there.
    ///
    /// # Errors
    /// When it isn't there.
    pub fn metric(&self, name: &str) -> anyhow::Result<f64> {
        let text = self.get("/metrics")?;
        let sample = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(sample.with_context(|| format!("/metrics has no {name}"))?.trim().parse()?)
    }

    /// The sum of a metric over all its labels.
    ///
    /// # Errors
    /// When `/metrics` can't be read.
    pub fn metric_sum(&self, name: &str) -> anyhow::Result<f64> {
        let text = self.get("/metrics")?;
        let values = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{')?.rsplit_once(' '));
        Ok(values.filter_map(|(_, value)| value.parse::<f64>().ok()).sum())
    }

    /// SIGTERM: every segment is finished within 5 s, and the exit code is 0.
    ///
    /// # Errors
    /// When not.
    pub fn stop(self) -> anyhow::Result<()> {
        let log = self.log;
        let status = self.process.stop(Signal::TERM, STOP).with_context(|| tail(&log))?;
        if !status.success() {
            bail!("relayd ended with {status}: {}", tail(&log));
        }
        Ok(())
    }

    /// SIGKILL, in the middle of whatever it does.
    ///
    /// # Errors
    /// When it had ended before.
    pub fn kill(self) -> anyhow::Result<()> {
        self.process.stop(Signal::KILL, STOP).map(drop)
    }
}

/// Where one stream's segments lie, oldest first.
///
/// # Errors
/// When the folder can't be read; one that isn't there has none.
pub fn segments(dir: &Path, stream: &str) -> anyhow::Result<Vec<PathBuf>> {
    let folder = dir.join("recordings").join(stream);
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        paths.push(entry?.path());
    }
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "mp4"));
    paths.sort();
    Ok(paths)
}

/// A port that is free for UDP and TCP, and stays so for as long as nobody else takes it.
///
/// # Errors
/// When none is found.
pub fn free_port() -> anyhow::Result<u16> {
    let both = || {
        let tcp = TcpListener::bind("127.0.0.1:0").ok()?;
        let port = tcp.local_addr().ok()?.port();
        UdpSocket::bind(("127.0.0.1", port)).is_ok().then_some(port)
    };
    wait_for("a free port", START, both)
}

fn toml(dir: &Path, streams: &[Stream]) -> anyhow::Result<String> {
    let mut text = String::from("[http]\nlisten = \"127.0.0.1:0\"\n[webrtc]\nlisten = \"127.0.0.1:0\"\n");
    for Stream { name, url, source, record } in streams {
        let folder = dir.join("recordings");
        writeln!(text, "\n[streams.{name}.source]\nurl = {url:?}\n{source}")?;
        writeln!(text, "[streams.{name}.sinks.archive]\ntype = \"record\"\ndir = {folder:?}\n{record}")?;
    }
    Ok(text)
}

/// The address in the log's line about the page, which is JSON.
fn said_address(log: &Path) -> Option<SocketAddr> {
    let text = std::fs::read_to_string(log).ok()?;
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let page = lines.filter_map(|line| Some(line.get("page")?.as_str()?.to_owned())).next()?;
    page.strip_prefix("http://")?.parse().ok()
}

fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().rev().take(12).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}

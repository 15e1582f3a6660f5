//! The programs that are compared: how each is started on N cameras.

use std::fmt;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use anyhow::Context;

use super::service::{Service, name};
use crate::shell;

/// One program of the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Peer {
    /// Ours, without TLS: one process for all cameras.
    Relayd,
    /// Ours, as it goes to AWS.
    RelaydTls,
    /// `ffmpeg -c copy -f matroska` to a plain HTTP upload, a process a camera: the floor.
    Ffmpeg,
    /// The same over TLS.
    FfmpegTls,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Relayd => "relayd",
            Self::RelaydTls => "relayd-tls",
            Self::Ffmpeg => "ffmpeg",
            Self::FfmpegTls => "ffmpeg-tls",
        })
    }
}

impl Peer {
    /// Whether its program is here.
    pub(super) fn is_installed(self) -> bool {
        self.is_relayd() || shell::has("ffmpeg")
    }

    /// It is ours.
    pub(super) fn is_relayd(self) -> bool {
        matches!(self, Self::Relayd | Self::RelaydTls)
    }

    /// It goes over TLS.
    pub(super) fn has_tls(self) -> bool {
        matches!(self, Self::RelaydTls | Self::FfmpegTls)
    }

    /// The floor that it is held against.
    pub(super) fn floor(self) -> Self {
        if self.has_tls() { Self::FfmpegTls } else { Self::Ffmpeg }
    }

    /// Its processes on all cameras.
    ///
    /// # Errors
    /// When the configuration can't be written.
    pub(super) fn commands(self, urls: &[String], service: &Service, dir: &Path) -> anyhow::Result<Vec<Command>> {
        if self.is_relayd() {
            return Ok(vec![relayd(urls, service, dir)?]);
        }
        Ok(urls.iter().enumerate().map(|(index, url)| ffmpeg(url, service, index)).collect())
    }
}

fn relayd(urls: &[String], service: &Service, dir: &Path) -> anyhow::Result<Command> {
    // A free port: found by binding, and free again by the time relayd binds it.
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut config = format!("[http]\nlisten = \"127.0.0.1:{port}\"\n[webrtc]\nlisten = \"127.0.0.1:0\"\n");
    for (index, url) in urls.iter().enumerate() {
        let (stream, endpoint) = (name(index), service.url());
        config += &format!("\n[streams.{stream}]\nsource = {url:?}\n[streams.{stream}.sinks.cloud]\ntype = \"kvs\"\n");
        config += &format!("stream_name = {stream:?}\nregion = \"eu-west-1\"\nendpoint = {endpoint:?}\n");
    }
    let path = dir.join("relayd.toml");
    std::fs::write(&path, config).with_context(|| format!("write {}", path.display()))?;
    let mut command = Command::new(shell::target_dir().join("release/relayd"));
    command.arg("run").arg(path);
    command.env("AWS_ACCESS_KEY_ID", "AKIDSIMULATED").env("AWS_SECRET_ACCESS_KEY", "simulated-secret");
    command.env("AWS_EC2_METADATA_DISABLED", "true").env("NO_PROXY", "127.0.0.1,localhost");
    if let Some(certificate) = service.certificate() {
        command.env("SSL_CERT_FILE", certificate);
    }
    Ok(command)
}

fn ffmpeg(url: &str, service: &Service, index: usize) -> Command {
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-loglevel", "error", "-rtsp_transport", "tcp", "-i", url, "-c", "copy"]);
    // A cluster is a fragment of 2 s; without that ffmpeg makes them of 5 MB.
    command.args(["-cluster_time_limit", "2000", "-f", "matroska", "-method", "POST"]);
    command.arg(format!("{}/upload/{}", service.data_url(), name(index)));
    command
}

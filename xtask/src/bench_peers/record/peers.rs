//! The programs that are compared: how each is started on N cameras, and stopped.

use std::fmt;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use anyhow::Context;

use super::super::running::log_dir;
use crate::shell;

/// One program of the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Peer {
    /// Ours: one process for all cameras.
    Relayd,
    /// `ffmpeg -c copy`, a process a camera.
    Ffmpeg,
    /// `gst-launch-1.0`, a process a camera.
    Gstreamer,
    /// Reads the same TCP bytes and writes them to files, nothing else: the least that it can cost.
    Floor,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Relayd => "relayd",
            Self::Ffmpeg => "ffmpeg",
            Self::Gstreamer => "gstreamer",
            Self::Floor => "floor",
        })
    }
}

impl Peer {
    /// Whether its program is here.
    pub(super) fn is_installed(self) -> bool {
        match self {
            Self::Relayd | Self::Floor => true,
            Self::Ffmpeg => shell::has("ffmpeg"),
            Self::Gstreamer => shell::has("gst-launch-1.0"),
        }
    }

    /// Its processes on all cameras, recording into `dir`.
    ///
    /// # Errors
    /// When a configuration can't be written.
    pub(super) fn commands(self, urls: &[String], dir: &Path) -> anyhow::Result<Vec<Command>> {
        let file = |index: usize| dir.join(format!("cam{index:03}.mp4"));
        let each = urls.iter().enumerate();
        Ok(match self {
            Self::Relayd => vec![relayd(urls, dir)?],
            Self::Ffmpeg => each.map(|(index, url)| ffmpeg(url, &file(index))).collect(),
            Self::Gstreamer => each.map(|(index, url)| gstreamer(url, &file(index))).collect(),
            Self::Floor => {
                let mut command = Command::new(shell::target_dir().join("release/relay-sim"));
                command.arg("floor").args(urls).arg("--out").arg(dir);
                vec![command]
            }
        })
    }
}

fn relayd(urls: &[String], dir: &Path) -> anyhow::Result<Command> {
    // A free port: found by binding, and free again by the time relayd binds it.
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut config = format!("[http]\nlisten = \"127.0.0.1:{port}\"\n");
    for (index, url) in urls.iter().enumerate() {
        config += &format!("\n[streams.cam{index:03}]\nsource = {url:?}\nrecord = {dir:?}\n");
    }
    let path = log_dir(dir).join("relayd.toml");
    std::fs::write(&path, config).with_context(|| format!("write {}", path.display()))?;
    let mut command = Command::new(shell::target_dir().join("release/relayd"));
    command.arg("run").arg(path);
    Ok(command)
}

fn ffmpeg(url: &str, file: &Path) -> Command {
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-loglevel", "error", "-rtsp_transport", "tcp", "-i", url, "-c", "copy"]);
    command.args(["-movflags", "frag_keyframe+empty_moov+default_base_moof", "-y"]).arg(file);
    command
}

fn gstreamer(url: &str, file: &Path) -> Command {
    let mut command = Command::new("gst-launch-1.0");
    command.args(["-q", "-e", "rtspsrc", &format!("location={url}"), "protocols=tcp"]);
    command.args(["!", "rtph264depay", "!", "h264parse", "!", "mp4mux", "fragment-duration=1000", "!", "filesink"]);
    command.arg(format!("location={}", file.display()));
    command
}

//! The programs that are compared: how each is started on N live streams.

use std::fmt;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use anyhow::Context;

use super::super::running::log_dir;
use super::origin::{Packing, Stream};
use crate::shell;

/// One program of the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Peer {
    /// Ours: one process for all streams.
    Relayd,
    /// `ffmpeg -c copy`, a process a stream.
    Ffmpeg,
    /// `gst-launch-1.0`, a process a stream.
    Gstreamer,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Relayd => "relayd",
            Self::Ffmpeg => "ffmpeg",
            Self::Gstreamer => "gstreamer",
        })
    }
}

impl Peer {
    /// Whether its program is here.
    pub(super) fn is_installed(self) -> bool {
        match self {
            Self::Relayd => true,
            Self::Ffmpeg => shell::has("ffmpeg"),
            Self::Gstreamer => shell::has("gst-launch-1.0"),
        }
    }

    /// Its processes on all streams, recording into `dir`.
    ///
    /// # Errors
    /// When a configuration can't be written.
    pub(super) fn commands(self, streams: &[Stream], dir: &Path) -> anyhow::Result<Vec<Command>> {
        let file = |index: usize| dir.join(format!("live{index:03}.mp4"));
        let each = streams.iter().enumerate();
        Ok(match self {
            Self::Relayd => vec![relayd(streams, dir)?],
            Self::Ffmpeg => each.map(|(index, stream)| ffmpeg(stream, &file(index))).collect(),
            Self::Gstreamer => each.map(|(index, stream)| gstreamer(stream, &file(index))).collect(),
        })
    }
}

/// A fragment a group of pictures, as ffmpeg has them.
const FRAGMENT_MS: u32 = 2_000;

fn relayd(streams: &[Stream], dir: &Path) -> anyhow::Result<Command> {
    // A free port: found by binding, and free again by the time relayd binds it.
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut config = format!("[http]\nlisten = \"127.0.0.1:{port}\"\n[webrtc]\nlisten = \"127.0.0.1:0\"\n");
    for (index, Stream { url, .. }) in streams.iter().enumerate() {
        config += &format!("\n[streams.live{index:03}]\nsource = {url:?}\n");
        config += &format!("[streams.live{index:03}.sinks.archive]\ntype = \"record\"\ndir = {dir:?}\n");
        config += &format!("fragment = \"{FRAGMENT_MS}ms\"\n");
    }
    let path = log_dir(dir).join("relayd.toml");
    std::fs::write(&path, config).with_context(|| format!("write {}", path.display()))?;
    let mut command = Command::new(shell::target_dir().join("release/relayd"));
    command.arg("run").arg(path);
    Ok(command)
}

fn ffmpeg(stream: &Stream, file: &Path) -> Command {
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-loglevel", "error", "-i", &stream.url, "-c", "copy"]);
    command.args(["-movflags", "frag_keyframe+empty_moov+default_base_moof", "-y"]).arg(file);
    command
}

fn gstreamer(stream: &Stream, file: &Path) -> Command {
    let demuxer = match stream.packing {
        Packing::Ts => "tsdemux",
        Packing::Fmp4 => "qtdemux",
    };
    let mut command = Command::new("gst-launch-1.0");
    // Without `-e`: hlsdemux lets no end of stream pass while the playlist is live. The file is whole to its last fragment.
    command.args(["-q", "souphttpsrc", &format!("location={}", stream.url), "!", "hlsdemux", "!", demuxer]);
    command.args(["!", "h264parse", "!", "mp4mux", &format!("fragment-duration={FRAGMENT_MS}"), "!", "filesink"]);
    command.arg(format!("location={}", file.display()));
    command
}

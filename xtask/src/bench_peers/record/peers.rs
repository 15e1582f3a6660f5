//! The programs that are compared: how each is started on N cameras, and stopped.

use std::fmt;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::shell;

/// How long a program may take to finish its files when asked to stop, before it is killed.
const STOP_WITHIN: Duration = Duration::from_secs(10);

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

    fn commands(self, urls: &[String], dir: &Path) -> anyhow::Result<Vec<Command>> {
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

/// Logs and configurations lie beside the recordings, not among them.
fn log_dir(dir: &Path) -> PathBuf {
    dir.parent().unwrap_or(dir).to_path_buf()
}

/// The processes of one program; killed when dropped.
pub(super) struct Running {
    peer: Peer,
    children: Vec<Child>,
    log: PathBuf,
}

impl Running {
    /// Starts the program on all cameras, recording into `dir`.
    ///
    /// # Errors
    /// When a process can't be started.
    pub(super) fn start(peer: Peer, urls: &[String], dir: &Path) -> anyhow::Result<Self> {
        let log = log_dir(dir).join(format!("{peer}.log"));
        let said = std::fs::File::create(&log).with_context(|| format!("create {}", log.display()))?;
        let mut running = Self { peer, children: Vec::new(), log };
        for mut command in peer.commands(urls, dir)? {
            command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said.try_clone()?);
            running.children.push(command.spawn().with_context(|| format!("start {peer}"))?);
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
                bail!("{} ended with {status}: {}", self.peer, last_line(&self.log));
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
                    bail!("{} did not stop within {STOP_WITHIN:?}: {}", self.peer, last_line(&self.log));
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

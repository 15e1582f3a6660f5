//! The servers that are compared: how each is started on a camera, and how its viewers find it.

use std::fmt;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::shell;

/// One program of the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Peer {
    /// Ours.
    Relayd,
    /// Janus's streaming plugin, which takes the camera by RTSP too (RTP over UDP) and passes its packets on.
    Janus,
    /// Encrypts and sends the same packets to as many sockets, nothing else: the least that it can cost.
    Floor,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Relayd => "relayd",
            Self::Janus => "janus",
            Self::Floor => "floor",
        })
    }
}

impl Peer {
    /// Whether its program is here.
    pub(super) fn is_installed(self) -> bool {
        self != Self::Janus || shell::has("janus")
    }
}

/// A running server; killed when dropped.
pub(super) struct Server {
    peer: Peer,
    child: Child,
    http: SocketAddr,
    log: PathBuf,
}

/// How long a server may take to get the camera's first frames.
const LIVE_WITHIN: Duration = Duration::from_secs(20);
/// Where Debian's package puts plugins: below the folder of the machine's libraries.
const LIBRARIES: &str = "/usr/lib";
/// The number of the one mountpoint.
const MOUNTPOINT: &str = "1";

impl Server {
    /// Starts it on the camera at `url`, bound to a core if one is given.
    ///
    /// # Errors
    /// When it can't be started.
    pub(super) fn start(peer: Peer, url: &str, core: Option<u32>) -> anyhow::Result<Self> {
        let dir = shell::target_dir().join("bench-peers").join(format!("webrtc-{peer}"));
        if dir.exists() {
            std::fs::remove_dir_all(&dir)?;
        }
        std::fs::create_dir_all(&dir)?;
        let http = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let mut command = match peer {
            Peer::Relayd => relayd(&dir, http, url)?,
            Peer::Janus => janus(&dir, http, url)?,
            Peer::Floor => bail!("the floor is no server"),
        };
        if let Some(core) = core {
            // From the start, so that it sees one core and starts as many threads as that wants.
            let mut bound = Command::new("taskset");
            bound.args(["--cpu-list", &core.to_string()]).arg(command.get_program()).args(command.get_args());
            command = bound;
        }
        let log = dir.join("log");
        let said = std::fs::File::create(&log).with_context(|| format!("create {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said);
        let child = command.spawn().with_context(|| format!("start {peer}"))?;
        Ok(Self { peer, child, http, log })
    }

    /// The process whose cost counts.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it has the camera.
    ///
    /// # Errors
    /// When it hasn't in time.
    pub(super) fn await_live(&self) -> anyhow::Result<()> {
        let started = Instant::now();
        while started.elapsed() < LIVE_WITHIN {
            let is_live = match self.peer {
                Peer::Relayd => get(self.http, "/api/v1/streams").is_ok_and(|text| text.contains("\"state\":\"live\"")),
                _ => std::fs::read_to_string(&self.log).is_ok_and(|text| text.contains("New video stream")),
            };
            if is_live {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        bail!("{} didn't get the camera: {}", self.peer, text.lines().last().unwrap_or("it said nothing"))
    }

    /// What `relay-sim whep` is told.
    pub(super) fn crowd(&self) -> Vec<String> {
        let http = self.http;
        match self.peer {
            Peer::Janus => vec![format!("http://{http}/janus"), "--janus".into(), MOUNTPOINT.into()],
            _ => vec![format!("http://{http}/whep/cam")],
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing left to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn relayd(dir: &Path, http: SocketAddr, url: &str) -> anyhow::Result<Command> {
    let config = format!(
        "[http]\nlisten = \"{http}\"\n\n[webrtc]\nlisten = \"127.0.0.1:0\"\nmax_viewers = 10000\n\
         max_viewers_per_stream = 10000\n\n[streams.cam]\nsource = {url:?}\n"
    );
    let path = dir.join("relayd.toml");
    std::fs::write(&path, config).with_context(|| format!("write {}", path.display()))?;
    let mut command = Command::new(shell::target_dir().join("release/relayd"));
    command.arg("run").arg(path);
    Ok(command)
}

/// ICE-lite as ours is, no plugin but streaming, the latest key frame kept for those who join, log level as shipped.
fn janus(dir: &Path, http: SocketAddr, url: &str) -> anyhow::Result<Command> {
    let installed = find_plugins(Path::new(LIBRARIES)).context("Janus is here, but its plugins are not")?;
    let others = |folder: &str, but: &str| -> anyhow::Result<String> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(installed.join(folder))? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name.ends_with(".so") && name != but {
                names.push(name);
            }
        }
        Ok(names.join(","))
    };
    let files = [
        (
            "janus.jcfg",
            format!(
                "general: {{\n configs_folder = {dir:?}\n plugins_folder = {:?}\n transports_folder = {:?}\n \
                 session_timeout = 0\n}}\nnat: {{\n ice_lite = true\n}}\nplugins: {{\n disable = {:?}\n}}\n\
                 transports: {{\n disable = {:?}\n}}\nevents: {{\n broadcast = false\n}}\n",
                installed.join("plugins"),
                installed.join("transports"),
                others("plugins", "libjanus_streaming.so")?,
                others("transports", "libjanus_http.so")?,
            ),
        ),
        (
            "janus.transport.http.jcfg",
            format!(
                "general: {{\n json = \"compact\"\n base_path = \"/janus\"\n http = true\n ip = \"{}\"\n port = {}\n \
                 https = false\n}}\nadmin: {{\n admin_http = false\n}}\n",
                http.ip(),
                http.port()
            ),
        ),
        (
            "janus.plugin.streaming.jcfg",
            format!(
                "camera: {{\n type = \"rtsp\"\n id = {MOUNTPOINT}\n audio = false\n video = true\n \
                 videobufferkf = true\n url = {url:?}\n}}\n"
            ),
        ),
    ];
    for (name, text) in files {
        std::fs::write(dir.join(name), text).with_context(|| format!("write {name}"))?;
    }
    let mut command = Command::new("janus");
    command.arg("-F").arg(dir);
    Ok(command)
}

fn find_plugins(libraries: &Path) -> Option<PathBuf> {
    let folders = std::fs::read_dir(libraries).ok()?.filter_map(Result::ok);
    let mut candidates = folders.map(|entry| entry.path().join("janus")).chain([libraries.join("janus")]);
    candidates.find(|path| path.join("plugins/libjanus_streaming.so").exists())
}

/// A free port: found by binding, and free again by the time it is bound.
fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn get(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(LIVE_WITHIN))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

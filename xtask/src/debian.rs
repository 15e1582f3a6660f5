//! The Debian packages that the tests with real peers need: installed when we may, named when we may not.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::bail;

use crate::shell;

/// One need of the tests: how its presence is seen, and the packages that bring it.
struct Need {
    seen: Seen,
    packages: &'static [&'static str],
}

enum Seen {
    /// A program on the path.
    Program(&'static str),
    /// A GStreamer element, asked of gst-inspect-1.0; not with `--exists`, which wants plugins as new as GStreamer.
    Element(&'static str),
    /// A GObject module that the system's Python can import.
    Introspection(&'static str),
    /// Any font: without one a browser draws empty boxes.
    Font,
}

const NEEDS: &[Need] = &[
    Need { seen: Seen::Program("ffmpeg"), packages: &["ffmpeg"] },
    Need { seen: Seen::Program("gst-launch-1.0"), packages: &["gstreamer1.0-tools"] },
    Need { seen: Seen::Element("videotestsrc"), packages: &["gstreamer1.0-plugins-base"] },
    Need { seen: Seen::Element("rtspsrc"), packages: &["gstreamer1.0-plugins-good"] },
    Need { seen: Seen::Element("h264parse"), packages: &["gstreamer1.0-plugins-bad"] },
    Need { seen: Seen::Element("x264enc"), packages: &["gstreamer1.0-plugins-ugly"] },
    Need { seen: Seen::Element("avdec_h264"), packages: &["gstreamer1.0-libav"] },
    Need {
        seen: Seen::Introspection("GstRtspServer"),
        packages: &["gstreamer1.0-rtsp", "gir1.2-gst-rtsp-server-1.0", "python3-gi"],
    },
    Need { seen: Seen::Program("mkvmerge"), packages: &["mkvtoolnix"] },
    Need { seen: Seen::Program("nasm"), packages: &["nasm"] },
    Need { seen: Seen::Program("chromium"), packages: &["chromium"] },
    Need { seen: Seen::Program("chromedriver"), packages: &["chromium-driver"] },
    Need { seen: Seen::Font, packages: &["fonts-dejavu-core"] },
    Need { seen: Seen::Program("ip"), packages: &["iproute2"] },
    Need { seen: Seen::Program("janus"), packages: &["janus"] },
    Need { seen: Seen::Program("turnserver"), packages: &["coturn"] },
    Need { seen: Seen::Program("nginx"), packages: &["nginx"] },
    Need { seen: Seen::Program("openssl"), packages: &["openssl"] },
    Need { seen: Seen::Element("nicesrc"), packages: &["gstreamer1.0-nice"] },
    Need { seen: Seen::Introspection("GstWebRTC"), packages: &["gir1.2-gst-plugins-bad-1.0"] },
    Need { seen: Seen::Program("python3"), packages: &["python3", "python3-venv"] },
];

impl Need {
    fn is_met(&self) -> bool {
        match self.seen {
            Seen::Program(name) => shell::has(name),
            Seen::Element(name) => succeeds(Command::new("gst-inspect-1.0").arg(name)),
            Seen::Introspection(module) => {
                let import = format!("import gi; gi.require_version('{module}', '1.0')");
                succeeds(Command::new("/usr/bin/python3").args(["-c", &import]))
            }
            Seen::Font => Path::new("/usr/share/fonts/truetype").is_dir(),
        }
    }
}

/// The packages that are missing, installed first where we are root and have apt.
///
/// # Errors
/// In CI, when any is still missing afterwards.
pub(crate) fn provide() -> anyhow::Result<()> {
    let mut missing = missing();
    if !missing.is_empty() && rustix::process::geteuid().is_root() && shell::has("apt-get") {
        println!("   installing {}", missing.join(" "));
        if let Err(error) = install(&missing) {
            println!("   {error:#}");
        }
        missing = self::missing();
    }
    if missing.is_empty() {
        return Ok(());
    }
    println!("   missing; the tests that need them are skipped by name. As root:");
    println!("   apt-get install --no-install-recommends {}", missing.join(" "));
    if shell::is_ci() {
        bail!("missing in CI: {}", missing.join(" "));
    }
    Ok(())
}

fn missing() -> Vec<&'static str> {
    NEEDS.iter().filter(|need| !need.is_met()).flat_map(|need| need.packages).copied().collect()
}

fn install(packages: &[&str]) -> anyhow::Result<()> {
    shell::run(apt().args(["update", "-qq"]))?;
    shell::run(apt().args(["install", "-y", "-qq", "--no-install-recommends"]).args(packages))
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    // A mirror that hangs must not hang the run: apt's own default is 120 s a try.
    command.args(["-o", "Acquire::Retries=3", "-o", "Acquire::http::Timeout=30"]);
    command.env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null()).stdout(Stdio::null());
    command
}

fn succeeds(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

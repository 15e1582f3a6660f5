//! What a service manager hears of the program, and whether it can read the unit file.

#![expect(clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::{
    fs,
    os::unix::net::UnixDatagram,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

/// A directory that goes with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("relayd-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A service manager with a running relayd.
struct Manager {
    socket: UnixDatagram,
    relayd: Child,
    heard: Vec<String>,
}

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = self.relayd.kill();
        let _ = self.relayd.wait();
    }
}

impl Manager {
    fn start(scratch: &Scratch) -> Self {
        let path = scratch.0.join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        socket.set_read_timeout(Some(Duration::from_secs(30))).expect("a limit");
        let config = scratch.0.join("relayd.toml");
        let text = "[http]\nlisten = \"127.0.0.1:0\"\n[streams.yard]\nwebrtc = false\n\
                    source = \"test://pattern?size=160x120&fps=5&gop=1s\"\n";
        fs::write(&config, text).expect("a file");
        let mut command = Command::new(env!("CARGO_BIN_EXE_relayd"));
        command.arg("run").arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "300000").env_remove("WATCHDOG_PID");
        let relayd = command.spawn().expect("relayd");
        Self { socket, relayd, heard: Vec::new() }
    }

    /// Listens until it is told `line`.
    fn hear(&mut self, line: &str) {
        let mut buffer = [0; 4_096];
        loop {
            if let Some(at) = self.heard.iter().position(|heard| heard == line) {
                self.heard.drain(..=at);
                return;
            }
            let length = self.socket.recv(&mut buffer).unwrap_or_else(|error| panic!("{line}: {error}"));
            self.heard.extend(String::from_utf8_lossy(&buffer[..length]).lines().map(str::to_owned));
        }
    }
}

#[test]
fn a_service_manager_hears_that_it_is_ready_alive_and_stopping() {
    let scratch = Scratch::new("systemd");
    let mut manager = Manager::start(&scratch);
    manager.hear("READY=1");
    manager.hear("STATUS=1 of 1 streams live");
    for _ in 0..3 {
        manager.hear("WATCHDOG=1");
    }
    let pid = rustix::process::Pid::from_child(&manager.relayd);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("a signal");
    manager.hear("STOPPING=1");
    let status = manager.relayd.wait().expect("an end");
    assert_eq!(status.code(), Some(0));
}

#[test]
fn the_unit_file_is_taken_by_systemd() {
    let scratch = Scratch::new("unit");
    let unit = include_str!("../../../packaging/systemd/relayd.service");
    for needed in ["Type=notify", "WatchdogSec=", "StateDirectory=relayd", "ProtectSystem=strict"] {
        assert!(unit.contains(needed), "{needed}");
    }
    let path = scratch.0.join("relayd.service");
    fs::write(&path, unit.replace("/usr/local/bin/relayd", "/bin/true")).expect("a file");
    let Ok(verified) = Command::new("systemd-analyze").arg("verify").arg(&path).output() else {
        return eprintln!("systemd-analyze is not here: the unit file was not looked at");
    };
    let said = String::from_utf8_lossy(&verified.stderr);
    // Units of the machine that it may not read are not ours.
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("relayd.service")).collect();
    assert!(ours.is_empty(), "{said}");
}

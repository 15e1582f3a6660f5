//! Peers that are not browsers watch a stream: aiortc, GStreamer's webrtcbin. And a browser behind networks that let
//! little through: only a TURN relay, only TCP.

use std::{
    net::{TcpListener, UdpSocket},
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, ensure};
use relay_tests::browser::Browser;
use relay_tests::process::{Process, wait_for};
use relay_tests::relayd::Relayd;
use relay_tests::soak::Scratch;
use relay_tests::{needs, root};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(20);

/// A small camera with sound; media on a port that the system chooses, told as a loopback address.
const CONFIG: &str = r#"
[http]
listen = "127.0.0.1:0"
[webrtc]
listen = "127.0.0.1:0"
[streams.yard]
source = "test://pattern?size=320x180&fps=25&bitrate=300k&gop=2s&audio=opus"
"#;

/// What a peer decoded in six seconds, of 150 pictures and 300 frames of sound: the join costs some of it, a machine
/// shared with other tests some more.
const PICTURES_MIN: i64 = 60;
const SOUNDS_MIN: i64 = 120;
const SECONDS: &str = "6";

#[test]
fn aiortc_watches() {
    let python = root().join("target/peers/bin/python");
    if needs(&[&python.to_string_lossy()]) {
        watch_with(&python, "aiortc_viewer.py").unwrap_or_else(|error| panic!("{error:#}"));
    }
}

#[test]
fn webrtcbin_watches() {
    // GObject introspection is the system's Python's alone.
    let python = PathBuf::from("/usr/bin/python3");
    if needs(&["gst-launch-1.0", "openssl", "/usr/bin/python3"]) {
        watch_with(&python, "webrtcbin_viewer.py").unwrap_or_else(|error| panic!("{error:#}"));
    }
}

fn watch_with(python: &std::path::Path, script: &str) -> anyhow::Result<()> {
    let scratch = Scratch::new(script.trim_end_matches(".py"))?;
    let relayd = Relayd::start_with(&scratch.path, CONFIG)?;
    relayd.await_all_live(SOON)?;
    let url = format!("http://{}/whep/yard", relayd.address());
    let mut command = Command::new(python);
    command.arg(root().join("tests/peers").join(script)).args([&url, SECONDS]).stdin(Stdio::null());
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = || format!("{script}: {said}{}\n{}", String::from_utf8_lossy(&output.stderr), relayd.last_words());
    ensure!(output.status.success(), complaint());
    let seen: Value = serde_json::from_str(said.trim()).with_context(complaint)?;
    let count = |kind: &str| seen.get(kind).and_then(Value::as_i64).unwrap_or_default();
    ensure!(count("video") >= PICTURES_MIN && count("audio") >= SOUNDS_MIN, complaint());
    relayd.stop()
}

/// Which way the browser may go.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// Through the TURN server, and no other.
    Relay,
    /// Over TCP: the UDP candidates are taken from the answer.
    Tcp,
}

#[test]
fn a_browser_watches_through_a_turn_relay() {
    if needs(&["chromium", "chromedriver", "turnserver"]) {
        watch_through(Way::Relay).unwrap_or_else(|error| panic!("{error:#}"));
    }
}

#[test]
fn a_browser_watches_over_tcp() {
    if needs(&["chromium", "chromedriver"]) {
        watch_through(Way::Tcp).unwrap_or_else(|error| panic!("{error:#}"));
    }
}

fn watch_through(way: Way) -> anyhow::Result<()> {
    let scratch = Scratch::new(&format!("through-{way:?}").to_lowercase())?;
    let secret = scratch.path.join("turn-secret");
    std::fs::create_dir_all(&scratch.path)?;
    std::fs::write(&secret, "known-to-this-test-alone\n")?;
    let turn = Turn::start(std::fs::read_to_string(&secret)?.trim())?;
    let servers = format!(
        "[[webrtc.ice_servers]]\nurls = [\"turn:127.0.0.1:{}?transport=udp\"]\nsecret_file = {secret:?}\n",
        turn.port
    );
    let config = CONFIG.replace("[streams.yard]", &format!("{servers}[streams.yard]"));
    let relayd = Relayd::start_with(&scratch.path, &config)?;
    relayd.await_all_live(SOON)?;
    let browser = Browser::start()?;
    browser.open(&format!("http://{}/healthz", relayd.address()))?;
    browser.run(&WATCH.replace("WAY", &format!("{way:?}")))?;
    let outcome =
        browser.wait_for("window.outcome", SOON).with_context(|| format!("{way:?}: {}", relayd.last_words()))?;
    let text = |name: &str| outcome.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    ensure!(text("error").is_empty(), "{way:?}: {}\n{}", text("error"), relayd.last_words());
    let expected = match way {
        Way::Relay => ("relay", "udp"),
        // A connection that the browser opens from a port it had not named.
        Way::Tcp => ("prflx", "tcp"),
    };
    let seen = (text("type"), text("protocol"));
    ensure!((seen.0.as_str(), seen.1.as_str()) == expected, "{way:?}: {outcome}");
    relayd.stop()
}

/// Watches until ten pictures were decoded, and tells by which pair of candidates.
const WATCH: &str = r#"
(async () => {
  const way = "WAY";
  const peer = new RTCPeerConnection();
  peer.addTransceiver("video", { direction: "recvonly" });
  const offer = await peer.createOffer();
  // Before the browser looks for ways out: the answer tells of the relay.
  const answer = await fetch("/whep/yard", { method: "POST", headers: { "Content-Type": "application/sdp" },
    body: offer.sdp });
  if (answer.status !== 201) throw new Error(answer.status + " " + await answer.text());
  const links = (answer.headers.get("link") || "").split(/,\s*(?=<)/).filter(link => link.includes("ice-server"));
  const part = (link, name) => (link.match(new RegExp(name + '="([^"]*)"')) || [])[1];
  const iceServers = links.map(link => ({
    urls: link.match(/<([^>]*)>/)[1], username: part(link, "username"), credential: part(link, "credential") }));
  peer.setConfiguration({ iceServers, iceTransportPolicy: way === "Relay" ? "relay" : "all" });
  await peer.setLocalDescription(offer);
  let sdp = await answer.text();
  if (way === "Tcp") sdp = sdp.split("\r\n").filter(line => !/^a=candidate:.* udp /i.test(line)).join("\r\n");
  await peer.setRemoteDescription({ type: "answer", sdp });
  const video = document.createElement("video");
  video.muted = true; video.autoplay = true; document.body.append(video);
  video.srcObject = new MediaStream(peer.getReceivers().map(receiver => receiver.track));
  for (;;) {
    const stats = [...(await peer.getStats()).values()];
    const decoded = stats.find(entry => entry.type === "inbound-rtp" && entry.kind === "video")?.framesDecoded;
    if (decoded >= 10) {
      const transport = stats.find(entry => entry.type === "transport");
      const pair = stats.find(entry => entry.id === transport.selectedCandidatePairId);
      const local = stats.find(entry => entry.id === pair.localCandidateId);
      window.outcome = { type: local.candidateType, protocol: local.protocol, decoded };
      return;
    }
    if (peer.connectionState === "failed") throw new Error("the connection failed");
    await new Promise(done => setTimeout(done, 50));
  }
})().catch(error => { window.outcome = { error: String(error) }; });
"#;

/// coturn with time-limited credentials, for loopback addresses alone; killed when dropped.
struct Turn {
    port: u16,
    _process: Process,
}

impl Turn {
    fn start(secret: &str) -> anyhow::Result<Self> {
        // Free for both: coturn takes UDP and TCP.
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        drop(UdpSocket::bind(("127.0.0.1", port))?);
        drop(listener);
        let mut command = Command::new("turnserver");
        command.args(["-n", "--listening-ip=127.0.0.1", "--relay-ip=127.0.0.1", "--realm=relay.test"]);
        command.args(["--use-auth-secret", "--allow-loopback-peers", "--no-cli", "--no-tls", "--no-dtls"]);
        command.args(["--log-file=stdout", "--simple-log", "--pidfile=/dev/null", "--no-software-attribute"]);
        command.arg(format!("--listening-port={port}")).arg(format!("--static-auth-secret={secret}"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = Process::start(&mut command)?;
        wait_for("coturn listens", SOON, || std::net::TcpStream::connect(("127.0.0.1", port)).ok())?;
        Ok(Self { port, _process: process })
    }
}

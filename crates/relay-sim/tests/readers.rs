//! The cameras as programs that others wrote see them: retina and ffmpeg, each codec, over TCP and UDP; and
//! GStreamer's RTSP server playing our clip.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test says so by panicking"
)]

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use futures_util::StreamExt as _;
use relay_sim::{
    Audio, Auth, CameraConfig, CameraHandle, Clip, ClipSpec, Coding, Credentials, Farm, FarmConfig, verify,
};
use retina::{
    client::{PlayOptions, Session, SessionOptions, SetupOptions, Transport},
    codec::CodecItem,
};
use tokio::time::timeout;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);
const CODINGS: [Coding; 3] = [Coding::H264Baseline, Coding::H264HighBFrames, Coding::H265];

/// True if `program` runs; else says that the test is left out, which `CI=true` does not allow.
fn has(program: &str, argument: &str) -> bool {
    let quiet = Command::new(program).arg(argument).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let found = quiet.is_ok_and(|status| status.success());
    if !found {
        println!("SKIPPED: {program} is not installed");
        assert!(std::env::var_os("CI").is_none(), "{program} must be there in CI");
    }
    found
}

fn clip(coding: Coding) -> Arc<Clip> {
    Clip::make(ClipSpec { coding, seconds: 2, gop_frames: 10, ..ClipSpec::small() }).unwrap()
}

fn one(config: CameraConfig) -> (Farm, CameraHandle) {
    let farm = Farm::start(FarmConfig::local(vec![config])).unwrap();
    let camera = farm.cameras()[0].clone();
    (farm, camera)
}

fn scratch(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("relay-sim-{}-{name}", std::process::id()))
}

/// Counters and timestamps of the first `frames` that retina makes of the video, and how many audio frames came.
async fn retina_sees(
    camera: &CameraHandle,
    credentials: Option<(&str, &str)>,
    transport: Transport,
    frames: usize,
) -> Result<(Vec<u64>, Vec<i64>, usize), retina::Error> {
    let credentials = credentials.map(|(username, password)| retina::client::Credentials {
        username: username.to_owned(),
        password: password.to_owned(),
    });
    let options = SessionOptions::default().creds(credentials);
    let mut session = Session::describe(url::Url::parse(&camera.open_url()).unwrap(), options).await?;
    for index in 0..session.streams().len() {
        session.setup(index, SetupOptions::default().transport(transport.clone())).await?;
    }
    let mut items = session.play(PlayOptions::default()).await?.demuxed()?;
    let (mut counters, mut times, mut audio) = (Vec::new(), Vec::new(), 0);
    while counters.len() < frames {
        match items.next().await.expect("the camera goes on")? {
            CodecItem::VideoFrame(frame) => {
                times.push(frame.timestamp().elapsed());
                counters.extend(verify::stamps_in(frame.data()).map(|stamp| stamp.counter));
            }
            CodecItem::AudioFrame(_) => audio += 1,
            _ => {}
        }
    }
    Ok((counters, times, audio))
}

#[tokio::test]
async fn retina_reads_every_codec_over_tcp_and_udp() {
    for coding in CODINGS {
        if coding != Coding::H264Baseline && !has("ffmpeg", "-version") {
            continue;
        }
        let clip = clip(coding);
        for (transport, audio) in
            [(Transport::Tcp(Default::default()), Audio::Aac), (Transport::Udp(Default::default()), Audio::Pcma)]
        {
            let (_farm, camera) = one(CameraConfig { audio, ..CameraConfig::new(vec![clip.clone()]) });
            let seen = timeout(PATIENCE, retina_sees(&camera, None, transport.clone(), 40)).await.unwrap();
            let (counters, times, sounds) = seen.unwrap();
            assert!(counters.windows(2).all(|pair| pair[1] == pair[0] + 1), "{coding:?} {transport:?} {counters:?}");
            assert!(sounds > 20, "{coding:?} {transport:?}: {sounds} audio frames");
            // Frames are displayed 3600 ticks of 90 kHz apart, in another order if there are B-frames.
            let mut display = times.clone();
            display.sort_unstable();
            assert_eq!(display != times, coding == Coding::H264HighBFrames);
            // The last ones may still miss a B-frame between them.
            assert!(display[..36].windows(2).all(|pair| pair[1] - pair[0] == 3_600), "{coding:?} {times:?}");
        }
    }
}

#[tokio::test]
async fn retina_is_asked_for_the_password() {
    let who = || Credentials { user: "admin".into(), password: "pa ss:word".into() };
    for auth in [Auth::Basic(who()), Auth::Digest(who())] {
        let (_farm, camera) = one(CameraConfig { auth, ..CameraConfig::new(vec![clip(Coding::H264Baseline)]) });
        for (given, admitted) in
            [(Some(("admin", "pa ss:word")), true), (Some(("admin", "password")), false), (None, false)]
        {
            let watching = retina_sees(&camera, given, Transport::Tcp(Default::default()), 3);
            let seen = timeout(PATIENCE, watching).await.unwrap();
            assert_eq!(seen.is_ok(), admitted, "{given:?}");
        }
    }
}

#[test]
fn ffmpeg_copies_every_frame_of_each_codec() {
    if !has("ffmpeg", "-version") {
        return;
    }
    for coding in CODINGS {
        let (_farm, camera) = one(CameraConfig::new(vec![clip(coding)]));
        for transport in ["tcp", "udp"] {
            let file = scratch(&format!("{coding:?}-{transport}"));
            // Raw streams, because ffmpeg has no decode times for B-frames over RTP and its muxers insist on them.
            let format = if coding == Coding::H265 { "hevc" } else { "h264" };
            ffmpeg(
                &["-rtsp_transport", transport, "-i", &camera.url(), "-frames:v", "40", "-c", "copy"],
                format,
                &file,
            );
            let report = verify::search([&file]).unwrap();
            assert!(report.is_continuous() && report.stamps.len() == 40, "{coding:?} {transport}: {report}");
            let sent = camera.sent();
            let sent = sent.last().unwrap();
            let known = |counter| sent.frames.iter().any(|frame| frame.counter == counter);
            assert!(report.stamps.iter().all(|stamp| known(stamp.counter)) && sent.udp == (transport == "udp"));
            // -xerror: a single damaged frame fails.
            ffmpeg(&["-xerror", "-f", format, "-i", file.to_str().unwrap()], "null", Path::new("-"));
            std::fs::remove_file(&file).unwrap();
        }
    }
}

fn ffmpeg(arguments: &[&str], format: &str, to: &Path) {
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-y", "-v", "error"]).args(arguments).args(["-f", format]).arg(to);
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A child that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn gstreamers_server_plays_our_clip_without_losing_count() {
    const IMPORTS: &str =
        "import gi\ngi.require_version('GstRtspServer', '1.0')\nfrom gi.repository import GstRtspServer";
    let python = Command::new("/usr/bin/python3").args(["-c", IMPORTS]).stderr(Stdio::null()).status();
    if !python.is_ok_and(|status| status.success()) {
        println!("SKIPPED: gir1.2-gst-rtsp-server-1.0 or python3-gi is not installed");
        assert!(std::env::var_os("CI").is_none(), "GStreamer's RTSP server must be there in CI");
        return;
    }
    let (file, dump) = (scratch("clip.h264"), scratch("gst.rtp"));
    std::fs::write(&file, clip(Coding::H264Baseline).annex_b()).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/gst_camera.py");
    let mut command = Command::new("/usr/bin/python3");
    command.arg(script).arg(&file).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut server = Running(command.spawn().unwrap());
    let mut line = String::new();
    BufReader::new(server.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let url = line.trim().strip_prefix("ready ").unwrap();
    let end = tokio::time::Instant::now() + Duration::from_secs(4);
    relay_sim::floor::dump(url, &dump, end).await.unwrap();
    let report = verify::search([&dump]).unwrap();
    for path in [&file, &dump] {
        std::fs::remove_file(path).unwrap();
    }
    assert!(report.is_continuous() && report.stamps.len() > 30, "{report}");
}

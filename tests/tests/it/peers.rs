//! Cameras of another make: GStreamer's RTSP server, recorded by the whole daemon and read back by ffmpeg.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use relay_media::Kind;
use relay_tests::process::{Process, wait_for};
use relay_tests::relayd::{Relayd, Stream, segments};
use relay_tests::soak::Scratch;
use relay_tests::{needs, recordings, root};
use rustix::process::Signal;
use serde_json::Value;

use crate::ffprobe::Probed;

/// Starting an encoder on a busy machine, and waiting for its next key frame.
const SOON: Duration = Duration::from_secs(30);
/// Eight seconds and the pictures that the encoder is late by.
const FRAMES: usize = 200;
/// A key frame a second: pictures may begin later than sound by so much.
const GOP_MS: i64 = 1_000;

/// What a stream is, and what its recording must be.
#[derive(Clone, Copy, Debug)]
struct Case {
    name: &'static str,
    mount: &'static str,
    transport: &'static str,
    video: &'static str,
    audio: &'static str,
    is_reordered: bool,
}

const TCP: &str = "transport = \"tcp\"";
const UDP: &str = "transport = \"udp\"";

const BASELINE: Case =
    Case { name: "baseline", mount: "baseline", transport: TCP, video: "h264", audio: "pcm_alaw", is_reordered: false };
const B_FRAMES: Case = Case { name: "b-frames", mount: "b-frames", audio: "aac", is_reordered: true, ..BASELINE };
const HEVC: Case = Case { name: "hevc", mount: "hevc", video: "hevc", audio: "opus", ..BASELINE };
const OVER_UDP: Case = Case { name: "over-udp", transport: UDP, ..B_FRAMES };

#[test]
fn cameras_of_another_make_are_recorded_whole() {
    if peers_are_here() {
        record(&[BASELINE, B_FRAMES, HEVC, OVER_UDP]).unwrap_or_else(|error| panic!("{error:#}"));
    }
}

#[test]
fn cameras_of_another_make_come_back_after_a_restart() {
    if peers_are_here() {
        restart(&[BASELINE, B_FRAMES, Case { transport: UDP, ..HEVC }]).unwrap_or_else(|error| panic!("{error:#}"));
    }
}

/// GStreamer's live test sources skip a picture or a packet of sound when the machine is too busy to make them in time.
const SKIPPED: usize = 4;

fn record(cases: &[Case]) -> anyhow::Result<()> {
    let scratch = Scratch::new("peers")?;
    let (_cameras, port) = cameras(None)?;
    let relayd = Relayd::start(&scratch.path, &streams(cases, port))?;
    relayd.await_all_live(SOON)?;
    for case in cases {
        await_frames(&scratch.path, case, FRAMES)?;
    }
    let told = [relayd.get("/api/v1/streams")?, relayd.get("/metrics")?, relayd.last_words()].join("\n");
    relayd.stop()?;
    for case in cases {
        let files = segments(&scratch.path, case.name)?;
        assert_eq!(files.len(), 1, "{}: nothing broke it: {files:?}\n{told}", case.name);
        let [video, sound] = look_at(&files[0], case).with_context(|| told.clone())?;
        assert!(video.dts.len() >= FRAMES, "{}: {} frames", case.name, video.dts.len());
        // A datagram may be lost, and its group of pictures with it.
        if case.transport == TCP {
            let odd = [video.odd_steps(), sound.odd_steps()].concat();
            assert!(odd.len() <= SKIPPED, "{}: pictures or sounds are missing: {odd:?}", case.name);
        }
    }
    Ok(())
}

fn restart(cases: &[Case]) -> anyhow::Result<()> {
    let scratch = Scratch::new("peers-restart")?;
    let (first, port) = cameras(None)?;
    let relayd = Relayd::start(&scratch.path, &streams(cases, port))?;
    relayd.await_all_live(SOON)?;
    let mut before = Vec::new();
    for case in cases {
        before.push(await_frames(&scratch.path, case, 50)?);
    }
    first.stop(Signal::KILL, SOON)?;
    for case in cases {
        let stream = await_stream(&relayd, case, "is in backoff and says why", |stream| {
            let cause = stream["source"]["last_error"].as_str().unwrap_or_default();
            stream["state"] == "backoff" && cause.contains("nothing listens at the camera's address")
        })?;
        assert!(stream["source"]["next_try_ms"].is_u64(), "{stream}");
    }
    let (_second, again) = cameras(Some(port))?;
    assert_eq!(again, port);
    for (case, before) in cases.iter().zip(before) {
        await_stream(&relayd, case, "is live again", |stream| {
            stream["state"] == "live" && stream["source"]["connects"].as_u64() >= Some(2)
        })?;
        await_frames(&scratch.path, case, before + 75)?;
    }
    relayd.stop()?;
    for case in cases {
        for path in segments(&scratch.path, case.name)? {
            look_at(&path, case)?;
        }
    }
    Ok(())
}

/// What a program on the path doesn't tell: whether the system's Python finds the RTSP server.
fn peers_are_here() -> bool {
    let import = "import gi; gi.require_version('GstRtspServer', '1.0')";
    let mut python = Command::new("/usr/bin/python3");
    let quiet = python.args(["-c", import]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let server = quiet.status().is_ok_and(|status| status.success());
    // No program has such a name: it is skipped by it.
    let missing: &[&str] = if server { &[] } else { &["GstRtspServer for Python"] };
    needs(&[&["ffmpeg", "ffprobe", "gst-launch-1.0"], missing].concat())
}

/// The cameras, and the port they listen on: the one wanted, or any.
fn cameras(port: Option<u16>) -> anyhow::Result<(Process, u16)> {
    let mut command = Command::new("/usr/bin/python3");
    command.arg(root().join("tests/peers/gst_cameras.py")).args(port.map(|port| port.to_string()));
    // It ends with the pipe that it reads from: also when this process is killed.
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut process = Process::start(&mut command)?;
    let mut said = BufReader::new(process.stdout().context("no stdout")?).lines();
    let port = said.next().context("the cameras ended")??;
    Ok((process, port.trim().parse().with_context(|| format!("no port: {port}"))?))
}

fn streams(cases: &[Case], port: u16) -> Vec<Stream> {
    let stream = |case: &Case| Stream {
        name: case.name.into(),
        url: format!("rtsp://127.0.0.1:{port}/{}", case.mount),
        source: case.transport,
        record: "",
    };
    cases.iter().map(stream).collect()
}

/// Waits until so many pictures of a stream are on the disk, and tells how many.
fn await_frames(dir: &Path, case: &Case, frames: usize) -> anyhow::Result<usize> {
    let recorded = || {
        let files = segments(dir, case.name).ok()?;
        let counts = files.iter().map(|path| frames_in(path).unwrap_or(0));
        Some(counts.sum()).filter(|count| *count >= frames)
    };
    wait_for(&format!("{frames} frames of {}", case.name), SOON, recorded)
}

/// The pictures in a file that may still be written.
fn frames_in(path: &Path) -> Option<usize> {
    let tracks = relay_mp4::read_samples(&std::fs::read(path).ok()?).ok()?;
    let video = tracks.iter().find(|track| track.track.kind() == Kind::Video)?;
    Some(video.samples.len())
}

fn await_stream(relayd: &Relayd, case: &Case, what: &str, is_so: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
    let stream = || serde_json::from_str::<Value>(&relayd.get(&format!("/api/v1/streams/{}", case.name)).ok()?).ok();
    let found = wait_for(&format!("{} {what}", case.name), SOON, || stream().filter(&is_so));
    found.with_context(|| format!("{}\n{}", stream().unwrap_or_default(), relayd.last_words()))
}

/// Looks at a finished file as a player does; tells of its pictures and its sound.
fn look_at(path: &Path, case: &Case) -> anyhow::Result<[Probed; 2]> {
    let tracks: Result<[Probed; 2], _> = Probed::read(path)?.try_into();
    let [video, audio] = match tracks {
        Ok(tracks) => tracks,
        Err(tracks) => {
            let codecs: Vec<_> = tracks.into_iter().map(|track| track.codec).collect();
            bail!("{}: not two tracks: {codecs:?}", case.name)
        }
    };
    let seen = (video.codec.as_str(), audio.codec.as_str(), video.is_reordered, video.size);
    assert_eq!(seen, (case.video, case.audio, case.is_reordered, Some((320, 180))), "{}", case.name);
    assert!(video.is_in_order(), "{}: {:?}", case.name, video.dts);
    assert!(audio.is_in_order(), "{}: {:?}", case.name, audio.dts);
    assert_eq!(Some(video.dts.len()), frames_in(path), "{}: ffprobe and relay-mp4 disagree", case.name);
    let spans = [video.span_ms(), audio.span_ms()];
    assert!((spans[0] - spans[1]).abs() <= GOP_MS, "{}: pictures and sound last {spans:?} ms", case.name);
    recordings::decode(path)?;
    Ok([video, audio])
}

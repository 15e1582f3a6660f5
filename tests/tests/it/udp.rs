//! Cameras over UDP, through the whole daemon: what a lossy network costs, and what a firewall that lets nothing pass.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use relay_sim::{CameraConfig, CameraHandle, Farm, FarmConfig, Fault, SessionLog};
use relay_tests::farm::{Picture, clip};
use relay_tests::process::wait_for;
use relay_tests::recordings::{Recorded, decode};
use relay_tests::relayd::{Relayd, Stream};
use relay_tests::soak::Scratch;
use relay_tests::{needs, recordings};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(30);
/// Some pictures of two packets, and two key frames a second.
const PICTURE: Picture = Picture { gop_frames: 12, ..Picture::SMALL };

#[test]
fn a_lossy_network_costs_what_is_counted_and_nothing_broken_is_kept() {
    if needs(&["ffmpeg"]) {
        lossy().unwrap_or_else(|error| panic!("{error:#}"));
    }
}

#[test]
fn a_firewall_that_drops_udp_is_passed_over_tcp() {
    firewall().unwrap_or_else(|error| panic!("{error:#}"));
}

fn lossy() -> anyhow::Result<()> {
    let scratch = Scratch::new("lossy")?;
    let (farm, relayd) = start(&scratch.path, Fault::Loss(50), "transport = \"udp\"")?;
    let camera = &farm.cameras()[0];
    wait_for("enough pictures in spite of the losses", SOON, || {
        relayd.metric(PACKETS).ok().filter(|packets| *packets >= 60.0)
    })?;
    // What still comes after the counters were read would be missing in them.
    camera.inject(Fault::Kill, None);
    let sink = settled(&relayd)?;
    let quirk = |name: &str| {
        let sample = format!("relayd_source_quirks_total{{stream=\"cam\",quirk=\"{name}\"}}");
        relayd.metric(&sample).map_or(0, |count| count as u64)
    };
    let [lost, damaged, undecodable] = ["packet_lost", "unit_damaged", "unit_before_key"].map(quirk);
    let delivered = relayd.metric(PACKETS)? as u64;
    let told =
        format!("{lost} packets lost, {damaged} damaged, {undecodable} undecodable, {delivered} delivered: {sink}");
    relayd.stop()?;

    let recorded = Recorded::read(&scratch.path, "cam")?;
    assert!(recorded.wrong.is_empty(), "{:?}\n{told}", recorded.wrong);
    for file in &recorded.files {
        decode(file).with_context(|| told.clone())?;
    }
    assert_eq!(recorded.frames.len() as u64, delivered, "what is in the files was counted: {told}");
    assert_eq!(sink["packets_out"], delivered, "{told}");
    assert!(lost > 0 && damaged > 0 && undecodable > 0, "{told}");
    // A picture is missing because it was damaged, because one before it was, or because no packet of it came.
    let missing = recorded.missing();
    assert!(missing > 0 && missing <= damaged + undecodable + lost, "{missing} missing, {told}");

    // To the picture: what is there came whole, and after a key frame without a gap; and all such is there.
    let expected = decodable(&camera.sent());
    let seen: Vec<u64> = recorded.frames.iter().map(|frame| frame.counter).collect();
    let broken: Vec<_> = seen.iter().filter(|counter| !expected.contains(counter)).collect();
    assert!(broken.is_empty(), "recorded in spite of a loss: {broken:?}\n{told}");
    let (first, last) = recorded.range().context("no frame")?;
    let whole = expected.iter().filter(|counter| (first..=last).contains(*counter));
    let thrown: Vec<_> = whole.filter(|counter| !seen.contains(counter)).collect();
    assert!(thrown.len() <= MARKER_TRIAL, "whole, and not recorded: {thrown:?}\n{told}");
    Ok(())
}

/// The first pictures wait for their successors, whose loss throws a doubt on them.
const MARKER_TRIAL: usize = 3;

/// The frames of these sessions from each whole key frame up to the first that was not sent whole.
fn decodable(sessions: &[SessionLog]) -> Vec<u64> {
    let mut decodable = Vec::new();
    for session in sessions {
        let mut next = None;
        for frame in &session.frames {
            if frame.key || next == Some(frame.counter) {
                decodable.push(frame.counter);
                next = Some(frame.counter + 1);
            }
        }
    }
    decodable
}

fn firewall() -> anyhow::Result<()> {
    let scratch = Scratch::new("firewall")?;
    let (farm, relayd) = start(&scratch.path, Fault::UdpSilent, "transport = \"auto\"")?;
    let camera = &farm.cameras()[0];
    wait_for("three seconds of pictures", SOON, || relayd.metric(PACKETS).ok().filter(|packets| *packets >= 75.0))?;
    relayd.stop()?;
    let sessions = camera.sent();
    let [over_udp, over_tcp] = &sessions[..] else { panic!("not two sessions: {}", transports(&sessions)) };
    assert!(over_udp.udp && !over_tcp.udp, "{}", transports(&sessions));
    let waited = over_tcp.started_utc_nanos - over_udp.started_utc_nanos;
    let waited = Duration::from_nanos(waited.unsigned_abs());
    assert!((Duration::from_secs(3)..Duration::from_millis(4_500)).contains(&waited), "TCP after {waited:?}");

    let recorded = Recorded::read(&scratch.path, "cam")?;
    assert!(recorded.wrong.is_empty(), "{:?}", recorded.wrong);
    let seen: Vec<u64> = recorded.frames.iter().map(|frame| frame.counter).collect();
    let sent: Vec<u64> = over_tcp.frames.iter().map(|frame| frame.counter).collect();
    assert!(seen.len() >= 75 && sent.starts_with(&seen), "sent {sent:?}\nrecorded {seen:?}");
    recorded.files.iter().try_for_each(|file| recordings::decode(file))
}

fn transports(sessions: &[SessionLog]) -> String {
    let told = sessions.iter().map(|session| if session.udp { "UDP" } else { "TCP" });
    told.collect::<Vec<_>>().join(", ")
}

const PACKETS: &str = "relayd_source_packets_total{stream=\"cam\",kind=\"video\"}";

/// A camera with this fault from the start, and the daemon recording it.
fn start(dir: &Path, fault: Fault, source: &'static str) -> anyhow::Result<(Farm, Relayd)> {
    let farm = Farm::start(FarmConfig::local(vec![CameraConfig::new(vec![clip(PICTURE)?])]))?;
    let camera: &CameraHandle = &farm.cameras()[0];
    camera.inject(fault, None);
    let stream = Stream { name: "cam".into(), url: camera.url(), source, record: "" };
    let relayd = Relayd::start(dir, &[stream])?;
    Ok((farm, relayd))
}

/// The recorder's figures once it has written all that came, from a source that has given up for now.
fn settled(relayd: &Relayd) -> anyhow::Result<Value> {
    let settled = || {
        let mut stream = relayd.streams().ok()?.pop()?;
        let sink = stream["sinks"][0].take();
        let done = sink["packets_buffered"] == 0 && sink["packets_in"].as_u64() > Some(0);
        (stream["state"] == "backoff" && done).then_some(sink)
    };
    wait_for("all is written", SOON, settled)
}

//! A farm seen by a plain reader, healthy and under each fault.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;

use crate::{
    Audio, CameraConfig, CameraHandle, Clip, ClipSpec, Event, Farm, FarmConfig, Fault, Ports, SessionEnd, Transports,
    floor::{self, Client, FloorError},
    rtsp::Item,
    verify,
};

/// Longer than anything here takes, so that a fault of the farm ends the test.
const PATIENCE: Duration = Duration::from_secs(20);

fn clip() -> Arc<Clip> {
    Clip::make(ClipSpec { seconds: 1, gop_frames: 10, ..ClipSpec::small() }).unwrap()
}

fn one(config: CameraConfig) -> (Farm, CameraHandle) {
    let farm = Farm::start(FarmConfig::local(vec![config])).unwrap();
    let camera = farm.cameras()[0].clone();
    (farm, camera)
}

async fn watch(camera: &CameraHandle) -> Client {
    let mut client = Client::connect(&camera.open_url()).await.unwrap();
    client.handshake().await.unwrap();
    client
}

/// Waits for a condition that another thread brings about.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let waited = timeout(PATIENCE, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// What a reader sees of the video.
#[derive(Debug, Default)]
struct Seen {
    counters: Vec<u64>,
    sequence_gaps: usize,
    sequence_back: usize,
    sequence_twice: usize,
    ssrcs: Vec<u32>,
    timestamps: Vec<u32>,
    parameter_sets: usize,
    /// Each SPS that differs from the one before.
    sps: Vec<Vec<u8>>,
    keys: usize,
    bad_headers: usize,
    short_payloads: usize,
    audio: usize,
    reports: usize,
}

/// Reads until `frames` stamps were seen, or with 0 until `frames` audio packets.
async fn see(client: &mut Client, frames: usize) -> Seen {
    let mut seen = Seen::default();
    let mut last: Option<u16> = None;
    let reading = async {
        while seen.counters.len() < frames {
            let (Item::Data { channel }, packet) = client.next().await.unwrap() else { continue };
            match channel {
                0 => {}
                2 => {
                    seen.audio += 1;
                    continue;
                }
                _ => {
                    seen.reports += 1;
                    continue;
                }
            }
            if packet.len() < 16 || packet[4] != 0x80 {
                seen.bad_headers += 1;
                continue;
            }
            let sequence = u16::from_be_bytes([packet[6], packet[7]]);
            match last.map(|last| sequence.wrapping_sub(last)) {
                None | Some(1) => {}
                Some(0) => seen.sequence_twice += 1,
                Some(0x8000..) => seen.sequence_back += 1,
                Some(_) => seen.sequence_gaps += 1,
            }
            last = Some(sequence);
            let ssrc = u32::from_be_bytes([packet[12], packet[13], packet[14], packet[15]]);
            if seen.ssrcs.last() != Some(&ssrc) {
                seen.ssrcs.push(ssrc);
            }
            match packet.get(16).map(|header| header & 0x1f) {
                None => seen.short_payloads += 1,
                Some(kind @ (7 | 8)) => {
                    seen.parameter_sets += 1;
                    if kind == 7 && seen.sps.last().is_none_or(|known| known != &packet[16..]) {
                        seen.sps.push(packet[16..].to_vec());
                    }
                }
                Some(5) => seen.keys += 1,
                Some(28) if packet.get(17).is_some_and(|fu| fu & 0x9f == 0x85) => seen.keys += 1,
                Some(_) => {}
            }
            for stamp in verify::stamps_in(&packet) {
                seen.counters.push(stamp.counter);
                seen.timestamps.push(u32::from_be_bytes([packet[8], packet[9], packet[10], packet[11]]));
            }
        }
    };
    timeout(PATIENCE, reading).await.expect("the camera went silent");
    seen
}

fn steps(values: &[u32]) -> Vec<i32> {
    values.windows(2).map(|pair| pair[1].wrapping_sub(pair[0]).cast_signed()).collect()
}

#[tokio::test]
async fn a_healthy_camera_sends_each_frame_once_from_a_key_frame_on() {
    let (_farm, camera) = one(CameraConfig { audio: Audio::Pcma, ..CameraConfig::new(vec![clip()]) });
    let seen = see(&mut watch(&camera).await, 30).await;
    let first = seen.counters[0];
    assert_eq!(seen.counters, (first..first + 30).collect::<Vec<_>>());
    // The clip is whole groups of ten frames long.
    assert_eq!(first % 10, 0);
    assert!(steps(&seen.timestamps).iter().all(|&step| step == 3600), "{:?}", seen.timestamps);
    assert_eq!((seen.sequence_gaps, seen.sequence_back, seen.ssrcs.len(), seen.bad_headers), (0, 0, 1, 0));
    assert_eq!((seen.keys, seen.parameter_sets, seen.reports), (3, 6, 1));
}

#[tokio::test]
async fn the_log_of_frames_sent_equals_what_was_read() {
    let farm = Farm::start(FarmConfig {
        ports: Ports::Shared,
        ..FarmConfig::local((0..3).map(|_| CameraConfig::new(vec![clip()])).collect())
    })
    .unwrap();
    for camera in farm.cameras() {
        let mut client = watch(camera).await;
        let seen = see(&mut client, 15).await;
        drop(client);
        until("the session ends", || camera.sent().iter().all(|log| log.ended.is_some())).await;
        let log = camera.sent().remove(0);
        let sent: Vec<u64> = log.frames.iter().map(|frame| frame.counter).collect();
        assert!(sent.starts_with(&seen.counters), "{sent:?} {:?}", seen.counters);
        assert_eq!((log.forgotten, log.ended, camera.viewers()), (0, Some(SessionEnd::Viewer), 0));
        assert!(log.frames[0].key && !log.frames[1].key);
    }
}

#[tokio::test]
async fn a_killed_camera_resets_its_viewers_refuses_and_comes_back() {
    let (_farm, camera) = one(CameraConfig::new(vec![clip()]));
    let mut client = watch(&camera).await;
    see(&mut client, 3).await;
    camera.inject(Fault::Kill, None);
    let ended = timeout(PATIENCE, async {
        loop {
            if let Err(error) = client.next().await {
                return error;
            }
        }
    });
    let FloorError::Io { error, .. } = ended.await.unwrap() else { panic!() };
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    until("the port is closed", || std::net::TcpStream::connect(camera.camera.address).is_err()).await;
    let counter = camera.counter();
    camera.end(Fault::Kill);
    until("the port is open", || std::net::TcpStream::connect(camera.camera.address).is_ok()).await;
    let seen = see(&mut watch(&camera).await, 3).await;
    assert!(seen.counters[0] >= counter, "the camera counts on while it is away");
    assert_eq!(camera.sent()[0].ended, Some(SessionEnd::Reset));
}

#[tokio::test]
async fn a_frozen_camera_sends_nothing_and_goes_on_with_a_gap() {
    let (_farm, camera) = one(CameraConfig::new(vec![clip()]));
    let mut client = watch(&camera).await;
    see(&mut client, 3).await;
    camera.inject(Fault::Freeze, None);
    let frozen_at = camera.counter();
    until("frames pass", || camera.counter() >= frozen_at + 10).await;
    let sent = camera.sent()[0].frames.len();
    until("frames pass", || camera.counter() >= frozen_at + 20).await;
    assert_eq!(camera.sent()[0].frames.len(), sent);
    // Nor is a new viewer answered.
    let mut second = Client::connect(&camera.open_url()).await.unwrap();
    let answer = timeout(Duration::from_millis(200), second.handshake());
    assert!(answer.await.is_err());
    camera.clear();
    let log = || camera.sent()[0].frames.iter().map(|frame| frame.counter).collect::<Vec<_>>();
    until("it goes on", || log().len() > sent + 3).await;
    let seen = see(&mut client, sent).await;
    assert!(log()[3..].starts_with(&seen.counters), "{:?} {:?}", log(), seen.counters);
}

/// A fault, and what a reader of 40 frames sees of it.
type Row = (Fault, fn(&Seen) -> bool);

#[tokio::test]
async fn each_fault_of_the_stream_is_seen_by_the_reader() {
    let rows: [Row; 7] = [
        (Fault::Loss(200), |seen| seen.sequence_gaps > 0 && seen.sequence_back == 0),
        (Fault::Reorder(200), |seen| seen.sequence_back > 0),
        (Fault::Duplicate(200), |seen| seen.sequence_twice > 0 && seen.sequence_gaps + seen.sequence_back == 0),
        (Fault::Malformed, |seen| seen.bad_headers >= 40 && seen.short_payloads >= 40 && seen.sequence_gaps == 0),
        (Fault::NoKeyFrames, |seen| seen.keys == 0 && seen.counters.iter().all(|counter| counter % 10 != 0)),
        (Fault::FrozenTimestamps, |seen| steps(&seen.timestamps).iter().filter(|&&step| step != 0).count() <= 1),
        (Fault::NoSets, |seen| seen.parameter_sets == 0 && seen.keys > 0 && seen.sequence_gaps == 0),
    ];
    let clip = clip();
    let configs = rows.iter().map(|_| CameraConfig::new(vec![clip.clone()])).collect();
    let farm = Farm::start(FarmConfig::local(configs)).unwrap();
    let mut watching = Vec::new();
    for ((fault, _), camera) in rows.iter().zip(farm.cameras()) {
        camera.inject(*fault, None);
        watching.push(watch(camera).await);
    }
    for ((fault, expected), client) in rows.iter().zip(&mut watching) {
        let seen = see(client, 40).await;
        assert!(expected(&seen), "{fault:?}: {seen:?}");
    }
}

#[tokio::test]
async fn events_happen_within_a_session() {
    let small = Clip::make(ClipSpec { width: 160, height: 96, seconds: 1, ..ClipSpec::small() }).unwrap();
    let (_farm, camera) = one(CameraConfig::new(vec![clip(), small]));
    let mut client = watch(&camera).await;
    let before = see(&mut client, 5).await;
    camera.trigger(Event::Jump(-5_000));
    let jumped = see(&mut client, 20).await;
    // The jump may fall between the two readings.
    let timestamps: Vec<u32> = before.timestamps.iter().chain(&jumped.timestamps).copied().collect();
    assert_eq!(steps(&timestamps).iter().filter(|&&step| step == 3_600 - 450_000).count(), 1, "{timestamps:?}");
    camera.trigger(Event::NewSsrc);
    let renewed = see(&mut client, 20).await;
    assert!(renewed.ssrcs.last() != before.ssrcs.last(), "{:?} {:?}", before.ssrcs, renewed.ssrcs);
    camera.trigger(Event::Clip(1));
    let seen = see(&mut client, 30).await;
    assert!(seen.counters.windows(2).all(|pair| pair[1] == pair[0] + 1), "the counter goes on");
    assert!(steps(&seen.timestamps).iter().all(|&step| step == 3_600), "and so does the time");
    assert!(seen.sps.last() != before.sps.last(), "in another size");
}

#[tokio::test]
async fn audio_goes_on_while_video_is_dead() {
    for audio in [Audio::Pcma, Audio::Opus, Audio::Aac] {
        let (_farm, camera) = one(CameraConfig { audio, ..CameraConfig::new(vec![clip()]) });
        camera.inject(Fault::VideoDead, None);
        let mut client = Client::connect(&camera.open_url()).await.unwrap();
        client.handshake_all().await.unwrap();
        let (mut audio_packets, mut video_packets) = (0, 0);
        while audio_packets < 30 {
            match timeout(PATIENCE, client.next()).await.unwrap().unwrap() {
                (Item::Data { channel: 2 }, _) => audio_packets += 1,
                (Item::Data { channel: 0 }, _) => video_packets += 1,
                _ => {}
            }
        }
        assert_eq!(video_packets, 0, "{audio:?}");
    }
}

#[tokio::test]
async fn requests_are_answered_as_told() {
    let (_farm, camera) = one(CameraConfig::new(vec![clip()]));
    for (fault, expected) in [
        (Fault::Answer(401), "answered with 401"),
        (Fault::Answer(404), "answered with 404"),
        (Fault::Answer(500), "answered with 500"),
        (Fault::Garbage, "not RTSP"),
        (Fault::EndlessSdp, "not RTSP, or a message longer than 64 KiB"),
    ] {
        camera.inject(fault, None);
        let mut client = Client::connect(&camera.open_url()).await.unwrap();
        let error = timeout(PATIENCE, client.ask("DESCRIBE", "", "")).await.unwrap().unwrap_err();
        assert!(error.to_string().contains(expected), "{fault:?}: {error}");
        camera.end(fault);
    }
    camera.inject(Fault::NoSdpSets, None);
    let body = Client::connect(&camera.open_url()).await.unwrap().ask("DESCRIBE", "", "").await.unwrap().body;
    assert!(!String::from_utf8(body).unwrap().contains("sprop"));
}

#[tokio::test]
async fn a_reader_that_does_not_read_is_dropped_and_counted() {
    let heavy = ClipSpec { width: 1280, height: 720, bitrate_bps: 16_000_000, seconds: 1, ..ClipSpec::small() };
    let (_farm, camera) = one(CameraConfig::new(vec![Clip::make(heavy).unwrap()]));
    let _idle = watch(&camera).await;
    until("it is dropped", || camera.slow_readers() == 1).await;
    let log = camera.sent().remove(0);
    assert_eq!((log.ended, camera.viewers()), (Some(SessionEnd::Slow), 0));
    assert!(log.frames.len() as u64 + 1 < camera.counter(), "what stayed in the queue was not sent");
}

#[tokio::test]
async fn the_floor_program_writes_every_frame() {
    let (_farm, camera) = one(CameraConfig::new(vec![clip()]));
    let file = std::env::temp_dir().join(format!("relay-sim-floor-{}.rtp", std::process::id()));
    let end = tokio::time::Instant::now() + Duration::from_millis(1_500);
    let dump = floor::dump(&camera.open_url(), &file, end).await.unwrap();
    let report = verify::search([&file]).unwrap();
    std::fs::remove_file(&file).unwrap();
    assert!(report.is_continuous() && report.stamps.len() > 10 && dump.bytes > 0, "{report}");
}

#[tokio::test]
async fn a_refusing_camera_goes_on_for_those_who_watch() {
    let (_farm, camera) = one(CameraConfig::new(vec![clip()]));
    let mut client = watch(&camera).await;
    camera.inject(Fault::Refuse, None);
    until("the port is closed", || std::net::TcpStream::connect(camera.camera.address).is_err()).await;
    see(&mut client, 15).await;
    camera.clear();
    until("the port is open", || std::net::TcpStream::connect(camera.camera.address).is_ok()).await;
    camera.trigger(Event::Restart);
    until("it is reset", || camera.viewers() == 0).await;
    assert_eq!(camera.sent()[0].ended, Some(SessionEnd::Reset));
}

#[tokio::test]
async fn transports_are_granted_as_configured_and_udp_can_be_silent() {
    const TCP: &str = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n";
    const UDP: &str = "Transport: RTP/AVP;unicast;client_port=9-10\r\n";
    for (transports, tcp, udp) in
        [(Transports::Both, true, true), (Transports::TcpOnly, true, false), (Transports::UdpOnly, false, true)]
    {
        let (_farm, camera) = one(CameraConfig { transports, ..CameraConfig::new(vec![clip()]) });
        let uri = format!("{}/trackID=0", camera.open_url());
        for (header, granted) in [(TCP, tcp), (UDP, udp)] {
            let mut client = Client::connect(&camera.open_url()).await.unwrap();
            assert_eq!(client.ask("SETUP", &uri, header).await.is_ok(), granted, "{transports:?} {header}");
        }
    }
    let (_farm, camera) = one(CameraConfig::new(vec![clip()]));
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = socket.local_addr().unwrap().port();
    camera.inject(Fault::UdpSilent, None);
    let mut client = Client::connect(&camera.open_url()).await.unwrap();
    let header = format!("Transport: RTP/AVP;unicast;client_port={port}-{port}\r\n");
    client.ask("SETUP", &format!("{}/trackID=0", camera.open_url()), &header).await.unwrap();
    client.ask("PLAY", "", "").await.unwrap();
    let counter = camera.counter();
    until("frames pass", || camera.counter() > counter + 20).await;
    let mut packet = [0; 1500];
    assert!(socket.try_recv(&mut packet).is_err() && camera.sent()[0].frames.is_empty());
    camera.clear();
    timeout(PATIENCE, socket.recv(&mut packet)).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_session_that_says_nothing_times_out() {
    let config = CameraConfig { session_timeout: Some(Duration::from_millis(500)), ..CameraConfig::new(vec![clip()]) };
    let (_farm, camera) = one(config);
    let _client = watch(&camera).await;
    until("it is dropped", || camera.viewers() == 0).await;
    assert_eq!(camera.sent()[0].ended, Some(SessionEnd::Reset));
}

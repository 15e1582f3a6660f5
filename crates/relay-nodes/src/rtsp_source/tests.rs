//! Against a camera that follows a script: what it answers, what it sends, how it ends.

use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

use relay_graph::{Clock, Shutdown, SourceMonitor, SourceSnapshot, SourceState};
use relay_media::{Flags, Packet, UtcTime, WallOrigin, nal::split_length_prefixed};
use relay_ring::{Cursor, LeakPolicy, Limits, Start, ring};
use relay_sim::{Audio, CameraConfig, Clip, ClipSpec, Farm, FarmConfig, Fault};

use super::*;

/// x264's, 1280x720; an IDR picture and one that refers to it.
const SPS: &[u8] = b"\x67\x42\xc0\x1f\xd9\x00\x50\x05\xbb\x01\x10\0\0\x03\0\x10\0\0\x03\x03\x20\xf1\x83\x24\x80";
const PPS: &[u8] = b"\x68\xcb\x83\xcb\x20";
const IDR: &[u8] = b"\x65\x88\x80\x4f\x11";
const P: &[u8] = b"\x41\x9a\x80\x4f\x22";
const SDP: &str = "v=0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96\r\na=control:video\r\n\
    m=application 0 RTP/AVP 98\r\na=rtpmap:98 vnd.onvif.metadata/90000\r\n";

/// What the camera does on one connection.
#[derive(Clone, Default)]
struct Script {
    /// Closes the connection when this is asked for.
    closes_at: &'static str,
    /// Answers a method with this status line.
    refuses: (&'static str, &'static str),
    sdp: Option<&'static str>,
    /// Interleaved packets sent after PLAY.
    media: Vec<Vec<u8>>,
    /// Goes on listening after that; else it closes.
    stays: bool,
}

/// Serves `scripts`, one a connection, the last for ever; tells its URL.
fn camera(scripts: Vec<Script>) -> Url {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let mut scripts = scripts.into_iter().peekable();
        let mut last = Script::default();
        for stream in listener.incoming() {
            last = scripts.next().unwrap_or(last);
            let script = last.clone();
            thread::spawn(move || serve(stream.unwrap(), &script));
        }
    });
    Url::parse(&format!("rtsp://admin:s%40cret@127.0.0.1:{port}/ch0")).unwrap()
}

fn serve(mut stream: TcpStream, script: &Script) -> Option<()> {
    let mut lines = BufReader::new(stream.try_clone().ok()?).lines();
    loop {
        let request = lines.next()?.ok()?;
        let method = request.split(' ').next()?.to_owned();
        let headers: Vec<String> = lines.by_ref().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
        let cseq = headers.iter().find_map(|header| header.strip_prefix("CSeq: "))?;
        if method == script.closes_at {
            return None;
        }
        let sdp = script.sdp.unwrap_or(SDP);
        let rest = match method.as_str() {
            "DESCRIBE" => format!("Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}", sdp.len()),
            "SETUP" => "Session: 7\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n\r\n".into(),
            _ => "Session: 7\r\n\r\n".into(),
        };
        let (status, rest) = match script.refuses {
            (refused, status) if refused == method => (status, "\r\n".to_owned()),
            _ => ("200 OK", rest),
        };
        write!(stream, "RTSP/1.0 {status}\r\nCSeq: {cseq}\r\n{rest}").ok()?;
        if method == "PLAY" {
            script.media.iter().try_for_each(|packet| stream.write_all(packet)).ok()?;
            if !script.stays {
                return None;
            }
        }
    }
}

fn interleaved(channel: u8, packet: &[u8]) -> Vec<u8> {
    [&[b'$', channel], &u16::try_from(packet.len()).unwrap().to_be_bytes()[..], packet].concat()
}

fn rtp(sequence: u16, timestamp: u32, marker: bool, payload: &[u8]) -> Vec<u8> {
    let second = if marker { 0xe0 } else { 0x60 };
    let numbers = [&sequence.to_be_bytes()[..], &timestamp.to_be_bytes(), &7_u32.to_be_bytes()].concat();
    interleaved(0, &[&[0x80, second], &numbers[..], payload].concat())
}

fn sender_report(timestamp: u32, utc: UtcTime) -> Vec<u8> {
    let head = [&[0x80, 200, 0, 6][..], &7_u32.to_be_bytes(), &utc.to_ntp().to_be_bytes()].concat();
    interleaved(1, &[&head[..], &timestamp.to_be_bytes(), &[0; 8]].concat())
}

/// A key frame with its parameter sets, then pictures at 25 fps, `count` in all; each of one packet.
fn pictures(first: u32, count: u32) -> Vec<Vec<u8>> {
    let mut packets = vec![rtp(0, first, false, SPS), rtp(1, first, false, PPS)];
    packets.extend((0..count).map(|number| {
        let nal = if number == 0 { IDR } else { P };
        rtp(2 + number as u16, first.wrapping_add(number * 3_600), true, nal)
    }));
    packets
}

struct Running {
    monitor: Arc<SourceMonitor>,
    cursor: Cursor,
    shutdown: Shutdown,
    run: tokio::task::JoinHandle<()>,
}

#[expect(clippy::disallowed_methods, reason = "no pipeline is built for one node")]
fn run(options: RtspOptions) -> Running {
    let source = RtspSource::new(options);
    let clock = Clock::system();
    let monitor = Arc::new(SourceMonitor::new(source.describe(), clock.clone()));
    let (publisher, ring) =
        ring(Limits { max_bytes: 1 << 20, max_duration: Duration::from_secs(60), max_packets: 999 });
    let cursor = ring.cursor(LeakPolicy::Keep, Start::Next);
    let shutdown = Shutdown::new();
    let ctx = SourceContext { clock, shutdown: shutdown.clone(), monitor: monitor.clone() };
    let mut out = Output::new(publisher, Vec::new(), monitor.clone());
    let run = tokio::spawn(async move { source.run(&mut out, &ctx).await.unwrap() });
    Running { monitor, cursor, shutdown, run }
}

impl Running {
    async fn until(&self, mut condition: impl FnMut(&SourceSnapshot) -> bool) -> SourceSnapshot {
        let wait = async {
            loop {
                let snapshot = self.monitor.snapshot();
                if condition(&snapshot) {
                    return snapshot;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        match tokio::time::timeout(Duration::from_secs(20), wait).await {
            Ok(snapshot) => snapshot,
            Err(_) => panic!("{:#?}", self.monitor.snapshot()),
        }
    }

    async fn packets(&mut self, count: usize) -> Vec<Arc<Packet>> {
        let mut packets = Vec::new();
        while packets.len() < count {
            let batch = self.cursor.next_batch(&mut packets, 64);
            tokio::time::timeout(Duration::from_secs(20), batch).await.expect("packets come").unwrap();
        }
        packets
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.run.await.unwrap();
    }
}

fn options(url: Url) -> RtspOptions {
    let reconnect = BackoffLimits { initial: Duration::from_millis(5), max: Duration::from_millis(20) };
    RtspOptions { reconnect, ..RtspOptions::new(url) }
}

#[tokio::test]
async fn every_end_has_its_reason_and_none_tells_the_password() {
    let refuses = |method, status| Script { refuses: (method, status), ..Script::default() };
    let plays = |media| Script { media, stays: true, ..Script::default() };
    let no_key = || (0..9).map(|number| rtp(number, u32::from(number) * 3_600, true, P)).collect();
    for (script, reason, words) in [
        (refuses("DESCRIBE", "401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\""), "unauthorized", "password"),
        (
            refuses("DESCRIBE", "401 Unauthorized\r\nWWW-Authenticate: Digest realm=\"x\", nonce=\"y\""),
            "unauthorized",
            "401",
        ),
        (refuses("DESCRIBE", "404 Not Found"), "not_found", "path"),
        (refuses("SETUP", "461 Unsupported Transport"), "transport", "transport"),
        (refuses("PLAY", "503 Service Unavailable"), "server_error", "503"),
        (refuses("PLAY", "453 Not Enough Bandwidth"), "protocol", "453"),
        (refuses("DESCRIBE", "what"), "protocol", "DESCRIBE"),
        (Script { closes_at: "DESCRIBE", ..Script::default() }, "closed", "closed"),
        (Script { closes_at: "SETUP", ..Script::default() }, "closed", "SETUP"),
        (
            Script { sdp: Some("v=0\r\nm=application 0 RTP/AVP 98\r\na=rtpmap:98 x/90000\r\n"), ..Script::default() },
            "codec",
            "no video",
        ),
        (Script { sdp: Some("v=0\r\nm=video 0 RTP/AVP 26\r\n"), ..Script::default() }, "codec", "jpeg"),
        (Script { media: pictures(0, 5), ..Script::default() }, "closed", "closed"),
        (plays(vec![]), "stalled", "nothing came"),
        (plays(pictures(0, 5)), "stalled", "nothing came"),
        (plays(no_key()), "stalled", "nothing came"),
        (plays(vec![interleaved(0, b"no RTP")]), "protocol", "cannot be understood"),
    ] {
        // Only where silence is the point may a busy machine not be taken for a silent camera.
        let stall_timeout = Duration::from_millis(if reason == "stalled" { 400 } else { 10_000 });
        let running = run(RtspOptions { stall_timeout, ..options(camera(vec![script])) });
        let snapshot = running.until(|snapshot| !snapshot.failures.is_empty()).await;
        let told = snapshot.last_error.clone().unwrap_or_default();
        assert!(snapshot.failures.contains_key(reason), "{reason}: {snapshot:?}");
        assert!(told.contains(words), "{reason}: {told:?} has no {words:?}");
        assert!(!format!("{snapshot:?}").contains("cret"), "{snapshot:?}");
        running.stop().await;
    }
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let running = run(options(Url::parse(&format!("rtsp://{nobody}/")).unwrap()));
    let snapshot = running.until(|snapshot| !snapshot.failures.is_empty()).await;
    assert!(snapshot.failures.contains_key("refused"), "{snapshot:?}");
    running.stop().await;
}

#[tokio::test]
async fn the_timeline_goes_on_after_a_reconnect() {
    let first = Script { media: pictures(u32::MAX - 5_000, 6), ..Script::default() };
    let second = Script { media: pictures(77, 6), stays: true, ..Script::default() };
    let mut running = run(options(camera(vec![first, second])));
    // The sixth of each connection waits for its successor, unless markers have been right three times before.
    let packets = running.packets(12).await;
    assert!(packets.windows(2).all(|pair| pair[0].dts.ticks() < pair[1].dts.ticks()));
    assert!(packets.iter().all(|packet| Arc::ptr_eq(&packet.track, &packets[0].track)), "the parameters are the same");
    let broken: Vec<_> =
        packets.iter().map(|packet| (packet.flags & (Flags::KEY | Flags::DISCONTINUITY)).bits()).collect();
    assert_eq!(broken, [1, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0]);
    let nals: Vec<_> = packets.iter().flat_map(|packet| split_length_prefixed(&packet.payload)).collect();
    assert_eq!((nals.len(), nals[0], nals[1]), (12, IDR, P));
    let ticks: Vec<_> = packets.iter().map(|packet| packet.pts.ticks() - packets[0].pts.ticks()).collect();
    assert_eq!(ticks[..6], [0, 3_600, 7_200, 10_800, 14_400, 18_000], "RTP time wraps without a trace");
    let snapshot = running.until(|snapshot| snapshot.connects == 2).await;
    assert_eq!((snapshot.state, snapshot.discontinuities), (SourceState::Live, 1));
    running.stop().await;
}

/// A connection that is up and of no use is given up under the name of what is wrong, and tried again until the camera
/// is well.
#[tokio::test]
async fn a_useless_connection_is_named_and_made_anew() {
    let spec =
        ClipSpec { width: 160, height: 96, gop_frames: 5, bitrate_bps: 100_000, seconds: 1, ..ClipSpec::default() };
    let clip = Clip::make(spec).unwrap();
    for (fault, reason, words) in [
        (Fault::NoKeyFrames, "no_key_frame", "no key frame came for"),
        (Fault::VideoDead, "video_dead", "audio flows, but no video came for"),
        (Fault::FrozenTimestamps, "timestamps_frozen", "its timestamps stood still for"),
    ] {
        let config = CameraConfig { audio: Audio::Pcma, ..CameraConfig::new(vec![clip.clone()]) };
        let farm = Farm::start(FarmConfig::local(vec![config])).unwrap();
        let camera = &farm.cameras()[0];
        let timeout = Duration::from_millis(1_500);
        let options = options(Url::parse(&camera.url()).unwrap());
        // A camera that showed a key frame once is decodable: for that cause there must have been none.
        let from_the_start = fault == Fault::NoKeyFrames;
        if from_the_start {
            camera.inject(fault, None);
        }
        let running = run(RtspOptions { stall_timeout: timeout, key_frame_timeout: timeout, ..options });
        if !from_the_start {
            running.until(|snapshot| snapshot.state == SourceState::Live).await;
            camera.inject(fault, None);
        }
        let snapshot = running.until(|snapshot| !snapshot.failures.is_empty()).await;
        let told = snapshot.last_error.clone().unwrap_or_default();
        assert_eq!(snapshot.failures.keys().collect::<Vec<_>>(), [&reason], "{snapshot:?}");
        assert!(told.contains(words), "{reason}: {told:?} has no {words:?}");
        assert_ne!(snapshot.state, SourceState::Live, "{reason}");
        camera.end(fault);
        let lives = if from_the_start { 1 } else { 2 };
        let live = |snapshot: &SourceSnapshot| snapshot.state == SourceState::Live && snapshot.connects == lives;
        running.until(live).await;
        assert!(camera.sent().len() >= 2, "{reason}: a session of its own after the fault");
        running.stop().await;
    }
}

#[tokio::test]
async fn sender_reports_tell_the_time_of_day_if_they_may_be_true() {
    let now = Clock::system().utc();
    let second = 1_000_000_000;
    for (what, told, origin) in [
        ("two seconds late", now.plus_nanos(-2 * second), WallOrigin::SenderReport),
        ("a minute late", now.plus_nanos(-60 * second), WallOrigin::Arrival),
        ("in 1970", UtcTime::from_unix_nanos(0), WallOrigin::Arrival),
    ] {
        // The report comes before the first picture, and tells of a moment a second after it.
        let media = [vec![sender_report(90_000, told)], pictures(0, 6)].concat();
        let mut running = run(options(camera(vec![Script { media, stays: true, ..Script::default() }])));
        let packets = running.packets(6).await;
        assert!(packets.iter().all(|packet| packet.wall.origin == origin), "{what}: {:?}", packets[0].wall);
        let expected = if origin == WallOrigin::Arrival { now } else { told.plus_nanos(-second) };
        let error = packets[0].wall.utc.nanos_since(expected).abs();
        assert!(error < if origin == WallOrigin::Arrival { 10 * second } else { 1_000 }, "{what}: {error} ns");
        running.stop().await;
    }
}

#[tokio::test]
async fn quirks_are_told_to_the_monitor() {
    let mut media = pictures(0, 4);
    media.push(rtp(6, 14_400, true, b"\x06\x05\x01\x01"));
    media.push(rtp(9, 18_000, true, P));
    media.extend((0..30_u16).map(|number| rtp(10 + number, 21_600 + u32::from(number) * 3_600, true, P)));
    let running = run(options(camera(vec![Script { media, stays: true, ..Script::default() }])));
    let snapshot = running.until(|snapshot| snapshot.quirks.contains_key("packet_lost")).await;
    let quirk = |name| snapshot.quirks.get(name).copied();
    assert_eq!(quirk("packet_lost"), Some(2));
    assert_eq!(quirk("marker_without_picture"), Some(1));
    assert_eq!(quirk("unit_before_key"), Some(31));
    running.stop().await;
}

#[test]
fn credentials_are_taken_out_of_the_url_and_decoded() {
    for (url, user, password) in [
        ("rtsp://admin:s%40c%3Aret%25@cam/1", "admin", "s@c:ret%"),
        ("rtsp://admin@cam/1", "admin", ""),
        ("rtsp://ad%2:min%zz@cam/1", "ad%2", "min%zz"),
    ] {
        let source = RtspSource::new(RtspOptions::new(Url::parse(url).unwrap()));
        let credentials = source.credentials.as_ref().unwrap();
        assert_eq!((credentials.username.as_str(), credentials.password.as_str()), (user, password));
        assert_eq!(source.describe().url, "rtsp://cam/1");
    }
    assert!(RtspSource::new(RtspOptions::new(Url::parse("rtsp://cam/1").unwrap())).credentials.is_none());
}

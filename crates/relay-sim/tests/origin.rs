//! The HLS origin as its clients see it: a plain one that counts frames, and ffmpeg.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test says so by panicking, in real time"
)]

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    process::{Command, Stdio},
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use relay_sim::{
    Clip, ClipSpec, Coding,
    hls_origin::{Container, HlsOrigin, OriginConfig, OriginEvent, OriginFault, Requests},
    verify,
};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// Half a second, half a second to a group of pictures.
static CLIP: LazyLock<Arc<Clip>> = LazyLock::new(|| {
    Clip::make(ClipSpec { width: 160, height: 96, seconds: 1, gop_frames: 10, ..ClipSpec::small() }).unwrap()
});

fn config() -> OriginConfig {
    OriginConfig::local(vec![CLIP.clone()])
}

/// What came of a request: status, headers in lower case, body, and whether the connection was reset.
struct Got {
    status: u16,
    head: String,
    body: Vec<u8>,
    is_reset: bool,
}

fn get(url: &str, range: &str, patience: Duration) -> Got {
    let (address, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(patience)).unwrap();
    write!(stream, "GET /{path} HTTP/1.1\r\nHost: {address}\r\n{range}\r\n").unwrap();
    let mut bytes = Vec::new();
    let mut chunk = [0; 4_096];
    let mut is_reset = false;
    let started = Instant::now();
    while started.elapsed() < patience {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        let head = end.map(|end| String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase());
        let length = head.as_deref().and_then(|head| {
            head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok())
        });
        if let (Some(end), Some(length)) = (end, length)
            && bytes.len() >= end + 4 + length
        {
            break;
        }
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => bytes.extend_from_slice(&chunk[..count]),
            Err(error) => {
                is_reset = error.kind() == std::io::ErrorKind::ConnectionReset;
                break;
            }
        }
        if bytes.len() > 8 << 20 {
            break;
        }
    }
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(0);
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    Got { status, head, body: bytes.split_off((end + 4).min(bytes.len())), is_reset }
}

fn text(url: &str) -> String {
    String::from_utf8_lossy(&get(url, "", PATIENCE).body).into_owned()
}

/// The URLs of a playlist, in their order.
fn listed(url: &str) -> Vec<String> {
    let base = url.rsplit_once('/').unwrap().0;
    text(url).lines().filter(|line| !line.starts_with('#')).map(|line| format!("{base}/{line}")).collect()
}

fn counters(bytes: &[u8]) -> Vec<u64> {
    verify::stamps_in(bytes).map(|stamp| stamp.counter).collect()
}

#[test]
fn segments_hold_each_frame_once_and_what_was_read_is_known() {
    for (container, parts) in [(Container::Ts, None), (Container::Fmp4, None), (Container::Ts, Some(5))] {
        let origin = HlsOrigin::start(OriginConfig { container, part_frames: parts, ..config() }).unwrap();
        let urls = listed(&origin.url());
        assert_eq!(urls.len(), 6);
        let seen: Vec<u64> = urls.iter().flat_map(|url| counters(&get(url, "", PATIENCE).body)).collect();
        assert_eq!(seen, (seen[0]..seen[0] + 60).collect::<Vec<_>>(), "{container:?}");
        let known = || origin.segments().iter().filter(|log| log.is_served).map(|log| log.first).collect::<Vec<_>>();
        let expected: Vec<u64> = seen.iter().copied().step_by(10).collect();
        let started = Instant::now();
        while known() != expected {
            assert!(started.elapsed() < PATIENCE, "{:?}, read {expected:?}", known());
        }
    }
}

#[test]
fn byte_ranges_are_segments_too() {
    let origin = HlsOrigin::start(OriginConfig { file_segments: Some(4), ..config() }).unwrap();
    let playlist = text(&origin.url());
    let base = origin.url().rsplit_once('/').unwrap().0.to_owned();
    let lines: Vec<&str> = playlist.lines().collect();
    let mut seen = Vec::new();
    for pair in lines.windows(2).filter(|pair| pair[0].starts_with("#EXT-X-BYTERANGE:")) {
        let (length, offset) = pair[0]["#EXT-X-BYTERANGE:".len()..].split_once('@').unwrap();
        let (length, offset): (usize, usize) = (length.parse().unwrap(), offset.parse().unwrap());
        let range = format!("Range: bytes={offset}-{}\r\n", offset + length - 1);
        let got = get(&format!("{base}/{}", pair[1]), &range, PATIENCE);
        assert_eq!((got.status, got.body.len()), (206, length), "{}", got.head);
        seen.extend(counters(&got.body));
    }
    assert_eq!(seen, (seen[0]..seen[0] + 60).collect::<Vec<_>>());
}

/// A fault, whether it is about a segment, and what a client sees of it.
type Row = (OriginFault, bool, fn(&Got) -> bool);

#[test]
fn each_fault_is_seen_by_the_client() {
    let rows: [Row; 13] = [
        (OriginFault::Status(503, Requests::All), false, |got| got.status == 503),
        (OriginFault::Status(404, Requests::Segments), true, |got| got.status == 404),
        (OriginFault::Status(404, Requests::Segments), false, |got| got.status == 200),
        (OriginFault::Stall(Requests::All), true, |got| !got.is_reset && half(got)),
        (OriginFault::Slow, true, |got| !got.is_reset && got.body.len() < 100),
        (OriginFault::Cut, true, |got| got.is_reset && half(got)),
        (OriginFault::Truncate, true, |got| !got.is_reset && half(got)),
        (OriginFault::Short, true, |got| !got.is_reset && !counters(&got.body).is_empty() && !half(got)),
        (OriginFault::Html(Requests::Playlists), false, |got| got.head.contains("text/html")),
        (OriginFault::Close, false, |got| got.status == 200),
        (OriginFault::Redirects, false, |got| got.head.contains("location: /live/v0/index.m3u8?again=1")),
        (OriginFault::Giant, false, |got| got.body.len() > 6 << 20),
        (OriginFault::Vanish(0), false, |got| got.status == 404),
    ];
    let origin = HlsOrigin::start(config()).unwrap();
    for (fault, is_segment, expected) in rows {
        let url = if is_segment { listed(&origin.url()).pop().unwrap() } else { origin.url() };
        origin.inject(fault);
        let got = get(&url, "", Duration::from_secs(2));
        origin.clear();
        assert!(expected(&got), "{fault:?}: {} {} {} bytes", got.is_reset, got.head, got.body.len());
    }
    origin.inject(OriginFault::Refuse);
    let (_, address) = origin.url().split_once("//").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    let address = address.split('/').next().unwrap().to_owned();
    until("the port is closed", || TcpStream::connect(&address).is_err());
    origin.clear();
    until("the port is open", || TcpStream::connect(&address).is_ok());
}

/// Less came than was announced.
fn half(got: &Got) -> bool {
    let length = got.head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
    got.status == 200 && length.is_some_and(|length| got.body.len() == length / 2)
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn playlists_freeze_storm_and_have_gaps() {
    let origin = HlsOrigin::start(OriginConfig { key_segments: Some(3), ..config() }).unwrap();
    origin.inject(OriginFault::Frozen);
    let frozen = text(&origin.url());
    let counter = origin.counter();
    until("segments pass", || origin.counter() > counter + 30);
    assert_eq!(text(&origin.url()), frozen);
    origin.clear();
    until("it goes on", || text(&origin.url()) != frozen);
    origin.inject(OriginFault::Storm);
    origin.inject(OriginFault::Gaps);
    let count = |tag: &str| text(&origin.url()).matches(tag).count();
    until("it storms", || count("#EXT-X-DISCONTINUITY\n") == 6 && count("#EXT-X-DISCONTINUITY-SEQUENCE") == 1);
    until("it has gaps", || count("#EXT-X-GAP\n") == 2);
    let playlist = text(&origin.url());
    let keys: std::collections::BTreeSet<&str> = playlist.split('"').filter(|uri| uri.starts_with("key")).collect();
    assert!((2..=3).contains(&keys.len()), "{playlist}");
}

#[test]
fn signatures_expire_until_the_master_is_read_again() {
    let signed = OriginConfig { has_master: true, is_signed: true, ..config() };
    let origin = HlsOrigin::start(signed).unwrap();
    let first = listed(&origin.url()).pop().unwrap();
    let segment = listed(&first).pop().unwrap();
    assert_eq!(get(&segment, "", PATIENCE).status, 200);
    origin.trigger(OriginEvent::Expire(410));
    assert_eq!((get(&first, "", PATIENCE).status, get(&segment, "", PATIENCE).status), (410, 410));
    let again = listed(&origin.url()).pop().unwrap();
    assert_eq!(get(&again, "", PATIENCE).status, 200);
}

#[test]
fn ffmpeg_plays_it() {
    let runs =
        Command::new("ffmpeg").arg("-version").stdout(Stdio::null()).status().is_ok_and(|status| status.success());
    if !runs {
        println!("SKIPPED: ffmpeg is not installed");
        return assert!(std::env::var_os("CI").is_none(), "ffmpeg must be there in CI");
    }
    let coded = |coding| Clip::make(ClipSpec { coding, seconds: 1, gop_frames: 10, ..ClipSpec::small() }).unwrap();
    let b_frames = coded(Coding::H264HighBFrames);
    let h265 = coded(Coding::H265);
    let rows = [
        ("TS", config()),
        ("B-frames", OriginConfig::local(vec![b_frames.clone()])),
        ("fMP4 with B-frames", OriginConfig { container: Container::Fmp4, ..OriginConfig::local(vec![b_frames]) }),
        ("H.265", OriginConfig { has_audio: false, ..OriginConfig::local(vec![h265]) }),
        ("keys", OriginConfig { key_segments: Some(2), ..config() }),
        ("byte ranges", OriginConfig { file_segments: Some(4), ..config() }),
        ("a master", OriginConfig { has_master: true, ..config() }),
        ("encrypted fMP4", OriginConfig { container: Container::Fmp4, key_segments: Some(2), ..config() }),
    ];
    let dir = std::env::temp_dir().join(format!("relay-sim-origin-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    // All at once: each takes as long as what it plays.
    let playing: Vec<_> = rows
        .map(|(name, config)| {
            let origin = HlsOrigin::start(config).unwrap();
            let file = dir.join(format!("{}.mkv", name.replace(' ', "-")));
            let mut ffmpeg = Command::new("ffmpeg");
            ffmpeg.args(["-nostdin", "-v", "warning", "-i", &origin.url(), "-t", "3", "-c", "copy"]).arg(&file);
            (name, origin, file, ffmpeg.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
        })
        .into_iter()
        .collect();
    for (name, _origin, file, child) in playing {
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let report = verify::search([&file]).unwrap();
        println!("{name}: {report}\n{said}");
        assert!(output.status.success() && report.stamps.len() >= 60, "{name}: {report}\n{said}");
        assert!(report.gaps.is_empty() && report.duplicates.is_empty(), "{name}: {report}\n{said}");
        let mut ffmpeg = Command::new("ffmpeg");
        ffmpeg.args(["-nostdin", "-v", "error", "-xerror", "-i"]).arg(&file).args(["-f", "null", "-"]);
        let output = ffmpeg.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{name}: {said}");
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

//! Against an origin that counts its pictures and fails when told to.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    path::PathBuf,
    process::Command,
    sync::{Arc, LazyLock},
    thread,
    time::Duration,
};

use relay_graph::{Clock, Shutdown, SourceMonitor, SourceSnapshot, SourceState};
use relay_media::{Flags, Kind, Packet, WallOrigin};
use relay_ring::{Cursor, LeakPolicy, Limits, Start, ring};
use relay_sim::{
    Clip, ClipSpec,
    hls_origin::{Container, HlsOrigin, OriginConfig, OriginEvent, OriginFault, Requests},
    verify,
};

use super::*;

/// Half a second to a group of pictures, which is a segment.
static CLIP: LazyLock<Arc<Clip>> = LazyLock::new(|| {
    Clip::make(ClipSpec { width: 160, height: 96, seconds: 1, gop_frames: 10, ..ClipSpec::small() }).unwrap()
});

/// Longer than anything takes here, on a machine three times slower.
const PATIENCE: Duration = Duration::from_secs(40);

struct Running {
    monitor: Arc<SourceMonitor>,
    cursor: Cursor,
    shutdown: Shutdown,
    run: tokio::task::JoinHandle<()>,
}

/// Half a minute is listed: nothing is lost on a slow machine for want of time.
fn config() -> OriginConfig {
    OriginConfig { window: 60, ..OriginConfig::local(vec![CLIP.clone()]) }
}

fn options(origin: &HlsOrigin) -> HlsOptions {
    HlsOptions::new(Url::parse(&origin.url()).unwrap())
}

#[expect(clippy::disallowed_methods, reason = "no pipeline is built for one node")]
fn run(options: HlsOptions) -> Running {
    let source = HlsSource::new(options);
    let clock = Clock::system();
    let monitor = Arc::new(SourceMonitor::new(source.describe(), clock.clone()));
    let limits = Limits { max_bytes: 64 << 20, max_duration: Duration::from_secs(600), max_packets: 100_000 };
    let (publisher, ring) = ring(limits);
    let cursor = ring.cursor(LeakPolicy::Keep, Start::Next);
    let shutdown = Shutdown::new();
    let ctx = SourceContext { clock, shutdown: shutdown.clone(), monitor: monitor.clone() };
    let mut out = Output::new(publisher, Vec::new(), monitor.clone());
    let run = tokio::spawn(async move { source.run(&mut out, &ctx).await.unwrap() });
    Running { monitor, cursor, shutdown, run }
}

impl Running {
    async fn until(&self, what: &str, mut condition: impl FnMut(&SourceSnapshot) -> bool) -> SourceSnapshot {
        let wait = async {
            loop {
                let snapshot = self.monitor.snapshot();
                if condition(&snapshot) {
                    return snapshot;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(snapshot) => snapshot,
            Err(_) => panic!("{what}: {:#?}", self.monitor.snapshot()),
        }
    }

    async fn pictures(&mut self, count: usize) -> Vec<Arc<Packet>> {
        let mut packets: Vec<Arc<Packet>> = Vec::new();
        while packets.iter().filter(|packet| packet.track.kind() == Kind::Video).count() < count {
            let batch = self.cursor.next_batch(&mut packets, 64);
            tokio::time::timeout(PATIENCE, batch).await.expect("packets come").unwrap();
        }
        packets
    }

    /// Stops the source; what is left in the ring.
    async fn stop(mut self) -> Vec<Arc<Packet>> {
        self.shutdown.cancel();
        self.run.await.unwrap();
        let mut packets = Vec::new();
        while self.cursor.next_batch(&mut packets, 64).await.is_ok() {}
        packets
    }
}

/// The counters of the pictures, in order.
fn counters(packets: &[Arc<Packet>]) -> Vec<u64> {
    packets.iter().flat_map(|packet| verify::stamps_in(&packet.payload)).map(|stamp| stamp.counter).collect()
}

fn assert_each_once(packets: &[Arc<Packet>], what: &str) {
    let counters = counters(packets);
    let pictures = packets.iter().filter(|packet| packet.track.kind() == Kind::Video).count();
    assert_eq!(counters.len(), pictures, "{what}: every picture has its counter");
    let first = *counters.first().expect(what);
    assert_eq!(counters, (first..first + counters.len() as u64).collect::<Vec<_>>(), "{what}");
}

fn assert_times(packets: &[Arc<Packet>], what: &str) {
    for kind in [Kind::Video, Kind::Audio] {
        let of: Vec<_> = packets.iter().filter(|packet| packet.track.kind() == kind).collect();
        assert!(of.is_sorted_by(|a, b| a.dts.ticks() < b.dts.ticks()), "{what}: {kind:?}");
        assert!(of.iter().all(|packet| packet.pts.ticks() >= packet.dts.ticks()), "{what}: {kind:?}");
    }
}

/// Sound and pictures lie together to within a segment.
fn assert_in_step(packets: &[Arc<Packet>], what: &str) {
    let last =
        |kind| packets.iter().filter(|packet| packet.track.kind() == kind).map(|packet| packet.dts.nanos()).max();
    let skew = last(Kind::Video).unwrap() - last(Kind::Audio).unwrap();
    assert!(skew.abs() < 700_000_000, "{what}: {skew} ns");
}

#[tokio::test]
async fn live_streams_of_each_kind_come_whole_and_in_step() {
    let two = || OriginConfig { has_master: true, variants: vec![CLIP.clone(), CLIP.clone()], ..config() };
    let checks = [
        ("ts", config()),
        ("fmp4", OriginConfig { container: Container::Fmp4, ..config() }),
        ("keys", OriginConfig { key_segments: Some(2), ..config() }),
        ("ranges", OriginConfig { file_segments: Some(4), ..config() }),
        ("parts", OriginConfig { part_frames: Some(5), ..config() }),
        ("master", two()),
    ];
    let checks = checks.into_iter().map(|(name, config)| async move {
        let origin = HlsOrigin::start(config).unwrap();
        let mut running = run(options(&origin));
        let mut packets = running.pictures(60).await;
        let snapshot = running.until(name, |source| source.state == SourceState::Live).await;
        assert_eq!((snapshot.attempt, snapshot.tracks.len()), (0, 2), "{name}");
        packets.extend(running.stop().await);
        assert_each_once(&packets, name);
        assert_times(&packets, name);
        assert_in_step(&packets, name);
        assert!(packets.iter().all(|packet| packet.wall.origin == WallOrigin::ProgramDateTime), "{name}");
        assert!(packets.iter().all(|packet| !packet.flags.contains(Flags::DISCONTINUITY)), "{name}");
        assert!(packets[0].is_key() || packets[0].track.kind() == Kind::Audio, "{name}");
    });
    futures_util::future::join_all(checks).await;
}

/// What goes wrong, the reason that is counted, and whether the timeline breaks.
const FAULTS: &[(&str, OriginFault, &str)] = &[
    ("503", OriginFault::Status(503, Requests::All), "http_5xx"),
    ("404 segments", OriginFault::Status(404, Requests::Segments), "http_404"),
    ("403", OriginFault::Status(403, Requests::All), "http_403"),
    ("refused", OriginFault::Refuse, "connect"),
    ("frozen", OriginFault::Frozen, "playlist_frozen"),
    ("stalled", OriginFault::Stall(Requests::All), "quiet"),
    ("html", OriginFault::Html(Requests::Playlists), "not_playlist"),
    ("redirects", OriginFault::Redirects, "redirects"),
];

#[tokio::test]
async fn every_fault_is_a_state_a_reason_and_words_and_costs_nothing_that_was_served() {
    let checks = FAULTS.iter().map(|(name, fault, reason)| async move {
        let origin = HlsOrigin::start(config()).unwrap();
        let mut running = run(options(&origin));
        let mut packets = running.pictures(10).await;
        origin.inject(*fault);
        let down = running.until(name, |source| matches!(source.state, SourceState::Backoff | SourceState::Stalled));
        let down = down.await;
        assert!(down.last_error.is_some_and(|text| text.len() > 10 && !text.contains("Error(")), "{name}");
        running.until(name, |source| source.failures.contains_key(reason)).await;
        origin.clear();
        let up = running.until(name, |source| source.state == SourceState::Live && source.connects > 1).await;
        assert_eq!(up.attempt, 0, "{name}");
        packets.extend(running.pictures(80).await);
        packets.extend(running.stop().await);
        assert_each_once(&packets, name);
        assert_times(&packets, name);
        assert_in_step(&packets, name);
    });
    futures_util::future::join_all(checks).await;
}

#[tokio::test]
async fn seams_are_declared_and_the_timeline_goes_on() {
    let checks = [
        ("reset", config(), OriginEvent::Reset { names_again: false }),
        ("same names", config(), OriginEvent::Reset { names_again: true }),
        ("undated", OriginConfig { has_wall: false, ..config() }, OriginEvent::Reset { names_again: false }),
        ("fmp4", OriginConfig { container: Container::Fmp4, ..config() }, OriginEvent::Reset { names_again: false }),
    ];
    let checks = checks.into_iter().map(|(name, config, happens)| async move {
        let origin = HlsOrigin::start(config).unwrap();
        let mut running = run(options(&origin));
        let mut packets = running.pictures(10).await;
        origin.trigger(happens);
        packets.extend(running.pictures(100).await);
        packets.extend(running.stop().await);
        assert_each_once(&packets, name);
        assert_times(&packets, name);
        assert_in_step(&packets, name);
        let seams = packets.iter().filter(|packet| packet.flags.contains(Flags::DISCONTINUITY)).count();
        assert_eq!(seams, 2, "{name}: one of each track");
        let video: Vec<_> = packets.iter().filter(|packet| packet.track.kind() == Kind::Video).collect();
        let longest = video.windows(2).map(|pair| pair[1].dts.nanos() - pair[0].dts.nanos()).max().unwrap();
        // Without dates it is as long as nothing came.
        let limit = if name == "undated" { 5_000_000_000 } else { 700_000_000 };
        assert!(longest < limit, "{name}: {longest} ns between two pictures");
    });
    futures_util::future::join_all(checks).await;
}

#[tokio::test]
async fn a_burst_is_paced_a_full_buffer_stops_the_downloads_and_the_end_lets_all_out() {
    let origin = HlsOrigin::start(config()).unwrap();
    let buffer_time = Some(Duration::from_secs(4));
    let mut running = run(HlsOptions { live_edge: Some(Duration::from_secs(25)), buffer_time, ..options(&origin) });
    let mut packets = running.pictures(20).await;
    // Four seconds, the segment under way, and what was played meanwhile, in half seconds.
    let fetched: BTreeSet<_> = origin.segments().into_iter().filter(|log| log.is_served).map(|log| log.first).collect();
    assert!((6..=40).contains(&fetched.len()), "{fetched:?}");
    let begun = packets.len();
    packets.extend(running.stop().await);
    assert!(packets.len() > begun + 40, "{} of {}", begun, packets.len());
    assert_each_once(&packets, "flushed");
    assert_times(&packets, "flushed");
}

#[tokio::test]
async fn too_few_bytes_for_a_segment_slow_the_download_and_fail_nothing() {
    let origin = HlsOrigin::start(config()).unwrap();
    // About a tenth of a second.
    let mut running = run(HlsOptions { buffer_bytes: 2_000, ..options(&origin) });
    let mut packets = running.pictures(80).await;
    running.until("live", |source| source.state == SourceState::Live).await;
    packets.extend(running.stop().await);
    assert_each_once(&packets, "few bytes");
    assert_times(&packets, "few bytes");
}

#[tokio::test]
async fn headers_and_tokens_are_kept_out_of_sight() {
    let mut url = Url::parse("http://user:s3cret@127.0.0.1:9/live.m3u8?token=s3cret").unwrap();
    let described = HlsSource::new(HlsOptions::new(url.clone())).describe();
    assert!(described.kind == "hls" && !described.url.contains("s3cret"), "{described:?}");
    assert!(described.max_buffer_bytes > 32 << 20);
    url.set_port(Some(1)).unwrap();
    let running = run(HlsOptions::new(url));
    let down = running.until("refused", |source| source.state == SourceState::Backoff).await;
    assert!(!format!("{down:?}").contains("s3cret"), "{down:?}");
    assert!(down.next_try.is_some() && down.attempt > 0);
    running.stop().await;
}

/// Serves a directory, a request a connection; tells its URL.
fn files(dir: PathBuf) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            let Some(request) = lines.next() else { continue };
            lines.take_while(|line| !line.is_empty()).for_each(drop);
            let name = request.split(' ').nth(1).unwrap_or_default().trim_start_matches('/');
            let (status, body) = match fs::read(dir.join(name)) {
                Ok(body) => ("200 OK", body),
                Err(_) => ("404 Not Found", Vec::new()),
            };
            let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
        }
    });
    format!("http://{address}")
}

#[tokio::test]
async fn a_playlist_that_ends_is_played_whole_and_watched_for_more() {
    let dir = std::env::temp_dir().join(format!("relay-nodes-hls-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    let all = "-v error -f lavfi -i testsrc2=size=160x120:rate=25 -f lavfi -i sine=440:sample_rate=44100 -t 6 \
               -c:v libx264 -preset ultrafast -pix_fmt yuv420p -g 25 -bf 2 -c:a aac -f hls -hls_time 1 -hls_playlist_type vod -y a.m3u8";
    assert!(Command::new("ffmpeg").args(all.split_whitespace()).current_dir(&dir).status().unwrap().success());
    let whole = fs::read_to_string(dir.join("a.m3u8")).unwrap();
    // The fifth and sixth are not listed at first.
    let head = whole.split("#EXTINF").take(5).collect::<Vec<_>>().join("#EXTINF");
    fs::write(dir.join("live.m3u8"), format!("{head}#EXT-X-ENDLIST\n").replace("PLAYLIST-TYPE:VOD", "X:Y")).unwrap();
    let url = Url::parse(&format!("{}/live.m3u8", files(dir.clone()))).unwrap();
    let mut running = run(HlsOptions { pace: Pace::Fast, ..HlsOptions::new(url) });
    let mut packets = running.pictures(100).await;
    let ended = running.until("the end", |source| source.state == SourceState::Stalled).await;
    assert!(ended.last_error.is_some_and(|text| text.contains("has ended")));
    assert!(ended.failures.is_empty(), "{:?}", ended.failures);
    fs::write(dir.join("live.m3u8"), whole.replace("PLAYLIST-TYPE:VOD", "X:Y")).unwrap();
    packets.extend(running.pictures(50).await);
    packets.extend(running.stop().await);
    let of = |kind| packets.iter().filter(|packet| packet.track.kind() == kind).collect::<Vec<_>>();
    let (video, audio) = (of(Kind::Video), of(Kind::Audio));
    // 6 s of 44.1 kHz, and what the encoder needs to begin with.
    assert!(video.len() == 150 && (258..=260).contains(&audio.len()), "{} {}", video.len(), audio.len());
    assert!(video.windows(2).all(|pair| pair[1].dts.nanos() - pair[0].dts.nanos() == 40_000_000));
    assert!(video.iter().any(|packet| packet.pts.ticks() > packet.dts.ticks()), "reordered");
    assert_times(&packets, "all of it");
    assert!(packets.iter().all(|packet| packet.wall.origin == WallOrigin::Arrival));
    let _ = fs::remove_dir_all(&dir);
}

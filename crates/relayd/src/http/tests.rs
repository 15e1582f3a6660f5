//! The surface as a client sees it: shapes, status codes, who may come in, ranges, and no secrets anywhere.

use std::{
    collections::BTreeMap,
    fs,
    path::Path as FilePath,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use axum::body::Body;
use bytes::Bytes;
use http_body_util::BodyExt;
use relay_graph::{
    Clock, NodeError, Output, Pipeline, Plan, Sink, SinkContext, SinkDescription, Source, SourceContext,
    SourceDescription, Spec, StreamSpec,
};
use relay_media::{Codec, Flags, Packet, Timebase, Timestamp, Track as MediaTrack, TrackId, Wall, WallOrigin, h264};
use relay_ring::{Cursor, LeakPolicy, Start};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
};
use tower::ServiceExt;
use tracing_subscriber::prelude::*;

use super::*;
use crate::{
    config,
    logging::{Redacting, Secrets},
    nodes,
};

/// A camera that sends two pictures and stays live.
struct Camera;

#[async_trait]
impl Source for Camera {
    fn describe(&self) -> SourceDescription {
        let url = "rtsp://10.0.0.5/ch0".to_owned();
        SourceDescription { kind: "rtsp", url, codecs: None, max_buffer_bytes: 0 }
    }

    async fn run(&self, out: &mut Output, ctx: &SourceContext) -> Result<(), NodeError> {
        ctx.monitor.connecting();
        pictures(&ctx.clock).into_iter().for_each(|picture| out.push(picture));
        ctx.monitor.live();
        ctx.shutdown.cancelled().await;
        Ok(())
    }
}

/// A key frame and a picture after it.
fn pictures(clock: &Clock) -> [Packet; 2] {
    const SPS: &[u8] = &[
        0x67, 0x42, 0xc0, 0x1f, 0xd9, 0x00, 0x50, 0x05, 0xbb, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10, 0x00, 0x00,
        0x03, 0x03, 0x20, 0xf1, 0x83, 0x24, 0x80,
    ];
    let config = h264::Config::parse(SPS, &[0x68, 0xcb, 0x83, 0xcb, 0x20]).expect("parameter sets");
    let track = Arc::new(MediaTrack { id: TrackId(1), codec: Codec::H264(config), timebase: Timebase::VIDEO });
    [(0, Flags::KEY | Flags::DISCONTINUITY), (3_600, Flags::empty())].map(|(ticks, flags)| {
        let time = Timestamp::new(ticks, Timebase::VIDEO);
        Packet {
            track: track.clone(),
            dts: time,
            pts: time,
            duration: None,
            arrival: clock.now(),
            wall: Wall { utc: clock.utc(), origin: WallOrigin::Arrival },
            flags,
            payload: Bytes::from_static(&[0, 0, 0, 1, 0x65]),
        }
    })
}

/// A camera that refuses.
struct Refusing;

#[async_trait]
impl Source for Refusing {
    fn describe(&self) -> SourceDescription {
        let url = "rtsp://10.0.0.6/".to_owned();
        SourceDescription { kind: "rtsp", url, codecs: None, max_buffer_bytes: 0 }
    }

    async fn run(&self, _: &mut Output, ctx: &SourceContext) -> Result<(), NodeError> {
        ctx.monitor.connecting();
        ctx.monitor.backoff("refused", "connection refused", Duration::from_secs(60));
        ctx.shutdown.cancelled().await;
        Ok(())
    }
}

/// A sink that takes everything.
struct Taker;

#[async_trait]
impl Sink for Taker {
    fn describe(&self) -> SinkDescription {
        SinkDescription { kind: "record", policy: LeakPolicy::Keep, start: Start::Next, max_buffer_bytes: 0 }
    }

    async fn run(&self, cursor: &mut Cursor, ctx: &SinkContext) -> Result<(), NodeError> {
        let mut batch = Vec::new();
        ctx.monitor.running();
        while cursor.next_batch(&mut batch, 16).await.is_ok() {
            let bytes = batch.iter().map(|packet| packet.payload.len() as u64).sum();
            ctx.monitor.delivered(batch.len() as u64, bytes);
            batch.clear();
        }
        Ok(())
    }
}

/// A running surface over a live stream `yard`, recorded by `archive` into `dir`, and a dead one, `gate`.
pub(super) struct House {
    pub(super) app: App,
    _pipeline: Pipeline,
}

impl House {
    async fn open(dir: &FilePath, token: Option<&str>) -> Self {
        Self::with_whep(dir, token, Whep::new(Settings::default(), BTreeMap::new(), &Clock::system()), vec![]).await
    }

    /// With streams that may be watched through `whep`: the first of `sinks` serves `yard`, the second `gate`.
    pub(super) async fn with_whep(
        dir: &FilePath,
        token: Option<&str>,
        whep: Whep,
        sinks: Vec<relay_nodes::WebRtcSink>,
    ) -> Self {
        let yard = StreamSpec::new("yard", Box::new(Camera)).sink("archive", Taker);
        let mut streams = vec![yard, StreamSpec::new("gate", Box::new(Refusing))];
        for (stream, sink) in streams.iter_mut().zip(sinks) {
            stream.sinks.push(relay_graph::SinkSpec { name: "webrtc".into(), sink: Box::new(sink) });
        }
        let plan = Plan::try_new(Spec { streams }).expect("a plan");
        let clock = Clock::system();
        let pipeline = Pipeline::start(plan, &clock);
        let recorder = Recorder { stream: "yard".into(), sink: "archive".into(), dir: dir.to_owned() };
        let heartbeat = Heartbeat::start(&clock, &[tokio::runtime::Handle::current()]);
        let token = token.map(|token| Token::new(token).expect("a token"));
        let shown = Shown { pipeline: pipeline.reader(), recorders: vec![recorder], kvs: Vec::new() };
        let app = App::new(shown, token, heartbeat, "shared", whep);
        let settled = || {
            let [yard, gate] = &pipeline.snapshot()[..] else { return false };
            yard.sinks[0].packets_out == 2 && !gate.source.failures.is_empty()
        };
        while !settled() {
            tokio::task::yield_now().await;
        }
        Self { app, _pipeline: pipeline }
    }

    pub(super) async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Body) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.app.router().oneshot(request.body(body).expect("a request")).await.expect("an answer");
        let (parts, body) = response.into_parts();
        let body = body.collect().await.expect("a body").to_bytes();
        Answer { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], Body::empty()).await
    }
}

pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: axum::http::HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// A directory that goes with the test.
pub(super) struct Scratch(pub(super) PathBuf);

impl Scratch {
    pub(super) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("relayd-{name}-{}", std::process::id()));
        fs::create_dir_all(path.join("yard")).expect("a directory");
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[tokio::test]
async fn the_api_tells_streams_in_the_shape_of_the_contract() {
    let scratch = Scratch::new("shape");
    let house = House::open(&scratch.0, None).await;
    let mut streams = house.get("/api/v1/streams").await.json();
    for stream in streams.as_array_mut().expect("a bare array") {
        let since = stream["since"].take();
        assert!(since.as_str().is_some_and(|since| since.len() == 24 && since.ends_with('Z')), "{since}");
        let wait = stream["source"]["next_try_ms"].take();
        assert_eq!(wait.is_number(), stream["state"] == "backoff");
    }
    let expected = json!([
        {
            "name": "yard", "state": "live", "since": null,
            "source": {
                "kind": "rtsp", "url": "rtsp://10.0.0.5/ch0", "state": "live", "connects": 1, "attempt": 0,
                "last_error": null, "next_try_ms": null
            },
            "tracks": [{
                "id": 1, "kind": "video", "codec": "h264", "profile": "Constrained Baseline", "level": "3.1",
                "width": 1280, "height": 720, "fps": 0.0, "bitrate_bps": 0
            }],
            "ring": { "packets": 2, "bytes": 10, "span_ms": 40, "join_points": 1 },
            "sinks": [{
                "name": "archive", "type": "record", "state": "running", "packets_in": 2, "packets_out": 2,
                "packets_dropped": { "cap": 0, "lag": 0, "no_key_frame": 0 }, "packets_buffered": 0, "lag_ms": 0,
                "last_error": null
            }],
            "viewers": 0
        },
        {
            "name": "gate", "state": "backoff", "since": null,
            "source": {
                "kind": "rtsp", "url": "rtsp://10.0.0.6/", "state": "backoff", "connects": 0, "attempt": 1,
                "last_error": "connection refused", "next_try_ms": null
            },
            "tracks": [],
            "ring": { "packets": 0, "bytes": 0, "span_ms": 0, "join_points": 0 },
            "sinks": [],
            "viewers": 0
        }
    ]);
    assert_eq!(streams, expected);
    let mut yard = house.get("/api/v1/streams/yard").await.json();
    yard["since"].take();
    assert_eq!(yard, expected[0]);
}

#[tokio::test]
async fn metrics_have_the_names_of_the_contract() {
    let scratch = Scratch::new("metrics");
    let house = House::open(&scratch.0, None).await;
    let answer = house.get("/metrics").await;
    assert_eq!(answer.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    for line in [
        "relayd_stream_up{stream=\"yard\"} 1",
        "relayd_stream_up{stream=\"gate\"} 0",
        "relayd_source_connects_total{stream=\"yard\"} 1",
        "relayd_source_failures_total{stream=\"gate\",reason=\"refused\"} 1",
        "relayd_source_packets_total{stream=\"yard\",kind=\"video\"} 2",
        "relayd_source_bytes_total{stream=\"yard\",kind=\"video\"} 10",
        "relayd_source_discontinuities_total{stream=\"yard\"} 1",
        "relayd_ring_bytes{stream=\"yard\"} 10",
        "relayd_sink_packets_total{stream=\"yard\",sink=\"archive\"} 2",
        "relayd_sink_dropped_packets_total{stream=\"yard\",sink=\"archive\",reason=\"lag\"} 0",
        "relayd_sink_lag_seconds{stream=\"yard\",sink=\"archive\"} 0.000",
        "relayd_record_bytes_total{stream=\"yard\",sink=\"archive\"} 10",
        "relayd_webrtc_viewers{stream=\"yard\"} 0",
    ] {
        assert!(answer.text().lines().any(|found| found == line), "{line} in\n{}", answer.text());
    }
    for name in
        ["process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds", "process_start_time_seconds"]
    {
        assert!(answer.text().contains(&format!("\n{name} ")), "{name}");
    }
}

#[tokio::test]
async fn requests_that_can_t_be_met_are_problems() {
    let scratch = Scratch::new("problems");
    let house = House::open(&scratch.0, None).await;
    for (method, path, headers, body, status) in [
        ("GET", "/nothing", &[][..], "", 404),
        ("GET", "/api/v1/streams/nobody", &[], "", 404),
        ("GET", "/api/v1/streams/nobody/recordings", &[], "", 404),
        ("GET", "/recordings/yard/2026-11-21T02-30-00.123Z.mp4", &[], "", 404),
        ("GET", "/recordings/yard/..%2f..%2fsecret.mp4", &[], "", 404),
        ("GET", "/recordings/..%2fyard/2026-11-21T02-30-00.123Z.mp4", &[], "", 404),
        ("GET", "/recordings/yard/%00", &[], "", 404),
        ("POST", "/metrics", &[], "", 405),
        ("DELETE", "/api/v1/streams/yard", &[], "", 405),
        ("PUT", "/healthz", &[], "", 405),
        ("GET", "/api/v1/streams/nobody/viewers", &[], "", 404),
        ("GET", "/metrics", &[("content-length", "100000")], "", 413),
    ] {
        let answer = house.ask(method, path, headers, Body::from(body.to_owned())).await;
        assert_eq!(answer.status, status, "{method} {path}");
        assert_eq!(answer.header("content-type"), "application/problem+json", "{method} {path}");
        let problem = answer.json();
        assert_eq!(problem["status"], status, "{method} {path}");
        for key in ["title", "detail"] {
            assert!(problem[key].as_str().is_some_and(|text| !text.is_empty()), "{method} {path}: {problem}");
        }
        assert_eq!(status == 405, !answer.header("allow").is_empty(), "{method} {path}");
    }
}

#[tokio::test]
async fn the_token_opens_everything_but_health() {
    let scratch = Scratch::new("token");
    let house = House::open(&scratch.0, Some("open sesame".replace(' ', "-").as_str())).await;
    for (path, authorization, status) in [
        ("/healthz", None, 200),
        ("/readyz", None, 200),
        ("/", None, 401),
        ("/metrics", None, 401),
        ("/nothing", None, 401),
        ("/api/v1/streams", None, 401),
        ("/api/v1/streams/yard/recordings", None, 401),
        ("/recordings/yard/x.mp4", None, 401),
        ("/api/v1/streams", Some("Bearer open-sesame"), 200),
        ("/api/v1/streams", Some("bearer  open-sesame"), 200),
        ("/api/v1/streams", Some("Bearer open-sesam"), 401),
        ("/api/v1/streams", Some("Bearer open-sesame2"), 401),
        ("/api/v1/streams", Some("Bearer "), 401),
        ("/api/v1/streams", Some("open-sesame"), 401),
        // anyone:open-sesame, anyone:open-sesame2, open-sesame, not base64
        ("/", Some("Basic YW55b25lOm9wZW4tc2VzYW1l"), 200),
        ("/", Some("Basic YW55b25lOm9wZW4tc2VzYW1lMg=="), 401),
        ("/", Some("Basic b3Blbi1zZXNhbWU="), 401),
        ("/", Some("Basic !"), 401),
    ] {
        let headers: Vec<_> = authorization.map(|value| ("authorization", value)).into_iter().collect();
        let answer = house.ask("GET", path, &headers, Body::empty()).await;
        assert_eq!(answer.status, status, "{path} {authorization:?}");
        assert_eq!(answer.headers.get_all("www-authenticate").iter().count(), if status == 401 { 2 } else { 0 });
    }
}

#[tokio::test]
async fn readiness_ends_with_draining_and_health_goes_on() {
    let scratch = Scratch::new("ready");
    let house = House::open(&scratch.0, None).await;
    assert_eq!((house.get("/readyz").await.status, house.get("/healthz").await.status), (200, 200));
    house.app.drain();
    assert_eq!((house.get("/readyz").await.status, house.get("/healthz").await.status), (503, 200));
}

#[tokio::test]
async fn recordings_are_listed_and_played_in_parts() {
    let scratch = Scratch::new("play");
    let house = House::open(&scratch.0, None).await;
    assert_eq!(house.get("/api/v1/streams/gate/recordings").await.json(), json!([]));
    let (older, newer) = ("2026-11-21T02-30-00.123Z.mp4", "2026-11-21T02-31-00.000Z.mp4");
    fs::write(scratch.0.join("yard").join(newer), "0123456789").expect("a file");
    fs::write(scratch.0.join("yard").join(older), "abc").expect("a file");
    fs::write(scratch.0.join("yard").join("notes.txt"), "private").expect("a file");
    let listed = house.get("/api/v1/streams/yard/recordings").await.json();
    assert_eq!(listed.as_array().map(Vec::len), Some(2), "{listed}");
    assert_eq!(listed[0]["name"], older);
    assert_eq!(listed[0]["start"], "2026-11-21T02:30:00.123Z");
    assert_eq!(listed[0]["bytes"], 3);
    assert!(listed[0]["duration_ms"].is_u64());
    assert_eq!(listed[0].as_object().map(serde_json::Map::len), Some(5));
    let newest = house.get("/api/v1/streams/yard/recordings?limit=1").await.json();
    assert_eq!(newest, json!([listed[1]]));
    let url = listed[1]["url"].as_str().expect("a URL");
    for (range, status, body, content_range) in [
        (None, 200, "0123456789", ""),
        (Some("bytes=0-"), 206, "0123456789", "bytes 0-9/10"),
        (Some("bytes=2-4"), 206, "234", "bytes 2-4/10"),
        (Some("bytes=-3"), 206, "789", "bytes 7-9/10"),
        (Some("bytes=10-"), 416, "", "bytes */10"),
        (Some("bytes=junk"), 200, "0123456789", ""),
    ] {
        let headers: Vec<_> = range.map(|range| ("range", range)).into_iter().collect();
        let answer = house.ask("GET", url, &headers, Body::empty()).await;
        assert_eq!((answer.status, answer.header("content-range")), (status, content_range), "{range:?}");
        if status != 416 {
            assert_eq!((answer.text(), answer.header("content-type")), (body, "video/mp4"), "{range:?}");
        }
    }
    let head = house.ask("HEAD", url, &[], Body::empty()).await;
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, "10", 0));
    for (path, status) in [
        ("/recordings/yard/notes.txt", 404),
        ("/recordings/gate/2026-11-21T02-31-00.000Z.mp4", 404),
        ("/recordings/yard/2026-11-21T02-31-00.000Z.mp4?sink=archive", 200),
        ("/recordings/yard/2026-11-21T02-31-00.000Z.mp4?sink=other", 404),
    ] {
        assert_eq!(house.get(path).await.status, status, "{path}");
    }
}

/// Two fragments as a recorder writes them, where the first one ends, and what finishes them.
fn running_file() -> (Vec<u8>, usize, relay_mp4::Finale) {
    let [key, next] = pictures(&Clock::system()).map(Arc::new);
    let (tracks, time) = (vec![key.track.clone()], key.dts);
    let start = relay_mp4::Start { tracks, zero: time, presentation: time, utc: key.wall.utc };
    let (mut muxer, mut file) = relay_mp4::Muxer::new(start).expect("a muxer");
    let ends = [key, next].map(|packet| {
        let payload = packet.payload.clone();
        let samples = vec![relay_mp4::Sample { packet, duration: 3_600 }];
        let fragment = muxer.fragment(&[relay_mp4::Run { track: 0, samples }]).expect("a fragment");
        file.extend([fragment.header(), &payload].concat());
        muxer.commit(fragment);
        file.len()
    });
    (file, ends[0], muxer.finish().expect("an end"))
}

/// Whoever plays a running recording sees a finished one, whatever becomes of the file meanwhile.
#[tokio::test]
async fn a_running_recording_is_played_as_it_was_listed() {
    let scratch = Scratch::new("running");
    let house = House::open(&scratch.0, None).await;
    let (file, first_end, finale) = running_file();
    let path = scratch.0.join("yard/2026-11-21T02-31-00.000Z.mp4");
    let list = async || house.get("/api/v1/streams/yard/recordings").await.json()[0]["url"].clone();
    // The second fragment is being written.
    fs::write(&path, &file[..first_end + 40]).expect("a file");
    let url = list().await.as_str().expect("a URL").to_owned();
    assert!(url.ends_with(&format!("?bytes={}", first_end + 40)), "{url}");
    let shown = house.get(&url).await;
    assert_eq!((shown.status, shown.header("content-type")), (200, "video/mp4"));
    let samples = |bytes: &[u8]| relay_mp4::read_samples(bytes).expect("a recording")[0].samples.len();
    assert_eq!(samples(&shown.body), 1);
    assert!(relay_mp4::finished_moov_offset(&shown.body).is_some_and(|at| at == first_end as u64));
    let len = shown.body.len();
    let finished = [&finale.head, &file[finale.head.len()..], &finale.moov].concat();
    for now in [&file, &finished] {
        fs::write(&path, now).expect("a file");
        // Through the joints of head, file and index; and as if it had been forgotten.
        for (first, last) in [(0, 3), (10, 60), (0, len - 1), (40, first_end), (first_end + 1, len - 1), (len - 1, len)]
        {
            for bytes in [first_end + 40, first_end + 41 + first % 7] {
                let (url, range) = (url.replace(&format!("{}", first_end + 40), &bytes.to_string()), (first, last));
                let headers = [("range", &*format!("bytes={first}-{last}"))];
                let part = house.ask("GET", &url, &headers, Body::empty()).await;
                assert_eq!(part.body, shown.body[first..=last.min(len - 1)], "{range:?}");
                let told = format!("bytes {first}-{}/{len}", last.min(len - 1));
                assert_eq!((part.status, part.header("content-range")), (206, &*told));
            }
        }
    }
    assert!(list().await.as_str().is_some_and(|url| url.ends_with(".mp4")), "a finished one is what it is");
    assert_eq!(samples(&house.get(&list().await.to_string().replace('"', "")).await.body), 2);
    for (query, status) in [("bytes=99999999", 200), ("bytes=0", 200), ("bytes=-1", 400), ("bytes=x", 400)] {
        assert_eq!(house.get(&format!("/recordings/yard/2026-11-21T02-31-00.000Z.mp4?{query}")).await.status, status);
    }
}

#[tokio::test]
async fn the_page_fetches_nothing_from_elsewhere() {
    let scratch = Scratch::new("page");
    let house = House::open(&scratch.0, None).await;
    let page = house.get("/").await;
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    assert!(page.header("content-security-policy").contains("default-src 'none'"));
    for (at, _) in page.text().match_indices("://") {
        let around = &page.text()[at.saturating_sub(5)..at + 20];
        assert!(around.contains("www.w3.org") || around.contains("rtsp://"), "{around}");
    }
}

#[tokio::test]
async fn the_server_bounds_headers_and_stops_in_good_order() {
    let scratch = Scratch::new("server");
    let house = House::open(&scratch.0, None).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("an address");
    let end = Notify::new();
    let server = Server::new(listener, house.app.router()).run(end.notified());
    let client = async {
        let long = format!("GET /healthz HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(20_000));
        let many = format!("GET /healthz HTTP/1.1\r\nHost: x\r\n{}\r\n", "X: y\r\n".repeat(100));
        let good = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_owned();
        for (request, status) in [(long, "431"), (many, "431"), (good, "200"), ("nonsense\r\n\r\n".into(), "400")] {
            let mut stream = TcpStream::connect(addr).await.expect("a connection");
            stream.write_all(request.as_bytes()).await.expect("a request");
            let mut answer = vec![0; 12];
            stream.read_exact(&mut answer).await.expect("an answer");
            assert_eq!(String::from_utf8_lossy(&answer), format!("HTTP/1.1 {status}"));
        }
        // An idle connection does not hold up the end.
        let _idle = TcpStream::connect(addr).await.expect("a connection");
        end.notify_one();
    };
    tokio::join!(server, client);
}

#[tokio::test]
async fn beyond_its_cap_the_server_turns_connections_away() {
    let scratch = Scratch::new("cap");
    let house = House::open(&scratch.0, None).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("an address");
    let end = Notify::new();
    let server = Server::new(listener, house.app.router()).at_most(8).run(end.notified());
    let client = async {
        let mut held = Vec::new();
        for _ in 0..8 {
            held.push(TcpStream::connect(addr).await.expect("a connection"));
        }
        let mut one_more = TcpStream::connect(addr).await.expect("a connection");
        let mut answer = String::new();
        one_more.read_to_string(&mut answer).await.expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        end.notify_one();
    };
    tokio::join!(server, client);
}

/// Where a test's log goes.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().expect("a log")
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// From the configuration to the log, the API, the metrics and the page: no password and no token.
#[tokio::test]
async fn secrets_reach_neither_log_nor_answer() {
    // Nothing listens on port 1: the source fails with its URL at hand.
    let text = "[streams.cam]\nsource = \"rtsp://user:s3cr3t%2Bword@127.0.0.1:1/x\"\n";
    let loaded = config::parse(text, "f").map_err(|error| error.to_string()).expect("a configuration");
    let token = Token::new("t0ken-word");
    let secrets = loaded.config.secrets().into_iter().chain(["t0ken-word".to_owned()]);
    let log = Log::default();
    let out = log.clone();
    let writer = Redacting { secrets: Secrets::new(secrets), out: move || out.clone() };
    let layer = tracing_subscriber::fmt::layer().json().with_writer(writer);
    let _guard = tracing_subscriber::registry().with(layer).set_default();

    tracing::info!(config = ?loaded.config, ?token, "as everything is logged");
    tracing::info!("as someone else logs it: rtsp://user:s3cr3t%2Bword@127.0.0.1:1/x, s3cr3t+word, t0ken-word");
    let clock = Clock::system();
    let pipeline = Pipeline::start(loaded.plan, &clock);
    let heartbeat = Heartbeat::start(&clock, &[]);
    let whep = Whep::new(Settings::default(), BTreeMap::new(), &clock);
    let shown = Shown { pipeline: pipeline.reader(), recorders: nodes::recorders(&loaded.config), kvs: Vec::new() };
    let app = App::new(shown, token, heartbeat, "shared", whep);
    let house = House { app, _pipeline: pipeline };
    while house._pipeline.snapshot()[0].source.last_error.is_none() {
        clock.sleep(Duration::from_millis(5)).await;
    }
    let mut told = String::new();
    for path in ["/", "/metrics", "/api/v1/streams", "/api/v1/streams/cam", "/api/v1/streams/cam/recordings"] {
        for headers in [&[("authorization", "Bearer t0ken-word")][..], &[("authorization", "Bearer wrong")]] {
            told += house.ask("GET", path, headers, Body::empty()).await.text();
        }
    }
    told += &String::from_utf8_lossy(&log.lock());
    assert!(told.contains("as someone else logs it") && told.contains("rtsp://") && told.contains("127.0.0.1:1"));
    for secret in ["s3cr3t", "t0ken-word"] {
        assert!(!told.contains(secret), "{secret} in {told}");
    }
}

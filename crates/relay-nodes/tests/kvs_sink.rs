//! The Kinesis sink on a ring: accounting, what it says of failures, a clean end, and what a spool is for.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use aws_credential_types::Credentials;
use relay_graph::{
    Clock, Shutdown, Sink, SinkContext, SinkMonitor, SinkSnapshot, SinkState, SourceDescription, SourceMonitor,
};
use relay_kvs::{Cloud, SpoolOptions, proto::Settings, proto::SpoolMode};
use relay_media::{Codec, Flags, Packet, Timebase, Timestamp, Track, TrackId, UtcTime, Wall, WallOrigin, h264, opus};
use relay_nodes::{KvsClouds, KvsMonitor, KvsOptions, KvsSink};
use relay_ring::{CloseReason, Limits, Publisher, ring};
use relay_sim::kvs::{Answer, Event, Fault, Service, ServiceConfig};

const LIMITS: Limits = Limits { max_bytes: 4 << 20, max_duration: Duration::from_secs(600), max_packets: 20_000 };
const SPS: &[u8] =
    &[0x67, 0x42, 0xc0, 0x0d, 0xd9, 1, 0x41, 0xfb, 1, 0x10, 0, 0, 3, 0, 0x10, 0, 0, 3, 3, 0x20, 0xf1, 0x42, 0xa4, 0x80];
const PPS: &[u8] = &[0x68, 0xcb, 0x83, 0xcb, 0x20];
/// A fragment is a second of this many pictures.
const PICTURES: u64 = 10;
/// Anything takes less, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(40);

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("relay-kvs-sink-{}-{name}", std::process::id())))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn service() -> Service {
    Service::start(ServiceConfig::new(["yard"])).unwrap()
}

fn spool(dir: &Path) -> SpoolOptions {
    SpoolOptions { dir: dir.to_owned(), max_bytes: 1 << 30, mode: SpoolMode::Overflow }
}

fn tracks() -> [Arc<Track>; 2] {
    let video = Codec::H264(h264::Config::parse(SPS, PPS).unwrap());
    let sound = Codec::Opus(opus::Config { channels: 2 });
    let track = |id, codec| Arc::new(Track { id: TrackId(id), codec, timebase: Timebase::VIDEO });
    [track(1, video), track(2, sound)]
}

/// A stream, and the sink that reads it.
struct Rig {
    publisher: Option<Publisher>,
    clock: Clock,
    start: UtcTime,
    frame: u64,
    tracks: [Arc<Track>; 2],
    shutdown: Shutdown,
    account: Arc<SinkMonitor>,
    kvs: KvsMonitor,
    sink: tokio::task::JoinHandle<()>,
}

impl Rig {
    #[expect(clippy::disallowed_methods, reason = "no supervisor here: the test waits for the task itself")]
    fn new(service: &Service, stream: &str, spool: Option<SpoolOptions>) -> Self {
        let clock = Clock::system();
        let (publisher, ring) = ring(LIMITS);
        let key = Credentials::new("AKIDSIMULATED", "simulated-secret", None, None, "test");
        let clouds = KvsClouds::with_cloud("eu-west-1", Cloud::with_credentials("eu-west-1".into(), key));
        let options = KvsOptions {
            region: Some("eu-west-1".into()),
            endpoint: Some(service.url().parse().unwrap()),
            settings: Settings { fragment: Duration::from_secs(1), ..Settings::new(0) },
            spool,
            ..KvsOptions::new(stream)
        };
        let sink = KvsSink::new(options, clouds);
        let (description, kvs, shutdown) = (sink.describe(), sink.monitor(), Shutdown::new());
        let mut cursor = ring.cursor(description.policy, description.start);
        let account = Arc::new(SinkMonitor::new("cloud".into(), description, cursor.monitor(), clock.clone()));
        let described = SourceDescription { kind: "test", url: "test:".into(), codecs: None, max_buffer_bytes: 0 };
        let source = Arc::new(SourceMonitor::new(described, clock.clone()));
        let monitor = account.clone();
        let ctx = SinkContext { clock: clock.clone(), shutdown: shutdown.clone(), monitor, source };
        let sink = tokio::spawn(async move { sink.run(&mut cursor, &ctx).await.unwrap() });
        let (start, tracks) = (clock.utc(), tracks());
        Self { publisher: Some(publisher), clock, start, frame: 0, tracks, shutdown, account, kvs, sink }
    }

    /// A second of pictures, the first a key frame, each with a sound that the service does not take, as if it had
    /// just been.
    fn second(&mut self) {
        for picture in 0..PICTURES {
            for track in &self.tracks {
                let ms = i64::try_from(self.frame * 1_000 / PICTURES).unwrap();
                let at = Timestamp::new(ms * 90, track.timebase);
                let utc = self.start.plus_nanos(ms * 1_000_000);
                let is_key = picture == 0 && track.id == TrackId(1);
                let packet = Packet {
                    track: track.clone(),
                    dts: at,
                    pts: at,
                    duration: None,
                    arrival: self.clock.now(),
                    wall: Wall { utc, origin: WallOrigin::Arrival },
                    flags: if is_key { Flags::KEY } else { Flags::empty() },
                    payload: vec![7; if is_key { 9_000 } else { 900 }].into(),
                };
                self.publisher.as_mut().unwrap().push(Arc::new(packet));
            }
            self.frame += 1;
        }
    }

    fn seconds(&mut self, seconds: u64) {
        (0..seconds).for_each(|_| self.second());
    }

    fn seen(&self) -> SinkSnapshot {
        let seen = self.account.snapshot();
        let gone = seen.packets_out + seen.packets_dropped.values().sum::<u64>();
        assert_eq!(seen.packets_in, gone + seen.packets_buffered, "{seen:?}");
        seen
    }

    async fn wait(&self, what: &str, is_so: impl Fn(&SinkSnapshot) -> bool) -> SinkSnapshot {
        let waited = tokio::time::timeout(PATIENCE, async {
            loop {
                let seen = self.seen();
                if is_so(&seen) {
                    return seen;
                }
                self.clock.sleep(Duration::from_millis(10)).await;
            }
        });
        waited.await.unwrap_or_else(|_| panic!("{what}: {:?} {:?}", self.seen(), self.kvs.seen()))
    }

    /// Told to stop: the source stops, the ring closes.
    async fn stop(mut self) -> SinkSnapshot {
        self.shutdown.cancel();
        self.end(CloseReason::Stopped).await
    }

    async fn end(&mut self, reason: CloseReason) -> SinkSnapshot {
        self.publisher.take().unwrap().close(reason);
        tokio::time::timeout(PATIENCE, &mut self.sink).await.expect("the sink ends").unwrap();
        self.seen()
    }
}

fn dropped(seen: &SinkSnapshot, reason: &str) -> u64 {
    seen.packets_dropped.get(reason).copied().unwrap_or(0)
}

#[tokio::test]
async fn pictures_are_persisted_and_a_codec_that_is_not_taken_is_told_of() {
    let service = service();
    let mut rig = Rig::new(&service, "yard", None);
    rig.seconds(5);
    let seen = rig.wait("four are persisted", |seen| seen.packets_out >= 4 * PICTURES).await;
    assert_eq!(seen.state, SinkState::Running);
    let told = seen.last_error.unwrap();
    assert!(told.contains("track 2 is opus") && told.contains("AAC"), "{told}");
    let shown = rig.kvs.seen().producer;
    assert_eq!(shown.stats.acks["persisted"], 4);
    assert!(shown.problems().iter().any(|problem| problem.contains("codec")), "{:?}", shown.problems());
    // A source that ends by itself is waited for: the last fragment too.
    let seen = rig.end(CloseReason::Ended).await;
    assert_eq!((seen.packets_out, dropped(&seen, "codec"), seen.packets_buffered), (5 * PICTURES, 5 * PICTURES, 0));
    assert_eq!(service.fragments("yard").len(), 5);
}

#[tokio::test]
async fn a_failure_is_told_with_its_call_and_what_it_needs_and_tried_again() {
    for (fault, state, words) in [
        (
            Fault::Control(Answer::new(403, "AccessDeniedException")),
            SinkState::Paused,
            &["GetDataEndpoint", "403 AccessDeniedException", "kinesisvideo:GetDataEndpoint"][..],
        ),
        (
            Fault::Put(Answer::new(403, "AccessDeniedException")),
            SinkState::Paused,
            &["PutMedia", "403", "kinesisvideo:PutMedia"],
        ),
        (
            Fault::Control(Answer::new(404, "ResourceNotFoundException")),
            SinkState::Paused,
            &["GetDataEndpoint", "404 ResourceNotFoundException", "region"],
        ),
        (Fault::Put(Answer::connection_limit()), SinkState::Backoff, &["PutMedia", "ConnectionLimit", "one producer"]),
        (Fault::Http(Answer::new(500, "")), SinkState::Backoff, &["GetDataEndpoint", "500", "fault"]),
        (Fault::Refuse, SinkState::Backoff, &["GetDataEndpoint", "no connection"]),
    ] {
        let service = service();
        service.inject(fault.clone(), None);
        let mut rig = Rig::new(&service, "yard", None);
        rig.seconds(3);
        let seen = rig.wait(&format!("{fault:?}"), |seen| seen.state == state).await;
        let told = seen.last_error.unwrap();
        for word in words {
            assert!(told.contains(word), "{fault:?}: {word} in {told}");
        }
        assert!(!told.contains("simulated-secret") && !told.contains("Signature"), "{told}");
        assert_eq!((seen.packets_out, rig.kvs.seen().producer.stats.fragments_persisted), (0, 0));
        service.clear();
        let seen = rig.wait("it goes on", |seen| seen.packets_out >= 2 * PICTURES).await;
        assert_eq!((seen.state, dropped(&seen, "window")), (SinkState::Running, 0), "{fault:?}");
    }
}

#[tokio::test]
async fn what_is_not_persisted_when_it_is_told_to_stop_waits_in_the_spool() {
    let (service, scratch) = (service(), Scratch::new("stop"));
    let mut rig = Rig::new(&service, "yard", Some(spool(&scratch.0)));
    rig.seconds(3);
    rig.wait("the service is well", |seen| seen.packets_out >= 2 * PICTURES).await;
    service.inject(Fault::Refuse, None);
    service.trigger(Event::Reset);
    rig.seconds(4);
    let seen = rig.stop().await;
    let kept = dropped(&seen, "spooled");
    assert_eq!((seen.packets_out + kept, seen.packets_buffered), (7 * PICTURES, 0), "{seen:?}");
    assert!(kept >= 4 * PICTURES, "{seen:?}");
    // The next life takes them in as if they had just come.
    service.clear();
    let rig = Rig::new(&service, "yard", Some(spool(&scratch.0)));
    let seen = rig.wait("what was left is persisted", |seen| seen.packets_out >= kept).await;
    assert_eq!((seen.packets_in, seen.packets_out, seen.state), (kept, kept, SinkState::Running));
    assert_eq!(rig.kvs.seen().producer.stats.disk_bytes, 0);
    assert_eq!(rig.stop().await.packets_in, kept);
    let times: std::collections::BTreeSet<u64> =
        service.fragments("yard").iter().map(|fragment| fragment.timecode_ms).collect();
    assert_eq!(times.len(), 7, "{times:?}");
}

#[tokio::test]
async fn without_a_spool_what_is_not_persisted_at_the_end_is_counted_as_lost() {
    let service = service();
    service.inject(Fault::Refuse, None);
    let mut rig = Rig::new(&service, "yard", None);
    rig.seconds(3);
    rig.wait("it has failed", |seen| seen.state == SinkState::Backoff).await;
    let seen = rig.stop().await;
    assert_eq!((dropped(&seen, "stopped"), seen.packets_out, seen.packets_buffered), (3 * PICTURES, 0, 0));
}

#[tokio::test]
async fn a_spool_that_can_t_be_opened_pauses_the_sink_and_names_the_file() {
    let (service, scratch) = (service(), Scratch::new("no-spool"));
    std::fs::write(&scratch.0, "a file where a directory should be").unwrap();
    let mut rig = Rig::new(&service, "yard", Some(spool(&scratch.0)));
    rig.seconds(3);
    let seen = rig.wait("it is paused", |seen| seen.state == SinkState::Paused).await;
    let told = seen.last_error.unwrap();
    assert!(told.contains("spool") && told.contains(scratch.0.to_str().unwrap()), "{told}");
    std::fs::remove_file(&scratch.0).unwrap();
    rig.wait("it goes on", |seen| seen.packets_out >= 2 * PICTURES).await;
    rig.stop().await;
}

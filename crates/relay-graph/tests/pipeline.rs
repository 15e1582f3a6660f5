//! A whole pipeline on simulated time: panics, failures, shutdown, accounting.
#![expect(clippy::panic, clippy::indexing_slicing, reason = "nodes that panic are what is tested")]

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use relay_graph::{
    Clock, NodeError, Output, Pipeline, Plan, Sink, SinkContext, SinkDescription, SinkState, Source, SourceContext,
    SourceDescription, Spec, Stage, StreamSpec, Transform,
};
use relay_media::{Codec, Flags, Packet, Timebase, Timestamp, Track, TrackId, UtcTime, Wall, WallOrigin, g711};
use relay_ring::{Cursor, LeakPolicy, Start};

/// Pushes one packet every 20 ms until told to stop, or until `count`; fails or panics where it is told to.
struct Ticker {
    count: u32,
    trouble: Option<Trouble>,
    runs: Arc<AtomicU32>,
}

#[derive(Clone, Copy)]
enum Trouble {
    Panic { at: u32 },
    Fail { at: u32 },
}

#[async_trait]
impl Source for Ticker {
    fn describe(&self) -> SourceDescription {
        SourceDescription { kind: "ticker", url: "ticker:".into(), codecs: Some(vec!["pcma"]), max_buffer_bytes: 0 }
    }

    async fn run(&self, out: &mut Output, ctx: &SourceContext) -> Result<(), NodeError> {
        let run = self.runs.fetch_add(1, SeqCst);
        let track = Arc::new(Track {
            id: TrackId(1),
            codec: Codec::G711(g711::Config { law: g711::Law::A, sample_rate: 8_000, channels: 1 }),
            timebase: Timebase::new(8_000).expect("not zero"),
        });
        ctx.monitor.connecting();
        for tick in 0..self.count {
            match self.trouble {
                Some(Trouble::Panic { at }) if run == 0 && tick == at => panic!("tick {tick} is unlucky"),
                Some(Trouble::Fail { at }) if run == 0 && tick == at => {
                    return Err(NodeError::new("unlucky", format!("tick {tick} failed")));
                }
                _ => {}
            }
            let time = Timestamp::new(i64::from(tick) * 160, track.timebase);
            out.push(Packet {
                track: track.clone(),
                dts: time,
                pts: time,
                duration: Some(160),
                arrival: ctx.clock.now(),
                wall: Wall { utc: ctx.clock.utc(), origin: WallOrigin::Generated },
                flags: Flags::empty(),
                payload: Bytes::from(vec![tick as u8; 160]),
            });
            ctx.monitor.live();
            tokio::select! {
                () = ctx.shutdown.cancelled() => return Ok(()),
                () = ctx.clock.sleep(Duration::from_millis(20)) => {}
            }
        }
        Ok(())
    }
}

/// Keeps the first byte of every packet; fails or panics once where it is told to; or never reads at all.
#[derive(Default)]
struct Keeper {
    seen: Arc<Mutex<Vec<u8>>>,
    panic_at: Option<u8>,
    hang: bool,
    tripped: AtomicU32,
}

#[async_trait]
impl Sink for Keeper {
    fn describe(&self) -> SinkDescription {
        SinkDescription { kind: "keeper", policy: LeakPolicy::Keep, start: Start::Next, max_buffer_bytes: 0 }
    }

    fn accepts(&self, codec: &str) -> bool {
        codec == "pcma"
    }

    async fn run(&self, cursor: &mut Cursor, ctx: &SinkContext) -> Result<(), NodeError> {
        if self.hang {
            std::future::pending::<()>().await;
        }
        let mut batch = Vec::new();
        while cursor.next_batch(&mut batch, 64).await.is_ok() {
            ctx.monitor.running();
            for packet in batch.drain(..) {
                let byte = packet.payload[0];
                if self.panic_at == Some(byte) && self.tripped.fetch_add(1, SeqCst) == 0 {
                    panic!("cannot keep {byte}");
                }
                self.seen.lock().expect("no holder panics").push(byte);
                ctx.monitor.delivered(1, packet.payload.len() as u64);
            }
        }
        Ok(())
    }
}

fn start(streams: Vec<StreamSpec>) -> Pipeline {
    let clock = Clock::simulated(UtcTime::from_unix_nanos(1_800_000_000_000_000_000));
    Pipeline::start(Plan::try_new(Spec { streams }).expect("the plan is sound"), &clock)
}

fn ticker(count: u32, trouble: Option<Trouble>) -> (Box<Ticker>, Arc<AtomicU32>) {
    let runs = Arc::new(AtomicU32::new(0));
    (Box::new(Ticker { count, trouble, runs: runs.clone() }), runs)
}

#[tokio::test(start_paused = true)]
async fn a_source_that_ends_closes_its_ring_and_its_sinks_finish() {
    let keeper = Keeper::default();
    let seen = keeper.seen.clone();
    let mut pipeline = start(vec![StreamSpec::new("a", ticker(10, None).0).sink("keep", keeper)]);
    pipeline.ended().await;
    assert_eq!(*seen.lock().unwrap(), (0..10).collect::<Vec<u8>>());
    let stream = &pipeline.snapshot()[0];
    assert_eq!((stream.sinks[0].packets_in, stream.sinks[0].packets_out), (10, 10));
    assert_eq!(stream.source.audio.packets, 10);
}

#[tokio::test(start_paused = true)]
async fn a_panic_or_failure_restarts_that_node_only() {
    for trouble in [Trouble::Panic { at: 3 }, Trouble::Fail { at: 3 }] {
        let (calm, unlucky) = (Keeper::default(), Keeper::default());
        let (calm_seen, unlucky_seen) = (calm.seen.clone(), unlucky.seen.clone());
        let (source, runs) = ticker(6, Some(trouble));
        let mut pipeline = start(vec![
            StreamSpec::new("unlucky", source).sink("keep", unlucky),
            StreamSpec::new("calm", ticker(6, None).0).sink("keep", calm),
        ]);
        pipeline.ended().await;
        assert_eq!(runs.load(SeqCst), 2);
        assert_eq!(*unlucky_seen.lock().unwrap(), [0, 1, 2, 0, 1, 2, 3, 4, 5]);
        assert_eq!(*calm_seen.lock().unwrap(), [0, 1, 2, 3, 4, 5]);
        let snapshot = pipeline.snapshot();
        assert_eq!(snapshot[0].source.failures.values().sum::<u64>(), 1);
        assert!(snapshot[0].source.last_error.as_deref().is_some_and(|error| error.contains("tick 3")));
        assert!(snapshot[1].source.failures.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_panics_loses_what_it_held_and_says_so() {
    let keeper = Keeper { panic_at: Some(4), ..Keeper::default() };
    let seen = keeper.seen.clone();
    let calm = Keeper::default();
    let calm_seen = calm.seen.clone();
    let mut pipeline = start(vec![StreamSpec::new("a", ticker(50, None).0).sink("unlucky", keeper).sink("calm", calm)]);
    pipeline.ended().await;
    let sinks = &pipeline.snapshot()[0].sinks;
    assert_eq!(calm_seen.lock().unwrap().len(), 50);
    assert_eq!((sinks[0].packets_in, sinks[0].packets_out), (50, 49));
    assert_eq!(sinks[0].packets_dropped.get("panic"), Some(&1));
    assert_eq!(sinks[0].restarts, 1);
    assert!(!seen.lock().unwrap().contains(&4));
    assert_eq!(sinks[0].state, SinkState::Running);
}

#[tokio::test(start_paused = true)]
async fn in_equals_out_plus_dropped_plus_buffered_at_any_moment() {
    let keeper = Keeper { panic_at: Some(9), ..Keeper::default() };
    let idle = Keeper { hang: true, ..Keeper::default() };
    let pipeline = start(vec![StreamSpec::new("a", ticker(200, None).0).sink("keep", keeper).sink("idle", idle)]);
    for _ in 0..300 {
        tokio::time::sleep(Duration::from_millis(7)).await;
        for sink in &pipeline.snapshot()[0].sinks {
            let dropped: u64 = sink.packets_dropped.values().sum();
            assert_eq!(sink.packets_in, sink.packets_out + dropped + sink.packets_buffered, "{sink:?}");
        }
    }
    let untaken = pipeline.snapshot()[0].sinks[1].packets_buffered;
    let report = pipeline.stop(Duration::from_secs(5)).await;
    assert_eq!(report.aborted, ["a/idle"]);
    assert!(untaken > 100, "the idle sink takes nothing");
    assert!((untaken..=untaken + 1).contains(&report.packets_lost), "{untaken} then {}", report.packets_lost);
}

/// Hands everything to readers that come and go: a new one with every tenth packet, two at most; the older one leaves
/// without having read all. Panics once.
struct FanOut {
    runs: AtomicU32,
}

#[async_trait]
impl Sink for FanOut {
    fn describe(&self) -> SinkDescription {
        SinkDescription { kind: "fan", policy: LeakPolicy::Keep, start: Start::Next, max_buffer_bytes: 0 }
    }

    async fn run(&self, cursor: &mut Cursor, ctx: &SinkContext) -> Result<(), NodeError> {
        let run = self.runs.fetch_add(1, SeqCst);
        ctx.monitor.fans_out();
        let (mut woken, mut batch, mut readers) = (Vec::new(), Vec::new(), Vec::new());
        for turn in 0.. {
            if cursor.next_batch(&mut woken, 1).await.is_err() {
                break;
            }
            assert!(run > 0 || turn != 35, "the unlucky turn");
            if turn % 10 == 0 {
                let reader = cursor.ring().cursor(LeakPolicy::Keep, Start::JoinPoint);
                let key = ctx.monitor.joined(reader.monitor());
                readers.push((reader, key));
            }
            for (reader, _) in &mut readers {
                let taken = reader.try_batch(&mut batch, 1 + turn % 2).unwrap_or(0);
                ctx.monitor.delivered(taken as u64, 0);
            }
            if readers.len() > 2 {
                let (reader, key) = readers.remove(0);
                drop(reader);
                ctx.monitor.left(key);
            }
        }
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_fans_out_accounts_for_all_of_its_readers() {
    let mut pipeline = start(vec![StreamSpec::new("a", ticker(200, None).0).sink("fan", FanOut { runs: 0.into() })]);
    let mut seen = 0;
    for _ in 0..300 {
        tokio::time::sleep(Duration::from_millis(7)).await;
        let sink = &pipeline.snapshot()[0].sinks[0];
        let dropped: u64 = sink.packets_dropped.values().sum();
        assert_eq!(sink.packets_in, sink.packets_out + dropped + sink.packets_buffered, "{sink:?}");
        assert!(sink.packets_in >= seen, "packets came in and are gone: {sink:?}");
        seen = sink.packets_in;
    }
    pipeline.ended().await;
    let sink = &pipeline.snapshot()[0].sinks[0];
    assert_eq!((sink.restarts, sink.packets_buffered), (1, 0), "{sink:?}");
    assert!(sink.packets_out > 200 && sink.packets_dropped.get("left").is_some_and(|left| *left > 0), "{sink:?}");
}

#[tokio::test(start_paused = true)]
async fn stop_drains_the_ring() {
    let keeper = Keeper::default();
    let seen = keeper.seen.clone();
    let pipeline = start(vec![StreamSpec::new("a", ticker(1_000, None).0).sink("keep", keeper)]);
    tokio::time::sleep(Duration::from_millis(205)).await;
    let report = pipeline.stop(Duration::from_secs(5)).await;
    assert_eq!((report.aborted.len(), report.packets_lost), (0, 0));
    assert_eq!(seen.lock().unwrap().len(), 11);
}

/// Doubles every packet.
struct Double;

impl Transform for Double {
    fn start(&self) -> Box<dyn Stage> {
        Box::new(Doubling)
    }
}

struct Doubling;

impl Stage for Doubling {
    fn transform(&mut self, packet: Packet, out: &mut Vec<Packet>) {
        let dts = packet.dts.plus(1);
        out.push(packet.clone());
        out.push(Packet { dts, pts: dts, ..packet });
    }
}

#[tokio::test(start_paused = true)]
async fn transforms_run_inline_and_in_order() {
    let keeper = Keeper::default();
    let seen = keeper.seen.clone();
    let spec = StreamSpec::new("a", ticker(2, None).0).transform(Double).transform(Double).sink("keep", keeper);
    start(vec![spec]).ended().await;
    assert_eq!(*seen.lock().unwrap(), [0, 0, 0, 0, 1, 1, 1, 1]);
}

#[test]
fn a_plan_says_all_that_is_wrong_at_once() {
    struct VideoOnly;
    #[async_trait]
    impl Sink for VideoOnly {
        fn describe(&self) -> SinkDescription {
            SinkDescription { kind: "video", policy: LeakPolicy::Keep, start: Start::Next, max_buffer_bytes: 1_000 }
        }
        fn accepts(&self, codec: &str) -> bool {
            codec == "h264"
        }
        async fn run(&self, _: &mut Cursor, _: &SinkContext) -> Result<(), NodeError> {
            Ok(())
        }
    }
    let mut bad_ring = StreamSpec::new("twice", ticker(1, None).0);
    bad_ring.ring.max_packets = 0;
    let spec = Spec {
        streams: vec![
            StreamSpec::new("../etc", ticker(1, None).0),
            StreamSpec::new("twice", ticker(1, None).0).sink("v", VideoOnly).sink("v", VideoOnly),
            bad_ring,
        ],
    };
    let errors = Plan::try_new(spec).err().expect("it is wrong").to_string();
    for expected in ["\"../etc\" is not a name", "two streams", "two sinks", "pcma", "may hold nothing"] {
        assert!(errors.contains(expected), "{expected:?} is not in:\n{errors}");
    }
    let fine =
        Plan::try_new(Spec { streams: vec![StreamSpec::new("a", ticker(1, None).0).sink("k", Keeper::default())] });
    assert_eq!(fine.expect("sound").memory_max_bytes(), 16 << 20);
}

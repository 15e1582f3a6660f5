//! What the ring costs per delivery: one writer and 1, 8 or 64 readers, all served by one task.
//!
//! One criterion iteration is one delivery of one packet to one reader, the pushes included; so the time printed is
//! nanoseconds per delivery. Allocations are counted first, over a run long enough to have evicted everything twice.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::disallowed_methods, reason = "a benchmark")]

use std::{
    alloc::System,
    future::Future,
    hint::black_box,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion};
use relay_media::{Codec, Flags, Packet, Timebase, Timestamp, Track, TrackId, UtcTime, Wall, WallOrigin, h264};
use relay_ring::{Cursor, LeakPolicy, Limits, Publisher, Start, ring};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const READERS: [usize; 3] = [1, 8, 64];
/// Ten seconds of 30 fps, a key frame every two.
const CLIP: usize = 300;
const GOP: usize = 60;
/// Less than the clip, so that every push evicts.
const LIMITS: Limits = Limits { max_bytes: 64 << 20, max_duration: Duration::from_secs(4), max_packets: 200 };

fn main() {
    println!("{:<32} {:>22}", "ring, steady state", "allocations per packet");
    for readers in READERS {
        for (name, mode) in MODES {
            let allocations = allocations_per_packet(readers, mode);
            println!("{:<32} {allocations:>22}", format!("{readers} readers, {name}"));
            assert!(allocations == 0.0, "the ring must not allocate per packet");
        }
    }
    let mut criterion = Criterion::default().configure_from_args();
    for (name, mode) in MODES {
        let mut group = criterion.benchmark_group(format!("ring/{name}"));
        for readers in READERS {
            group.bench_function(BenchmarkId::from_parameter(readers), |bencher| {
                let mut rig = Rig::new(readers);
                rig.run(mode, 2 * CLIP);
                bencher.iter_custom(|deliveries| rig.time(mode, deliveries));
            });
        }
        group.finish();
    }
    criterion.final_summary();
}

const MODES: [(&str, Mode); 3] = [
    ("one by one", Mode { burst: 1, sleeps: Sleeps::Never }),
    ("by eights", Mode { burst: 8, sleeps: Sleeps::Never }),
    ("one by one, asleep", Mode { burst: 1, sleeps: Sleeps::EveryTime }),
];

/// How packets come and how readers take them.
#[derive(Clone, Copy)]
struct Mode {
    /// Packets pushed before the readers get their turn.
    burst: usize,
    sleeps: Sleeps,
}

/// Whether a reader registers its waker after each turn, and is woken by the next push.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sleeps {
    Never,
    EveryTime,
}

/// Allocations and reallocations while the clip is played ten times, per packet pushed.
fn allocations_per_packet(readers: usize, mode: Mode) -> f64 {
    let mut rig = Rig::new(readers);
    rig.run(mode, 2 * CLIP);
    let region = Region::new(ALLOCATOR);
    rig.run(mode, 10 * CLIP);
    let change = region.change();
    (change.allocations + change.reallocations) as f64 / (10 * CLIP) as f64
}

/// A ring, its writer and its readers.
struct Rig {
    publisher: Publisher,
    cursors: Vec<Cursor>,
    clip: Vec<Arc<Packet>>,
    /// The place in the clip.
    next: usize,
    batch: Vec<Arc<Packet>>,
    waker: Waker,
}

impl Rig {
    fn new(readers: usize) -> Self {
        let (publisher, ring) = ring(LIMITS);
        let live = LeakPolicy::Live { max_lag: Duration::from_secs(2) };
        let policies = [live, LeakPolicy::Keep].into_iter().cycle();
        let cursors = policies.take(readers).map(|policy| ring.cursor(policy, Start::Next)).collect();
        let waker = Waker::from(Arc::new(Awake));
        Self { publisher, cursors, clip: clip(), next: 0, batch: Vec::with_capacity(64), waker }
    }

    /// The time for about `deliveries`, scaled to exactly so many.
    fn time(&mut self, mode: Mode, deliveries: u64) -> Duration {
        let readers = self.cursors.len() as u64;
        let packets = deliveries.div_ceil(readers).next_multiple_of(mode.burst as u64);
        let start = Instant::now();
        self.run(mode, usize::try_from(packets).unwrap());
        start.elapsed().mul_f64(deliveries as f64 / (packets * readers) as f64)
    }

    fn run(&mut self, mode: Mode, packets: usize) {
        for _ in 0..packets / mode.burst {
            for _ in 0..mode.burst {
                let packet = self.clip.get(self.next).unwrap();
                self.publisher.push(Arc::clone(packet));
                self.next = (self.next + 1) % CLIP;
            }
            for cursor in &mut self.cursors {
                let taken = match mode.sleeps {
                    Sleeps::Never => cursor.try_batch(&mut self.batch, 64).unwrap(),
                    Sleeps::EveryTime => drain_and_sleep(cursor, &mut self.batch, &self.waker),
                };
                assert_eq!(taken, mode.burst, "nothing may leak");
                black_box(&self.batch);
                self.batch.clear();
            }
        }
    }
}

/// Takes what is there and registers for the next push, as a task does that serves many cursors.
fn drain_and_sleep(cursor: &mut Cursor, batch: &mut Vec<Arc<Packet>>, waker: &Waker) -> usize {
    let mut context = Context::from_waker(waker);
    while let Poll::Ready(more) = pin!(cursor.next_batch(batch, 64)).poll(&mut context) {
        more.unwrap();
    }
    batch.len()
}

/// The packets, to be pushed over and over: the first one says that the timeline starts anew.
fn clip() -> Vec<Arc<Packet>> {
    // 1280x720, Constrained Baseline.
    let sps = [
        0x67, 0x42, 0xc0, 0x1f, 0xd9, 0x00, 0x50, 0x05, 0xbb, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10, 0x00, 0x00,
        0x03, 0x03, 0x20, 0xf1, 0x83, 0x24, 0x80,
    ];
    let config = h264::Config::parse(&sps, &[0x68, 0xcb, 0x83, 0xcb, 0x20]).unwrap();
    let track = Arc::new(Track { id: TrackId(1), codec: Codec::H264(config), timebase: Timebase::VIDEO });
    let payload = Bytes::from(vec![0; 8_000]);
    let arrival = Instant::now();
    let packet = |i: usize| {
        let dts = Timestamp::new(i as i64 * 3_000, Timebase::VIDEO);
        let mut flags = if i.is_multiple_of(GOP) { Flags::KEY } else { Flags::empty() };
        flags.set(Flags::DISCONTINUITY, i == 0);
        let wall = Wall { utc: UtcTime::from_unix_nanos(0), origin: WallOrigin::Generated };
        let (track, payload) = (Arc::clone(&track), payload.clone());
        Arc::new(Packet { track, dts, pts: dts, duration: None, arrival, wall, flags, payload })
    };
    (0..CLIP).map(packet).collect()
}

/// A task that is awake already: what remains is the ring's own cost of a wake.
struct Awake;

impl Wake for Awake {
    fn wake(self: Arc<Self>) {}

    fn wake_by_ref(self: &Arc<Self>) {}
}

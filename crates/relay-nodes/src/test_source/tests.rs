//! The built-in camera on a simulated clock, through a real encoder, ring and decoder.

use relay_encode::{Decoder, pattern::read_counter};
use relay_graph::{Shutdown, SourceMonitor, SourceState};
use relay_media::Kind;
use relay_ring::{Cursor, LeakPolicy, Limits, Publisher, Start, ring};

use super::*;

/// 2026-11-21T02:30:00Z.
const UTC: UtcTime = UtcTime::from_unix_nanos(1_795_228_200_000_000_000);

fn source(query: &str) -> TestSource {
    TestSource::parse(&Url::parse(&format!("test://pattern?{query}")).unwrap()).unwrap()
}

struct Bench {
    clock: Clock,
    publisher: Option<Publisher>,
    cursor: Cursor,
    monitor: Arc<SourceMonitor>,
}

impl Bench {
    fn new(source: &TestSource) -> Self {
        let clock = Clock::simulated(UTC);
        let limits = Limits { max_bytes: 64 << 20, max_duration: Duration::from_secs(600), max_packets: 100_000 };
        let (publisher, ring) = ring(limits);
        let monitor = Arc::new(SourceMonitor::new(source.describe(), clock.clone()));
        Self { clock, publisher: Some(publisher), cursor: ring.cursor(LeakPolicy::Keep, Start::Next), monitor }
    }

    fn output(&mut self) -> Output {
        Output::new(self.publisher.take().unwrap(), Vec::new(), self.monitor.clone())
    }

    /// Runs the source for `millis` of the simulated clock.
    async fn run(&self, source: &TestSource, out: &mut Output, millis: u64) {
        self.run_during(source, out, self.clock.sleep(Duration::from_millis(millis))).await;
    }

    /// Runs the source until `script` ends.
    async fn run_during(&self, source: &TestSource, out: &mut Output, script: impl Future<Output = ()>) {
        let shutdown = Shutdown::new();
        let ctx =
            SourceContext { clock: self.clock.clone(), shutdown: shutdown.clone(), monitor: self.monitor.clone() };
        let stop = async {
            script.await;
            shutdown.cancel();
        };
        let (result, ()) = tokio::join!(source.run(out, &ctx), stop);
        result.unwrap();
    }

    fn packets(&mut self) -> Vec<Arc<Packet>> {
        let mut packets = Vec::new();
        while let Ok(1..) = self.cursor.try_batch(&mut packets, 1_000) {}
        packets
    }
}

fn of(kind: Kind, packets: &[Arc<Packet>]) -> Vec<Arc<Packet>> {
    packets.iter().filter(|packet| packet.track.kind() == kind).cloned().collect()
}

fn counters(video: &[Arc<Packet>]) -> Vec<u64> {
    video.iter().map(|packet| Stamp::find(&packet.payload).unwrap().counter).collect()
}

#[tokio::test(start_paused = true)]
async fn frames_come_at_their_time_and_decode_to_their_counter() {
    let source = source("size=320x180&bitrate=300k&gop=1s&audio=opus");
    let mut bench = Bench::new(&source);
    let mut out = bench.output();
    bench.run(&source, &mut out, 4_990).await;
    let packets = bench.packets();
    let (video, audio) = (of(Kind::Video, &packets), of(Kind::Audio, &packets));
    assert_eq!((video.len(), audio.len()), (125, 249));

    assert_eq!(counters(&video), (0..125).collect::<Vec<_>>());
    let mut decoder = Decoder::new().unwrap();
    for (index, packet) in video.iter().enumerate() {
        let index = index as i64;
        assert_eq!((packet.dts.ticks(), packet.pts), (index * 3_600, packet.dts));
        assert_eq!((packet.duration, packet.is_key()), (Some(3_600), index % 25 == 0));
        assert_eq!(packet.wall, Wall { utc: UTC.plus_nanos(index * 40_000_000), origin: WallOrigin::Generated });
        assert_eq!(Stamp::find(&packet.payload).unwrap().utc_nanos, packet.wall.utc.unix_nanos());
        assert!(Arc::ptr_eq(&packet.track, &video[0].track));
        let Codec::H264(config) = &packet.track.codec else { panic!("{:?}", packet.track.codec) };
        let picture = decoder.decode(config, &packet.payload).unwrap().unwrap();
        assert_eq!(read_counter(&picture), Some(index as u32));
    }
    for (index, packet) in audio.iter().enumerate() {
        let index = index as i64;
        assert_eq!((packet.dts.ticks(), packet.duration), (index * 960, Some(960)));
        assert_eq!(packet.wall.utc, UTC.plus_nanos(index * 20_000_000));
    }
    let snapshot = bench.monitor.snapshot();
    assert_eq!((snapshot.state, snapshot.connects), (SourceState::Live, 1));
    assert!(snapshot.quirks.is_empty(), "{:?}", snapshot.quirks);
}

#[tokio::test(start_paused = true)]
async fn a_key_frame_comes_when_asked_for_but_not_in_floods() {
    let source = source("size=320x180&bitrate=300k&gop=60s");
    let mut bench = Bench::new(&source);
    let mut out = bench.output();
    let script = async {
        // Between frames: 25 is due at 1 000 ms.
        for (sleep, requests) in [(990, 1), (200, 3), (100, 3), (1_000, 0), (1_000, 1), (20, 1)] {
            bench.clock.sleep(Duration::from_millis(sleep)).await;
            (0..requests).for_each(|_| bench.cursor.request_key_frame());
        }
        bench.clock.sleep(Duration::from_millis(2_000)).await;
    };
    bench.run_during(&source, &mut out, script).await;
    let video = of(Kind::Video, &bench.packets());
    let keys: Vec<Arc<Packet>> = video.into_iter().filter(|packet| packet.is_key()).collect();
    // What is asked for at 1 190 and 1 290 ms comes 500 ms after the last one; 3 290 and 3 310 ms share frame 83.
    assert_eq!(counters(&keys), [0, 25, 38, 83]);
}

#[tokio::test(start_paused = true)]
async fn a_second_run_goes_on_where_the_clock_is() {
    let source = source("size=320x180&bitrate=300k&audio=pcma");
    let mut bench = Bench::new(&source);
    let mut out = bench.output();
    bench.run(&source, &mut out, 100).await;
    bench.clock.sleep(Duration::from_millis(10_000)).await;
    bench.run(&source, &mut out, 110).await;
    let packets = bench.packets();
    let video = of(Kind::Video, &packets);
    assert_eq!(counters(&video), [0, 1, 2, 253, 254, 255]);
    assert_eq!(video[3].dts.ticks(), 253 * 3_600);
    for kind in [Kind::Video, Kind::Audio] {
        let breaks: Vec<bool> =
            of(kind, &packets).iter().map(|packet| packet.flags.contains(Flags::DISCONTINUITY)).collect();
        assert_eq!(breaks.iter().filter(|&&is_break| is_break).count(), 1, "{kind:?}");
        assert!(!breaks[0], "{kind:?}");
    }
    assert!(packets.windows(2).all(|pair| pair[0].arrival <= pair[1].arrival));
}

#[test]
fn a_pace_never_adds_up_rounding_and_skips_only_when_far_behind() {
    let origin = Clock::system().now();
    let millis = |millis| origin + Duration::from_millis(millis);
    for per_second in [1, 7, 25, 30, 60] {
        let pace = Pace::new(origin, per_second, origin);
        assert_eq!(pace.next, 0);
        let last = u64::from(per_second) * 3_600;
        assert_eq!(pace.at(last), origin + Duration::from_secs(3_600));
        assert_eq!(pace.ticks(last, Timebase::VIDEO), 3_600 * 90_000);
    }
    let mut pace = Pace::new(origin, 25, millis(1));
    assert_eq!(pace.next, 1, "frame 0 was due before");
    for (now, skipped, next) in [(40, 0, 1), (540, 0, 1), (541, 12, 13), (600, 0, 13), (1_041, 13, 26)] {
        assert_eq!((pace.skip(millis(now)), pace.next), (skipped, next), "at {now} ms");
    }
}

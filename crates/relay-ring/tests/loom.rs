//! Model check: every interleaving of a writer, its readers and their ends, within loom's bound.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p relay-ring --release --test loom`
#![cfg(loom)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that trips over them has failed")]

use std::{
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use bytes::Bytes;
use loom::{future::block_on, thread};
use relay_media::{Codec, Flags, Packet, Timebase, Timestamp, Track, TrackId, UtcTime, Wall, WallOrigin, h264, opus};
use relay_ring::{CloseReason, Cursor, CursorStats, LeakPolicy, Limits, Start, ring};

const LIVE: LeakPolicy = LeakPolicy::Live { max_lag: Duration::from_secs(1) };
const ROOMY: Limits = Limits { max_bytes: 1_000, max_duration: Duration::from_secs(60), max_packets: 100 };
const TIGHT: Limits = Limits { max_packets: 2, ..ROOMY };

/// Whether a packet is a picture is told by its flags here: sound has none.
fn packet(seq: u32, flags: Flags) -> Arc<Packet> {
    let dts = Timestamp::new(i64::from(seq) * 3_600, Timebase::VIDEO);
    Arc::new(Packet {
        track: Arc::clone(if flags.is_empty() { &AUDIO } else { &VIDEO }),
        dts,
        pts: dts,
        duration: Some(seq),
        arrival: *EPOCH,
        wall: Wall { utc: UtcTime::from_unix_nanos(0), origin: WallOrigin::Generated },
        flags,
        payload: Bytes::from_static(&[0]),
    })
}

/// Waits for everything until the ring is closed; the numbers of what came.
fn read_to_end(cursor: &mut Cursor) -> Vec<u32> {
    let (mut batch, mut seqs) = (Vec::new(), Vec::new());
    while block_on(cursor.next_batch(&mut batch, 2)).is_ok() {
        assert!(!batch.is_empty() && batch.len() <= 2);
        seqs.extend(batch.drain(..).filter_map(|packet| packet.duration));
        assert_balanced(cursor.stats());
    }
    assert!(seqs.is_sorted_by(|a, b| a < b), "{seqs:?}");
    seqs
}

fn assert_balanced(stats: CursorStats) {
    assert_eq!(stats.received, stats.delivered + stats.dropped.total() + stats.buffered, "{stats:?}");
}

#[test]
fn no_wake_is_lost_between_pushes_and_the_close() {
    loom::model(|| {
        let (mut publisher, ring) = ring(ROOMY);
        let mut cursor = ring.cursor(LIVE, Start::Next);
        let writer = thread::spawn(move || {
            (0..3).for_each(|seq| publisher.push(packet(seq, Flags::empty())));
            publisher.close(CloseReason::Ended);
        });
        assert_eq!(read_to_end(&mut cursor), [0, 1, 2]);
        writer.join().unwrap();
    });
}

#[test]
fn a_threshold_loses_no_wake_either() {
    loom::model(|| {
        let (mut publisher, ring) = ring(ROOMY);
        let mut cursor = ring.cursor(LeakPolicy::Keep, Start::Next);
        cursor.set_wake_threshold(2);
        let writer = thread::spawn(move || {
            (0..3).for_each(|seq| publisher.push(packet(seq, Flags::empty())));
        });
        assert_eq!(read_to_end(&mut cursor), [0, 1, 2]);
        writer.join().unwrap();
    });
}

#[test]
fn a_reader_that_waits_for_a_key_frame_is_woken_by_it() {
    loom::model(|| {
        let (mut publisher, ring) = ring(ROOMY);
        let mut cursor = ring.cursor(LeakPolicy::Keep, Start::JoinPoint);
        let writer = thread::spawn(move || {
            publisher.push(packet(0, Flags::DISPOSABLE));
            publisher.push(packet(1, Flags::KEY));
            publisher
        });
        let mut batch = Vec::new();
        block_on(cursor.next_batch(&mut batch, 9)).unwrap();
        assert_eq!(batch.len(), 1);
        assert!(batch[0].is_key());
        assert_balanced(cursor.stats());
        let publisher = writer.join().unwrap();
        assert_eq!(publisher.key_frame_requests(), 1);
    });
}

#[test]
fn two_readers_lose_alone_and_account_for_it() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(|| {
        let (mut publisher, ring) = ring(TIGHT);
        let mut live = ring.cursor(LIVE, Start::JoinPoint);
        let mut keep = ring.cursor(LeakPolicy::Keep, Start::JoinPoint);
        let monitor = live.monitor();
        let writer = thread::spawn(move || {
            publisher.push(packet(0, Flags::KEY));
            publisher.push(packet(1, Flags::empty()));
            publisher.push(packet(2, Flags::KEY));
        });
        let reader = thread::spawn(move || read_to_end(&mut live));
        assert_balanced(monitor.stats());
        assert_eq!(read_to_end(&mut keep).last(), Some(&2));
        assert_balanced(keep.stats());
        assert_eq!(reader.join().unwrap().last(), Some(&2));
        writer.join().unwrap();
        let stats = monitor.stats();
        assert_balanced(stats);
        assert_eq!(stats.received, 3);
    });
}

#[test]
fn cursors_come_and_go_while_packets_are_pushed() {
    loom::model(|| {
        let (mut publisher, ring) = ring(TIGHT);
        let mut cursor = ring.cursor(LIVE, Start::Next);
        let writer = thread::spawn(move || {
            publisher.push(packet(0, Flags::KEY));
            publisher.push(packet(1, Flags::DISPOSABLE));
        });
        let monitor = cursor.monitor();
        let mut batch = Vec::new();
        // Polled once and given up, as `select!` does: its waker stays behind.
        block_on(async {
            let mut next = std::pin::pin!(cursor.next_batch(&mut batch, 9));
            std::future::poll_fn(|context| std::task::Poll::Ready(next.as_mut().poll(context).is_ready())).await
        });
        drop(cursor);
        let last = monitor.stats();
        assert_balanced(last);
        assert_eq!(last.delivered, batch.len() as u64);
        let mut second = ring.cursor(LeakPolicy::Keep, Start::JoinPoint);
        drop(ring);
        let seqs = read_to_end(&mut second);
        assert!(seqs.is_empty() || seqs == [0, 1], "{seqs:?}");
        writer.join().unwrap();
        assert_eq!(monitor.stats(), last);
    });
}

static VIDEO: LazyLock<Arc<Track>> = LazyLock::new(|| {
    // 1280x720, Constrained Baseline.
    let sps = [
        0x67, 0x42, 0xc0, 0x1f, 0xd9, 0x00, 0x50, 0x05, 0xbb, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10, 0x00, 0x00,
        0x03, 0x03, 0x20, 0xf1, 0x83, 0x24, 0x80,
    ];
    let config = h264::Config::parse(&sps, &[0x68, 0xcb, 0x83, 0xcb, 0x20]).unwrap();
    Arc::new(Track { id: TrackId(1), codec: Codec::H264(config), timebase: Timebase::VIDEO })
});

static AUDIO: LazyLock<Arc<Track>> = LazyLock::new(|| {
    let codec = Codec::Opus(opus::Config { channels: 1 });
    Arc::new(Track { id: TrackId(2), codec, timebase: Timebase::VIDEO })
});

#[expect(clippy::disallowed_methods, reason = "an arrival time that nobody reads")]
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

//! One situation per test, in the words of the design.

use std::time::Duration;

use relay_ring::{CloseReason, Closed, Cursor, Dropped, LeakPolicy, Limits, Publisher, Ring, Start, ring};

use crate::stream::{Unit, assert_balanced, disposable, key, limits, picture, seq, sound};

const LIVE: LeakPolicy = LeakPolicy::Live { max_lag: Duration::from_millis(1_000) };
const MINUTE: Duration = Duration::from_secs(60);

struct Stream {
    publisher: Publisher,
    ring: Ring,
    pushed: u64,
}

impl Stream {
    fn new(limits: Limits) -> Self {
        let (publisher, ring) = ring(limits);
        Self { publisher, ring, pushed: 0 }
    }

    fn push(&mut self, units: impl IntoIterator<Item = Unit>) {
        for unit in units {
            self.publisher.push(unit.packet(self.pushed));
            self.pushed += 1;
        }
    }
}

/// The numbers of the packets that are there now.
fn read(cursor: &mut Cursor, max: usize) -> Vec<u64> {
    let mut batch = Vec::new();
    cursor.try_batch(&mut batch, max).expect("the ring is open");
    assert_balanced(cursor.stats());
    batch.iter().map(|packet| seq(packet)).collect()
}

fn dropped(lag: u64, no_key_frame: u64, cap: u64) -> Dropped {
    Dropped { lag, no_key_frame, cap }
}

#[test]
fn a_new_reader_joins_at_the_newest_key_frame() {
    let mut stream = Stream::new(limits(100, MINUTE));
    stream.push([key(0), picture(40), key(80), sound(90), picture(120)]);
    let mut joined = stream.ring.cursor(LIVE, Start::JoinPoint);
    let mut next = stream.ring.cursor(LIVE, Start::Next);
    assert_eq!(joined.stats().lag, Duration::from_millis(40));
    stream.push([picture(160)]);
    assert_eq!(read(&mut joined, 2), [2, 3]);
    assert_eq!(read(&mut joined, 9), [4, 5]);
    assert_eq!(read(&mut next, 9), [5]);
}

#[test]
fn without_a_key_frame_a_reader_asks_for_one_and_waits() {
    let mut stream = Stream::new(limits(100, MINUTE));
    stream.push([picture(0)]);
    let mut reader = stream.ring.cursor(LeakPolicy::Keep, Start::JoinPoint);
    stream.ring.cursor(LeakPolicy::Keep, Start::JoinPoint).request_key_frame();
    assert_eq!(stream.publisher.key_frame_requests(), 1, "requests before the next key frame are one");
    stream.push([picture(40), sound(45)]);
    assert_eq!(read(&mut reader, 9), []);
    stream.push([key(80), sound(85), key(120)]);
    assert_eq!(read(&mut reader, 9), [3, 4, 5]);
    assert_eq!(reader.stats().dropped, dropped(0, 2, 0));
    stream.ring.request_key_frame();
    assert_eq!(stream.publisher.key_frame_requests(), 2);
}

#[test]
fn sound_alone_can_be_joined_anywhere_until_a_picture_comes() {
    let mut stream = Stream::new(limits(100, MINUTE));
    stream.push([sound(0), sound(20)]);
    let mut reader = stream.ring.cursor(LIVE, Start::JoinPoint);
    stream.push([sound(40)]);
    assert_eq!(read(&mut reader, 9), [1, 2]);
    stream.push([sound(60), picture(60), sound(80), key(100), sound(101)]);
    assert_eq!(read(&mut reader, 9), [6, 7], "sound waits for the picture, both start in step");
    assert_eq!(reader.stats().dropped, dropped(0, 3, 0));
    assert_eq!(stream.ring.stats().join_points, 1);
}

#[test]
fn the_newest_gop_stays_whole_past_the_duration_cap() {
    let mut stream = Stream::new(limits(1_000, Duration::from_millis(1_000)));
    stream.push((0..100).map(|i| if i % 75 == 0 { key(i * 40) } else { picture(i * 40) }));
    let stats = stream.ring.stats();
    assert_eq!((stats.packets, stats.join_points, stats.oversized_gops), (25, 1, 0), "nobody needs a finished GOP");
    stream.push((100..150).map(|i| picture(i * 40)));
    assert_eq!(stream.ring.stats().packets, 75, "the newest is not");
    assert_eq!(stream.ring.stats().span, Duration::from_millis(74 * 40));
}

#[test]
fn a_finished_gop_stays_for_the_reader_that_needs_it_and_no_longer() {
    let mut stream = Stream::new(limits(1_000, MINUTE));
    let mut reader = stream.ring.cursor(LeakPolicy::Keep, Start::Next);
    stream.push((0..25).map(|i| if i % 10 == 0 { key(i * 40) } else { picture(i * 40) }));
    assert_eq!(stream.ring.stats().packets, 25, "nothing was read");
    assert_eq!(read(&mut reader, 12).len(), 12);
    stream.push([key(1_000)]);
    assert_eq!(stream.ring.stats().packets, 14, "half of the second group is still unread");
    assert_eq!(read(&mut reader, 99).len(), 14);
    stream.push([key(1_040)]);
    assert_eq!(stream.ring.stats().packets, 1);
    assert_eq!(reader.stats().dropped, dropped(0, 0, 0));
}

#[test]
fn a_gop_larger_than_the_byte_or_count_cap_leaves_no_join_point_and_says_so() {
    let by_count = limits(20, MINUTE);
    let by_bytes = Limits { max_bytes: 200, max_packets: 1_000, max_duration: MINUTE };
    for limits in [by_count, by_bytes] {
        let mut stream = Stream::new(limits);
        stream.push([key(0)].into_iter().chain((1..30).map(|i| picture(i * 40))));
        let stats = stream.ring.stats();
        assert_eq!((stats.packets, stats.join_points, stats.oversized_gops), (20, 0, 1), "{limits:?}");
        let mut late = stream.ring.cursor(LIVE, Start::JoinPoint);
        assert_eq!(read(&mut late, 99), []);
        stream.push([key(1_200)]);
        assert_eq!(read(&mut late, 99), [30]);
    }
}

#[test]
fn a_packet_larger_than_the_byte_cap_never_stays() {
    let mut stream = Stream::new(Limits { max_bytes: 100, max_packets: 100, max_duration: MINUTE });
    let mut reader = stream.ring.cursor(LeakPolicy::Keep, Start::JoinPoint);
    stream.push([key(0).bytes(101)]);
    let stats = stream.ring.stats();
    assert_eq!((stats.packets, stats.bytes, stats.oversized_gops), (0, 0, 1));
    assert_eq!((stats.pushed_packets, stats.pushed_bytes), (1, 101));
    assert_eq!(read(&mut reader, 9), []);
    assert_eq!(reader.stats().dropped, dropped(0, 0, 1));
    stream.push([picture(40), key(80)]);
    assert_eq!(read(&mut reader, 9), [2]);
    assert_eq!(reader.stats().dropped, dropped(0, 1, 1));
}

#[test]
fn a_late_viewer_sheds_then_jumps_to_the_newest_key_frame() {
    let mut stream = Stream::new(limits(1_000, MINUTE));
    stream.push([key(0)]);
    let mut reader = stream.ring.cursor(LIVE, Start::JoinPoint);
    assert_eq!(read(&mut reader, 9), [0]);
    stream.push((1..=10).map(|i| if i % 2 == 0 { picture(i * 80) } else { disposable(i * 80) }));
    assert_eq!(read(&mut reader, 3), [2, 4, 6], "720 ms late: sheds");
    assert_eq!(read(&mut reader, 9), [7, 8, 9, 10], "240 ms late: does not");
    assert_eq!(reader.stats().dropped, dropped(3, 0, 0));
    stream.push([picture(880), key(960), sound(961), picture(1_040), key(2_000), picture(2_040), sound(2_041)]);
    assert_eq!(read(&mut reader, 9), [15, 16, 17], "1160 ms late: jumps, the sound with the picture");
    assert_eq!(reader.stats().dropped, dropped(7, 0, 0));
}

#[test]
fn a_late_viewer_with_nothing_to_jump_to_waits_for_the_next_key_frame() {
    let mut stream = Stream::new(limits(1_000, MINUTE));
    stream.push([key(0)]);
    let mut reader = stream.ring.cursor(LIVE, Start::JoinPoint);
    assert_eq!(read(&mut reader, 9), [0]);
    stream.push((1..=30).map(|i| picture(i * 40)));
    assert_eq!(stream.publisher.key_frame_requests(), 0);
    assert_eq!(read(&mut reader, 9), []);
    assert_eq!(stream.publisher.key_frame_requests(), 1);
    stream.push([picture(1_240), key(1_280), picture(1_320)]);
    assert_eq!(read(&mut reader, 9), [32, 33]);
    assert_eq!(reader.stats().dropped, dropped(0, 31, 0));
}

#[test]
fn joining_far_behind_in_a_long_gop_is_not_being_late() {
    let mut stream = Stream::new(limits(1_000, Duration::from_secs(2)));
    stream.push([key(0)].into_iter().chain((1..=200).map(|i| picture(i * 40))));
    let mut reader = stream.ring.cursor(LIVE, Start::JoinPoint);
    let mut stuck = stream.ring.cursor(LIVE, Start::JoinPoint);
    assert_eq!(read(&mut reader, 1_000).len(), 201, "8 s behind, but there is nothing newer to show");
    assert_eq!(read(&mut stuck, 10).len(), 10);
    stream.push((201..=240).map(|i| picture(i * 40)));
    assert_eq!(read(&mut stuck, 10), [], "more than a second behind where it joined");
    assert_eq!(read(&mut reader, 10), [], "it had caught up, and is 1.6 s behind");
}

#[test]
fn a_joiner_that_has_all_but_caught_up_is_not_late_with_the_next_packet() {
    let mut stream = Stream::new(limits(1_000, MINUTE));
    stream.push([key(0)].into_iter().chain((1..=80).map(|i| picture(i * 40))));
    let mut reader = stream.ring.cursor(LIVE, Start::JoinPoint);
    assert_eq!(read(&mut reader, 55).len(), 55, "25 pictures are left: one second");
    stream.push([picture(3_240)]);
    assert_eq!(read(&mut reader, 1), [55]);
    assert_eq!(read(&mut reader, 30).len(), 26);
    assert_eq!(reader.stats().dropped, dropped(0, 0, 0));
}

#[test]
fn eviction_costs_a_recorder_up_to_the_next_retained_key_frame_and_a_viewer_up_to_the_newest() {
    let gops = |from: i64| (from..from + 30).map(|i| if i % 10 == 0 { key(i * 40) } else { picture(i * 40) });
    let mut stream = Stream::new(limits(25, MINUTE));
    stream.push([key(0)]);
    let mut recorder = stream.ring.cursor(LeakPolicy::Keep, Start::JoinPoint);
    let mut viewer = stream.ring.cursor(LeakPolicy::Live { max_lag: MINUTE }, Start::JoinPoint);
    let never_asked = viewer.monitor();
    stream.push(gops(10));
    assert_eq!(recorder.stats().dropped, dropped(0, 5, 6));
    assert_eq!(never_asked.stats().dropped, dropped(15, 0, 6));
    assert_eq!(read(&mut recorder, 2), [11, 12]);
    assert_eq!(read(&mut viewer, 2), [21, 22]);
}

#[test]
fn time_in_which_the_source_was_away_is_not_media_time() {
    let mut stream = Stream::new(limits(100, Duration::from_secs(10)));
    let mut recorder = stream.ring.cursor(LeakPolicy::Keep, Start::JoinPoint);
    stream.push([key(0), sound(10), picture(40)]);
    stream.push([sound(60_000).after_a_break(), key(60_010).after_a_break(), picture(60_050)]);
    assert_eq!(stream.ring.stats().span, Duration::from_millis(80));
    assert_eq!(read(&mut recorder, 9), [0, 1, 2, 3, 4, 5], "the minute of outage evicts nothing");
}

#[test]
fn a_closed_ring_is_drained_and_then_says_why() {
    for reason in [CloseReason::Ended, CloseReason::Stopped, CloseReason::Abandoned] {
        let mut stream = Stream::new(limits(100, MINUTE));
        let mut early = stream.ring.cursor(LIVE, Start::Next);
        stream.push([key(0), picture(40)]);
        let ring = stream.ring.clone();
        match reason {
            CloseReason::Abandoned => drop(stream.publisher),
            _ => stream.publisher.close(reason),
        }
        let mut late = ring.cursor(LeakPolicy::Keep, Start::JoinPoint);
        for cursor in [&mut early, &mut late] {
            assert_eq!(read(cursor, 1), [0]);
            assert_eq!(read(cursor, 9), [1]);
            assert_eq!(cursor.try_batch(&mut Vec::new(), 9), Err(Closed { reason }));
        }
        assert_eq!(ring.cursor(LIVE, Start::Next).try_batch(&mut Vec::new(), 9), Err(Closed { reason }));
    }
}

#[test]
fn a_monitor_keeps_the_last_account_of_a_cursor_that_is_gone() {
    let mut stream = Stream::new(limits(100, MINUTE));
    stream.push([key(0), picture(40)]);
    let mut reader = stream.ring.cursor(LIVE, Start::JoinPoint);
    let monitor = reader.monitor();
    assert_eq!(read(&mut reader, 1), [0]);
    let last = reader.stats();
    drop(reader);
    stream.push([picture(80)]);
    assert_eq!(monitor.stats(), last);
    let fresh = stream.ring.cursor(LIVE, Start::Next);
    assert_eq!((fresh.stats().received, monitor.stats()), (0, last), "the seat is not given away meanwhile");
}

#[test]
fn a_reader_that_does_not_catch_up_is_excused_until_told_otherwise() {
    let mut stream = Stream::new(limits(1_000, MINUTE));
    stream.push((0..100).map(|i| if i == 0 { key(0) } else { picture(i * 40) }));
    let mut joined = stream.ring.cursor(LIVE, Start::JoinPoint);
    // Four seconds behind, where it joined: reading as fast as is pushed, it may stay there …
    for i in 100..110 {
        stream.push([picture(i * 40)]);
        assert_eq!(read(&mut joined, 1).len(), 1);
    }
    // … until its time is up. Then it waits for the next key frame like anybody who is late.
    joined.end_catch_up();
    assert_eq!(read(&mut joined, 1), []);
    assert_eq!(joined.stats().dropped, dropped(0, 100, 0));
    stream.push([key(4_400)]);
    assert_eq!(read(&mut joined, 9), [110]);
}

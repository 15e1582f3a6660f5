//! What a leak does to the picture: design.md §3's case, 30 fps, a key frame every 60, a link that carries 95 %.

use std::time::Duration;

use relay_media::Packet;
use relay_ring::{LeakPolicy, Start, ring};

use crate::stream::{assert_balanced, key, limits, picture, seq};

/// Bytes of a key frame and of any other picture.
const KEY_BYTES: usize = 4_000;
const PICTURE_BYTES: usize = 500;
const GOP: u64 = 60;
const FRAMES: u64 = 30 * 600;

/// How many pictures a decoder can show: a key frame, and every picture that follows the one before it.
fn decodable(delivered: &[(u64, bool)]) -> u64 {
    let (mut shown, mut last) = (0, None);
    for (seq, is_key) in delivered {
        if *is_key || last.is_some_and(|last| last + 1 == *seq) {
            shown += 1;
            last = Some(*seq);
        } else {
            last = None;
        }
    }
    shown
}

/// Sends ten minutes over a link that carries `percent` of them, and returns the percentage of pictures shown.
fn shown_percent(policy: LeakPolicy, percent: usize) -> u64 {
    let (mut publisher, ring) = ring(limits(1_000, Duration::from_secs(5)));
    let mut cursor = ring.cursor(policy, Start::JoinPoint);
    let link_bytes = (KEY_BYTES + PICTURE_BYTES * (GOP as usize - 1)) * percent / (GOP as usize * 100);
    let (mut credit, mut batch, mut delivered) = (0, Vec::new(), Vec::new());
    for frame in 0..FRAMES {
        let ms = i64::try_from(frame * 1_000 / 30).unwrap();
        let unit = if frame % GOP == 0 { key(ms).bytes(KEY_BYTES) } else { picture(ms).bytes(PICTURE_BYTES) };
        publisher.push(unit.packet(frame));
        // The link takes the next packet when it has sent the one before.
        credit += i64::try_from(link_bytes).unwrap();
        while credit > 0 && cursor.try_batch(&mut batch, 1).unwrap() > 0 {
            let packet: &Packet = batch.last().unwrap();
            credit -= i64::try_from(packet.payload.len()).unwrap();
            delivered.push((seq(packet), packet.is_key()));
            batch.clear();
        }
        credit = credit.min(i64::try_from(link_bytes).unwrap());
        assert_balanced(cursor.stats());
    }
    let stats = cursor.stats();
    let shown = decodable(&delivered);
    assert!(stats.delivered - shown <= GOP, "nearly everything sent could be shown: {shown} of {stats:?}");
    shown * 100 / FRAMES
}

#[test]
fn a_viewer_on_a_link_that_is_five_percent_too_slow_keeps_its_picture() {
    // A tolerance of a quarter GOP often finds no newer key frame to jump to and pays with the rest of the GOP.
    for (max_lag_ms, at_least) in [(500, 75), (1_000, 86), (2_000, 86), (4_000, 90)] {
        let shown = shown_percent(LeakPolicy::Live { max_lag: Duration::from_millis(max_lag_ms) }, 95);
        println!("max_lag {max_lag_ms} ms: {shown} % shown");
        assert!(shown >= at_least, "max_lag {max_lag_ms} ms: {shown} % shown");
    }
}

#[test]
fn a_link_that_is_fast_enough_loses_nothing() {
    for policy in [LeakPolicy::Live { max_lag: Duration::from_millis(1_000) }, LeakPolicy::Keep] {
        assert_eq!(shown_percent(policy, 102), 100);
    }
}

#[test]
fn a_recorder_that_is_too_slow_loses_at_the_cap_and_stays_decodable() {
    let shown = shown_percent(LeakPolicy::Keep, 95);
    assert!(shown > 85, "{shown} % shown");
}

//! Where fragments begin and end, and what becomes of packets that fit into none.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use relay_kvs::proto::{DropReason, Fragment, Fragmenter};
use relay_media::{
    Codec, Flags, Packet, Timebase, Timestamp, Track, TrackId, UtcTime, Wall, WallOrigin, aac, h264, opus,
};
use relay_mkv::{Event, Sessions, read_all};

const SPS: &[u8] =
    &[0x67, 0x42, 0xc0, 0x0d, 0xd9, 1, 0x41, 0xfb, 1, 0x10, 0, 0, 3, 0, 0x10, 0, 0, 3, 3, 0x20, 0xf1, 0x42, 0xa4, 0x80];
const EPOCH_MS: i64 = 1_795_219_200_000;

struct Bench {
    start: Instant,
    fragmenter: Fragmenter,
    tracks: Vec<Arc<Track>>,
}

#[expect(clippy::disallowed_methods, reason = "any instant does")]
fn bench(high_water_ms: u64) -> Bench {
    let video = || Codec::H264(h264::Config::parse(SPS, &[0x68, 0xcb, 0x83, 0xcb, 0x20]).unwrap());
    let sound = || Codec::Aac(aac::Config::new(aac::LOW_COMPLEXITY, 48_000, 2).unwrap());
    let codecs = [video(), sound(), sound(), sound(), Codec::Opus(opus::Config { channels: 2 }), video()];
    let track = |(place, codec): (usize, Codec)| {
        Arc::new(Track { id: TrackId(place as u32 + 1), codec, timebase: Timebase::VIDEO })
    };
    Bench {
        start: Instant::now(),
        fragmenter: Fragmenter::new(Duration::from_secs(2), 1_000_000, high_water_ms, 7),
        tracks: codecs.into_iter().enumerate().map(track).collect(),
    }
}

impl Bench {
    /// A packet that is decoded and shown at these milliseconds, and comes when it is decoded.
    fn push(&mut self, track: usize, dts_ms: i64, pts_ms: i64, is_key: bool, bytes: usize) {
        let time = |ms: i64| Timestamp::new(ms * 90, Timebase::VIDEO);
        let arrival = self.start + Duration::from_millis(dts_ms as u64);
        let utc = UtcTime::from_unix_nanos((EPOCH_MS + pts_ms) * 1_000_000);
        let packet = Packet {
            track: self.tracks[track].clone(),
            dts: time(dts_ms),
            pts: time(pts_ms),
            duration: None,
            arrival,
            wall: Wall { utc, origin: WallOrigin::Arrival },
            flags: if is_key { Flags::KEY } else { Flags::empty() },
            payload: vec![0; bytes].into(),
        };
        self.fragmenter.push(arrival, Arc::new(packet));
    }

    fn fragments(&mut self) -> Vec<Arc<Fragment>> {
        std::iter::from_fn(|| self.fragmenter.poll()).collect()
    }
}

/// Track and milliseconds of each block, of the whole fragment read strictly.
fn blocks(fragment: &Fragment) -> Vec<(u64, i64)> {
    let bytes = [fragment.header.to_vec(), fragment.body.concat()].concat();
    let events = read_all(&bytes, Sessions::One).unwrap();
    assert!(matches!(events.last(), Some(Event::Tags(_))), "it ends with a tag");
    let blocks = events.into_iter().filter_map(|event| match event {
        Event::Block(block) => Some((block.track, block.timecode - EPOCH_MS)),
        _ => None,
    });
    blocks.collect()
}

#[test]
fn pictures_that_lead_an_open_gop_stay_with_their_key_frame() {
    let mut bench = bench(0);
    // Decoded 40 ms apart; from 2 s on a key frame shown 120 ms later, two pictures that lead it, and one behind.
    for frame in 0..50 {
        bench.push(0, frame * 40, frame * 40 + 40, frame == 0, 100);
        bench.push(1, frame * 40, frame * 40 + 3, false, 10);
    }
    for (dts, pts, is_key) in [(2_000, 2_160, true), (2_040, 2_080, false), (2_080, 2_120, false)] {
        bench.push(0, dts, pts, is_key, 100);
        bench.push(1, dts, dts + 3, false, 10);
        assert!(bench.fragments().is_empty(), "what leads may still come");
    }
    for dts in [2_120, 2_160] {
        bench.push(0, dts, dts + 80, false, 100);
        bench.push(1, dts, dts + 3, false, 10);
    }
    let fragments = bench.fragments();
    let first = blocks(&fragments[0]);
    assert_eq!((fragments.len(), first.len()), (1, 50 + 52));
    // Sound to the first picture shown, 2 080 ms.
    assert_eq!(first.iter().filter(|(track, _)| *track == 2).map(|(_, ms)| *ms).max(), Some(2_043));
    bench.fragmenter.finish();
    let second = blocks(&bench.fragments()[0]);
    let pictures: Vec<_> = second.iter().filter(|(track, _)| *track == 1).map(|(_, ms)| *ms).collect();
    assert_eq!(pictures, [2_160, 2_080, 2_120, 2_200, 2_240]);
}

#[test]
fn cuts_are_at_key_frames_by_the_target() {
    // The distance of key frames, and the lengths of fragments in milliseconds.
    for (gop, lengths) in
        [(500, 2_000), (1_000, 2_000), (1_500, 3_000), (2_000, 2_000), (5_000, 5_000), (10_000, 10_000)]
    {
        let mut bench = bench(0);
        for frame in 0..800 {
            bench.push(0, frame * 40, frame * 40, frame * 40 % gop == 0, 100);
        }
        let fragments = bench.fragments();
        let starts: Vec<_> = fragments.iter().map(|fragment| fragment.timecode_ms as i64 - EPOCH_MS).collect();
        assert!(starts.windows(2).all(|pair| pair[1] - pair[0] == lengths), "{gop}: {starts:?}");
        assert!(starts.len() >= 3 && bench.fragmenter.take_drops().is_empty());
    }
}

#[test]
fn packets_that_fit_nowhere_are_counted() {
    for (track, is_key, bytes, reason) in [
        (4, false, 10, Some(DropReason::Codec)),
        (5, true, 10, Some(DropReason::Tracks)),
        (3, false, 10, Some(DropReason::Tracks)),
        (0, false, 0, Some(DropReason::PacketSize)),
        (0, true, 1_000_001, Some(DropReason::PacketSize)),
        (0, false, 10, None),
        (1, false, 10, None),
    ] {
        let mut bench = bench(0);
        bench.push(0, 0, 0, false, 10);
        assert_eq!(bench.fragmenter.take_drops().into_iter().collect::<Vec<_>>(), [(DropReason::NoKeyFrame, 1)]);
        bench.push(0, 40, 40, true, 10);
        bench.push(1, 40, 40, false, 10);
        bench.push(2, 40, 40, false, 10);
        bench.push(track, 80, 80, is_key, bytes);
        let drops: Vec<_> = bench.fragmenter.take_drops().into_iter().collect();
        assert_eq!(drops, reason.map(|reason| (reason, 1)).into_iter().collect::<Vec<_>>());
        bench.fragmenter.finish();
        let packets: u32 = bench.fragments().iter().map(|fragment| fragment.packets).sum();
        assert_eq!(
            (packets, bench.fragmenter.packets(), bench.fragmenter.bytes()),
            (3 + u32::from(reason.is_none()), 0, 0)
        );
    }
}

#[test]
fn sound_alone_is_cut_too() {
    let mut bench = bench(0);
    for frame in 0..300 {
        bench.push(1, frame * 40, frame * 40, false, 10);
    }
    let fragments = bench.fragments();
    assert_eq!(fragments.len(), 5);
    assert!(fragments.iter().all(|fragment| fragment.packets == 50));
    // Pictures come: sound before them is a fragment of its own, and the tracks are two.
    for frame in 300..400 {
        bench.push(0, frame * 40, frame * 40, frame % 50 == 0, 10);
        bench.push(1, frame * 40, frame * 40, false, 10);
    }
    bench.fragmenter.finish();
    let fragments = bench.fragments();
    assert_eq!(fragments.iter().map(|fragment| fragment.packets).collect::<Vec<_>>(), [50, 100, 100]);
    assert!(fragments[0].header != fragments[1].header && fragments[1].header == fragments[2].header);
}

#[test]
fn more_than_a_fragment_may_hold_is_cut_where_it_can_be() {
    let mut bench = bench(0);
    // 100 kB each: ten are the limit here. Key frames each 400 ms, then none.
    for frame in 0..60 {
        bench.push(0, frame * 40, frame * 40, frame % 10 == 0 && frame < 30, 100_000);
        assert!(bench.fragmenter.bytes() <= 1_000_000);
    }
    bench.fragmenter.finish();
    let packets: Vec<_> = bench.fragments().iter().map(|fragment| fragment.packets).collect();
    assert_eq!(packets, [10, 10, 10]);
    assert_eq!(bench.fragmenter.take_drops()[&DropReason::FragmentTooLarge], 30);
    assert_eq!(bench.fragmenter.long_gops(), 1);
}

#[test]
fn times_never_meet_an_earlier_life() {
    let high_water_ms = EPOCH_MS as u64 + 5_000;
    let mut bench = bench(high_water_ms);
    for frame in 0..200 {
        bench.push(0, frame * 40, frame * 40, frame % 50 == 0, 10);
    }
    let fragments = bench.fragments();
    assert_eq!(fragments[0].timecode_ms, high_water_ms + 1);
    assert!(fragments.windows(2).all(|pair| pair[1].timecode_ms > pair[0].last_ms));
    // It catches up by what is between a fragment's last frame and the next one's first.
    assert!((4_800..5_001).contains(&bench.fragmenter.ahead_ms()));
}

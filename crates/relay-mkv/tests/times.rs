//! Times as they are written, and what is not written at all.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;

use film::{codecs, h264, packet, track};
use relay_media::{Codec, Flags, Packet, Timebase, Timestamp, Track, opus};
use relay_mkv::{
    BLOCK_BYTES_MAX, CLUSTER_MS_MAX, ClusterStart, Start, TIMECODE_MS_MAX, TRACKS_MAX, Tag, WriteError, Writer,
};

mod film;

fn writer(tracks: &[&Arc<Track>]) -> Writer {
    Writer::new(Start { uid: [1; 16], tracks: tracks.iter().map(|track| (*track).clone()).collect() }).unwrap().0
}

fn begin(writer: &mut Writer, timecode_ms: u64, ticks: i64) -> Result<(), WriteError> {
    let media = Timestamp::new(ticks, Timebase::VIDEO);
    writer.begin_cluster(ClusterStart { timecode_ms, media }).map(|_| ())
}

/// The time in a block's head.
fn relative(writer: &mut Writer, packet: &Packet) -> Result<u64, WriteError> {
    let [head, _] = writer.block(packet)?;
    let (_, tail) = head.split_at(10);
    Ok(u64::from(u16::from_be_bytes([tail[0], tail[1]])))
}

#[test]
fn times_are_rounded_and_rise() {
    let video = track(1, h264());
    for (what, first, ticks, expected) in [
        ("30 fps", 0, &[0, 3_000, 6_000, 9_000, 12_000][..], &[0, 33, 67, 100, 133][..]),
        ("29.97 fps from an odd start", 7, &[7, 3_010, 6_013, 9_016], &[0, 33, 67, 100]),
        ("1000 fps", 11, &[11, 101, 191, 281, 371], &[0, 1, 2, 3, 4]),
        ("a clock that hardly moves, then does", 0, &[0, 1, 2, 3, 3_600], &[0, 1, 2, 3, 40]),
        ("the same time twice", 0, &[0, 3_600, 3_600, 7_200], &[0, 40, 41, 80]),
        ("reordered", 0, &[0, 10_800, 3_600, 7_200, 21_600, 14_400], &[0, 120, 40, 80, 240, 160]),
        ("a key frame shown after its leading pictures", -7_200, &[0, -7_200, -3_600], &[80, 0, 40]),
        ("to the end of 16 bits", 0, &[0, 32_767 * 90], &[0, 32_767]),
    ] {
        let mut writer = writer(&[&video]);
        begin(&mut writer, 1_000, first).unwrap();
        let times: Vec<_> =
            ticks.iter().map(|at| relative(&mut writer, &packet(&video, *at, Flags::KEY, "x"))).collect();
        assert_eq!(times.into_iter().collect::<Result<Vec<_>, _>>().unwrap(), expected, "{what}");
        assert_eq!(writer.last_ms(), expected.iter().max().map(|last| 1_000 + last), "{what}");
    }
}

#[test]
fn a_cluster_is_the_same_in_another_session() {
    let (video, audio) = (track(1, h264()), track(2, Codec::Opus(opus::Config { channels: 1 })));
    let cluster = |writer: &mut Writer| {
        begin(writer, 90_000, 90_001).unwrap();
        let pictures = (0..5).map(|n| packet(&video, 90_001 + n * 3_003, Flags::KEY, vec![1, 2]));
        let sounds = (0..5).map(|n| packet(&audio, 48_001 + n * 7, Flags::empty(), vec![3]));
        pictures.chain(sounds).flat_map(|packet| writer.block(&packet).unwrap()[0].to_vec()).collect::<Vec<_>>()
    };
    let (mut one, mut other) = (writer(&[&video, &audio]), writer(&[&video, &audio]));
    begin(&mut one, 10, 0).unwrap();
    one.block(&packet(&video, 300_000, Flags::KEY, "x")).unwrap();
    assert_eq!(cluster(&mut one), cluster(&mut other));
}

#[test]
fn what_cannot_be_written_is_refused_and_changes_nothing() {
    let (video, audio) = (track(1, h264()), track(2, Codec::Opus(opus::Config { channels: 1 })));
    let mut writer = writer(&[&video, &audio]);
    let key = |ticks| packet(&video, ticks, Flags::KEY, "picture");
    assert_eq!(writer.block(&key(0)), Err(WriteError::NoCluster));
    begin(&mut writer, 1_000, 0).unwrap();
    let [_, hevc, ..] = &codecs()[..] else { unreachable!() };
    let rows = [
        (packet(&track(3, h264()), 0, Flags::KEY, "x"), WriteError::UnknownTrack(relay_media::TrackId(3))),
        (packet(&track(1, hevc.clone()), 0, Flags::KEY, "x"), WriteError::TrackChanged(video.id)),
        (packet(&video, 0, Flags::empty(), "x"), WriteError::NotKey),
        (packet(&video, 0, Flags::KEY, ""), WriteError::BlockSize(0)),
        (packet(&video, 0, Flags::KEY, vec![0; BLOCK_BYTES_MAX + 1]), WriteError::BlockSize(BLOCK_BYTES_MAX + 1)),
        (key(-90), WriteError::BeforeCluster(1)),
        (key(i64::MIN), WriteError::BeforeCluster(9_223_372_036_855)),
        (key(32_768 * 90), WriteError::ClusterFull(CLUSTER_MS_MAX + 1)),
        (key(i64::MAX), WriteError::ClusterFull(9_223_372_036_854)),
    ];
    for (packet, expected) in &rows {
        assert_eq!(writer.block(packet).as_ref(), Err(expected));
        assert_eq!(writer.last_ms(), None);
    }
    assert_eq!(relative(&mut writer, &packet(&audio, 480, Flags::empty(), "sound")), Ok(10), "sound may come first");
    assert_eq!(relative(&mut writer, &key(-44)), Ok(0), "half a millisecond is rounded away");
    assert_eq!(relative(&mut writer, &packet(&video, 3_600, Flags::empty(), "x")), Ok(40));
    for (timecode_ms, expected) in [
        (1_040, Err(WriteError::NotRising { timecode_ms: 1_040, last_ms: 1_040 })),
        (TIMECODE_MS_MAX + 1, Err(WriteError::Timecode(TIMECODE_MS_MAX + 1))),
        (1_041, Ok(())),
        (TIMECODE_MS_MAX, Ok(())),
    ] {
        assert_eq!(begin(&mut writer, timecode_ms, 3_690), expected);
    }
    writer.end_fragment();
    assert_eq!(writer.block(&key(0)), Err(WriteError::NoCluster), "tags end a cluster");
}

#[test]
fn tracks_and_tags_have_bounds() {
    let tracks = |ids: &[u32]| ids.iter().map(|id| track(*id, h264())).collect::<Vec<_>>();
    let all: Vec<u32> = (1..=TRACKS_MAX as u32 + 1).collect();
    for (ids, is_fine) in [(&[][..], false), (&all[1..], true), (&all[..], false), (&[1, 2, 1], false)] {
        let result = Writer::new(Start { uid: [1; 16], tracks: tracks(ids) });
        assert_eq!(result.err(), (!is_fine).then_some(WriteError::Tracks), "{ids:?}");
    }
    let mut writer = writer(&[&track(1, h264())]);
    let tag = |name: usize, value: usize| Tag::new("n".repeat(name), "v".repeat(value));
    for (tags, is_fine) in [
        (vec![], false),
        (vec![tag(1, 0)], true),
        (vec![tag(128, 256); 10], true),
        (vec![tag(1, 1); 11], false),
        (vec![tag(0, 1)], false),
        (vec![tag(129, 1)], false),
        (vec![tag(1, 257)], false),
        (vec![Tag::new("a\0b", "c")], false),
    ] {
        assert_eq!(writer.tags(&tags).err(), (!is_fine).then_some(WriteError::Tags), "{tags:?}");
    }
}

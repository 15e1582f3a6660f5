#![no_main]

use std::{sync::Arc, time::Instant};

use libfuzzer_sys::fuzz_target;
use relay_media::{Codec, Flags, Packet, Timebase, Timestamp, Track, TrackId, UtcTime, Wall, WallOrigin, aac, h264};
use relay_mkv::{ClusterStart, Event, Sessions, Start, Writer, read_all};

const SPS: &[u8] =
    &[0x67, 0x42, 0xc0, 0x0d, 0xd9, 1, 0x41, 0xfb, 1, 0x10, 0, 0, 3, 0, 0x10, 0, 0, 3, 3, 0x20, 0xf1, 0x42, 0xa4, 0x80];

fn tracks() -> [Arc<Track>; 2] {
    let video = Codec::H264(h264::Config::parse(SPS, &[0x68, 0xcb, 0x83, 0xcb, 0x20]).unwrap());
    let audio = Codec::Aac(aac::Config::new(aac::LOW_COMPLEXITY, 48_000, 2).unwrap());
    let track = |id, codec, hz| Arc::new(Track { id: TrackId(id), codec, timebase: Timebase::new(hz).unwrap() });
    [track(1, video, 90_000), track(2, audio, 48_000)]
}

// Five bytes are a packet: flags with the track in bit 3 and its length above, then its ticks since the one before.
fuzz_target!(|steps: &[u8]| {
    let tracks = tracks();
    let (mut writer, head) = Writer::new(Start { uid: [7; 16], tracks: tracks.to_vec() }).unwrap();
    let (mut stream, mut expected, mut ticks) = (head.to_vec(), Vec::new(), 0_i64);
    for step in steps.chunks_exact(5) {
        let track = &tracks[usize::from(step[0] >> 3 & 1)];
        ticks = ticks.wrapping_add(i32::from_be_bytes([step[1], step[2], step[3], step[4]]).into());
        let time = Timestamp::new(ticks, track.timebase);
        let wall = Wall { utc: UtcTime::from_unix_nanos(0), origin: WallOrigin::Arrival };
        let (flags, payload) = (Flags::from_bits_truncate(step[0]), vec![step[4]; usize::from(step[0] >> 4)].into());
        let (track, arrival) = (track.clone(), Instant::now());
        let packet = Packet { track, dts: time, pts: time, duration: None, arrival, wall, flags, payload };
        if packet.is_key() {
            let timecode_ms = writer.last_ms().map_or(1_000, |last| last + 1);
            stream.extend(writer.begin_cluster(ClusterStart { timecode_ms, media: time }).unwrap());
        }
        if let Ok(parts) = writer.block(&packet) {
            stream.extend(parts.concat());
            expected.push((u64::from(packet.track.id.0), packet.payload));
        }
    }
    let events = read_all(&stream, Sessions::One).unwrap();
    let blocks = events.into_iter().filter_map(|event| match event {
        Event::Block(block) => Some((block.track, block.payload)),
        _ => None,
    });
    assert!(blocks.eq(expected));
});

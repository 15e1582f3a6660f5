//! A stream of pictures and sound.

use std::{sync::Arc, time::Instant};

use relay_media::{Codec, Flags, Packet, Timebase, Timestamp, Track, TrackId, UtcTime, Wall, WallOrigin, aac, h264};

const SPS: &[u8] =
    &[0x67, 0x42, 0xc0, 0x0d, 0xd9, 1, 0x41, 0xfb, 1, 0x10, 0, 0, 3, 0, 0x10, 0, 0, 3, 3, 0x20, 0xf1, 0x42, 0xa4, 0x80];

pub(crate) struct Film {
    tracks: [Arc<Track>; 2],
    frames: u64,
}

impl Film {
    pub(crate) fn new() -> Self {
        let video = Codec::H264(h264::Config::parse(SPS, &[0x68, 0xcb, 0x83, 0xcb, 0x20]).unwrap());
        let audio = Codec::Aac(aac::Config::new(aac::LOW_COMPLEXITY, 48_000, 2).unwrap());
        let track = |id, codec, hz| Arc::new(Track { id: TrackId(id), codec, timebase: Timebase::new(hz).unwrap() });
        Self { tracks: [track(1, video, 90_000), track(2, audio, 48_000)], frames: 0 }
    }

    /// Ten pictures, the first a key frame, and ten sounds.
    pub(crate) fn second(&mut self) -> Vec<Arc<Packet>> {
        let mut packets = vec![];
        for frame in 0..10 {
            for track in &self.tracks {
                let ms = self.frames * 100;
                let ticks = i64::try_from(ms * u64::from(track.timebase.hz()) / 1_000).unwrap();
                let time = Timestamp::new(ticks, track.timebase);
                let utc = UtcTime::from_unix_nanos((1_795_219_200_000 + ms as i64) * 1_000_000);
                let is_key = frame == 0 && track.id == TrackId(1);
                packets.push(Arc::new(Packet {
                    track: track.clone(),
                    dts: time,
                    pts: time,
                    duration: None,
                    arrival: Instant::now(),
                    wall: Wall { utc, origin: WallOrigin::Arrival },
                    flags: if is_key { Flags::KEY } else { Flags::empty() },
                    payload: vec![7; if is_key { 60_000 } else { 900 }].into(),
                }));
            }
            self.frames += 1;
        }
        packets
    }

    pub(crate) fn packets(&self) -> u64 {
        2 * self.frames
    }
}

//! Packets for tests, described in one line each.

use std::{sync::Arc, sync::LazyLock, time::Duration, time::Instant};

use bytes::Bytes;
use relay_media::{Codec, Flags, Packet, Timebase, Timestamp, Track, TrackId, UtcTime, Wall, WallOrigin, h264, opus};
use relay_ring::{CursorStats, Limits};

/// A picture or a sound, at a time in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unit {
    pub(crate) video: bool,
    pub(crate) flags: Flags,
    pub(crate) ms: i64,
    pub(crate) bytes: usize,
}

/// A picture that refers to others.
pub(crate) fn picture(ms: i64) -> Unit {
    Unit { video: true, flags: Flags::empty(), ms, bytes: 10 }
}

/// A picture that a decoder can start at.
pub(crate) fn key(ms: i64) -> Unit {
    Unit { flags: Flags::KEY, ..picture(ms) }
}

/// A picture that no other one refers to.
pub(crate) fn disposable(ms: i64) -> Unit {
    Unit { flags: Flags::DISPOSABLE, ..picture(ms) }
}

pub(crate) fn sound(ms: i64) -> Unit {
    Unit { video: false, ..picture(ms) }
}

impl Unit {
    pub(crate) fn bytes(self, bytes: usize) -> Self {
        Self { bytes, ..self }
    }

    pub(crate) fn after_a_break(self) -> Self {
        Self { flags: self.flags | Flags::DISCONTINUITY, ..self }
    }

    /// The packet, with `seq` as its duration to be recognised by.
    pub(crate) fn packet(self, seq: u64) -> Arc<Packet> {
        /// As long as the largest packet of any test.
        static ZEROS: [u8; 4_096] = [0; 4_096];
        let dts = Timestamp::new(self.ms * 90, Timebase::VIDEO);
        Arc::new(Packet {
            track: Arc::clone(if self.video { &VIDEO } else { &AUDIO }),
            dts,
            pts: dts,
            duration: Some(u32::try_from(seq).unwrap()),
            arrival: *EPOCH,
            wall: Wall { utc: UtcTime::from_unix_nanos(0), origin: WallOrigin::Generated },
            flags: self.flags,
            payload: Bytes::from_static(&ZEROS[..self.bytes]),
        })
    }
}

/// The number a packet of [`Unit::packet`] was given.
pub(crate) fn seq(packet: &Packet) -> u64 {
    u64::from(packet.duration.unwrap())
}

/// Limits by count and media time, the bytes as good as unlimited.
pub(crate) fn limits(max_packets: usize, max_duration: Duration) -> Limits {
    Limits { max_bytes: 1 << 30, max_duration, max_packets }
}

#[track_caller]
pub(crate) fn assert_balanced(stats: CursorStats) {
    assert_eq!(stats.received, stats.delivered + stats.dropped.total() + stats.buffered, "{stats:?}");
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

//! Tracks and packets for the tests.
#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    sync::{Arc, OnceLock},
    time::Instant,
};

use bytes::Bytes;
use relay_media::{
    Codec, Flags, Packet, Timebase, Timestamp, Track, TrackId, UtcTime, Wall, WallOrigin, aac, g711, h264, h265, opus,
};

/// Bytes from hexadecimal digits; blanks are for the eye.
pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

/// One of each that can be told, and two of what has variants.
pub(crate) fn codecs() -> Vec<Codec> {
    let g711 = |law, sample_rate, channels| Codec::G711(g711::Config { law, sample_rate, channels });
    let h265 = h265::Config::parse(
        &hex("40010c01ffff016000000300900000030000030078959809"),
        &hex("420101016000000300900000030000030078a003c08010e596566924caf0168080000003008000000c84"),
        &hex("4401c172b46240"),
    );
    vec![
        h264(),
        Codec::H265(h265.unwrap()),
        Codec::Aac(aac::Config::new(aac::LOW_COMPLEXITY, 48_000, 2).unwrap()),
        Codec::Aac(aac::Config::parse(&hex("131056e598")).unwrap()),
        g711(g711::Law::A, 8_000, 1),
        g711(g711::Law::Mu, 16_000, 2),
        Codec::Opus(opus::Config { channels: 2 }),
    ]
}

pub(crate) fn h264() -> Codec {
    let config = h264::Config::parse(&hex("6742c01fd9005005bb011000000300100000030320f1832480"), &hex("68cb83cb20"));
    Codec::H264(config.unwrap())
}

pub(crate) fn track(id: u32, codec: Codec) -> Arc<Track> {
    let hz = match &codec {
        Codec::H264(_) | Codec::H265(_) => 90_000,
        Codec::Aac(config) => config.sample_rate(),
        Codec::Opus(_) => opus::CLOCK_HZ,
        Codec::G711(config) => config.sample_rate,
    };
    Arc::new(Track { id: TrackId(id), codec, timebase: Timebase::new(hz).unwrap() })
}

pub(crate) fn packet(track: &Arc<Track>, ticks: i64, flags: Flags, payload: impl Into<Bytes>) -> Packet {
    let time = Timestamp::new(ticks, track.timebase);
    Packet {
        track: track.clone(),
        dts: time,
        pts: time,
        duration: None,
        arrival: origin(),
        wall: Wall { utc: UtcTime::from_unix_nanos(time.nanos()), origin: WallOrigin::Arrival },
        flags,
        payload: payload.into(),
    }
}

#[expect(clippy::disallowed_methods, reason = "packets need an arrival; nothing waits for it")]
fn origin() -> Instant {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    *ORIGIN.get_or_init(Instant::now)
}

//! Any payload: packets of bounded size, that relay-rtp takes without a panic.
#![no_main]

use std::{sync::Arc, time::Instant};

use relay_media::{Codec, Flags, Packet, Timebase, Timestamp, Track, TrackId, UtcTime, Wall, WallOrigin, h264};
use relay_rtp::{AfterLoss, Depacketizer, Format, RtpPacket};
use relay_webrtc::{PAYLOAD_MAX, Packetizer};

libfuzzer_sys::fuzz_target!(|input: (bool, Vec<u8>)| {
    let sps = b"\x67\x42\xc0\x1f\xd9\x00\x50\x05\xbb\x01\x10\x00\x00\x03\x00\x10\x00\x00\x03\x03\x20\xf1\x83\x24\x80";
    let codec = Codec::H264(h264::Config::parse(sps, b"\x68\xcb\x83\xcb\x20").unwrap());
    let pts = Timestamp::new(0, Timebase::VIDEO);
    #[expect(clippy::disallowed_methods, reason = "any instant does")]
    let arrival = Instant::now();
    let packet = Packet {
        track: Arc::new(Track { id: TrackId(1), codec, timebase: Timebase::VIDEO }),
        dts: pts,
        pts,
        duration: None,
        arrival,
        wall: Wall { utc: UtcTime::from_unix_nanos(0), origin: WallOrigin::Arrival },
        flags: if input.0 { Flags::KEY } else { Flags::empty() },
        payload: input.1.into(),
    };
    let Some(unit) = Packetizer::new().packetize(&packet) else { return };
    let mut depacketizer =
        Depacketizer::new(&Format::parse("h264", 90_000, None, "").unwrap(), AfterLoss::PassOn);
    for payload in &unit.payloads {
        assert!(!payload.is_empty() && payload.len() <= PAYLOAD_MAX);
        depacketizer.push(RtpPacket { payload, timestamp: 0, marker: false, lost_before: 0, arrival });
    }
});

//! Any packets: no panic, no unit without bytes.
#![no_main]

use std::time::Instant;

use relay_rtp::{AfterLoss, Depacketizer, Format, RtpPacket};

libfuzzer_sys::fuzz_target!(|packets: Vec<(Vec<u8>, u8)>| {
    let format = Format::parse("mpeg4-generic", 44_100, Some(2), "config=1210").unwrap();
    #[expect(clippy::disallowed_methods, reason = "any instant does")]
    let arrival = Instant::now();
    let mut depacketizer = Depacketizer::new(&format, AfterLoss::PassOn);
    for (payload, flags) in &packets {
        let (timestamp, marker, lost_before) = (i64::from(flags >> 4), flags & 1 == 1, u32::from(flags >> 1 & 7) / 7);
        depacketizer.push(RtpPacket { payload, timestamp, marker, lost_before, arrival });
        while let Some(unit) = depacketizer.poll() {
            assert!(!unit.payload.is_empty());
        }
    }
});

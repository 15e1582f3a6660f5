//! Any session description and any `fmtp` line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use relay_rtp::{Format, sdp_medias};

fuzz_target!(|bytes: &[u8]| {
    for media in sdp_medias(bytes) {
        for encoding in ["h264", "h265", "mpeg4-generic", "opus", "pcma"] {
            let _ = Format::parse(encoding, 90_000, Some(1), media.fmtp);
        }
    }
});

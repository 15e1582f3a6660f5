//! Any text as an offer: an answer or a refusal, and an answer has as many m-lines as the offer.
#![no_main]

use std::{sync::Arc, time::Instant};

use relay_media::{Codec, Timebase, Track, TrackId, h264};
use relay_webrtc::{Certificate, LocalCandidate, Media, Protocol, SessionSettings, answer};

libfuzzer_sys::fuzz_target!(|offer: &str| {
    let sps = b"\x67\x42\xc0\x1f\xd9\x00\x50\x05\xbb\x01\x10\x00\x00\x03\x00\x10\x00\x00\x03\x03\x20\xf1\x83\x24\x80";
    let codec = Codec::H264(h264::Config::parse(sps, b"\x68\xcb\x83\xcb\x20").unwrap());
    let video = Some(Arc::new(Track { id: TrackId(1), codec, timebase: Timebase::VIDEO }));
    let certificate = Certificate::generate().unwrap();
    let address = "192.0.2.1:8555".parse().unwrap();
    let candidates = [LocalCandidate { protocol: Protocol::Udp, address, base: address }];
    let settings = SessionSettings { ufrag: "fuzz", candidates: &candidates, certificate: &certificate };
    #[expect(clippy::disallowed_methods, reason = "any instant does")]
    let now = Instant::now();
    if let Ok((_, text)) = answer(offer, &Media { video, audio: None, reordered: false }, &settings, now) {
        let m_lines = |text: &str| text.lines().filter(|line| line.starts_with("m=")).count();
        assert_eq!(m_lines(&text), m_lines(offer));
    }
});

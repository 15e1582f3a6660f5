//! Any datagrams into a session that waits for its viewer: no panic, and not many answers.
#![no_main]

use std::{sync::Arc, time::{Duration, Instant}};

use relay_media::{Codec, Timebase, Track, TrackId, opus};
use relay_webrtc::{Certificate, LocalCandidate, Media, Output, Protocol, SessionSettings, answer};

const OFFER: &str = include_str!("../../crates/relay-webrtc/tests/offers/chromium_156.sdp");

libfuzzer_sys::fuzz_target!(|datagrams: Vec<(u8, Vec<u8>)>| {
    let (codec, timebase) = (Codec::Opus(opus::Config { channels: 2 }), Timebase::new(48_000).unwrap());
    let audio = Some(Arc::new(Track { id: TrackId(2), codec, timebase }));
    let certificate = Certificate::generate().unwrap();
    let (server, viewer) = ("192.0.2.1:8555".parse().unwrap(), "198.51.100.2:40000".parse().unwrap());
    let candidates = [LocalCandidate { protocol: Protocol::Udp, address: server, base: server }];
    let settings = SessionSettings { ufrag: "fuzz", candidates: &candidates, certificate: &certificate };
    #[expect(clippy::disallowed_methods, reason = "any instant does")]
    let mut now = Instant::now();
    let media = Media { video: None, audio, reordered: false };
    let (mut session, _) = answer(OFFER, &media, &settings, now).unwrap();
    for (wait, bytes) in &datagrams {
        now += Duration::from_millis(u64::from(*wait));
        session.handle_datagram(now, Protocol::Udp, viewer, server, bytes);
        let mut sent = 0;
        while !matches!(session.poll_output(now), Output::Timeout(_)) {
            sent += 1;
            assert!(sent < 100);
        }
    }
});

//! Any text as a trickled fragment: taken or refused, and the candidates kept stay few.
#![no_main]

use std::{cell::RefCell, sync::Arc, time::Instant};

use relay_media::{Codec, Timebase, Track, TrackId, opus};
use relay_webrtc::{Certificate, Media, Session, SessionSettings, answer};

const OFFER: &str = include_str!("../../crates/relay-webrtc/tests/offers/chromium_156.sdp");

thread_local! {
    static SESSION: RefCell<Session> = RefCell::new(session());
}

fn session() -> Session {
    let (codec, timebase) = (Codec::Opus(opus::Config { channels: 2 }), Timebase::new(48_000).unwrap());
    let audio = Some(Arc::new(Track { id: TrackId(2), codec, timebase }));
    let certificate = Certificate::generate().unwrap();
    let settings = SessionSettings { ufrag: "fuzz", candidates: &[], certificate: &certificate };
    #[expect(clippy::disallowed_methods, reason = "any instant does")]
    let now = Instant::now();
    answer(OFFER, &Media { video: None, audio, reordered: false }, &settings, now).unwrap().0
}

libfuzzer_sys::fuzz_target!(|fragment: &str| {
    SESSION.with_borrow_mut(|session| {
        let _ = session.trickle(fragment);
        assert!(session.report().remote_candidates.len() <= 64);
    });
});

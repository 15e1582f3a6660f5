//! Any bytes at the media port: for nobody, as no fuzzer guesses a session's name.
#![no_main]

libfuzzer_sys::fuzz_target!(|datagram: &[u8]| {
    assert_eq!(relay_webrtc::demultiplex(datagram), 0);
});

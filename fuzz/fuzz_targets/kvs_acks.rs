#![no_main]

use libfuzzer_sys::fuzz_target;
use relay_kvs::proto::{Ack, AckParser};

/// What is read does not depend on the pieces it comes in.
fn read(stream: &[u8], piece: usize) -> (Vec<Ack>, u64) {
    let (mut parser, mut acks) = (AckParser::default(), Vec::new());
    for piece in stream.chunks(piece) {
        parser.push(piece);
        acks.extend(std::iter::from_fn(|| parser.poll()));
    }
    (acks, parser.malformed())
}

fuzz_target!(|stream: &[u8]| {
    assert_eq!(read(stream, 1), read(stream, 7));
});

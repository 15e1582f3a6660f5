#![no_main]

use libfuzzer_sys::fuzz_target;
use relay_mkv::{Event, Reader, Sessions};

/// What is read does not depend on the pieces it comes in.
fn read(stream: &[u8], piece: usize) -> (Vec<(u64, Event)>, Result<(), relay_mkv::ReadError>) {
    let (mut reader, mut events) = (Reader::new(Sessions::Concatenated), Vec::new());
    for piece in stream.chunks(piece) {
        reader.push(piece);
        while let Ok(Some(event)) = reader.poll() {
            events.push(event);
        }
    }
    (events, reader.finish())
}

fuzz_target!(|stream: &[u8]| {
    let (events, end) = read(stream, stream.len().max(1));
    assert_eq!((&events, &end), (&read(stream, 1).0, &read(stream, 7).1));
    for (_, event) in events {
        if let Event::Tracks(tracks) = event {
            tracks.iter().for_each(|track| drop(track.codec()));
        }
    }
});

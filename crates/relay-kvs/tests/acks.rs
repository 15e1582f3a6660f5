//! The acknowledgement stream, however it is cut and whatever is in it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use proptest::prelude::*;
use relay_kvs::proto::{ACK_BYTES_MAX, Ack, AckError, AckEvent, AckParser, Fault, Retry};

fn read(pieces: &[&[u8]]) -> (Vec<Ack>, u64) {
    let mut parser = AckParser::default();
    let mut acks = vec![];
    for piece in pieces {
        parser.push(piece);
        acks.extend(std::iter::from_fn(|| parser.poll()));
    }
    (acks, parser.malformed())
}

fn ack(event: AckEvent, timecode_ms: Option<u64>, number: Option<&str>) -> Ack {
    Ack { event, timecode_ms, number: number.map(str::to_owned) }
}

#[test]
fn acknowledgements_are_read_as_they_were_seen() {
    let number = "91343852333181481915235394203149336554319348843";
    let long = format!(r#"{{"EventType":"IDLE","x":"{}"}}"#, "y".repeat(ACK_BYTES_MAX));
    let none: Vec<Ack> = vec![];
    for (text, expected, malformed) in [
        (
            r#"{"EventType":"PERSISTED","FragmentTimecode":1597730826769,"FragmentNumber":"91343852333181481915235394203149336554319348843"}"#,
            vec![ack(AckEvent::Persisted, Some(1_597_730_826_769), Some(number))],
            0,
        ),
        (
            r#"{"EventType":"ERROR","FragmentTimecode":0,"FragmentNumber":"7","ErrorCode":"FRAGMENT_TIMECODE_LESSER_THAN_PREVIOUS","ErrorId":4004}"#,
            vec![ack(AckEvent::Error(4004), Some(0), Some("7"))],
            0,
        ),
        (
            "{\"EventType\":\"BUFFERING\",\"FragmentTimecode\":1}{\"EventType\":\"RECEIVED\",\"FragmentTimecode\":1}\r\n\n{\"EventType\":\"IDLE\"}",
            vec![
                ack(AckEvent::Buffering, Some(1), None),
                ack(AckEvent::Received, Some(1), None),
                ack(AckEvent::Idle, None, None),
            ],
            0,
        ),
        // As the documentation writes it, and with numbers as text.
        (
            r#" [{"Acknowledgement" : { "EventType": "PERSISTED", "FragmentTimecode": "12", "FragmentNumber": 5 }}, "#,
            vec![ack(AckEvent::Persisted, Some(12), Some("5"))],
            0,
        ),
        // Brackets and quotes in text.
        (r#"{"a":"}{\"","EventType":"IDLE"}"#, vec![ack(AckEvent::Idle, None, None)], 0),
        (
            r#"{"EventType":"PERSISTED","FragmentTimecode":-1,"FragmentNumber":""}"#,
            vec![ack(AckEvent::Persisted, None, None)],
            0,
        ),
        (r#"{"EventType":"ERROR","ErrorId":1e99}"#, vec![ack(AckEvent::Error(0), None, None)], 0),
        (r#"{"EventType":"GONE"}"#, none.clone(), 1),
        (r#"{"EventType":7}{}{"a":}"#, none.clone(), 3),
        ("}}}\"]\"", none.clone(), 0),
        (&long, none.clone(), 1),
    ] {
        let bytes = text.as_bytes();
        assert_eq!(read(&[bytes]), (expected.clone(), malformed), "{text}");
        let single: Vec<_> = bytes.chunks(1).collect();
        assert_eq!(read(&single), (expected, malformed), "{text}, byte by byte");
    }
}

#[test]
fn after_an_endless_object_others_are_read_again() {
    let mut text = vec![b'{'; 2 * ACK_BYTES_MAX + 2];
    text.extend(br#""}}}}}}{"EventType":"IDLE"}"#);
    text.extend(br#"{"EventType":"IDLE"}"#.repeat(2 * ACK_BYTES_MAX / 20));
    assert!(!read(&[&text]).0.is_empty());
}

#[test]
fn the_table_of_errors_is_whole() {
    for error in AckError::ALL {
        assert_eq!(AckError::of(error.id), error);
        // What the service's own producer sends again, no fragment is set aside for.
        if error.retry == Retry::Resend {
            assert_eq!(error.fault, Fault::Service, "{}", error.id);
        }
    }
    assert_eq!((AckError::of(4999).fault, AckError::of(4999).id), (Fault::Service, 4999));
    assert_eq!(AckError::of(4503).fault, Fault::Stream);
}

proptest! {
    #[test]
    fn no_bytes_panic_and_pieces_make_no_difference(
        bytes in prop::collection::vec(prop_oneof![3 => any::<u8>(), 4 => prop::sample::select(br#"{}":\,[]"#.to_vec())], 0..6_000),
        cuts in prop::collection::vec(1..500_usize, 1..20),
    ) {
        let mut rest = bytes.as_slice();
        let mut pieces = vec![];
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, after) = rest.split_at((*cut).min(rest.len()));
            pieces.push(piece);
            rest = after;
        }
        prop_assert_eq!(read(&pieces), read(&[&bytes]));
    }
}

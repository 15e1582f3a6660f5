//! Transport-wide sequence numbers (draft-holmer-rmcat-transport-wide-cc-extensions-01 §2): every packet that leaves
//! has the next one, also one that is sent again.
//!
//! str0m numbers packets by itself, and then remembers a thousand of them for an estimate that is not asked for: 96 KiB
//! a viewer, and a tenth of the time that feedback takes. So it is given an extension that it knows nothing of.

use std::sync::atomic::{AtomicU16, Ordering::Relaxed};

use str0m::rtp::{Extension, ExtensionSerializer, ExtensionValues};

/// Its name in SDP.
pub(super) const URI: &str = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";

/// The extension, counting from zero.
pub(super) fn extension() -> Extension {
    Extension::with_serializer(URI, Numbers::default())
}

/// The number that the next packet gets. str0m writes each packet once, in the order in which they leave.
#[derive(Debug, Default)]
struct Numbers(AtomicU16);

impl ExtensionSerializer for Numbers {
    fn write_to(&self, buffer: &mut [u8], _: &ExtensionValues) -> usize {
        let Some(place) = buffer.first_chunk_mut() else { return 0 };
        *place = self.0.fetch_add(1, Relaxed).to_be_bytes();
        place.len()
    }

    fn parse_value(&self, _: &[u8], _: &mut ExtensionValues) -> bool {
        // Nothing is received but RTCP.
        true
    }

    fn is_video(&self) -> bool {
        true
    }

    fn is_audio(&self) -> bool {
        true
    }
}

/// The number of an RTP packet, where the extension is called `id` (RFC 8285 §4).
pub(super) fn of(packet: &[u8], id: u8) -> Option<u16> {
    let has_extension = packet.first()? & 0x10 != 0;
    let after_sources = 12 + 4 * usize::from(packet.first()? & 0x0f);
    let header = packet.get(after_sources..).filter(|_| has_extension)?;
    let (profile, words) = (header.first_chunk::<2>()?, header.get(2..)?.first_chunk::<2>()?);
    let mut rest = header.get(4..4 + 4 * usize::from(u16::from_be_bytes(*words)))?;
    let one_byte = *profile == [0xBE, 0xDE];
    while let [first, after @ ..] = rest {
        if *first == 0 {
            // Padding.
            rest = after;
            continue;
        }
        let (found, length, body) = if one_byte {
            (first >> 4, usize::from(first & 0x0f) + 1, after)
        } else {
            let (length, body) = after.split_first()?;
            (*first, usize::from(*length), body)
        };
        let value = body.get(..length)?;
        if found == id {
            return value.first_chunk().map(|bytes| u16::from_be_bytes(*bytes));
        }
        rest = body.get(length..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_packet_has_the_next_number() {
        let (numbers, mut buffer) = (Numbers(AtomicU16::new(0xffff)), [0; 4]);
        for expected in [0xffff_u16, 0, 1] {
            assert_eq!(numbers.write_to(&mut buffer, &ExtensionValues::default()), 2);
            assert_eq!(u16::from_be_bytes([buffer[0], buffer[1]]), expected);
        }
        assert_eq!(numbers.write_to(&mut buffer[..1], &ExtensionValues::default()), 0);
    }

    #[test]
    fn the_number_is_found_in_both_forms() {
        let packet = |first: u8, extension: &[u8]| {
            let mut packet = vec![first];
            packet.resize(12 + 4 * usize::from(first & 0x0f), 7);
            packet.extend(extension);
            packet
        };
        for (first, extension, expected) in [
            (0x90, &[0xBE, 0xDE, 0, 2, 0x32, 1, 2, 3, 0x51, 0xAB, 0xCD, 0][..], Some(0xABCD)),
            (0x91, &[0xBE, 0xDE, 0, 1, 0, 0x51, 0xAB, 0xCD], Some(0xABCD)),
            (0x90, &[0x10, 0, 0, 2, 3, 0, 5, 2, 0xAB, 0xCD, 0, 0], Some(0xABCD)),
            (0x90, &[0xBE, 0xDE, 0, 1, 0x31, 0xAB, 0xCD, 0], None),
            (0x90, &[0xBE, 0xDE, 0, 9, 0x51, 0xAB, 0xCD, 0], None),
            (0x90, &[0xBE, 0xDE, 0, 1, 0x5f, 0xAB, 0xCD, 0], None),
            (0x80, &[0xBE, 0xDE, 0, 1, 0x51, 0xAB, 0xCD, 0], None),
            (0x90, &[], None),
        ] {
            assert_eq!(of(&packet(first, extension), 5), expected, "{extension:?}");
        }
        assert_eq!(of(&[], 5), None);
    }

    proptest::proptest! {
        #[test]
        fn no_packet_panics(packet in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..64), id: u8) {
            let _ = of(&packet, id);
        }
    }
}

//! The frame counter that tests and benches read back at the far end of a path.
//!
//! It travels as an SEI message of H.264 (§D.1.7, `user_data_unregistered`), which every decoder passes over.

use crate::{h264, nal::split_length_prefixed};

/// Which frame this is, and when it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Frames since the source started.
    pub counter: u64,
    /// When the frame was made: nanoseconds since 1970-01-01T00:00:00Z.
    pub utc_nanos: i64,
}

/// Names our message among user data (H.264 §D.2.7, `uuid_iso_iec_11578`); without a zero byte, so that no
/// emulation prevention is ever needed.
const UUID: [u8; 16] = *b"relay frame/1.00";

/// 16 hex digits of the counter and 16 of the time: ASCII, again so that no zero byte appears.
const TEXT_LEN: usize = 32;

/// `payload_type` 5 is user_data_unregistered; the sizes are one byte each (H.264 §7.3.2.3.1).
const HEADER: [u8; 3] = [h264::NAL_SEI, 5, (UUID.len() + TEXT_LEN) as u8];

impl Stamp {
    /// The length of [`to_nal`](Self::to_nal): header, payload type and size, UUID, text, trailing bits.
    pub const NAL_LEN: usize = HEADER.len() + UUID.len() + TEXT_LEN + 1;

    /// The stamp as an H.264 SEI NAL unit, to be placed before the first slice (H.264 §7.4.1.2.3).
    pub fn to_nal(self) -> [u8; Self::NAL_LEN] {
        let text = format!("{:016x}{:016x}", self.counter, self.utc_nanos.cast_unsigned());
        let bytes = HEADER.iter().chain(&UUID).chain(text.as_bytes()).chain(&[0x80]);
        let mut nal = [0; Self::NAL_LEN];
        nal.iter_mut().zip(bytes).for_each(|(to, &from)| *to = from);
        nal
    }

    /// The stamp of an access unit, given as a packet's payload (NAL units behind 4-byte lengths).
    pub fn find(payload: &[u8]) -> Option<Self> {
        split_length_prefixed(payload).find_map(Self::from_nal)
    }

    /// The stamp in a NAL unit, if it is one that [`to_nal`](Self::to_nal) made.
    pub fn from_nal(nal: &[u8]) -> Option<Self> {
        // The importance of the NAL unit (nal_ref_idc) may have been rewritten on the way.
        let (header, message) = nal.split_first()?;
        if h264::nal_type(*header) != h264::NAL_SEI {
            return None;
        }
        let text = message.strip_prefix(&HEADER[1..])?.strip_prefix(&UUID)?.get(..TEXT_LEN)?;
        let (counter, utc_nanos) = std::str::from_utf8(text).ok()?.split_at_checked(TEXT_LEN / 2)?;
        Some(Self {
            counter: u64::from_str_radix(counter, 16).ok()?,
            utc_nanos: u64::from_str_radix(utc_nanos, 16).ok()?.cast_signed(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn access_unit(nals: &[&[u8]]) -> Vec<u8> {
        nals.iter().flat_map(|nal| [&u32::try_from(nal.len()).unwrap().to_be_bytes(), *nal].concat()).collect()
    }

    #[test]
    fn is_found_among_other_nal_units() {
        let stamp = Stamp { counter: 7, utc_nanos: 1_795_219_200_000_000_000 };
        let sei = stamp.to_nal();
        let rows: [(&[&[u8]], Option<Stamp>); 5] = [
            (&[&sei, b"\x65\x88"], Some(stamp)),
            (&[b"\x06\x06\x01\xc4\x80", &sei, b"\x65\x88"], Some(stamp)),
            (&[b"\x65\x88", &sei[..sei.len() - 2]], None),
            (&[b"\x65\x88"], None),
            (&[], None),
        ];
        for (nals, expected) in rows {
            assert_eq!(Stamp::find(&access_unit(nals)), expected, "{nals:02x?}");
        }
    }

    proptest! {
        #[test]
        fn round_trips_without_zero_bytes(counter: u64, utc_nanos: i64) {
            let stamp = Stamp { counter, utc_nanos };
            let nal = stamp.to_nal();
            prop_assert!(!nal.contains(&0) && !nal.contains(&3));
            prop_assert_eq!(Stamp::find(&access_unit(&[&nal])), Some(stamp));
        }

        #[test]
        fn any_bytes_are_looked_at(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            Stamp::find(&bytes);
            Stamp::from_nal(&bytes);
        }
    }
}

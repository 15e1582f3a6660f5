//! NAL unit framing, common to H.264 and H.265: Annex B start codes, 4-byte lengths and emulation prevention.
//!
//! What a NAL unit's header and body say belongs to [`h264`](crate::h264) and [`h265`](crate::h265).

use memchr::memmem;

/// Bytes of the big-endian length before each NAL unit of a packet's payload (`lengthSizeMinusOne` 3 in
/// ISO/IEC 14496-15 §5.3.3.1).
pub const LENGTH_BYTES: usize = 4;

/// The longer start code, which is always allowed (H.264 and H.265 §B.1.1).
pub const START_CODE: [u8; 4] = [0, 0, 0, 1];

/// The NAL units between start codes, without those and without the zeros around them (H.264 and H.265 §B.1).
///
/// Bytes before the first start code count as a NAL unit, so that a bare NAL unit yields itself: cameras (V380)
/// put Annex B where one bare NAL unit belongs.
pub fn split_annex_b(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut ends = memmem::find_iter(bytes, &START_CODE[1..]);
    let mut start = Some(0);
    std::iter::from_fn(move || {
        let from = start?;
        let end = ends.next();
        start = end.map(|end| end + 3);
        bytes.get(from..end.unwrap_or(bytes.len()))
    })
    .map(trim_trailing_zeros)
    .filter(|nal| !nal.is_empty())
}

/// The NAL units of a packet's payload, each behind its 4-byte length; empty ones are passed over.
///
/// Ends at the first length that runs past the payload.
pub fn split_length_prefixed(payload: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = payload;
    std::iter::from_fn(move || {
        let (length, after) = rest.split_first_chunk::<LENGTH_BYTES>()?;
        let (nal, after) = after.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        rest = after;
        Some(nal)
    })
    .filter(|nal| !nal.is_empty())
}

/// The same NAL units behind 4-byte start codes, as decoders and MPEG-TS want them (H.264 and H.265 §B.1).
pub fn to_annex_b(payload: &[u8]) -> Vec<u8> {
    let mut annex_b = Vec::with_capacity(payload.len());
    for nal in split_length_prefixed(payload) {
        annex_b.extend_from_slice(&START_CODE);
        annex_b.extend_from_slice(nal);
    }
    annex_b
}

/// A NAL unit never ends in a zero byte (H.264 and H.265 §7.4.1): zeros there are padding of the byte stream.
pub fn trim_trailing_zeros(nal: &[u8]) -> &[u8] {
    let end = nal.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    nal.get(..end).unwrap_or_default()
}

/// The bytes of a NAL unit body with the emulation prevention bytes taken out (H.264 and H.265 §7.3.1.1).
///
/// Lenient: byte sequences that a valid unit cannot contain pass unchanged.
pub(crate) fn rbsp(body: &[u8]) -> Vec<u8> {
    let mut rbsp = Vec::with_capacity(body.len());
    let mut zeros = 0;
    for &byte in body {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        rbsp.push(byte);
    }
    rbsp
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The bytes that hex digits spell.
    pub(crate) fn hex(digits: &str) -> Vec<u8> {
        let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
        (0..digits.len()).step_by(2).map(byte).collect()
    }

    #[test]
    fn annex_b_is_split_at_start_codes() {
        let rows: [(&[u8], &[&[u8]]); 9] = [
            (b"", &[]),
            (b"\0\0\0\x01", &[]),
            (b"\0\0\x01\x09\xf0", &[b"\x09\xf0"]),
            (b"\0\0\0\x01\x67\x42\0\0\x01\x68\xce", &[b"\x67\x42", b"\x68\xce"]),
            (b"\0\0\0\0\0\x01\x67\x42\0\0\0", &[b"\x67\x42"]),
            (b"\0\0\x01\0\0\x01\x65\0\0\x03\x01", &[b"\x65\0\0\x03\x01"]),
            (b"\x67\x42", &[b"\x67\x42"]),
            (b"\x67\x42\0\0\0\x01\x68", &[b"\x67\x42", b"\x68"]),
            (b"\x67\x42\0\0\x01", &[b"\x67\x42"]),
        ];
        for (bytes, nals) in rows {
            assert_eq!(split_annex_b(bytes).collect::<Vec<_>>(), nals, "{bytes:02x?}");
        }
    }

    #[test]
    fn length_prefixes_are_followed_until_one_lies() {
        let rows: [(&[u8], &[&[u8]]); 5] = [
            (b"", &[]),
            (b"\0\0\0\x01\x65\0\0\0\x02\x41\x9a", &[b"\x65", b"\x41\x9a"]),
            (b"\0\0\0\0\0\0\0\x01\x65", &[b"\x65"]),
            (b"\0\0\0\x01\x65\0\0\0\x02\x41", &[b"\x65"]),
            (b"\xff\xff\xff\xff\x65\0\0", &[]),
        ];
        for (payload, nals) in rows {
            assert_eq!(split_length_prefixed(payload).collect::<Vec<_>>(), nals, "{payload:02x?}");
        }
    }

    #[test]
    fn emulation_prevention_is_removed_leniently() {
        let rows: [(&[u8], &[u8]); 5] = [
            (b"\x42\0\0\x03\x01", b"\x42\0\0\x01"),
            (b"\0\0\x03\0\0\x03", b"\0\0\0\0"),
            (b"\0\0\x03\x80", b"\0\0\x80"),
            (b"\0\0\0\x03\x02", b"\0\0\0\x02"),
            (b"\0\x03\0\x03", b"\0\x03\0\x03"),
        ];
        for (body, expected) in rows {
            assert_eq!(rbsp(body), expected, "{body:02x?}");
        }
    }

    proptest! {
        #[test]
        fn framing_round_trips(nals in prop::collection::vec(prop::collection::vec(1_u8.., 1..40), 0..8)) {
            let mut payload = Vec::new();
            for nal in &nals {
                payload.extend_from_slice(&u32::try_from(nal.len()).unwrap().to_be_bytes());
                payload.extend_from_slice(nal);
            }
            let nals: Vec<_> = nals.iter().map(Vec::as_slice).collect();
            prop_assert_eq!(split_length_prefixed(&payload).collect::<Vec<_>>(), &*nals);
            let annex_b = to_annex_b(&payload);
            prop_assert_eq!(split_annex_b(&annex_b).collect::<Vec<_>>(), &*nals);
        }

        #[test]
        fn any_bytes_split(bytes in prop::collection::vec(0_u8..4, 0..200)) {
            for nal in split_annex_b(&bytes) {
                prop_assert!(!nal.is_empty() && nal.last() != Some(&0) && memmem::find(nal, b"\0\0\x01").is_none());
            }
            prop_assert!(split_length_prefixed(&bytes).map(<[u8]>::len).sum::<usize>() <= bytes.len());
        }
    }
}

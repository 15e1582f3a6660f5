//! H.264 payloads (RFC 6184): single NAL units, STAP-A, FU-A.

use crate::{
    Quirk, RtpPacket,
    depacketizer::Units,
    pictures::{Fragment, Pictures},
};

/// Takes one packet.
pub(crate) fn push(pictures: &mut Pictures, packet: RtpPacket<'_>, output: &mut Units) {
    pictures.arrive(&packet, output);
    payload(pictures, packet.payload, output);
    if packet.marker {
        pictures.marker(output);
    }
}

/// RFC 6184 Table 3: the payload structure by its first byte.
fn payload(pictures: &mut Pictures, payload: &[u8], output: &mut Units) {
    let Some((&header, body)) = payload.split_first() else { return output.count(Quirk::EmptyFragment) };
    match header & 0x1f {
        1..=23 => pictures.nal(payload, output),
        24 => aggregate(pictures, body, output),
        28 => fragment(pictures, header, body, output),
        // STAP-B, MTAP16, MTAP24, FU-B: packetization-mode 2 (§5.4), which no SDP of a camera offers.
        25..=27 | 29 => {
            output.count(Quirk::InterleavingRefused);
            pictures.damage(output);
        }
        _ => match without_start_code(payload) {
            // V380: a start code where the header belongs; it is counted with those inside NAL units.
            Some(nal) => {
                output.count(Quirk::AnnexBInPayload);
                pictures.nal(nal, output);
            }
            None => output.count(Quirk::PayloadInvalid),
        },
    }
}

/// STAP-A (§5.7.1): NAL units behind 16-bit sizes.
pub(crate) fn aggregate(pictures: &mut Pictures, mut rest: &[u8], output: &mut Units) {
    while let Some((size, after)) = rest.split_first_chunk::<2>() {
        let Some((nal, after)) = after.split_at_checked(usize::from(u16::from_be_bytes(*size))) else {
            output.count(Quirk::AggregateCut);
            return pictures.damage(output);
        };
        rest = after;
        match nal {
            [] => output.count(Quirk::EmptyFragment),
            nal => pictures.nal(without_start_code(nal).unwrap_or(nal), output),
        }
    }
    if !rest.is_empty() {
        output.count(Quirk::AggregateCut);
    }
}

/// FU-A (§5.8).
fn fragment(pictures: &mut Pictures, indicator: u8, body: &[u8], output: &mut Units) {
    let Some((&fu_header, body)) = body.split_first() else { return output.count(Quirk::PayloadInvalid) };
    if fu_header & 0x20 != 0 {
        // "MUST be equal to 0 and MUST be ignored by the receiver".
        output.count(Quirk::FragmentReservedBit);
    }
    let header = [indicator & 0xe0 | fu_header & 0x1f];
    let (start, end) = (fu_header & 0x80 != 0, fu_header & 0x40 != 0);
    pictures.fragment(Fragment { header: &header, body, start, end }, output);
}

/// What follows a leading start code of three or four bytes, if there is one.
pub(crate) fn without_start_code(payload: &[u8]) -> Option<&[u8]> {
    payload.strip_prefix(&[0, 0, 1]).or_else(|| payload.strip_prefix(&[0, 0, 0, 1])).filter(|nal| !nal.is_empty())
}

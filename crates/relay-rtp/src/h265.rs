//! H.265 payloads (RFC 7798): single NAL units, aggregation packets, fragmentation units. Decoding order numbers
//! (`sprop-max-don-diff`) are refused with the SDP, so that none is ever in a payload.

use crate::{
    Quirk, RtpPacket,
    depacketizer::Units,
    h264::{aggregate, without_start_code},
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

/// RFC 7798 §4.4: the payload structure by the two header bytes.
fn payload(pictures: &mut Pictures, payload: &[u8], output: &mut Units) {
    if let Some(nal) = without_start_code(payload) {
        // A TemporalId of -1 cannot occur, so this is a start code where the header belongs (V380).
        output.count(Quirk::AnnexBInPayload);
        return pictures.nal(nal, output);
    }
    let Some((&[first, second], body)) = payload.split_first_chunk::<2>() else {
        return output.count(if payload.is_empty() { Quirk::EmptyFragment } else { Quirk::PayloadInvalid });
    };
    match (first >> 1) & 0x3f {
        0..=47 => pictures.nal(payload, output),
        // §4.4.2: the same framing as STAP-A.
        48 => aggregate(pictures, body, output),
        49 => fragment(pictures, [first, second], body, output),
        // PACI (§4.4.4) carries another structure inside; no camera is known to send it.
        50 => {
            output.count(Quirk::InterleavingRefused);
            pictures.damage(output);
        }
        _ => output.count(Quirk::PayloadInvalid),
    }
}

/// FU (§4.4.3): the type moves from the payload header into the FU header.
fn fragment(pictures: &mut Pictures, [first, second]: [u8; 2], body: &[u8], output: &mut Units) {
    let Some((&fu_header, body)) = body.split_first() else { return output.count(Quirk::PayloadInvalid) };
    let header = [first & 0x81 | (fu_header & 0x3f) << 1, second];
    let (start, end) = (fu_header & 0x80 != 0, fu_header & 0x40 != 0);
    pictures.fragment(Fragment { header: &header, body, start, end }, output);
}

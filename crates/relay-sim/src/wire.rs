//! Access units packetised once for all viewers: H.264 over RTP (RFC 6184), H.265 over RTP (RFC 7798).

use bytes::Bytes;
use relay_media::stamp::Stamp;

use crate::clip::{Coding, Unit};

/// Bytes of payload of an RTP packet: what cameras use on Ethernet, 1500 less IP, UDP, RTP and some tunnel's headers.
const MAX_PAYLOAD: usize = 1400;
/// `$`, channel, 16-bit length (RFC 2326 §10.12).
pub(crate) const INTERLEAVED_HEADER: usize = 4;
/// The fixed RTP header (RFC 3550 §5.1).
pub(crate) const RTP_HEADER: usize = 12;
/// The RTP payload type of video, by SDP.
pub(crate) const VIDEO_PAYLOAD_TYPE: u8 = 96;

/// One access unit as it goes over an interleaved connection; sequence number, timestamp, SSRC, channel and stamp are
/// patched per viewer.
#[derive(Debug)]
pub(crate) struct WireUnit {
    pub(crate) image: Vec<u8>,
    pub(crate) packets: Vec<WirePacket>,
    /// Where in `image` the stamp's NAL unit begins.
    pub(crate) stamp_at: usize,
    pub(crate) key: bool,
    pub(crate) composition: u32,
    pub(crate) coding: Coding,
}

/// A packet within [`WireUnit::image`], with its interleaved header.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WirePacket {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) parameter_set: bool,
}

/// What a NAL unit is to a clip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    ParameterSet,
    KeySlice,
    Slice,
    Other,
}

/// The role of a NAL unit (H.264 table 7-1, H.265 table 7-1).
pub(crate) fn role(nal: &[u8], coding: Coding) -> Role {
    let Some(&header) = nal.first() else { return Role::Other };
    if coding.is_h265() {
        match (header >> 1) & 0x3f {
            32..=34 => Role::ParameterSet,
            16..=21 => Role::KeySlice,
            0..=9 => Role::Slice,
            _ => Role::Other,
        }
    } else {
        match header & 0x1f {
            7 | 8 => Role::ParameterSet,
            5 => Role::KeySlice,
            1..=4 => Role::Slice,
            _ => Role::Other,
        }
    }
}

/// The stamp as a NAL unit of `coding`.
pub(crate) fn stamp_nal(stamp: Stamp, coding: Coding) -> Vec<u8> {
    let nal = stamp.to_nal();
    if !coding.is_h265() {
        return nal.to_vec();
    }
    // PREFIX_SEI_NUT 39 with layer 0 and temporal id 1 (H.265 §7.3.1.2); the message is that of H.264.
    [0x4e, 0x01].into_iter().chain(nal.into_iter().skip(1)).collect()
}

impl WireUnit {
    pub(crate) fn new(unit: &Unit, parameter_sets: &[Bytes], coding: Coding) -> Self {
        let mut out = Self {
            image: Vec::new(),
            packets: Vec::new(),
            stamp_at: 0,
            key: unit.key,
            composition: unit.composition,
            coding,
        };
        for set in parameter_sets.iter().filter(|_| unit.key) {
            out.nal(set, coding, true);
        }
        out.stamp_at = out.image.len() + INTERLEAVED_HEADER + RTP_HEADER;
        out.nal(&stamp_nal(Stamp { counter: 0, utc_nanos: 0 }, coding), coding, false);
        for nal in &unit.nals {
            out.nal(nal, coding, false);
        }
        // The marker bit ends the access unit (RFC 6184 §5.1).
        if let Some(byte) = out.packets.last().and_then(|last| out.image.get_mut(last.start + INTERLEAVED_HEADER + 1)) {
            *byte |= 0x80;
        }
        out
    }

    fn nal(&mut self, nal: &[u8], coding: Coding, parameter_set: bool) {
        if nal.len() <= MAX_PAYLOAD {
            self.packet(&[], nal, parameter_set);
        } else if coding.is_h265() {
            // RFC 7798 §4.4.3: type 49 in the two-byte header, then S, E and the type of the unit.
            let Some(([first, second], body)) = nal.split_first_chunk() else { return };
            let kind = (first >> 1) & 0x3f;
            self.fragments(body, |flags| vec![(first & 0x81) | (49 << 1), *second, flags | kind]);
        } else {
            // RFC 6184 §5.8: FU indicator (type 28 with the unit's importance), FU header (S, E, R, type).
            let Some((first, body)) = nal.split_first() else { return };
            self.fragments(body, |flags| vec![(first & 0xe0) | 28, flags | (first & 0x1f)]);
        }
    }

    fn fragments(&mut self, body: &[u8], header: impl Fn(u8) -> Vec<u8>) {
        const HEADER_MAX: usize = 3;
        let count = body.len().div_ceil(MAX_PAYLOAD - HEADER_MAX);
        for (index, part) in body.chunks(MAX_PAYLOAD - HEADER_MAX).enumerate() {
            let (start, end) = (u8::from(index == 0), u8::from(index + 1 == count));
            self.packet(&header(start << 7 | end << 6), part, false);
        }
    }

    fn packet(&mut self, header: &[u8], body: &[u8], parameter_set: bool) {
        let start = self.image.len();
        append_packet(&mut self.image, VIDEO_PAYLOAD_TYPE, header, body);
        self.packets.push(WirePacket { start, end: self.image.len(), parameter_set });
    }
}

/// Appends an interleaved RTP packet, the fields that differ per viewer left zero.
pub(crate) fn append_packet(out: &mut Vec<u8>, payload_type: u8, header: &[u8], body: &[u8]) {
    let length = u16::try_from(RTP_HEADER + header.len() + body.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&[b'$', 0]);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&[0x80, payload_type, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    out.extend_from_slice(header);
    out.extend_from_slice(body);
}

/// Writes what differs per viewer into an interleaved packet.
pub(crate) fn patch(packet: &mut [u8], channel: u8, sequence: u16, timestamp: u32, ssrc: u32) {
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(to) = packet.get_mut(at..at + bytes.len()) {
            to.copy_from_slice(bytes);
        }
    };
    put(1, &[channel]);
    put(INTERLEAVED_HEADER + 2, &sequence.to_be_bytes());
    put(INTERLEAVED_HEADER + 4, &timestamp.to_be_bytes());
    put(INTERLEAVED_HEADER + 8, &ssrc.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_units_are_fragmented_and_come_together_again() {
        for (coding, first, header) in [(Coding::H264Baseline, vec![0x65], 2), (Coding::H265, vec![0x26, 0x01], 3)] {
            let nal: Vec<u8> = first.iter().copied().chain((0..5_000).map(|i| (i % 251) as u8 + 1)).collect();
            let unit = Unit { nals: vec![nal.clone().into()], key: true, composition: 0 };
            let sets = [Bytes::from_static(b"\x67sps"), Bytes::from_static(b"\x68pps")];
            let wire = WireUnit::new(&unit, &sets, coding);
            let packets: Vec<&[u8]> = wire.packets.iter().map(|p| &wire.image[p.start..p.end]).collect();
            assert_eq!(packets.len(), 2 + 1 + 4, "{coding:?}");
            let mut body = Vec::new();
            for (index, packet) in packets.iter().enumerate() {
                assert_eq!(usize::from(u16::from_be_bytes([packet[2], packet[3]])), packet.len() - 4);
                assert_eq!(packet[5] >> 7, u8::from(index == 6), "the marker ends the unit");
                if index >= 3 {
                    body.extend_from_slice(&packet[16 + header..]);
                    let flags = packet[16 + header - 1] >> 6;
                    assert_eq!(
                        flags,
                        if index == 3 {
                            2
                        } else if index == 6 {
                            1
                        } else {
                            0
                        }
                    );
                }
            }
            assert_eq!(body, nal[first.len()..]);
            assert!(wire.image[wire.stamp_at..].starts_with(&stamp_nal(Stamp { counter: 0, utc_nanos: 0 }, coding)));
        }
    }
}

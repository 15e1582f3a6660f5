//! NAL units into RTP payloads: RFC 6184 (H.264, packetization-mode 1) and RFC 7798 (H.265).

use std::sync::Arc;

use relay_media::{h264, h265};

use super::packetizer::PAYLOAD_MAX;

/// Bytes of a NAL unit's length inside an aggregation packet (RFC 6184 §5.7.1, RFC 7798 §4.4.2).
const SIZE_BYTES: usize = 2;

/// Which codec's payload format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Syntax {
    H264,
    H265,
}

impl Syntax {
    /// `nal_unit_type`; `None` if the NAL unit is cut short.
    pub(super) fn kind(self, nal: &[u8]) -> Option<u8> {
        match (self, nal) {
            (Self::H264, [header, ..]) => Some(h264::nal_type(*header)),
            (Self::H265, [header, _, ..]) => Some(h265::nal_type(*header)),
            _ => None,
        }
    }

    /// The NAL unit belongs on the wire: no delimiter, no filler (decoders need neither), none of the types that RTP
    /// has taken for itself.
    pub(super) fn is_sent(self, nal: &[u8]) -> bool {
        self.kind(nal).is_some_and(|kind| match self {
            Self::H264 => matches!(kind, 1..24) && !matches!(kind, h264::NAL_AUD | h264::NAL_FILLER),
            Self::H265 => kind < 48 && !matches!(kind, h265::NAL_AUD | h265::NAL_FILLER),
        })
    }

    /// A slice, which carries a part of the picture itself.
    fn is_slice(self, nal: &[u8]) -> bool {
        nal.first().is_some_and(|&header| match self {
            Self::H264 => h264::is_slice(header),
            Self::H265 => h265::is_slice(header),
        })
    }

    /// Bytes of a NAL unit's header, which is also the length of a payload header.
    fn header_len(self) -> usize {
        match self {
            Self::H264 => 1,
            Self::H265 => 2,
        }
    }
}

/// The payloads of one access unit: neighbours that fit together are aggregated, what fits alone goes alone, and
/// what doesn't is cut. `apart`: slices are not aggregated with what stands before them.
pub(super) fn payloads<'a>(syntax: Syntax, nals: impl Iterator<Item = &'a [u8]>, mut apart: bool) -> Vec<Arc<[u8]>> {
    let mut out = Vec::new();
    let (mut waiting, mut bytes): (Vec<&[u8]>, usize) = (Vec::new(), syntax.header_len());
    for nal in nals {
        let first_slice = apart && syntax.is_slice(nal);
        apart &= !first_slice;
        if first_slice || bytes + SIZE_BYTES + nal.len() > PAYLOAD_MAX {
            flush(syntax, &mut waiting, &mut out);
            bytes = syntax.header_len();
        }
        if nal.len() > PAYLOAD_MAX {
            fragments(syntax, nal, &mut out);
        } else {
            bytes += SIZE_BYTES + nal.len();
            waiting.push(nal);
        }
    }
    flush(syntax, &mut waiting, &mut out);
    out
}

fn flush(syntax: Syntax, waiting: &mut Vec<&[u8]>, out: &mut Vec<Arc<[u8]>>) {
    match waiting.as_slice() {
        [] => {}
        [nal] => out.push(Arc::from(*nal)),
        several => out.push(aggregate(syntax, several)),
    }
    waiting.clear();
}

/// STAP-A (RFC 6184 §5.7.1) or AP (RFC 7798 §4.4.2).
fn aggregate(syntax: Syntax, nals: &[&[u8]]) -> Arc<[u8]> {
    let mut payload = Vec::with_capacity(PAYLOAD_MAX);
    match syntax {
        Syntax::H264 => {
            // F is set if any has it, NRI is the highest (RFC 6184 §5.7.1).
            let headers = || nals.iter().filter_map(|nal| nal.first());
            let forbidden = headers().fold(0, |all, header| all | header & 0x80);
            let importance = headers().map(|header| header & 0x60).max().unwrap_or_default();
            payload.push(forbidden | importance | 24);
        }
        Syntax::H265 => {
            // Type 48; layer and temporal id are the lowest (RFC 7798 §4.4.2).
            let headers = || nals.iter().filter_map(|nal| nal.first_chunk::<2>());
            let forbidden = headers().fold(0, |all, header| all | header[0] & 0x80);
            let ids = headers().map(|header| u16::from_be_bytes(*header) & 0x01ff);
            let layer = ids.clone().map(|id| id & 0x01f8).min().unwrap_or_default();
            let temporal = ids.map(|id| id & 7).min().unwrap_or(1);
            let [high, low] = (layer | temporal).to_be_bytes();
            payload.extend([forbidden | 48 << 1 | high, low]);
        }
    }
    for nal in nals {
        // What is aggregated fits into PAYLOAD_MAX, so its size fits into 16 bits.
        payload.extend(u16::try_from(nal.len()).unwrap_or_default().to_be_bytes());
        payload.extend_from_slice(nal);
    }
    Arc::from(payload)
}

/// FU-A (RFC 6184 §5.8) or FU (RFC 7798 §4.4.3): as few as possible, and all of the same length but for the last, so
/// that the kernel can cut them out of one buffer.
fn fragments(syntax: Syntax, nal: &[u8], out: &mut Vec<Arc<[u8]>>) {
    let Some((header, body)) = nal.split_at_checked(syntax.header_len()) else { return };
    let (mut head, kind) = match (syntax, header) {
        (Syntax::H264, [first]) => (vec![first & 0xe0 | 28], first & 0x1f),
        (Syntax::H265, [first, second]) => (vec![first & 0x81 | 49 << 1, *second], h265::nal_type(*first)),
        _ => return,
    };
    let head_len = head.len() + 1;
    head.push(0);
    let count = body.len().div_ceil(PAYLOAD_MAX - head_len);
    let length = body.len().div_ceil(count.max(1));
    for (index, part) in body.chunks(length.max(1)).enumerate() {
        let start = if index == 0 { 0x80 } else { 0 };
        let end = if index + 1 == count { 0x40 } else { 0 };
        if let Some(fu_header) = head.last_mut() {
            *fu_header = start | end | kind;
        }
        let mut payload = Vec::with_capacity(head_len + part.len());
        payload.extend_from_slice(&head);
        payload.extend_from_slice(part);
        out.push(Arc::from(payload));
    }
}

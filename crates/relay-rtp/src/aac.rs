//! AAC payloads (RFC 3640, mode AAC-hbr and its kin): access units behind a section of bit-packed headers.

use bytes::Bytes;
use relay_media::{Flags, aac};

use crate::{Quirk, RtpPacket, depacketizer::Units};

/// The most bytes of one AAC frame: 6144 bits per channel (ISO/IEC 14496-3 §4.5.3.1) and 48 channels make 36 864
/// bytes; a 16-bit size could say 65 535.
pub const MAX_AUDIO_FRAME_BYTES: usize = 64 << 10;

/// The widths of the fields in each AU header, in bits (RFC 3640 §4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AacLayout {
    /// `sizeLength`: 13 in AAC-hbr, 6 in AAC-lbr; 1 to 16.
    pub size_bits: u8,
    /// `indexLength`, in the first header; 0 to 16.
    pub index_bits: u8,
    /// `indexDeltaLength`, in the others; 0 to 16.
    pub index_delta_bits: u8,
}

/// Assembles the frames of one RTP stream.
#[derive(Debug)]
pub(crate) struct AacFrames {
    layout: AacLayout,
    ticks_per_frame: i64,
    /// A frame of which fragments have come: its timestamp, its whole size, its bytes so far.
    partial: Option<(i64, usize, Vec<u8>)>,
    /// Fragments of a frame whose start was lost are passed over until the timestamp changes.
    skipping: Option<i64>,
}

impl AacFrames {
    pub(crate) fn new(config: &aac::Config, layout: AacLayout, clock_hz: u32) -> Self {
        let ticks = u64::from(config.frame_samples()) * u64::from(clock_hz) / u64::from(config.sample_rate().max(1));
        Self { layout, ticks_per_frame: i64::try_from(ticks).unwrap_or(0), partial: None, skipping: None }
    }

    pub(crate) fn push(&mut self, packet: RtpPacket<'_>, output: &mut Units) {
        if let Some((timestamp, ..)) = self.partial
            && (packet.lost_before > 0 || timestamp != packet.timestamp)
        {
            output.count(Quirk::UnitDamaged);
            self.partial = None;
            self.skipping = Some(timestamp);
        }
        if packet.payload.is_empty() {
            return output.count(Quirk::EmptyFragment);
        }
        // §3.2.1: the length of all headers in bits, then the headers, padded to a byte.
        let sections = packet.payload.split_first_chunk::<2>().and_then(|(bits, rest)| {
            let bits = usize::from(u16::from_be_bytes(*bits));
            rest.split_at_checked(bits.div_ceil(8)).map(|(headers, data)| (bits, headers, data))
        });
        let Some((bits, headers, data)) = sections else { return output.count(Quirk::PayloadInvalid) };
        self.units(packet, Headers { bytes: headers, position: 0, end: bits }, data, output);
    }

    fn units(&mut self, packet: RtpPacket<'_>, mut headers: Headers<'_>, mut data: &[u8], output: &mut Units) {
        let AacLayout { size_bits, index_bits, index_delta_bits } = self.layout;
        let mut index = 0;
        while let Some(size) = headers.take(size_bits) {
            let Some(delta) = headers.take(if index == 0 { index_bits } else { index_delta_bits }) else {
                return output.count(Quirk::PayloadInvalid);
            };
            if delta != 0 {
                // §3.2.3.2: interleaving. An AU-Index other than 0 in the first header means the same.
                return output.count(Quirk::InterleavingRefused);
            }
            let timestamp = packet.timestamp.saturating_add(self.ticks_per_frame.saturating_mul(index));
            let size = usize::try_from(size).unwrap_or(usize::MAX);
            if size > data.len() {
                // §3.2.3: a fragmented unit is alone in its packets, each of which tells the whole size.
                return if index == 0 && headers.is_empty() {
                    self.fragment(packet, size, data, output);
                } else {
                    output.count(Quirk::AggregateCut);
                };
            }
            if self.partial.take().is_some() {
                output.count(Quirk::UnitDamaged);
            }
            let (frame, rest) = data.split_at(size);
            data = rest;
            match frame {
                [] => output.count(Quirk::EmptyFragment),
                frame => output.emit(timestamp, packet.arrival, Bytes::copy_from_slice(frame), Flags::empty()),
            }
            index += 1;
        }
    }

    fn fragment(&mut self, packet: RtpPacket<'_>, size: usize, data: &[u8], output: &mut Units) {
        if self.skipping == Some(packet.timestamp) {
            return;
        }
        self.skipping = None;
        if self.partial.is_none() && packet.lost_before > 0 {
            // It may be the middle of a frame.
            self.skipping = Some(packet.timestamp);
            return output.count(Quirk::UnitDamaged);
        }
        if size > MAX_AUDIO_FRAME_BYTES {
            return output.count(Quirk::UnitTooLarge);
        }
        let (_, whole, bytes) = self.partial.get_or_insert_with(|| (packet.timestamp, size, Vec::with_capacity(size)));
        if bytes.len() + data.len() > *whole {
            self.partial = None;
            self.skipping = Some(packet.timestamp);
            return output.count(Quirk::UnitDamaged);
        }
        bytes.extend_from_slice(data);
        if bytes.len() == *whole
            && let Some((timestamp, _, bytes)) = self.partial.take()
        {
            output.emit(timestamp, packet.arrival, Bytes::from(bytes), Flags::empty());
        } else if packet.marker {
            // §3.1: the marker is on the last fragment.
            self.partial = None;
            output.count(Quirk::UnitDamaged);
        }
    }
}

/// The AU header section, read bit by bit.
#[derive(Clone, Copy, Debug)]
struct Headers<'a> {
    bytes: &'a [u8],
    position: usize,
    end: usize,
}

impl Headers<'_> {
    /// The next `bits` (at most 32) as a number; `None` if there are fewer.
    fn take(&mut self, bits: u8) -> Option<u32> {
        let end = self.position.checked_add(usize::from(bits)).filter(|end| *end <= self.end)?;
        let mut value = 0;
        for position in self.position..end {
            let byte = self.bytes.get(position / 8)?;
            value = value << 1 | u32::from(byte >> (7 - position % 8) & 1);
        }
        self.position = end;
        Some(value)
    }

    fn is_empty(&self) -> bool {
        self.position >= self.end
    }
}

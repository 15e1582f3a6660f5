//! AAC in ADTS (ISO/IEC 13818-7 §6.2; the same in ISO/IEC 14496-3 §1.A.2.2): frames out of the elementary stream.
//!
//! A header is believed where the frame before it ended. At the start and after a loss, a header must be followed by
//! another of the same kind where its frame ends, or its frame must be all there is.

use std::collections::VecDeque;

use bytes::Bytes;
use memchr::memchr_iter;
use relay_media::{Codec, Flags, aac};

use crate::{Quirk, clock::Stamp, demuxer::Outlet};

/// Bytes of a header without its CRC.
const HEADER_BYTES: usize = 7;

/// PES packets with times before the frame that takes the newest of them.
const MAX_STAMPS: usize = 64;

/// Assembles the frames of one elementary stream.
#[derive(Debug, Default)]
pub(crate) struct AdtsFrames {
    /// Less than two frames (of 13-bit lengths) and a packet.
    buffer: Vec<u8>,
    /// What stands before here is done with.
    done: usize,
    /// The next frame begins at `done` for sure.
    in_step: bool,
    /// A frame had come in part when a PES packet began here. Either it goes on, or it was cut (at the end of a segment)
    /// and another one begins.
    seam: Option<usize>,
    /// The kind of frames that the codec was made of.
    kind: Option<Kind>,
    rate: i64,
    frame_samples: i64,
    stamps: VecDeque<(usize, Stamp)>,
    /// The time that the next frame has if it doesn't tell: samples after a PES packet's time.
    base: Option<(i64, i64)>,
}

/// The fields of a header that stay the same (`adts_fixed_header`), but for the private and copyright bits.
type Kind = [u8; 3];

#[derive(Clone, Copy, Debug)]
struct Header {
    kind: Kind,
    header_bytes: usize,
    frame_bytes: usize,
    blocks: u8,
}

impl Header {
    /// Reads a header; `None` if it is none, or cut.
    fn read(bytes: &[u8]) -> Option<Self> {
        let [sync, first, second, third, fourth, fifth, sixth] = *bytes.first_chunk::<HEADER_BYTES>()?;
        // syncword 0xfff, layer 0; the bit between tells MPEG-2 from MPEG-4.
        if sync != 0xff || first & 0xf6 != 0xf0 {
            return None;
        }
        let frame_bytes = usize::from(third & 3) << 11 | usize::from(fourth) << 3 | usize::from(fifth >> 5);
        let header_bytes = if first & 1 == 1 { HEADER_BYTES } else { HEADER_BYTES + 2 };
        let kind = [first, second & 0xfd, third & 0xc0];
        let blocks = sixth & 3;
        (frame_bytes > header_bytes).then_some(Self { kind, header_bytes, frame_bytes, blocks })
    }

    /// The AudioSpecificConfig (ISO/IEC 14496-3 §1.6.2.1) that says the same; refused if the channels are told in-band.
    fn config(&self) -> Option<aac::Config> {
        let [_, second, third] = self.kind;
        let (object_type, rate) = ((second >> 6) + 1, second >> 2 & 0x0f);
        let channels = (second & 1) << 2 | third >> 6;
        if channels == 0 {
            return None;
        }
        aac::Config::parse(&[object_type << 3 | rate >> 1, rate << 7 | channels << 3]).ok()
    }
}

impl AdtsFrames {
    /// A PES packet's payload begins.
    pub(crate) fn start(&mut self, stamp: Option<Stamp>, outlet: &mut Outlet<'_>) {
        // What was too short to be a header is the end of a frame.
        self.seam = None;
        self.frames(false, outlet);
        if self.in_step && self.done < self.buffer.len() {
            self.seam = Some(self.buffer.len());
        }
        if let Some(stamp) = stamp {
            if self.stamps.len() >= MAX_STAMPS {
                self.stamps.pop_front();
            }
            self.stamps.push_back((self.buffer.len(), stamp));
        }
    }

    pub(crate) fn payload(&mut self, bytes: &[u8], outlet: &mut Outlet<'_>) {
        self.buffer.extend_from_slice(bytes);
        self.frames(false, outlet);
        if self.done * 2 >= self.buffer.len() {
            self.buffer.drain(..self.done);
            self.stamps.iter_mut().for_each(|(from, _)| *from = from.saturating_sub(self.done));
            self.seam = self.seam.map(|seam| seam.saturating_sub(self.done));
            self.done = 0;
        }
    }

    /// Bytes are missing after those that have come.
    pub(crate) fn damage(&mut self, outlet: &mut Outlet<'_>) {
        if self.done < self.buffer.len() {
            outlet.count(Quirk::UnitDamaged);
            outlet.track.discontinuity = true;
        }
        self.buffer.clear();
        self.stamps.clear();
        (self.done, self.in_step, self.seam, self.base) = (0, false, None, None);
    }

    /// The segment ends here. A frame of which a part has come stays: the next segment may begin with its rest.
    pub(crate) fn finish(&mut self, outlet: &mut Outlet<'_>) {
        self.seam = None;
        self.frames(true, outlet);
    }

    /// Hands out the frames that are whole; `ended` if no bytes follow.
    fn frames(&mut self, ended: bool, outlet: &mut Outlet<'_>) {
        while self.in_step || self.find_step(ended) {
            if let Some(seam) = self.seam {
                let after = self.buffer.get(seam..).unwrap_or_default();
                if after.len() < HEADER_BYTES {
                    return;
                }
                self.seam = None;
                if Header::read(after).is_some_and(|header| Some(header.kind) == self.kind) {
                    outlet.count(Quirk::UnitDamaged);
                    outlet.track.discontinuity = true;
                    self.done = seam;
                }
            }
            let rest = self.buffer.get(self.done..).unwrap_or_default();
            if rest.len() < HEADER_BYTES {
                return;
            }
            let Some(header) = Header::read(rest) else {
                outlet.count(Quirk::AdtsSyncLost);
                outlet.track.discontinuity = true;
                self.in_step = false;
                continue;
            };
            if rest.len() < header.frame_bytes {
                return;
            }
            self.frame(header, outlet);
            self.done += header.frame_bytes;
        }
    }

    /// Looks for two headers in a row, or one whose frame is all that is left; false if more bytes must come.
    fn find_step(&mut self, ended: bool) -> bool {
        let rest = self.buffer.get(self.done..).unwrap_or_default();
        for at in memchr_iter(0xff, rest) {
            let bytes = rest.get(at..).unwrap_or_default();
            let header = Header::read(bytes);
            let next = header.and_then(|header| bytes.get(header.frame_bytes..));
            match (header, next) {
                (None, _) if bytes.len() >= HEADER_BYTES => {}
                (Some(header), Some(next)) if next.len() >= HEADER_BYTES => {
                    if Header::read(next).is_some_and(|next| next.kind == header.kind) {
                        self.done += at;
                        self.in_step = true;
                        return true;
                    }
                }
                (Some(header), _) if ended && header.frame_bytes == bytes.len() => {
                    self.done += at;
                    self.in_step = true;
                    return true;
                }
                _ if ended => {}
                _ => {
                    self.done += at;
                    return false;
                }
            }
        }
        self.done = self.buffer.len();
        false
    }

    fn frame(&mut self, header: Header, outlet: &mut Outlet<'_>) {
        let mut stamp = None;
        while let Some((_, newer)) = self.stamps.front().filter(|(from, _)| *from <= self.done) {
            stamp = Some(*newer);
            self.stamps.pop_front();
        }
        if let Some(stamp) = stamp {
            self.base = Some((stamp.pts, 0));
        }
        let is_known = self.kind == Some(header.kind) || self.take_kind(header, outlet);
        if header.blocks != 0 || !is_known {
            outlet.track.discontinuity = true;
            return outlet.count(Quirk::AdtsRefused);
        }
        let Some((base, samples)) = &mut self.base else { return outlet.count(Quirk::TimestampMissing) };
        let time = base.saturating_add(*samples * 90_000 / self.rate);
        *samples += self.frame_samples;
        let frame = self.buffer.get(self.done + header.header_bytes..self.done + header.frame_bytes);
        let stamp = Stamp { pts: time, dts: time };
        outlet.emit(stamp, Bytes::copy_from_slice(frame.unwrap_or_default()), Flags::empty());
    }

    /// Another kind of frames begins; false if it is refused.
    fn take_kind(&mut self, header: Header, outlet: &mut Outlet<'_>) -> bool {
        let Some(config) = header.config() else { return false };
        (self.kind, self.rate) = (Some(header.kind), i64::from(config.sample_rate()).max(1));
        self.frame_samples = i64::from(config.frame_samples());
        outlet.set_codec(Codec::Aac(config));
        true
    }
}

//! Samples to units: bytes that come in pieces, NAL units behind lengths of any size, parameter sets among them.

use std::collections::VecDeque;

use bytes::Bytes;
use relay_media::{
    Codec, Flags, Timestamp,
    access_unit::{AccessUnitBuilder, MAX_ACCESS_UNIT_BYTES},
};

use super::{
    CmafUnit,
    fragment::Placed,
    init::{Framing, Init},
};
use crate::TRACKS_MAX;

/// Makes units of samples.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    pub(super) ready: VecDeque<CmafUnit>,
    pub(super) dropped: u64,
    /// The front of a sample of which more is to come.
    front: Vec<u8>,
    tracks: Vec<TrackState>,
}

#[derive(Debug)]
struct TrackState {
    builder: Option<AccessUnitBuilder>,
    /// The codec last told.
    codec: Option<Codec>,
    is_new: bool,
}

impl Assembler {
    /// Another initialisation segment came.
    pub(super) fn begin(&mut self, init: &Init) {
        let mut told: Vec<_> = self.tracks.drain(..).map(|track| track.codec).collect();
        told.resize(TRACKS_MAX, None);
        self.front.clear();
        for ((track, framing), told) in init.tracks.iter().zip(&init.framings).zip(told) {
            let builder = framing.as_ref().map(|framing| {
                let mut builder = AccessUnitBuilder::new(framing.syntax);
                framing.sets.iter().for_each(|set| builder.learn(set));
                builder
            });
            // The same as before needs no telling; video tells with its first picture.
            let codec = if builder.is_some() { told.clone() } else { track.codec.clone() };
            let is_new = builder.is_none() && codec.is_some() && codec != told;
            self.tracks.push(TrackState { builder, codec, is_new });
        }
    }

    /// So many bytes of the present sample are here.
    pub(super) fn holds_front(&self, bytes: u64) -> bool {
        self.front.len() as u64 == bytes
    }

    /// Keeps the next piece of a sample of `size` bytes.
    pub(super) fn keep(&mut self, size: u32, piece: &[u8]) {
        if size as usize <= MAX_ACCESS_UNIT_BYTES {
            self.front.extend_from_slice(piece);
        }
    }

    /// What was begun will not be completed.
    pub(super) fn cut(&mut self) {
        self.front.clear();
    }

    /// The present sample cannot be had.
    pub(super) fn drop_sample(&mut self) {
        self.front.clear();
        self.dropped += 1;
    }

    /// The last piece of a sample is here.
    pub(super) fn complete(&mut self, placed: &Placed, piece: &[u8], init: &Init) {
        let mut front = std::mem::take(&mut self.front);
        let sample = if front.is_empty() {
            piece
        } else {
            front.extend_from_slice(piece);
            &front
        };
        let is_whole = sample.len() == placed.size as usize && !sample.is_empty();
        if !is_whole || self.unit(placed, sample, init).is_none() {
            self.dropped += 1;
        }
        // The buffer is used again.
        front.clear();
        self.front = front;
    }

    fn unit(&mut self, placed: &Placed, sample: &[u8], init: &Init) -> Option<()> {
        let (track, clock) = (init.tracks.get(placed.track)?, init.clocks.get(placed.track)?);
        if track.kind.is_none() {
            return Some(());
        }
        let state = self.tracks.get_mut(placed.track)?;
        let (payload, flags, codec) = match (&mut state.builder, init.framings.get(placed.track)?) {
            (Some(builder), Some(framing)) => {
                let picture = picture(builder, framing, sample)?;
                let codec = picture.2.filter(|codec| state.codec.as_ref() != Some(codec));
                state.codec = codec.clone().or(state.codec.take());
                (picture.0, picture.1, codec)
            }
            _ => {
                let codec = state.codec.clone()?;
                (Bytes::copy_from_slice(sample), Flags::empty(), std::mem::take(&mut state.is_new).then_some(codec))
            }
        };
        let dts = Timestamp::new(placed.dts.saturating_sub(clock.shift), track.timebase);
        let pts = dts.plus(placed.offset.into());
        self.ready.push_back(CmafUnit {
            track: placed.track,
            dts,
            pts,
            duration: placed.duration,
            payload,
            flags,
            codec,
        });
        Some(())
    }
}

/// The NAL units of a sample, without those that belong to the track.
fn picture(builder: &mut AccessUnitBuilder, framing: &Framing, sample: &[u8]) -> Option<(Bytes, Flags, Option<Codec>)> {
    let mut rest = sample;
    builder.expect(sample.len());
    while !rest.is_empty() {
        let Some((nal, after)) = split_nal(rest, framing.length_bytes) else {
            builder.discard();
            return None;
        };
        if !nal.is_empty() {
            builder.push(nal);
        }
        rest = after;
    }
    let unit = builder.finish().ok()?;
    Some((unit.payload, unit.flags, unit.codec))
}

/// The first NAL unit, behind its length, and what follows it; `None` if it is cut.
fn split_nal(sample: &[u8], length_bytes: usize) -> Option<(&[u8], &[u8])> {
    let (length, after) = sample.split_at_checked(length_bytes)?;
    after.split_at_checked(length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)))
}

#[cfg(test)]
mod tests {
    use relay_media::access_unit::Syntax;

    use super::*;

    #[test]
    fn a_cut_sample_leaves_nothing_for_the_next_picture() {
        let sps = [0x67, 0x42, 0xc0, 0x1f, 0xd9, 0x00, 0x50, 0x05, 0xbb, 0x01, 0x10];
        let mut builder = AccessUnitBuilder::new(Syntax::H264);
        let parameter_sets = [
            &[0, 0, 1][..],
            &sps,
            &[0, 0, 3, 0, 0x10, 0, 0, 3, 3, 0x20, 0xf1, 0x83, 0x24, 0x80, 0, 0, 1, 0x68, 0xcb, 0x83, 0xcb, 0x20],
        ];
        builder.learn(&parameter_sets.concat());
        for length_bytes in [1, 2, 4] {
            let framing = Framing { syntax: Syntax::H264, length_bytes, sets: Vec::new() };
            let framed = |nal: &[u8]| [&4_u32.to_be_bytes()[4 - length_bytes..], nal].concat();
            let (key, dependent) = (framed(&[0x65, 0x88, 0x80, 0x4f]), framed(&[0x41, 0x9a, 0x80, 0x4f]));
            // Cut in a NAL unit, and in a length.
            for stray in [&[9, 1, 2, 3][..], &[9]] {
                assert!(picture(&mut builder, &framing, &[&key, stray].concat()).is_none());
                let (payload, flags, _) = picture(&mut builder, &framing, &dependent).unwrap();
                assert_eq!(&payload[..], [0, 0, 0, 4, 0x41, 0x9a, 0x80, 0x4f]);
                assert_eq!(flags, Flags::empty());
            }
        }
    }
}

//! Clips: a few seconds of coded video in memory, packetised once, which cameras play over and over.

mod encode;
mod ffmpeg;

use std::{io, num::NonZeroU32, sync::Arc};

use bytes::Bytes;
use relay_media::{
    nal::{START_CODE, split_annex_b},
    stamp::Stamp,
};

use crate::wire::{self, Role, WireUnit};

/// What a clip shall be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClipSpec {
    /// The codec and, for H.264, its tools.
    pub coding: Coding,
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Frames per second.
    pub fps: NonZeroU32,
    /// Frames from one key frame to the next.
    pub gop_frames: u32,
    /// Mean bit rate.
    pub bitrate_bps: u32,
    /// Length; rounded up to whole groups of pictures.
    pub seconds: u32,
}

impl Default for ClipSpec {
    /// The clip of the record bench: 4 s of 720p25 Constrained Baseline, 2 Mbit/s, a key frame every 2 s.
    fn default() -> Self {
        Self {
            coding: Coding::H264Baseline,
            width: 1280,
            height: 720,
            fps: const { NonZeroU32::new(25).expect("25 is not zero") },
            gop_frames: 50,
            bitrate_bps: 2_000_000,
            seconds: 4,
        }
    }
}

impl ClipSpec {
    /// A clip that is cheap to make: 320x180, 25 fps, 200 kbit/s, a key frame every second.
    pub fn small() -> Self {
        Self { width: 320, height: 180, gop_frames: 25, bitrate_bps: 200_000, ..Self::default() }
    }

    /// `seconds` in whole groups of pictures, so that the clip's end joins its beginning.
    fn frames(&self) -> u32 {
        let gop = self.gop_frames.max(1);
        self.seconds.max(1).saturating_mul(self.fps.get()).div_ceil(gop).saturating_mul(gop)
    }
}

/// The codec of a clip and the tools it uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// H.264 Constrained Baseline: no reordering.
    H264Baseline,
    /// H.264 High with two B-frames between references; made by ffmpeg.
    H264HighBFrames,
    /// H.265 Main without reordering; made by ffmpeg.
    H265,
}

impl Coding {
    pub(crate) fn is_h265(self) -> bool {
        self == Self::H265
    }
}

/// Coded video in memory, packetised for RTP, shared by any number of cameras.
#[derive(Debug)]
pub struct Clip {
    spec: ClipSpec,
    parameter_sets: Vec<Bytes>,
    units: Vec<Unit>,
    wire: Vec<WireUnit>,
}

/// One access unit of a clip.
#[derive(Clone, Debug)]
pub(crate) struct Unit {
    /// NAL units without parameter sets, delimiters and stamp.
    pub(crate) nals: Vec<Bytes>,
    pub(crate) key: bool,
    /// Frames from its decoding to its display: presentation minus decode time.
    pub(crate) composition: u32,
}

/// Why a clip could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ClipError {
    /// ffmpeg did not run.
    #[error("running ffmpeg: {0}")]
    Spawn(#[source] io::Error),
    /// ffmpeg ran and failed; the end of what it printed.
    #[error("ffmpeg made no clip: {0}")]
    Ffmpeg(String),
    /// The built-in encoder failed.
    #[error(transparent)]
    Encode(#[from] relay_encode::EncodeError),
    /// What was made is not a clip.
    #[error("the encoder's output is not a clip: {0}")]
    Unusable(&'static str),
}

impl Clip {
    /// Makes a clip: H.264 Baseline by the built-in encoder, the others by `ffmpeg`.
    ///
    /// # Errors
    /// The encoder refuses `spec`, or ffmpeg is needed and missing.
    pub fn make(spec: ClipSpec) -> Result<Arc<Self>, ClipError> {
        match spec.coding {
            Coding::H264Baseline => Self::build(spec, encode::units(&spec)?),
            Coding::H264HighBFrames | Coding::H265 => Self::ffmpeg(spec),
        }
    }

    /// Makes a clip with `ffmpeg` (libx264 or libx265), whatever its coding.
    ///
    /// # Errors
    /// ffmpeg is missing or fails.
    pub fn ffmpeg(spec: ClipSpec) -> Result<Arc<Self>, ClipError> {
        Self::build(spec, ffmpeg::units(&spec)?)
    }

    /// Puts a clip together from access units in Annex B framing, each with its composition offset in frames.
    fn build(spec: ClipSpec, coded: Vec<(Vec<u8>, u32)>) -> Result<Arc<Self>, ClipError> {
        let mut parameter_sets: Vec<Bytes> = Vec::new();
        let mut units = Vec::new();
        for (bytes, composition) in coded {
            let mut unit = Unit { nals: Vec::new(), key: false, composition };
            for nal in split_annex_b(&bytes) {
                match wire::role(nal, spec.coding) {
                    Role::ParameterSet if parameter_sets.iter().all(|known| known != nal) => {
                        parameter_sets.push(Bytes::copy_from_slice(nal));
                    }
                    Role::ParameterSet | Role::Other => {}
                    slice @ (Role::KeySlice | Role::Slice) => {
                        unit.key |= slice == Role::KeySlice;
                        unit.nals.push(Bytes::copy_from_slice(nal));
                    }
                }
            }
            if !unit.nals.is_empty() {
                units.push(unit);
            }
        }
        if !units.first().is_some_and(|unit| unit.key) {
            return Err(ClipError::Unusable("it does not begin with a key frame"));
        }
        if parameter_sets.len() != if spec.coding.is_h265() { 3 } else { 2 } {
            return Err(ClipError::Unusable("it has not one parameter set of each kind"));
        }
        let wire = units.iter().map(|unit| WireUnit::new(unit, &parameter_sets, spec.coding)).collect();
        Ok(Arc::new(Self { spec, parameter_sets, units, wire }))
    }

    /// What it was made to be.
    pub fn spec(&self) -> &ClipSpec {
        &self.spec
    }

    /// SPS and PPS, for H.265 the VPS before them; without start codes.
    pub fn parameter_sets(&self) -> &[Bytes] {
        &self.parameter_sets
    }

    /// Access units, at least one; the first is a key frame.
    pub fn frames(&self) -> usize {
        self.units.len()
    }

    /// Its mean bit rate as coded, without RTP.
    pub fn bitrate_bps(&self) -> u64 {
        let bytes: u64 = self.units.iter().flat_map(|unit| &unit.nals).map(|nal| nal.len() as u64).sum();
        bytes * 8 * u64::from(self.spec.fps.get()) / self.units.len().max(1) as u64
    }

    /// The clip as an Annex B byte stream for other servers: each unit behind an access unit delimiter, with
    /// parameter sets at key frames and a stamp (counter from 0, time 0) to overwrite.
    pub fn annex_b(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let delimiter: &[u8] = if self.spec.coding.is_h265() { &[0x46, 0x01, 0x50] } else { &[0x09, 0xf0] };
        for (counter, unit) in (0_u64..).zip(&self.units) {
            let stamp = wire::stamp_nal(Stamp { counter, utc_nanos: 0 }, self.spec.coding);
            let sets = self.parameter_sets.iter().filter(|_| unit.key).map(Bytes::as_ref);
            let nals = unit.nals.iter().map(Bytes::as_ref);
            for nal in [delimiter].into_iter().chain(sets).chain([stamp.as_slice()]).chain(nals) {
                out.extend_from_slice(&START_CODE);
                out.extend_from_slice(nal);
            }
        }
        out
    }

    /// The access unit that is a camera's frame of this number.
    pub(crate) fn coded(&self, frame: u64) -> Option<&Unit> {
        self.units.get((frame % self.units.len().max(1) as u64) as usize)
    }

    pub(crate) fn unit(&self, frame: u64) -> Option<&WireUnit> {
        self.wire.get((frame % self.wire.len().max(1) as u64) as usize)
    }

    /// Frames from `frame` on to the next key frame, 0 if it is one.
    pub(crate) fn frames_to_key(&self, frame: u64) -> u64 {
        (0..self.wire.len() as u64).find(|ahead| self.unit(frame + ahead).is_some_and(|unit| unit.key)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clips_are_whole_groups_of_pictures() {
        let spec = ClipSpec { gop_frames: 60, seconds: 3, ..ClipSpec::default() };
        assert_eq!(spec.frames(), 120);
    }

    #[test]
    fn the_built_in_encoder_makes_a_clip_with_a_stamp_per_frame() {
        let clip = Clip::make(ClipSpec { seconds: 2, ..ClipSpec::small() }).unwrap();
        let stamps: Vec<u64> = crate::verify::stamps_in(&clip.annex_b()).map(|stamp| stamp.counter).collect();
        assert_eq!(stamps, (0..clip.frames() as u64).collect::<Vec<_>>());
        assert_eq!((clip.frames_to_key(0), clip.frames_to_key(1)), (0, 24));
    }
}

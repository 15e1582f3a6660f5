//! Pictures to H.264, Constrained Baseline, through openh264.

use std::fmt;

use bytes::Bytes;
use openh264::{
    OpenH264API, Timestamp,
    encoder::{
        BitRate, Complexity, EncodedBitStream, FrameRate, FrameType, IntraFramePeriod, RateControlMode, UsageType,
        VuiConfig,
    },
    formats::YUVSource,
};
use relay_media::{
    BitstreamError, h264,
    nal::{LENGTH_BYTES, split_annex_b},
};

use crate::{Frame, Size, SizeError};

/// What an [`Encoder`] makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncoderConfig {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Frames per second, at least 1.
    pub fps: u32,
    /// Bits per second to aim at, at least 1.
    pub bitrate_bps: u32,
    /// Frames from one key frame to the next, at least 1.
    pub gop_frames: u32,
}

/// Encodes frames on the calling thread, without reordering.
pub struct Encoder {
    size: Size,
    fps: u64,
    encoder: openh264::encoder::Encoder,
    /// Frames handed in: openh264's rate control wants to know the time of each.
    frames: u64,
    config: Option<h264::Config>,
}

impl Encoder {
    /// An encoder for pictures of one size.
    ///
    /// # Errors
    /// A number in `config` is out of its bounds, or openh264 cannot be set up.
    pub fn new(config: EncoderConfig) -> Result<Self, EncodeError> {
        let EncoderConfig { width, height, fps, bitrate_bps, gop_frames } = config;
        let size = Size::new(width, height)?;
        if fps == 0 || bitrate_bps == 0 || gop_frames == 0 {
            return Err(EncodeError::Config(config));
        }
        let settings = openh264::encoder::EncoderConfig::new()
            // Without these, openh264 aims at 120 kbit/s and an unknown frame rate.
            .bitrate(BitRate::from_bps(bitrate_bps))
            .max_frame_rate(FrameRate::from_hz(fps as f32))
            .rate_control_mode(RateControlMode::Bitrate)
            // It may skip pictures: `TRIES` says what becomes of that.
            .skip_frames(true)
            .intra_frame_period(IntraFramePeriod::from_num_frames(gop_frames))
            // Key frames come when they are due or asked for, so that the GOP is as long as was said.
            .scene_change_detect(false)
            .usage_type(UsageType::CameraVideoRealTime)
            .complexity(Complexity::Low)
            .adaptive_quantization(false)
            .background_detection(false)
            // Threads bring nothing with one slice per picture; streams run side by side instead.
            .num_threads(1)
            .vui(VuiConfig::bt709());
        let encoder = openh264::encoder::Encoder::with_api_config(OpenH264API::from_source(), settings)?;
        Ok(Self { size, fps: u64::from(fps), encoder, frames: 0, config: None })
    }

    /// The size of the pictures it takes.
    pub fn size(&self) -> Size {
        self.size
    }

    /// Encodes one picture, as a key frame if it is due or `kind` asks for one. The NAL units in `sei` go first, each
    /// from its header byte on. `None` if the bit rate is so low that the picture must be left out to keep to it.
    ///
    /// # Errors
    /// The frame has another size, or openh264 refuses it.
    pub fn encode(
        &mut self,
        frame: &Frame,
        kind: FrameKind,
        sei: &[&[u8]],
    ) -> Result<Option<EncodedFrame>, EncodeError> {
        if frame.size() != self.size {
            return Err(EncodeError::FrameSize { expected: self.size, actual: frame.size() });
        }
        let at = Timestamp::from_millis(self.frames.saturating_mul(1_000) / self.fps);
        for _t in 0..TRIES {
            // Before the first frame openh264 is not set up yet, and that one is a key frame anyway.
            if kind == FrameKind::Key && self.frames > 0 {
                self.encoder.force_intra_frame();
            }
            let stream = self.encoder.encode_at(&Source(frame), at)?;
            if !matches!(stream.frame_type(), FrameType::Skip | FrameType::Invalid) {
                if _t>0{print!("{_t} ")}
                self.frames += 1;
                let access = Access::collect(&stream, sei);
                return self.finish(access).map(Some);
            }
        }
        self.frames += 1;
        Ok(None)
    }

    fn finish(&mut self, access: Access) -> Result<EncodedFrame, EncodeError> {
        if let (Some(sps), Some(pps)) = (&access.sps, &access.pps) {
            let known = self.config.as_ref().is_some_and(|config| config.sps() == sps && config.pps() == pps);
            if !known {
                self.config = Some(h264::Config::parse(sps, pps)?);
            }
        }
        let config = self.config.clone().ok_or(EncodeError::NoParameterSets)?;
        Ok(EncodedFrame { config, key: access.key, payload: Bytes::from(access.payload) })
    }
}

/// How often a picture is handed in before it is left out. openh264's rate control skips one or two pictures after a
/// large key frame, at rates where that need not be: each try lets its imagined buffer drain by one picture. (With
/// skipping switched off it says on standard error that it can't control the rate, and there is no safe way to stop
/// that.) Measured: at most 3 tries are used at 0.02 bit per pixel and above.
const TRIES: u32 = 8;

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder").field("size", &self.size).field("frames", &self.frames).finish_non_exhaustive()
    }
}

/// Whether a picture must be one that a decoder can start at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// Whatever the GOP says.
    Any,
    /// A key frame (IDR).
    Key,
}

/// One coded picture.
#[derive(Clone, Debug)]
pub struct EncodedFrame {
    /// The parameter sets that decode it.
    pub config: h264::Config,
    /// A decoder can start here (IDR).
    pub key: bool,
    /// Its NAL units without parameter sets, each behind its 4-byte length.
    pub payload: Bytes,
}

/// Why a picture was not encoded.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// No encoder has such a size.
    #[error(transparent)]
    Size(#[from] SizeError),
    /// Frame rate, bit rate or GOP is zero.
    #[error("{0:?}: frame rate, bit rate and GOP must be at least 1")]
    Config(EncoderConfig),
    /// A frame of another size than the encoder's.
    #[error("a frame of {actual:?} for an encoder of {expected:?}")]
    FrameSize {
        /// The encoder's.
        expected: Size,
        /// The frame's.
        actual: Size,
    },
    /// openh264's first picture came without parameter sets.
    #[error("openh264 gave a picture without parameter sets")]
    NoParameterSets,
    /// openh264's parameter sets could not be read.
    #[error(transparent)]
    ParameterSets(#[from] BitstreamError),
    /// openh264 refused, by one of its own numbers.
    #[error("openh264: {0}")]
    OpenH264(#[from] openh264::Error),
}

/// The NAL units of one call of openh264, sorted.
struct Access {
    payload: Vec<u8>,
    sps: Option<Vec<u8>>,
    pps: Option<Vec<u8>>,
    key: bool,
}

impl Access {
    fn collect(stream: &EncodedBitStream<'_>, sei: &[&[u8]]) -> Self {
        let mut access = Self { payload: Vec::with_capacity(size_hint(stream, sei)), sps: None, pps: None, key: false };
        sei.iter().for_each(|nal| access.append(nal));
        for layer in (0..stream.num_layers()).filter_map(|index| stream.layer(index)) {
            for chunk in (0..layer.nal_count()).filter_map(|index| layer.nal_unit(index)) {
                split_annex_b(chunk).for_each(|nal| access.sort(nal));
            }
        }
        access
    }

    fn sort(&mut self, nal: &[u8]) {
        match nal.first().map_or(0, |&header| h264::nal_type(header)) {
            h264::NAL_SPS => self.sps = Some(nal.to_vec()),
            h264::NAL_PPS => self.pps = Some(nal.to_vec()),
            kind => {
                self.key |= kind == h264::NAL_IDR;
                self.append(nal);
            }
        }
    }

    fn append(&mut self, nal: &[u8]) {
        // A NAL unit of openh264 is far smaller than 4 GiB.
        self.payload.extend_from_slice(&u32::try_from(nal.len()).unwrap_or(u32::MAX).to_be_bytes());
        self.payload.extend_from_slice(nal);
    }
}

/// The most bytes the access unit can have, so that it is allocated once and never copied.
fn size_hint(stream: &EncodedBitStream<'_>, sei: &[&[u8]]) -> usize {
    let layers = (0..stream.num_layers()).filter_map(|index| stream.layer(index));
    let coded = layers.flat_map(|layer| (0..layer.nal_count()).map(move |nal| layer.nal_unit(nal).map_or(0, <[u8]>::len)));
    coded.chain(sei.iter().map(|nal| nal.len())).map(|length| length + LENGTH_BYTES).sum()
}

/// A frame as openh264 wants to see it.
struct Source<'a>(&'a Frame);

impl YUVSource for Source<'_> {
    fn dimensions(&self) -> (usize, usize) {
        (self.0.y().width(), self.0.y().height())
    }

    fn strides(&self) -> (usize, usize, usize) {
        (self.0.y().width(), self.0.u().width(), self.0.v().width())
    }

    fn y(&self) -> &[u8] {
        self.0.y().samples()
    }

    fn u(&self) -> &[u8] {
        self.0.u().samples()
    }

    fn v(&self) -> &[u8] {
        self.0.v().samples()
    }
}

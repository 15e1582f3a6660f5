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
        for _ in 0..TRIES {
            // Before the first frame openh264 is not set up yet, and that one is a key frame anyway.
            if kind == FrameKind::Key && self.frames > 0 {
                self.encoder.force_intra_frame();
            }
            let stream = self.encoder.encode_at(&Source(frame), at)?;
            if !matches!(stream.frame_type(), FrameType::Skip | FrameType::Invalid) {
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
/// that.) Measured: from 0.02 bit per pixel up, one more try was always enough.
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
    let coded =
        layers.flat_map(|layer| (0..layer.nal_count()).map(move |nal| layer.nal_unit(nal).map_or(0, <[u8]>::len)));
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

#[cfg(test)]
mod tests {
    use relay_media::{UtcTime, nal::split_length_prefixed, stamp::Stamp};

    use super::*;
    use crate::{DecodeError, Decoder, Pattern, pattern::read_counter};

    const FIRST: u64 = 0x1_0000_fff0;

    fn config(width: u32, height: u32, bitrate_bps: u32) -> EncoderConfig {
        EncoderConfig { width, height, fps: 25, bitrate_bps, gop_frames: 50 }
    }

    /// Encodes `count` frames of the pattern; the frames in `keys` are asked for as key frames.
    fn film(config: EncoderConfig, count: u64, keys: &[u64]) -> Vec<EncodedFrame> {
        let mut encoder = Encoder::new(config).unwrap();
        let (pattern, mut frame) = (Pattern::new(encoder.size()), Frame::new(encoder.size()));
        let encode = |index| {
            let utc = UtcTime::from_unix_nanos(1_795_228_207_000_000_000 + index as i64 * 40_000_000);
            pattern.draw(&mut frame, FIRST + index, utc);
            let stamp = Stamp { counter: FIRST + index, utc_nanos: utc.unix_nanos() }.to_nal();
            let kind = if keys.contains(&index) { FrameKind::Key } else { FrameKind::Any };
            encoder.encode(&frame, kind, &[&stamp]).unwrap().unwrap()
        };
        (0..count).map(encode).collect()
    }

    #[test]
    fn every_frame_decodes_and_its_counter_is_read_back() {
        for (width, height, bitrate_bps, count) in
            [(1_280, 720, 2_000_000, 110), (320, 180, 300_000, 110), (320, 180, 2_000_000, 60), (642, 362, 800_000, 60)]
        {
            let film = film(config(width, height, bitrate_bps), count, &[]);
            let mut decoder = Decoder::new().unwrap();
            for (index, encoded) in film.iter().enumerate() {
                let what = format!("frame {index} of {width}x{height} at {bitrate_bps}");
                assert_eq!(encoded.key, index % 50 == 0, "{what}");
                assert_eq!((encoded.config.width(), encoded.config.height()), (width, height), "{what}");
                assert_eq!(encoded.config.profile_name(), "Constrained Baseline");
                assert_eq!(encoded.config.max_reorder_frames(), Some(0));
                let picture = decoder.decode(&encoded.config, &encoded.payload).unwrap().expect(&what);
                let counter = FIRST + index as u64;
                assert_eq!(read_counter(&picture), Some(counter as u32), "{what}");
                assert_eq!(Stamp::find(&encoded.payload).map(|stamp| stamp.counter), Some(counter), "{what}");
                let first = split_length_prefixed(&encoded.payload).next().unwrap();
                assert!(Stamp::from_nal(first).is_some(), "the stamp comes first: {what}");
            }
            let bits = film.iter().map(|encoded| encoded.payload.len() * 8).sum::<usize>() as u64 * 25 / count;
            let aim = u64::from(bitrate_bps);
            assert!((aim * 8 / 10..aim * 12 / 10).contains(&bits), "{width}x{height} at {aim}: {bits} bit/s");
        }
    }

    #[test]
    fn a_key_frame_comes_when_asked_for_and_the_gop_counts_from_it() {
        let film = film(EncoderConfig { gop_frames: 20, ..config(320, 180, 300_000) }, 60, &[0, 7, 8]);
        let keys: Vec<usize> = (0..film.len()).filter(|&index| film[index].key).collect();
        assert_eq!(keys, [0, 7, 8, 28, 48]);
        assert!(film.iter().all(|encoded| encoded.config == film[0].config));
    }

    #[test]
    fn a_damaged_picture_is_refused_and_the_next_key_frame_decodes() {
        let film = film(config(320, 180, 300_000), 60, &[]);
        let mut decoder = Decoder::new().unwrap();
        let mut damaged = film[0].payload.to_vec();
        damaged[400..500].fill(0xa5);
        assert!(decoder.decode(&film[0].config, &damaged).is_err());
        assert!(decoder.decode(&film[1].config, &film[1].payload).is_err());
        let picture = decoder.decode(&film[50].config, &film[50].payload).unwrap().unwrap();
        assert_eq!(read_counter(&picture), Some((FIRST + 50) as u32));
    }

    #[test]
    fn another_size_is_decoded_from_its_key_frame_on() {
        let mut decoder = Decoder::new().unwrap();
        for (width, height) in [(320, 180), (640, 360), (320, 180)] {
            let film = film(config(width, height, 500_000), 3, &[]);
            for encoded in &film {
                let picture = decoder.decode(&encoded.config, &encoded.payload).unwrap().unwrap();
                assert_eq!((picture.size().width(), picture.size().height()), (width, height));
            }
        }
    }

    #[test]
    fn wrong_settings_and_frames_are_refused() {
        let right = config(320, 180, 300_000);
        for wrong in [
            EncoderConfig { width: 321, ..right },
            EncoderConfig { height: 8, ..right },
            EncoderConfig { width: 3_842, height: 2_160, ..right },
            EncoderConfig { fps: 0, ..right },
            EncoderConfig { bitrate_bps: 0, ..right },
            EncoderConfig { gop_frames: 0, ..right },
        ] {
            assert!(matches!(Encoder::new(wrong), Err(EncodeError::Size(_) | EncodeError::Config(_))), "{wrong:?}");
        }
        let mut encoder = Encoder::new(right).unwrap();
        let frame = Frame::new(Size::new(320, 182).unwrap());
        let error = encoder.encode(&frame, FrameKind::Any, &[]).unwrap_err();
        assert!(matches!(error, EncodeError::FrameSize { .. }), "{error}");
    }

    #[test]
    fn the_smallest_and_the_largest_picture_are_encoded() {
        for (width, height, bitrate_bps) in [(16, 16, 50_000), (3_840, 2_160, 50_000_000), (2_160, 3_840, 50_000_000)] {
            let film = film(config(width, height, bitrate_bps), 2, &[]);
            let mut decoder = Decoder::new().unwrap();
            for encoded in film {
                assert!(decoder.decode(&encoded.config, &encoded.payload).unwrap().is_some(), "{width}x{height}");
            }
        }
    }

    #[test]
    fn nonsense_is_refused_without_a_picture() {
        let film = film(config(320, 180, 300_000), 1, &[]);
        let mut decoder = Decoder::new().unwrap();
        for payload in [&b""[..], b"\0\0\0\x05\x65", b"\0\0\0\x02\x65\xff", &[0xff; 100]] {
            let decoded = decoder.decode(&film[0].config, payload);
            assert!(matches!(decoded, Ok(None) | Err(DecodeError::OpenH264(_))), "{payload:02x?}");
        }
    }
}

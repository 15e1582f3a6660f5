//! H.264 to pictures, through openh264: Baseline, Main and High without interlace.

use std::fmt;

use openh264::formats::YUVSource;
use relay_media::{
    h264,
    nal::{START_CODE, split_length_prefixed},
};

use crate::{Frame, Plane, SizeError};

/// Decodes access units on the calling thread.
pub struct Decoder {
    decoder: openh264::decoder::Decoder,
    config: Option<h264::Config>,
    annex_b: Vec<u8>,
}

impl Decoder {
    /// A decoder that waits for its first key frame.
    ///
    /// # Errors
    /// openh264 cannot be set up.
    pub fn new() -> Result<Self, DecodeError> {
        Ok(Self { decoder: openh264::decoder::Decoder::new()?, config: None, annex_b: Vec::new() })
    }

    /// Decodes one packet's payload (NAL units behind 4-byte lengths) with the parameter sets of its track. `None`
    /// while the decoder needs more before it can show a picture.
    ///
    /// # Errors
    /// The picture is damaged, or refers to one that was; the next key frame decodes again. Or it has a size that a
    /// [`Frame`] cannot have.
    pub fn decode(&mut self, config: &h264::Config, payload: &[u8]) -> Result<Option<Frame>, DecodeError> {
        self.annex_b.clear();
        if self.config.as_ref() != Some(config) {
            self.append(config.sps());
            self.append(config.pps());
        }
        for nal in split_length_prefixed(payload) {
            self.annex_b.extend_from_slice(&START_CODE);
            self.annex_b.extend_from_slice(nal);
        }
        let decoded = self.decoder.decode(&self.annex_b)?;
        if self.config.as_ref() != Some(config) {
            self.config = Some(config.clone());
        }
        let Some(picture) = decoded else {
            return Ok(None);
        };
        let (width, height) = picture.dimensions();
        let (y_stride, u_stride, v_stride) = picture.strides();
        let plane = |samples, stride, width, height| {
            Plane::from_strided(samples, stride, width, height).ok_or(DecodeError::Planes { width, height })
        };
        Ok(Some(Frame::from_planes(
            plane(picture.y(), y_stride, width, height)?,
            plane(picture.u(), u_stride, width / 2, height / 2)?,
            plane(picture.v(), v_stride, width / 2, height / 2)?,
        )?))
    }

    fn append(&mut self, nal: &[u8]) {
        self.annex_b.extend_from_slice(&START_CODE);
        self.annex_b.extend_from_slice(nal);
    }
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Why an access unit gave no picture.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// openh264 refused, by one of its own numbers.
    #[error("openh264: {0}")]
    OpenH264(#[from] openh264::Error),
    /// A picture of a size that no [`Frame`] has.
    #[error(transparent)]
    Size(#[from] SizeError),
    /// openh264 handed out less than a picture.
    #[error("openh264 gave less than {width}x{height} samples")]
    Planes {
        /// Samples in a row.
        width: usize,
        /// Rows.
        height: usize,
    },
}

//! MPEG-4 AAC: the AudioSpecificConfig (ISO/IEC 14496-3 §1.6.2.1).

use bytes::Bytes;

use crate::BitstreamError;

/// Samples per AAC-LC frame.
pub const FRAME_SAMPLES: u32 = 1_024;

/// The parameters of an AAC track.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Config {
    audio_specific_config: Bytes,
    object_type: u8,
    sample_rate: u32,
    channels: u8,
}

impl Config {
    /// Reads an AudioSpecificConfig.
    ///
    /// # Errors
    /// It is cut short, longer than 64 bytes, or names a reserved rate or channel configuration 0.
    pub fn parse(_audio_specific_config: &[u8]) -> Result<Self, BitstreamError> {
        Err(BitstreamError::new("AudioSpecificConfig", "not read yet"))
    }

    /// The AudioSpecificConfig as it was read.
    pub fn audio_specific_config(&self) -> &Bytes {
        &self.audio_specific_config
    }

    /// The audio object type: 2 is AAC-LC.
    pub fn object_type(&self) -> u8 {
        self.object_type
    }

    /// Samples per second and channel of the core coder.
    pub fn sample_rate(&self) -> u32 {
        self.sample_rate
    }

    /// Channels.
    pub fn channels(&self) -> u8 {
        self.channels
    }
}

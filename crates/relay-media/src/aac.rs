//! MPEG-4 AAC: the AudioSpecificConfig (ISO/IEC 14496-3 §1.6.2.1).

use bytes::Bytes;
use h264_reader::rbsp::{BitRead, BitReader, BitReaderError};

use crate::BitstreamError;

/// Samples per channel of an AAC frame; low delay AAC and configurations with `frameLengthFlag` differ, see
/// [`Config::frame_samples`].
pub const FRAME_SAMPLES: u32 = 1_024;

/// Audio object type AAC-LC (ISO/IEC 14496-3 Table 1.17).
pub const LOW_COMPLEXITY: u8 = 2;

/// An AudioSpecificConfig has 2 to 7 bytes, more only with a program config element (at most 4 + 16 · 6 bits and a
/// comment of 255 bytes).
const MAX_BYTES: usize = 512;

const WHAT: &str = "AudioSpecificConfig";

/// Samples per second by `samplingFrequencyIndex` (ISO/IEC 14496-3 Table 1.18).
const RATES: [u32; 13] =
    [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];

/// `samplingFrequencyIndex` that stands before an explicit 24-bit rate.
const EXPLICIT_RATE: u8 = 15;

/// Channels by `channelConfiguration` (ISO/IEC 14496-3 Table 1.19); 7 means 8. 0 is a program config element.
const CHANNELS: [u8; 15] = [0, 1, 2, 3, 4, 5, 6, 8, 0, 0, 0, 7, 8, 24, 8];

/// The parameters of an AAC track.
///
/// Two are equal when their AudioSpecificConfigs are, byte for byte.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Config {
    audio_specific_config: Bytes,
    facts: Facts,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Facts {
    object_type: u8,
    sample_rate: u32,
    channels: u8,
    frame_samples: u32,
    /// The output rate of spectral band replication, where it is signalled explicitly.
    extension_rate: Option<u32>,
    parametric_stereo: bool,
}

impl Config {
    /// Reads an AudioSpecificConfig.
    ///
    /// # Errors
    /// It is cut short, longer than 512 bytes, not AAC, or names a reserved rate or channel configuration.
    pub fn parse(audio_specific_config: &[u8]) -> Result<Self, BitstreamError> {
        if audio_specific_config.len() > MAX_BYTES {
            return Err(BitstreamError::new(WHAT, format!("{} bytes", audio_specific_config.len())));
        }
        let facts = Facts::read(audio_specific_config)?;
        Ok(Self { audio_specific_config: Bytes::copy_from_slice(audio_specific_config), facts })
    }

    /// Builds the two-byte configuration (five with a rate outside the table) of a plain AAC track without SBR.
    ///
    /// # Errors
    /// `object_type` is no AAC that a frame of 1 024 samples carries (1 to 4), `sample_rate` is 0 or above 2^24,
    /// or no channel configuration has this many `channels`.
    pub fn new(object_type: u8, sample_rate: u32, channels: u8) -> Result<Self, BitstreamError> {
        let configuration = CHANNELS.iter().position(|&count| count == channels && count != 0);
        let (1..=4, Some(configuration), 1..0x100_0000) = (object_type, configuration, sample_rate) else {
            let detail = format!("object type {object_type}, {sample_rate} Hz, {channels} channels");
            return Err(BitstreamError::new(WHAT, detail));
        };
        // 5 bits object type, 4 bits rate index, [24 bits rate,] 4 bits channel configuration, 3 flags of 0.
        let (head, tail) = (u64::from(object_type) << 59, configuration as u64);
        match RATES.iter().position(|&rate| rate == sample_rate) {
            Some(index) => Self::parse(&(head | (index as u64) << 55 | tail << 51).to_be_bytes()[..2]),
            None => {
                let rate = u64::from(EXPLICIT_RATE) << 55 | u64::from(sample_rate) << 31;
                Self::parse(&(head | rate | tail << 27).to_be_bytes()[..5])
            }
        }
    }

    /// The AudioSpecificConfig as it was read or built.
    pub fn audio_specific_config(&self) -> &Bytes {
        &self.audio_specific_config
    }

    /// The audio object type of the core coder: 2 is AAC-LC.
    pub fn object_type(&self) -> u8 {
        self.facts.object_type
    }

    /// Samples per second and channel of the core coder; RTP and MP4 clocks usually count these.
    pub fn sample_rate(&self) -> u32 {
        self.facts.sample_rate
    }

    /// Channels of the core coder, 1 to 8 as a rule.
    pub fn channels(&self) -> u8 {
        self.facts.channels
    }

    /// Samples per channel of the core coder in one frame: 1 024, or 960, 512, 480 (ISO/IEC 14496-3 §4.5.1.1).
    pub fn frame_samples(&self) -> u32 {
        self.facts.frame_samples
    }

    /// Samples per second after spectral band replication (HE-AAC), where it is signalled explicitly.
    pub fn extension_rate(&self) -> Option<u32> {
        self.facts.extension_rate
    }

    /// Parametric stereo is signalled explicitly (HE-AAC v2): one coded channel, two heard.
    pub fn has_parametric_stereo(&self) -> bool {
        self.facts.parametric_stereo
    }

    /// The profile as players call it: "LC", "HE-AAC", "HE-AAC v2", "Main", "SSR", "LTP", "LD", "ELD".
    pub fn profile_name(&self) -> &'static str {
        match self.facts.object_type {
            _ if self.facts.parametric_stereo => "HE-AAC v2",
            LOW_COMPLEXITY if self.facts.extension_rate.is_some() => "HE-AAC",
            1 => "Main",
            LOW_COMPLEXITY => "LC",
            3 => "SSR",
            4 => "LTP",
            ER_LD => "LD",
            ER_ELD => "ELD",
            _ => "Unknown",
        }
    }
}

/// Object types that signal extensions instead of a core coder (ISO/IEC 14496-3 Table 1.17).
const SBR: u8 = 5;
const PARAMETRIC_STEREO: u8 = 29;
/// Error resilient object types, for low delay.
const ER_LC: u8 = 17;
const ER_LD: u8 = 23;
const ER_ELD: u8 = 39;

type Bits<'a> = BitReader<&'a [u8]>;

impl Facts {
    fn read(bytes: &[u8]) -> Result<Self, BitstreamError> {
        let wrong = |detail: String| BitstreamError::new(WHAT, detail);
        let mut bits = BitReader::new(bytes);
        let fields = Fields::read(&mut bits).map_err(|error| wrong(format!("{error:?} in {} bytes", bytes.len())))?;
        if !matches!(fields.object_type, 1..=4 | ER_LC | ER_LD | ER_ELD) {
            return Err(wrong(format!("object type {}", fields.object_type)));
        }
        let sample_rate = fields.rate.filter(|&rate| rate != 0).ok_or_else(|| wrong("reserved rate".to_owned()))?;
        let channels = match fields.channel_configuration {
            0 => fields.program_channels,
            index => CHANNELS.get(usize::from(index)).copied().unwrap_or(0),
        };
        if channels == 0 {
            return Err(wrong(format!("channel configuration {}", fields.channel_configuration)));
        }
        let frame_samples = match (fields.object_type, fields.short_frames) {
            (ER_LD | ER_ELD, true) => 480,
            (ER_LD | ER_ELD, false) => 512,
            (_, true) => 960,
            (_, false) => FRAME_SAMPLES,
        };
        let Fields { object_type, extension_rate, parametric_stereo, .. } = fields;
        Ok(Self { object_type, sample_rate, channels, frame_samples, extension_rate, parametric_stereo })
    }
}

/// The configuration's fields in their order (ISO/IEC 14496-3 Table 1.15).
struct Fields {
    object_type: u8,
    rate: Option<u32>,
    channel_configuration: u8,
    program_channels: u8,
    short_frames: bool,
    extension_rate: Option<u32>,
    parametric_stereo: bool,
}

impl Fields {
    fn read(bits: &mut Bits<'_>) -> Result<Self, BitReaderError> {
        let object_type = object_type(bits)?;
        let mut fields = Self {
            object_type,
            rate: rate(bits)?,
            channel_configuration: bits.read(4, "channelConfiguration")?,
            program_channels: 0,
            short_frames: false,
            extension_rate: None,
            parametric_stereo: object_type == PARAMETRIC_STEREO,
        };
        let hierarchical = matches!(object_type, SBR | PARAMETRIC_STEREO);
        if hierarchical {
            fields.extension_rate = rate(bits)?;
            fields.object_type = self::object_type(bits)?;
        }
        fields.short_frames = bits.read_bool("frameLengthFlag")?;
        if fields.object_type == ER_ELD {
            return Ok(fields);
        }
        if bits.read_bool("dependsOnCoreCoder")? {
            bits.skip(14, "coreCoderDelay")?;
        }
        let extension_flag = bits.read_bool("extensionFlag")?;
        if fields.channel_configuration == 0 {
            fields.program_channels = program_channels(bits)?;
        } else if !hierarchical && !extension_flag {
            // The extension is optional: where the bytes end, there is none.
            let _ended = fields.read_backward_compatible_extension(bits);
        }
        Ok(fields)
    }

    /// SBR and PS signalled behind a configuration that plain AAC decoders understand (§1.6.6.2).
    fn read_backward_compatible_extension(&mut self, bits: &mut Bits<'_>) -> Result<(), BitReaderError> {
        const SYNC_SBR: u16 = 0x2b7;
        const SYNC_PS: u16 = 0x548;
        if bits.read::<u16>(11, "syncExtensionType")? != SYNC_SBR || object_type(bits)? != SBR {
            return Ok(());
        }
        if bits.read_bool("sbrPresentFlag")? {
            self.extension_rate = rate(bits)?;
            if bits.read::<u16>(11, "syncExtensionType")? == SYNC_PS {
                self.parametric_stereo = bits.read_bool("psPresentFlag")?;
            }
        }
        Ok(())
    }
}

/// ISO/IEC 14496-3 Table 1.16.
fn object_type(bits: &mut Bits<'_>) -> Result<u8, BitReaderError> {
    const ESCAPE: u8 = 31;
    match bits.read::<u8>(5, "audioObjectType")? {
        ESCAPE => Ok(32 + bits.read::<u8>(6, "audioObjectTypeExt")?),
        object_type => Ok(object_type),
    }
}

/// A rate by its index or in 24 bits; `None` for a reserved index.
fn rate(bits: &mut Bits<'_>) -> Result<Option<u32>, BitReaderError> {
    match bits.read::<u8>(4, "samplingFrequencyIndex")? {
        EXPLICIT_RATE => Ok(Some(bits.read::<u32>(24, "samplingFrequency")?)),
        index => Ok(RATES.get(usize::from(index)).copied()),
    }
}

/// The channels of a program config element (ISO/IEC 14496-3 Table 4.2), at most 3 · 30 + 3.
fn program_channels(bits: &mut Bits<'_>) -> Result<u8, BitReaderError> {
    bits.skip(4 + 2 + 4, "element_instance_tag, object_type, sampling_frequency_index")?;
    let mut elements = 0_u8;
    for name in ["num_front_channel_elements", "num_side_channel_elements", "num_back_channel_elements"] {
        elements += bits.read::<u8>(4, name)?;
    }
    let low_frequency: u8 = bits.read(2, "num_lfe_channel_elements")?;
    bits.skip(3 + 4, "num_assoc_data_elements, num_valid_cc_elements")?;
    for (name, size) in [("mono_mixdown", 4), ("stereo_mixdown", 4), ("matrix_mixdown", 3)] {
        if bits.read_bool(name)? {
            bits.skip(size, name)?;
        }
    }
    let mut channels = low_frequency;
    for _ in 0..elements {
        channels += 1 + u8::from(bits.read_bool("element_is_cpe")?);
        bits.skip(4, "element_tag_select")?;
    }
    Ok(channels)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::nal::tests::hex;

    #[test]
    fn configurations_are_read() {
        for (what, bytes, (object_type, rate, channels, samples), profile, extension) in [
            ("LC 8 kHz mono, most cameras", "1588", (2, 8_000, 1, 1_024), "LC", None),
            ("LC 16 kHz mono", "1408", (2, 16_000, 1, 1_024), "LC", None),
            ("LC 44.1 kHz stereo", "1210", (2, 44_100, 2, 1_024), "LC", None),
            ("LC 48 kHz 7.1", "11b8", (2, 48_000, 8, 1_024), "LC", None),
            ("LC with 960 samples", "1214", (2, 44_100, 2, 960), "LC", None),
            ("LC, 24-bit rate 12 345 Hz", "1780181c88", (2, 12_345, 1, 1_024), "LC", None),
            ("what ffmpeg writes: no SBR", "119056e500", (2, 48_000, 2, 1_024), "LC", None),
            ("SBR behind LC", "131056e598", (2, 24_000, 2, 1_024), "HE-AAC", Some(48_000)),
            ("SBR before LC", "2b118800", (2, 24_000, 2, 1_024), "HE-AAC", Some(48_000)),
            ("PS before LC", "eb098800", (2, 24_000, 1, 1_024), "HE-AAC v2", Some(48_000)),
            ("ELD 48 kHz mono", "f8e62000", (39, 48_000, 1, 512), "ELD", None),
            ("ELD with 480 samples", "f8e63000", (39, 48_000, 1, 480), "ELD", None),
            ("bytes behind it", "1588ffffffff", (2, 8_000, 1, 1_024), "LC", None),
        ] {
            let config = Config::parse(&hex(bytes)).unwrap_or_else(|error| panic!("{what}: {error}"));
            let core = (config.object_type(), config.sample_rate(), config.channels(), config.frame_samples());
            assert_eq!(core, (object_type, rate, channels, samples), "{what}");
            assert_eq!((config.profile_name(), config.extension_rate()), (profile, extension), "{what}");
        }
    }

    #[test]
    fn what_is_no_aac_is_refused() {
        for (bytes, part) in [
            ("", "audioObjectType"),
            ("15", "samplingFrequencyIndex"),
            ("1690", "reserved rate"),
            ("1780000008", "reserved rate"),
            ("15c8", "channel configuration 9"),
            ("1580", "element_instance_tag"),
            ("0588", "object type 0"),
        ] {
            let error = Config::parse(&hex(bytes)).unwrap_err().to_string();
            assert!(error.contains(part), "{bytes}: {error:?} should say {part:?}");
        }
        Config::parse(&[0x15; MAX_BYTES + 1]).unwrap_err();
        for (object_type, rate, channels) in
            [(5, 48_000, 2), (2, 0, 2), (2, 1 << 24, 2), (2, 48_000, 0), (2, 48_000, 9)]
        {
            Config::new(object_type, rate, channels).unwrap_err();
        }
    }

    #[test]
    fn program_config_elements_tell_their_channels() {
        // Object type 2, 48 kHz, configuration 0; one pair in front, one single at the back, one LFE.
        let bits = "00010 0011 0000 0 0 0  0000 01 0011 0001 0000 0001 01 000 0000 0 0 0  1 0000 0 0001 0000";
        let bits: Vec<u8> = bits.bytes().filter(|bit| *bit != b' ').map(|bit| bit - b'0').collect();
        let bytes: Vec<u8> =
            bits.chunks(8).map(|byte| byte.iter().enumerate().map(|(at, bit)| bit << (7 - at)).sum()).collect();
        assert_eq!(Config::parse(&bytes).unwrap().channels(), 4);
    }

    proptest! {
        #[test]
        fn what_is_built_is_read_back(
            object_type in 1_u8..=4,
            rate in prop_oneof![prop::sample::select(&RATES[..]), 1_u32..1 << 24],
            channels in 1_u8..=8,
        ) {
            let config = Config::new(object_type, rate, channels).unwrap();
            prop_assert_eq!((config.object_type(), config.sample_rate(), config.channels()), (object_type, rate, channels));
            prop_assert_eq!(config.audio_specific_config().len(), if RATES.contains(&rate) { 2 } else { 5 });
            prop_assert_eq!(Config::parse(config.audio_specific_config()).unwrap(), config);
        }

        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(config) = Config::parse(&bytes) {
                prop_assert!(config.sample_rate() > 0 && config.channels() > 0);
            }
        }
    }
}

//! What an RTP stream carries, from its SDP: encoding name, clock, channels and `fmtp` parameters.

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use bytes::Bytes;
use relay_media::{Codec, Kind, aac, g711, h264, h265, nal::START_CODE, opus};

use crate::AacLayout;

/// The format of an RTP stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// H.264 (RFC 6184).
    H264 {
        /// `sprop-parameter-sets`, decoded; often missing or wrong, the ones in the stream count.
        parameter_sets: Vec<Bytes>,
    },
    /// H.265 (RFC 7798).
    H265 {
        /// `sprop-vps`, `sprop-sps` and `sprop-pps`, decoded.
        parameter_sets: Vec<Bytes>,
    },
    /// AAC (RFC 3640).
    Aac {
        /// The AudioSpecificConfig.
        config: aac::Config,
        /// The widths of the AU header fields.
        layout: AacLayout,
        /// RTP ticks per second.
        clock_hz: u32,
    },
    /// Opus (RFC 7587).
    Opus(opus::Config),
    /// G.711 (RFC 3551 §4.5.14).
    G711(g711::Config),
}

/// Why a stream cannot be carried.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// No depacketizer for it.
    #[error("codec {0:?} is not supported")]
    Encoding(String),
    /// An option of the format that is not supported.
    #[error("{encoding} with {option} is not supported")]
    Option {
        /// The encoding name.
        encoding: &'static str,
        /// The `fmtp` parameter and its value.
        option: String,
    },
    /// An AAC stream that neither tells its configuration nor lets it be guessed.
    #[error(transparent)]
    Aac(#[from] relay_media::BitstreamError),
}

impl Format {
    /// Reads a media's `rtpmap` (name in any case, clock, channels) and `fmtp`. Unreadable parameter sets are passed
    /// over: cameras send empty and broken ones, and repeat the right ones in the stream.
    ///
    /// # Errors
    /// The encoding or an option of it is not supported.
    pub fn parse(encoding: &str, clock_hz: u32, channels: Option<u16>, fmtp: &str) -> Result<Self, FormatError> {
        let parameters = Parameters(fmtp);
        let channels = channels.and_then(|channels| u8::try_from(channels).ok());
        let g711 =
            |law| Ok(Self::G711(g711::Config { law, sample_rate: clock_hz, channels: channels.unwrap_or(1).max(1) }));
        match encoding.to_ascii_lowercase().as_str() {
            "h264" => Ok(Self::H264 { parameter_sets: parameters.sets(&["sprop-parameter-sets"]) }),
            "h265" | "hevc" => Self::h265(&parameters),
            "mpeg4-generic" => Self::aac(clock_hz, channels, &parameters),
            // The rtpmap always says two channels (RFC 7587 §7); sprop-stereo tells what is sent.
            "opus" => Ok(Self::Opus(opus::Config {
                channels: if parameters.number("sprop-stereo") == Some(1) { 2 } else { 1 },
            })),
            "pcma" => g711(g711::Law::A),
            "pcmu" => g711(g711::Law::Mu),
            other => Err(FormatError::Encoding(other.chars().take(40).collect())),
        }
    }

    /// The codec, as far as the SDP tells it. H.264 and H.265 learn it from the stream otherwise.
    pub fn codec(&self) -> Option<Codec> {
        match self {
            Self::H264 { parameter_sets } => {
                let sets = annex_b(parameter_sets);
                h264::Config::parse(&sets, &sets).ok().map(Codec::H264)
            }
            Self::H265 { parameter_sets } => {
                let sets = annex_b(parameter_sets);
                h265::Config::parse(&sets, &sets, &sets).ok().map(Codec::H265)
            }
            Self::Aac { config, .. } => Some(Codec::Aac(config.clone())),
            Self::Opus(config) => Some(Codec::Opus(*config)),
            Self::G711(config) => Some(Codec::G711(*config)),
        }
    }

    /// Video or audio.
    pub fn kind(&self) -> Kind {
        match self {
            Self::H264 { .. } | Self::H265 { .. } => Kind::Video,
            Self::Aac { .. } | Self::Opus(_) | Self::G711(_) => Kind::Audio,
        }
    }

    fn h265(parameters: &Parameters<'_>) -> Result<Self, FormatError> {
        // Above 0, decoding order numbers stand in every payload (RFC 7798 §4.4).
        if let Some(difference @ 1..) = parameters.number("sprop-max-don-diff") {
            return Err(FormatError::Option { encoding: "H265", option: format!("sprop-max-don-diff={difference}") });
        }
        Ok(Self::H265 { parameter_sets: parameters.sets(&["sprop-vps", "sprop-sps", "sprop-pps"]) })
    }

    /// RFC 3640 §4.1. The fields of the AU header other than size and index are only there if their length is given.
    fn aac(clock_hz: u32, channels: Option<u8>, parameters: &Parameters<'_>) -> Result<Self, FormatError> {
        let refuse =
            |name, value| Err(FormatError::Option { encoding: "MPEG4-GENERIC", option: format!("{name}={value}") });
        for name in [
            "ctsdeltalength",
            "dtsdeltalength",
            "randomaccessindication",
            "streamstateindication",
            "auxiliarydatasizelength",
            "constantsize",
        ] {
            if let Some(value @ 1..) = parameters.number(name) {
                return refuse(name, value);
            }
        }
        // Without lengths: those of AAC-hbr (§3.3.6), which every camera sends.
        let bits = |name, default| match parameters.number(name) {
            None => Ok(default),
            Some(bits @ 0..=16) => Ok(bits as u8),
            Some(bits) => refuse(name, bits).map(|_: Self| 0),
        };
        let layout = AacLayout {
            size_bits: bits("sizelength", 13)?,
            index_bits: bits("indexlength", 3)?,
            index_delta_bits: bits("indexdeltalength", 3)?,
        };
        if layout.size_bits == 0 {
            return refuse("sizelength", 0);
        }
        let told = parameters.get("config").and_then(hex).and_then(|config| aac::Config::parse(&config).ok());
        let config = match told {
            Some(config) => config,
            // Missing although required (§4.1): AAC-LC of the rtpmap's rate is what cameras mean.
            None => aac::Config::new(aac::LOW_COMPLEXITY, clock_hz, channels.unwrap_or(1))?,
        };
        Ok(Self::Aac { config, layout, clock_hz })
    }
}

/// Parameter sets kept, and bytes of each; more is no parameter set.
const MAX_SETS: usize = 16;
const MAX_SET_BYTES: usize = h264::MAX_PARAMETER_SET_BYTES;

/// Padding is often wrong.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The parameters of an `fmtp` line: `name=value` pairs between semicolons, names in any case.
#[derive(Clone, Copy, Debug)]
struct Parameters<'a>(&'a str);

impl<'a> Parameters<'a> {
    fn get(&self, name: &str) -> Option<&'a str> {
        let pairs = self.0.split(';').filter_map(|pair| pair.split_once('='));
        let mut found = pairs.filter(|(key, _)| key.trim().eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value.trim().trim_matches('"'))
    }

    fn number(&self, name: &str) -> Option<u32> {
        self.get(name)?.parse().ok()
    }

    /// The base64 values between commas of each of `names`, decoded.
    fn sets(&self, names: &[&str]) -> Vec<Bytes> {
        let values = names.iter().filter_map(|name| self.get(name)).flat_map(|value| value.split(','));
        values
            .filter(|set| set.len() <= MAX_SET_BYTES * 2)
            .filter_map(|set| LENIENT.decode(set.trim()).ok())
            .filter(|set| !set.is_empty() && set.len() <= MAX_SET_BYTES)
            .take(MAX_SETS)
            .map(Bytes::from)
            .collect()
    }
}

fn annex_b(sets: &[Bytes]) -> Vec<u8> {
    sets.iter().flat_map(|set| START_CODE.iter().chain(set)).copied().collect()
}

/// The bytes that hex digits spell; `None` if they don't, or for more than 1 KiB.
fn hex(digits: &str) -> Option<Vec<u8>> {
    let digits = digits.as_bytes();
    if digits.len() > 2_048 || !digits.len().is_multiple_of(2) {
        return None;
    }
    let value = |digit: &u8| char::from(*digit).to_digit(16);
    digits
        .chunks_exact(2)
        .map(|pair| match pair {
            [high, low] => u8::try_from(value(high)? << 4 | value(low)?).ok(),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How a row's format is summed up: the codec known from the SDP, or the parameter sets read.
    fn describe(format: &Format) -> String {
        match (format, format.codec()) {
            (_, Some(Codec::H264(config))) => format!("h264 {}x{}", config.width(), config.height()),
            (_, Some(Codec::H265(config))) => format!("h265 {}x{}", config.width(), config.height()),
            (Format::Aac { layout, .. }, Some(Codec::Aac(config))) => {
                let AacLayout { size_bits, index_bits, index_delta_bits } = layout;
                format!(
                    "aac {} {} {size_bits}/{index_bits}/{index_delta_bits}",
                    config.sample_rate(),
                    config.channels()
                )
            }
            (_, Some(Codec::Opus(config))) => format!("opus {}", config.channels),
            (_, Some(codec @ Codec::G711(config))) => {
                format!("{} {} {}", codec.name(), config.sample_rate, config.channels)
            }
            (Format::H264 { parameter_sets } | Format::H265 { parameter_sets }, _) => {
                format!("{} unread", parameter_sets.len())
            }
            _ => unreachable!(),
        }
    }

    #[test]
    fn formats_of_real_sdps_are_read() {
        let hbr = "streamtype=5;profile-level-id=1;mode=AAC-hbr;sizelength=13;indexlength=3;indexdeltalength=3;";
        for (encoding, clock_hz, channels, fmtp, expected) in [
            // ffmpeg -c:v libx264, 1280x720.
            (
                "h264",
                90_000,
                None,
                "packetization-mode=1; sprop-parameter-sets=Z0LAH9kAUAW7ARAAAAMAEAAAAwMg8YMkgA==,aMuDyyA=; profile-level-id=42C01F",
                "h264 1280x720",
            ),
            (
                "H264",
                90_000,
                None,
                "packetization-mode=1;sprop-parameter-sets=Z0LAH9kAUAW7ARAAAAMAEAAAAwMg8YMkgA,aMuDyyA;",
                "h264 1280x720",
            ),
            // Ubiquiti: nothing at all. Others: sets that are no sets.
            ("h264", 90_000, None, "", "0 unread"),
            ("h264", 90_000, None, "sprop-parameter-sets=,;=;;packetization-mode", "0 unread"),
            ("h264", 90_000, None, "sprop-parameter-sets=AAAA,*", "1 unread"),
            (
                "h265",
                90_000,
                None,
                "sprop-vps=QAEMAf//AWAAAAMAkAAAAwAAAwB4lZgJ; sprop-sps=QgEBAWAAAAMAkAAAAwAAAwB4oAPAgBDllmkkyvAWgIAAAAMAgAAADIQ=; sprop-pps=RAHBcrRiQA==",
                "h265 1920x1080",
            ),
            ("mpeg4-generic", 44_100, Some(2), &[hbr, "config=1210"].concat(), "aac 44100 2 13/3/3"),
            ("MPEG4-GENERIC", 16_000, None, "Config=1408; SizeLength=13", "aac 16000 1 13/3/3"),
            (
                "mpeg4-generic",
                8_000,
                Some(1),
                "mode=AAC-lbr;sizelength=6;indexlength=2;indexdeltalength=2;config=zz",
                "aac 8000 1 6/2/2",
            ),
            ("opus", 48_000, Some(2), "sprop-stereo=1", "opus 2"),
            ("opus", 48_000, Some(2), "", "opus 1"),
            ("pcmu", 8_000, None, "", "pcmu 8000 1"),
            ("PCMA", 16_000, Some(2), "", "pcma 16000 2"),
        ] {
            let format = Format::parse(encoding, clock_hz, channels, fmtp).unwrap();
            assert_eq!(describe(&format), expected, "{encoding} {fmtp}");
        }
    }

    #[test]
    fn what_cannot_be_carried_is_named() {
        for (encoding, clock_hz, fmtp, expected) in [
            ("mp4a-latm", 44_100, "", r#"codec "mp4a-latm" is not supported"#),
            ("h265", 90_000, "sprop-max-don-diff=2", "H265 with sprop-max-don-diff=2 is not supported"),
            ("mpeg4-generic", 44_100, "ctsdeltalength=22", "MPEG4-GENERIC with ctsdeltalength=22 is not supported"),
            ("mpeg4-generic", 44_100, "sizelength=0", "MPEG4-GENERIC with sizelength=0 is not supported"),
            ("mpeg4-generic", 44_100, "sizelength=33", "MPEG4-GENERIC with sizelength=33 is not supported"),
        ] {
            assert_eq!(Format::parse(encoding, clock_hz, Some(2), fmtp).unwrap_err().to_string(), expected);
        }
    }
}

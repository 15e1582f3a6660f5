//! What a stream of packets carries.

use crate::{Timebase, aac, g711, h264, h265, opus};

/// Everything a muxer or a decoder needs to know of a track.
///
/// New parameter sets make a new `Arc<Track>` on the next packet, with the same [`TrackId`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Track {
    /// Its number within the stream, from 1; stable across reconnects.
    pub id: TrackId,
    /// The codec with its parameter sets.
    pub codec: Codec,
    /// The clock of its packets' timestamps.
    pub timebase: Timebase,
}

impl Track {
    /// Video or audio.
    pub fn kind(&self) -> Kind {
        self.codec.kind()
    }
}

/// The number of a track within its stream, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrackId(pub u32);

/// Video or audio.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Pictures.
    Video,
    /// Sound.
    Audio,
}

impl Kind {
    /// `"video"` or `"audio"`, as the API and the metrics spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Video => "video",
            Self::Audio => "audio",
        }
    }
}

/// A codec with the parameters that decode it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Codec {
    /// ITU-T H.264 (AVC).
    H264(h264::Config),
    /// ITU-T H.265 (HEVC).
    H265(h265::Config),
    /// MPEG-4 AAC (ISO/IEC 14496-3).
    Aac(aac::Config),
    /// Opus (RFC 6716).
    Opus(opus::Config),
    /// ITU-T G.711, A-law or µ-law.
    G711(g711::Config),
}

impl Codec {
    /// Video or audio.
    pub fn kind(&self) -> Kind {
        match self {
            Self::H264(_) | Self::H265(_) => Kind::Video,
            Self::Aac(_) | Self::Opus(_) | Self::G711(_) => Kind::Audio,
        }
    }

    /// `"h264"`, `"h265"`, `"aac"`, `"opus"`, `"pcma"` or `"pcmu"`, as the API spells it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::H264(_) => "h264",
            Self::H265(_) => "h265",
            Self::Aac(_) => "aac",
            Self::Opus(_) => "opus",
            Self::G711(config) => config.law.name(),
        }
    }

    /// The `codecs` parameter of a MIME type (RFC 6381 §3.3): `avc1.42e01f`, `hvc1.1.6.L120.90`, `mp4a.40.2`, `opus`;
    /// for G.711, which has none, the sample entry that files use (`alaw`, `ulaw`).
    pub fn rfc6381(&self) -> String {
        match self {
            Self::H264(config) => format!("avc1.{}", config.profile_level_id()),
            Self::H265(config) => format!("hvc1.{}", config.profile_tier_level()),
            // ISO/IEC 14496-3 Table 1.17: 5 is SBR, 29 adds parametric stereo.
            Self::Aac(config) if config.has_parametric_stereo() => "mp4a.40.29".to_owned(),
            Self::Aac(config) if config.extension_rate().is_some() => "mp4a.40.5".to_owned(),
            Self::Aac(config) => format!("mp4a.40.{}", config.object_type()),
            Self::Opus(_) => "opus".to_owned(),
            Self::G711(config) => match config.law {
                g711::Law::A => "alaw".to_owned(),
                g711::Law::Mu => "ulaw".to_owned(),
            },
        }
    }
}

/// `scale / units` frames per second, reduced; `None` if it is no frame rate that a camera can have.
pub(crate) fn frame_rate(scale: u64, units: u64) -> Option<(u32, u32)> {
    /// Encoders that don't know their rate say 90 000 or 10 000 000.
    const MAX_FPS: u64 = 1_000;
    /// Time lapse: a frame a minute.
    const MAX_SECONDS: u64 = 60;
    if scale == 0 || units == 0 || scale > units.saturating_mul(MAX_FPS) || units > scale.saturating_mul(MAX_SECONDS) {
        return None;
    }
    let (mut gcd, mut rest) = (scale, units);
    while rest != 0 {
        (gcd, rest) = (rest, gcd % rest);
    }
    Some((u32::try_from(scale / gcd).ok()?, u32::try_from(units / gcd).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nal::tests::hex;

    #[test]
    fn codec_strings_are_what_browsers_ask_for() {
        let h264 = h264::Config::parse(&hex("6742c01fd9005005bb011000000300100000030320f1832480"), &hex("68cb83cb20"));
        let h265 = h265::Config::parse(
            &hex("40010c01ffff016000000300900000030000030078959809"),
            &hex("420101016000000300900000030000030078a003c08010e596566924caf0168080000003008000000c84"),
            &hex("4401c172b46240"),
        );
        let g711 = |law| Codec::G711(g711::Config { law, sample_rate: 8_000, channels: 1 });
        for (codec, expected) in [
            (Codec::H264(h264.unwrap()), "avc1.42c01f"),
            (Codec::H265(h265.unwrap()), "hvc1.1.6.L120.90"),
            (Codec::Aac(aac::Config::new(aac::LOW_COMPLEXITY, 48_000, 2).unwrap()), "mp4a.40.2"),
            (Codec::Aac(aac::Config::parse(&hex("131056e598")).unwrap()), "mp4a.40.5"),
            (Codec::Aac(aac::Config::parse(&hex("eb098800")).unwrap()), "mp4a.40.29"),
            (Codec::Opus(opus::Config { channels: 2 }), "opus"),
            (g711(g711::Law::A), "alaw"),
            (g711(g711::Law::Mu), "ulaw"),
        ] {
            assert_eq!(codec.rfc6381(), expected);
        }
    }

    #[test]
    fn frame_rates_are_reduced_and_plausible() {
        for (scale, units, expected) in [
            (50, 2, Some((25, 1))),
            (60_000, 2_002, Some((30_000, 1_001))),
            (1, 60, Some((1, 60))),
            (1, 61, None),
            (90_000, 2, None),
            (0, 1, None),
            (1, 0, None),
            (u64::MAX, u64::MAX, Some((1, 1))),
            (4_294_967_295, 8_589_934_590, Some((1, 2))),
        ] {
            assert_eq!(frame_rate(scale, units), expected, "{scale}/{units}");
        }
    }
}

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
}

//! ITU-T G.711: 64 kbit/s logarithmic PCM.

/// The companding law.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Law {
    /// A-law (RTP payload type 8, `PCMA`).
    A,
    /// µ-law (RTP payload type 0, `PCMU`).
    Mu,
}

impl Law {
    /// `"pcma"` or `"pcmu"`.
    pub fn name(self) -> &'static str {
        match self {
            Self::A => "pcma",
            Self::Mu => "pcmu",
        }
    }
}

/// The parameters of a G.711 track.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Config {
    /// A-law or µ-law.
    pub law: Law,
    /// Samples per second and channel, 8 000 almost always.
    pub sample_rate: u32,
    /// Interleaved channels.
    pub channels: u8,
}

//! The nouns of the relay: [`Packet`], [`Track`], [`Codec`], [`Timestamp`], and the bitstreams inside them.
//!
//! No I/O, no clocks, no tokio: everything here is a value.

mod packet;
mod time;
mod track;

pub mod aac;
pub mod access_unit;
pub mod g711;
pub mod h264;
pub mod h265;
pub mod nal;
pub mod opus;
pub mod stamp;

pub use packet::{Flags, Packet, Wall, WallOrigin};
pub use time::{Timebase, Timestamp, UtcTime};
pub use track::{Codec, Kind, Track, TrackId};

/// A bitstream that does not say what it should: what was being read, and what was wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {detail}")]
pub struct BitstreamError {
    /// The structure being read, in its specification's words ("H.264 SPS").
    pub what: &'static str,
    /// What was wrong, with the value seen.
    pub detail: String,
}

impl BitstreamError {
    /// An error in `what`, explained by `detail`.
    pub fn new(what: &'static str, detail: impl Into<String>) -> Self {
        Self { what, detail: detail.into() }
    }
}

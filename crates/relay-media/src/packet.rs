//! The unit that travels through the graph.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;

use crate::{Timestamp, Track, UtcTime};

/// One access unit (every NAL unit of one picture, each behind its 4-byte big-endian length) or one audio frame.
///
/// Immutable and shared as `Arc<Packet>`; the payload is never copied between the source and the sinks. A packet
/// describes itself: there are no in-band events, and a sink re-initialises when `track` is another `Arc`.
#[derive(Clone, Debug)]
pub struct Packet {
    /// The track it belongs to, with the parameter sets that decode it.
    pub track: Arc<Track>,
    /// Decode time in the track's timebase; strictly increasing per track.
    pub dts: Timestamp,
    /// Presentation time in the track's timebase; never before `dts`.
    pub pts: Timestamp,
    /// Ticks to the next packet of the track, where the source knows them; a live one does not.
    pub duration: Option<u32>,
    /// When the packet's last byte was read, on the monotonic clock.
    pub arrival: Instant,
    /// The time of day of `pts`.
    pub wall: Wall,
    /// What may be done with it.
    pub flags: Flags,
    /// The coded bytes: for H.264 and H.265 without access unit delimiters, filler or parameter sets (those are in
    /// the track), for AAC the raw frame without ADTS.
    pub payload: Bytes,
}

impl Packet {
    /// A decoder can start here.
    pub fn is_key(&self) -> bool {
        self.flags.contains(Flags::KEY)
    }
}

bitflags::bitflags! {
    /// What may be done with a packet.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Flags: u8 {
        /// A random access point of a video track (IDR, or a recovery point that decodes alone). Audio never has it.
        const KEY = 1;
        /// No other packet refers to it (H.264 `nal_ref_idc` 0): shed first.
        const DISPOSABLE = 2;
        /// The first packet after a break in the source: what came before may be missing or unrelated.
        const DISCONTINUITY = 4;
    }
}

/// A time of day and where it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wall {
    /// The time of day.
    pub utc: UtcTime,
    /// Who said so.
    pub origin: WallOrigin,
}

/// Who told the time of day of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WallOrigin {
    /// The local clock when the packet arrived.
    Arrival,
    /// An RTCP sender report (RFC 3550 §6.4.1).
    SenderReport,
    /// EXT-X-PROGRAM-DATE-TIME (RFC 8216 §4.3.2.6).
    ProgramDateTime,
    /// The source made the picture itself.
    Generated,
}

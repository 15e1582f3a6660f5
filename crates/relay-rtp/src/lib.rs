//! RTP payload formats: packets in, access units and audio frames out, sans-IO.
//!
//! H.264 (RFC 6184), H.265 (RFC 7798), AAC (RFC 3640), Opus (RFC 7587), G.711 (RFC 3551). A [`Format`] is read from
//! an SDP media; a [`Depacketizer`] follows one RTP stream of it. A damaged unit is dropped whole and counted, and
//! what cameras do against the rules is tolerated and counted by name ([`Quirk`]). Reordering, sequence numbers and
//! the unwrapping of timestamps are the session's business.

mod aac;
mod depacketizer;
mod fmtp;
mod h264;
mod h265;
mod pictures;
mod quirks;
mod sdp;

#[cfg(test)]
mod tests;

pub use aac::{AacLayout, MAX_AUDIO_FRAME_BYTES};
pub use depacketizer::{AfterLoss, Depacketizer, RtpPacket, Unit};
pub use fmtp::{Format, FormatError};
pub use quirks::{Quirk, QuirkCounters};
pub use sdp::{SdpMedia, sdp_medias};

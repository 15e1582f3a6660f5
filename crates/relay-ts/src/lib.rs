//! MPEG transport streams (ISO/IEC 13818-1 | ITU-T H.222.0): bytes in, access units and audio frames out, sans-IO.
//!
//! A [`Demuxer`] follows one programme: its tables wherever they come, H.264, H.265, AAC in ADTS and Opus. A unit with a
//! hole is dropped whole and counted, what a peer does against the rules is tolerated or refused by name ([`Quirk`]),
//! and what is not carried is named too ([`Content`]). Section numbers without a document are those of
//! ISO/IEC 13818-1:2019. What the times mean outside the stream, and what to do about jumps, is the caller's business.

mod adts;
mod clock;
mod demuxer;
mod framer;
mod opus;
mod packet;
mod pes;
mod pictures;
mod programme;
mod quirks;
mod section;
mod sets;
mod slice;
mod stream;
mod tables;

#[cfg(test)]
mod tests;

pub use demuxer::{AfterLoss, Demuxer, Elementary, Ending, Unit};
pub use quirks::{Quirk, QuirkCounters};
pub use tables::Content;

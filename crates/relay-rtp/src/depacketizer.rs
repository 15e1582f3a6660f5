//! One RTP stream's packets to its units, whatever the codec.

use std::{collections::VecDeque, time::Instant};

use bytes::Bytes;
use relay_media::{Codec, Flags, access_unit::Syntax, opus};

use crate::{Format, Quirk, QuirkCounters, aac::AacFrames, h264, h265, pictures::Pictures};

/// One RTP packet, in sequence.
#[derive(Clone, Copy, Debug)]
pub struct RtpPacket<'a> {
    /// What follows the header, without padding.
    pub payload: &'a [u8],
    /// The timestamp in ticks of the media clock, unwrapped.
    pub timestamp: i64,
    /// The marker bit.
    pub marker: bool,
    /// Packets missing just before this one, by sequence number.
    pub lost_before: u32,
    /// When it was read.
    pub arrival: Instant,
}

/// One access unit or audio frame.
#[derive(Clone, Debug)]
pub struct Unit {
    /// Presentation time in ticks of the media clock, unwrapped.
    pub timestamp: i64,
    /// When its last packet was read.
    pub arrival: Instant,
    /// As in [`relay_media::Packet::payload`].
    pub payload: Bytes,
    /// `KEY` and `DISPOSABLE`.
    pub flags: Flags,
    /// Packets lost since the unit before this one: 0 if nothing is missing between them.
    pub loss: u32,
    /// The codec, when it is first known or has changed.
    pub codec: Option<Codec>,
}

/// What happens to pictures that refer to a lost one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AfterLoss {
    /// They are dropped and counted until the next key frame: nothing undecodable is handed out.
    #[default]
    WaitForKey,
    /// They are handed out, with [`Unit::loss`] on the first of them.
    PassOn,
}

/// Assembles one RTP stream's units.
#[derive(Debug)]
pub struct Depacketizer {
    assembly: Assembly,
    output: Units,
}

#[derive(Debug)]
enum Assembly {
    H264(Box<Pictures>),
    H265(Box<Pictures>),
    Aac(AacFrames),
    Opus,
    G711,
}

/// Finished units and what was counted on the way. A packet adds a few units at most; the caller drains them.
#[derive(Debug, Default)]
pub(crate) struct Units {
    pub(crate) ready: VecDeque<Unit>,
    pub(crate) quirks: QuirkCounters,
    /// Lost packets not yet told in a unit.
    pub(crate) loss: u32,
    /// A codec not yet told in a unit.
    pub(crate) codec: Option<Codec>,
}

impl Units {
    pub(crate) fn emit(&mut self, timestamp: i64, arrival: Instant, payload: Bytes, flags: Flags) {
        let (loss, codec) = (std::mem::take(&mut self.loss), self.codec.take());
        self.ready.push_back(Unit { timestamp, arrival, payload, flags, loss, codec });
    }

    pub(crate) fn count(&mut self, quirk: Quirk) {
        self.quirks.count(quirk);
    }
}

impl Depacketizer {
    /// A depacketizer at the start of a stream of `format`. Pictures wait for a key frame.
    pub fn new(format: &Format, after_loss: AfterLoss) -> Self {
        let mut output = Units::default();
        let pictures = |syntax, sets: &[Bytes]| Box::new(Pictures::new(syntax, sets, after_loss));
        let assembly = match format {
            Format::H264 { parameter_sets } => Assembly::H264(pictures(Syntax::H264, parameter_sets)),
            Format::H265 { parameter_sets } => Assembly::H265(pictures(Syntax::H265, parameter_sets)),
            Format::Aac { config, layout, clock_hz } => {
                output.codec = Some(Codec::Aac(config.clone()));
                Assembly::Aac(AacFrames::new(config, *layout, *clock_hz))
            }
            Format::Opus(config) => {
                output.codec = Some(Codec::Opus(*config));
                Assembly::Opus
            }
            Format::G711(config) => {
                output.codec = Some(Codec::G711(*config));
                Assembly::G711
            }
        };
        Self { assembly, output }
    }

    /// Takes one packet; the units that it completes are had by [`poll`](Self::poll).
    pub fn push(&mut self, packet: RtpPacket<'_>) {
        let output = &mut self.output;
        if packet.lost_before > 0 {
            output.loss = output.loss.saturating_add(packet.lost_before);
            output.quirks.add(Quirk::PacketLost, u64::from(packet.lost_before));
        }
        match &mut self.assembly {
            Assembly::H264(pictures) => h264::push(pictures, packet, output),
            Assembly::H265(pictures) => h265::push(pictures, packet, output),
            Assembly::Aac(frames) => frames.push(packet, output),
            // One packet is one Opus packet (RFC 7587 §4.2); an empty one is silence (RFC 7587 §3.1.3).
            Assembly::Opus if packet.payload.is_empty() => output.count(Quirk::EmptyFragment),
            Assembly::Opus if opus::packet_ticks(packet.payload).is_none() => output.count(Quirk::PayloadInvalid),
            Assembly::G711 if packet.payload.is_empty() => output.count(Quirk::EmptyFragment),
            // One packet is a run of samples (RFC 3551 §4.5.14).
            Assembly::Opus | Assembly::G711 => {
                output.emit(packet.timestamp, packet.arrival, Bytes::copy_from_slice(packet.payload), Flags::empty());
            }
        }
    }

    /// The stream has ended: completes the picture that only waits for its successor, if there is one.
    pub fn finish(&mut self) {
        match &mut self.assembly {
            Assembly::H264(pictures) | Assembly::H265(pictures) => pictures.finish(&mut self.output),
            Assembly::Aac(_) | Assembly::Opus | Assembly::G711 => {}
        }
    }

    /// The next finished unit.
    pub fn poll(&mut self) -> Option<Unit> {
        self.output.ready.pop_front()
    }

    /// What was tolerated, refused and dropped so far.
    pub fn quirks(&self) -> QuirkCounters {
        self.output.quirks
    }
}

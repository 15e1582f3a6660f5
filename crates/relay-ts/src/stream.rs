//! One elementary stream: its packets to PES payloads, and those to its codec's assembly.

use relay_media::access_unit::Syntax;

use crate::{
    AfterLoss, Content, Quirk,
    adts::AdtsFrames,
    clock::{Clock, Stamp},
    demuxer::{Elementary, Outlet, Track, Units},
    opus::OpusFrames,
    packet::{Continuity, Follows, PACKET_BYTES, TsPacket},
    pes::{MAX_HEADER_BYTES, PesStart},
    pictures::Pictures,
};

#[derive(Debug)]
pub(crate) struct Stream {
    content: Content,
    track: Track,
    continuity: Continuity,
    /// The next PES packet begins another timeline.
    is_announced: bool,
    pes: Pes,
    /// A PES header that came in several packets: at most [`MAX_HEADER_BYTES`] and a packet.
    header: Vec<u8>,
    assembly: Assembly,
    /// The last packet had no room for stuffing.
    is_full: bool,
}

/// Where in a PES packet the stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pes {
    /// Nowhere: what comes before the next start is passed over.
    Waiting,
    /// In its header.
    Header,
    /// In its payload, of which so many bytes are to come, if it told how many.
    Payload(Option<usize>),
}

#[derive(Debug)]
enum Assembly {
    Pictures(Box<Pictures>),
    Adts(AdtsFrames),
    Opus(OpusFrames),
    None,
}

impl Stream {
    pub(crate) fn new(pid: u16, content: Content, after_loss: AfterLoss) -> Self {
        let assembly = match content {
            Content::H264 => Assembly::Pictures(Box::new(Pictures::new(Syntax::H264, after_loss))),
            Content::H265 => Assembly::Pictures(Box::new(Pictures::new(Syntax::H265, after_loss))),
            Content::Aac => Assembly::Adts(AdtsFrames::default()),
            Content::Opus { channels } => Assembly::Opus(OpusFrames::new(channels)),
            Content::PassedOver(_) => Assembly::None,
        };
        Self {
            content,
            track: Track { pid, codec: None, is_new: false, discontinuity: false },
            continuity: Continuity::default(),
            is_announced: false,
            pes: Pes::Waiting,
            header: Vec::new(),
            assembly,
            is_full: false,
        }
    }

    pub(crate) fn pid(&self) -> u16 {
        self.track.pid
    }

    pub(crate) fn content(&self) -> Content {
        self.content
    }

    pub(crate) fn is_followed(&self) -> bool {
        !matches!(self.assembly, Assembly::None)
    }

    pub(crate) fn elementary(&self) -> Elementary<'_> {
        Elementary { pid: self.track.pid, content: self.content, codec: self.track.codec.as_ref() }
    }

    /// A picture of unknown length is under way, and its last packet may not be its last.
    pub(crate) fn is_doubtful(&self) -> bool {
        self.is_full && self.pes == Pes::Payload(None) && matches!(self.assembly, Assembly::Pictures(_))
    }

    /// What begins next belongs to another timeline than what came before.
    pub(crate) fn announce_discontinuity(&mut self) {
        self.is_announced = true;
    }

    #[inline]
    pub(crate) fn packet(&mut self, packet: &TsPacket<'_>, clock: &mut Clock, units: &mut Units) {
        if packet.discontinuity {
            self.announce_discontinuity();
            units.quirks.count(Quirk::DiscontinuityIndicated);
        }
        // A clock reference takes 8 bytes: length, flags, itself (§2.4.3.4).
        self.is_full = packet.payload.len() + if packet.pcr.is_some() { 8 } else { 0 } >= PACKET_BYTES - 4;
        match self.continuity.check(packet) {
            Follows::Next => {}
            Follows::Repeats => return units.quirks.count(Quirk::PacketRepeated),
            // §2.4.3.5: what came before ended with a whole access unit, if the new begins with one.
            Follows::Announced if packet.starts_unit => {}
            Follows::Announced | Follows::Gap => {
                units.quirks.count(Quirk::ContinuityGap);
                self.damage(units);
            }
        }
        if packet.is_scrambled {
            units.quirks.count(Quirk::Scrambled);
            return self.damage(units);
        }
        if packet.starts_unit {
            self.end_pes(units);
            self.header.clear();
            self.begin_pes(packet.payload, clock, units);
        } else if let Pes::Payload(_) = self.pes {
            self.payload(packet.payload, units);
        } else if self.pes == Pes::Header {
            self.continue_header(packet.payload, clock, units);
        }
    }

    /// The stream ends here, as it should.
    pub(crate) fn finish(&mut self, units: &mut Units) {
        self.end_pes(units);
        self.pes = Pes::Waiting;
        self.continuity.forget();
        let mut outlet = Outlet { track: &mut self.track, units };
        match &mut self.assembly {
            Assembly::Pictures(pictures) => pictures.finish(&mut outlet),
            Assembly::Adts(frames) => frames.finish(&mut outlet),
            Assembly::Opus(frames) => frames.damage(&mut outlet),
            Assembly::None => {}
        }
    }

    /// What comes next has nothing to do with what came before.
    pub(crate) fn discontinue(&mut self, units: &mut Units) {
        self.damage(units);
        self.continuity.forget();
    }

    /// Something is missing here: what it belongs to is dropped, and so is what comes before the next PES packet.
    fn damage(&mut self, units: &mut Units) {
        self.pes = Pes::Waiting;
        self.track.discontinuity = true;
        let mut outlet = Outlet { track: &mut self.track, units };
        match &mut self.assembly {
            Assembly::Pictures(pictures) => pictures.damage(&mut outlet),
            Assembly::Adts(frames) => frames.damage(&mut outlet),
            Assembly::Opus(frames) => frames.damage(&mut outlet),
            Assembly::None => {}
        }
    }

    /// Another PES packet begins, or the stream ends.
    fn end_pes(&mut self, units: &mut Units) {
        let missing = match self.pes {
            Pes::Waiting => false,
            Pes::Header => true,
            Pes::Payload(left) => left.is_some_and(|left| left > 0),
        };
        if missing {
            units.quirks.count(Quirk::PesCut);
            self.damage(units);
        }
    }

    fn continue_header(&mut self, bytes: &[u8], clock: &mut Clock, units: &mut Units) {
        let mut header = std::mem::take(&mut self.header);
        header.extend_from_slice(bytes);
        self.begin_pes(&header, clock, units);
        if self.pes != Pes::Header {
            header.clear();
        }
        self.header = header;
    }

    /// Reads a PES header; `bytes` are all of it that has come, and what of the payload has come with it.
    fn begin_pes(&mut self, bytes: &[u8], clock: &mut Clock, units: &mut Units) {
        let header = match PesStart::read(bytes) {
            PesStart::Media(header) => header,
            PesStart::Incomplete if bytes.len() < MAX_HEADER_BYTES => {
                self.pes = Pes::Header;
                if self.header.is_empty() {
                    self.header.extend_from_slice(bytes);
                }
                return;
            }
            PesStart::NoMedia => {
                self.pes = Pes::Waiting;
                return;
            }
            PesStart::Scrambled => {
                units.quirks.count(Quirk::Scrambled);
                return self.damage(units);
            }
            PesStart::Incomplete | PesStart::Invalid => {
                units.quirks.count(Quirk::PesInvalid);
                return self.damage(units);
            }
        };
        let stamp = header.pts.map(|pts| clock.stamp(pts, header.dts));
        self.pes = Pes::Payload(header.length);
        self.start(stamp, header.payload, units);
        self.track.discontinuity |= std::mem::take(&mut self.is_announced);
        self.payload(header.payload, units);
    }

    /// A PES packet's payload begins, with `head` as far as it has come.
    fn start(&mut self, stamp: Option<Stamp>, head: &[u8], units: &mut Units) {
        let mut outlet = Outlet { track: &mut self.track, units };
        match &mut self.assembly {
            Assembly::Pictures(pictures) => pictures.start(stamp, head, &mut outlet),
            Assembly::Adts(frames) => frames.start(stamp, &mut outlet),
            Assembly::Opus(frames) => frames.start(stamp, &mut outlet),
            Assembly::None => {}
        }
    }

    #[inline]
    fn payload(&mut self, mut bytes: &[u8], units: &mut Units) {
        if let Pes::Payload(Some(left)) = &mut self.pes {
            if let Some(rest) = left.checked_sub(bytes.len()) {
                *left = rest;
            } else {
                units.quirks.count(Quirk::PesLengthWrong);
                if let Assembly::Pictures(_) = self.assembly {
                    // Muxers that cut a picture's length to its lower 16 bits: it goes on to the next start.
                    self.pes = Pes::Payload(None);
                } else {
                    bytes = bytes.get(..*left).unwrap_or_default();
                    *left = 0;
                }
            }
        }
        if bytes.is_empty() {
            return;
        }
        let mut outlet = Outlet { track: &mut self.track, units };
        match &mut self.assembly {
            Assembly::Pictures(pictures) => pictures.payload(bytes, &mut outlet),
            Assembly::Adts(frames) => frames.payload(bytes, &mut outlet),
            Assembly::Opus(frames) => frames.payload(bytes, &mut outlet),
            Assembly::None => {}
        }
    }
}

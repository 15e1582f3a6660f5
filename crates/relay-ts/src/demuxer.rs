//! The bytes of a transport stream to one programme's units.

use std::collections::VecDeque;

use bytes::Bytes;
use relay_media::{Codec, Flags};

use crate::{Content, Quirk, QuirkCounters, clock::Stamp, framer::Framer, programme::Programme};

/// One access unit or audio frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// The packet identifier of its elementary stream.
    pub pid: u16,
    /// Presentation time in ticks of 90 kHz, unwrapped: all streams count from the same zero.
    pub pts: i64,
    /// Decode time, likewise; `pts` where the stream tells none. Nothing is promised about its order.
    pub dts: i64,
    /// As in [`relay_media::Packet::payload`].
    pub payload: Bytes,
    /// `KEY` and `DISPOSABLE`.
    pub flags: Flags,
    /// Something is missing between the unit of this stream before it and this one, or the stream said that a new
    /// timeline begins.
    pub discontinuity: bool,
    /// The codec, when it is first known or has changed.
    pub codec: Option<Codec>,
}

/// What happens to pictures that refer to a lost one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AfterLoss {
    /// They are dropped and counted until the next key frame: nothing undecodable is handed out.
    #[default]
    WaitForKey,
    /// They are handed out, with [`Unit::discontinuity`] on the first of them.
    PassOn,
}

/// One elementary stream of the programme, as its tables tell.
#[derive(Clone, Copy, Debug)]
pub struct Elementary<'a> {
    /// Its packet identifier.
    pub pid: u16,
    /// What it carries.
    pub content: Content,
    /// Its codec, once known.
    pub codec: Option<&'a Codec>,
}

/// Takes a transport stream apart: the first programme that its tables name.
///
/// Whatever the pieces in which the bytes come, the units are the same. What it holds is bounded: twice
/// [`MAX_ACCESS_UNIT_BYTES`](relay_media::access_unit::MAX_ACCESS_UNIT_BYTES) for each of at most two streams of
/// pictures, 128 KiB for each of at most 30 others, and the units that were not polled.
#[derive(Debug)]
pub struct Demuxer {
    framer: Framer,
    programme: Programme,
}

impl Demuxer {
    /// A demuxer at the start of a stream. With [`AfterLoss::WaitForKey`], pictures wait for a key frame.
    pub fn new(after_loss: AfterLoss) -> Self {
        Self { framer: Framer::default(), programme: Programme::new(after_loss) }
    }

    /// Takes the next bytes, wherever they are cut; the units that they complete are had by [`poll`](Self::poll),
    /// which should be asked after each push.
    pub fn push(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some(packet) = self.framer.next(&mut rest, &mut self.programme.units.quirks) {
            self.programme.packet(packet);
        }
    }

    /// The segment, or the stream, has ended where it should: completes the units that only wait for their
    /// successors. What comes next goes on where this left off: tables, parameter sets and clock stay, but packets
    /// may be counted anew.
    ///
    /// Whether all bytes of the segment came is the caller's knowledge: where its last packets are missing, a picture
    /// may be cut without a trace. Call [`discontinue`](Self::discontinue) alone then.
    pub fn finish(&mut self) {
        self.framer.finish(&mut self.programme.units.quirks);
        let mut rest = &[][..];
        while let Some(packet) = self.framer.next(&mut rest, &mut self.programme.units.quirks) {
            self.programme.packet(packet);
        }
        self.framer.reset();
        self.programme.finish();
    }

    /// How the bytes so far end, if they are a segment's last ones; to be asked before [`finish`](Self::finish).
    pub fn ending(&self) -> Ending {
        if self.framer.is_in_packet() {
            Ending::Cut
        } else if self.programme.is_doubtful() {
            Ending::Doubtful
        } else {
            Ending::Proper
        }
    }

    /// What comes next has nothing to do with what came before: another timeline (EXT-X-DISCONTINUITY), or the bytes
    /// between were not had. Units of which only a part has come are dropped; call [`finish`](Self::finish) before if
    /// the end was a proper one. Tables stay until others come.
    pub fn discontinue(&mut self) {
        self.framer.reset();
        self.programme.discontinue();
    }

    /// The next finished unit, in the order in which they became complete.
    pub fn poll(&mut self) -> Option<Unit> {
        self.programme.units.ready.pop_front()
    }

    /// The elementary streams of the programme, in its table's order; none before the table has come.
    pub fn streams(&self) -> impl Iterator<Item = Elementary<'_>> {
        self.programme.elementaries()
    }

    /// The newest programme clock reference in ticks of 27 MHz, unwrapped on the same timeline as the units'.
    pub fn pcr(&self) -> Option<i64> {
        self.programme.pcr()
    }

    /// What was tolerated, refused and dropped so far.
    pub fn quirks(&self) -> QuirkCounters {
        self.programme.units.quirks
    }
}

/// How a segment ends, as far as its bytes tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Where a muxer ends one: with a picture's last packet, which has stuffing unless it fits by chance.
    Proper,
    /// With a full packet of a picture of unknown length: more of it may be missing. One in 184 proper ones does.
    Doubtful,
    /// In the middle of a packet.
    Cut,
}

/// Finished units and what was counted on the way.
#[derive(Debug, Default)]
pub(crate) struct Units {
    pub(crate) ready: VecDeque<Unit>,
    pub(crate) quirks: QuirkCounters,
}

/// What a stream's units carry besides themselves.
#[derive(Debug)]
pub(crate) struct Track {
    pub(crate) pid: u16,
    pub(crate) codec: Option<Codec>,
    /// The codec was not yet told in a unit.
    pub(crate) is_new: bool,
    /// To be told in the next unit.
    pub(crate) discontinuity: bool,
}

/// Where one stream's units go.
pub(crate) struct Outlet<'a> {
    pub(crate) track: &'a mut Track,
    pub(crate) units: &'a mut Units,
}

impl Outlet<'_> {
    pub(crate) fn emit(&mut self, stamp: Stamp, payload: Bytes, flags: Flags) {
        let track = &mut *self.track;
        let discontinuity = std::mem::take(&mut track.discontinuity);
        let codec = if std::mem::take(&mut track.is_new) { track.codec.clone() } else { None };
        let Stamp { pts, dts } = stamp;
        self.units.ready.push_back(Unit { pid: track.pid, pts, dts, payload, flags, discontinuity, codec });
    }

    pub(crate) fn count(&mut self, quirk: Quirk) {
        self.units.quirks.count(quirk);
    }

    /// The codec of the units to come.
    pub(crate) fn set_codec(&mut self, codec: Codec) {
        if self.track.codec.as_ref() != Some(&codec) {
            self.track.codec = Some(codec);
            self.track.is_new = true;
        }
    }
}

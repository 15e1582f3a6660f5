//! Where pictures begin and end in an elementary stream of H.264 or H.265, which of them are whole, and which can be
//! decoded.
//!
//! PES packets only lend their times: a picture ends where the next one begins (H.264 §7.4.1.2.3, H.265 §7.4.2.4.4), be
//! that in the same PES packet or in one of those after it, or where the stream ends. Bytes are gathered as they come,
//! searched for start codes when their PES packet has ended, and copied once more into a payload of exactly their size:
//! one allocation for each picture.

use std::{collections::VecDeque, ops::Range};

use bytes::Bytes;
use memchr::memmem;
use relay_media::{
    Codec, Flags,
    access_unit::{Boundary, MAX_ACCESS_UNIT_BYTES, Role, Syntax, Unfit},
    h264,
    nal::{LENGTH_BYTES, trim_trailing_zeros},
};

use crate::{
    AfterLoss, Quirk,
    clock::Stamp,
    demuxer::Outlet,
    sets::{Needs, Sets},
    slice::{Part, SliceHead},
};

/// Bytes that wait for the end of their PES packet: a picture, and as much again before it is moved to the front.
const MAX_PENDING_BYTES: usize = 2 * MAX_ACCESS_UNIT_BYTES;

/// NAL units of one picture. The highest levels allow 600 slices; each may have SEI beside it.
const MAX_NALS: usize = 4_096;

/// PES packets with times before the picture that takes the newest of them. One as a rule.
const MAX_STAMPS: usize = 64;

/// Between pictures that tell no time in streams that tell no rate: 25 a second.
const DEFAULT_STEP: i64 = 3_600;

/// Pictures further apart than this are no measure of the rate: a second.
const MAX_STEP: i64 = 90_000;

/// Assembles the pictures of one elementary stream.
#[derive(Debug)]
pub(crate) struct Pictures {
    syntax: Syntax,
    after_loss: AfterLoss,
    sets: Sets,
    /// The elementary stream from the picture on that is being collected.
    stream: Vec<u8>,
    /// Its whole NAL units so far, without start codes.
    nals: Vec<Range<usize>>,
    /// NAL units from here on follow the last slice, and belong to the next picture if its first slice comes next.
    next_from: Option<usize>,
    /// First slices among them: 2 are the fields of a frame.
    firsts: u8,
    has_slice: bool,
    /// Where a NAL unit begins whose end has not come.
    open: Option<usize>,
    /// Start codes that begin before here are known.
    searched: usize,
    /// Times, and from which byte on they hold.
    stamps: VecDeque<(usize, Stamp)>,
    newest: Option<Stamp>,
    step: i64,
    /// The rest of the PES packet belongs to a picture that is too large.
    skipping: bool,
    /// Waiting for a key frame.
    gated: bool,
    /// Decoding began at an open random access point, whose skipped leading pictures cannot be decoded.
    skip_leading: bool,
    sub_layers: u8,
    may_be_interlaced: bool,
    start_code: memmem::Finder<'static>,
}

/// A picture put together.
struct Built {
    payload: Bytes,
    flags: Flags,
    role: Role,
    codec: Option<Codec>,
}

impl Pictures {
    pub(crate) fn new(syntax: Syntax, after_loss: AfterLoss) -> Self {
        Self {
            syntax,
            after_loss,
            sets: Sets::new(syntax),
            stream: Vec::new(),
            nals: Vec::new(),
            next_from: None,
            firsts: 0,
            has_slice: false,
            open: None,
            searched: 0,
            stamps: VecDeque::new(),
            newest: None,
            step: DEFAULT_STEP,
            skipping: false,
            gated: after_loss == AfterLoss::WaitForKey,
            skip_leading: false,
            sub_layers: 1,
            may_be_interlaced: false,
            start_code: memmem::Finder::new(&[0, 0, 1]),
        }
    }

    /// A PES packet's payload begins, with `head` as far as it has come.
    pub(crate) fn start(&mut self, stamp: Option<Stamp>, head: &[u8], outlet: &mut Outlet<'_>) {
        let opens = self.opens(head);
        self.search(opens, outlet);
        if opens && (self.has_slice || stamp.is_some()) {
            self.complete_last(outlet);
        }
        self.compact();
        self.skipping = false;
        if let Some(stamp) = stamp {
            if self.stamps.len() >= MAX_STAMPS {
                self.stamps.pop_front();
            }
            self.stamps.push_back((self.stream.len(), stamp));
        }
    }

    #[inline]
    pub(crate) fn payload(&mut self, bytes: &[u8], outlet: &mut Outlet<'_>) {
        if self.stream.len() + bytes.len() > MAX_PENDING_BYTES {
            self.search(false, outlet);
            self.compact();
            if self.stream.len() + bytes.len() > MAX_PENDING_BYTES {
                self.give_up(Quirk::UnitTooLarge, outlet);
            }
        }
        if !self.skipping {
            self.stream.extend_from_slice(bytes);
        }
    }

    /// Bytes are missing after those that have come: drops the picture that they belong to.
    pub(crate) fn damage(&mut self, outlet: &mut Outlet<'_>) {
        self.search(false, outlet);
        if self.open.is_some() || !self.nals.is_empty() {
            outlet.count(Quirk::UnitDamaged);
        }
        self.clear();
        self.close_gate();
    }

    /// No bytes of the same picture will come any more.
    pub(crate) fn finish(&mut self, outlet: &mut Outlet<'_>) {
        self.search(true, outlet);
        self.complete_last(outlet);
        self.clear();
    }

    /// A PES packet that begins so begins with a new picture.
    fn opens(&self, head: &[u8]) -> bool {
        let zeros = head.iter().take_while(|byte| **byte == 0).count();
        match head.get(zeros..) {
            Some([1, nal @ ..]) if zeros >= 2 && nal.len() >= 3 => self.sets.boundary(nal) == Boundary::Opens,
            _ => false,
        }
    }

    /// Finds the NAL units in what has come; `ended` if the last of them ends there.
    fn search(&mut self, ended: bool, outlet: &mut Outlet<'_>) {
        while let Some(found) = self.start_code.find(self.stream.get(self.searched..).unwrap_or_default()) {
            let at = self.searched + found;
            self.searched = at + 3;
            if let Some(open) = self.open.replace(self.searched) {
                self.nal(open, at, outlet);
            }
        }
        if ended {
            if let Some(open) = self.open.take() {
                self.nal(open, self.stream.len(), outlet);
            }
            self.searched = self.stream.len();
        } else {
            // A start code may have come in part.
            self.searched = self.searched.max(self.stream.len().saturating_sub(2));
        }
    }

    /// A whole NAL unit.
    fn nal(&mut self, start: usize, end: usize, outlet: &mut Outlet<'_>) {
        let nal = trim_trailing_zeros(self.stream.get(start..end).unwrap_or_default());
        if nal.is_empty() {
            return;
        }
        let (range, boundary) = (start..start + nal.len(), self.sets.boundary(nal));
        if let Part::Slice(slice) = Part::of(self.syntax, nal) {
            if slice.is_first && self.has_slice && !self.is_second_field(start) {
                self.complete(self.next_from.unwrap_or(self.nals.len()), outlet);
            }
            self.has_slice = true;
            self.firsts += u8::from(slice.is_first);
            self.next_from = None;
        } else if self.has_slice && boundary == Boundary::Opens {
            self.next_from = self.next_from.or(Some(self.nals.len()));
        }
        if self.nals.len() >= MAX_NALS {
            return self.give_up(Quirk::UnitTooLarge, outlet);
        }
        self.nals.push(range);
    }

    /// The first slice at `start` is that of a frame's other field, which shares its packet (ISO/IEC 14496-15 §5.2.3):
    /// where a stream may be interlaced, its PES packets hold one frame each, and pictures in one are fields.
    fn is_second_field(&self, start: usize) -> bool {
        let begin = self.nals.first().map_or(start, |first| first.start);
        let has_own_time = self.stamps.iter().any(|(from, _)| (begin + 1..=start).contains(from));
        self.may_be_interlaced && self.firsts == 1 && !has_own_time
    }

    /// The picture that is being collected is whole; NAL units after its last slice are kept for the next.
    fn complete_last(&mut self, outlet: &mut Outlet<'_>) {
        self.complete(self.next_from.unwrap_or(self.nals.len()), outlet);
    }

    /// The first `count` NAL units are a picture: hands it out if it can be decoded.
    fn complete(&mut self, count: usize, outlet: &mut Outlet<'_>) {
        let stamp = self.take_stamp(count);
        let built = self.build(count);
        self.nals.drain(..count.min(self.nals.len()));
        (self.has_slice, self.firsts, self.next_from) = (false, 0, None);
        match built {
            Ok(built) => self.hand_out(built, stamp, outlet),
            // Parameter sets or SEI alone.
            Err(Unfit::NoSlice) => {}
            Err(why) => {
                outlet.count(match why {
                    Unfit::NoSlice | Unfit::NoFirstSlice => Quirk::UnitDamaged,
                    Unfit::TooLarge => Quirk::UnitTooLarge,
                    Unfit::NoParameterSets => Quirk::UnitWithoutParameters,
                    Unfit::BadParameterSets(_) => Quirk::BadParameterSets,
                });
                outlet.track.discontinuity = true;
                self.close_gate();
            }
        }
    }

    fn build(&mut self, count: usize) -> Result<Built, Unfit> {
        let Self { syntax, stream, nals, sets, .. } = self;
        let parts = nals.iter().take(count).filter_map(|range| stream.get(range.clone()));
        let parts = parts.map(|nal| (nal, Part::of(*syntax, nal)));
        let (mut bytes, mut first, mut has_first, mut intra, mut has_sets) = (0, None, false, true, false);
        for (nal, part) in parts.clone() {
            match part {
                Part::Slice(slice) => {
                    first.get_or_insert((nal, slice));
                    has_first |= slice.is_first;
                    intra &= slice.intra;
                }
                Part::ParameterSet => has_sets = true,
                Part::Kept | Part::Dropped => {}
            }
            bytes += if part.is_carried() { LENGTH_BYTES + nal.len() } else { 0 };
        }
        if has_sets {
            sets.learn(parts.clone().filter(|(_, part)| matches!(part, Part::ParameterSet)).map(|(nal, _)| nal));
        }
        let (head, slice): (&[u8], SliceHead) = first.ok_or(Unfit::NoSlice)?;
        if !has_first {
            return Err(Unfit::NoFirstSlice);
        }
        if bytes > MAX_ACCESS_UNIT_BYTES {
            return Err(Unfit::TooLarge);
        }
        // A recovery point of count 0: decoding may start here (H.264 §D.2.8).
        let recovers = |(nal, _): (&[u8], Part)| h264::recovery_point(nal) == Some(0);
        let role = match slice.role {
            Role::Dependent if *syntax == Syntax::H264 && intra && parts.clone().any(recovers) => Role::Closed,
            role => role,
        };
        let key = matches!(role, Role::Closed | Role::Open);
        let Needs { codec, before } = sets.needs(head, slice.pps_id, key, slice.role != Role::Dependent)?;
        let mut payload = Vec::with_capacity(before.len() + bytes);
        payload.extend_from_slice(&before);
        for (nal, _) in parts.filter(|(_, part)| part.is_carried()) {
            payload.extend_from_slice(&u32::try_from(nal.len()).unwrap_or(u32::MAX).to_be_bytes());
            payload.extend_from_slice(nal);
        }
        let mut flags = Flags::empty();
        flags.set(Flags::KEY, key);
        let sub_layers = if let Some(codec) = &codec { sub_layers(codec) } else { self.sub_layers };
        flags.set(Flags::DISPOSABLE, !key && slice.non_reference && slice.temporal_id + 1 >= sub_layers);
        Ok(Built { payload: Bytes::from(payload), flags, role, codec })
    }

    /// The time of the picture of the first `count` NAL units: that of the last PES packet before it begins (§2.4.3.7),
    /// or before its first slice, for muxers that put parameter sets into the packet before.
    fn take_stamp(&mut self, count: usize) -> Option<Stamp> {
        let begin = self.nals.first().map(|nal| nal.start)?;
        let mut taken = None;
        while let Some((_, stamp)) = self.stamps.front().filter(|(from, _)| *from <= begin) {
            taken = Some(*stamp);
            self.stamps.pop_front();
        }
        if taken.is_none() {
            let is_slice = |nal: &&Range<usize>| {
                matches!(Part::of(self.syntax, self.stream.get((*nal).clone()).unwrap_or_default()), Part::Slice(_))
            };
            let slice = self.nals.iter().take(count).find(is_slice)?.start;
            if self.stamps.front().is_some_and(|(from, _)| *from <= slice) {
                taken = self.stamps.pop_front().map(|(_, stamp)| stamp);
            }
        }
        taken
    }

    fn hand_out(&mut self, built: Built, stamp: Option<Stamp>, outlet: &mut Outlet<'_>) {
        if let Some(codec) = built.codec {
            self.take_codec(&codec);
            outlet.set_codec(codec);
        }
        let Some(stamp) = self.time(stamp, outlet) else { return };
        match built.role {
            Role::Closed => self.skip_leading = false,
            Role::Open => self.skip_leading = self.gated,
            Role::SkippedLeading if self.skip_leading => return outlet.count(Quirk::LeadingSkipped),
            Role::SkippedLeading | Role::Dependent if self.gated => return outlet.count(Quirk::UnitBeforeKey),
            Role::SkippedLeading | Role::Dependent => {}
        }
        self.gated &= !built.flags.contains(Flags::KEY);
        outlet.emit(stamp, built.payload, built.flags);
    }

    /// The picture's own time, or else the one before it counted on.
    fn time(&mut self, stamp: Option<Stamp>, outlet: &mut Outlet<'_>) -> Option<Stamp> {
        let stamp = match (stamp, self.newest) {
            (Some(stamp), newest) => {
                let step = newest.map_or(0, |newest| stamp.dts.saturating_sub(newest.dts));
                if (1..=MAX_STEP).contains(&step) {
                    self.step = step;
                }
                Some(stamp)
            }
            (None, newest) => {
                outlet.count(Quirk::TimestampMissing);
                newest.map(|Stamp { pts, dts }| Stamp {
                    pts: pts.saturating_add(self.step),
                    dts: dts.saturating_add(self.step),
                })
            }
        };
        self.newest = stamp.or(self.newest);
        stamp
    }

    fn take_codec(&mut self, codec: &Codec) {
        self.sub_layers = sub_layers(codec);
        let fps = match codec {
            Codec::H264(config) => {
                self.may_be_interlaced = config.may_be_interlaced();
                config.fps()
            }
            Codec::H265(config) => config.fps(),
            Codec::Aac(_) | Codec::Opus(_) | Codec::G711(_) => None,
        };
        if let Some((frames, seconds)) = fps {
            self.step = (90_000 * i64::from(seconds) / i64::from(frames).max(1)).clamp(1, MAX_STEP);
        }
    }

    fn give_up(&mut self, why: Quirk, outlet: &mut Outlet<'_>) {
        outlet.count(why);
        outlet.track.discontinuity = true;
        self.clear();
        self.skipping = true;
        self.close_gate();
    }

    fn clear(&mut self) {
        self.stream.clear();
        self.nals.clear();
        self.stamps.clear();
        (self.open, self.searched) = (None, 0);
        (self.has_slice, self.firsts, self.next_from) = (false, 0, None);
    }

    fn close_gate(&mut self) {
        self.gated |= self.after_loss == AfterLoss::WaitForKey;
    }

    /// Moves what is still needed to the front, if that is less than half.
    fn compact(&mut self) {
        let needed = self.nals.first().map(|nal| nal.start).or(self.open).unwrap_or(self.searched);
        if needed == 0 || needed * 2 < self.stream.len() {
            return;
        }
        self.stream.drain(..needed.min(self.stream.len()));
        self.nals.iter_mut().for_each(|nal| *nal = nal.start - needed..nal.end - needed);
        self.open = self.open.map(|open| open - needed);
        self.searched -= needed;
        self.stamps.iter_mut().for_each(|(from, _)| *from = from.saturating_sub(needed));
    }
}

fn sub_layers(codec: &Codec) -> u8 {
    if let Codec::H265(config) = codec { config.sub_layers() } else { 1 }
}

//! Segments to units: MPEG-TS, fragmented MP4 and packed audio (RFC 8216 §3), as their bytes come.
//!
//! Turns the planner's events into access units and audio frames with the timeline of the media itself. What that
//! timeline means outside, and what to do about its jumps, is the caller's business; where it may jump is said.

mod packed;

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use relay_media::{Codec, Flags, Kind, Timebase, Timestamp, UtcTime};
use relay_mp4::CmafReader;
use relay_ts::{AfterLoss, Ending};

use crate::proto::{Begin, Cause, Class, Event, Joint, Rendition, reason};
use packed::PackedAudio;

/// An access unit or audio frame out of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Out of which playlist.
    pub rendition: Rendition,
    /// Tells the elementary streams of a rendition apart: the packet identifier or track number. Another variant may
    /// number them otherwise.
    pub number: u32,
    /// Video or audio.
    pub kind: Kind,
    /// Decode time on the media's own timeline. Nothing is promised about its order.
    pub dts: Timestamp,
    /// Presentation time, likewise.
    pub pts: Timestamp,
    /// As in [`relay_media::Packet::payload`].
    pub payload: Bytes,
    /// `KEY` and `DISPOSABLE`.
    pub flags: Flags,
    /// The codec, when it is first known or has changed.
    pub codec: Option<Codec>,
    /// How it joins the unit of the same stream before it.
    pub joint: Joint,
    /// The time of day of `pts`, where the origin tells.
    pub wall: Option<UtcTime>,
}

/// Takes the segments of both renditions apart.
#[derive(Debug)]
pub struct Demuxer {
    main: Lane,
    audio: Lane,
    ready: VecDeque<Unit>,
}

impl Default for Demuxer {
    fn default() -> Self {
        Self { main: Lane::new(Rendition::Main), audio: Lane::new(Rendition::Audio), ready: VecDeque::new() }
    }
}

impl Demuxer {
    /// Takes an event of the planner's; those that carry no media are passed over. The units that it completes are had
    /// by [`poll`](Self::poll), which should be asked after each event.
    ///
    /// # Errors
    /// The segment makes no sense, or is of a kind that is not carried: the rest of it is passed over.
    pub fn handle(&mut self, event: &Event) -> Result<(), Cause> {
        let ready = &mut self.ready;
        match event {
            Event::Begin(begin) => self.lane(begin.rendition).begin(begin),
            Event::Bytes { rendition: Rendition::Main, bytes } => self.main.bytes(bytes, ready),
            Event::Bytes { rendition: Rendition::Audio, bytes } => self.audio.bytes(bytes, ready),
            Event::End { rendition: Rendition::Main, whole } => self.main.end(*whole, ready),
            Event::End { rendition: Rendition::Audio, whole } => self.audio.end(*whole, ready),
            _ => Ok(()),
        }
    }

    /// The next finished unit, in the order in which they became complete.
    pub fn poll(&mut self) -> Option<Unit> {
        self.ready.pop_front()
    }

    /// What the newest segments carry: number, name of the codec or content, and whether it is carried.
    pub fn streams(&self) -> Vec<(Rendition, u32, String, bool)> {
        [&self.main, &self.audio].into_iter().flat_map(Lane::streams).collect()
    }

    fn lane(&mut self, rendition: Rendition) -> &mut Lane {
        match rendition {
            Rendition::Main => &mut self.main,
            Rendition::Audio => &mut self.audio,
        }
    }
}

/// One rendition.
#[derive(Debug)]
struct Lane {
    rendition: Rendition,
    format: Format,
    variant: u32,
    map: Option<Arc<Bytes>>,
    /// The joint of the next unit of each stream that is not in `joined`.
    joint: Joint,
    joined: HashSet<u32>,
    /// The time of day of the segment's first unit, and that unit's time once it is known.
    wall: Option<UtcTime>,
    first: Option<Timestamp>,
    /// How long the segment plays, as the playlist says.
    duration: Duration,
    /// The last decode times handed out, of video and of audio.
    last: [Option<Timestamp>; 2],
    /// Units up to these are known already.
    floor: [Option<Timestamp>; 2],
    /// Pictures wait for a key frame.
    waits_for_key: bool,
    is_begun: bool,
    /// The segment makes no sense, and that was told.
    is_refused: bool,
}

#[derive(Debug)]
enum Format {
    /// The first bytes will tell.
    Open,
    Ts(Box<relay_ts::Demuxer>),
    Cmaf(Box<CmafReader>),
    Packed(PackedAudio),
}

/// The most streams of a rendition that are told apart.
const STREAMS_MAX: usize = 64;

impl Lane {
    fn new(rendition: Rendition) -> Self {
        Self {
            rendition,
            format: Format::Open,
            variant: 0,
            map: None,
            joint: Joint::Loss,
            joined: HashSet::new(),
            wall: None,
            first: None,
            duration: Duration::ZERO,
            last: [None; 2],
            floor: [None; 2],
            waits_for_key: true,
            is_begun: false,
            is_refused: false,
        }
    }

    fn begin(&mut self, begin: &Begin) -> Result<(), Cause> {
        let is_other = begin.variant != self.variant;
        if begin.joint > Joint::Seamless || is_other {
            self.joint = begin.joint.max(if is_other { Joint::Loss } else { Joint::Seamless });
            self.joined.clear();
            self.waits_for_key = true;
            if let Format::Ts(demuxer) = &mut self.format {
                demuxer.discontinue();
            }
        }
        if is_other {
            (self.format, self.map, self.variant) = (Format::Open, None, begin.variant);
        }
        self.floor = if begin.overlap { self.last } else { [None; 2] };
        (self.wall, self.first, self.duration) = (begin.wall, None, begin.duration);
        (self.is_begun, self.is_refused) = (false, false);
        let Some(map) = &begin.map else { return Ok(()) };
        if self.map.as_ref().is_some_and(|known| Arc::ptr_eq(known, map)) {
            return Ok(());
        }
        self.map = Some(map.clone());
        if !matches!(self.format, Format::Cmaf(_)) {
            self.format = Format::Cmaf(Box::default());
        }
        let Format::Cmaf(reader) = &mut self.format else { return Ok(()) };
        let read = reader.push(map).map_err(|error| refuse(format!("the initialisation section: {error}")));
        reader.finish();
        read
    }

    fn bytes(&mut self, bytes: &Bytes, ready: &mut VecDeque<Unit>) -> Result<(), Cause> {
        if !std::mem::replace(&mut self.is_begun, true) {
            self.recognise(bytes);
        }
        let pushed = match &mut self.format {
            Format::Ts(demuxer) => {
                demuxer.push(bytes);
                Ok(())
            }
            Format::Cmaf(reader) => reader.push(bytes).map_err(|error| refuse(format!("fragmented MP4: {error}"))),
            Format::Packed(audio) => audio.push(bytes),
            Format::Open => Ok(()),
        };
        self.is_refused |= pushed.is_err();
        self.collect(ready);
        pushed
    }

    /// What the first bytes of a segment say it is: each stands for itself (RFC 8216 §3).
    fn recognise(&mut self, bytes: &[u8]) {
        let is_box =
            matches!(bytes.get(4..8), Some(b"ftyp" | b"styp" | b"moof" | b"moov" | b"sidx" | b"emsg" | b"prft"));
        match (bytes, &self.format) {
            _ if is_box || self.map.is_some() => {
                if !matches!(self.format, Format::Cmaf(_)) {
                    self.format = Format::Cmaf(Box::default());
                }
            }
            ([b'I', b'D', b'3', ..] | [0xff, 0xe0..=0xff, ..] | [0x0b, 0x77, ..], _) => {
                if !matches!(self.format, Format::Packed(_)) {
                    self.format = Format::Packed(PackedAudio::default());
                }
            }
            (_, Format::Ts(_)) => {}
            // MPEG-TS finds its packets by itself.
            _ => self.format = Format::Ts(Box::new(relay_ts::Demuxer::new(AfterLoss::WaitForKey))),
        }
    }

    /// The segment ends. One that the origin takes for whole may have been cut all the same, by a disk that was full or
    /// a cache: its last unit is dropped then.
    fn end(&mut self, whole: bool, ready: &mut VecDeque<Unit>) -> Result<(), Cause> {
        let lasted = self.first.zip(self.last.first().copied().flatten());
        let lasted = lasted.map_or(Duration::ZERO, |(first, last)| last.since(first));
        let is_cut = match &mut self.format {
            Format::Ts(demuxer) => {
                let is_cut = match demuxer.ending() {
                    Ending::Proper => false,
                    Ending::Doubtful => lasted < self.duration * 3 / 4,
                    Ending::Cut => true,
                };
                if whole && !is_cut {
                    demuxer.finish();
                } else {
                    demuxer.discontinue();
                }
                is_cut
            }
            Format::Cmaf(reader) => !reader.finish() && !self.is_refused,
            Format::Packed(audio) => {
                audio.finish();
                false
            }
            Format::Open => false,
        };
        self.collect(ready);
        if whole && is_cut {
            let text =
                format!("the segment ends in the middle of a picture, after {lasted:.1?} of {:.1?}", self.duration);
            return Err(Cause { reason: reason::TRUNCATED, text, class: Class::Cheap });
        }
        Ok(())
    }

    fn collect(&mut self, ready: &mut VecDeque<Unit>) {
        while let Some(unit) = self.next_unit() {
            if let Some(unit) = self.joined_up(unit) {
                ready.push_back(unit);
            }
        }
    }

    fn next_unit(&mut self) -> Option<Unit> {
        let rendition = self.rendition;
        let of = |number, kind, dts, pts, payload, flags, codec| Unit {
            rendition,
            number,
            kind,
            dts,
            pts,
            payload,
            flags,
            codec,
            joint: Joint::Seamless,
            wall: None,
        };
        match &mut self.format {
            Format::Ts(demuxer) => {
                let unit = demuxer.poll()?;
                let codec = demuxer.streams().find(|stream| stream.pid == unit.pid).and_then(|stream| stream.codec);
                let kind = unit.codec.as_ref().or(codec).map_or(Kind::Video, Codec::kind);
                let time = |ticks| Timestamp::new(ticks, Timebase::VIDEO);
                let (dts, pts) = (time(unit.dts), time(unit.pts));
                let mut unit_of = of(unit.pid.into(), kind, dts, pts, unit.payload, unit.flags, unit.codec);
                if unit.discontinuity {
                    unit_of.joint = Joint::Loss;
                }
                Some(unit_of)
            }
            Format::Cmaf(reader) => {
                let unit = reader.poll()?;
                let track = reader.tracks().get(unit.track);
                let kind = track.and_then(|track| track.kind).unwrap_or(Kind::Video);
                let number = track.map_or(0, |track| track.id);
                Some(of(number, kind, unit.dts, unit.pts, unit.payload, unit.flags, unit.codec))
            }
            Format::Packed(audio) => {
                let (time, payload, codec) = audio.poll()?;
                Some(of(0, Kind::Audio, time, time, payload, Flags::empty(), codec))
            }
            Format::Open => None,
        }
    }

    /// Says how a unit joins, and when it is; `None` if it is known already, or waits for a key frame.
    fn joined_up(&mut self, mut unit: Unit) -> Option<Unit> {
        let first = *self.first.get_or_insert(unit.pts);
        unit.wall = self.wall.map(|wall| wall.plus_nanos(unit.pts.nanos_since(first)));
        let kind = usize::from(unit.kind == Kind::Audio);
        let floor = self.floor.get(kind).copied().flatten();
        if floor.is_some_and(|floor| !self.is_after(unit.dts, floor)) {
            return None;
        }
        if unit.kind == Kind::Video && self.waits_for_key {
            if !unit.flags.contains(Flags::KEY) {
                return None;
            }
            self.waits_for_key = false;
        }
        if let Some(last) = self.last.get_mut(kind) {
            *last = Some(unit.dts);
        }
        if self.joined.len() < STREAMS_MAX && self.joined.insert(unit.number) {
            unit.joint = unit.joint.max(self.joint);
        }
        Some(unit)
    }

    /// Whether `time` is after `floor`. MPEG-TS counts anew after a loss: only 33 bits are told (ISO/IEC 13818-1
    /// §2.4.3.7).
    fn is_after(&self, time: Timestamp, floor: Timestamp) -> bool {
        if matches!(self.format, Format::Ts(_)) && floor.timebase() == time.timebase() {
            return (time.ticks().wrapping_sub(floor.ticks()) << 31) > 0;
        }
        time.nanos_since(floor) > 0
    }

    fn streams(&self) -> Vec<(Rendition, u32, String, bool)> {
        let rendition = self.rendition;
        match &self.format {
            Format::Ts(demuxer) => {
                let of = |stream: relay_ts::Elementary<'_>| {
                    let is_carried = !matches!(stream.content, relay_ts::Content::PassedOver(_));
                    (rendition, u32::from(stream.pid), stream.content.name().to_owned(), is_carried)
                };
                demuxer.streams().map(of).collect()
            }
            Format::Cmaf(reader) => {
                let of = |track: &relay_mp4::CmafTrack| {
                    let is_carried = track.codec.is_some() || matches!(track.entry.as_str(), "avc3" | "hev1");
                    (rendition, track.id, track.entry.clone(), is_carried)
                };
                reader.tracks().iter().map(of).collect()
            }
            Format::Packed(_) => vec![(rendition, 0, "aac".to_owned(), true)],
            Format::Open => Vec::new(),
        }
    }
}

fn refuse(text: String) -> Cause {
    Cause { reason: reason::BAD_MEDIA, text, class: Class::Cheap }
}

//! Units of segments to packets of the stream: one timeline through seams, losses and origins that begin anew.
//!
//! Segments tell media time exactly, whenever they come: arrival says nothing about it, as they come in bursts. So media
//! time is followed as it is, and shifted where a new timeline begins. The normaliser sees what comes of it.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use relay_graph::{Clock, Normaliser, RawTime, WallAnchor};
use relay_hls::{
    Unit,
    proto::{Begin, Joint, Rendition},
};
use relay_media::{Codec, Flags, Kind, Packet, Timebase, Timestamp, Track, TrackId, UtcTime, opus};

/// Where the first unit lies, so that sound may come a little before the first picture.
const LEAD: i64 = SECOND;
const SECOND: i64 = 1_000_000_000;
/// Ticks of a nanosecond.
const NANOS: Timebase = Timebase::new(1_000_000_000).expect("1 GHz is not zero");
/// Decode times step back by so much within one timeline at most: writers round.
const STEP_BACK: i64 = SECOND / 10;
/// A timeline that leaps by more than this, against the time that passed, is another one.
const LEAP: i64 = 10 * SECOND;
/// The same after a loss, which may be longer than was told.
const LEAP_AFTER_LOSS: i64 = 60 * SECOND;
/// A track joins another's timeline if it begins no further off.
const SKEW: i64 = 10 * SECOND;
/// A declared discontinuity that goes on within this is none.
const CONTINUES: i64 = SECOND / 2;
/// The origin's clock may be ahead of ours by this.
const AHEAD: i64 = 5 * SECOND;
/// Older media than this is not dated by the playlist: an archive is recorded under today's date.
const BEHIND: i64 = 3_600 * SECOND;
/// How many seams are remembered for the other rendition.
const SEAMS_MAX: usize = 16;

/// The stream's timeline, from the first unit for as long as the source runs.
#[derive(Debug)]
pub(super) struct Timeline {
    zero: Instant,
    normaliser: Normaliser,
    wall: Option<WallAnchor>,
    /// The wall is what the playlist said.
    is_dated: bool,
    main: Lane,
    audio: Lane,
    /// The shift of media time since each seam, in nanoseconds, newest last.
    shifts: VecDeque<(u64, i64)>,
    tracks: [Option<Followed>; 2],
    /// Where the newest unit ends, in nanoseconds.
    end: Option<i64>,
    jumps: Vec<&'static str>,
}

/// A rendition.
#[derive(Debug, Default)]
struct Lane {
    /// Counts new timelines.
    seam: u64,
    sequence: Option<u64>,
    /// It begins where the last segment ended.
    is_next: bool,
    duration: Duration,
    /// What was told to be missing before the next segment.
    missing: Duration,
    /// The same of this segment.
    missed: Duration,
    /// How long nothing had come before this segment.
    silence: Duration,
    /// When the last unit came.
    heard: Option<Instant>,
}

/// A track as it is followed.
#[derive(Debug)]
struct Followed {
    rendition: Rendition,
    number: u32,
    track: Option<Arc<Track>>,
    timebase: Timebase,
    /// Ticks from media time to the stream's.
    shift: Option<i64>,
    /// The last decode time, in nanoseconds of the stream.
    last: Option<i64>,
    step: i64,
}

impl Timeline {
    /// One whose zero is `now`.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            zero: now,
            normaliser: Normaliser::starting_at(now),
            wall: None,
            is_dated: false,
            main: Lane::default(),
            audio: Lane::default(),
            shifts: VecDeque::new(),
            tracks: [None, None],
            end: None,
            jumps: Vec::new(),
        }
    }

    /// A segment begins; `has_audio` says whether sound has a playlist of its own.
    pub(super) fn begin(&mut self, begin: &Begin, has_audio: bool, now: Instant) {
        let lane = self.lane(begin.rendition);
        if begin.joint == Joint::NewTimeline {
            lane.seam += 1;
        }
        lane.is_next = lane.sequence.is_some_and(|last| begin.sequence == last.wrapping_add(1));
        (lane.sequence, lane.duration) = (Some(begin.sequence), begin.duration);
        lane.missed = std::mem::take(&mut lane.missing);
        lane.silence = lane.heard.map_or(Duration::ZERO, |heard| now.saturating_duration_since(heard));
        if begin.joint > Joint::Seamless {
            // Streams may be numbered anew.
            let is_over = |track: &Followed| track.rendition == begin.rendition || !has_audio;
            for track in self.tracks.iter_mut().flatten().filter(|track| is_over(track)) {
                track.number = ANY;
            }
        }
    }

    /// So much is missing before the next segment.
    pub(super) fn missing(&mut self, rendition: Rendition, duration: Duration) {
        let lane = self.lane(rendition);
        lane.missing = lane.missing.saturating_add(duration);
    }

    /// The packet of a unit that came `now`; `None` if it is of a stream that is not carried, or not known yet.
    pub(super) fn place(&mut self, unit: Unit, now: Instant, clock: &Clock) -> Option<Packet> {
        let track = self.track(&unit)?;
        // The first of a track joins nothing.
        let is_first = self.tracks.get(index(unit.kind)).and_then(Option::as_ref)?.last.is_none();
        let (mut dts, jumped) = self.shifted(&unit, now);
        let timebase = unit.dts.timebase();
        let offset = wrapped(unit.pts.ticks().saturating_sub(unit.dts.ticks()), timebase);
        let placed = self.normaliser.place(RawTime {
            track: track.id,
            timebase,
            pts: dts.saturating_add(offset),
            dts: Some(dts),
            reorder: None,
            arrival: self.zero + timebase.duration(dts.max(0)),
        });
        dts = placed.dts.nanos();
        let index = index(unit.kind);
        if let Some(followed) = self.tracks.get_mut(index).and_then(Option::as_mut) {
            if let Some(last) = followed.last {
                followed.step = dts.saturating_sub(last).clamp(0, SECOND);
            }
            followed.last = Some(dts);
            let end = dts.saturating_add(followed.step);
            self.end = Some(self.end.map_or(end, |known| known.max(end)));
        }
        self.lane(unit.rendition).heard = Some(now);
        let mut flags = unit.flags;
        if !is_first && (unit.joint > Joint::Seamless || jumped) {
            flags |= Flags::DISCONTINUITY;
        }
        Some(Packet {
            dts: placed.dts,
            pts: placed.pts,
            duration: audio_ticks(&track, &unit.payload),
            arrival: now,
            wall: self.wall(placed.pts, unit.wall, clock),
            flags,
            payload: unit.payload,
            track,
        })
    }

    /// Breaks of the timeline since the last call, by name.
    pub(super) fn take_jumps(&mut self) -> Vec<&'static str> {
        std::mem::take(&mut self.jumps)
    }

    fn lane(&mut self, rendition: Rendition) -> &mut Lane {
        match rendition {
            Rendition::Main => &mut self.main,
            Rendition::Audio => &mut self.audio,
        }
    }

    /// The track of a unit: the first of each kind. Sound that has a playlist of its own is taken from there.
    fn track(&mut self, unit: &Unit) -> Option<Arc<Track>> {
        let slot = self.tracks.get_mut(index(unit.kind))?;
        let followed = slot.get_or_insert_with(|| Followed::new(unit));
        let is_other = (followed.rendition, followed.number) != (unit.rendition, unit.number);
        if is_other {
            let may_change = followed.number == ANY || unit.rendition == Rendition::Audio;
            if !may_change || unit.kind == Kind::Video && unit.rendition != Rendition::Main {
                return None;
            }
            if followed.rendition != unit.rendition {
                followed.shift = None;
            }
            (followed.rendition, followed.number) = (unit.rendition, unit.number);
        }
        let timebase = unit.dts.timebase();
        if followed.timebase != timebase {
            let shift = followed.shift.map(|shift| Timestamp::new(shift, followed.timebase).rescale(timebase).ticks());
            (followed.shift, followed.timebase) = (shift, timebase);
            followed.track = followed.track.as_deref().map(|track| Arc::new(Track { timebase, ..track.clone() }));
        }
        if let Some(codec) = &unit.codec {
            // Video is track 1 and audio track 2.
            let id = TrackId(if unit.kind == Kind::Video { 1 } else { 2 });
            let track = Track { id, codec: codec.clone(), timebase };
            if followed.track.as_deref() != Some(&track) {
                followed.track = Some(Arc::new(track));
            }
        }
        followed.track.clone()
    }

    /// The decode time of a unit in ticks on the stream's timeline, and whether its own timeline broke undeclared.
    fn shifted(&mut self, unit: &Unit, now: Instant) -> (i64, bool) {
        let (timebase, raw) = (unit.dts.timebase(), unit.dts.ticks());
        let nanos = |ticks| Timestamp::new(ticks, timebase).nanos();
        let ticks = |nanos: i64| Timestamp::new(nanos, NANOS).rescale(timebase).ticks();
        let lane = if unit.rendition == Rendition::Main { &self.main } else { &self.audio };
        let passed = lane.heard.map_or(Duration::ZERO, |heard| now.saturating_duration_since(heard));
        let passed = lane.missed.saturating_add(passed.max(lane.silence));
        let passed = i64::try_from(passed.as_nanos()).unwrap_or(i64::MAX);
        let followed = self.tracks.get(index(unit.kind)).and_then(Option::as_ref);
        let (shift, last) = followed.map_or((None, None), |followed| (followed.shift, followed.last));
        let Some(end) = self.end else { return (self.adopt(unit, ticks(LEAD).saturating_sub(raw), true), false) };
        let expected = last.unwrap_or(end);
        // Where the unit lies with this shift; MPEG-TS counts to 33 bits only (ISO/IEC 13818-1 §2.4.3.7).
        let position = |shift: i64| {
            let expected = ticks(expected);
            expected.saturating_add(wrapped(raw.saturating_add(shift).saturating_sub(expected), timebase))
        };
        let off = |shift: i64| nanos(position(shift)).saturating_sub(expected);
        let is_new = unit.joint == Joint::NewTimeline;
        if let Some(shift) = shift {
            let off = off(shift);
            let leap = if unit.joint == Joint::Loss { LEAP_AFTER_LOSS } else { LEAP };
            let longest = if is_new { CONTINUES } else { leap.saturating_add(passed) };
            if (-STEP_BACK..=longest).contains(&off) {
                return (self.adopt(unit, position(shift).saturating_sub(raw), false), false);
            }
        }
        // What another track of the same timeline found.
        let shared = self.shifts.iter().rev().find(|(seam, _)| *seam == lane.seam).map(|(_, shift)| ticks(*shift));
        if let Some(shift) = shared
            && (-SKEW..=SKEW).contains(&expected.saturating_add(off(shift)).saturating_sub(end))
            && (last.is_none() || off(shift) >= -SECOND)
        {
            return (self.adopt(unit, position(shift).saturating_sub(raw), false), !is_new && last.is_some());
        }
        if last.is_some() {
            self.jumps.push(if is_new { "timeline_seam" } else { "timestamp_jump" });
        }
        let start = ticks(self.resumption(unit, end, passed));
        (self.adopt(unit, start.saturating_sub(raw), true), !is_new && last.is_some())
    }

    /// Remembers the shift of a unit's track, in ticks; says where the unit lies.
    fn adopt(&mut self, unit: &Unit, shift: i64, is_fresh: bool) -> i64 {
        let seam = self.lane(unit.rendition).seam;
        if let Some(followed) = self.tracks.get_mut(index(unit.kind)).and_then(Option::as_mut) {
            followed.shift = Some(shift);
        }
        if is_fresh {
            self.shifts.push_back((seam, Timestamp::new(shift, unit.dts.timebase()).nanos()));
            if self.shifts.len() > SEAMS_MAX {
                self.shifts.pop_front();
            }
            self.is_dated = false;
        }
        unit.dts.ticks().saturating_add(shift)
    }

    /// Where a new timeline goes on after `end`: as far behind as the origin's clock says, or as was told to be
    /// missing; if the origin began anew, as long as nothing came.
    fn resumption(&self, unit: &Unit, end: i64, passed: i64) -> i64 {
        let lane = if unit.rendition == Rendition::Main { &self.main } else { &self.audio };
        if let (Some(utc), Some(mut wall), true) = (unit.wall, self.wall.clone(), self.is_dated) {
            let at_end = wall.wall(Timestamp::new(end, NANOS));
            let gap = utc.nanos_since(at_end.utc);
            if (-SECOND..=passed.saturating_add(LEAP_AFTER_LOSS)).contains(&gap) {
                return end.saturating_add(gap.max(0));
            }
        }
        let nanos = |duration: Duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
        let told = nanos(lane.missed);
        let silent = nanos(lane.silence.saturating_sub(lane.duration));
        end.saturating_add(if lane.is_next { told } else { told.max(silent) })
    }

    fn wall(&mut self, pts: Timestamp, told: Option<UtcTime>, clock: &Clock) -> relay_media::Wall {
        let local = clock.utc();
        let told = told.filter(|utc| (-AHEAD..=BEHIND).contains(&local.nanos_since(*utc)));
        if let Some(utc) = told {
            if !self.is_dated {
                self.wall = None;
            }
            self.is_dated = true;
            self.wall.get_or_insert_with(|| WallAnchor::at_arrival(pts, local)).program_date_time(pts, utc);
        }
        self.wall.get_or_insert_with(|| WallAnchor::at_arrival(pts, local)).wall(pts)
    }
}

/// A stream's number before its first unit of a timeline.
const ANY: u32 = u32::MAX;

impl Followed {
    fn new(unit: &Unit) -> Self {
        Self {
            rendition: unit.rendition,
            number: ANY,
            track: None,
            timebase: unit.dts.timebase(),
            shift: None,
            last: None,
            step: 0,
        }
    }
}

fn index(kind: Kind) -> usize {
    usize::from(kind == Kind::Audio)
}

/// A difference of times that are told modulo 33 bits where the clock is MPEG-TS's.
fn wrapped(ticks: i64, timebase: Timebase) -> i64 {
    if timebase == Timebase::VIDEO { ticks << 31 >> 31 } else { ticks }
}

/// How long an audio frame lasts, if that is a whole number of ticks; a picture doesn't say.
fn audio_ticks(track: &Track, payload: &[u8]) -> Option<u32> {
    let (samples, rate) = match &track.codec {
        Codec::Aac(config) => (u64::from(config.frame_samples()), config.sample_rate()),
        Codec::Opus(_) => (u64::from(opus::packet_ticks(payload)?), 48_000),
        _ => return None,
    };
    let (ticks, rate) = (samples * u64::from(track.timebase.hz()), u64::from(rate.max(1)));
    (ticks % rate == 0).then(|| u32::try_from(ticks / rate).ok())?
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use relay_media::{WallOrigin, g711};

    use super::*;

    /// 2026-11-21T02:30:00Z.
    const UTC: i64 = 1_795_228_200 * SECOND;
    /// Ticks of 90 kHz in a second.
    const HZ: i64 = 90_000;

    /// A timeline fed with segments of two seconds, a picture and a frame of sound each second.
    struct Bench {
        timeline: Timeline,
        clock: Clock,
        now: Instant,
        sequence: u64,
    }

    impl Bench {
        fn new() -> Self {
            let clock = Clock::simulated(UtcTime::from_unix_nanos(UTC));
            let now = clock.now();
            Self { timeline: Timeline::new(now), clock, now, sequence: 0 }
        }

        /// A segment after `passed` seconds, its times from `raw`; when its pictures are, in seconds, whether the first
        /// is flagged, and the widest distance of sound from pictures in milliseconds.
        fn segment(&mut self, passed: u64, joint: Joint, raw: i64, wall: Option<i64>) -> (Vec<f64>, bool, i64) {
            self.now += Duration::from_secs(passed);
            let begin = Begin {
                rendition: Rendition::Main,
                sequence: self.sequence,
                joint,
                overlap: false,
                wall: None,
                duration: Duration::from_secs(2),
                map: None,
                variant: 0,
            };
            self.sequence += 1;
            self.timeline.begin(&begin, false, self.now);
            let (mut seconds, mut flagged, mut skew) = (Vec::new(), false, 0);
            for index in 0..2 {
                let joint = if index == 0 { joint } else { Joint::Seamless };
                let raw = (raw + index * HZ) & ((1 << 33) - 1);
                let wall = wall.map(|wall| UtcTime::from_unix_nanos(UTC + (wall + index) * SECOND));
                let mut place = |number, kind, raw| {
                    let unit = unit(number, kind, raw, joint, wall);
                    self.timeline.place(unit, self.now, &self.clock).unwrap()
                };
                let picture = place(256, Kind::Video, raw);
                // Sound comes after the picture, and is before it.
                let sound = place(257, Kind::Audio, raw - 900);
                flagged |= picture.flags.contains(Flags::DISCONTINUITY);
                skew = skew.max((picture.dts.nanos() - 10_000_000 - sound.dts.nanos()).abs() / 1_000_000);
                seconds.push((picture.dts.nanos() - LEAD) as f64 / 1e9);
                let is_dated = picture.wall.origin == WallOrigin::ProgramDateTime;
                assert!(is_dated || wall.is_none(), "{:?}", picture.wall);
            }
            (seconds, flagged, skew)
        }
    }

    fn unit(number: u32, kind: Kind, raw: i64, joint: Joint, wall: Option<UtcTime>) -> Unit {
        let time = Timestamp::new(raw, Timebase::VIDEO);
        // What is carried is of no account here, but for its kind, which the unit tells.
        let codec = Codec::G711(g711::Config { law: g711::Law::A, sample_rate: 8_000, channels: 1 });
        Unit {
            rendition: Rendition::Main,
            number,
            kind,
            dts: time,
            pts: time,
            payload: Bytes::new(),
            flags: Flags::empty(),
            codec: Some(codec),
            joint,
            wall,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_joint_goes_on_where_it_should() {
        use Joint::{Loss, NewTimeline, Seamless};
        let wrap = (1 << 33) - HZ;
        // What, the first segment's time; then seconds passed, joint and time of the second; where it goes on, and
        // whether that is a break.
        for (name, first, passed, joint, second, at, is_break) in [
            ("it goes on", HZ, 0, Seamless, 3 * HZ, 2, false),
            ("it was late", HZ, 40, Seamless, 3 * HZ, 2, false),
            ("33 bits are over", wrap, 2, Seamless, HZ, 2, false),
            ("33 bits are over after a loss", wrap, 12, Loss, 11 * HZ, 12, true),
            ("a loss", HZ, 12, Loss, 13 * HZ, 12, true),
            ("a loss in a burst", HZ, 0, Loss, 7 * HZ, 6, true),
            ("a discontinuity that is none", HZ, 2, NewTimeline, 3 * HZ, 2, true),
            ("a new timeline", 5_000 * HZ, 2, NewTimeline, HZ, 2, true),
            ("a new timeline ahead", HZ, 2, NewTimeline, 5_000 * HZ, 2, true),
            ("an undeclared leap", HZ, 2, Seamless, 5_000 * HZ, 2, true),
            ("an undeclared step back", 5_000 * HZ, 2, Seamless, 4_990 * HZ, 2, true),
        ] {
            let mut bench = Bench::new();
            assert_eq!(bench.segment(0, Loss, first, None), (vec![0.0, 1.0], false, 0), "{name}");
            let (seconds, flagged, skew) = bench.segment(passed, joint, second, None);
            assert!((seconds[0] - f64::from(at)).abs() < 0.001, "{name}: {seconds:?}");
            assert_eq!((flagged, skew), (is_break, 0), "{name}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_gap_is_as_long_as_was_told_or_dated_or_silent() {
        // What was told to be missing, the dates of both segments, the second one's number, when it came, and where it
        // goes on; in seconds.
        for (name, told, dates, number, passed, at) in [
            ("told", 6, None, 1, 2, 8.0),
            ("dated", 0, Some((0, 9)), 1, 2, 9.0),
            ("dated before the end", 0, Some((0, 1)), 1, 2, 2.0),
            ("a date that cannot be", 0, Some((0, 3_000)), 1, 2, 2.0),
            ("begun anew after 20 s", 0, None, 0, 20, 20.0),
            ("begun anew at once", 0, None, 0, 2, 2.0),
        ] {
            let mut bench = Bench::new();
            bench.segment(0, Joint::Loss, HZ, dates.map(|(first, _)| first));
            bench.timeline.missing(Rendition::Main, Duration::from_secs(told));
            bench.sequence = number;
            tokio::time::advance(Duration::from_secs(20)).await;
            let second = dates.map(|(_, second)| second);
            let (seconds, flagged, skew) = bench.segment(passed, Joint::NewTimeline, 900 * HZ, second);
            assert!((seconds[0] - at).abs() < 0.001 && flagged && skew == 0, "{name}: {seconds:?} {flagged} {skew}");
        }
    }
}

//! When to write, and when to begin a new file. Pure: packets in, [`Step`]s out; time is what the packets say.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use relay_media::{Flags, Kind, Packet, Timestamp};
use relay_mp4::{FRAGMENT_SAMPLES_MAX, Run, SAMPLES_MAX, Start, TRACKS_MAX};

use crate::lane::Lane;

/// How long files and fragments are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// A new file begins at the first key frame this long after the file began.
    pub segment: Duration,
    /// A fragment is written at each key frame, and at the latest when it is this long.
    pub fragment: Duration,
}

/// What to do with the disk.
#[derive(Clone, Debug)]
pub enum Step {
    /// Write a fragment.
    Fragment {
        /// Into a new file, which begins so.
        start: Option<Box<Start>>,
        /// Its samples.
        runs: Vec<Run>,
    },
    /// Finish the file.
    Finish,
}

/// Packets that were given up, by a fixed word for the reason.
pub type Drops = BTreeMap<&'static str, u64>;

/// How much too early a key frame may come to be the one that ends a file: a camera's jitter, one frame at 25 fps.
const EARLY_KEY: i64 = 40_000_000;
/// How long a track may be silent before a file is begun without it.
const SILENCE_MAX: i64 = 2_000_000_000;
/// How far the picture may run ahead of the sound before a file is closed without waiting for it.
const LATE_MAX: i64 = 1_000_000_000;
/// How much earlier than the first key frame the sound of a file may begin, if it comes late.
const EARLY_MAX: i64 = 10_000_000_000;
/// The most bytes that wait to be written: one second at 64 Mbit/s.
pub const PENDING_BYTES_MAX: usize = 8 << 20;
/// The most packets that wait to be written: half of what a fragment takes.
const PENDING_MAX: usize = FRAGMENT_SAMPLES_MAX / 2;
/// With so many samples, a file ends at the next key frame; with one fragment less than the most, it ends at once.
const SAMPLES_ENOUGH: usize = SAMPLES_MAX * 3 / 4;

/// Cuts a stream of packets into fragments and files.
///
/// Files begin at key frames and hold, of the other tracks, what is presented from the key frame on. A late packet of
/// another track is waited for where a file ends, not where a fragment does.
#[derive(Debug)]
pub struct Segmenter {
    policy: Policy,
    announced: Option<usize>,
    lanes: Vec<Lane>,
    open: Option<Open>,
    /// The newest time of any packet, and of a picture, written or not.
    newest: i64,
    newest_video: i64,
    pending_bytes: usize,
    steps: VecDeque<Step>,
    drops: Drops,
}

/// The file that packets go to.
#[derive(Clone, Copy, Debug)]
struct Open {
    /// The lane whose packets decide.
    lead: usize,
    /// Decode and presentation time of its first packet.
    zero: Timestamp,
    presentation: Timestamp,
    /// Which tracks it has is decided: its first fragment was written.
    begun: bool,
    /// What the tracks are is known from the file before: no need to wait for more.
    known: bool,
    /// What comes from before this is not for this file.
    floor: i64,
    /// How many of the lead's packets belong to the fragment so far, and when the first one was.
    scanned: usize,
    fragment_start: i64,
    samples: usize,
    /// It ends at the next key frame, however short it is.
    due: bool,
    cut: Option<Cut>,
}

/// Where the next file begins: at the packet `at` of `lane`, presented at `time`.
#[derive(Clone, Copy, Debug)]
struct Cut {
    lane: usize,
    at: usize,
    time: i64,
}

impl Segmenter {
    /// A segmenter that waits for a key frame.
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            announced: None,
            lanes: Vec::new(),
            open: None,
            newest: i64::MIN,
            newest_video: i64::MIN,
            pending_bytes: 0,
            steps: VecDeque::new(),
            drops: Drops::new(),
        }
    }

    /// How many tracks the source has announced, where it says so: a file is begun as soon as so many speak, and not
    /// held back for others.
    pub fn announce(&mut self, tracks: Option<usize>) {
        self.announced = tracks;
    }

    /// Takes a packet.
    pub fn push(&mut self, packet: Arc<Packet>) {
        let time = packet.dts.nanos();
        self.newest = self.newest.max(time);
        if packet.track.kind() == Kind::Video {
            self.newest_video = self.newest_video.max(time);
        }
        match self.admit(&packet, time) {
            Ok(lane) => {
                self.pending_bytes += packet.payload.len();
                if let Some(lane) = self.lanes.get_mut(lane) {
                    lane.push(packet);
                }
                self.advance();
            }
            Err(reason) => *self.drops.entry(reason).or_default() += 1,
        }
        if self.pending_bytes > PENDING_BYTES_MAX || self.pending() > PENDING_MAX {
            self.relieve();
        }
    }

    /// No packet came for a while: writes what waits.
    pub fn flush(&mut self) {
        while let Some(open) = self.open {
            match open.cut {
                Some(cut) => self.close_at(open, cut),
                None => {
                    self.write_pending(open);
                    break;
                }
            }
        }
    }

    /// Writes what waits and finishes the file. Afterwards it waits for a key frame again.
    pub fn finish(&mut self) {
        self.flush();
        if self.open.is_none() && self.open_sound_only(0) {
            self.flush();
        }
        if self.open.take().is_some() {
            self.steps.push_back(Step::Finish);
        }
        self.give_up("no_key_frame");
    }

    /// The file could not be written: gives up what waits, for `reason`, and waits for a key frame.
    pub fn abandon(&mut self, reason: &'static str) {
        for step in std::mem::take(&mut self.steps) {
            if let Step::Fragment { runs, .. } = step {
                let packets: usize = runs.iter().map(|run| run.samples.len()).sum();
                *self.drops.entry(reason).or_default() += packets as u64;
            }
        }
        self.open = None;
        self.give_up(reason);
    }

    /// What to do next; ask until there is nothing.
    pub fn next_step(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }

    /// What was given up since the last call.
    pub fn take_drops(&mut self) -> Drops {
        std::mem::take(&mut self.drops)
    }

    /// Packets that wait to be written.
    pub fn pending(&self) -> usize {
        self.lanes.iter().map(Lane::len).sum()
    }

    /// The picture is there and the file is held open for late sound only: look again soon.
    pub fn is_closing(&self) -> bool {
        self.open.is_some_and(|open| open.cut.is_some())
    }

    /// Which lane a packet goes to, or why it goes to none.
    fn admit(&mut self, packet: &Arc<Packet>, time: i64) -> Result<usize, &'static str> {
        if packet.payload.len() > PENDING_BYTES_MAX || packet.payload.is_empty() {
            return Err("size");
        }
        let video = packet.track.kind() == Kind::Video;
        let lane = self.lanes.iter().position(|lane| !lane.retired && lane.track.id == packet.track.id);
        let lane = lane.and_then(|index| Some((index, self.lanes.get_mut(index)?)));
        let Some((index, lane)) = lane else { return self.admit_new(packet, time) };
        let same = Arc::ptr_eq(&lane.track, &packet.track) || lane.track == packet.track;
        let ticks = lane.ticks_to(packet);
        if !same || (ticks <= 0 && went_back(packet, ticks)) {
            lane.retired = true;
            if ticks <= 0 {
                (self.newest, self.newest_video) = (time, time);
            }
            return self.admit_new(packet, time);
        }
        if ticks <= 0 {
            return Err("timestamp");
        }
        let (empty, placed) = (lane.len() == 0, lane.place.is_some());
        match self.open {
            None if video && empty && !packet.is_key() => Err("no_key_frame"),
            Some(Open { begun: true, cut: Some(cut), .. }) if !placed && time < cut.time => Err("late_track"),
            Some(open) if time < open.floor && index != open.lead => {
                Err(if open.begun { "late" } else { "no_key_frame" })
            }
            _ => Ok(index),
        }
    }

    /// A track that has no lane, or whose parameters changed.
    fn admit_new(&mut self, packet: &Arc<Packet>, time: i64) -> Result<usize, &'static str> {
        let video = packet.track.kind() == Kind::Video;
        let other_video = |lane: &Lane| !lane.retired && lane.is_video() && self.newest - lane.newest() < SILENCE_MAX;
        if self.lanes.len() >= TRACKS_MAX || (video && self.lanes.iter().any(other_video)) {
            return Err("track");
        }
        if video && !packet.is_key() {
            return Err("no_key_frame");
        }
        let index = self.lanes.len();
        let lead_retired = self.open.is_some_and(|open| self.lanes.get(open.lead).is_some_and(|lead| lead.retired));
        if let Some(open) = self.open.as_mut().filter(|open| open.cut.is_none()) {
            let lead_is_video = self.lanes.get(open.lead).is_some_and(Lane::is_video);
            if video || (lead_retired && !lead_is_video) {
                open.cut = Some(Cut { lane: index, at: 0, time: packet.pts.nanos() });
            } else if open.begun {
                open.due = true;
                return Err("late_track");
            } else if time < open.floor {
                return Err("no_key_frame");
            }
        } else if self.open.and_then(|open| open.cut).is_some_and(|cut| time < cut.time) {
            return Err("late_track");
        }
        self.lanes.push(Lane::new(packet));
        Ok(index)
    }

    /// Makes every decision that the packets so far allow.
    fn advance(&mut self) {
        loop {
            let moved = match self.open {
                None => self.open_picture() || self.open_sound_only(SILENCE_MAX),
                Some(open) => match open.cut {
                    Some(cut) => {
                        let passed = self.all_passed(open, cut);
                        if passed {
                            self.close_at(open, cut);
                        }
                        passed
                    }
                    None => self.scan(open),
                },
            };
            if !moved {
                break;
            }
        }
    }

    /// Begins a file at a key frame.
    fn open_picture(&mut self) -> bool {
        let lane = self.lanes.iter().position(|lane| lane.is_video() && lane.front().is_some());
        let Some((lead, key)) = lane.and_then(|lane| Some((lane, self.lanes.get(lane)?.front()?.clone()))) else {
            return false;
        };
        let floor = key.pts.nanos();
        for index in (0..self.lanes.len()).filter(|&index| index != lead) {
            let early = self.lanes.get(index).map_or(0, |lane| lane.before(floor));
            self.discard(index, early, "no_key_frame");
        }
        self.open_at(lead, &key, floor, false);
        true
    }

    /// Begins a file without a picture, if none came while `wait` nanoseconds of sound did.
    fn open_sound_only(&mut self, wait: i64) -> bool {
        let first = self.lanes.iter().enumerate().filter_map(|(index, lane)| Some((index, lane.front()?)));
        let Some((lead, front)) = first.min_by_key(|(_, front)| front.dts.nanos()) else { return false };
        let front = front.clone();
        if self.newest.saturating_sub(front.dts.nanos()) < wait {
            return false;
        }
        if wait > 0 && self.newest.saturating_sub(self.newest_video) < SILENCE_MAX {
            // Pictures come, and a key frame will: only the newest sound can be wanted then.
            self.discard(lead, 1, "no_key_frame");
            return true;
        }
        self.open_at(lead, &front, front.dts.nanos(), false);
        true
    }

    fn open_at(&mut self, lead: usize, first: &Packet, floor: i64, known: bool) {
        self.lanes.iter_mut().for_each(|lane| lane.place = None);
        self.open = Some(Open {
            lead,
            zero: first.dts,
            presentation: first.pts,
            begun: false,
            known,
            floor,
            scanned: 0,
            fragment_start: first.dts.nanos(),
            samples: 0,
            due: false,
            cut: None,
        });
    }

    /// Looks at the lead's next packet; `false` if there is none to look at.
    fn scan(&mut self, mut open: Open) -> bool {
        let Some(packet) = self.lanes.get(open.lead).and_then(|lane| lane.get(open.scanned)).cloned() else {
            return self.scan_without_lead(open);
        };
        let time = packet.dts.nanos();
        let video = packet.track.kind() == Kind::Video;
        let can_begin = packet.is_key() || !video;
        let nanos = |duration: Duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
        let age = time.saturating_sub(open.zero.nanos());
        let early = if video { EARLY_KEY } else { 0 };
        let long = age >= nanos(self.policy.segment).saturating_sub(early);
        let enough = open.due || long || open.samples >= SAMPLES_ENOUGH;
        if can_begin && age > 0 && enough {
            open.cut = Some(Cut { lane: open.lead, at: open.scanned, time: packet.pts.nanos() });
            self.open = Some(open);
            return true;
        }
        if open.scanned == 0 {
            open.fragment_start = time;
        }
        let full = time.saturating_sub(open.fragment_start) >= nanos(self.policy.fragment);
        let at_boundary = open.scanned > 0 && (full || (video && packet.is_key()));
        if at_boundary && (open.begun || self.tracks_are_known(&open, time)) {
            let scanned = std::mem::take(&mut open.scanned);
            self.write(&mut open, scanned, time, false);
        } else {
            open.scanned += 1;
        }
        self.open = Some(open);
        self.end_if_full(open);
        true
    }

    /// The lead is silent: other tracks are not held back for it, and in the end the file goes without it.
    fn scan_without_lead(&mut self, open: Open) -> bool {
        let nanos = |duration: Duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
        let lead = self.lanes.get(open.lead).map_or(i64::MIN, Lane::newest);
        let silent = self.newest.saturating_sub(lead);
        if silent < nanos(self.policy.fragment).saturating_add(LATE_MAX) || self.pending() == 0 {
            return false;
        }
        let waiting = self.lanes.iter().filter_map(|lane| Some(lane.front()?.dts.nanos())).min().unwrap_or(self.newest);
        let age = self.newest.saturating_sub(open.zero.nanos());
        if silent >= SILENCE_MAX && age >= nanos(self.policy.segment) {
            self.write_pending(open);
            self.open = None;
            self.steps.push_back(Step::Finish);
            self.drop_retired();
        } else if self.newest.saturating_sub(waiting) >= nanos(self.policy.fragment) {
            self.write_pending(open);
        }
        false
    }

    fn end_if_full(&mut self, open: Open) {
        if open.samples + FRAGMENT_SAMPLES_MAX * 2 > SAMPLES_MAX {
            self.write_pending(open);
            self.open = None;
            self.steps.push_back(Step::Finish);
        }
    }

    /// Whether a file may be begun with the tracks there are: all that spoke in the file before do, or for the first
    /// file as many as were announced (else any other than the lead), or they were waited for long enough.
    fn tracks_are_known(&self, open: &Open, time: i64) -> bool {
        let mut others = self.lanes.iter().enumerate().filter(|(index, _)| *index != open.lead);
        let alive = self.newest.saturating_sub(SILENCE_MAX);
        let spoke = match open.known {
            true => others.all(|(_, lane)| lane.len() > 0 || lane.retired || lane.newest() < alive),
            false => others.filter(|(_, lane)| lane.len() > 0).count() + 1 >= self.announced.unwrap_or(2),
        };
        spoke || time.saturating_sub(open.zero.nanos()) >= SILENCE_MAX
    }

    /// Whether every track that is alive has got to where the next file begins, or was waited for long enough.
    fn all_passed(&self, open: Open, cut: Cut) -> bool {
        let mut others = self.lanes.iter().enumerate().filter(|(index, lane)| *index != cut.lane && !lane.retired);
        let ahead = self.lanes.get(cut.lane).map_or(0, |lane| lane.newest().saturating_sub(cut.time));
        let passed = |lane: &Lane| {
            let silent = lane.newest() < cut.time.saturating_sub(SILENCE_MAX);
            lane.newest() >= cut.time || silent || (open.begun && lane.place.is_none())
        };
        ahead >= LATE_MAX || others.all(|(_, lane)| passed(lane))
    }

    /// Ends the file where the next one begins.
    fn close_at(&mut self, mut open: Open, cut: Cut) {
        let lead = if cut.lane == open.lead { cut.at } else { usize::MAX };
        self.write(&mut open, lead, cut.time, true);
        self.steps.push_back(Step::Finish);
        self.open = None;
        let id = self.lanes.get(cut.lane).map(|lane| lane.track.id);
        self.drop_retired();
        let lead = self.lanes.iter().position(|lane| Some(lane.track.id) == id);
        let first = lead.and_then(|lead| Some((lead, self.lanes.get(lead)?.front()?.clone())));
        if let Some((lead, first)) = first {
            let floor = first.dts.nanos().saturating_sub(EARLY_MAX);
            self.open_at(lead, &first, floor, true);
        }
    }

    /// Writes everything that waits.
    fn write_pending(&mut self, mut open: Open) {
        self.write(&mut open, usize::MAX, i64::MAX, false);
        open.scanned = 0;
        self.open = Some(open);
    }

    /// Writes a fragment: the lead's first `lead` packets, and of the others what begins before `time`.
    fn write(&mut self, open: &mut Open, lead: usize, time: i64, ends_file: bool) {
        let alive = self.newest.saturating_sub(SILENCE_MAX);
        let cut_lane = open.cut.map(|cut| cut.lane);
        if !open.begun {
            // The lead comes first.
            let mut places = 1..TRACKS_MAX;
            for (index, lane) in self.lanes.iter_mut().enumerate() {
                let other_file = cut_lane.is_some_and(|cut| cut == index && cut != open.lead);
                let wanted = index == open.lead || lane.len() > 0 || (lane.newest() >= alive && !lane.retired);
                lane.place = match () {
                    () if index == open.lead => Some(0),
                    () if wanted && !other_file => places.next(),
                    () => None,
                };
                // Should it speak again, it is a new track.
                lane.retired |= !wanted;
            }
        }
        let mut runs = Vec::new();
        for index in 0..self.lanes.len() {
            let Some(lane) = self.lanes.get_mut(index) else { continue };
            let Some(track) = lane.place else { continue };
            let count = match () {
                () if index == open.lead => lead.min(lane.len()),
                () if lane.retired => lane.len(),
                () => lane.before(time),
            };
            let samples = lane.take(count, ends_file);
            if !samples.is_empty() {
                runs.push(Run { track, samples });
            }
        }
        if runs.is_empty() {
            return;
        }
        runs.sort_by_key(|run| run.track);
        let written = runs.iter().flat_map(|run| &run.samples);
        self.pending_bytes -= written.clone().map(|sample| sample.packet.payload.len()).sum::<usize>();
        open.samples += written.count();
        let start = (!open.begun).then(|| Box::new(self.begin(open, &runs)));
        self.steps.push_back(Step::Fragment { start, runs });
    }

    /// What the file begins with, now that its first fragment is known.
    fn begin(&mut self, open: &mut Open, runs: &[Run]) -> Start {
        open.begun = true;
        let firsts = runs.iter().filter_map(|run| Some(&run.samples.first()?.packet));
        // Sound that was late begins before the picture does.
        let others = runs.iter().filter(|run| run.track != 0).filter_map(|run| Some(run.samples.first()?.packet.dts));
        let earliest = others.min_by_key(|dts| dts.nanos());
        let before = |other: Timestamp| earliest.filter(|dts| dts.nanos() < other.nanos()).unwrap_or(other);
        let presentation = before(open.presentation);
        let zero = before(open.zero);
        let anchor = firsts.clone().min_by_key(|packet| packet.pts.nanos_since(presentation).abs());
        let utc = anchor.map(|packet| packet.wall.utc.plus_nanos(presentation.nanos_since(packet.pts)));
        open.floor = open.floor.max(zero.nanos());
        let mut tracks: Vec<_> = self.lanes.iter().filter_map(|lane| Some((lane.place?, lane.track.clone()))).collect();
        tracks.sort_by_key(|(place, _)| *place);
        Start {
            tracks: tracks.into_iter().map(|(_, track)| track).collect(),
            zero,
            presentation,
            utc: utc.unwrap_or(relay_media::UtcTime::from_unix_nanos(0)),
        }
    }

    /// Too much waits: writes it, or without a file gives it up.
    fn relieve(&mut self) {
        if self.open.is_some() {
            self.flush();
        } else {
            self.give_up("no_key_frame");
        }
    }

    fn drop_retired(&mut self) {
        for index in 0..self.lanes.len() {
            if self.lanes.get(index).is_some_and(|lane| lane.retired) {
                self.discard(index, usize::MAX, "track");
            }
        }
        self.lanes.retain(|lane| !lane.retired);
    }

    fn give_up(&mut self, reason: &'static str) {
        for index in 0..self.lanes.len() {
            self.discard(index, usize::MAX, reason);
        }
        self.lanes.clear();
    }

    fn discard(&mut self, lane: usize, count: usize, reason: &'static str) {
        let Some(lane) = self.lanes.get_mut(lane) else { return };
        let (mut packets, mut bytes) = (0, 0);
        for packet in lane.discard(count) {
            packets += 1;
            bytes += packet.payload.len();
        }
        self.pending_bytes -= bytes;
        if packets > 0 {
            *self.drops.entry(reason).or_default() += packets;
        }
    }
}

/// A packet that is not after the one before it began a new timeline, and is not just out of place.
fn went_back(packet: &Packet, ticks: i64) -> bool {
    packet.flags.contains(Flags::DISCONTINUITY) || ticks < -i64::from(packet.track.timebase.hz())
}

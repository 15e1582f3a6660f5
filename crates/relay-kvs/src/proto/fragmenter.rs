//! Packets in, closed fragments out: where to cut, which track is in, what time it is.
//!
//! A fragment is cut at the first key frame past the target. It is closed once the sound that belongs to it is there,
//! or has been waited for long enough. Its tracks are those that have a packet in it: a track that falls silent is
//! missing from the next header, and so from the next session, and is back with its next packet.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use relay_media::{Kind, Packet, Timestamp, Track, TrackId};
use relay_mkv::BLOCK_BYTES_MAX;

use super::{
    cluster::{Clusters, Lead},
    fragment::{DropReason, Fragment},
};

/// The service takes no longer fragments (KVS limits, "maximum fragment duration").
pub const FRAGMENT_MAX: Duration = Duration::from_secs(10);
/// The service takes no shorter fragments; a last one may be.
pub const FRAGMENT_MIN: Duration = Duration::from_secs(1);
/// The service takes 50 MB; 2 MB are for heads and for what a picture is larger than its forerunners.
pub const FRAGMENT_BYTES_MAX: usize = 48_000_000;
/// The most tracks of a session.
pub const SESSION_TRACKS_MAX: usize = 3;
/// When no picture came for so long, the fragment is closed as it is.
const VIDEO_GONE: Duration = Duration::from_secs(15);
/// Behind a gap, sound from so long before the first picture is kept with it: sound is shown when it is decoded, while
/// pictures that are reordered are shown later.
const LEAD_MAX: Duration = Duration::from_secs(1);
/// At the start, sound waits so long for pictures.
const VIDEO_AWAITED: Duration = Duration::from_secs(3);

/// Cuts a stream into fragments.
#[derive(Debug)]
pub struct Fragmenter {
    target: Duration,
    bytes_max: usize,
    video: Option<Video>,
    sounds: BTreeMap<TrackId, Sound>,
    clusters: Clusters,
    bytes: usize,
    /// Why sound from before the next fragment has no pictures to go with.
    gap: Option<DropReason>,
    long_gops: u64,
    ready: VecDeque<Arc<Fragment>>,
    drops: BTreeMap<DropReason, u64>,
    /// When it last looked at the time.
    looked: Option<Instant>,
}

#[derive(Debug)]
struct Video {
    id: TrackId,
    /// The first is a key frame.
    pending: VecDeque<Arc<Packet>>,
    /// Packets before `pending`, and the numbers of the key frames in it but for the first.
    passed: u64,
    keys: VecDeque<u64>,
    /// Why pictures are dropped until the next key frame.
    waits: Option<DropReason>,
    last_arrival: Instant,
}

#[derive(Debug, Default)]
struct Sound {
    pending: VecDeque<Arc<Packet>>,
    latest: Option<Timestamp>,
    /// It had nothing for the last fragment.
    is_silent: bool,
}

/// Where a fragment ends.
struct Cut {
    /// How many pictures are in it.
    pictures: usize,
    /// Sound from here on is in the next one.
    until: Timestamp,
    /// When waiting for late sound ends.
    wait_until: Instant,
}

impl Fragmenter {
    /// Cuts at the first key frame after `target`, which is taken into 1 to 10 s. A fragment takes at most
    /// `bytes_max`. Times are after `high_water_ms`, the last of an earlier life.
    pub fn new(target: Duration, bytes_max: usize, high_water_ms: u64, seed: u64) -> Self {
        Self {
            target: target.clamp(FRAGMENT_MIN, FRAGMENT_MAX),
            bytes_max: bytes_max.min(FRAGMENT_BYTES_MAX),
            video: None,
            sounds: BTreeMap::new(),
            clusters: Clusters::new(high_water_ms, seed),
            bytes: 0,
            gap: Some(DropReason::NoKeyFrame),
            long_gops: 0,
            ready: VecDeque::new(),
            drops: BTreeMap::new(),
            looked: None,
        }
    }

    /// Takes a packet.
    pub fn push(&mut self, now: Instant, packet: Arc<Packet>) {
        if let Some(reason) = self.refuses(&packet) {
            return self.drop_packets(reason, 1);
        }
        match packet.track.kind() {
            Kind::Video => self.push_picture(now, packet),
            Kind::Audio => self.push_sound(packet),
        }
        self.cut(now);
    }

    /// Looks at the time: see [`poll_timeout`](Self::poll_timeout).
    pub fn handle_timeout(&mut self, now: Instant) {
        self.cut(now);
    }

    /// The stream has ended: closes what is there.
    pub fn finish(&mut self) {
        while let Some(cut) = self.video_cut() {
            self.close(&cut);
        }
        if let Some(video) = self.video.as_ref().filter(|video| !video.pending.is_empty()) {
            let (pictures, from) = (video.pending.len(), video.start());
            // Sound that came ahead of the last picture goes with it, within a fragment's length.
            self.close_until(pictures, from.map(|from| after(from, FRAGMENT_MAX)));
        }
        while let Some(until) = self.sound_start().map(|from| after(from, FRAGMENT_MAX)) {
            self.close_until(0, Some(until));
        }
    }

    /// The next closed fragment.
    pub fn poll(&mut self) -> Option<Arc<Fragment>> {
        self.ready.pop_front()
    }

    /// When to look again without a packet.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let cut = self.video_cut().map(|cut| cut.wait_until);
        let gone = self.video.as_ref().filter(|video| !video.pending.is_empty()).map(Video::gone_at);
        let sound = self.sound_front().map(|front| front.arrival);
        let awaited = sound.filter(|_| self.video.is_none()).map(|arrival| arrival + VIDEO_AWAITED);
        let alone = self.video.as_ref().filter(|_| sound.is_some()).map(Video::gone_at);
        let old = sound.map(|arrival| arrival + VIDEO_GONE);
        // What has passed was looked at, and changed nothing.
        [cut, gone, awaited, alone, old].into_iter().flatten().filter(|at| Some(*at) > self.looked).min()
    }

    /// Bytes held in packets that are in no closed fragment yet.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Packets held that are in no closed fragment yet.
    pub fn packets(&self) -> u64 {
        let pictures = self.video.as_ref().map_or(0, |video| video.pending.len());
        (pictures + self.sounds.values().map(|sound| sound.pending.len()).sum::<usize>()) as u64
    }

    /// Packets dropped since the last call, by reason.
    pub fn take_drops(&mut self) -> BTreeMap<DropReason, u64> {
        std::mem::take(&mut self.drops)
    }

    /// The latest time of any frame so far.
    pub fn high_water_ms(&self) -> u64 {
        self.clusters.high_water_ms()
    }

    /// How far the last fragment's time was put ahead of the time of day, because that went back.
    pub fn ahead_ms(&self) -> u64 {
        self.clusters.ahead_ms()
    }

    /// How many times there was no key frame for ten seconds, or for more bytes than a fragment takes.
    pub fn long_gops(&self) -> u64 {
        self.long_gops
    }

    fn refuses(&self, packet: &Packet) -> Option<DropReason> {
        let track = &packet.track;
        if !super::takes(track.codec.name()) {
            return Some(DropReason::Codec);
        }
        if packet.payload.is_empty() || packet.payload.len() > BLOCK_BYTES_MAX.min(self.bytes_max) {
            return Some(DropReason::PacketSize);
        }
        let is_taken = match track.kind() {
            Kind::Video => self.video.as_ref().is_none_or(|video| video.id == track.id),
            Kind::Audio => self.sounds.contains_key(&track.id) || self.sounds.len() + 1 < SESSION_TRACKS_MAX,
        };
        (!is_taken).then_some(DropReason::Tracks)
    }

    fn push_picture(&mut self, now: Instant, packet: Arc<Packet>) {
        let video = self.video.get_or_insert_with(|| Video {
            id: packet.track.id,
            pending: VecDeque::new(),
            passed: 0,
            keys: VecDeque::new(),
            waits: Some(DropReason::NoKeyFrame),
            last_arrival: now,
        });
        video.last_arrival = now;
        if packet.is_key() {
            video.waits = None;
        } else if video.pending.back().is_some_and(|last| !same_track(&last.track, &packet.track)) {
            video.waits = Some(DropReason::NoKeyFrame);
        }
        if let Some(reason) = video.waits {
            return self.drop_packets(reason, 1);
        }
        let is_large = self.bytes + packet.payload.len() > self.bytes_max;
        if packet.is_key() && is_large {
            self.close_all_pictures();
        } else if packet.is_key() && !video.pending.is_empty() {
            video.keys.push_back(video.passed + video.pending.len() as u64);
        } else if !packet.is_key() {
            let is_long = video.start().is_some_and(|start| packet.pts.since(start) >= FRAGMENT_MAX);
            if is_long || is_large {
                let reason = if is_long { DropReason::GopTooLong } else { DropReason::FragmentTooLarge };
                if !self.make_room(reason, &packet) {
                    return self.drop_packets(reason, 1);
                }
            }
        }
        self.bytes += packet.payload.len();
        if let Some(video) = &mut self.video {
            video.pending.push_back(packet);
        }
    }

    /// A picture too late or too large for the open fragment: closes it at its last key frame or, where there is
    /// none to cut at, with what it has. Returns whether the picture has a place in what is left.
    fn make_room(&mut self, reason: DropReason, packet: &Packet) -> bool {
        let Some(video) = &self.video else { return false };
        if let Some(key) = video.keys.back() {
            let (pictures, until) = (video.index(*key), video.from(video.index(*key)));
            self.close_until(pictures, until);
            let start = self.video.as_ref().and_then(Video::start);
            let fits = self.bytes + packet.payload.len() <= self.bytes_max;
            if fits && start.is_some_and(|start| packet.pts.since(start) < FRAGMENT_MAX) {
                return true;
            }
        }
        self.close_all_pictures();
        if let Some(video) = &mut self.video {
            video.waits = Some(reason);
        }
        self.long_gops += 1;
        self.gap = Some(reason);
        false
    }

    fn push_sound(&mut self, packet: Arc<Packet>) {
        let is_clipped = self.gap.filter(|reason| *reason != DropReason::NoKeyFrame);
        let waits = self.video.as_ref().is_some_and(|video| video.pending.is_empty());
        let is_large = self.bytes + packet.payload.len() > self.bytes_max;
        if let Some(reason) = is_clipped.filter(|_| waits).or(is_large.then_some(DropReason::FragmentTooLarge)) {
            return self.drop_packets(reason, 1);
        }
        let sound = self.sounds.entry(packet.track.id).or_default();
        sound.latest = Some(packet.pts);
        sound.is_silent = false;
        self.bytes += packet.payload.len();
        sound.pending.push_back(packet);
    }

    fn cut(&mut self, now: Instant) {
        self.looked = Some(now);
        loop {
            if self.video_start().is_none() {
                match self.sound_cut(now) {
                    Some(until) => self.close_until(0, Some(until)),
                    None => return,
                }
                continue;
            }
            // Sound from before the pictures came back is a fragment of its own.
            if let (None, Some(start), Some(sound)) = (self.gap, self.video_start(), self.sound_start())
                && self.clusters.had_no_picture()
                && sound.nanos_since(start) < 0
            {
                self.close_until(0, Some(start));
                continue;
            }
            match self.video_cut() {
                Some(cut) if now >= cut.wait_until || self.is_complete(&cut) => self.close(&cut),
                Some(_) => return,
                None => {
                    if self.video.as_ref().is_none_or(|video| now < video.gone_at()) {
                        return;
                    }
                    self.close_all_pictures();
                    if let Some(video) = &mut self.video {
                        video.waits = Some(DropReason::NoKeyFrame);
                    }
                }
            }
        }
    }

    fn video_start(&self) -> Option<Timestamp> {
        self.video.as_ref().and_then(Video::start)
    }

    /// Where the fragment that is open can be cut by what has come.
    fn video_cut(&self) -> Option<Cut> {
        let video = self.video.as_ref()?;
        let front = video.pending.front()?;
        let key = video.keys.iter().map(|key| video.index(*key)).find(|index| {
            let Some(key) = video.pending.get(*index) else { return false };
            key.pts.since(front.pts) >= self.target || !same_track(&key.track, &front.track)
        })?;
        let wait = self.target.min(FRAGMENT_MAX);
        let wait_until = video.pending.get(key)?.arrival + wait;
        Some(Cut { pictures: key, until: video.from(key)?, wait_until })
    }

    /// Whether all that belongs before the cut has come.
    fn is_complete(&self, cut: &Cut) -> bool {
        let Some(video) = &self.video else { return false };
        let Some(key) = video.pending.get(cut.pictures) else { return false };
        // Pictures shown before the key frame they follow (open GOP) are decoded before its own time.
        let is_settled = key.pts.nanos_since(key.dts) <= 0
            || video.pending.iter().skip(cut.pictures + 1).any(|later| later.pts.nanos_since(key.pts) > 0);
        let has_passed =
            |sound: &Sound| sound.is_silent || sound.latest.is_some_and(|latest| latest.nanos_since(cut.until) >= 0);
        is_settled && self.sounds.values().all(has_passed)
    }

    /// Where sound without pictures is cut.
    fn sound_cut(&self, now: Instant) -> Option<Timestamp> {
        let (front, start) = (self.sound_front()?, self.sound_start()?);
        let is_alone = match &self.video {
            Some(video) => now >= video.gone_at(),
            None => self.clusters.had_no_picture() || now >= front.arrival + VIDEO_AWAITED,
        };
        let until = after(start, self.target);
        let has_passed = |sound: &Sound| sound.latest.is_some_and(|latest| latest.nanos_since(until) >= 0);
        let is_old = now >= front.arrival + VIDEO_GONE;
        (is_alone && (is_old || self.sounds.values().any(has_passed))).then_some(until)
    }

    fn sound_front(&self) -> Option<&Arc<Packet>> {
        let fronts = self.sounds.values().filter_map(|sound| sound.pending.front());
        fronts.min_by_key(|packet| packet.pts.nanos())
    }

    fn sound_start(&self) -> Option<Timestamp> {
        self.sound_front().map(|front| front.pts)
    }

    fn close_all_pictures(&mut self) {
        let Some(video) = &self.video else { return };
        let last = video.pending.iter().map(|packet| packet.pts).max_by_key(|pts| pts.nanos());
        let pictures = video.pending.len();
        self.close_until(pictures, last.map(|last| last.plus(1)));
    }

    fn close(&mut self, cut: &Cut) {
        self.close_until(cut.pictures, Some(cut.until));
    }

    /// Closes a fragment of this many pictures and of the sound before `until`.
    fn close_until(&mut self, pictures: usize, until: Option<Timestamp>) {
        let Some(until) = until else { return };
        let mut lanes: Vec<Vec<Arc<Packet>>> = Vec::with_capacity(SESSION_TRACKS_MAX);
        let mut start = None;
        if let Some(video) = self.video.as_mut().filter(|_| pictures > 0) {
            let taken = video.take(pictures);
            start = taken.iter().map(|packet| packet.pts).min_by_key(|pts| pts.nanos());
            lanes.push(taken);
        }
        let gap = self.gap.take();
        for sound in self.sounds.values_mut() {
            let count = sound.pending.iter().take_while(|packet| packet.pts.nanos_since(until) < 0).count();
            sound.is_silent = count == 0;
            if count > 0 {
                lanes.push(sound.pending.drain(..count).collect());
            }
        }
        let size = |packet: &Arc<Packet>| packet.payload.len();
        self.bytes -= lanes.iter().flatten().map(size).sum::<usize>();
        if let (Some(start), Some(reason)) = (start, gap) {
            let mut orphans = 0;
            for lane in lanes.iter_mut().skip(1) {
                let before = lane.len();
                lane.retain(|packet| start.since(packet.pts) <= LEAD_MAX);
                orphans += before - lane.len();
            }
            lanes.retain(|lane| !lane.is_empty());
            self.drop_packets(reason, orphans as u64);
        }
        let lead = match (pictures, gap) {
            (0, _) | (_, Some(_)) => Lead::All,
            (_, None) => Lead::Pictures,
        };
        let written = self.clusters.write(lanes, lead, pictures > 0);
        for (reason, count) in written.drops {
            self.drop_packets(reason, count);
        }
        self.ready.extend(written.fragment.map(Arc::new));
    }

    fn drop_packets(&mut self, reason: DropReason, count: u64) {
        if count > 0 {
            *self.drops.entry(reason).or_default() += count;
        }
    }
}

impl Video {
    fn index(&self, key: u64) -> usize {
        usize::try_from(key.saturating_sub(self.passed)).unwrap_or(usize::MAX)
    }

    fn start(&self) -> Option<Timestamp> {
        self.pending.front().map(|front| front.pts)
    }

    /// The earliest time that is shown from this picture on: the key frame's, or that of one that leads it.
    fn from(&self, index: usize) -> Option<Timestamp> {
        let key = self.pending.get(index)?;
        let leading = self.pending.iter().skip(index + 1).take_while(|packet| !packet.is_key());
        leading
            .take_while(|packet| packet.pts.nanos_since(key.pts) < 0)
            .chain([key])
            .map(|packet| packet.pts)
            .min_by_key(|pts| pts.nanos())
    }

    fn take(&mut self, pictures: usize) -> Vec<Arc<Packet>> {
        let taken: Vec<_> = self.pending.drain(..pictures.min(self.pending.len())).collect();
        self.passed += taken.len() as u64;
        // The first picture left is the start of the next fragment, no place to cut.
        while self.keys.front().is_some_and(|key| *key <= self.passed) {
            self.keys.pop_front();
        }
        taken
    }

    fn gone_at(&self) -> Instant {
        self.last_arrival + VIDEO_GONE
    }
}

fn after(time: Timestamp, duration: Duration) -> Timestamp {
    time.plus(time.timebase().ticks(duration))
}

/// The same parameters, mostly by being the same value.
pub(crate) fn same_track(a: &Arc<Track>, b: &Arc<Track>) -> bool {
    Arc::ptr_eq(a, b) || a == b
}

//! What a running node reports of itself: written by the node, read on scrape.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use relay_media::{Flags, Kind, Packet, Timestamp, Track, UtcTime};
use relay_ring::{CursorMonitor, CursorStats};

use crate::{
    Clock, SinkDescription, SinkSnapshot, SinkState, SourceDescription, SourceSnapshot, SourceState, TrackSnapshot,
    snapshot::Totals,
};

/// State and counters of one source.
#[derive(Debug)]
pub struct SourceMonitor {
    clock: Clock,
    description: SourceDescription,
    report: Mutex<SourceReport>,
}

#[derive(Debug)]
struct SourceReport {
    state: SourceState,
    since: UtcTime,
    connects: u64,
    attempt: u32,
    last_error: Option<String>,
    next_try: Option<Instant>,
    failures: BTreeMap<&'static str, u64>,
    quirks: BTreeMap<&'static str, u64>,
    discontinuities: u64,
    video: Totals,
    audio: Totals,
    tracks: Vec<TrackMeter>,
    announced: Option<usize>,
}

impl SourceMonitor {
    /// A source that has not connected yet.
    pub fn new(description: SourceDescription, clock: Clock) -> Self {
        let report = SourceReport {
            state: SourceState::Connecting,
            since: clock.utc(),
            connects: 0,
            attempt: 0,
            last_error: None,
            next_try: None,
            failures: BTreeMap::new(),
            quirks: BTreeMap::new(),
            discontinuities: 0,
            video: Totals::default(),
            audio: Totals::default(),
            tracks: Vec::new(),
            announced: None,
        };
        Self { clock, description, report: Mutex::new(report) }
    }

    /// The connection that begins now announces so many tracks, whether they will speak or not.
    pub fn announce(&self, tracks: usize) {
        lock(&self.report).announced = Some(tracks);
    }

    /// How many tracks the newest connection announced, if the source has told.
    pub fn announced(&self) -> Option<usize> {
        lock(&self.report).announced
    }

    /// A try begins.
    pub fn connecting(&self) {
        let mut report = lock(&self.report);
        report.attempt = report.attempt.saturating_add(1);
        self.enter(&mut report, SourceState::Connecting);
    }

    /// Video flows and a key frame was seen.
    pub fn live(&self) {
        let mut report = lock(&self.report);
        if report.state != SourceState::Live {
            report.connects += 1;
            report.attempt = 0;
            self.enter(&mut report, SourceState::Live);
        }
    }

    /// Connected, but nothing useful comes, for the cause told in plain words.
    pub fn stalled(&self, cause: impl Into<String>) {
        let mut report = lock(&self.report);
        report.last_error = Some(cause.into());
        self.enter(&mut report, SourceState::Stalled);
    }

    /// A try or a connection ended: `reason` counts, `cause` explains in plain words and holds no secret; the next
    /// try comes after `wait`.
    pub fn backoff(&self, reason: &'static str, cause: impl Into<String>, wait: Duration) {
        let next_try = self.clock.now() + wait;
        let mut report = lock(&self.report);
        *report.failures.entry(reason).or_default() += 1;
        report.last_error = Some(cause.into());
        self.enter(&mut report, SourceState::Backoff);
        report.next_try = Some(next_try);
    }

    /// Something failed that does not (yet) change the state: `reason` counts, `cause` explains as in
    /// [`backoff`](Self::backoff).
    pub fn failure(&self, reason: &'static str, cause: impl Into<String>) {
        let mut report = lock(&self.report);
        *report.failures.entry(reason).or_default() += 1;
        report.last_error = Some(cause.into());
    }

    /// Waits before the next try, `wait` from now, for a failure that was counted already.
    pub fn waiting(&self, wait: Duration) {
        let next_try = self.clock.now() + wait;
        let mut report = lock(&self.report);
        self.enter(&mut report, SourceState::Backoff);
        report.next_try = Some(next_try);
    }

    /// Something worth telling that is no failure (a silent second track).
    pub fn warn(&self, cause: impl Into<String>) {
        lock(&self.report).last_error = Some(cause.into());
    }

    /// Counts an oddity of the peer that was tolerated, or a unit dropped at ingress; `name` is a fixed word.
    pub fn quirk(&self, name: &'static str, count: u64) {
        if count > 0 {
            *lock(&self.report).quirks.entry(name).or_default() += count;
        }
    }

    /// Tries since it was last live.
    pub fn attempt(&self) -> u32 {
        lock(&self.report).attempt
    }

    /// Counts packets on their way into the ring.
    pub(crate) fn pushed(&self, packet: &Packet) {
        let mut report = lock(&self.report);
        let report = &mut *report;
        let bytes = packet.payload.len() as u64;
        let totals = if packet.track.kind() == Kind::Video { &mut report.video } else { &mut report.audio };
        totals.packets += 1;
        totals.bytes += bytes;
        if packet.flags.contains(Flags::DISCONTINUITY) {
            report.discontinuities += 1;
        }
        let id = packet.track.id;
        if let Some(meter) = report.tracks.iter_mut().find(|meter| meter.track.id == id) {
            meter.count(packet);
        } else if report.tracks.len() < MAX_TRACKS {
            report.tracks.push(TrackMeter::new(packet));
        }
    }

    /// Its state and counters now.
    pub fn snapshot(&self) -> SourceSnapshot {
        let now = self.clock.now();
        let report = lock(&self.report);
        let next_try = report.next_try.filter(|_| report.state == SourceState::Backoff);
        SourceSnapshot {
            kind: self.description.kind,
            url: self.description.url.clone(),
            state: report.state,
            since: report.since,
            connects: report.connects,
            attempt: report.attempt,
            last_error: report.last_error.clone(),
            next_try: next_try.map(|at| at.saturating_duration_since(now)),
            failures: report.failures.clone(),
            quirks: report.quirks.clone(),
            discontinuities: report.discontinuities,
            video: report.video,
            audio: report.audio,
            tracks: report.tracks.iter().map(|meter| meter.snapshot(now)).collect(),
        }
    }

    fn enter(&self, report: &mut SourceReport, state: SourceState) {
        report.next_try = None;
        if report.state != state {
            report.state = state;
            report.since = self.clock.utc();
        }
    }
}

/// The most tracks whose rates are told: one video and a few audio tracks are usual.
const MAX_TRACKS: usize = 16;

/// How fast a track flows, over windows of [`WINDOW`].
#[derive(Debug)]
struct TrackMeter {
    track: Arc<Track>,
    window_start: Instant,
    packets: u64,
    bytes: u64,
    newest: Instant,
    last_window: (u64, u64),
    last_key: Option<Timestamp>,
    key_frame_interval: Option<Duration>,
    reordered: bool,
}

/// Long enough to hold a 2 s GOP, whose key frame is most of its bytes.
const WINDOW: Duration = Duration::from_secs(2);

impl TrackMeter {
    fn new(packet: &Packet) -> Self {
        let mut meter = Self {
            track: packet.track.clone(),
            window_start: packet.arrival,
            packets: 0,
            bytes: 0,
            newest: packet.arrival,
            last_window: (0, 0),
            last_key: None,
            key_frame_interval: None,
            reordered: false,
        };
        meter.count(packet);
        meter
    }

    fn count(&mut self, packet: &Packet) {
        if !Arc::ptr_eq(&self.track, &packet.track) {
            self.track = packet.track.clone();
        }
        let passed = packet.arrival.saturating_duration_since(self.window_start);
        if passed >= WINDOW {
            let millis = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX).max(1);
            self.last_window = (self.packets * 1_000_000 / millis, self.bytes * 8_000 / millis);
            (self.window_start, self.packets, self.bytes) = (packet.arrival, 0, 0);
        }
        self.packets += 1;
        self.bytes += packet.payload.len() as u64;
        self.newest = packet.arrival;
        self.reordered |= packet.pts.ticks() > packet.dts.ticks();
        if packet.is_key() {
            self.key_frame_interval = self.last_key.map(|last| packet.dts.since(last)).or(self.key_frame_interval);
            self.last_key = Some(packet.dts);
        }
    }

    fn snapshot(&self, now: Instant) -> TrackSnapshot {
        let silent = now.saturating_duration_since(self.newest) > WINDOW * 2;
        let (packets_per_second_milli, bitrate_bps) = if silent { (0, 0) } else { self.last_window };
        TrackSnapshot {
            track: self.track.clone(),
            packets_per_second_milli,
            bitrate_bps,
            key_frame_interval: self.key_frame_interval,
            reordered: self.reordered,
        }
    }
}

/// State and counters of one sink.
#[derive(Debug)]
pub struct SinkMonitor {
    clock: Clock,
    name: String,
    description: SinkDescription,
    cursor: CursorMonitor,
    readers: Mutex<Option<Readers>>,
    restored: AtomicU64,
    packets_out: AtomicU64,
    bytes_out: AtomicU64,
    restarts: AtomicU64,
    report: Mutex<SinkReport>,
}

#[derive(Debug)]
struct SinkReport {
    state: SinkState,
    since: UtcTime,
    last_error: Option<String>,
    dropped: BTreeMap<&'static str, u64>,
}

impl SinkMonitor {
    /// A sink that has delivered nothing yet, reading through `cursor`.
    pub fn new(name: String, description: SinkDescription, cursor: CursorMonitor, clock: Clock) -> Self {
        let report =
            SinkReport { state: SinkState::Starting, since: clock.utc(), last_error: None, dropped: BTreeMap::new() };
        Self {
            clock,
            name,
            description,
            cursor,
            readers: Mutex::new(None),
            restored: AtomicU64::new(0),
            packets_out: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            restarts: AtomicU64::new(0),
            report: Mutex::new(report),
        }
    }

    /// It delivers.
    pub fn running(&self) {
        self.enter(SinkState::Running, None);
    }

    /// It waits before it tries again, for the cause told in plain words.
    pub fn backoff(&self, cause: impl Into<String>) {
        self.enter(SinkState::Backoff, Some(cause.into()));
    }

    /// Held up by something a person may have to mend, told in plain words; it tries again by itself.
    pub fn paused(&self, cause: impl Into<String>) {
        self.enter(SinkState::Paused, Some(cause.into()));
    }

    /// A sink that hands every packet to many readers opens a cursor for each: from now on its account is theirs
    /// together, and what its own cursor carries doesn't count. Readers of an earlier run are gone.
    pub fn fans_out(&self) {
        let stale: Vec<u64> = lock(&self.readers).get_or_insert_default().now.keys().copied().collect();
        for key in stale {
            self.left(ReaderKey(key));
        }
    }

    /// A reader that reads through `cursor` begins.
    pub fn joined(&self, cursor: CursorMonitor) -> ReaderKey {
        let mut readers = lock(&self.readers);
        let readers = readers.get_or_insert_default();
        readers.next_key += 1;
        readers.now.insert(readers.next_key, cursor);
        ReaderKey(readers.next_key)
    }

    /// A reader is gone: what its cursor still held is dropped for `"left"`.
    pub fn left(&self, key: ReaderKey) {
        let mut readers = lock(&self.readers);
        let Some(readers) = readers.as_mut() else { return };
        let Some(cursor) = readers.now.remove(&key.0) else { return };
        let last = cursor.stats();
        readers.gone = readers.gone.and(CursorStats { buffered: 0, lag: Duration::ZERO, ..last });
        self.dropped("left", last.buffered);
    }

    /// Its run ended with a failure, told in plain words.
    pub(crate) fn failed(&self, cause: impl Into<String>) {
        self.restarts.fetch_add(1, Relaxed);
        self.enter(SinkState::Failed, Some(cause.into()));
    }

    /// Something worth telling that changes no state.
    pub fn warn(&self, cause: impl Into<String>) {
        lock(&self.report).last_error = Some(cause.into());
    }

    /// Counts packets that an earlier life left on disk, as if they had just come in.
    pub fn restored(&self, packets: u64) {
        self.restored.fetch_add(packets, Relaxed);
    }

    /// Counts packets delivered, with their bytes: written, sent, or persisted.
    pub fn delivered(&self, packets: u64, bytes: u64) {
        self.packets_out.fetch_add(packets, Relaxed);
        self.bytes_out.fetch_add(bytes, Relaxed);
    }

    /// Counts packets taken from the cursor that will not be delivered; `reason` is a fixed word.
    pub fn dropped(&self, reason: &'static str, packets: u64) {
        if packets > 0 {
            *lock(&self.report).dropped.entry(reason).or_default() += packets;
        }
    }

    /// Counts as dropped for `reason` whatever was handed to the sink and is neither delivered nor dropped: its run
    /// is over and holds nothing.
    pub(crate) fn drop_held(&self, reason: &'static str) {
        let snapshot = self.snapshot();
        let held = snapshot.packets_buffered.saturating_sub(self.account().buffered);
        self.dropped(reason, held);
    }

    /// Its state and counters now.
    pub fn snapshot(&self) -> SinkSnapshot {
        // What went out is read before what came in: between the two readings packets may come in, never vanish.
        let packets_out = self.packets_out.load(Relaxed);
        let report = lock(&self.report);
        let mut packets_dropped = report.dropped.clone();
        let (state, since, last_error) = (report.state, report.since, report.last_error.clone());
        drop(report);
        let cursor = self.account();
        for (reason, count) in
            [("lag", cursor.dropped.lag), ("no_key_frame", cursor.dropped.no_key_frame), ("cap", cursor.dropped.cap)]
        {
            *packets_dropped.entry(reason).or_default() += count;
        }
        let gone = packets_out + packets_dropped.values().sum::<u64>();
        let packets_in = cursor.received + self.restored.load(Relaxed);
        SinkSnapshot {
            name: self.name.clone(),
            kind: self.description.kind,
            state,
            since,
            packets_in,
            packets_out,
            packets_dropped,
            packets_buffered: packets_in.saturating_sub(gone),
            bytes_out: self.bytes_out.load(Relaxed),
            lag: cursor.lag,
            last_error,
            restarts: self.restarts.load(Relaxed),
        }
    }

    fn account(&self) -> CursorStats {
        match lock(&self.readers).as_ref() {
            None => self.cursor.stats(),
            Some(readers) => readers.now.values().map(CursorMonitor::stats).fold(readers.gone, CursorStats::and),
        }
    }

    fn enter(&self, state: SinkState, cause: Option<String>) {
        let mut report = lock(&self.report);
        if cause.is_some() {
            report.last_error = cause;
        }
        if report.state != state {
            report.state = state;
            report.since = self.clock.utc();
        }
    }
}

/// The readers of a sink that fans out.
#[derive(Debug, Default)]
struct Readers {
    now: BTreeMap<u64, CursorMonitor>,
    gone: CursorStats,
    next_key: u64,
}

/// Names a reader of a sink that fans out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReaderKey(u64);

/// A panic while counting leaves counters that are still counters.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! The packets a ring retains: their sequence numbers, their place in media time, and where one can join.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use relay_media::{Flags, Kind, Packet};

use crate::{
    Limits, RingStats,
    leak::{self, Held},
};

/// The retained packets, oldest first, numbered from 0 in the order they were pushed.
#[derive(Debug)]
pub(crate) struct Window {
    limits: Limits,
    entries: VecDeque<Entry>,
    /// The sequence number of the oldest retained packet.
    first: u64,
    /// The sequence numbers of the retained key frames, oldest first.
    keys: VecDeque<u64>,
    /// Retained video packets. Without any the stream counts as audio only, and every packet is a join point.
    video: usize,
    bytes: usize,
    clock: MediaClock,
    pushed_bytes: u64,
    oversized_gops: u64,
}

/// A retained packet, with what is asked of it for every delivery.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) packet: Arc<Packet>,
    /// Its decode time in nanoseconds of the window's [`MediaClock`].
    at: i64,
    kind: Kind,
    pub(crate) flags: Flags,
}

impl Window {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            entries: VecDeque::new(),
            first: 0,
            keys: VecDeque::new(),
            video: 0,
            bytes: 0,
            clock: MediaClock::default(),
            pushed_bytes: 0,
            oversized_gops: 0,
        }
    }

    /// Appends `packet`. It may leave the window past its caps until [`evict`](Self::evict) is called.
    pub(crate) fn push(&mut self, packet: Arc<Packet>) {
        let (kind, flags) = (packet.track.kind(), packet.flags);
        let at = self.clock.place(&packet, kind);
        if kind == Kind::Video {
            self.video += 1;
            if packet.is_key() {
                self.keys.push_back(self.head());
            }
        }
        self.bytes += packet.payload.len();
        self.pushed_bytes += packet.payload.len() as u64;
        self.entries.push_back(Entry { packet, at, kind, flags });
    }

    /// Moves what the caps no longer allow into `evicted`, to be dropped outside the lock.
    pub(crate) fn evict(&mut self, evicted: &mut Vec<Arc<Packet>>) {
        while leak::evicts(self.held(), &self.limits)
            && let Some(entry) = self.entries.pop_front()
        {
            if self.keys.front() == Some(&self.first) {
                self.keys.pop_front();
                // Only the byte and count caps reach into the newest GOP.
                self.oversized_gops += u64::from(self.keys.is_empty());
            }
            self.forget(entry, evicted);
        }
    }

    /// Moves what nobody will ask for any more into `evicted`: everything before both the newest key frame, at which
    /// new cursors join, and `unread`, the oldest packet that a cursor has yet to read. What is retained beyond the
    /// newest GOP is then what some reader needs, and the caps are for the day when one lags.
    pub(crate) fn trim(&mut self, unread: u64, evicted: &mut Vec<Arc<Packet>>) {
        let Some(newest) = self.keys.back().copied() else { return };
        while self.first < newest.min(unread)
            && let Some(entry) = self.entries.pop_front()
        {
            if self.keys.front() == Some(&self.first) {
                self.keys.pop_front();
            }
            self.forget(entry, evicted);
        }
    }

    fn forget(&mut self, entry: Entry, evicted: &mut Vec<Arc<Packet>>) {
        self.first += 1;
        self.video -= usize::from(entry.kind == Kind::Video);
        self.bytes -= entry.packet.payload.len();
        evicted.push(entry.packet);
    }

    /// Half of a cap is reached: a reader that sleeps now may find its packets evicted.
    pub(crate) fn half_full(&self) -> bool {
        self.bytes > self.limits.max_bytes / 2
            || self.len() > self.limits.max_packets / 2
            || self.span_nanos() > leak::nanos(self.limits.max_duration / 2)
    }

    /// The sequence number of the oldest retained packet, or of the next one if none is retained.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// The sequence number the next pushed packet gets.
    pub(crate) fn head(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// How many packets are retained.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether every packet is a join point.
    pub(crate) fn audio_only(&self) -> bool {
        self.video == 0
    }

    /// The newest retained join point.
    pub(crate) fn newest_join(&self) -> Option<u64> {
        if self.audio_only() {
            return self.head().checked_sub(1).filter(|newest| *newest >= self.first);
        }
        self.keys.back().copied()
    }

    /// The oldest retained join point at or after `seq`.
    pub(crate) fn join_from(&self, seq: u64) -> Option<u64> {
        if self.audio_only() {
            return Some(seq.max(self.first)).filter(|seq| *seq < self.head());
        }
        self.keys.get(self.keys.partition_point(|key| *key < seq)).copied()
    }

    /// The retained packets from `seq` on.
    pub(crate) fn from(&self, seq: u64) -> impl Iterator<Item = &Entry> {
        self.entries.range(self.index(seq)..)
    }

    /// Nanoseconds of media from the packet numbered `seq` to the newest of its kind, zero past the newest packet.
    pub(crate) fn lag_nanos(&self, seq: u64) -> i64 {
        let Some(entry) = self.entries.get(self.index(seq)) else { return 0 };
        self.clock.newest(entry.kind).map_or(0, |newest| newest.saturating_sub(entry.at)).max(0)
    }

    pub(crate) fn stats(&self) -> RingStats {
        RingStats {
            packets: self.len(),
            bytes: self.bytes,
            span: Duration::from_nanos(self.span_nanos().unsigned_abs()),
            join_points: if self.audio_only() { self.len() } else { self.keys.len() },
            pushed_packets: self.head(),
            pushed_bytes: self.pushed_bytes,
            oversized_gops: self.oversized_gops,
            key_frame_requests: 0,
        }
    }

    fn held(&self) -> Held {
        Held {
            packets: self.len(),
            bytes: self.bytes,
            span_nanos: self.span_nanos(),
            newest_gop_only: self.newest_join().is_some_and(|newest| newest <= self.first),
        }
    }

    /// Never negative.
    fn span_nanos(&self) -> i64 {
        let Some(oldest) = self.entries.front() else { return 0 };
        self.clock.latest().map_or(0, |latest| latest.saturating_sub(oldest.at)).max(0)
    }

    /// The place of `seq` among the entries, at most their number.
    fn index(&self, seq: u64) -> usize {
        usize::try_from(seq.saturating_sub(self.first)).map_or(self.len(), |index| index.min(self.len()))
    }
}

/// Decode times of all tracks on one line of nanoseconds, with the breaks of the source closed up: at a packet with
/// [`DISCONTINUITY`](Flags::DISCONTINUITY) the line goes on from the newest packet before it. Otherwise the minute a
/// camera was away would count as a minute of media, and its return would evict what readers were about to read.
#[derive(Debug, Default)]
struct MediaClock {
    /// Nanoseconds taken out so far.
    closed_up: i64,
    newest_video: Option<i64>,
    newest_audio: Option<i64>,
}

impl MediaClock {
    /// The place of the packet that is being pushed.
    fn place(&mut self, packet: &Packet, kind: Kind) -> i64 {
        let dts = packet.dts.nanos();
        if packet.flags.contains(Flags::DISCONTINUITY)
            && let Some(latest) = self.latest()
        {
            self.closed_up = dts.saturating_sub(latest);
        }
        let at = dts.saturating_sub(self.closed_up);
        match kind {
            Kind::Video => self.newest_video = Some(at),
            Kind::Audio => self.newest_audio = Some(at),
        }
        at
    }

    fn newest(&self, kind: Kind) -> Option<i64> {
        match kind {
            Kind::Video => self.newest_video,
            Kind::Audio => self.newest_audio,
        }
    }

    fn latest(&self) -> Option<i64> {
        self.newest_video.max(self.newest_audio)
    }
}

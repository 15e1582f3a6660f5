//! What could be had of the origin, and what was: the ground truth that recordings are held against.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::programme::{Listing, Segment};

/// A segment, and what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentLog {
    /// The counter of its first frame.
    pub first: u64,
    /// Its frames.
    pub frames: u64,
    /// The longest time without a break for which it was listed while nothing kept it from being had.
    pub available: Duration,
    /// It was made with EXT-X-GAP and could never be had, or a part of it was passed off as the whole.
    pub is_gap: bool,
    /// It reached a client whole: to its last byte, and the client went on with the connection or closed it in order.
    pub is_served: bool,
}

/// Segments remembered: an hour at one second each.
const MAX_SEGMENTS: usize = 3_600;

/// Which parts of which segment an answer brings to its end: all bits for a whole segment.
pub(crate) type Piece = (u64, u64);

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    entries: VecDeque<Entry>,
    /// Since when nothing has changed for the worse or the better, if all is well.
    healthy_since: Option<Instant>,
}

#[derive(Debug)]
struct Entry {
    index: u64,
    log: SegmentLog,
    /// When it was listed first, and its parts that were served.
    listed: Instant,
    served: u64,
    /// The bits of all parts.
    whole: u64,
}

impl Ledger {
    /// The condition is another than before.
    pub(crate) fn changed(&mut self, now: Instant, is_healthy: bool) {
        self.healthy_since = is_healthy.then_some(now);
    }

    /// Looks at the playlist.
    pub(crate) fn look(&mut self, now: Instant, listing: &Listing, parts: u64) {
        for segment in listing.segments.iter().chain(listing.open.as_ref().map(|(open, _)| open)) {
            let at = self.entries.partition_point(|entry| entry.index < segment.index);
            if self.entries.get(at).is_none_or(|entry| entry.index != segment.index) {
                self.entries.insert(at, Entry::new(segment, now, parts));
            }
        }
        while self.entries.len() > MAX_SEGMENTS {
            self.entries.pop_front();
        }
        let Some(healthy_since) = self.healthy_since else { return };
        let Some(first) = listing.segments.first() else { return };
        let listed = self.entries.iter_mut().rev().take_while(|entry| entry.index >= first.index);
        for entry in listed.filter(|entry| listing.segments.iter().any(|segment| segment.index == entry.index)) {
            let since = now.saturating_duration_since(healthy_since.max(entry.listed));
            entry.log.available = entry.log.available.max(since);
        }
    }

    pub(crate) fn served(&mut self, pieces: &[Piece]) {
        for (index, parts) in pieces {
            if let Some(entry) = self.entries.iter_mut().rev().find(|entry| entry.index == *index) {
                entry.served |= parts;
                entry.log.is_served = entry.served & entry.whole == entry.whole;
            }
        }
    }

    pub(crate) fn spoil(&mut self, pieces: &[Piece]) {
        for (index, _) in pieces {
            if let Some(entry) = self.entries.iter_mut().rev().find(|entry| entry.index == *index) {
                entry.log.is_gap = true;
            }
        }
    }

    pub(crate) fn logs(&self) -> Vec<SegmentLog> {
        self.entries.iter().map(|entry| entry.log).collect()
    }
}

impl Entry {
    fn new(segment: &Segment, now: Instant, parts: u64) -> Self {
        let log = SegmentLog {
            first: segment.frames.first,
            frames: segment.frames.count,
            available: Duration::ZERO,
            is_gap: segment.gap,
            is_served: false,
        };
        let whole = u64::MAX.checked_shr(64 - u32::try_from(parts).unwrap_or(64).clamp(1, 64)).unwrap_or(u64::MAX);
        Self { index: segment.index, log, listed: now, served: 0, whole }
    }
}

//! The window's bounds: what goes to disk, what is released, what is lost.

use std::time::{Duration, Instant};

use super::{Disk, DropReason, Leak, Output, Scheduler};

/// After a failed write the disk is left alone for so long.
pub(super) const SPOOL_REST: Duration = Duration::from_secs(5);
/// At the end, what is being written has so long beyond the deadline.
pub(super) const STORE_MAX: Duration = Duration::from_secs(5);
/// The most fragments held, on disk too: at one a second a day and more. One costs some 300 bytes of memory.
const FRAGMENTS_MAX: usize = 100_000;

impl Scheduler {
    /// From here on fragments go to disk: a quarter of the window is left for what comes while they are written.
    pub(super) fn soft_bytes(&self) -> usize {
        self.settings.window_bytes / 4 * 3
    }

    pub(super) fn bound(&mut self, now: Instant) {
        self.spill(now);
        self.release();
        self.drop_beyond(now);
    }

    /// Puts on disk what outgrows the window, oldest first; at the end all.
    fn spill(&mut self, now: Instant) {
        if self.settings.spool.is_none() || self.spool_rests_until.is_some_and(|until| now < until) {
            return;
        }
        let mut over = self.memory_bytes().saturating_sub(self.soft_bytes());
        let mut chosen = Vec::new();
        for (timecode_ms, entry) in self.window.in_memory() {
            let is_old = entry.arrived.is_some_and(|(_, closed)| now >= closed + self.settings.window_time);
            if over == 0 && !is_old && self.stopping.is_none() && !self.stores_each() {
                break;
            }
            over = over.saturating_sub(entry.wire_bytes);
            if matches!(entry.disk, Disk::No | Disk::Failed) {
                chosen.push(timecode_ms);
            }
        }
        for timecode_ms in chosen {
            self.store(now, timecode_ms);
        }
    }

    pub(super) fn store(&mut self, now: Instant, timecode_ms: u64) {
        if self.spool_rests_until.is_some_and(|until| now < until) {
            // The disk is away; what is live goes on from memory.
            self.window.set_disk(timecode_ms, Disk::Failed);
            return;
        }
        self.spool_rests_until = None;
        if let Some(body) = self.window.get(timecode_ms).and_then(|entry| entry.body.clone()) {
            self.window.set_disk(timecode_ms, Disk::Writing);
            self.outputs.push_back(Output::Store(body));
        }
    }

    /// Frees the memory of what is on disk, oldest first, while there is too much in memory.
    fn release(&mut self) {
        while self.memory_bytes() > self.soft_bytes() {
            let is_free = |timecode_ms: u64| self.sessions.iter().all(|session| session.busy != Some(timecode_ms));
            let stored = self.window.in_memory().find(|(at, entry)| entry.disk == Disk::Yes && is_free(*at));
            match stored.map(|(timecode_ms, _)| timecode_ms) {
                Some(timecode_ms) => self.window.release(timecode_ms),
                None => return,
            }
        }
    }

    fn drop_beyond(&mut self, now: Instant) {
        while self.memory_bytes() > self.settings.window_bytes {
            let Some(oldest) = self.oldest_in_memory() else { break };
            self.leak(oldest);
        }
        // Without a disk what is older than the window is lost; with one it is on its way there.
        while self.settings.spool.is_none() {
            let old = self.oldest_in_memory().filter(|oldest| {
                let arrived = self.window.get(*oldest).and_then(|entry| entry.arrived);
                arrived.is_some_and(|(_, closed)| now >= closed + self.settings.window_time)
            });
            let Some(old) = old else { break };
            self.leak(old);
        }
        let disk_max = self.settings.spool.map_or(u64::MAX, |spool| spool.max_bytes);
        while self.window.disk_bytes() > disk_max || self.window.len() > FRAGMENTS_MAX {
            let is_free = |timecode_ms: u64| self.sessions.iter().all(|session| session.busy != Some(timecode_ms));
            let stored = self
                .window
                .oldest()
                .find(|(at, entry)| matches!(entry.disk, Disk::Yes | Disk::Writing) && is_free(*at));
            let Some((oldest, _)) = stored else { break };
            self.lose(oldest, DropReason::SpoolFull);
        }
    }

    /// Loses `oldest` to the window's bounds and, if that is wanted, all up to the newest.
    fn leak(&mut self, oldest: u64) {
        self.lose(oldest, DropReason::Window);
        if self.settings.leak == Leak::Oldest || self.settings.spool.is_some() {
            return;
        }
        let mut late: Vec<u64> = self.window.in_memory().map(|(timecode_ms, _)| timecode_ms).collect();
        late.pop();
        late.retain(|at| self.sessions.iter().all(|session| session.busy != Some(*at)));
        late.into_iter().for_each(|at| self.lose(at, DropReason::Window));
    }

    /// The oldest fragment in memory that is not being written to a connection.
    fn oldest_in_memory(&self) -> Option<u64> {
        let is_free = |timecode_ms: u64| self.sessions.iter().all(|session| session.busy != Some(timecode_ms));
        self.window.in_memory().map(|(timecode_ms, _)| timecode_ms).find(|timecode_ms| is_free(*timecode_ms))
    }

    pub(super) fn bounds_timeout(&self) -> Option<Instant> {
        let waiting = self.window.in_memory().find(|(_, entry)| matches!(entry.disk, Disk::No | Disk::Failed));
        let old = waiting.and_then(|(_, entry)| Some(entry.arrived?.1 + self.settings.window_time));
        match self.spool_rests_until {
            Some(until) if waiting.is_some() => Some(until.max(old.unwrap_or(until))),
            _ => old,
        }
    }
}

//! The fragments that are not PERSISTED yet: in memory, on disk, or both.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeBounds,
    sync::Arc,
    time::Instant,
};

use bytes::Bytes;

use super::{fragment::Fragment, session::SessionId};

/// A fragment that an earlier life left on disk.
#[derive(Clone, Debug)]
pub struct Restored {
    /// The time of its first frame.
    pub timecode_ms: u64,
    /// The time of its last frame.
    pub last_ms: u64,
    /// What a session must begin with to carry it.
    pub header: Bytes,
    /// Its bytes on the wire.
    pub wire_bytes: usize,
    /// How many packets are in it.
    pub packets: u32,
}

/// What is known of a fragment wherever it is.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) header: Bytes,
    pub(crate) wire_bytes: usize,
    pub(crate) packets: u32,
    /// When its first frame arrived and when it was closed, in this life.
    pub(crate) arrived: Option<(Instant, Instant)>,
    pub(crate) body: Option<Arc<Fragment>>,
    pub(crate) disk: Disk,
    /// The session it was sent in, and that has not ended.
    pub(crate) session: Option<SessionId>,
    /// How many sessions it may have ended.
    pub(crate) strikes: u32,
    /// Not to be sent before.
    pub(crate) not_before: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disk {
    No,
    Writing,
    Yes,
    Failed,
}

impl Entry {
    pub(crate) fn new(fragment: Arc<Fragment>, now: Instant) -> Self {
        Self {
            header: fragment.header.clone(),
            wire_bytes: fragment.wire_bytes(),
            packets: fragment.packets,
            arrived: Some((fragment.first_arrival, now)),
            body: Some(fragment),
            disk: Disk::No,
            session: None,
            strikes: 0,
            not_before: None,
        }
    }

    pub(crate) fn restored(restored: Restored) -> Self {
        Self {
            header: restored.header,
            wire_bytes: restored.wire_bytes,
            packets: restored.packets,
            arrived: None,
            body: None,
            disk: Disk::Yes,
            session: None,
            strikes: 0,
            not_before: None,
        }
    }

    fn memory_bytes(&self) -> usize {
        self.body.as_ref().map_or(0, |body| body.memory_bytes())
    }

    fn disk_bytes(&self) -> u64 {
        if matches!(self.disk, Disk::Writing | Disk::Yes) { self.wire_bytes as u64 } else { 0 }
    }
}

/// All fragments not PERSISTED, by their time.
#[derive(Debug, Default)]
pub(crate) struct Window {
    entries: BTreeMap<u64, Entry>,
    in_memory: BTreeSet<u64>,
    /// Those that have ended a session.
    struck: BTreeSet<u64>,
    memory_bytes: usize,
    disk_bytes: u64,
    packets: u64,
}

impl Window {
    pub(crate) fn insert(&mut self, timecode_ms: u64, entry: Entry) {
        self.remove(timecode_ms);
        self.memory_bytes += entry.memory_bytes();
        self.disk_bytes += entry.disk_bytes();
        self.packets += u64::from(entry.packets);
        if entry.body.is_some() {
            self.in_memory.insert(timecode_ms);
        }
        self.entries.insert(timecode_ms, entry);
    }

    pub(crate) fn remove(&mut self, timecode_ms: u64) -> Option<Entry> {
        let entry = self.entries.remove(&timecode_ms)?;
        self.in_memory.remove(&timecode_ms);
        self.struck.remove(&timecode_ms);
        self.memory_bytes -= entry.memory_bytes();
        self.disk_bytes -= entry.disk_bytes();
        self.packets -= u64::from(entry.packets);
        Some(entry)
    }

    pub(crate) fn get(&self, timecode_ms: u64) -> Option<&Entry> {
        self.entries.get(&timecode_ms)
    }

    /// The fragment's disk state changes.
    pub(crate) fn set_disk(&mut self, timecode_ms: u64, disk: Disk) {
        if let Some(entry) = self.entries.get_mut(&timecode_ms) {
            self.disk_bytes -= entry.disk_bytes();
            entry.disk = disk;
            self.disk_bytes += entry.disk_bytes();
        }
    }

    /// The fragment is on disk: its memory is free.
    pub(crate) fn release(&mut self, timecode_ms: u64) {
        if let Some(entry) = self.entries.get_mut(&timecode_ms) {
            self.memory_bytes -= entry.memory_bytes();
            entry.body = None;
            self.in_memory.remove(&timecode_ms);
        }
    }

    /// The fragment goes out in this session.
    pub(crate) fn send(&mut self, timecode_ms: u64, session: SessionId) {
        if let Some(entry) = self.entries.get_mut(&timecode_ms) {
            entry.session = Some(session);
        }
    }

    /// A session ended: what it did not get PERSISTED waits again. Returns how many.
    pub(crate) fn requeue(&mut self, sent: impl Iterator<Item = u64>) -> u64 {
        sent.filter(|timecode_ms| {
            let entry = self.entries.get_mut(timecode_ms);
            entry.is_some_and(|entry| entry.session.take().is_some())
        })
        .count() as u64
    }

    /// The fragment may be why a session ended. Returns how many times by now.
    pub(crate) fn strike(&mut self, timecode_ms: u64, until: impl FnOnce(u32) -> Instant) -> u32 {
        let Some(entry) = self.entries.get_mut(&timecode_ms) else { return 0 };
        entry.strikes += 1;
        self.struck.insert(timecode_ms);
        entry.not_before = Some(until(entry.strikes));
        entry.strikes
    }

    /// The earliest fragment in a range that waits to be sent and may be.
    pub(crate) fn next(&self, range: impl RangeBounds<u64>, needs_disk: bool, now: Instant) -> Option<(u64, &Entry)> {
        let is_due = |entry: &Entry| {
            let is_stored = !needs_disk || matches!(entry.disk, Disk::Yes | Disk::Failed);
            entry.session.is_none() && is_stored && entry.not_before.is_none_or(|due| now >= due)
        };
        self.entries.range(range).find(|(_, entry)| is_due(entry)).map(|(timecode_ms, entry)| (*timecode_ms, entry))
    }

    /// When the next fragment that must wait may be sent.
    pub(crate) fn next_due(&self, now: Instant) -> Option<Instant> {
        let struck = self.struck.iter().filter_map(|timecode_ms| self.entries.get(timecode_ms));
        struck.filter_map(|entry| entry.not_before.filter(|due| *due > now)).min()
    }

    /// Fragments from the newest back.
    pub(crate) fn newest(&self) -> impl Iterator<Item = (u64, &Entry)> {
        self.entries.iter().rev().map(|(timecode_ms, entry)| (*timecode_ms, entry))
    }

    /// Fragments from the oldest on.
    pub(crate) fn oldest(&self) -> impl Iterator<Item = (u64, &Entry)> {
        self.entries.iter().map(|(timecode_ms, entry)| (*timecode_ms, entry))
    }

    /// Fragments in memory from the oldest on.
    pub(crate) fn in_memory(&self) -> impl Iterator<Item = (u64, &Entry)> {
        self.in_memory.iter().filter_map(|timecode_ms| Some((*timecode_ms, self.entries.get(timecode_ms)?)))
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    pub(crate) fn disk_bytes(&self) -> u64 {
        self.disk_bytes
    }

    pub(crate) fn packets(&self) -> u64 {
        self.packets
    }
}

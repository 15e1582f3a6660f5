//! The finished recordings of one stream, as the writer remembers them: 16 bytes each, so that retention needn't read
//! the directory again.

use std::{collections::VecDeque, io, path::Path};

use relay_media::UtcTime;

use crate::{
    Disk, Retention,
    name::{file_name, start_of},
    retention::Entry,
};

/// The most recordings remembered: two years of minutes, 16 MiB. Older ones stay until the next start.
const ENTRIES_MAX: usize = 1 << 20;

/// Sorted by start.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    entries: VecDeque<Entry>,
}

impl Catalog {
    /// Reads a directory, in which `running` is being written.
    pub(crate) fn read(dir: &Path, running: Option<&str>) -> io::Result<Self> {
        let mut entries = Vec::new();
        for file in std::fs::read_dir(dir)? {
            let file = file?;
            let name = file.file_name();
            let Some(start) = name.to_str().filter(|name| Some(*name) != running).and_then(start_of) else { continue };
            // Gone since it was listed: nothing to keep.
            let Ok(metadata) = file.metadata() else { continue };
            if metadata.is_file() {
                entries.push(Entry { start_millis: start.unix_millis(), bytes: metadata.len() });
            }
        }
        entries.sort_unstable_by_key(|entry| entry.start_millis);
        let newest = entries.len().saturating_sub(ENTRIES_MAX);
        Ok(Self { entries: entries.into_iter().skip(newest).collect() })
    }

    /// A recording was finished.
    pub(crate) fn add(&mut self, start: UtcTime, bytes: u64) {
        let entry = Entry { start_millis: start.unix_millis(), bytes };
        // Names follow the stream's time of day, which may step back.
        let place = self.entries.partition_point(|other| other.start_millis <= entry.start_millis);
        self.entries.insert(place, entry);
        if self.entries.len() > ENTRIES_MAX {
            self.entries.pop_front();
        }
    }

    /// Deletes what `keep` does not keep, and says how many files that were.
    pub(crate) fn apply(
        &mut self,
        keep: &Retention,
        disk: &dyn Disk,
        dir: &Path,
        now: UtcTime,
        running: u64,
    ) -> io::Result<u64> {
        let free = keep.free.and_then(|_| disk.free_bytes(dir).ok());
        let mut removed = 0;
        for _ in 0..keep.expired(self.entries.iter(), now.unix_millis(), running, free) {
            let Some(oldest) = self.entries.front() else { break };
            let start = UtcTime::from_unix_nanos(oldest.start_millis.saturating_mul(1_000_000));
            match disk.remove(&dir.join(file_name(start))) {
                Ok(()) => removed += 1,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            self.entries.pop_front();
        }
        Ok(removed)
    }
}

//! Writes what the segmenter decided. Blocking: each call is one bounded piece of work, to be run off the hot path.

use std::{
    io::{self, IoSlice},
    path::PathBuf,
    sync::Arc,
};

use relay_media::UtcTime;
use relay_mp4::{Muxer, Run, Start};

use crate::{
    Disk, DiskFile, RecordMonitor, Retention, Step, WriteError, WriteErrorKind, catalog::Catalog, error::SYNC,
    name::file_name,
};

/// When data is made durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SyncPolicy {
    /// After every fragment: a power loss costs at most one.
    #[default]
    Fragment,
    /// When a file is finished.
    Segment,
    /// When the system sees fit.
    None,
}

/// Where recordings go.
#[derive(Clone, Debug)]
pub struct Target {
    /// The directory of all recordings.
    pub dir: PathBuf,
    /// The stream, whose directory within is created when needed.
    pub stream: String,
    /// When data is made durable.
    pub sync: SyncPolicy,
    /// What is kept.
    pub keep: Retention,
}

/// What a step brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Packets now in a file.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Writes the recordings of one stream, one file at a time.
///
/// After an error the file is closed as well as can be: cut back to its last good fragment and, unless a sync failed,
/// finished. The next fragment that is written must begin a new file.
#[derive(Debug)]
pub struct Writer {
    target: Target,
    dir: PathBuf,
    disk: Arc<dyn Disk>,
    monitor: RecordMonitor,
    file: Option<OpenFile>,
    /// Read when retention first needs it.
    catalog: Option<Catalog>,
    last_retention: Option<UtcTime>,
}

#[derive(Debug)]
struct OpenFile {
    file: Box<dyn DiskFile>,
    path: PathBuf,
    start: UtcTime,
    muxer: Muxer,
    /// How much of it is durable.
    synced: u64,
}

/// How often retention looks at the disk.
const RETENTION_NANOS: i64 = 30_000_000_000;

/// How many names are tried for a file: as many milliseconds later than its beginning.
const NAMES_MAX: i64 = 1_000;

impl Writer {
    /// A writer that has touched nothing yet.
    pub fn new(target: Target, disk: Arc<dyn Disk>, monitor: RecordMonitor) -> Self {
        let dir = target.dir.join(&target.stream);
        Self { target, dir, disk, monitor, file: None, catalog: None, last_retention: None }
    }

    /// Does one step; `now` is the time of day.
    ///
    /// # Errors
    /// The disk refused; nothing of the step is written.
    pub fn perform(&mut self, step: &Step, now: UtcTime) -> Result<Written, WriteError> {
        let result = match step {
            Step::Fragment { start, runs } => self.fragment(start.as_deref(), runs, now),
            Step::Finish => self.finish().map(|()| Written::default()),
        };
        let full = result.as_ref().is_err_and(|error| error.kind() == WriteErrorKind::Full);
        if full || self.maintenance_due(now) {
            self.maintain(now);
        }
        if let Err(error) = &result {
            self.monitor.update(|stats| {
                stats.current = None;
                stats.last_error = Some(error.to_string());
            });
        }
        result
    }

    /// Whether [`maintain`](Self::maintain) is to be called though nothing is written.
    pub fn maintenance_due(&self, now: UtcTime) -> bool {
        let due = |last| now.nanos_since(last).saturating_abs() >= RETENTION_NANOS;
        !self.target.keep.is_unlimited() && self.last_retention.is_none_or(due)
    }

    /// Deletes what is not to be kept.
    pub fn maintain(&mut self, now: UtcTime) {
        self.last_retention = Some(now);
        if let Err(error) = self.retain(now) {
            tracing::warn!(dir = %self.dir.display(), %error, "can't delete old recordings");
        }
    }

    fn fragment(&mut self, start: Option<&Start>, runs: &[Run], now: UtcTime) -> Result<Written, WriteError> {
        let mut head = Vec::new();
        if let Some(start) = start {
            self.finish()?;
            head = self.create(start, now)?;
        }
        let Some(mut open) = self.file.take() else {
            return Err(WriteError::new("write", &self.dir, io::Error::other("no file is open")));
        };
        let appended = open.append(&head, runs, self.target.sync == SyncPolicy::Fragment);
        // A new file is safe only when its name is, too.
        let named = match start.is_some() && self.target.sync != SyncPolicy::None {
            true => self.disk.sync_dir(&self.dir).map_err(|error| WriteError::new(SYNC, &self.dir, error)),
            false => Ok(()),
        };
        match appended.and_then(|appended| named.map(|()| appended)) {
            Ok((written, bytes)) => {
                self.monitor.update(|stats| {
                    stats.bytes_written += bytes;
                    stats.fragments += 1;
                });
                self.file = Some(open);
                Ok(written)
            }
            Err(error) => {
                self.close_after(open, &error);
                Err(error)
            }
        }
    }

    /// Creates a file; returns the bytes that it begins with, to be written with the first fragment.
    fn create(&mut self, start: &Start, now: UtcTime) -> Result<Vec<u8>, WriteError> {
        let (muxer, head) = Muxer::new(start.clone()).map_err(|error| WriteError::mux(&self.dir, error))?;
        self.disk.create_dir(&self.dir).map_err(|error| WriteError::new("create", &self.dir, error))?;
        // A source that doesn't know the time of day yet is named after ours.
        let wanted = if start.utc.unix_nanos() > 0 { start.utc } else { now };
        let mut taken = None;
        for later in 0..NAMES_MAX {
            let start = wanted.plus_nanos(later * 1_000_000);
            let name = file_name(start);
            let path = self.dir.join(&name);
            match self.disk.create(&path) {
                Ok(file) => {
                    self.monitor.update(|stats| {
                        stats.segments += 1;
                        stats.current = Some(name);
                    });
                    self.file = Some(OpenFile { file, path, start, muxer, synced: 0 });
                    return Ok(head);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => taken = Some((path, error)),
                Err(error) => return Err(WriteError::new("create", path, error)),
            }
        }
        let (path, error) = taken.unwrap_or_else(|| (self.dir.clone(), io::ErrorKind::AlreadyExists.into()));
        Err(WriteError::new("create", path, error))
    }

    fn finish(&mut self) -> Result<(), WriteError> {
        let Some(open) = self.file.take() else { return Ok(()) };
        self.monitor.update(|stats| stats.current = None);
        let (start, sync) = (open.start, self.target.sync != SyncPolicy::None);
        let (whole, bytes) = open.finish(sync)?;
        self.monitor.update(|stats| stats.bytes_written += bytes);
        if let Some(catalog) = &mut self.catalog {
            catalog.add(start, whole);
        }
        Ok(())
    }

    /// Leaves the best that can be had of a file that could not be written.
    fn close_after(&mut self, mut open: OpenFile, error: &WriteError) {
        let synced = if error.action == SYNC { open.synced } else { open.muxer.position() };
        let keep = if open.muxer.samples() == 0 { 0 } else { synced };
        if keep == 0 {
            let _ = self.disk.remove(&open.path);
            return;
        }
        let cut = open.file.truncate(keep);
        // After a failed sync nothing is known of the file's pages, so nothing is built on them: it stays as a file
        // that was cut off, valid, and is finished by the next repair.
        let finished = cut.is_ok() && error.action != SYNC && {
            let (start, sync) = (open.start, self.target.sync != SyncPolicy::None);
            let done = open.finish(sync);
            if let (Ok((whole, _)), Some(catalog)) = (&done, &mut self.catalog) {
                catalog.add(start, *whole);
            }
            done.is_ok()
        };
        tracing::debug!(finished, "closed a recording after an error");
    }

    fn retain(&mut self, now: UtcTime) -> io::Result<()> {
        if self.target.keep.is_unlimited() {
            return Ok(());
        }
        let running = self.file.as_ref().map(|open| file_name(open.start));
        if self.catalog.is_none() {
            self.catalog = match Catalog::read(&self.dir, running.as_deref()) {
                Ok(catalog) => Some(catalog),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(error),
            };
        }
        let bytes = self.file.as_ref().map_or(0, |open| open.muxer.position());
        let Some(catalog) = &mut self.catalog else { return Ok(()) };
        let removed = catalog.apply(&self.target.keep, &*self.disk, &self.dir, now, bytes)?;
        self.monitor.update(|stats| stats.removed += removed);
        Ok(())
    }
}

impl OpenFile {
    /// Writes a fragment behind `head`; returns what is delivered, and the bytes written.
    fn append(&mut self, head: &[u8], runs: &[Run], sync: bool) -> Result<(Written, u64), WriteError> {
        let fragment = self.muxer.fragment(runs).map_err(|error| WriteError::mux(&self.path, error))?;
        let at = self.muxer.position() - head.len() as u64;
        let payloads = runs.iter().flat_map(|run| &run.samples).map(|sample| &sample.packet.payload);
        let written = Written {
            packets: payloads.clone().count() as u64,
            bytes: payloads.clone().map(|payload| payload.len() as u64).sum(),
        };
        let boxes = [head, fragment.header()].into_iter().filter(|bytes| !bytes.is_empty());
        let mut slices: Vec<_> = boxes.chain(payloads.map(|payload| &payload[..])).map(IoSlice::new).collect();
        self.file.write_at(at, &mut slices).map_err(|error| WriteError::new("write", &self.path, error))?;
        drop(slices);
        let bytes = (head.len() + fragment.len()) as u64;
        if sync {
            self.sync()?;
        }
        self.muxer.commit(fragment);
        if sync {
            self.synced = self.muxer.position();
        }
        Ok((written, bytes))
    }

    fn sync(&mut self) -> Result<(), WriteError> {
        self.file.sync().map_err(|error| WriteError::new(SYNC, &self.path, error))
    }

    /// Makes it an ordinary file; returns its size, and the bytes written.
    fn finish(self, sync: bool) -> Result<(u64, u64), WriteError> {
        let Self { mut file, path, muxer, .. } = self;
        let failed = |action| {
            let path = path.clone();
            move |error| WriteError::new(action, path, error)
        };
        let finale = muxer.finish().map_err(io::Error::other).map_err(failed("lay out"))?;
        let written = file.write_at(finale.at, &mut [IoSlice::new(&finale.moov)]);
        if let Err(error) = written {
            // Without room for the index it stays a running file, which plays as well.
            let _ = file.truncate(finale.at);
            return Err(failed("finish")(error));
        }
        if sync {
            // The index must be on the disk before the header says that it is.
            file.sync().map_err(failed(SYNC))?;
        }
        file.write_at(0, &mut [IoSlice::new(&finale.head)]).map_err(failed("finish"))?;
        if sync {
            file.sync().map_err(failed(SYNC))?;
        }
        let whole = finale.at + finale.moov.len() as u64;
        Ok((whole, (finale.moov.len() + finale.head.len()) as u64))
    }
}

//! What a recorder has done so far, for metrics and the API.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counters of one recorder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordStats {
    /// Bytes written into files, indexes included.
    pub bytes_written: u64,
    /// Fragments written.
    pub fragments: u64,
    /// Files begun.
    pub segments: u64,
    /// Files that retention deleted.
    pub removed: u64,
    /// The name of the file being written.
    pub current: Option<String>,
    /// The last failure in plain words.
    pub last_error: Option<String>,
}

/// Reads the counters of a [`Writer`](crate::Writer) from anywhere.
#[derive(Clone, Debug, Default)]
pub struct RecordMonitor(Arc<Mutex<RecordStats>>);

impl RecordMonitor {
    /// The counters now.
    pub fn stats(&self) -> RecordStats {
        self.lock().clone()
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut RecordStats)) {
        change(&mut self.lock());
    }

    /// A panic while counting leaves counters that are still counters.
    fn lock(&self) -> MutexGuard<'_, RecordStats> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

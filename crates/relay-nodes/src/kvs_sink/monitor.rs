//! What a Kinesis sink shows beside the account that every sink has.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use relay_kvs::Seen;

/// Reads a sink's producer from elsewhere; cloned freely.
#[derive(Clone, Debug)]
pub struct KvsMonitor {
    stream_name: Arc<str>,
    seen: Arc<Mutex<KvsSeen>>,
}

/// A sink's producer, half a second ago at most.
#[derive(Clone, Debug, Default)]
pub struct KvsSeen {
    /// What it counts, and what it knows.
    pub producer: Seen,
    /// For how long the credentials in use are good; `None` if for ever, or not known yet.
    pub credentials_left: Option<Duration>,
}

impl KvsMonitor {
    pub(super) fn new(stream_name: &str) -> Self {
        Self { stream_name: stream_name.into(), seen: Arc::default() }
    }

    /// The Kinesis Video stream's name.
    pub fn stream_name(&self) -> &str {
        &self.stream_name
    }

    /// What it is doing. Empty before it runs.
    pub fn seen(&self) -> KvsSeen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set(&self, producer: Seen, now: Instant) {
        let credentials_left = producer.credentials_end.map(|end| end.saturating_duration_since(now));
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = KvsSeen { producer, credentials_left };
    }
}

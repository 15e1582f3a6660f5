//! Kinesis sinks from the configuration.

use std::time::Duration;

use relay_kvs::{
    Create, SpoolOptions,
    proto::{Leak, Settings},
};
use relay_nodes::{KvsClouds, KvsMonitor, KvsOptions, KvsSink};

use crate::config::{self, Kvs};

/// A Kinesis sink: what it shows, and how often as a line of metrics.
#[derive(Clone, Debug)]
pub(crate) struct KvsShown {
    /// Its stream.
    pub(crate) stream: String,
    /// Its own name.
    pub(crate) sink: String,
    /// What it is doing.
    pub(crate) monitor: KvsMonitor,
    /// How often a line of metrics is written.
    pub(crate) emf: Option<config::Time>,
}

impl KvsShown {
    /// How much media waits in it.
    pub(crate) fn buffered(&self) -> Duration {
        Duration::from_millis(self.monitor.seen().producer.stats.buffered_ms)
    }
}

/// The sink of this name that `kvs` asks for, and what shows it.
pub(super) fn sink(kvs: &Kvs, stream: &str, name: &str, clouds: &KvsClouds) -> (KvsSink, KvsShown) {
    let sink = KvsSink::new(options(kvs), clouds.clone());
    let monitor = sink.monitor();
    (sink, KvsShown { stream: stream.to_owned(), sink: name.to_owned(), monitor, emf: kvs.emf })
}

fn options(kvs: &Kvs) -> KvsOptions {
    let mut options = KvsOptions { region: kvs.region.clone(), ..KvsOptions::new(&kvs.stream_name) };
    options.endpoint = kvs.endpoint.clone();
    options.create = kvs.create.as_ref().map(|create| Create {
        retention_hours: u32::try_from(create.retention.0.as_secs() / 3_600).unwrap_or(u32::MAX),
        tags: create.tags.clone().into_iter().collect(),
        kms_key_id: create.kms_key.clone(),
    });
    options.settings = Settings {
        fragment: kvs.fragment.0,
        window_time: kvs.queue.max_time.0,
        window_bytes: usize::try_from(kvs.queue.max_bytes.0).unwrap_or(usize::MAX),
        leak: match kvs.queue.leak {
            config::Leak::Keep => Leak::Oldest,
            config::Leak::Live => Leak::AllButNewest,
        },
        ..options.settings
    };
    options.spool = kvs.spool.as_ref().map(|spool| SpoolOptions {
        dir: options.spool_dir(&spool.dir),
        max_bytes: spool.max_bytes.0,
        mode: spool.mode,
    });
    options
}

//! From what the producer tells to the state and the counters that every sink has.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use relay_graph::{SinkContext, SinkMonitor};
use relay_kvs::{
    Event,
    proto::{DropReason, Failure, State, Stats},
};

/// What of the producer's counters was told already.
pub(super) struct Account {
    restored: u64,
    persisted: u64,
    bytes: u64,
    dropped: BTreeMap<DropReason, u64>,
    logged: BTreeMap<&'static str, Instant>,
    /// Failures since a fragment was PERSISTED.
    failures: u32,
    is_sending: bool,
}

/// One cause is logged no more often than this: outages are long, and tries are many.
const LOG_PERIOD: Duration = Duration::from_secs(10);

/// Packets that are left on disk for the next run.
const SPOOLED: &str = "spooled";

impl Account {
    pub(super) fn new() -> Self {
        let (dropped, logged) = (BTreeMap::new(), BTreeMap::new());
        Self { restored: 0, persisted: 0, bytes: 0, dropped, logged, failures: 0, is_sending: false }
    }

    /// Logs what happened, and puts it into the sink's state.
    pub(super) fn hear(&mut self, event: &Event, ctx: &SinkContext) {
        match event {
            Event::Persisted { .. } | Event::Done => {}
            Event::Failed(failure) => self.failed(failure, ctx),
            Event::SetAside { timecode_ms } => {
                if self.may_log("set_aside", ctx) {
                    tracing::warn!(timecode_ms, "the service refuses this fragment for good: it was set aside");
                }
            }
            Event::Spool(error) => {
                ctx.monitor.warn(format!("the spool can't be used: {error}"));
                if self.may_log("spool", ctx) {
                    tracing::warn!(%error, "the spool can't be used; live goes on from memory");
                }
            }
        }
    }

    fn failed(&mut self, failure: &Failure, ctx: &SinkContext) {
        self.failures = self.failures.saturating_add(1);
        self.is_sending = false;
        if self.may_log(failure.cause.as_str(), ctx) {
            let (cause, failures) = (failure.cause.as_str(), self.failures);
            tracing::warn!(cause, failures, "not sending, trying again: {failure}");
        }
        match failure.cause.needs_person() {
            true => ctx.monitor.paused(failure.to_string()),
            false => ctx.monitor.backoff(failure.to_string()),
        }
    }

    /// Brings the sink's counters and state up to date.
    pub(super) fn settle(&mut self, stats: &Stats, monitor: &SinkMonitor) {
        monitor.restored(stats.packets_restored.saturating_sub(self.restored));
        self.restored = stats.packets_restored;
        let packets = stats.packets_persisted.saturating_sub(self.persisted);
        monitor.delivered(packets, stats.bytes_persisted.saturating_sub(self.bytes));
        (self.persisted, self.bytes) = (stats.packets_persisted, stats.bytes_persisted);
        for (reason, count) in &stats.packets_dropped {
            let before = self.dropped.insert(*reason, *count).unwrap_or(0);
            monitor.dropped(reason.as_str(), count.saturating_sub(before));
        }
        // A connection is not enough: after a failure a fragment has to be PERSISTED.
        if packets > 0 || stats.attempt == 0 && matches!(stats.state, State::Live | State::Backfill) {
            self.sends();
            monitor.running();
        }
    }

    fn sends(&mut self) {
        if !std::mem::replace(&mut self.is_sending, true) {
            let failures = std::mem::take(&mut self.failures);
            tracing::info!(failures, "sending to Kinesis Video Streams");
        }
    }

    /// At the end: what is left is on disk for the next run.
    pub(super) fn keep(&self, stats: &Stats, monitor: &SinkMonitor) {
        if stats.packets_buffered > 0 {
            tracing::info!(
                packets = stats.packets_buffered,
                bytes = stats.disk_bytes,
                "what is not PERSISTED waits in the spool for the next run"
            );
        }
        monitor.dropped(SPOOLED, stats.packets_buffered);
    }

    fn may_log(&mut self, cause: &'static str, ctx: &SinkContext) -> bool {
        let now = ctx.clock.now();
        let may = self.logged.get(cause).is_none_or(|last| now.saturating_duration_since(*last) >= LOG_PERIOD);
        if may {
            self.logged.insert(cause, now);
        }
        may
    }
}

/// For logs.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

//! CloudWatch embedded metric format: one line of JSON per report, for stdout.

use relay_media::UtcTime;
use serde_json::{Value, json};

use super::stats::Stats;

/// The namespace of our metrics.
const NAMESPACE: &str = "relayd/kvs";

/// Makes lines of metrics. Counters are told as what was added since the last line.
#[derive(Clone, Debug, Default)]
pub struct Emf {
    last: Totals,
}

#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    persisted: u64,
    resent: u64,
    dropped: u64,
    reconnects: u64,
    errors: u64,
    calls: u64,
}

impl Emf {
    /// A line for what is true at this time of day, without its end of line.
    pub fn line(&mut self, stream: &str, time: UtcTime, stats: &Stats) -> String {
        let now = Totals {
            persisted: stats.fragments_persisted,
            resent: stats.fragments_resent,
            dropped: stats.packets_dropped.values().sum(),
            reconnects: stats.reconnects.values().sum(),
            errors: stats.error_acks.values().sum(),
            calls: stats.puts,
        };
        let last = std::mem::replace(&mut self.last, now);
        let lag_ms = stats.persisted_lag.map(|lag| u64::try_from(lag.as_millis()).unwrap_or(u64::MAX));
        let metrics = [
            ("PersistedLag", "Milliseconds", lag_ms),
            ("BufferedTime", "Milliseconds", Some(stats.buffered_ms)),
            ("BufferedMemory", "Bytes", Some(stats.memory_bytes as u64)),
            ("BufferedDisk", "Bytes", Some(stats.disk_bytes)),
            ("FragmentsPersisted", "Count", Some(now.persisted.saturating_sub(last.persisted))),
            ("FragmentsResent", "Count", Some(now.resent.saturating_sub(last.resent))),
            ("PacketsDropped", "Count", Some(now.dropped.saturating_sub(last.dropped))),
            ("Reconnects", "Count", Some(now.reconnects.saturating_sub(last.reconnects))),
            ("ErrorAcks", "Count", Some(now.errors.saturating_sub(last.errors))),
            ("PutMediaCalls", "Count", Some(now.calls.saturating_sub(last.calls))),
        ];
        let known = || metrics.iter().filter_map(|(name, unit, value)| Some((*name, *unit, (*value)?)));
        let declared: Vec<Value> = known().map(|(name, unit, _)| json!({"Name": name, "Unit": unit})).collect();
        let directive = json!({"Namespace": NAMESPACE, "Dimensions": [["StreamName"]], "Metrics": declared});
        let mut line = json!({
            "_aws": {"Timestamp": time.unix_millis(), "CloudWatchMetrics": [directive]},
            "StreamName": stream,
        });
        if let Some(members) = line.as_object_mut() {
            members.extend(known().map(|(name, _, value)| (name.to_owned(), value.into())));
        }
        line.to_string()
    }
}

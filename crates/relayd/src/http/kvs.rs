//! What is told of a Kinesis sink beside what is told of every sink: as JSON, and as metrics.

use std::{collections::BTreeMap, time::Duration};

use relay_kvs::proto::Stats;
use relay_nodes::KvsSeen;
use serde::Serialize;

use super::{
    App,
    api::millis,
    metrics::{Seconds, Text},
};
use crate::nodes::KvsShown;

/// The Kinesis sink of this name.
pub(super) fn find<'a>(app: &'a App, stream: &str, sink: &str) -> Option<&'a KvsShown> {
    app.0.kvs.iter().find(|shown| shown.stream == stream && shown.sink == sink)
}

/// `sinks[].kvs` of the API.
#[derive(Debug, Serialize)]
pub(super) struct Kvs {
    stream_name: String,
    /// `idle`, `connecting`, `live`, `backfill` or `backoff`.
    activity: &'static str,
    attempt: u32,
    persisted_lag_ms: Option<u64>,
    /// From the first to the last frame that is not PERSISTED.
    pub(super) buffered_ms: u64,
    buffered_fragments: u64,
    memory_bytes: usize,
    spool_bytes: u64,
    fragments_persisted: u64,
    fragments_resent: u64,
    acks: BTreeMap<&'static str, u64>,
    error_acks: BTreeMap<u32, u64>,
    ack_latency_ms: BTreeMap<&'static str, u64>,
    put_media_calls: u64,
    reconnects: BTreeMap<&'static str, u64>,
    credentials_left_s: Option<u64>,
    clock_skew_s: i64,
    set_aside: Vec<SetAside>,
    /// What a person should know of, in plain words.
    problems: Vec<String>,
}

/// A fragment that the service refuses for good.
#[derive(Debug, Serialize)]
struct SetAside {
    timecode_ms: u64,
    packets: u32,
    bytes: usize,
    error: u32,
}

impl Kvs {
    pub(super) fn new(shown: &KvsShown) -> Self {
        Self::told(shown.monitor.stream_name(), shown.monitor.seen())
    }

    fn told(stream_name: &str, seen: KvsSeen) -> Self {
        let KvsSeen { producer, credentials_left } = seen;
        let problems = producer.problems();
        let stats = producer.stats;
        let aside = stats.aside.iter().map(|aside| SetAside {
            timecode_ms: aside.timecode_ms,
            packets: aside.packets,
            bytes: aside.bytes,
            error: aside.error,
        });
        Self {
            stream_name: stream_name.to_owned(),
            activity: stats.state.as_str(),
            attempt: stats.attempt,
            persisted_lag_ms: stats.persisted_lag.map(millis),
            buffered_ms: stats.buffered_ms,
            buffered_fragments: stats.fragments_buffered,
            memory_bytes: stats.memory_bytes,
            spool_bytes: stats.disk_bytes,
            fragments_persisted: stats.fragments_persisted,
            fragments_resent: stats.fragments_resent,
            set_aside: aside.collect(),
            acks: stats.acks,
            error_acks: stats.error_acks,
            ack_latency_ms: stats.ack_latency.into_iter().map(|(event, latency)| (event, millis(latency))).collect(),
            put_media_calls: stats.puts,
            reconnects: stats.reconnects,
            credentials_left_s: credentials_left.map(|left| left.as_secs()),
            clock_skew_s: producer.skew_seconds,
            problems,
        }
    }
}

/// `relayd_kvs_*` of one sink.
pub(super) fn metrics(text: &mut Text, shown: &KvsShown) {
    samples(text, [("stream", shown.stream.as_str()), ("sink", shown.sink.as_str())], shown.monitor.seen());
}

fn samples(text: &mut Text, name: [(&str, &str); 2], seen: KvsSeen) {
    let KvsSeen { producer, credentials_left } = seen;
    let stats = producer.stats;
    by_label(text, name, &stats);
    if let Some(lag) = stats.persisted_lag {
        let help = "Of the fragment PERSISTED last: how long ago its first frame had arrived.";
        text.sample("relayd_kvs_persisted_lag_seconds", "gauge", help, &name, Seconds(lag));
    }
    if let Some(left) = credentials_left {
        let help = "For how long the credentials in use are good.";
        text.sample("relayd_kvs_credentials_seconds", "gauge", help, &name, Seconds(left));
    }
    let buffered = Duration::from_millis(stats.buffered_ms);
    let help = "Media time from the first to the last frame that is not PERSISTED.";
    text.sample("relayd_kvs_buffered_seconds", "gauge", help, &name, Seconds(buffered));
    let set_aside = stats.packets_dropped.get(&relay_kvs::proto::DropReason::Poison).copied().unwrap_or(0);
    for (metric, kind, help, value) in [
        ("relayd_kvs_buffered_fragments", "gauge", "Fragments that are not PERSISTED.", stats.fragments_buffered),
        ("relayd_kvs_memory_bytes", "gauge", "Bytes of media in memory.", stats.memory_bytes as u64),
        ("relayd_kvs_spool_bytes", "gauge", "Bytes of media on disk.", stats.disk_bytes),
        ("relayd_kvs_fragments_persisted_total", "counter", "Fragments PERSISTED.", stats.fragments_persisted),
        ("relayd_kvs_fragments_resent_total", "counter", "Fragments sent again.", stats.fragments_resent),
        ("relayd_kvs_bytes_total", "counter", "Bytes PERSISTED.", stats.bytes_persisted),
        ("relayd_kvs_put_media_calls_total", "counter", "PutMedia calls begun.", stats.puts),
        ("relayd_kvs_acks_ignored_total", "counter", "Acknowledgements of nothing sent.", stats.acks_ignored),
        ("relayd_kvs_acks_malformed_total", "counter", "Acknowledgements that are none.", stats.acks_malformed),
        ("relayd_kvs_set_aside_packets_total", "counter", "Packets that the service refuses for good.", set_aside),
    ] {
        text.sample(metric, kind, help, &name, value);
    }
}

fn by_label(text: &mut Text, name: [(&str, &str); 2], stats: &Stats) {
    for (event, count) in &stats.acks {
        let labels = [name[0], name[1], ("event", *event)];
        text.sample("relayd_kvs_acks_total", "counter", "Acknowledgements, by what they say.", &labels, *count);
    }
    // The ids are those of the service's documentation, and few.
    for (id, count) in &stats.error_acks {
        let labels = [name[0], name[1], ("id", &id.to_string())];
        text.sample("relayd_kvs_error_acks_total", "counter", "Error acknowledgements.", &labels, *count);
    }
    for (event, latency) in &stats.ack_latency {
        let labels = [name[0], name[1], ("event", *event)];
        let help = "From the last byte of a fragment to its acknowledgement, of the latest; buffering from the first.";
        text.sample("relayd_kvs_ack_latency_seconds", "gauge", help, &labels, Seconds(*latency));
    }
    for (cause, count) in &stats.reconnects {
        let labels = [name[0], name[1], ("cause", *cause)];
        let help = "Connections that ended or never came to be, by cause.";
        text.sample("relayd_kvs_reconnects_total", "counter", help, &labels, *count);
    }
}

#[cfg(test)]
mod tests {
    use relay_kvs::{
        Seen,
        proto::{Aside, DropReason, State},
    };
    use serde_json::json;

    use super::*;

    fn seen() -> KvsSeen {
        let ms = Duration::from_millis;
        let stats = Stats {
            state: State::Backfill,
            attempt: 2,
            failure: "the connection broke: PutMedia".into(),
            acks: BTreeMap::from([("persisted", 7)]),
            error_acks: BTreeMap::from([(4006, 1)]),
            ack_latency: BTreeMap::from([("persisted", ms(326))]),
            reconnects: BTreeMap::from([("reset", 3)]),
            persisted_lag: Some(ms(2_331)),
            packets_dropped: BTreeMap::from([(DropReason::Poison, 50)]),
            buffered_ms: 4_000,
            fragments_buffered: 2,
            memory_bytes: 1_000,
            disk_bytes: 2_000,
            aside: [Aside { timecode_ms: 5, packets: 50, bytes: 900, error: 4006 }].into(),
            ..Stats::default()
        };
        let producer = Seen { stats, skew_seconds: -3, ..Seen::default() };
        KvsSeen { producer, credentials_left: Some(Duration::from_secs(900)) }
    }

    #[test]
    fn the_api_tells_what_the_producer_does() {
        let told = serde_json::to_value(Kvs::told("front", seen())).expect("JSON");
        for (key, value) in [
            ("stream_name", json!("front")),
            ("activity", json!("backfill")),
            ("attempt", json!(2)),
            ("persisted_lag_ms", json!(2331)),
            ("buffered_ms", json!(4000)),
            ("buffered_fragments", json!(2)),
            ("memory_bytes", json!(1000)),
            ("spool_bytes", json!(2000)),
            ("acks", json!({"persisted": 7})),
            ("error_acks", json!({"4006": 1})),
            ("ack_latency_ms", json!({"persisted": 326})),
            ("reconnects", json!({"reset": 3})),
            ("credentials_left_s", json!(900)),
            ("clock_skew_s", json!(-3)),
            ("set_aside", json!([{"timecode_ms": 5, "packets": 50, "bytes": 900, "error": 4006}])),
        ] {
            assert_eq!(told[key], value, "{key}");
        }
        assert_eq!(told["problems"].as_array().map(Vec::len), Some(3), "{told}");
    }

    #[test]
    fn the_metrics_tell_it_too() {
        let mut text = Text::default();
        samples(&mut text, [("stream", "yard"), ("sink", "cloud")], seen());
        let text = text.finish();
        for line in [
            "relayd_kvs_acks_total{stream=\"yard\",sink=\"cloud\",event=\"persisted\"} 7",
            "relayd_kvs_error_acks_total{stream=\"yard\",sink=\"cloud\",id=\"4006\"} 1",
            "relayd_kvs_ack_latency_seconds{stream=\"yard\",sink=\"cloud\",event=\"persisted\"} 0.326",
            "relayd_kvs_reconnects_total{stream=\"yard\",sink=\"cloud\",cause=\"reset\"} 3",
            "relayd_kvs_persisted_lag_seconds{stream=\"yard\",sink=\"cloud\"} 2.331",
            "relayd_kvs_credentials_seconds{stream=\"yard\",sink=\"cloud\"} 900.000",
            "relayd_kvs_spool_bytes{stream=\"yard\",sink=\"cloud\"} 2000",
            "relayd_kvs_set_aside_packets_total{stream=\"yard\",sink=\"cloud\"} 50",
        ] {
            assert!(text.lines().any(|told| told == line), "{line} in {text}");
        }
    }
}

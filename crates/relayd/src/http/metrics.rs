//! `/metrics`: Prometheus' text format 0.0.4. Metric and label names are a contract; label values are stream and sink
//! names and fixed words, so that their number is bounded.

use std::{
    collections::BTreeMap,
    fmt::{Display, Write},
    time::Duration,
};

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use relay_graph::{SinkSnapshot, SourceState, StreamSnapshot};

use super::{App, kvs};
use crate::{allocator, nodes::KvsShown, process::Process};

/// Everything, read at this moment.
pub(super) async fn metrics(State(app): State<App>) -> Response {
    let mut text = Text::default();
    let labels =
        [("version", env!("CARGO_PKG_VERSION")), ("allocator", allocator::NAME), ("scheduler", app.0.scheduler)];
    text.sample("relayd_build_info", "gauge", "What is running.", &labels, 1);
    streams(&mut text, &app);
    app.0.kvs.iter().for_each(|shown| kvs::metrics(&mut text, shown));
    whep(&mut text, &app);
    process(&mut text, Process::read());
    for figure in allocator::figures() {
        text.sample(figure.name, figure.kind, figure.help, &[], figure.value);
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text.finish()).into_response()
}

fn streams(text: &mut Text, app: &App) {
    for stream in &app.0.pipeline.snapshot() {
        source(text, stream);
        for sink in &stream.sinks {
            let held = kvs::find(app, &stream.name, &sink.name).map(KvsShown::buffered);
            self::sink(text, &stream.name, sink, held.unwrap_or_default());
        }
    }
}

fn source(text: &mut Text, stream: &StreamSnapshot) {
    let source = &stream.source;
    let name = [("stream", stream.name.as_str())];
    let up = u8::from(source.state == SourceState::Live);
    text.sample("relayd_stream_up", "gauge", "1 while the source is live.", &name, up);
    text.sample("relayd_source_connects_total", "counter", "Times the source became live.", &name, source.connects);
    for (reason, count) in &source.failures {
        let labels = [name[0], ("reason", *reason)];
        text.sample("relayd_source_failures_total", "counter", "Failed tries and lost connections.", &labels, *count);
    }
    for (kind, totals) in [("video", source.video), ("audio", source.audio)] {
        let labels = [name[0], ("kind", kind)];
        text.sample("relayd_source_packets_total", "counter", "Pictures and audio frames.", &labels, totals.packets);
        text.sample("relayd_source_bytes_total", "counter", "Bytes of media.", &labels, totals.bytes);
    }
    let help = "Breaks in the timeline.";
    text.sample("relayd_source_discontinuities_total", "counter", help, &name, source.discontinuities);
    for (quirk, count) in &source.quirks {
        let labels = [name[0], ("quirk", *quirk)];
        text.sample("relayd_source_quirks_total", "counter", "Oddities of the peer, tolerated.", &labels, *count);
    }
    text.sample("relayd_ring_bytes", "gauge", "Bytes of media in the ring.", &name, stream.ring.bytes);
    text.sample("relayd_ring_packets", "gauge", "Packets in the ring.", &name, stream.ring.packets);
    let help = "Groups of pictures too large for the ring, which leave no point to join at.";
    text.sample("relayd_ring_oversized_gops_total", "counter", help, &name, stream.ring.oversized_gops);
    let help = "Key frames asked of the source; requests before one comes count as one.";
    text.sample("relayd_key_frame_requests_total", "counter", help, &name, stream.ring.key_frame_requests);
}

fn sink(text: &mut Text, stream: &str, sink: &SinkSnapshot, held: Duration) {
    let labels = [("stream", stream), ("sink", sink.name.as_str())];
    let help = "Packets written, sent or persisted.";
    text.sample("relayd_sink_packets_total", "counter", help, &labels, sink.packets_out);
    let help = "Packets that were to be delivered: delivered, dropped or buffered.";
    text.sample("relayd_sink_received_packets_total", "counter", help, &labels, sink.packets_in);
    for (reason, count) in &sink.packets_dropped {
        let labels = [labels[0], labels[1], ("reason", *reason)];
        text.sample("relayd_sink_dropped_packets_total", "counter", "Packets lost.", &labels, *count);
    }
    let help = "Packets on their way.";
    text.sample("relayd_sink_buffered_packets", "gauge", help, &labels, sink.packets_buffered);
    let help = "Media time by which the sink is behind its source.";
    text.sample("relayd_sink_lag_seconds", "gauge", help, &labels, Seconds(sink.lag.max(held)));
    text.sample("relayd_sink_restarts_total", "counter", "Runs that failed.", &labels, sink.restarts);
    if sink.kind == "record" {
        text.sample("relayd_record_bytes_total", "counter", "Bytes of media recorded.", &labels, sink.bytes_out);
    }
}

fn whep(text: &mut Text, app: &App) {
    let whep = &app.0.whep;
    for stream in app.0.pipeline.snapshot() {
        let name = [("stream", stream.name.as_str())];
        let viewers = whep.count(&stream.name);
        let help = "Viewers over WHEP, those that are connecting included.";
        text.sample("relayd_webrtc_viewers", "gauge", help, &name, viewers);
        let Some(watch) = whep.watch(&stream.name) else { continue };
        let help = "Viewers that receive media.";
        text.sample("relayd_webrtc_connected_viewers", "gauge", help, &name, watch.connected());
        for (outcome, count) in watch.ends() {
            let labels = [name[0], ("outcome", outcome)];
            text.sample("relayd_webrtc_sessions_total", "counter", "Sessions that ended, by how.", &labels, count);
        }
    }
    if let Some(drops) = whep.port_drops() {
        let help = "Datagrams that were for nobody, or that could not be taken or sent.";
        for (reason, count) in [
            ("unknown_session", drops.unknown_session),
            ("unknown_address", drops.unknown_address),
            ("malformed", drops.malformed),
            ("flood", drops.flood),
            ("send_buffer_full", drops.send_buffer_full),
            ("unreachable", drops.unreachable),
        ] {
            text.sample("relayd_webrtc_port_dropped_total", "counter", help, &[("reason", reason)], count);
        }
    }
    for ((stream, outcome), count) in whep.offers() {
        let labels = [("stream", stream.as_str()), ("outcome", outcome)];
        text.sample("relayd_webrtc_offers_total", "counter", "What became of viewers' offers.", &labels, count);
    }
    for ((method, status), count) in whep.requests() {
        let labels = [("method", method), ("status", &status.to_string())];
        text.sample("relayd_whep_requests_total", "counter", "Requests to /whep.", &labels, count);
    }
}

fn process(text: &mut Text, process: Process) {
    let Process { cpu, started, resident_bytes, virtual_bytes, open_fds, max_fds, threads } = process;
    let help = "Processor time spent, in user and system mode.";
    text.optional("process_cpu_seconds_total", "counter", help, cpu.map(Seconds));
    text.optional(
        "process_start_time_seconds",
        "gauge",
        "When it started, since the Unix epoch.",
        started.map(Seconds),
    );
    text.optional("process_resident_memory_bytes", "gauge", "Memory held in RAM.", resident_bytes);
    text.optional("process_virtual_memory_bytes", "gauge", "Address space taken.", virtual_bytes);
    text.optional("process_open_fds", "gauge", "Open descriptors.", open_fds);
    text.optional("process_max_fds", "gauge", "Descriptors it may open.", max_fds);
    text.optional("process_threads", "gauge", "Threads.", threads);
}

/// Samples by metric: the format wants all samples of a metric together.
#[derive(Default)]
pub(super) struct Text {
    metrics: BTreeMap<&'static str, String>,
}

impl Text {
    fn optional(&mut self, name: &'static str, kind: &str, help: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.sample(name, kind, help, &[], value);
        }
    }

    pub(super) fn sample(
        &mut self,
        name: &'static str,
        kind: &str,
        help: &str,
        labels: &[(&str, &str)],
        value: impl Display,
    ) {
        let text = self.metrics.entry(name).or_insert_with(|| format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        text.push_str(name);
        for (index, (label, value)) in labels.iter().enumerate() {
            text.push(if index == 0 { '{' } else { ',' });
            text.push_str(label);
            text.push_str("=\"");
            for c in value.chars() {
                match c {
                    '\\' => text.push_str("\\\\"),
                    '"' => text.push_str("\\\""),
                    '\n' => text.push_str("\\n"),
                    c => text.push(c),
                }
            }
            text.push('"');
        }
        text.push_str(if labels.is_empty() { " " } else { "} " });
        // Writing into a String does not fail.
        let _ = writeln!(text, "{value}");
    }

    pub(super) fn finish(self) -> String {
        self.metrics.into_values().collect()
    }
}

/// A duration as decimal seconds, exactly.
pub(super) struct Seconds(pub(super) Duration);

impl Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:03}", self.0.as_secs(), self.0.subsec_millis())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_a_metric_stand_together_and_labels_are_escaped() {
        let mut text = Text::default();
        for stream in ["a\"b\\c\n", "d"] {
            text.sample("m_total", "counter", "Help.", &[("stream", stream), ("kind", "video")], 1);
            text.sample("g", "gauge", "Help.", &[], Seconds(Duration::from_millis(40)));
        }
        let expected = "# HELP g Help.\n# TYPE g gauge\ng 0.040\ng 0.040\n\
            # HELP m_total Help.\n# TYPE m_total counter\n\
            m_total{stream=\"a\\\"b\\\\c\\n\",kind=\"video\"} 1\nm_total{stream=\"d\",kind=\"video\"} 1\n";
        assert_eq!(text.finish(), expected);
    }
}

//! What a crowd saw, as figures, as JSON and as a table.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    tally::{Seen, millis, percentile},
    viewer::Viewer,
};

/// What one viewer saw. Counters are those of the window (see [`Crowd::begin_window`](super::Crowd::begin_window)).
#[derive(Clone, Debug, Default)]
pub struct ViewerReport {
    /// From asking to having the answer; with Janus, to having answered.
    pub answer: Option<Duration>,
    /// From asking to ICE and DTLS being up.
    pub connected: Option<Duration>,
    /// From asking to the first packet of the first whole key frame.
    pub first_key: Option<Duration>,
    /// From asking to the last packet of the first whole key frame.
    pub first_key_whole: Option<Duration>,
    /// How far behind the camera's stamp a player that plays by the RTP timestamps is 2 s after asking.
    pub lag_after_2s: Option<Duration>,
    /// How far behind it is now.
    pub lag: Option<Duration>,
    /// The most that it was behind.
    pub most_lag: Duration,
    /// Access units with all their packets.
    pub whole: u64,
    /// Access units of which packets are missing.
    pub incomplete: u64,
    /// Whole key frames.
    pub key_frames: u64,
    /// Whole, and so is all that they refer to.
    pub shown: u64,
    /// Whole, behind a gap and before a key frame.
    pub orphans: u64,
    /// Stamp counters missing between whole units, from when it had caught up with live.
    pub lost: u64,
    /// Stamp counters missing before.
    pub skipped_joining: u64,
    /// Stamp counters that had come before.
    pub repeated: u64,
    /// Whole units without a stamp.
    pub unstamped: u64,
    /// Pictures that stood for more than 200 ms.
    pub freezes: u64,
    /// The longest that a picture stood.
    pub longest_gap: Duration,
    /// RTP packets since it joined.
    pub packets: u64,
    /// Bytes of UDP payload since it joined.
    pub bytes: u64,
    /// Why it ended, if it did.
    pub ended: Option<String>,
}

/// What all of them saw.
#[derive(Clone, Debug, Default)]
pub struct CrowdReport {
    /// Each viewer that had an answer.
    pub viewers: Vec<ViewerReport>,
    /// Joins that failed, in words.
    pub failures: Vec<String>,
    /// How long the window is.
    pub window: Duration,
    /// CPU time of this process within it.
    pub cpu: Duration,
    pub(crate) latencies: Vec<i64>,
    pub(crate) whole_latencies: Vec<i64>,
}

impl ViewerReport {
    pub(crate) fn of(viewer: &Viewer) -> Self {
        let since = |at: i64| span(at - viewer.began);
        let Seen { whole, incomplete, keys, shown, orphans, unstamped, lost, skipped_joining, .. } = viewer.tally.seen;
        let Seen { repeated, freezes, longest_gap, most_lag, .. } = viewer.tally.seen;
        Self {
            answer: Some(since(viewer.answered)),
            connected: viewer.connected.map(since),
            first_key: viewer.tally.first_key.map(|(first, _)| since(first)),
            first_key_whole: viewer.tally.first_key.map(|(_, last)| since(last)),
            lag_after_2s: viewer.tally.lag_after_2s.map(span),
            lag: viewer.tally.lag.map(span),
            most_lag: span(most_lag),
            whole,
            incomplete,
            key_frames: keys,
            shown,
            orphans,
            lost,
            skipped_joining,
            repeated,
            unstamped,
            freezes,
            longest_gap: span(longest_gap),
            packets: viewer.packets,
            bytes: viewer.bytes,
            ended: viewer.ended.clone(),
        }
    }

    /// One line of JSON.
    pub fn json(&self) -> Value {
        let ms = |span: Duration| span.as_secs_f64() * 1_000.0;
        json!({
            "answer_ms": self.answer.map(ms), "connected_ms": self.connected.map(ms),
            "first_key_ms": self.first_key.map(ms), "first_key_whole_ms": self.first_key_whole.map(ms),
            "lag_after_2s_ms": self.lag_after_2s.map(ms), "lag_ms": self.lag.map(ms), "most_lag_ms": ms(self.most_lag),
            "whole": self.whole, "incomplete": self.incomplete, "key_frames": self.key_frames, "shown": self.shown,
            "orphans": self.orphans, "lost": self.lost, "skipped_joining": self.skipped_joining,
            "repeated": self.repeated, "unstamped": self.unstamped,
            "freezes": self.freezes, "longest_gap_ms": ms(self.longest_gap),
            "packets": self.packets, "bytes": self.bytes, "ended": self.ended,
        })
    }
}

impl CrowdReport {
    /// The latency below which `percent` of the frames lie, in milliseconds: from a frame's stamp to the arrival of the
    /// packet that has it, by the kernel's clock, of all viewers.
    pub fn latency_ms(&self, percent: usize) -> Option<f64> {
        percentile(&mut self.latencies.clone(), percent)
    }

    /// The same to the arrival of the frame's last packet.
    pub fn whole_latency_ms(&self, percent: usize) -> Option<f64> {
        percentile(&mut self.whole_latencies.clone(), percent)
    }

    /// Each frame's latencies in milliseconds, to its stamp and to its last packet, viewer by viewer.
    pub fn latencies_ms(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        self.latencies.iter().zip(&self.whole_latencies).map(|(stamp, whole)| (millis(*stamp), millis(*whole)))
    }

    /// A percentile over the viewers, in milliseconds.
    pub fn percentile_ms(&self, percent: usize, of: impl Fn(&ViewerReport) -> Option<Duration>) -> Option<f64> {
        let mut values: Vec<i64> =
            self.viewers.iter().filter_map(of).filter_map(|span| i64::try_from(span.as_nanos()).ok()).collect();
        percentile(&mut values, percent)
    }

    /// A sum over the viewers.
    pub fn sum(&self, of: impl Fn(&ViewerReport) -> u64) -> u64 {
        self.viewers.iter().map(of).sum()
    }

    /// This process's share of a core in the window, in percent.
    pub fn cpu_percent(&self) -> f64 {
        100.0 * self.cpu.as_secs_f64() / self.window.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// The crowd as one JSON object.
    pub fn json(&self) -> Value {
        let both =
            |of: fn(&ViewerReport) -> Option<Duration>| json!([self.percentile_ms(50, of), self.percentile_ms(95, of)]);
        json!({
            "viewers": self.viewers.len(), "failed": self.failures.len(), "failures": self.failures.first(),
            "ended": self.viewers.iter().filter(|viewer| viewer.ended.is_some()).count(),
            "ended_because": self.viewers.iter().find_map(|viewer| viewer.ended.clone()),
            "connected": self.viewers.iter().filter(|viewer| viewer.connected.is_some()).count(),
            "playing": self.viewers.iter().filter(|viewer| viewer.first_key.is_some()).count(),
            "window_ms": self.window.as_millis() as u64, "cpu_percent": self.cpu_percent(),
            "answer_ms_p50_p95": both(|viewer| viewer.answer),
            "connected_ms_p50_p95": both(|viewer| viewer.connected),
            "first_key_ms_p50_p95": both(|viewer| viewer.first_key),
            "first_key_whole_ms_p50_p95": both(|viewer| viewer.first_key_whole),
            "lag_after_2s_ms_p50_p95": both(|viewer| viewer.lag_after_2s),
            "latency_ms_p50_p99": [self.latency_ms(50), self.latency_ms(99)],
            "whole_latency_ms_p50_p99": [self.whole_latency_ms(50), self.whole_latency_ms(99)],
            "whole": self.sum(|viewer| viewer.whole), "shown": self.sum(|viewer| viewer.shown),
            "fewest_shown": self.viewers.iter().map(|viewer| viewer.shown).min(),
            "incomplete": self.sum(|viewer| viewer.incomplete), "orphans": self.sum(|viewer| viewer.orphans),
            "lost": self.sum(|viewer| viewer.lost), "repeated": self.sum(|viewer| viewer.repeated),
            "skipped_joining": self.sum(|viewer| viewer.skipped_joining),
            "freezes": self.sum(|viewer| viewer.freezes),
            "packets": self.sum(|viewer| viewer.packets), "bytes": self.sum(|viewer| viewer.bytes),
        })
    }

    /// A table: one row for all, and one for each viewer that is worth one.
    pub fn table(&self) -> String {
        let figure = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"));
        let both = |of: fn(&ViewerReport) -> Option<Duration>| {
            format!("{} / {}", figure(self.percentile_ms(50, of)), figure(self.percentile_ms(95, of)))
        };
        let (p50, p99) = (self.latency_ms(50), self.latency_ms(99));
        let (whole50, whole99) = (self.whole_latency_ms(50), self.whole_latency_ms(99));
        let latency = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
        let playing = self.viewers.iter().filter(|viewer| viewer.first_key.is_some()).count();
        let rows = [
            ("viewers that play, failed joins", format!("{playing}, {}", self.failures.len())),
            ("ms to the answer, p50 / p95", both(|viewer| viewer.answer)),
            ("ms to connected, p50 / p95", both(|viewer| viewer.connected)),
            ("ms to the first key frame's first packet, p50 / p95", both(|viewer| viewer.first_key)),
            ("ms to the first key frame's last packet, p50 / p95", both(|viewer| viewer.first_key_whole)),
            ("ms behind live 2 s after joining, p50 / p95", both(|viewer| viewer.lag_after_2s)),
            ("ms from the stamp to its packet, p50 / p99", format!("{} / {}", latency(p50), latency(p99))),
            ("ms from the stamp to the last packet, p50 / p99", format!("{} / {}", latency(whole50), latency(whole99))),
            ("frames whole", self.sum(|viewer| viewer.whole).to_string()),
            ("frames shown", self.sum(|viewer| viewer.shown).to_string()),
            ("frames incomplete", self.sum(|viewer| viewer.incomplete).to_string()),
            ("frames lost", self.sum(|viewer| viewer.lost).to_string()),
            ("frames that can't be decoded", self.sum(|viewer| viewer.orphans).to_string()),
            ("frozen intervals over 200 ms", self.sum(|viewer| viewer.freezes).to_string()),
            ("the viewers' own CPU, % of a core", format!("{:.1}", self.cpu_percent())),
        ];
        let mut text = "| what | figure |\n|---|---|\n".to_owned();
        for (what, figure) in rows {
            text += &format!("| {what} | {figure} |\n");
        }
        let ended = self.viewers.iter().filter_map(|viewer| viewer.ended.as_ref());
        for why in self.failures.iter().chain(ended).take(5) {
            text += &format!("\n{why}");
        }
        text
    }
}

/// Nanoseconds, none below zero.
fn span(nanos: i64) -> Duration {
    Duration::from_nanos(nanos.max(0).unsigned_abs())
}

#[test]
fn a_report_of_nobody_has_no_figures() {
    let report = CrowdReport::default();
    assert_eq!(report.json()["latency_ms_p50_p99"], json!([null, null]));
    assert!(report.table().contains("| frames lost | 0 |"));
    assert!((millis(1_234_567) - 1.234).abs() < 1e-9);
}

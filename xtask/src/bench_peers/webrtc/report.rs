//! The figures as sentences and as a table.

use std::time::Duration;

use serde_json::Value;

use super::Peer;

/// What one program cost for one number of viewers, and what they saw.
pub(super) struct Row {
    pub(super) peer: Peer,
    pub(super) viewers: usize,
    pub(super) window: Duration,
    /// User and system time of the server within the window.
    pub(super) cpu: Duration,
    /// The viewers' own, which is not counted.
    pub(super) crowd_cpu: Duration,
    /// Peak resident memory of the server, less what it held before the viewers came.
    pub(super) memory: u64,
    /// What `relay-sim whep` said.
    pub(super) seen: Value,
    pub(super) is_done: bool,
}

/// From this share of its core on, in percent, the viewers' process is what was measured.
const SATURATED: f64 = 90.0;

impl Row {
    /// A program that didn't do the job.
    pub(super) fn failed(peer: Peer, viewers: usize) -> Self {
        let zero = Duration::ZERO;
        Self { peer, viewers, window: zero, cpu: zero, crowd_cpu: zero, memory: 0, seen: Value::Null, is_done: false }
    }

    /// Percent of a core.
    pub(super) fn cpu_per_viewer(&self) -> f64 {
        percent(self.cpu, self.window) / self.viewers.max(1) as f64
    }

    pub(super) fn kib_per_viewer(&self) -> f64 {
        self.memory as f64 / 1024.0 / self.viewers.max(1) as f64
    }

    /// Added latency in milliseconds: p50 at 0, p99 at 1.
    pub(super) fn latency(&self, at: usize) -> f64 {
        self.figure("latency_ms_p50_p99", at)
    }

    /// Frames that the viewers should have shown and did not.
    fn lost(&self) -> u64 {
        ["lost", "incomplete", "orphans"].iter().filter_map(|name| self.count(name)).sum()
    }

    /// Whether the viewers kept up, so that the figures are the server's.
    fn counts(&self) -> bool {
        percent(self.crowd_cpu, self.window) < SATURATED
    }

    pub(super) fn count(&self, name: &str) -> Option<u64> {
        self.seen.get(name)?.as_u64()
    }

    fn figure(&self, name: &str, at: usize) -> f64 {
        self.seen.get(name).and_then(|both| both.get(at)?.as_f64()).unwrap_or_default()
    }

    fn both(&self, name: &str, digits: usize) -> String {
        match self.seen.pointer(&format!("/{name}/0")).and_then(Value::as_f64) {
            Some(_) => format!("{:.digits$} / {:.digits$}", self.figure(name, 0), self.figure(name, 1)),
            None => String::new(),
        }
    }

    /// One line while the run goes on.
    pub(super) fn sentence(&self) -> String {
        let Self { viewers, peer, .. } = self;
        format!(
            "{viewers} viewers, {peer}: {:.2} CPU s in {:.1} s ({:.4} % of a core a viewer; the viewers' process {:.1} %), \
             {:.0} KiB a viewer, first key frame {}, latency {}, {} frames lost",
            self.cpu.as_secs_f64(),
            self.window.as_secs_f64(),
            self.cpu_per_viewer(),
            percent(self.crowd_cpu, self.window),
            self.kib_per_viewer(),
            self.both("first_key_whole_ms_p50_p95", 1),
            self.both("latency_ms_p50_p99", 2),
            self.lost(),
        )
    }
}

/// The table, one row a program and number of viewers.
pub(super) fn markdown(rows: &[Row]) -> String {
    let mut text = "| viewers | program | % of a core a viewer | × Janus | × floor | KiB a viewer \
                    | ms to the first key frame, p50 / p95 | ms behind 2 s after joining, p50 / p95 \
                    | ms of added latency, p50 / p99 | to the last packet | frames shown | lost \
                    | the viewers' process, % of a core | counts |\n\
                    |---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n"
        .to_owned();
    for row in rows {
        let Row { viewers, peer, .. } = row;
        if !row.is_done {
            text += &format!("| {viewers} | {peer} | failed | | | | | | | | | | | |\n");
            continue;
        }
        let times = |other: Peer| match cost(rows, other, *viewers) {
            Some(cost) if cost > 0.0 => format!("{:.2}", row.cpu_per_viewer() / cost),
            _ => String::new(),
        };
        let is_floor = *peer == Peer::Floor;
        let unless_floor = |text: String| if is_floor { String::new() } else { text };
        text += &format!(
            "| {viewers} | {peer} | {:.4} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {:.1} | {} |\n",
            row.cpu_per_viewer(),
            times(Peer::Janus),
            times(Peer::Floor),
            unless_floor(format!("{:.0}", row.kib_per_viewer())),
            row.both("first_key_whole_ms_p50_p95", 1),
            row.both("lag_after_2s_ms_p50_p95", 0),
            row.both("latency_ms_p50_p99", 2),
            row.both("whole_latency_ms_p50_p99", 2),
            row.count("shown").map(|shown| shown.to_string()).unwrap_or_default(),
            unless_floor(row.lost().to_string()),
            percent(row.crowd_cpu, row.window),
            if row.counts() { "yes" } else { "no: the viewers were the bottleneck" },
        );
    }
    text
}

/// The promises, each with the figure seen.
pub(super) fn verdict(rows: &[Row], is_crowd: bool) -> String {
    let mut text = String::new();
    for row in rows.iter().filter(|row| row.peer == Peer::Relayd && row.is_done && row.counts()) {
        let viewers = row.viewers;
        let mut promise = |seen: String, is_kept: bool, most: &str| {
            let kept = if is_kept { "kept  " } else { "BROKEN" };
            text += &format!("{kept} at {viewers} viewers: {seen}, promised {most}\n");
        };
        let lost = row.lost();
        if is_crowd {
            promise(format!("{lost} frames lost"), lost == 0, "none");
            continue;
        }
        let (p50, p99) = (row.latency(0), row.latency(1));
        match viewers {
            10 => promise(format!("latency {p50:.2} / {p99:.2} ms"), p50 <= 1.0 && p99 <= 2.0, "1 / 2 ms at most"),
            200 => promise(format!("latency p99 {p99:.2} ms"), p99 < 10.0, "under 10 ms"),
            _ => {}
        }
        // One viewer costs a few ticks of the kernel's clock: about CPU we promise from 50 on.
        if viewers >= 50 {
            let cpu = row.cpu_per_viewer();
            promise(format!("{cpu:.3} % of a core a viewer"), cpu <= 0.15, "0.150 at most");
            let kib = row.kib_per_viewer();
            promise(format!("{kib:.0} KiB a viewer"), kib <= 300.0, "300 at most");
            if let Some(janus) = cost(rows, Peer::Janus, viewers) {
                promise(format!("CPU {:.2} × Janus's", cpu / janus), cpu < janus, "less than Janus");
            }
            if let Some(floor) = cost(rows, Peer::Floor, viewers) {
                let times = cpu / floor;
                promise(format!("CPU {times:.2} × the floor's"), times <= 2.5, "to aim for 2.5");
            }
        }
    }
    text
}

fn cost(rows: &[Row], peer: Peer, viewers: usize) -> Option<f64> {
    let row = rows.iter().find(|row| row.peer == peer && row.viewers == viewers && row.is_done)?;
    Some(row.cpu_per_viewer()).filter(|cost| *cost > 0.0)
}

fn percent(cpu: Duration, window: Duration) -> f64 {
    100.0 * cpu.as_secs_f64() / window.as_secs_f64().max(f64::MIN_POSITIVE)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(peer: Peer, cpu_ms: u64, crowd_ms: u64) -> Row {
        let seen = json!({
            "latency_ms_p50_p99": [0.9, 4.0], "first_key_whole_ms_p50_p95": [20.0, 31.0],
            "lost": 1, "incomplete": 0, "orphans": 2, "shown": 150_000,
        });
        Row {
            cpu: Duration::from_millis(cpu_ms),
            crowd_cpu: Duration::from_millis(crowd_ms),
            window: Duration::from_secs(30),
            memory: 200 * 100 * 1024,
            seen,
            is_done: true,
            ..Row::failed(peer, 200)
        }
    }

    #[test]
    fn costs_are_per_viewer_and_saturated_crowds_do_not_count() {
        let rows = [
            row(Peer::Relayd, 6_000, 10_000),
            row(Peer::Janus, 12_000, 29_000),
            row(Peer::Floor, 3_000, 3_000),
            Row::failed(Peer::Janus, 50),
        ];
        let table = markdown(&rows);
        assert!(table.contains("| 200 | relayd | 0.1000 | 0.50 | 2.00 | 100 | 20.0 / 31.0 |"), "{table}");
        assert!(table.contains("| 150000 | 3 | 96.7 | no: the viewers were the bottleneck |"), "{table}");
        assert!(table.contains("| 50 | janus | failed |"), "{table}");
        let verdict = verdict(&rows, false);
        for line in [
            "kept   at 200 viewers: latency p99 4.00 ms, promised under 10 ms",
            "kept   at 200 viewers: 0.100 % of a core a viewer, promised 0.150 at most",
            "kept   at 200 viewers: CPU 2.00 × the floor's, promised to aim for 2.5",
        ] {
            assert!(verdict.contains(line), "{verdict}");
        }
    }
}

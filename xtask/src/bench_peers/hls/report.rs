//! The figures as sentences and as a table.

use std::time::Duration;

use super::Peer;

/// Relayd's share of ffmpeg's CPU, at most, and of its memory; promised from 20 streams on.
const CPU_SHARE: f64 = 0.5;
const MEMORY_SHARE: f64 = 0.25;
const PROMISED_FROM: usize = 20;

/// What one program cost on the live streams.
pub(super) struct Row {
    pub(super) peer: Peer,
    pub(super) streams: usize,
    pub(super) window: Duration,
    /// User and system time within the window.
    pub(super) cpu: Duration,
    /// The origin's own, which is not counted: it shows that it was not the bottleneck.
    pub(super) origin_cpu: Duration,
    /// Peak resident memory, summed over its processes.
    pub(super) peak_bytes: u64,
    /// Frames of the recording that holds fewest.
    pub(super) fewest_frames: u64,
    /// Whether every recording holds its frames; without it the other figures mean nothing.
    pub(super) is_whole: bool,
}

impl Row {
    /// A program that didn't do the job.
    pub(super) fn failed(peer: Peer, streams: usize) -> Self {
        let zero = Duration::ZERO;
        Self {
            peer,
            streams,
            window: zero,
            cpu: zero,
            origin_cpu: zero,
            peak_bytes: 0,
            fewest_frames: 0,
            is_whole: false,
        }
    }

    /// CPU seconds that one stream costs in a minute.
    pub(super) fn cpu_per_stream_minute(&self) -> f64 {
        let stream_minutes = self.streams as f64 * self.window.as_secs_f64() / 60.0;
        self.cpu.as_secs_f64() / stream_minutes.max(f64::MIN_POSITIVE)
    }

    /// Peak memory in MiB.
    pub(super) fn peak_mib(&self) -> f64 {
        self.peak_bytes as f64 / f64::from(1 << 20)
    }

    /// One line while the run goes on.
    pub(super) fn sentence(&self) -> String {
        let Self { streams, peer, .. } = self;
        if !self.is_whole {
            return format!("{streams} streams, {peer}: not recorded");
        }
        format!(
            "{streams} streams, {peer}: {:.2} CPU s in {:.0} s ({:.1} % of a core; the origin {:.1} %), {:.0} MiB",
            self.cpu.as_secs_f64(),
            self.window.as_secs_f64(),
            percent(self.cpu, self.window),
            percent(self.origin_cpu, self.window),
            self.peak_mib(),
        )
    }
}

/// The table, one row a program.
pub(super) fn markdown(rows: &[Row]) -> String {
    let mut text = "| streams | program | CPU s / stream-minute | % of a core | peak MiB | CPU: × relayd \
                    | memory: × relayd | fewest frames |\n|---|---|---|---|---|---|---|---|\n"
        .to_owned();
    let ours = whole(rows, Peer::Relayd);
    for row in rows {
        let (streams, peer) = (row.streams, row.peer);
        if !row.is_whole {
            text += &format!("| {streams} | {peer} | failed | | | | | |\n");
            continue;
        }
        let times = |figure: fn(&Row) -> f64| match ours.map(figure) {
            Some(ours) if ours > 0.0 => format!("{:.2}", figure(row) / ours),
            _ => String::new(),
        };
        text += &format!(
            "| {streams} | {peer} | {:.3} | {:.2} | {:.0} | {} | {} | {} |\n",
            row.cpu_per_stream_minute(),
            percent(row.cpu, row.window),
            row.peak_mib(),
            times(Row::cpu_per_stream_minute),
            times(Row::peak_mib),
            row.fewest_frames,
        );
    }
    text
}

/// The promises about speed and memory, each with the figure seen.
pub(super) fn verdict(rows: &[Row]) -> String {
    let (Some(ours), Some(theirs)) = (whole(rows, Peer::Relayd), whole(rows, Peer::Ffmpeg)) else {
        return String::new();
    };
    let streams = ours.streams;
    if streams < PROMISED_FROM {
        return format!("nothing is promised below {PROMISED_FROM} streams\n");
    }
    let promises = [
        ("CPU", ours.cpu_per_stream_minute() / theirs.cpu_per_stream_minute(), CPU_SHARE),
        ("peak memory", ours.peak_mib() / theirs.peak_mib(), MEMORY_SHARE),
    ];
    let line = |(what, seen, most): (&str, f64, f64)| {
        let word = if seen <= most { "kept  " } else { "BROKEN" };
        format!("{word} at {streams} streams: {what} is {seen:.2} × ffmpeg's, promised at most {most:.2}\n")
    };
    promises.into_iter().map(line).collect()
}

fn whole(rows: &[Row], peer: Peer) -> Option<&Row> {
    rows.iter().find(|row| row.peer == peer && row.is_whole)
}

fn percent(cpu: Duration, window: Duration) -> f64 {
    100.0 * cpu.as_secs_f64() / window.as_secs_f64().max(f64::MIN_POSITIVE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(peer: Peer, cpu_ms: u64, mib: u64) -> Row {
        Row {
            cpu: Duration::from_millis(cpu_ms),
            window: Duration::from_secs(30),
            peak_bytes: mib << 20,
            fewest_frames: 760,
            is_whole: true,
            ..Row::failed(peer, 20)
        }
    }

    #[test]
    fn costs_are_per_stream_and_minute_and_promises_are_shares_of_ffmpegs() {
        let rows = [row(Peer::Relayd, 1000, 60), row(Peer::Ffmpeg, 2500, 200), Row::failed(Peer::Gstreamer, 20)];
        let table = markdown(&rows);
        assert!(table.contains("| 20 | relayd | 0.100 | 3.33 | 60 | 1.00 | 1.00 | 760 |"), "{table}");
        assert!(table.contains("| 20 | ffmpeg | 0.250 | 8.33 | 200 | 2.50 | 3.33 | 760 |"), "{table}");
        assert!(table.contains("| 20 | gstreamer | failed |"), "{table}");
        let verdict = verdict(&rows);
        assert!(verdict.contains("kept   at 20 streams: CPU is 0.40 × ffmpeg's, promised at most 0.50"), "{verdict}");
        assert!(verdict.contains("BROKEN at 20 streams: peak memory is 0.30 × ffmpeg's"), "{verdict}");
    }
}

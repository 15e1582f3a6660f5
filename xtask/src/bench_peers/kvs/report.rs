//! The figures as sentences and as a table.

use std::time::Duration;

use super::Peer;

/// At most so much more CPU than the plain upload.
const CPU_MOST: f64 = 1.5;
/// Twenty streams take less memory than this.
const MIB_MOST: f64 = 150.0;
/// A fragment and half a second, of which the service takes 300 ms to persist it.
const LAG_MS_MOST: f64 = 2_500.0;

/// What one program cost on one number of cameras.
pub(super) struct Row {
    pub(super) peer: Peer,
    pub(super) cameras: usize,
    pub(super) window: Duration,
    /// User and system time within the window.
    pub(super) cpu: Duration,
    /// Peak resident memory, summed over its processes.
    pub(super) peak_bytes: u64,
    /// Media that came within the window.
    pub(super) bytes: u64,
    /// Frames of the stream that brought fewest.
    pub(super) fewest_frames: u64,
    /// From each fragment's first frame to its PERSISTED.
    pub(super) lags_ms: Vec<f64>,
    /// Whether every stream brought its frames; without it the other figures mean nothing.
    pub(super) is_whole: bool,
}

impl Row {
    /// A program that didn't do the job.
    pub(super) fn failed(peer: Peer, cameras: usize) -> Self {
        let zero = Duration::ZERO;
        let lags_ms = Vec::new();
        Self {
            peer,
            cameras,
            window: zero,
            cpu: zero,
            peak_bytes: 0,
            bytes: 0,
            fewest_frames: 0,
            lags_ms,
            is_whole: false,
        }
    }

    /// CPU seconds that one stream costs in a minute.
    pub(super) fn cpu_per_stream_minute(&self) -> f64 {
        let minutes = self.cameras as f64 * self.window.as_secs_f64() / 60.0;
        self.cpu.as_secs_f64() / minutes.max(f64::MIN_POSITIVE)
    }

    /// Peak memory in MiB.
    pub(super) fn peak_mib(&self) -> f64 {
        self.peak_bytes as f64 / f64::from(1 << 20)
    }

    /// Media that one busy core would send in a second.
    fn mbit_per_core(&self) -> f64 {
        self.bytes as f64 * 8.0 / 1e6 / self.cpu.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// The lag that `percent` of the fragments stay below.
    fn lag_ms(&self, percent: usize) -> Option<f64> {
        let mut sorted = self.lags_ms.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1)).copied()
    }

    /// One line while the run goes on.
    pub(super) fn sentence(&self) -> String {
        format!(
            "{} cameras, {}: {:.2} CPU s in {:.0} s, {:.0} MiB, {} fragments PERSISTED",
            self.cameras,
            self.peer,
            self.cpu.as_secs_f64(),
            self.window.as_secs_f64(),
            self.peak_mib(),
            self.lags_ms.len(),
        )
    }
}

/// The table, one row a program and number of cameras.
pub(super) fn markdown(rows: &[Row]) -> String {
    let mut text = "| streams | program | CPU s / stream-minute | CPU: × its floor | Mbit/s a core | peak MiB \
                    | MiB a stream | persisted lag ms, p50 / p99 | fewest frames |\n\
                    |---|---|---|---|---|---|---|---|---|\n"
        .to_owned();
    for row in rows {
        let (cameras, peer) = (row.cameras, row.peer);
        if !row.is_whole {
            text += &format!("| {cameras} | {peer} | failed | | | | | | |\n");
            continue;
        }
        let times = times_floor(rows, row).map_or(String::new(), |times| format!("{times:.2}"));
        let lag = |percent| row.lag_ms(percent).map_or(String::new(), |ms| format!("{ms:.0}"));
        let lags =
            if row.lags_ms.is_empty() { "not acknowledged".into() } else { format!("{} / {}", lag(50), lag(99)) };
        text += &format!(
            "| {cameras} | {peer} | {:.3} | {times} | {:.0} | {:.0} | {:.1} | {lags} | {} |\n",
            row.cpu_per_stream_minute(),
            row.mbit_per_core(),
            row.peak_mib(),
            row.peak_mib() / cameras as f64,
            row.fewest_frames,
        );
    }
    text
}

/// The promises, each with the figure seen.
pub(super) fn verdict(rows: &[Row]) -> String {
    let mut text = String::new();
    for row in rows.iter().filter(|row| row.peer.is_relayd() && row.is_whole) {
        let (cameras, peer) = (row.cameras, row.peer);
        let mut promise = |seen: String, is_kept: bool, most: String| {
            let kept = if is_kept { "kept  " } else { "BROKEN" };
            text += &format!("{kept} {peer} at {cameras} streams: {seen}, promised at most {most}\n");
        };
        // One camera costs a few ticks of the kernel's clock, no more.
        if let Some(times) = times_floor(rows, row).filter(|_| cameras >= 20) {
            let floor = row.peer.floor();
            promise(format!("CPU is {times:.2} × that of {floor}"), times <= CPU_MOST, format!("{CPU_MOST}"));
        }
        if cameras <= 20 {
            let mib = row.peak_mib();
            promise(format!("peak memory is {mib:.0} MiB"), mib <= MIB_MOST, format!("{MIB_MOST}"));
        }
        let lag = row.lag_ms(99).unwrap_or(f64::INFINITY);
        promise(format!("persisted lag p99 is {lag:.0} ms"), lag <= LAG_MS_MOST, format!("{LAG_MS_MOST}"));
    }
    text
}

fn times_floor(rows: &[Row], row: &Row) -> Option<f64> {
    let floor = rows.iter().find(|one| one.peer == row.peer.floor() && one.cameras == row.cameras && one.is_whole)?;
    let cost = floor.cpu_per_stream_minute();
    (cost > 0.0).then(|| row.cpu_per_stream_minute() / cost)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(peer: Peer, cpu_ms: u64, lag_ms: f64) -> Row {
        Row {
            cpu: Duration::from_millis(cpu_ms),
            window: Duration::from_secs(30),
            peak_bytes: 60 << 20,
            bytes: 150_000_000,
            fewest_frames: 700,
            lags_ms: vec![lag_ms; 100],
            is_whole: true,
            ..Row::failed(peer, 20)
        }
    }

    #[test]
    fn costs_are_per_stream_and_minute_and_ratios_to_the_floor_of_the_same_kind() {
        let ffmpeg = Row { lags_ms: vec![], ..row(Peer::Ffmpeg, 1_000, 0.0) };
        let rows = [
            row(Peer::Relayd, 1_200, 2_400.0),
            ffmpeg,
            Row::failed(Peer::FfmpegTls, 20),
            row(Peer::RelaydTls, 1, 2_600.0),
        ];
        let table = markdown(&rows);
        assert!(table.contains("| 20 | relayd | 0.120 | 1.20 | 1000 | 60 | 3.0 | 2400 / 2400 | 700 |"), "{table}");
        assert!(table.contains("| 20 | ffmpeg | 0.100 | 1.00 | 1200 | 60 | 3.0 | not acknowledged | 700 |"), "{table}");
        assert!(table.contains("| 20 | ffmpeg-tls | failed |"), "{table}");
        let verdict = verdict(&rows);
        assert!(
            verdict.contains("kept   relayd at 20 streams: CPU is 1.20 × that of ffmpeg, promised at most 1.5"),
            "{verdict}"
        );
        assert!(verdict.contains("BROKEN relayd-tls at 20 streams: persisted lag p99 is 2600 ms"), "{verdict}");
    }
}

//! The figures as sentences and as a table.

use std::time::Duration;

use super::Peer;

/// What one program cost on one number of cameras.
pub(super) struct Row {
    pub(super) peer: Peer,
    pub(super) cameras: usize,
    pub(super) window: Duration,
    /// User and system time within the window.
    pub(super) cpu: Duration,
    /// The cameras' own, which is not counted: it shows that they were not the bottleneck.
    pub(super) camera_cpu: Duration,
    /// Peak resident memory, summed over its processes.
    pub(super) peak_bytes: u64,
    /// Frames of the recording that holds fewest.
    pub(super) fewest_frames: u64,
    /// Whether every recording holds its frames; without it the other figures mean nothing.
    pub(super) is_whole: bool,
}

impl Row {
    /// A program that didn't do the job.
    pub(super) fn failed(peer: Peer, cameras: usize) -> Self {
        let zero = Duration::ZERO;
        Self {
            peer,
            cameras,
            window: zero,
            cpu: zero,
            camera_cpu: zero,
            peak_bytes: 0,
            fewest_frames: 0,
            is_whole: false,
        }
    }

    /// CPU seconds that one camera costs in a minute.
    pub(super) fn cpu_per_camera_minute(&self) -> f64 {
        let camera_minutes = self.cameras as f64 * self.window.as_secs_f64() / 60.0;
        self.cpu.as_secs_f64() / camera_minutes.max(f64::MIN_POSITIVE)
    }

    /// Peak memory in MiB.
    pub(super) fn peak_mib(&self) -> f64 {
        self.peak_bytes as f64 / f64::from(1 << 20)
    }

    fn percent_of_a_core(&self) -> f64 {
        percent(self.cpu, self.window)
    }

    /// One line while the run goes on.
    pub(super) fn sentence(&self) -> String {
        let Self { cameras, peer, .. } = self;
        format!(
            "{cameras} cameras, {peer}: {:.2} CPU s in {:.0} s ({:.1} % of a core; the cameras {:.1} %), {:.0} MiB",
            self.cpu.as_secs_f64(),
            self.window.as_secs_f64(),
            self.percent_of_a_core(),
            percent(self.camera_cpu, self.window),
            self.peak_mib(),
        )
    }
}

/// The table, one row a program and number of cameras.
pub(super) fn markdown(rows: &[Row]) -> String {
    let mut text =
        "| cameras | program | CPU s / camera-minute | % of a core | peak MiB | CPU: × relayd | CPU: × floor \
                    | fewest frames |\n|---|---|---|---|---|---|---|---|\n"
            .to_owned();
    for row in rows {
        let (cameras, peer) = (row.cameras, row.peer);
        if !row.is_whole {
            text += &format!("| {cameras} | {peer} | failed | | | | | |\n");
            continue;
        }
        let times = |other: Peer| match cost(rows, other, cameras) {
            Some(cost) if cost > 0.0 => format!("{:.2}", row.cpu_per_camera_minute() / cost),
            _ => String::new(),
        };
        text += &format!(
            "| {cameras} | {peer} | {:.3} | {:.2} | {:.0} | {} | {} | {} |\n",
            row.cpu_per_camera_minute(),
            row.percent_of_a_core(),
            row.peak_mib(),
            times(Peer::Relayd),
            times(Peer::Floor),
            row.fewest_frames,
        );
    }
    text
}

/// The promises about speed and memory, each with the figure seen.
pub(super) fn verdict(rows: &[Row]) -> String {
    let mut text = String::new();
    for row in rows.iter().filter(|row| row.peer == Peer::Relayd && row.is_whole) {
        let cameras = row.cameras;
        // About CPU we promise from 20 cameras on: one camera costs a few ticks of the kernel's clock, no more.
        let rivals = [(Peer::Ffmpeg, 1.0 / 2.0), (Peer::Gstreamer, 1.0 / 3.0)];
        for (other, most) in rivals.into_iter().filter(|_| cameras >= 20) {
            if let Some(theirs) = cost(rows, other, cameras).filter(|cost| *cost > 0.0) {
                let seen = row.cpu_per_camera_minute() / theirs;
                text +=
                    &promise(cameras, &format!("CPU is {seen:.2} × {other}'s"), seen <= most, &format!("{most:.2}"));
            }
        }
        // 30 MiB for the process, and for each camera its ring and one fragment under construction.
        let most = 30.0 + 2.0 * cameras as f64;
        let seen = row.peak_mib();
        text += &promise(cameras, &format!("peak memory is {seen:.0} MiB"), seen <= most, &format!("{most:.0}"));
    }
    text
}

fn promise(cameras: usize, seen: &str, is_kept: bool, most: &str) -> String {
    format!("{} at {cameras} cameras: {seen}, promised at most {most}\n", if is_kept { "kept  " } else { "BROKEN" })
}

fn cost(rows: &[Row], peer: Peer, cameras: usize) -> Option<f64> {
    let row = rows.iter().find(|row| row.peer == peer && row.cameras == cameras && row.is_whole)?;
    Some(row.cpu_per_camera_minute())
}

fn percent(cpu: Duration, window: Duration) -> f64 {
    100.0 * cpu.as_secs_f64() / window.as_secs_f64().max(f64::MIN_POSITIVE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(peer: Peer, cpu_ms: u64) -> Row {
        Row {
            cpu: Duration::from_millis(cpu_ms),
            window: Duration::from_secs(30),
            peak_bytes: 60 << 20,
            fewest_frames: 760,
            is_whole: true,
            ..Row::failed(peer, 20)
        }
    }

    #[test]
    fn costs_are_per_camera_and_minute_and_ratios_to_both() {
        let rows =
            [row(Peer::Relayd, 1000), row(Peer::Ffmpeg, 2500), row(Peer::Floor, 500), Row::failed(Peer::Gstreamer, 20)];
        let table = markdown(&rows);
        assert!(table.contains("| 20 | relayd | 0.100 | 3.33 | 60 | 1.00 | 2.00 | 760 |"), "{table}");
        assert!(table.contains("| 20 | ffmpeg | 0.250 | 8.33 | 60 | 2.50 | 5.00 | 760 |"), "{table}");
        assert!(table.contains("| 20 | gstreamer | failed |"), "{table}");
        let verdict = verdict(&rows);
        assert!(verdict.contains("kept   at 20 cameras: CPU is 0.40 × ffmpeg's, promised at most 0.50"), "{verdict}");
        assert!(verdict.contains("kept   at 20 cameras: peak memory is 60 MiB, promised at most 70"), "{verdict}");
    }
}

//! `cargo xtask bench-peers record`: the same cameras recorded by relayd, by `ffmpeg -c copy`, by GStreamer and by a
//! floor program that only moves bytes.

mod peers;
mod report;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::cameras::Cameras;
use super::chart::{self, Bar};
use super::running::Running;
use super::{frames, meter};
use crate::shell;
use peers::Peer;
use report::Row;

/// Frames a second of the cameras.
const FPS: u32 = 25;
/// A camera counts as being recorded from this many bytes on disk: one fragment of a second is 250 kB.
const WARM_BYTES: u64 = 200_000;
/// How long all recordings may take to start: 100 GStreamer processes on 2 cores need about 15 s.
const WARM_UP: Duration = Duration::from_secs(60);
/// A recording must hold this share of the frames that its camera sent during the window.
const FRAMES_NEEDED: f64 = 0.95;

/// What to compare, and how.
#[derive(clap::Args)]
#[command(after_help = "Example: cargo xtask bench-peers record --cameras 1,20 --seconds 30")]
pub(super) struct Options {
    /// How many cameras at once, one round each.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 20, 100])]
    cameras: Vec<usize>,
    /// Seconds that each program is measured once all its recordings run.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Which programs, in this order.
    #[arg(long, value_delimiter = ',', default_values_t = [Peer::Relayd, Peer::Ffmpeg, Peer::Gstreamer, Peer::Floor])]
    peers: Vec<Peer>,
    /// Take the release builds of relayd and relay-sim that are there.
    #[arg(long)]
    no_build: bool,
}

/// Runs every program on every number of cameras, prints the table and writes the chart.
///
/// # Errors
/// When the programs don't build, no camera starts, or relayd's recordings are not whole.
pub(super) fn run(options: &Options) -> anyhow::Result<()> {
    if !options.no_build {
        super::build()?;
    }
    let scratch = shell::target_dir().join("bench-peers");
    let mut rows = Vec::new();
    for &count in &options.cameras {
        let cameras = Cameras::start(count, &[]).with_context(|| format!("start {count} cameras"))?;
        for &peer in &options.peers {
            if !peer.is_installed() {
                println!("{count} cameras, {peer}: skipped: not installed");
                continue;
            }
            let dir = scratch.join(format!("{peer}-{count}"));
            let row = match measure(peer, &cameras, &dir, options.seconds) {
                Ok(row) => row,
                Err(error) => {
                    println!("{count} cameras, {peer}: failed: {error:#}");
                    Row::failed(peer, count)
                }
            };
            println!("{}", row.sentence());
            rows.push(row);
        }
    }
    conclude(&rows, options.seconds)
}

/// One program on all cameras: start, wait until every recording grows, measure, stop, count the frames.
fn measure(peer: Peer, cameras: &Cameras, dir: &Path, seconds: u64) -> anyhow::Result<Row> {
    if dir.exists() {
        std::fs::remove_dir_all(dir)?;
    }
    std::fs::create_dir_all(dir)?;
    let mut running = Running::start(&peer.to_string(), peer.commands(cameras.urls(), dir)?, dir)?;
    await_recordings(&mut running, dir, cameras.urls().len())?;

    let (from, cpu_before) = (Instant::now(), meter::cpu(running.pids())?);
    let camera_cpu_before = meter::cpu([cameras.pid()])?;
    std::thread::sleep(Duration::from_secs(seconds));
    let (window, cpu_after) = (from.elapsed(), meter::cpu(running.pids())?);
    let camera_cpu = meter::cpu([cameras.pid()])?.saturating_sub(camera_cpu_before);
    let peak_bytes = meter::peak_memory(running.pids())?;
    running.stop()?;

    let needed = (FRAMES_NEEDED * f64::from(FPS) * seconds as f64) as u64;
    // The floor's files are what came over the wire.
    let count = if peer == Peer::Floor { frames::of_interleaved } else { frames::of_media };
    let worst = frames::fewest(dir, cameras.urls().len(), count)?;
    std::fs::remove_dir_all(dir)?;
    if worst < needed {
        bail!("a recording holds {worst} frames, {needed} were needed: it doesn't do the job");
    }
    Ok(Row {
        peer,
        cameras: cameras.urls().len(),
        window,
        cpu: cpu_after.saturating_sub(cpu_before),
        camera_cpu,
        peak_bytes,
        fewest_frames: worst,
        is_whole: true,
    })
}

fn await_recordings(running: &mut Running, dir: &Path, count: usize) -> anyhow::Result<()> {
    let started = Instant::now();
    loop {
        running.check_alive()?;
        let sizes = frames::sizes(dir)?;
        let growing = sizes.values().filter(|&&bytes| bytes >= WARM_BYTES).count();
        if growing == count {
            return Ok(());
        }
        if started.elapsed() > WARM_UP {
            bail!("after {WARM_UP:?} only {growing} of {count} recordings grow: {}", running.last_words());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn conclude(rows: &[Row], seconds: u64) -> anyhow::Result<()> {
    let table = report::markdown(rows);
    let verdict = report::verdict(rows);
    println!("\n{table}\n{verdict}");
    super::keep("bench-peers-record.md", &format!("{table}\n{verdict}"))?;
    let title = format!("RTSP cameras recorded to fragmented MP4, 720p25 at 2 Mbit/s, {seconds} s");
    let panels = ["CPU seconds a camera-minute", "peak resident memory, MiB"];
    let bar = |row: &Row| Bar {
        group: format!("{} camera(s)", row.cameras),
        program: row.peer.to_string(),
        values: vec![row.cpu_per_camera_minute(), row.peak_mib()],
    };
    let bars: Vec<_> = rows.iter().filter(|row| row.is_whole).map(bar).collect();
    let chart = super::keep("bench-peers-record.svg", &chart::svg(&title, &panels, &bars))?;
    println!("the chart is in {}", chart.strip_prefix(shell::root()).unwrap_or(&chart).display());
    if rows.iter().any(|row| row.peer == Peer::Relayd && !row.is_whole) {
        bail!("relayd did not record every camera");
    }
    Ok(())
}

//! `cargo xtask bench-peers hls`: the same live HLS streams, half of them MPEG-TS and half fragmented MP4, from one nginx,
//! recorded by relayd, by `ffmpeg -c copy` and by GStreamer.

mod origin;
mod peers;
mod report;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::chart::{self, Bar};
use super::running::Running;
use super::{frames, meter};
use crate::shell;
use origin::{Origin, SEGMENT};
use peers::Peer;
use report::Row;

/// Frames a second of the streams.
const FPS: u32 = 25;
/// Bits a second of each stream.
const BITRATE: u64 = 2_000_000;
/// A stream counts as being recorded from this many bytes on disk: one fragment of two seconds is 500 kB.
const WARM_BYTES: u64 = 400_000;
/// How long all recordings may take to start: 20 GStreamer processes on 2 cores need about 5 s, and each waits for
/// segments.
const WARM_UP: Duration = Duration::from_secs(30);
/// Between all recordings having begun and the window: players fetch what is listed as fast as they can, and only then
/// one segment at a time.
const SETTLE: Duration = Duration::from_secs(6);
/// A recording must hold this share of the frames that its stream played during the window.
const FRAMES_NEEDED: f64 = 0.95;

/// What to compare, and how.
#[derive(clap::Args)]
#[command(after_help = "Example: cargo xtask bench-peers hls --streams 20 --seconds 30")]
pub(super) struct Options {
    /// How many live streams at once.
    #[arg(long, default_value_t = 20)]
    streams: usize,
    /// Seconds that each program is measured once all its recordings run.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Which programs, in this order.
    #[arg(long, value_delimiter = ',', default_values_t = [Peer::Relayd, Peer::Ffmpeg, Peer::Gstreamer])]
    peers: Vec<Peer>,
    /// Take the release build of relayd that is there.
    #[arg(long)]
    no_build: bool,
}

/// Runs every program, prints the table and writes the chart.
///
/// # Errors
/// When relayd doesn't build, the origin doesn't start, or relayd's recordings are not whole.
pub(super) fn run(options: &Options) -> anyhow::Result<()> {
    for program in ["ffmpeg", "ffprobe", "nginx"] {
        if !shell::has(program) {
            bail!("needs {program}");
        }
    }
    if !options.no_build {
        super::build()?;
    }
    let scratch = shell::target_dir().join("bench-peers");
    let count = options.streams;
    let mut rows = Vec::new();
    for &peer in &options.peers {
        if !peer.is_installed() {
            println!("{count} streams, {peer}: skipped: not installed");
            continue;
        }
        let row = match measure(peer, options, &scratch) {
            Ok(row) => row,
            Err(error) => {
                println!("{count} streams, {peer}: failed: {error:#}");
                Row::failed(peer, count)
            }
        };
        println!("{}", row.sentence());
        rows.push(row);
    }
    conclude(&rows, options.seconds)
}

/// One program on all streams, which begin anew for it: start, wait until every recording grows, measure, stop, count
/// the frames.
fn measure(peer: Peer, options: &Options, scratch: &Path) -> anyhow::Result<Row> {
    let Options { streams: count, seconds, .. } = *options;
    let dir = scratch.join(format!("hls-{peer}"));
    if dir.exists() {
        std::fs::remove_dir_all(&dir)?;
    }
    std::fs::create_dir_all(&dir)?;
    let lasts = WARM_UP + SETTLE + Duration::from_secs(seconds) + 4 * SEGMENT;
    let origin = Origin::start(count, BITRATE, lasts, &scratch.join("hls-origin")).context("start the origin")?;
    let mut running = Running::start(&peer.to_string(), peer.commands(origin.streams(), &dir)?, &dir)?;
    await_recordings(&mut running, &dir, count)?;
    std::thread::sleep(SETTLE);

    let (from, cpu_before) = (Instant::now(), meter::cpu(running.pids())?);
    let origin_before = meter::cpu([origin.pid()])?;
    std::thread::sleep(Duration::from_secs(seconds));
    let (window, cpu_after) = (from.elapsed(), meter::cpu(running.pids())?);
    let origin_cpu = meter::cpu([origin.pid()])?.saturating_sub(origin_before);
    let peak_bytes = meter::peak_memory(running.pids())?;
    running.stop()?;

    let needed = (FRAMES_NEEDED * f64::from(FPS) * seconds as f64) as u64;
    let fewest_frames = frames::fewest(&dir, count, frames::of_media)?;
    std::fs::remove_dir_all(&dir)?;
    if fewest_frames < needed {
        bail!("a recording holds {fewest_frames} frames, {needed} were needed: it doesn't do the job");
    }
    let cpu = cpu_after.saturating_sub(cpu_before);
    Ok(Row { peer, streams: count, window, cpu, origin_cpu, peak_bytes, fewest_frames, is_whole: true })
}

fn await_recordings(running: &mut Running, dir: &Path, count: usize) -> anyhow::Result<()> {
    let started = Instant::now();
    loop {
        running.check_alive()?;
        let growing = frames::sizes(dir)?.values().filter(|&&bytes| bytes >= WARM_BYTES).count();
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
    super::keep("bench-peers-hls.md", &format!("{table}\n{verdict}"))?;
    let title = format!("Live HLS recorded to fragmented MP4, 720p25 at 2 Mbit/s, {seconds} s");
    let panels = ["CPU seconds a stream-minute", "peak resident memory, MiB"];
    let bar = |row: &Row| Bar {
        group: format!("{} stream(s)", row.streams),
        program: row.peer.to_string(),
        values: vec![row.cpu_per_stream_minute(), row.peak_mib()],
    };
    let bars: Vec<_> = rows.iter().filter(|row| row.is_whole).map(bar).collect();
    let chart = super::keep("bench-peers-hls.svg", &chart::svg(&title, &panels, &bars))?;
    println!("the chart is in {}", chart.strip_prefix(shell::root()).unwrap_or(&chart).display());
    if rows.iter().any(|row| row.peer == Peer::Relayd && !row.is_whole) {
        bail!("relayd did not record every stream");
    }
    Ok(())
}

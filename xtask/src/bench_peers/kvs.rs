//! `cargo xtask bench-peers kvs`: the same cameras sent to a stand-in for Kinesis Video Streams by relayd, and to the same
//! HTTP server by `ffmpeg -c copy -f matroska`, which knows nothing of fragments and acknowledgements: the floor.

mod peers;
mod report;
mod service;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::cameras::Cameras;
use super::chart::{self, Bar};
use super::meter;
use super::running::Running;
use crate::shell;
use peers::Peer;
use report::Row;
use service::{Said, Service};

/// Frames a second of the cameras.
const FPS: u64 = 25;
/// How long all uploads may take to start.
const WARM_UP: Duration = Duration::from_secs(60);
/// A stream must bring this share of the frames that its camera sent during the window …
const FRAMES_NEEDED: f64 = 0.95;
/// … but for what is in fragments that are not whole at its ends.
const SECONDS_AT_THE_ENDS: u64 = 5;

/// What to compare, and how.
#[derive(clap::Args)]
#[command(after_help = "Example: cargo xtask bench-peers kvs --cameras 20 --seconds 25")]
pub(super) struct Options {
    /// How many cameras at once, one round each.
    #[arg(long, value_delimiter = ',', default_values_t = [20])]
    cameras: Vec<usize>,
    /// Seconds that each program is measured once all its uploads run.
    #[arg(long, default_value_t = 25)]
    seconds: u64,
    /// Which programs, in this order.
    #[arg(long, value_delimiter = ',', default_values_t = [Peer::RelaydTls, Peer::FfmpegTls, Peer::Relayd, Peer::Ffmpeg])]
    peers: Vec<Peer>,
    /// Take the release builds of relayd and relay-sim that are there.
    #[arg(long)]
    no_build: bool,
}

/// Runs every program on every number of cameras, prints the table and writes the chart.
///
/// # Errors
/// When the programs don't build, no camera starts, or relayd doesn't do the job.
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
            let dir = scratch.join(format!("kvs-{peer}-{count}"));
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

/// One program on all cameras: start, wait until every upload runs, measure, look at what came.
fn measure(peer: Peer, cameras: &Cameras, dir: &Path, seconds: u64) -> anyhow::Result<Row> {
    if dir.exists() {
        std::fs::remove_dir_all(dir)?;
    }
    std::fs::create_dir_all(dir)?;
    let count = cameras.urls().len();
    let mut service = Service::start(count, peer.has_tls().then_some(dir))?;
    let mut running = Running::start(&peer.to_string(), peer.commands(cameras.urls(), &service, dir)?, dir)?;
    await_uploads(&mut running, &mut service, peer, count)?;

    let before = service.report()?;
    service.window()?;
    let (from, cpu_before) = (Instant::now(), meter::cpu(running.pids())?);
    std::thread::sleep(Duration::from_secs(seconds));
    let (window, cpu_after) = (from.elapsed(), meter::cpu(running.pids())?);
    let after = service.report()?;
    let peak_bytes = meter::peak_memory(running.pids())?;
    running.stop()?;

    let came = if peer.is_relayd() { after } else { after.since(&before) };
    if let Some(wrong) = came.wrong.first() {
        bail!("{wrong}");
    }
    let fewest = came.frames.values().copied().min().unwrap_or(0);
    let needed = (FRAMES_NEEDED * (FPS * seconds.saturating_sub(SECONDS_AT_THE_ENDS)) as f64) as u64;
    if came.frames.len() != count || fewest < needed {
        bail!("{} streams came, the fewest frames are {fewest}, {needed} were needed", came.frames.len());
    }
    Ok(Row {
        peer,
        cameras: count,
        window,
        cpu: cpu_after.saturating_sub(cpu_before),
        peak_bytes,
        bytes: came.bytes,
        fewest_frames: fewest,
        lags_ms: came.lags_ms,
        is_whole: true,
    })
}

fn await_uploads(running: &mut Running, service: &mut Service, peer: Peer, count: usize) -> anyhow::Result<()> {
    let started = Instant::now();
    loop {
        running.check_alive()?;
        let Said { frames, .. } = service.report()?;
        let going = frames.values().filter(|frames| **frames > 0).count();
        if going == count {
            return Ok(());
        }
        if started.elapsed() > WARM_UP {
            bail!("after {WARM_UP:?} only {going} of {count} uploads of {peer} run: {}", running.last_words());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn conclude(rows: &[Row], seconds: u64) -> anyhow::Result<()> {
    let (table, verdict) = (report::markdown(rows), report::verdict(rows));
    println!("\n{table}\n{verdict}");
    super::keep("bench-peers-kvs.md", &format!("{table}\n{verdict}"))?;
    let title = format!("RTSP cameras sent to a stand-in for Kinesis Video Streams, 720p25 at 2 Mbit/s, {seconds} s");
    let panels = ["CPU seconds a stream-minute", "peak resident memory, MiB"];
    let bar = |row: &Row| Bar {
        group: format!("{} stream(s)", row.cameras),
        program: row.peer.to_string(),
        values: vec![row.cpu_per_stream_minute(), row.peak_mib()],
    };
    let bars: Vec<_> = rows.iter().filter(|row| row.is_whole).map(bar).collect();
    let chart = super::keep("bench-peers-kvs.svg", &chart::svg(&title, &panels, &bars))?;
    println!("the chart is in {}", chart.strip_prefix(shell::root()).unwrap_or(&chart).display());
    if rows.iter().any(|row| row.peer.is_relayd() && !row.is_whole) {
        bail!("relayd did not send every camera");
    }
    Ok(())
}

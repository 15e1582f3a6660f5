//! `cargo xtask bench-peers JOB`: relayd, other programs and a floor program that only moves bytes at the same job, in
//! turn, in one run. The machine's speed differs from hour to hour: read the ratios, not the digits.

mod cameras;
mod chart;
mod frames;
mod hls;
mod kvs;
mod meter;
mod record;
mod running;
mod webrtc;

use std::path::PathBuf;

use anyhow::Context;

use crate::shell;

/// What to compare, and how.
#[derive(clap::Args)]
#[command(after_help = "Example: cargo xtask bench-peers record --cameras 1,20 --seconds 30")]
pub(crate) struct Options {
    /// The job.
    #[command(subcommand)]
    job: Job,
}

#[derive(clap::Subcommand)]
enum Job {
    /// RTSP over TCP into fragmented MP4, no transcoding: relayd, ffmpeg, GStreamer.
    Record(record::Options),
    /// Live HLS from nginx into fragmented MP4, no transcoding: relayd, ffmpeg, GStreamer.
    Hls(hls::Options),
    /// RTSP cameras to a stand-in for Kinesis Video Streams: relayd, and ffmpeg's plain upload.
    Kvs(kvs::Options),
    /// One RTSP camera to many WebRTC viewers: relayd, Janus.
    Webrtc(webrtc::Options),
}

/// Runs every program, prints the table and writes the chart.
///
/// # Errors
/// When the programs don't build, no camera starts, or relayd doesn't do the job.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    match &options.job {
        Job::Record(options) => record::run(options),
        Job::Hls(options) => hls::run(options),
        Job::Kvs(options) => kvs::run(options),
        Job::Webrtc(options) => webrtc::run(options),
    }
}

fn build() -> anyhow::Result<()> {
    println!("building relayd and relay-sim, optimised");
    shell::run(&mut shell::cargo(&["build", "--release", "-p", "relayd", "-p", "relay-sim"]))
}

/// Keeps a table or a chart.
fn keep(name: &str, text: &str) -> anyhow::Result<PathBuf> {
    let path = shell::artifacts()?.join(name);
    std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    Ok(path)
}

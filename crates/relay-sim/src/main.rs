//! Cameras and checks to run by hand: `relay-sim camera --count 20`.
#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "a program for tests: it prints and keeps time")]

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use clap::{Parser, Subcommand};
use relay_sim::{CameraOptions, Clip, ClipOptions, Farm, Fault, floor, verify::Counters};
use tokio::task::JoinSet;
use url::Url;

#[derive(Parser)]
#[command(about = "Cameras and checks for tests and benches of the relay")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs RTSP cameras until killed; prints `ready URL` for each.
    Camera(CameraArgs),
    /// Reads the frame counters back from recordings.
    Verify {
        /// Recordings, or folders of them.
        paths: Vec<PathBuf>,
    },
    /// The floor of every recorder: plays the cameras and writes the bytes to files, nothing else.
    Floor {
        /// Cameras.
        urls: Vec<Url>,
        /// Where the files go.
        #[arg(long)]
        out: PathBuf,
    },
    /// Writes a clip as an Annex B stream.
    Clip {
        /// The file.
        #[arg(long)]
        out: PathBuf,
        /// Its length.
        #[arg(long, default_value_t = 60)]
        seconds: u32,
    },
}

#[derive(clap::Args)]
struct CameraArgs {
    /// How many.
    #[arg(long, default_value_t = 1)]
    count: usize,
    /// The address; each camera takes a port that the system chooses.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Pixels in a row.
    #[arg(long, default_value_t = 1_280)]
    width: u32,
    /// Rows.
    #[arg(long, default_value_t = 720)]
    height: u32,
    /// Frames per second.
    #[arg(long, default_value_t = 25)]
    fps: u32,
    /// Bits per second.
    #[arg(long, default_value_t = 2_000_000)]
    bitrate: u32,
    /// Frames from one key frame to the next.
    #[arg(long, default_value_t = 50)]
    gop: u32,
    /// `user:password` that the cameras ask for.
    #[arg(long)]
    credentials: Option<String>,
    /// Break every camera this long after the start…
    #[arg(long, value_name = "SECONDS")]
    gone_after: Option<u64>,
    /// …for this long.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    gone_for: u64,
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Camera(args) => run_cameras(&args),
        Command::Verify { paths } => verify(&paths),
        Command::Floor { urls, out } => {
            std::fs::create_dir_all(&out)?;
            tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run_floor(urls, out))
        }
        Command::Clip { out, seconds } => {
            let options = ClipOptions::default();
            let clip = Clip::encode(ClipOptions { gops: seconds * options.fps / options.gop_frames, ..options })?;
            Ok(std::fs::write(out, clip.to_annex_b())?)
        }
    }
}

fn run_cameras(args: &CameraArgs) -> anyhow::Result<()> {
    let clip = Arc::new(Clip::encode(ClipOptions {
        width: args.width,
        height: args.height,
        fps: args.fps,
        bitrate_bps: args.bitrate,
        gop_frames: args.gop,
        gops: 2,
    })?);
    let credentials = args.credentials.as_ref().and_then(|both| both.split_once(':'));
    let credentials = credentials.map(|(user, password)| (user.to_owned(), password.to_owned()));
    let camera = || CameraOptions { credentials: credentials.clone(), ..CameraOptions::new(clip.clone()) };
    let farm = Farm::start(args.listen.ip(), (0..args.count).map(|_| camera()).collect())?;
    for url in farm.urls() {
        println!("ready {url}");
    }
    if let Some(after) = args.gone_after {
        let set = |fault: Fault| {
            (0..farm.len()).filter_map(|index| farm.camera(index)).for_each(|camera| camera.set_fault(fault.clone()));
        };
        std::thread::sleep(Duration::from_secs(after));
        set(Fault::Gone);
        std::thread::sleep(Duration::from_secs(args.gone_for));
        set(Fault::None);
    }
    loop {
        std::thread::park();
    }
}

fn verify(paths: &[PathBuf]) -> anyhow::Result<()> {
    println!("| recording | frames | first | last | missing | repeated | decode times back |");
    println!("|---|---|---|---|---|---|---|");
    for path in paths {
        let counters = if path.is_dir() { Counters::read_dir(path)? } else { Counters::read(path)? };
        let (gaps, repeats) = counters.gaps_and_repeats();
        let (first, last) = (counters.counters.first(), counters.counters.last());
        println!(
            "| {} | {} | {first:?} | {last:?} | {gaps} | {repeats} | {} |",
            path.display(),
            counters.frames,
            counters.dts_regressions,
        );
    }
    Ok(())
}

async fn run_floor(urls: Vec<Url>, out: PathBuf) -> anyhow::Result<()> {
    let mut copies = JoinSet::new();
    for (index, url) in urls.into_iter().enumerate() {
        copies.spawn(floor::copy(url, out.join(format!("{index}.rtp"))));
    }
    while let Some(copied) = copies.join_next().await {
        copied??;
    }
    Ok(())
}

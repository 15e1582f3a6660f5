//! Cameras and checks to run by hand: `relay-sim camera --count 20`.
#![allow(clippy::print_stdout, reason = "a program for tests: what it prints is its result")]

mod commands;

use std::{
    io::{self, BufRead as _, Write as _},
    net::SocketAddr,
    num::NonZeroU32,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand, ValueEnum};
use relay_sim::{
    Audio, Auth, CameraConfig, Clip, ClipSpec, Coding, Credentials, Farm, FarmConfig, Ports, ScriptLine, floor, verify,
};
use tokio::{task::JoinSet, time::Instant};

#[derive(Parser)]
#[command(about = "Cameras and checks for tests and benches of the relay")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs RTSP cameras until killed; prints `ready URL` for each. Fault lines on its standard
    /// input happen at once.
    Camera(CameraArgs),
    /// Reads the frame counters back from recordings (folders stand for the .mp4 files in them).
    Verify {
        /// Recordings, or folders of them.
        #[arg(required = true)]
        paths: Vec<PathBuf>,
        /// Search the bytes for stamps, for files that other programs wrote.
        #[arg(long)]
        search: bool,
    },
    /// The floor of every recorder: plays the cameras and writes the bytes to files, nothing else.
    Floor {
        /// Cameras.
        #[arg(required = true)]
        urls: Vec<String>,
        /// Where the files go.
        #[arg(long)]
        out: PathBuf,
        /// Stop after this long; else run until killed.
        #[arg(long)]
        seconds: Option<u64>,
    },
    /// Writes a clip as an Annex B stream, with a stamp in each frame.
    Clip {
        #[command(flatten)]
        clip: ClipArgs,
        /// The file.
        #[arg(long)]
        out: PathBuf,
    },
    /// WebRTC viewers that count what they get and don't decode it.
    Whep(commands::WhepArgs),
    /// The floor of every WebRTC server: encrypts the packets of a clip for each viewer, and sends them.
    WhepFloor {
        #[command(flatten)]
        floor: commands::FloorArgs,
        #[command(flatten)]
        clip: ClipArgs,
    },
    /// The viewers of whep-floor: sockets that are read.
    WhepSink(commands::SinkArgs),
    /// A stand-in for Kinesis Video Streams that is strict, keeps what it gets for reading back, and fails on demand.
    Kvs(commands::KvsArgs),
    /// A live HLS origin; fault lines on its standard input happen at once.
    HlsOrigin {
        #[command(flatten)]
        origin: commands::OriginArgs,
        #[command(flatten)]
        clip: ClipArgs,
    },
    /// A bad link for UDP: delays, loses and throttles what passes.
    Link(commands::LinkArgs),
}

#[derive(Args)]
struct CameraArgs {
    /// How many.
    #[arg(long, default_value_t = 1)]
    count: usize,
    /// The first camera's address; the others count up from it. Port 0 takes free ones.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// One port for all.
    #[arg(long)]
    shared_port: bool,
    #[command(flatten)]
    clip: ClipArgs,
    /// A second clip of this size, `WIDTHxHEIGHT`, that the fault `clip=1` goes over to.
    #[arg(long, value_name = "SIZE")]
    other_size: Option<String>,
    /// The sound.
    #[arg(long, value_enum, default_value = "none")]
    audio: Sound,
    /// `user:password` that the cameras ask for.
    #[arg(long)]
    credentials: Option<String>,
    /// Ask for the password in the clear rather than by digest.
    #[arg(long)]
    basic: bool,
    /// What goes wrong and when: `CAMERA:NAME[=VALUE][@START][+DURATION]`, such as `3:kill@5s+10s` or `all:freeze@9s`.
    #[arg(long = "fault", value_name = "LINE")]
    faults: Vec<ScriptLine>,
}

#[derive(Clone, Copy, Args)]
struct ClipArgs {
    /// The coding.
    #[arg(long, value_enum, default_value = "baseline")]
    coding: CodingArg,
    /// Pixels in a row.
    #[arg(long, default_value_t = 1_280)]
    width: u32,
    /// Rows.
    #[arg(long, default_value_t = 720)]
    height: u32,
    /// Frames per second.
    #[arg(long, default_value_t = const { NonZeroU32::new(25).expect("25 is not zero") })]
    fps: NonZeroU32,
    /// Bits per second: `2000000`, `2000k` or `2M`.
    #[arg(long, default_value = "2M", value_parser = bitrate)]
    bitrate: u32,
    /// Frames from one key frame to the next.
    #[arg(long, default_value_t = 50)]
    gop: u32,
    /// Length of the loop.
    #[arg(long, default_value_t = 4)]
    seconds: u32,
    /// Have ffmpeg make it.
    #[arg(long)]
    ffmpeg: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum CodingArg {
    Baseline,
    High,
    H265,
}

#[derive(Clone, Copy, ValueEnum)]
enum Sound {
    None,
    Pcma,
    Opus,
    Aac,
    Silent,
}

fn main() -> anyhow::Result<ExitCode> {
    let fine = match Cli::parse().command {
        Command::Camera(args) => cameras(&args)?,
        Command::Verify { paths, search } => check(&paths, search)?,
        Command::Floor { urls, out, seconds } => read_all(urls, &out, seconds)?,
        Command::Clip { clip, out } => {
            let made = clip.make()?;
            println!("{} frames, {} bit/s", made.frames(), made.bitrate_bps());
            std::fs::write(&out, made.annex_b()).with_context(|| out.display().to_string())?;
            true
        }
        Command::Whep(args) => commands::watch(&args)?,
        Command::WhepFloor { floor, clip } => commands::floor(&floor, &*clip.make()?)?,
        Command::WhepSink(args) => commands::sink(&args)?,
        Command::Kvs(args) => commands::kvs(&args)?,
        Command::HlsOrigin { origin, clip } => {
            let lower = |number| ClipArgs { width: clip.width >> number, height: clip.height >> number, ..clip };
            let variants = (0..origin.variants).map(|number| lower(number).make()).collect::<anyhow::Result<_>>()?;
            commands::origin(&origin, variants)?
        }
        Command::Link(args) => commands::link(&args)?,
    };
    Ok(if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn cameras(args: &CameraArgs) -> anyhow::Result<bool> {
    let mut clips = vec![args.clip.make()?];
    if let Some(size) = &args.other_size {
        let (width, height) = size.split_once('x').context("--other-size is WIDTHxHEIGHT")?;
        let spec = ClipSpec { width: width.parse()?, height: height.parse()?, ..args.clip.spec() };
        clips.push(Clip::make(spec)?);
    }
    let camera = |index| CameraConfig {
        audio: args.audio.audio(),
        auth: args.auth(),
        script: args
            .faults
            .iter()
            .filter(|line| line.camera.is_none_or(|at| at == index))
            .map(|line| line.step)
            .collect(),
        seed: index as u64,
        ..CameraConfig::new(clips.clone())
    };
    let farm = Farm::start(FarmConfig {
        listen: args.listen,
        ports: if args.shared_port { Ports::Shared } else { Ports::PerCamera },
        cameras: (0..args.count).map(camera).collect(),
    })
    .with_context(|| format!("listen on {}", args.listen))?;
    for camera in farm.cameras() {
        println!("ready {}", camera.url());
    }
    io::stdout().flush()?;
    for line in io::stdin().lock().lines() {
        match line?.parse::<ScriptLine>() {
            Ok(line) => {
                let chosen =
                    farm.cameras().iter().enumerate().filter(|(at, _)| line.camera.is_none_or(|one| one == *at));
                chosen.for_each(|(_, camera)| camera.happen(line.step.trouble));
                println!("done");
            }
            Err(error) => println!("error: {error}"),
        }
        io::stdout().flush()?;
    }
    // The end of the input is not the end of the cameras.
    loop {
        std::thread::park();
    }
}

/// True if nothing is missing, twice or out of order.
fn check(paths: &[PathBuf], search: bool) -> anyhow::Result<bool> {
    println!("| recording | frames | first | last | missing | twice | steps back | unstamped | decode times back |");
    println!("|---|---|---|---|---|---|---|---|---|");
    let mut whole = true;
    for path in paths {
        let report = if search { verify::search([path]) } else { verify::recordings([path]) }?;
        let (first, last) = report.range().unwrap_or_default();
        println!(
            "| {} | {} | {first} | {last} | {} | {} | {} | {} | {} |",
            path.display(),
            report.stamps.len(),
            report.missing(),
            report.duplicates.len(),
            report.regressions.len(),
            report.unstamped(),
            report.dts_regressions,
        );
        whole &= report.is_continuous() && !report.stamps.is_empty();
    }
    Ok(whole)
}

fn read_all(urls: Vec<String>, out: &Path, seconds: Option<u64>) -> anyhow::Result<bool> {
    /// As good as for ever.
    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
    std::fs::create_dir_all(out)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let dumps = runtime.block_on(async {
        let end = Instant::now() + seconds.map_or(YEAR, Duration::from_secs);
        let mut readers = JoinSet::new();
        for (index, url) in urls.into_iter().enumerate() {
            let file = out.join(format!("{index}.rtp"));
            readers.spawn(async move { floor::dump(&url, &file, end).await });
        }
        readers.join_all().await
    });
    let mut fine = true;
    for dump in dumps {
        match dump {
            Ok(dump) => println!("{}: {} bytes in {} reads", dump.path.display(), dump.bytes, dump.reads),
            Err(error) => {
                println!("error: {error}");
                fine = false;
            }
        }
    }
    Ok(fine)
}

impl CameraArgs {
    fn auth(&self) -> Auth {
        let Some((user, password)) = self.credentials.as_deref().and_then(|both| both.split_once(':')) else {
            return Auth::Open;
        };
        let credentials = Credentials { user: user.to_owned(), password: password.to_owned() };
        if self.basic { Auth::Basic(credentials) } else { Auth::Digest(credentials) }
    }
}

impl ClipArgs {
    fn spec(&self) -> ClipSpec {
        let Self { width, height, fps, bitrate: bitrate_bps, gop: gop_frames, seconds, .. } = *self;
        let coding = match self.coding {
            CodingArg::Baseline => Coding::H264Baseline,
            CodingArg::High => Coding::H264HighBFrames,
            CodingArg::H265 => Coding::H265,
        };
        ClipSpec { coding, width, height, fps, gop_frames, bitrate_bps, seconds }
    }

    fn make(&self) -> anyhow::Result<Arc<Clip>> {
        Ok(if self.ffmpeg { Clip::ffmpeg(self.spec()) } else { Clip::make(self.spec()) }?)
    }
}

impl Sound {
    fn audio(self) -> Audio {
        match self {
            Self::None => Audio::None,
            Self::Pcma => Audio::Pcma,
            Self::Opus => Audio::Opus,
            Self::Aac => Audio::Aac,
            Self::Silent => Audio::Silent,
        }
    }
}

/// `2000000`, `2000k` or `2M`.
fn bitrate(text: &str) -> anyhow::Result<u32> {
    let (digits, factor) = match text.strip_suffix(['k', 'K']) {
        Some(digits) => (digits, 1_000),
        None => text.strip_suffix('M').map_or((text, 1), |digits| (digits, 1_000_000)),
    };
    digits.parse::<u32>()?.checked_mul(factor).context("too many bits per second")
}

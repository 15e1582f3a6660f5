//! `relay-sim hls-origin`.

use std::{
    io::{self, BufRead as _},
    net::SocketAddr,
    sync::Arc,
};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use relay_sim::{
    Clip,
    hls_origin::{Container, HlsOrigin, OriginConfig, OriginLine},
};

use super::say;

/// `relay-sim hls-origin`.
#[derive(Args)]
pub(crate) struct OriginArgs {
    /// Its address; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// How many variants, each half as wide and high as the one before; more than one, and there is a master playlist.
    #[arg(long, default_value_t = 1)]
    pub(crate) variants: u32,
    /// What segments are.
    #[arg(long, value_enum, default_value = "ts")]
    container: ContainerArg,
    /// No sound.
    #[arg(long)]
    mute: bool,
    /// Groups of pictures in a segment.
    #[arg(long, default_value_t = 1)]
    segment_gops: u64,
    /// Segments listed.
    #[arg(long, default_value_t = 6)]
    window: usize,
    /// A master playlist even for one variant.
    #[arg(long)]
    master: bool,
    /// URLs beyond the master playlist carry a signature, for the fault `expire=403`.
    #[arg(long, requires = "master")]
    signed: bool,
    /// AES-128, with a new key after so many segments.
    #[arg(long, value_name = "SEGMENTS")]
    rotate_key: Option<u64>,
    /// Segments are byte ranges of files of so many.
    #[arg(long, value_name = "SEGMENTS")]
    byte_ranges: Option<u64>,
    /// Low latency: frames in a part.
    #[arg(long, value_name = "FRAMES")]
    parts: Option<u64>,
    /// No EXT-X-PROGRAM-DATE-TIME.
    #[arg(long)]
    no_wall: bool,
    /// What goes wrong and when: `NAME[=VALUE][:DURATION][@START]`, such as `stall:30s@20s`, `404=segments:5s@1m` or
    /// `reset@90s`.
    #[arg(long = "fault", value_name = "LINE")]
    faults: Vec<OriginLine>,
}

#[derive(Clone, Copy, ValueEnum)]
enum ContainerArg {
    Ts,
    Fmp4,
}

/// Runs an origin until killed; prints `ready URL`.
pub(crate) fn origin(args: &OriginArgs, variants: Vec<Arc<Clip>>) -> anyhow::Result<bool> {
    let config = OriginConfig::local(variants);
    let config = OriginConfig {
        listen: args.listen,
        container: match args.container {
            ContainerArg::Ts => Container::Ts,
            ContainerArg::Fmp4 => Container::Fmp4,
        },
        has_audio: !args.mute,
        segment_frames: config.segment_frames * args.segment_gops,
        window: args.window,
        has_master: config.has_master || args.master,
        is_signed: args.signed,
        key_segments: args.rotate_key,
        file_segments: args.byte_ranges,
        part_frames: args.parts,
        has_wall: !args.no_wall,
        script: args.faults.clone(),
        ..config
    };
    let origin = HlsOrigin::start(config).with_context(|| format!("an origin at {}", args.listen))?;
    say(&format!("ready {}", origin.url()))?;
    for line in io::stdin().lock().lines() {
        match line?.parse::<OriginLine>() {
            Ok(line) => {
                origin.happen(line.trouble);
                say("done")?;
            }
            Err(error) => say(&format!("error: {error}"))?,
        }
    }
    // The end of the input is not the end of the origin.
    loop {
        std::thread::park();
    }
}

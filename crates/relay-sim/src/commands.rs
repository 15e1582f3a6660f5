//! The commands about viewers and links: `relay-sim whep`, `whep-floor`, `whep-sink` and `link`.

mod origin;

use std::{
    io::Write as _,
    net::{IpAddr, SocketAddr, UdpSocket},
    num::NonZeroU32,
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context as _, bail};
use clap::Args;
use relay_sim::{
    Clip,
    link::{Conditions, Link, LinkConfig},
    whep::{Crowd, CrowdConfig, Signalling, fanout},
};

mod kvs;

pub(crate) use kvs::{KvsArgs, serve as kvs};

pub(crate) use origin::{OriginArgs, origin};

/// `relay-sim whep`.
#[derive(Args)]
pub(crate) struct WhepArgs {
    /// `http://host:port/whep/stream`, or with `--janus` `http://host:port/janus`.
    url: String,
    /// How many viewers.
    #[arg(long, default_value_t = 1)]
    viewers: usize,
    /// How long they watch once all play.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// How long they play before that, uncounted.
    #[arg(long, default_value_t = 3)]
    settle: u64,
    /// Joins in a second.
    #[arg(long, default_value = "50")]
    rate: NonZeroU32,
    /// Joins at random moments, with that mean.
    #[arg(long)]
    random: bool,
    /// A bearer token.
    #[arg(long)]
    token: Option<String>,
    /// Ask Janus for this mountpoint instead.
    #[arg(long, value_name = "MOUNTPOINT")]
    janus: Option<u64>,
    /// The viewers' local address.
    #[arg(long)]
    bind: Option<IpAddr>,
    /// One JSON object a viewer, then one for all, rather than a table.
    #[arg(long)]
    json: bool,
    /// Writes each frame's latencies there, in ms to its stamp and to its last packet, viewer by viewer.
    #[arg(long, value_name = "FILE")]
    latencies: Option<PathBuf>,
}

/// `relay-sim whep-floor`.
#[derive(Args)]
pub(crate) struct FloorArgs {
    /// Where viewers say hello.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// How many are waited for.
    #[arg(long, default_value_t = 1)]
    viewers: usize,
    /// How long to send.
    #[arg(long, default_value = "10s", value_parser = duration)]
    duration: Duration,
    /// A system call for each packet, rather than one for a frame's equal packets (GSO).
    #[arg(long)]
    plain: bool,
}

/// `relay-sim whep-sink`.
#[derive(Args)]
pub(crate) struct SinkArgs {
    /// The floor program's address.
    server: SocketAddr,
    /// How many sockets.
    #[arg(long, default_value_t = 1)]
    viewers: usize,
}

/// `relay-sim link`.
#[derive(Args)]
pub(crate) struct LinkArgs {
    /// The near end.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The server.
    #[arg(long)]
    to: SocketAddr,
    /// The share that gets lost: `3%`.
    #[arg(long, default_value = "0%", value_parser = percent)]
    loss: f64,
    /// One way: `50ms`.
    #[arg(long, default_value = "0ms", value_parser = duration)]
    delay: Duration,
    /// Added to the delay by chance, up to this.
    #[arg(long, default_value = "0ms", value_parser = duration)]
    jitter: Duration,
    /// Jitter may change the order.
    #[arg(long)]
    reorder: bool,
    /// Bits per second through each flow's bottleneck: `1M`.
    #[arg(long, value_parser = crate::bitrate)]
    rate: Option<u32>,
    /// What may wait before the bottleneck.
    #[arg(long, default_value = "200ms", value_parser = duration)]
    queue: Duration,
    /// Where chance begins.
    #[arg(long, default_value_t = 0x5eed)]
    seed: u64,
}

/// How long the slowest join of a crowd may take, beyond the time that all take to come.
const PLAYING: Duration = Duration::from_secs(15);

/// Watches; true if anything came. Says `steady` when it begins to count, and `done` when it has.
pub(crate) fn watch(args: &WhepArgs) -> anyhow::Result<bool> {
    let WhepArgs { url, token, .. } = args;
    let signalling = match args.janus {
        Some(mountpoint) => Signalling::Janus { url: url.clone(), mountpoint },
        None => Signalling::Whep { url: url.clone(), token: token.clone(), via: None },
    };
    let config = CrowdConfig {
        joins_per_second: args.rate,
        random: args.random,
        bind: args.bind,
        ..CrowdConfig::new(signalling, args.viewers)
    };
    let joining = config.joining();
    let crowd = Crowd::start(config)?;
    let progress = crowd.await_playing(joining + PLAYING);
    say(&format!("joined {} of {}, {} failed", progress.playing, args.viewers, progress.failed))?;
    rest(Duration::from_secs(args.settle));
    crowd.begin_window();
    say("steady")?;
    rest(Duration::from_secs(args.seconds));
    let mut report = crowd.report();
    say("done")?;
    report.failures.extend(crowd.leave().failures.into_iter().skip(report.failures.len()));
    if let Some(path) = &args.latencies {
        let lines: String = report.latencies_ms().map(|(stamp, whole)| format!("{stamp} {whole}\n")).collect();
        std::fs::write(path, lines).with_context(|| path.display().to_string())?;
    }
    if args.json {
        for viewer in &report.viewers {
            println!("{}", viewer.json());
        }
        println!("{}", report.json());
    } else {
        println!("{}", report.table());
    }
    Ok(report.sum(|viewer| viewer.whole) > 0)
}

/// Sends what every server must, and nothing else.
pub(crate) fn floor(args: &FloorArgs, clip: &Clip) -> anyhow::Result<bool> {
    let socket = UdpSocket::bind(args.listen).with_context(|| format!("listen on {}", args.listen))?;
    say(&format!("ready {}", socket.local_addr()?))?;
    let config = fanout::FanoutConfig { viewers: args.viewers, duration: args.duration, segmented: !args.plain };
    let sent = fanout::send(&socket, clip, &config, || drop(say("steady")))?;
    say("done")?;
    println!("{} packets in {} calls, {} refused", sent.packets, sent.calls, sent.refused);
    Ok(sent.refused == 0)
}

/// Receives what [`floor`] sends.
pub(crate) fn sink(args: &SinkArgs) -> anyhow::Result<bool> {
    let received = fanout::receive(args.server, args.viewers)?;
    println!("{} packets, {} bytes at {} viewers", received.packets, received.bytes, received.viewers);
    Ok(received.viewers == args.viewers)
}

/// Runs a link until killed.
pub(crate) fn link(args: &LinkArgs) -> anyhow::Result<bool> {
    let LinkArgs { loss, delay, jitter, reorder, queue, .. } = *args;
    let conditions = Conditions { loss, delay, jitter, reorder, queue, rate_bps: args.rate.map(u64::from) };
    let link = Link::start(LinkConfig { listen: args.listen, to: args.to, conditions, seed: args.seed })
        .with_context(|| format!("listen on {}", args.listen))?;
    say(&format!("ready {}", link.addr()))?;
    loop {
        rest(Duration::from_secs(10));
        let passed = link.passed();
        say(&format!(
            "{} clients, {} forwarded, {} lost, {} overflowed",
            passed.flows, passed.forwarded, passed.lost, passed.overflowed
        ))?;
    }
}

/// Prints a line that a program is waiting for.
fn say(line: &str) -> std::io::Result<()> {
    println!("{line}");
    std::io::stdout().flush()
}

#[allow(clippy::disallowed_methods, reason = "a program for tests: how long it runs is what it was asked")]
fn rest(time: Duration) {
    std::thread::sleep(time);
}

/// `3%`.
fn percent(text: &str) -> anyhow::Result<f64> {
    let share = text.strip_suffix('%').context("a share in percent, such as 3%")?.parse::<f64>()? / 100.0;
    if !(0.0..=1.0).contains(&share) {
        bail!("0% to 100%");
    }
    Ok(share)
}

/// `50ms` or `2s`.
fn duration(text: &str) -> anyhow::Result<Duration> {
    if let Some(digits) = text.strip_suffix("ms") {
        return Ok(Duration::from_millis(digits.parse()?));
    }
    let digits = text.strip_suffix('s').context("a duration with its unit, such as 50ms or 2s")?;
    Ok(Duration::from_secs(digits.parse()?))
}

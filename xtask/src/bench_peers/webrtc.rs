//! `cargo xtask bench-peers webrtc`: one RTSP camera to many WebRTC viewers by relayd, by Janus's streaming plugin, and
//! by a floor program that encrypts and sends the same packets and does nothing else. The viewers are the same for all:
//! `relay-sim whep`, one process that counts whole frames and decodes none.

mod peers;
mod report;

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::Value;

use super::cameras::Cameras;
use super::chart::{self, Bar};
use super::meter;
use crate::shell;
use peers::{Peer, Server};
use report::Row;

/// What to compare, and how.
#[derive(clap::Args)]
#[command(after_help = "Example: cargo xtask bench-peers webrtc --viewers 1,50,200 --seconds 30")]
pub(super) struct Options {
    /// How many viewers at once, one round each.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 10, 50, 200])]
    viewers: Vec<usize>,
    /// Seconds that each program is measured once all its viewers play.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Which programs, in this order.
    #[arg(long, value_delimiter = ',', default_values_t = [Peer::Relayd, Peer::Janus, Peer::Floor])]
    peers: Vec<Peer>,
    /// 1,000 viewers of a 600 kbit/s stream from relayd, pinned.
    #[arg(long)]
    crowd: bool,
    /// The server on one core, the viewers and the camera on another.
    #[arg(long)]
    pin: bool,
    /// Viewers that join in a second.
    #[arg(long, default_value_t = 25)]
    rate: u32,
    /// Take the release builds of relayd and relay-sim that are there.
    #[arg(long)]
    no_build: bool,
}

/// What is measured in one run.
pub(super) struct Plan {
    title: String,
    clip: Vec<&'static str>,
    viewers: Vec<usize>,
    peers: Vec<Peer>,
    seconds: u64,
    rate: u32,
    pinned: bool,
}

/// How long a server is left alone, after one viewer has come and gone, before its memory is looked at: what it holds
/// then, code that viewers need included, is what it holds without any.
const ALONE: Duration = Duration::from_secs(3);

impl Options {
    fn plan(&self) -> Plan {
        let (seconds, rate) = (self.seconds, self.rate);
        if self.crowd {
            let clip = vec!["--width", "640", "--height", "360", "--bitrate", "600k"];
            let (viewers, peers) = (vec![1_000], vec![Peer::Relayd, Peer::Floor]);
            let title = "One RTSP camera of 360p25 at 600 kbit/s to WebRTC viewers, pinned".into();
            return Plan { title, clip, viewers, peers, seconds, rate, pinned: true };
        }
        let title = "One RTSP camera of 720p25 at 2 Mbit/s to WebRTC viewers".into();
        let (viewers, peers, pinned) = (self.viewers.clone(), self.peers.clone(), self.pin);
        Plan { title, clip: Vec::new(), viewers, peers, seconds, rate, pinned }
    }
}

/// Runs every program for every number of viewers, prints the table and writes the chart.
///
/// # Errors
/// When the programs don't build, no camera starts, or relayd's viewers see nothing.
pub(super) fn run(options: &Options) -> anyhow::Result<()> {
    if !options.no_build {
        super::build()?;
    }
    let plan = options.plan();
    let mut rows = Vec::new();
    for &viewers in &plan.viewers {
        for &peer in &plan.peers {
            if !peer.is_installed() {
                println!("{viewers} viewers, {peer}: skipped: not installed");
                continue;
            }
            let row = match measure(peer, viewers, &plan) {
                Ok(row) => row,
                Err(error) => {
                    println!("{viewers} viewers, {peer}: failed: {error:#}");
                    Row::failed(peer, viewers)
                }
            };
            println!("{}", row.sentence());
            rows.push(row);
        }
    }
    conclude(&plan, if options.crowd { "crowd" } else { "webrtc" }, &rows)
}

fn measure(peer: Peer, viewers: usize, plan: &Plan) -> anyhow::Result<Row> {
    if peer == Peer::Floor {
        return measure_floor(viewers, plan);
    }
    let cameras = Cameras::start(1, &plan.clip)?;
    if plan.pinned {
        pin(cameras.pid(), 1)?;
    }
    let url = cameras.urls().first().context("no camera")?;
    let server = Server::start(peer, url, plan.pinned.then_some(0))?;
    server.await_live()?;
    let mut first = sim();
    first.arg("whep").args(server.crowd()).args(["--json", "--settle", "1", "--seconds", "1"]);
    shell::capture(&mut first)?;
    std::thread::sleep(ALONE);
    let alone = meter::resident_memory(server.pid())?;

    let mut command = sim();
    command.arg("whep").args(server.crowd()).arg("--json");
    let (count, seconds, rate) = (viewers.to_string(), plan.seconds.to_string(), plan.rate.to_string());
    command.args(["--viewers", &count, "--seconds", &seconds, "--rate", &rate]);
    let mut crowd = Talking::start(&mut command)?;
    if plan.pinned {
        pin(crowd.child.id(), 1)?;
    }
    crowd.await_line("steady")?;
    let (from, before) = (Instant::now(), meter::cpu([server.pid()])?);
    let crowd_before = meter::cpu([crowd.child.id()])?;
    crowd.await_line("done")?;
    let (window, cpu) = (from.elapsed(), meter::cpu([server.pid()])?.saturating_sub(before));
    let crowd_cpu = meter::cpu([crowd.child.id()])?.saturating_sub(crowd_before);
    let memory = meter::peak_memory([server.pid()])?.saturating_sub(alone);
    let seen = crowd.last_json()?;
    let row = Row { peer, viewers, window, cpu, crowd_cpu, memory, seen, is_done: true };
    if row.count("playing") != u64::try_from(viewers).ok() {
        println!("not all viewers play: {}", row.seen);
    }
    Ok(row)
}

fn measure_floor(viewers: usize, plan: &Plan) -> anyhow::Result<Row> {
    let mut command = sim();
    let (count, duration) = (viewers.to_string(), format!("{}s", plan.seconds + 2));
    command.arg("whep-floor").args(["--viewers", &count, "--duration", &duration]).args(&plan.clip);
    let mut floor = Talking::start(&mut command)?;
    let ready = floor.await_line("ready ")?;
    let address = ready.trim_start_matches("ready ").to_owned();
    let mut sink = Talking::start(sim().args(["whep-sink", &address, "--viewers", &count]))?;
    if plan.pinned {
        pin(floor.child.id(), 0)?;
        pin(sink.child.id(), 1)?;
    }
    floor.await_line("steady")?;
    let (from, before) = (Instant::now(), meter::cpu([floor.child.id()])?);
    let crowd_before = meter::cpu([sink.child.id()])?;
    std::thread::sleep(Duration::from_secs(plan.seconds));
    let (window, cpu) = (from.elapsed(), meter::cpu([floor.child.id()])?.saturating_sub(before));
    let crowd_cpu = meter::cpu([sink.child.id()])?.saturating_sub(crowd_before);
    floor.await_line("done")?;
    let received = sink.await_line("")?;
    println!("floor: {received}");
    Ok(Row { window, cpu, crowd_cpu, is_done: true, ..Row::failed(Peer::Floor, viewers) })
}

/// Puts a process and its threads on one core.
fn pin(pid: u32, core: u32) -> anyhow::Result<()> {
    let mut command = Command::new("taskset");
    command.args(["--all-tasks", "--cpu-list", "--pid", &core.to_string(), &pid.to_string()]);
    shell::capture(&mut command).map(drop)
}

fn sim() -> Command {
    Command::new(shell::target_dir().join("release/relay-sim"))
}

/// A program that says how far it is, line by line; killed when dropped.
struct Talking {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Talking {
    fn start(command: &mut Command) -> anyhow::Result<Self> {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("start relay-sim")?;
        let said = child.stdout.take().context("relay-sim has no stdout")?;
        Ok(Self { child, lines: BufReader::new(said).lines() })
    }

    /// The first line that begins so.
    fn await_line(&mut self, beginning: &str) -> anyhow::Result<String> {
        for line in self.lines.by_ref() {
            let line = line?;
            if line.starts_with(beginning) {
                return Ok(line);
            }
        }
        bail!("relay-sim ended before it said {beginning:?}: {}", self.child.wait()?)
    }

    /// The last line.
    fn last_json(&mut self) -> anyhow::Result<Value> {
        let last = self.lines.by_ref().map_while(Result::ok).last().context("relay-sim said nothing")?;
        serde_json::from_str(&last).with_context(|| format!("{last:?} is no JSON"))
    }
}

impl Drop for Talking {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing left to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn conclude(plan: &Plan, name: &str, rows: &[Row]) -> anyhow::Result<()> {
    let (table, verdict) = (report::markdown(rows), report::verdict(rows, name == "crowd"));
    println!("\n{}\n\n{table}\n{verdict}", plan.title);
    super::keep(&format!("bench-peers-{name}.md"), &format!("{}\n\n{table}\n{verdict}", plan.title))?;
    let bar = |row: &Row| Bar {
        group: format!("{} viewer(s)", row.viewers),
        program: row.peer.to_string(),
        values: vec![row.cpu_per_viewer(), row.kib_per_viewer(), row.latency(1)],
    };
    let bars: Vec<_> = rows.iter().filter(|row| row.is_done).map(bar).collect();
    let panels = ["CPU, % of a core a viewer", "memory, KiB a viewer", "added latency p99, ms"];
    let title = format!("{}, {} s", plan.title, plan.seconds);
    let chart = super::keep(&format!("bench-peers-{name}.svg"), &chart::svg(&title, &panels, &bars))?;
    println!("the chart is in {}", chart.strip_prefix(shell::root()).unwrap_or(&chart).display());
    if rows.iter().any(|row| row.peer == Peer::Relayd && !row.is_done) {
        bail!("relayd did not serve every number of viewers");
    }
    Ok(())
}

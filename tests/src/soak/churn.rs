//! Sources that connect and disconnect without end: memory, descriptors and threads must stay where they were.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use relay_sim::{CameraConfig, CameraHandle, Event, Farm, FarmConfig};
use serde_json::Value;

use super::{Report, percentile};
use crate::farm::{Picture, clip};
use crate::process::wait_for;
use crate::relayd::{Relayd, Stream};

/// How large a run is.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Connects, all cameras together.
    pub connects: u64,
    /// Cameras at once.
    pub cameras: usize,
}

/// From so many connects on, in a run of ten times as many …
const SETTLED: u64 = 1_000;
/// … resident memory may grow by this share.
const GROWTH: f64 = 0.05;
/// A look is the median of so many: a file that is just being closed, a thread that just ends, are no leaks.
const LOOKS: usize = 9;
/// A connection that isn't cut because it never came up would let the run last for ever.
const PATIENCE: Duration = Duration::from_secs(60);

/// A camera cuts at its next frame, 40 ms later at most: whoever watches after this has come anew.
const AFTER_A_CUT: Duration = Duration::from_millis(60);

/// What relayd held at one moment.
#[derive(Clone, Copy, Debug)]
struct Holding {
    connects: u64,
    resident_mib: f64,
    descriptors: f64,
    threads: f64,
}

/// Runs it.
///
/// # Errors
/// When it can't be run; what it sees go wrong is in the report.
pub fn run(scale: &Scale) -> anyhow::Result<Report> {
    super::in_scratch("soak-churn", |dir| run_in(dir, scale))
}

fn run_in(dir: &Path, scale: &Scale) -> anyhow::Result<Report> {
    let picture = clip(Picture { gop_frames: 5, ..Picture::SMALL })?;
    let cameras = (0..scale.cameras).map(|_| CameraConfig::new(vec![picture.clone()])).collect();
    let farm = Farm::start(FarmConfig::local(cameras)).context("start the cameras")?;
    let streams: Vec<_> = farm.cameras().iter().enumerate().map(stream).collect();
    let relayd = Relayd::start(dir, &streams)?;
    relayd.await_all_live(Duration::from_secs(20))?;

    let mut holdings = Vec::new();
    let mut churn = Churn::new(farm.cameras());
    for tenth in 1..=10 {
        churn.until(scale.connects * tenth / 10)?;
        relayd.await_all_live(Duration::from_secs(30))?;
        await_recorders(&relayd)?;
        holdings.push(look(&relayd, churn.connects())?);
    }
    let live = relayd.metric_sum("relayd_source_connects_total")?;
    relayd.stop()?;
    let mut report = judge(&holdings, scale.cameras);
    report.figures.push(format!("{live} of the connections came as far as a key frame"));
    Ok(report)
}

fn stream((index, camera): (usize, &CameraHandle)) -> Stream {
    Stream {
        name: format!("cam{index:03}"),
        url: camera.url(),
        source: "reconnect = { initial = \"20ms\", max = \"100ms\" }",
        record: "segment = \"10s\"\nkeep = { bytes = \"1MiB\" }\nsync = \"none\"",
    }
}

/// Cuts every connection soon after it came up.
struct Churn<'a> {
    cameras: Vec<Victim<'a>>,
}

struct Victim<'a> {
    camera: &'a CameraHandle,
    cuts: u64,
    is_up: bool,
    /// When it came up or went down.
    since: Instant,
}

impl<'a> Churn<'a> {
    fn new(cameras: &'a [CameraHandle]) -> Self {
        let victim = |camera| Victim { camera, cuts: 0, is_up: false, since: Instant::now() };
        Self { cameras: cameras.iter().map(victim).collect() }
    }

    fn connects(&self) -> u64 {
        self.cameras.iter().map(|victim| victim.cuts).sum()
    }

    /// Goes on until so many connections were cut.
    fn until(&mut self, connects: u64) -> anyhow::Result<()> {
        while self.connects() < connects {
            for victim in &mut self.cameras {
                victim.look()?;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

impl Victim<'_> {
    fn look(&mut self) -> anyhow::Result<()> {
        let age = self.since.elapsed();
        if !self.is_up && age > AFTER_A_CUT && self.camera.viewers() > 0 {
            (self.is_up, self.since) = (true, Instant::now());
            return Ok(());
        }
        // Some are cut before their first key frame, some after a few groups of pictures.
        if self.is_up && age >= Duration::from_millis(self.cuts * 37 % 500) {
            self.camera.trigger(Event::Restart);
            (self.is_up, self.since, self.cuts) = (false, Instant::now(), self.cuts + 1);
        } else if age > PATIENCE {
            bail!("{} was not connected to for {PATIENCE:?}", self.camera.open_url());
        }
        Ok(())
    }
}

/// Waits until every recorder has written to its file, so that its descriptor is counted from the first look on.
fn await_recorders(relayd: &Relayd) -> anyhow::Result<()> {
    let has_written = |stream: &Value| {
        let sinks = stream["sinks"].as_array().into_iter().flatten();
        let mut recorders = sinks.filter(|sink| sink["type"] == "record");
        recorders.all(|sink| sink["packets_out"].as_u64().is_some_and(|packets| packets > 0))
    };
    let all = || relayd.streams().is_ok_and(|streams| streams.iter().all(has_written)).then_some(());
    wait_for("every recorder has written", Duration::from_secs(30), all)
}

/// Medians of a few looks.
fn look(relayd: &Relayd, connects: u64) -> anyhow::Result<Holding> {
    let (mut resident, mut descriptors, mut threads) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..LOOKS {
        resident.push(relayd.metric("process_resident_memory_bytes")? / f64::from(1 << 20));
        descriptors.push(relayd.metric("process_open_fds")?);
        threads.push(relayd.metric("process_threads")?);
        std::thread::sleep(Duration::from_millis(100));
    }
    let median = |values: &[f64]| percentile(values, 50).unwrap_or_default();
    let (resident_mib, descriptors, threads) = (median(&resident), median(&descriptors), median(&threads));
    Ok(Holding { connects, resident_mib, descriptors, threads })
}

fn judge(holdings: &[Holding], cameras: usize) -> Report {
    let mut report = Report {
        table: "| connects | resident MiB | descriptors | threads |\n|---|---|---|---|\n".into(),
        ..Report::default()
    };
    for Holding { connects, resident_mib, descriptors, threads } in holdings {
        report.table += &format!("| {connects} | {resident_mib:.1} | {descriptors} | {threads} |\n");
    }
    let Some(last) = holdings.last() else { return report };
    // A short run is all warm-up: its first half says how much that takes.
    let settled = holdings.iter().find(|holding| holding.connects >= SETTLED && last.connects >= 10 * SETTLED);
    let half = holdings.get(..holdings.len().div_ceil(2)).unwrap_or_default();
    let highest = half.iter().max_by(|a, b| a.resident_mib.total_cmp(&b.resident_mib));
    let Some(first) = settled.or(highest) else { return report };
    let growth = last.resident_mib / first.resident_mib - 1.0;
    let (percent, most, from) = (growth * 100.0, GROWTH * 100.0, first.connects);
    report.promise(
        growth <= GROWTH,
        format!("memory grew by {percent:.1} % from {from} connects on, promised {most:.0} %"),
    );
    let most = half.iter().map(|holding| holding.descriptors).fold(0.0, f64::max);
    let seen = format!("descriptors: {most} at most in the first half, {} at the end", last.descriptors);
    report.promise(last.descriptors <= most + 2.0, seen);
    // Writing to disk takes threads of tokio's blocking pool: one a recorder at the most, as many as happen to write at once.
    let most = first.threads + cameras as f64;
    let seen = format!("threads: {} at the end, promised {most} (one more a recorder)", last.threads);
    report.promise(last.threads <= most, seen);
    report
}

#[test]
fn growth_and_leaks_are_seen() {
    let holding = |resident_mib, descriptors| Holding { connects: 0, resident_mib, descriptors, threads: 4.0 };
    for (first, last, broken) in [
        (holding(50.0, 60.0), holding(52.0, 61.0), 0),
        (holding(50.0, 60.0), holding(53.0, 60.0), 1),
        (holding(50.0, 60.0), holding(60.0, 90.0), 2),
    ] {
        assert_eq!(judge(&[first, last], 4).broken.len(), broken, "{first:?} {last:?}");
    }
}

//! The network to Kinesis Video Streams is cut for minutes: the spool takes what outgrows the window, live is back at
//! once when the network is, the backlog follows, and nothing is lost.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context;
use relay_sim::kvs::{Fault, Service, ServiceConfig, StoredFragment};
use relay_sim::{CameraConfig, Farm, FarmConfig};

use super::{Report, adds_up, percentile};
use crate::farm::{Picture, clip, utc_nanos};
use crate::kvs::{Keys, Stream, await_stored, environment, newest, sink, toml, witnessed};
use crate::process::{built, wait_for};
use crate::relayd::Relayd;

/// How large a run is.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// What the camera shows.
    pub picture: Picture,
    /// How long the network is away.
    pub cut: Duration,
}

const STREAM: &str = "yard";
/// Also on a busy machine.
const SOON: Duration = Duration::from_secs(60);
/// Live is back when a fragment is PERSISTED so soon after its first frame …
const LIVE_MS: i64 = 5_000;
/// … and that is so within this of the network's return.
const BACK: Duration = Duration::from_secs(2);
/// What relayd takes beside media.
const ITSELF_MIB: f64 = 30.0;

/// Runs it.
///
/// # Errors
/// When it can't be run; what it sees go wrong is in the report.
pub fn run(scale: &Scale) -> anyhow::Result<Report> {
    super::in_scratch("soak-kvs-cut", |dir| run_in(dir, scale))
}

fn run_in(dir: &Path, scale: &Scale) -> anyhow::Result<Report> {
    let farm = Farm::start(FarmConfig::local(vec![CameraConfig::new(vec![clip(scale.picture)?])]))?;
    let camera = farm.cameras().first().context("no camera")?;
    let service = Service::start(ServiceConfig::new([STREAM]))?;
    let (spool, seconds) = (dir.join("spool"), scale.picture.gop_frames / 25);
    let stream = Stream {
        name: STREAM.into(),
        url: camera.url(),
        endpoint: service.url(),
        kvs: format!(
            "fragment = \"{seconds}s\"\nqueue = {{ max_time = \"10s\", max_bytes = \"16MiB\" }}\nspool = {{ dir = {spool:?} }}"
        ),
    };
    let relayd = Relayd::start_in(dir, &toml(dir, &[stream])?, &environment(dir, Keys::Fixed)?)?;
    await_stored(&relayd, &service, STREAM, 0, SOON)?;
    let mut report = Report::default();
    let healthy = watch(&relayd, Duration::from_secs(8), &mut report)?;

    service.inject(Fault::Blackhole, None);
    let cut = watch(&relayd, scale.cut, &mut report)?;
    service.end(&Fault::Blackhole);
    let (back, returned) = (utc_nanos(), Instant::now());
    let counter = camera.counter();
    await_stored(&relayd, &service, STREAM, counter, SOON)?;
    // What a healthy stream holds: a fragment under way, one that is written, one that is not PERSISTED yet.
    let held_ms = 3_000 * u64::from(seconds);
    let is_gone = || (sink(&relayd.streams().ok()?, STREAM)?["kvs"]["buffered_ms"].as_u64()? <= held_ms).then_some(());
    let drained = wait_for("the backlog is gone", SOON + scale.cut, is_gone).map(|()| returned.elapsed());
    let after = watch(&relayd, Duration::from_secs(3), &mut report)?;
    let mark = newest(&service, STREAM).unwrap_or(0);
    let printed = printed_mib(dir)?;
    relayd.stop()?;

    let fragments = service.fragments(STREAM);
    let live = live_after(&fragments, back);
    let owed: Vec<u64> = witnessed(dir, STREAM)?.into_iter().filter(|counter| *counter <= mark).collect();
    let read = service.read_back(STREAM);
    let missing = read.missing(owed.iter().copied());
    report
        .promise(missing.is_empty(), format!("frames lost of {} that reached the ring: {}", owed.len(), missing.len()));
    let seen = live.first().map_or("never".into(), |(after, _)| format!("after {:.2} s", after.as_secs_f64()));
    let is_soon = live.first().is_some_and(|(after, _)| *after <= BACK);
    report.promise(
        is_soon,
        format!("a live fragment is PERSISTED within {LIVE_MS} ms {seen} of the network's return, promised {BACK:?}"),
    );
    report.promise(drained.is_ok(), "the backlog is drained".into());
    let peak = healthy.mib.max(cut.mib).max(after.mib);
    let most = printed + ITSELF_MIB;
    report.promise(peak <= most, format!("memory: {peak:.0} MiB at most, promised {most:.0}: {printed:.0} that `check` prints and {ITSELF_MIB:.0} for itself"));
    report.broken.extend(read.wrong());
    let hasty = service.refused().iter().filter(|refused| refused.name == "ClientLimitExceededException").count();
    report.promise(hasty == 0, format!("calls above the service's rate: {hasty}"));
    let lags: Vec<f64> = live.iter().map(|(_, lag)| *lag as f64).collect();
    let lag = |percent| percentile(&lags, percent).map_or("-".into(), |ms| format!("{ms:.0}"));
    report.table = format!(
        "| cut for s | spooled MiB | live after s | backlog gone after s | lag of live fragments since, ms, p50 / worst | peak MiB |\n\
         |---|---|---|---|---|---|\n| {} | {:.1} | {} | {} | {} / {} | {peak:.0} |\n",
        scale.cut.as_secs(),
        cut.spooled_mib,
        live.first().map_or("-".into(), |(after, _)| format!("{:.2}", after.as_secs_f64())),
        drained.map_or("-".into(), |time| format!("{:.1}", time.as_secs_f64())),
        lag(50),
        lag(100),
    );
    report.figures.push(format!("{read}"));
    Ok(report)
}

/// The most that was held meanwhile.
struct Held {
    mib: f64,
    spooled_mib: f64,
}

fn watch(relayd: &Relayd, time: Duration, report: &mut Report) -> anyhow::Result<Held> {
    let mut held = Held { mib: 0.0, spooled_mib: 0.0 };
    let started = Instant::now();
    while started.elapsed() < time {
        let sink = sink(&relayd.streams()?, STREAM).context("the API has no such sink")?;
        if !adds_up(&sink) && report.broken.len() < 10 {
            report.broken.push(format!("in = out + dropped + buffered: {sink}"));
        }
        let mib = |bytes: f64| bytes / f64::from(1 << 20);
        held.mib = held.mib.max(mib(relayd.metric("process_resident_memory_bytes")?));
        held.spooled_mib = held.spooled_mib.max(mib(sink["kvs"]["spool_bytes"].as_f64().unwrap_or(0.0)));
        std::thread::sleep(Duration::from_millis(500));
    }
    Ok(held)
}

/// When fragments were PERSISTED, counted from `back`, soon after their first frames were made; and how soon.
fn live_after(fragments: &[StoredFragment], back: i64) -> Vec<(Duration, i64)> {
    let live = fragments.iter().filter_map(|fragment| {
        let after = fragment.persisted_utc_nanos?.checked_sub(back).filter(|after| *after >= 0)?;
        let lag = fragment.persisted_lag_ms()?;
        (lag <= LIVE_MS || fragment.first_utc_nanos? >= back)
            .then_some((Duration::from_nanos(after.unsigned_abs()), lag))
    });
    let mut live: Vec<_> = live.collect();
    live.sort_unstable();
    live
}

/// What `relayd check` says that this configuration may hold.
fn printed_mib(dir: &Path) -> anyhow::Result<f64> {
    let said = Command::new(built("relayd")?).arg("check").arg(dir.join("relayd.toml")).output()?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let total =
        said.lines().find_map(|line| line.strip_prefix("total  up to")?.split_whitespace().next()?.parse().ok());
    total.with_context(|| format!("`check` prints {said:?}"))
}

//! Viewers that come and go without end: memory and descriptors must stay where they were.

use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use relay_sim::whep::{Crowd, CrowdConfig, Signalling};

use super::{Report, percentile};
use crate::process::wait_for;
use crate::relayd::Relayd;

/// How large a run is.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Sessions, all waves together.
    pub sessions: usize,
    /// Sessions at once.
    pub wave: usize,
}

/// What was held after this share of the sessions …
const SETTLED: f64 = 0.1;
/// … may grow by this.
const GROWTH: f64 = 0.05;
/// A look is the median of so many.
const LOOKS: usize = 9;
/// A wave that doesn't play by then never will.
const PLAYING: Duration = Duration::from_secs(30);
/// The server forgets a viewer that left without a word by then: consent lasts 30 s (RFC 7675 §5.1).
const FORGOTTEN: Duration = Duration::from_secs(45);
/// Each so many waves one leaves without a word, as browsers do that crash.
const RUDE: usize = 5;

/// What relayd held after so many sessions, none of them open.
#[derive(Clone, Copy, Debug)]
struct Holding {
    sessions: usize,
    resident_mib: f64,
    descriptors: f64,
}

/// Runs it.
///
/// # Errors
/// When it can't be run; what it sees go wrong is in the report.
pub fn run(scale: &Scale) -> anyhow::Result<Report> {
    super::in_scratch("soak-viewers", |dir| run_in(dir, scale))
}

fn run_in(dir: &Path, scale: &Scale) -> anyhow::Result<Report> {
    let config = "[http]\nlisten = \"127.0.0.1:0\"\n\n[webrtc]\nlisten = \"127.0.0.1:0\"\n\n\
         [streams.cam]\nsource = \"test://pattern?size=320x180&fps=25&bitrate=200k&gop=1s\"\n";
    let relayd = Relayd::start_with(dir, config)?;
    relayd.await_all_live(Duration::from_secs(20))?;
    let (mut opened, mut failures) = (0, Vec::new());
    let mut holdings = vec![look(&relayd, 0)?];
    for wave in 1.. {
        if opened >= scale.sessions {
            break;
        }
        opened += scale.wave;
        failures.extend(one_wave(&relayd, scale.wave, wave % RUDE == 0)?);
        if opened * 10 / scale.sessions > (opened - scale.wave) * 10 / scale.sessions {
            let none = || (relayd.metric("relayd_webrtc_viewers{stream=\"cam\"}").ok()? < 0.5).then_some(());
            wait_for("every viewer is forgotten", FORGOTTEN, none)?;
            holdings.push(look(&relayd, opened)?);
        }
    }
    relayd.stop()?;
    let mut report = judge(&holdings);
    let failed = failures.len();
    report.promise(failed == 0, format!("{failed} of {opened} sessions failed {}", failures.join("; ")));
    Ok(report)
}

/// Viewers join, play and leave; returns what went wrong.
fn one_wave(relayd: &Relayd, viewers: usize, rude: bool) -> anyhow::Result<Vec<String>> {
    let url = format!("http://{}/whep/cam", relayd.address());
    let joins_per_second = NonZeroU32::new(100).context("100 is not zero")?;
    let config = CrowdConfig { joins_per_second, ..CrowdConfig::new(Signalling::Whep { url, token: None }, viewers) };
    let crowd = Crowd::start(config)?;
    let progress = crowd.await_playing(PLAYING);
    if progress.answered == 0 {
        bail!("no viewer got an answer: {:?}", crowd.leave().failures.first());
    }
    let report = if rude { crowd.report() } else { crowd.leave() };
    let silent = report.viewers.iter().filter(|viewer| viewer.first_key.is_none());
    let silent = silent.map(|viewer| viewer.ended.clone().unwrap_or_else(|| "no key frame came".into()));
    Ok(report.failures.iter().cloned().chain(silent).collect())
}

/// Medians of a few looks.
fn look(relayd: &Relayd, sessions: usize) -> anyhow::Result<Holding> {
    let (mut resident, mut descriptors) = (Vec::new(), Vec::new());
    for _ in 0..LOOKS {
        resident.push(relayd.metric("process_resident_memory_bytes")? / f64::from(1 << 20));
        descriptors.push(relayd.metric("process_open_fds")?);
        std::thread::sleep(Duration::from_millis(100));
    }
    let median = |values: &[f64]| percentile(values, 50).unwrap_or_default();
    Ok(Holding { sessions, resident_mib: median(&resident), descriptors: median(&descriptors) })
}

fn judge(holdings: &[Holding]) -> Report {
    let mut report =
        Report { table: "| sessions | resident MiB | descriptors |\n|---|---|---|\n".into(), ..Report::default() };
    for Holding { sessions, resident_mib, descriptors } in holdings {
        report.table += &format!("| {sessions} | {resident_mib:.1} | {descriptors} |\n");
    }
    let Some(last) = holdings.last() else { return report };
    let is_settled = |holding: &&Holding| holding.sessions as f64 >= SETTLED * last.sessions as f64;
    let Some(first) = holdings.iter().find(is_settled) else { return report };
    let growth = last.resident_mib / first.resident_mib - 1.0;
    let (percent, most, from) = (growth * 100.0, GROWTH * 100.0, first.sessions);
    report.promise(
        growth <= GROWTH,
        format!("memory grew by {percent:.1} % from {from} sessions on, promised {most:.0} %"),
    );
    let (before, after) = (first.descriptors, last.descriptors);
    report.promise(after <= before + 2.0, format!("descriptors: {before} after {from} sessions, {after} at the end"));
    report
}

#[test]
fn growth_and_leaks_are_seen() {
    let holding = |sessions, resident_mib, descriptors| Holding { sessions, resident_mib, descriptors };
    for (settled, last, broken) in [
        (holding(200, 50.0, 60.0), holding(2_000, 52.0, 61.0), 0),
        (holding(200, 50.0, 60.0), holding(2_000, 53.0, 60.0), 1),
        (holding(200, 50.0, 60.0), holding(2_000, 60.0, 90.0), 2),
    ] {
        assert_eq!(judge(&[holding(0, 20.0, 20.0), settled, last]).broken.len(), broken, "{settled:?} {last:?}");
    }
}

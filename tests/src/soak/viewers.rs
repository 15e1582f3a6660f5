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

/// From so many sessions on each look waits until relayd has forgotten the viewers that it remembers for who asks what
/// became of them.
const THOROUGH: usize = 1_000;
/// In the second half memory may grow by this share. The first half says how much is needed at all: in a process of
/// 15 MiB the allocator's own pools grow by a tenth until the sizes of a viewer's objects have all been asked for.
const GROWTH: f64 = 0.05;
/// A look is the median of so many.
const LOOKS: usize = 9;
/// A wave that doesn't play by then never will.
const PLAYING: Duration = Duration::from_secs(30);
/// A viewer that left without a word is given up by then: consent lasts 30 s (RFC 7675 §5.1).
const GIVEN_UP: Duration = Duration::from_secs(45);
/// Viewers that ended are remembered for a minute.
const FORGOTTEN: Duration = Duration::from_secs(90);
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
    let is_thorough = scale.sessions >= THOROUGH;
    for wave in 1.. {
        if opened >= scale.sessions {
            break;
        }
        opened += scale.wave;
        failures.extend(one_wave(&relayd, scale.wave, wave % RUDE == 0)?);
        let tenths = |sessions: usize| sessions * 10 / scale.sessions;
        let is_new = tenths(opened) > tenths(opened - scale.wave);
        if is_new && (!is_thorough || matches!(tenths(opened), 1 | 5 | 7 | 10..)) {
            settle(&relayd, is_thorough)?;
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
    let config =
        CrowdConfig { joins_per_second, ..CrowdConfig::new(Signalling::Whep { url, token: None, via: None }, viewers) };
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

/// Waits until no viewer is there and, if asked, none is remembered.
fn settle(relayd: &Relayd, forgotten: bool) -> anyhow::Result<()> {
    let none = || (relayd.metric("relayd_webrtc_viewers{stream=\"cam\"}").ok()? < 0.5).then_some(());
    wait_for("every viewer is given up", GIVEN_UP, none)?;
    let empty = || (relayd.get("/api/v1/streams/cam/viewers").ok()?.trim() == "[]").then_some(());
    if forgotten { wait_for("every viewer is forgotten", FORGOTTEN, empty) } else { Ok(()) }
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
    let half = holdings.iter().filter(|holding| holding.sessions <= last.sessions / 2);
    let Some(first) = half.max_by(|a, b| a.resident_mib.total_cmp(&b.resident_mib)) else { return report };
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

//! Many cameras, four of them faulty: one is killed, one freezes, one changes its resolution, one refuses the password.
//! The others must lose nothing; the faulty ones must be back as soon as their cameras are.

use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use relay_sim::{Auth, CameraConfig, CameraHandle, Credentials, Event, Farm, FarmConfig, Fault, SentFrame, SessionLog};

use super::{Report, adds_up, percentile};
use crate::farm::{Picture, clip, utc_nanos};
use crate::recordings::Recorded;
use crate::relayd::{Relayd, Stream};

/// How large a run is.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Cameras, the four faulty ones included.
    pub cameras: usize,
    /// How often the faults come.
    pub rounds: usize,
    /// What the cameras show.
    pub picture: Picture,
}

/// How long a camera is away.
const AWAY: Duration = Duration::from_secs(10);
/// Between rounds, so that every faulty camera has a while of health to be judged by.
const REST: Duration = Duration::from_secs(4);
/// From a camera's return: it is being tried again within this (95th percentile).
const RETRY: f64 = 1.0;
/// The same for one that refused the password: such are tried less and less often.
const RETRY_REFUSED: f64 = 30.0;
/// Frames on their way when a camera or relayd is stopped may be lost: those sent less than this before.
const IN_FLIGHT: Duration = Duration::from_millis(300);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    None,
    Killed,
    Frozen,
    Resized,
    Refused,
}

impl Trouble {
    fn of(camera: usize) -> Self {
        match camera {
            0 => Self::Killed,
            1 => Self::Frozen,
            2 => Self::Resized,
            3 => Self::Refused,
            _ => Self::None,
        }
    }
}

/// Runs it.
///
/// # Errors
/// When it can't be run; what it sees go wrong is in the report.
pub fn run(scale: &Scale) -> anyhow::Result<Report> {
    super::in_scratch("soak-cameras", |dir| run_in(dir, scale))
}

fn run_in(dir: &Path, scale: &Scale) -> anyhow::Result<Report> {
    let farm = farm(scale)?;
    let streams = streams(&farm);
    let relayd = Relayd::start(dir, &streams)?;
    relayd.await_all_live(Duration::from_secs(20))?;
    let mut returns = Vec::new();
    let mut report = Report::default();
    for round in 0..scale.rounds {
        watch(&relayd, REST, &mut report)?;
        trouble_begins(farm.cameras(), round);
        watch(&relayd, AWAY, &mut report)?;
        trouble_ends(farm.cameras());
        returns.push(utc_nanos());
        relayd.await_all_live(Duration::from_secs_f64(RETRY_REFUSED + 5.0)).context("after the faults")?;
    }
    watch(&relayd, REST, &mut report)?;
    let stopped = utc_nanos();
    relayd.stop()?;
    judge(dir, &farm, &streams, &returns, stopped, &mut report)?;
    Ok(report)
}

fn farm(scale: &Scale) -> anyhow::Result<Farm> {
    let first = clip(scale.picture)?;
    let other = clip(scale.picture.resized())?;
    let camera = |index: usize| {
        let mut config = CameraConfig::new(vec![first.clone()]);
        if Trouble::of(index) == Trouble::Resized {
            config.clips.push(other.clone());
        }
        if Trouble::of(index) == Trouble::Refused {
            config.auth = password("right");
        }
        config
    };
    Farm::start(FarmConfig::local((0..scale.cameras).map(camera).collect())).context("start the cameras")
}

fn password(password: &str) -> Auth {
    Auth::Digest(Credentials { user: "viewer".into(), password: password.into() })
}

fn streams(farm: &Farm) -> Vec<Stream> {
    let stream = |(index, camera): (usize, &CameraHandle)| Stream {
        name: format!("cam{index:03}"),
        url: camera.url(),
        source: "",
        record: "segment = \"10s\"",
    };
    farm.cameras().iter().enumerate().map(stream).collect()
}

fn trouble_begins(cameras: &[CameraHandle], round: usize) {
    for (index, camera) in cameras.iter().enumerate() {
        match Trouble::of(index) {
            Trouble::None => {}
            Trouble::Killed => camera.inject(Fault::Kill, None),
            Trouble::Frozen => camera.inject(Fault::Freeze, None),
            // From the first clip to the other and back.
            Trouble::Resized => camera.trigger(Event::Clip((round + 1) % 2)),
            Trouble::Refused => {
                camera.set_auth(password("wrong"));
                camera.trigger(Event::Restart);
            }
        }
    }
}

fn trouble_ends(cameras: &[CameraHandle]) {
    for (index, camera) in cameras.iter().enumerate() {
        match Trouble::of(index) {
            Trouble::None | Trouble::Resized => {}
            Trouble::Killed => camera.end(Fault::Kill),
            Trouble::Frozen => camera.end(Fault::Freeze),
            Trouble::Refused => camera.set_auth(password("right")),
        }
    }
}

/// Lets time pass; twice a second, every sink's loss accounting must add up.
fn watch(relayd: &Relayd, time: Duration, report: &mut Report) -> anyhow::Result<()> {
    let started = Instant::now();
    while started.elapsed() < time {
        for stream in relayd.streams()? {
            for sink in stream["sinks"].as_array().into_iter().flatten() {
                if !adds_up(sink) && report.broken.len() < 10 {
                    report.broken.push(format!("in = out + dropped + buffered: {} {sink}", stream["name"]));
                }
            }
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    Ok(())
}

/// What one camera's recording shows.
struct Row {
    sent: usize,
    lost: usize,
    retries: Vec<f64>,
    missed_key_frames: usize,
}

fn judge(
    dir: &Path,
    farm: &Farm,
    streams: &[Stream],
    returns: &[i64],
    stopped: i64,
    report: &mut Report,
) -> anyhow::Result<()> {
    report.table = "| camera | trouble | files | frames sent | recorded | lost | tried again after s, median / p95 |\n\
                    |---|---|---|---|---|---|---|\n"
        .into();
    let (mut lost, mut retries, mut retries_refused) = (0, Vec::new(), Vec::new());
    for ((index, camera), stream) in farm.cameras().iter().enumerate().zip(streams) {
        let trouble = Trouble::of(index);
        let recorded = Recorded::read(dir, &stream.name)?;
        let row = compare(&camera.sent(), &recorded, trouble, returns, stopped);
        let seconds = |percent| percentile(&row.retries, percent).map_or("-".into(), |s| format!("{s:.2}"));
        let (files, frames, name) = (recorded.files.len(), recorded.frames.len(), &stream.name);
        let retried = format!("{} / {}", seconds(50), seconds(95));
        report.table +=
            &format!("| {name} | {trouble:?} | {files} | {} | {frames} | {} | {retried} |\n", row.sent, row.lost);
        report.broken.extend(recorded.wrong.iter().map(|wrong| format!("{name}: {wrong}")));
        if row.missed_key_frames > 0 {
            report.broken.push(format!("{name}: not live at the first key frame, {} times", row.missed_key_frames));
        }
        lost += row.lost;
        let all = if trouble == Trouble::Refused { &mut retries_refused } else { &mut retries };
        all.extend(row.retries);
        if trouble == Trouble::Resized && recorded.sizes.len() < 2 {
            report.broken.push(format!("{name}: recorded sizes are {:?}, two were sent", recorded.sizes));
        }
    }
    report.promise(lost == 0, format!("frames lost while camera and relayd were both there: {lost}"));
    for (what, values, most) in [("away", &retries, RETRY), ("refusing", &retries_refused, RETRY_REFUSED)] {
        let worst = percentile(values, 95);
        let seen = worst.map_or("never".into(), |seconds| format!("within {seconds:.2} s (p95 of {})", values.len()));
        let is_kept = worst.is_some_and(|seconds| seconds <= most);
        report.promise(is_kept, format!("a camera back from {what} is tried again {seen}, promised {most} s"));
    }
    Ok(())
}

fn compare(sessions: &[SessionLog], recorded: &Recorded, trouble: Trouble, returns: &[i64], stopped: i64) -> Row {
    let counters: HashSet<u64> = recorded.frames.iter().map(|frame| frame.counter).collect();
    let in_flight = i64::try_from(IN_FLIGHT.as_nanos()).unwrap_or(i64::MAX);
    let mut row = Row { sent: 0, lost: 0, retries: Vec::new(), missed_key_frames: 0 };
    for (index, session) in sessions.iter().enumerate() {
        // A session's end takes what was on its way with it; its frames count from the first that can be decoded.
        let is_cut = index + 1 < sessions.len();
        let last_sent = session.frames.last().map_or(0, |frame| frame.utc_nanos);
        let until = if is_cut { last_sent } else { stopped.min(last_sent) } - in_flight;
        let counts = |frame: &&SentFrame| frame.utc_nanos < until;
        let expected: Vec<_> = session.frames.iter().skip_while(|frame| !frame.key).filter(counts).collect();
        row.sent += expected.len();
        row.lost += expected.iter().filter(|frame| !counters.contains(&frame.counter)).count();
        row.missed_key_frames += usize::from(expected.first().is_some_and(|key| !counters.contains(&key.counter)));
    }
    if matches!(trouble, Trouble::Killed | Trouble::Frozen | Trouble::Refused) {
        let tried = |returned: &i64| {
            let after = sessions.iter().map(|session| session.started_utc_nanos).filter(|started| started >= returned);
            after.min().map(|started| Duration::from_nanos(started.abs_diff(*returned)).as_secs_f64())
        };
        row.retries = returns.iter().filter_map(tried).collect();
        // A return after which nobody came counts as one that took for ever.
        row.retries.resize(returns.len(), f64::INFINITY);
    }
    row
}

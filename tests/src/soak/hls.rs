//! Live HLS through everything that an origin can do to its clients: errors, a frozen playlist, sequences that begin
//! anew, a storm of discontinuities, new keys, a variant that vanishes, connections reset in mid-segment.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use relay_sim::hls_origin::{Container, HlsOrigin, OriginConfig, OriginEvent as Event, OriginFault as Fault, Requests};

use super::adds_up;
use super::{Report, percentile};
use crate::farm::{Picture, clip};
use crate::origin::Verdict;
use crate::process::wait_for;
use crate::recordings::{Recorded, decode};
use crate::relayd::{Relayd, Stream};

/// How large a run is.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// What the better variant shows; a segment is a group of its pictures.
    pub picture: Picture,
    /// How long the origin answers 503.
    pub outage: Duration,
    /// How long other faults last; the playlist is frozen for twice as long.
    pub fault: Duration,
    /// The time between two faults.
    pub rest: Duration,
    /// How often all faults come.
    pub rounds: usize,
    /// Beyond a target duration, the time in which the ring has a new frame once the origin is well.
    pub recovery: Duration,
}

impl Scale {
    /// Ten minutes, in segments of two seconds of 720p.
    #[must_use]
    pub fn ten_minutes() -> Self {
        Self {
            picture: Picture::HD,
            outage: Duration::from_secs(60),
            fault: Duration::from_secs(15),
            rest: Duration::from_secs(15),
            rounds: 2,
            recovery: Duration::from_secs(1),
        }
    }

    /// A minute, in segments of one second of small pictures, on a machine that does other things too.
    #[must_use]
    pub fn a_minute() -> Self {
        Self {
            picture: Picture { width: 160, height: 96, bitrate_bps: 100_000, gop_frames: 25 },
            outage: Duration::from_secs(6),
            fault: Duration::from_millis(2_500),
            rest: Duration::from_millis(1_500),
            rounds: 1,
            recovery: Duration::from_secs(4),
        }
    }

    fn target(&self) -> Duration {
        Duration::from_millis(u64::from(self.picture.gop_frames) * 40)
    }

    fn segment_frames(&self) -> u64 {
        self.picture.gop_frames.into()
    }
}

/// What is done to the origins, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Lasting(Fault),
    Once(Event),
}

const ACTS: [(&str, Act); 9] = [
    ("503 for everything", Act::Lasting(Fault::Status(503, Requests::All))),
    ("frozen playlist", Act::Lasting(Fault::Frozen)),
    ("sequence reset, new names", Act::Once(Event::Reset { names_again: false })),
    ("storm of discontinuities", Act::Lasting(Fault::Storm)),
    ("key rotation", Act::Once(Event::Rotate)),
    ("the better variant vanishes", Act::Lasting(Fault::Vanish(0))),
    ("resets in mid-segment", Act::Lasting(Fault::Cut)),
    ("sequence reset, old names", Act::Once(Event::Reset { names_again: true })),
    ("segments that hang", Act::Lasting(Fault::Stall(Requests::Segments))),
];

/// The streams: MPEG-TS, and fragmented MP4; both encrypted, with a new key every five segments.
const STREAMS: [(&str, Container); 2] = [("ts", Container::Ts), ("fmp4", Container::Fmp4)];
const KEY_SEGMENTS: u64 = 5;
/// Without a frame for so long, a stream has nothing left to play.
const STARVED: Duration = Duration::from_millis(500);
/// The frames in the ring are looked at so often.
const LOOK: Duration = Duration::from_millis(50);
const SOON: Duration = Duration::from_secs(30);

/// What a stream did when an act was over.
struct Return {
    act: &'static str,
    stream: usize,
    /// Without a frame before that, and from then on to the first new one.
    starved: Duration,
    first_frame: Duration,
}

/// Runs it.
///
/// # Errors
/// When it can't be run; what it sees go wrong is in the report.
pub fn run(scale: &Scale) -> anyhow::Result<Report> {
    super::in_scratch("soak-hls", |dir| run_in(dir, scale))
}

fn run_in(dir: &Path, scale: &Scale) -> anyhow::Result<Report> {
    let origins = origins(scale)?;
    let stream = |((name, _), origin): (&(&str, Container), &HlsOrigin)| Stream {
        name: (*name).into(),
        url: origin.url(),
        source: "",
        record: "segment = \"20s\"",
    };
    let streams: Vec<Stream> = STREAMS.iter().zip(&origins).map(stream).collect();
    let relayd = Relayd::start(dir, &streams)?;
    relayd.await_all_live(SOON)?;
    let mut report = Report::default();
    let mut watch = Watch { relayd: &relayd, flows: [Flow::default(), Flow::default()], broken: Vec::new() };
    watch.pass(scale.rest)?;
    let mut returns = Vec::new();
    for _ in 0..scale.rounds {
        for (name, act) in ACTS {
            watch.act(&origins, act, scale)?;
            returns.extend(watch.returns(name, scale)?);
        }
    }
    watch.pass(scale.rest + scale.target() * 3)?;
    report.broken.append(&mut watch.broken);
    let metrics = relayd.get("/metrics")?;
    relayd.stop()?;
    judge(dir, scale, &origins, &returns, &metrics, &mut report)?;
    Ok(report)
}

fn origins(scale: &Scale) -> anyhow::Result<Vec<HlsOrigin>> {
    let better = clip(scale.picture)?;
    let half = scale.picture.resized();
    let lesser = clip(Picture { bitrate_bps: half.bitrate_bps / 4, ..half })?;
    let origin = |(_, container): &(&str, Container)| {
        let config = OriginConfig::local(vec![better.clone(), lesser.clone()]);
        let config = OriginConfig { container: *container, key_segments: Some(KEY_SEGMENTS), window: 10, ..config };
        HlsOrigin::start(config).context("start an origin")
    };
    STREAMS.iter().map(origin).collect()
}

/// Looks at the streams all the time.
struct Watch<'a> {
    relayd: &'a Relayd,
    flows: [Flow; 2],
    broken: Vec<String>,
}

/// The frames that a stream's source has let out into the ring.
#[derive(Clone, Copy, Debug, Default)]
struct Flow {
    frames: f64,
    newest: Option<Instant>,
}

impl Watch<'_> {
    /// Lets time pass.
    fn pass(&mut self, time: Duration) -> anyhow::Result<()> {
        let started = Instant::now();
        let mut accounts = started;
        while started.elapsed() < time {
            self.look()?;
            if accounts.elapsed() > LOOK * 10 {
                accounts = Instant::now();
                self.audit()?;
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    fn look(&mut self) -> anyhow::Result<()> {
        let metrics = self.relayd.get("/metrics")?;
        for (flow, (name, _)) in self.flows.iter_mut().zip(STREAMS) {
            let frames = sum(&metrics, &format!("relayd_source_packets_total{{stream=\"{name}\",kind=\"video\"}}"));
            if frames > flow.frames {
                *flow = Flow { frames, newest: Some(Instant::now()) };
            }
        }
        Ok(())
    }

    /// Every sink's loss accounting must add up.
    fn audit(&mut self) -> anyhow::Result<()> {
        for stream in self.relayd.streams()? {
            for sink in stream["sinks"].as_array().into_iter().flatten() {
                if !adds_up(sink) && self.broken.len() < 10 {
                    self.broken.push(format!("in = out + dropped + buffered: {} {sink}", stream["name"]));
                }
            }
        }
        Ok(())
    }

    /// An act, as long as it lasts.
    fn act(&mut self, origins: &[HlsOrigin], act: Act, scale: &Scale) -> anyhow::Result<()> {
        match act {
            Act::Once(event) => {
                origins.iter().for_each(|origin| origin.trigger(event));
                // It happens to the next segment, and shows when that is complete.
                self.pass(scale.target() * 2)
            }
            Act::Lasting(fault) => {
                origins.iter().for_each(|origin| origin.inject(fault));
                self.pass(match fault {
                    Fault::Status(..) => scale.outage,
                    Fault::Frozen => scale.fault * 2,
                    _ => scale.fault,
                })?;
                origins.iter().for_each(|origin| origin.end(fault));
                Ok(())
            }
        }
    }

    /// How the streams came back, and the rest.
    fn returns(&mut self, act: &'static str, scale: &Scale) -> anyhow::Result<Vec<Return>> {
        let well = Instant::now();
        let before = self.flows;
        let mut first = [None; 2];
        while well.elapsed() < scale.rest || first.iter().any(Option::is_none) && well.elapsed() < SOON {
            self.pass(LOOK)?;
            for ((first, flow), before) in first.iter_mut().zip(&self.flows).zip(&before) {
                if flow.frames > before.frames {
                    first.get_or_insert(well.elapsed());
                }
            }
        }
        let of = |(stream, (first, before)): (usize, (Option<Duration>, &Flow))| Return {
            act,
            stream,
            starved: before.newest.map_or(Duration::ZERO, |newest| well.saturating_duration_since(newest)),
            first_frame: first.unwrap_or(Duration::MAX),
        };
        Ok(first.into_iter().zip(&before).enumerate().map(of).collect())
    }
}

/// The sum of all samples that begin so.
fn sum(metrics: &str, sample: &str) -> f64 {
    let lines = metrics.lines().filter(|line| line.starts_with(sample)).filter_map(|line| line.rsplit_once(' '));
    lines.filter_map(|(_, value)| value.parse::<f64>().ok()).sum()
}

fn judge(
    dir: &Path,
    scale: &Scale,
    origins: &[HlsOrigin],
    returns: &[Return],
    metrics: &str,
    report: &mut Report,
) -> anyhow::Result<()> {
    report.table = "| stream | frames served whole | recorded once | missing | twice | missing without cause | \
                    missing, the origin had none | files | decode errors | begun anew |\n|---|---|---|---|---|---|---|---|---|---|\n"
        .into();
    for ((name, _), origin) in STREAMS.iter().zip(origins) {
        wait_for("connections are closed", SOON, || (origin.connections() == 0).then_some(()))?;
        let recorded = Recorded::read(dir, name)?;
        let verdict = Verdict::of(&origin.segments(), &recorded, scale.target() + scale.recovery);
        let failed: Vec<String> =
            recorded.files.iter().filter_map(|file| decode(file).err()).map(|error| error.to_string()).collect();
        let failures =
            |reason| sum(metrics, &format!("relayd_source_failures_total{{stream=\"{name}\",reason=\"{reason}\"}}"));
        let anew = failures("panic") + sum(metrics, &format!("relayd_sink_restarts_total{{stream=\"{name}\""));
        let Verdict { served, once, missing, doubled, unexplained, gaps, .. } = &verdict;
        let (missing, doubled, unexplained) = (missing.len(), doubled.len(), unexplained.len());
        let (files, errors) = (recorded.files.len(), failed.len());
        report.table += &format!(
            "| {name} | {served} | {once} | {missing} | {doubled} | {unexplained} | {gaps} | {files} | {errors} | {anew} |\n"
        );
        let wrong = verdict.wrong(scale.segment_frames());
        report.broken.extend(wrong.iter().chain(&recorded.wrong).chain(&failed).map(|what| format!("{name}: {what}")));
        report.promise(anew == 0.0, format!("{name}: {anew} restarts of the stream or its sinks"));
        report.figures.push(format!("{name}: {}", causes(metrics, name)));
    }
    recoveries(scale, returns, report);
    Ok(())
}

fn recoveries(scale: &Scale, returns: &[Return], report: &mut Report) {
    let mut acts = BTreeMap::<&str, Vec<&Return>>::new();
    for one in returns {
        acts.entry(one.act).or_default().push(one);
    }
    for (act, returns) in acts {
        let worst = |of: fn(&Return) -> Duration| returns.iter().map(|one| of(one).as_secs_f64()).fold(0.0, f64::max);
        let (starved, first) = (worst(|one| one.starved), worst(|one| one.first_frame));
        let slowest = returns.iter().max_by_key(|one| one.first_frame).map_or(0, |one| one.stream);
        let slowest = STREAMS.get(slowest).map_or("", |(name, _)| name);
        report.figures.push(format!(
            "{act}: without a frame for up to {starved:.1} s, the first one {first:.2} s after it was over ({slowest})"
        ));
    }
    // Where the buffer lasted, frames came all the time, and say nothing.
    let starved = returns.iter().filter(|one| one.starved > STARVED);
    let seconds: Vec<f64> = starved.map(|one| one.first_frame.as_secs_f64()).collect();
    let most = (scale.target() + scale.recovery).as_secs_f64();
    let worst = percentile(&seconds, 95);
    let seen = worst.map_or("never".into(), |seconds| format!("{seconds:.2} s"));
    let count = seconds.len();
    let what = format!(
        "p95 from the origin's health to the first new frame in the ring, where it had run dry: {seen} of {count}, \
         promised {most} s"
    );
    report.promise(worst.is_some_and(|seconds| seconds <= most), what);
}

/// The causes that were named, and how often.
fn causes(metrics: &str, name: &str) -> String {
    let prefix = format!("relayd_source_failures_total{{stream=\"{name}\",reason=\"");
    let causes = metrics.lines().filter_map(|line| line.strip_prefix(&prefix)?.split_once("\"} "));
    causes.map(|(reason, count)| format!("{reason} {count}")).collect::<Vec<_>>().join(", ")
}

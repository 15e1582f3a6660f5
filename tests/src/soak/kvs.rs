//! Live HLS through the leaky queue into a stand-in for Kinesis Video Streams, and everything goes wrong that ever went
//! wrong: what reached the ring must be stored, with its time, and nobody may have touched anything.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use relay_sim::hls_origin::{HlsOrigin, OriginConfig, OriginFault, Requests};
use relay_sim::kvs::{Answer, Event, Fault, Limits, ReadBack, Service, ServiceConfig, StoredFragment};

use super::{Chance, Report, adds_up};
use crate::farm::{Picture, clip, utc_nanos};
use crate::kvs::{Keys, Stream, await_stored, environment, newest, sink, toml, witnessed};
use crate::process::wait_for;
use crate::relayd::Relayd;

/// How large a run is: how long each trouble lasts.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// What the origin shows.
    pub picture: Picture,
    /// Between troubles.
    pub rest: Duration,
    /// How long the origin stalls.
    pub stall: Duration,
    /// How long the service answers 500.
    pub fault: Duration,
    /// How long nothing is heard of the service.
    pub blackhole: Duration,
    /// How long credentials last.
    pub credentials: Duration,
    /// Where chance begins; printed with the report.
    pub seed: u64,
}

impl Scale {
    /// The whole of it: ten minutes.
    #[must_use]
    pub fn ten_minutes(seed: u64) -> Self {
        let secs = Duration::from_secs;
        Self {
            picture: Picture::HD,
            rest: secs(30),
            stall: secs(30),
            fault: secs(60),
            blackhole: secs(90),
            credentials: secs(200),
            seed,
        }
    }

    /// A minute of it.
    #[must_use]
    pub fn a_minute(seed: u64) -> Self {
        let secs = Duration::from_secs;
        Self {
            picture: Picture::SMALL,
            rest: secs(1),
            stall: secs(3),
            fault: secs(3),
            blackhole: secs(12),
            credentials: secs(20),
            seed,
        }
    }
}

/// The stream's name.
const STREAM: &str = "yard";
/// Also on a busy machine. The origin's stall is over by then, and seen.
const SOON: Duration = Duration::from_secs(60);

/// Runs it.
///
/// # Errors
/// When it can't be run; what it sees go wrong is in the report.
pub fn run(scale: &Scale) -> anyhow::Result<Report> {
    super::in_scratch("soak-kvs", |dir| Run::start(dir, scale)?.all())
}

struct Run<'a> {
    dir: &'a Path,
    scale: &'a Scale,
    origin: HlsOrigin,
    service: Service,
    relayd: Option<Relayd>,
    chance: Chance,
    started: Instant,
    report: Report,
    /// What the recorder had when relayd was killed.
    before_kill: BTreeSet<u64>,
}

impl<'a> Run<'a> {
    fn start(dir: &'a Path, scale: &'a Scale) -> anyhow::Result<Self> {
        let mut config = OriginConfig::local(vec![clip(scale.picture)?]);
        config.seed = scale.seed;
        let origin = HlsOrigin::start(config)?;
        let limits = Limits { credentials_life: scale.credentials, ..Limits::default() };
        let service = Service::start(ServiceConfig { limits, ..ServiceConfig::new([STREAM]) })?;
        let table = "| at s | trouble | for s | calls refused | fragments sent again | back after s |\n\
                     |---|---|---|---|---|---|\n";
        let report = Report { table: table.into(), ..Report::default() };
        let mut run = Self {
            dir,
            scale,
            origin,
            service,
            relayd: None,
            chance: Chance(scale.seed),
            started: Instant::now(),
            report,
            before_kill: BTreeSet::new(),
        };
        run.begin()?;
        Ok(run)
    }

    /// Starts relayd, for the first time or again.
    fn begin(&mut self) -> anyhow::Result<()> {
        let spool = self.dir.join("spool");
        let stream = Stream {
            name: STREAM.into(),
            url: self.origin.url(),
            endpoint: self.service.url(),
            kvs: format!("fragment = \"{}s\"\nspool = {{ dir = {spool:?}, mode = \"always\" }}", self.fragment_secs()),
        };
        let environment = environment(self.dir, Keys::From(&self.service))?;
        let relayd = Relayd::start_in(self.dir, &toml(self.dir, &[stream])?, &environment)?;
        self.relayd = Some(relayd);
        Ok(())
    }

    fn fragment_secs(&self) -> u64 {
        u64::from(self.scale.picture.gop_frames / 25)
    }

    fn relayd(&self) -> anyhow::Result<&Relayd> {
        self.relayd.as_ref().context("relayd is not running")
    }

    fn all(mut self) -> anyhow::Result<Report> {
        await_stored(self.relayd()?, &self.service, STREAM, 0, SOON)?;
        self.started = Instant::now();
        let Scale { stall, fault, blackhole, .. } = *self.scale;
        self.step("the origin stalls", |run| {
            run.origin.inject(OriginFault::Stall(Requests::All));
            run.watch(stall)?;
            run.origin.end(OriginFault::Stall(Requests::All));
            Ok(())
        })?;
        self.step("500 to everything", |run| {
            run.service.inject(Fault::Http(Answer::new(500, "")), Some(fault));
            run.service.trigger(Event::Close);
            run.watch(fault)
        })?;
        self.step("4003 at a random moment", |run| {
            run.at_random()?;
            run.service.trigger(Event::Ack(4003));
            Ok(())
        })?;
        let refusals = [
            Answer::new(403, "AccessDeniedException"),
            Answer::new(404, "ResourceNotFoundException"),
            Answer::connection_limit(),
        ];
        for refusal in refusals {
            self.step(&format!("reset, then {} {}", refusal.status, refusal.name), |run| {
                run.service.trigger(Event::NextPut(refusal.clone()));
                run.amid();
                run.service.trigger(Event::Reset);
                Ok(())
            })?;
        }
        self.step("a blackhole", |run| {
            run.amid();
            run.service.inject(Fault::Blackhole, Some(blackhole));
            run.watch(blackhole)
        })?;
        self.step("the service restarts and forgets", |run| {
            run.amid();
            run.service.trigger(Event::Restart);
            Ok(())
        })?;
        self.step("credentials end at once", |run| {
            run.service.trigger(Event::Expire);
            run.service.trigger(Event::Reset);
            Ok(())
        })?;
        self.step("SIGKILL, and a start", |run| {
            run.at_random()?;
            run.relayd.take().context("relayd is not running")?.kill()?;
            run.before_kill = witnessed(run.dir, STREAM)?;
            run.begin()
        })?;
        self.watch(self.scale.rest)?;
        self.judge()
    }

    /// One trouble after a time of health, and how long it took to be back.
    fn step(&mut self, name: &str, trouble: impl FnOnce(&mut Self) -> anyhow::Result<()>) -> anyhow::Result<()> {
        self.watch(self.scale.rest)?;
        let refused = self.service.refused().len();
        let again = self.service.read_back(STREAM).sent_again;
        let (at, began) = (self.started.elapsed(), Instant::now());
        trouble(self)?;
        let lasted = began.elapsed();
        let (over, over_utc) = (Instant::now(), utc_nanos());
        let came = |fragment: &StoredFragment| {
            fragment.received_utc_nanos > over_utc && fragment.persisted_utc_nanos.is_some()
        };
        wait_for("something new is PERSISTED", SOON, || {
            self.service.fragments(STREAM).last().filter(|f| came(f)).map(drop)
        })
        .with_context(|| {
            format!("after {name}: {}", self.relayd.as_ref().map(Relayd::last_words).unwrap_or_default())
        })?;
        let back = over.elapsed();
        let refused = self.service.refused().len() - refused;
        let again = self.service.read_back(STREAM).sent_again - again;
        let row = format!(
            "| {:.0} | {name} | {:.1} | {refused} | {again} | {:.1} |\n",
            at.as_secs_f64(),
            lasted.as_secs_f64(),
            back.as_secs_f64()
        );
        print!("{row}");
        self.report.table += &row;
        Ok(())
    }

    /// Lets time pass; twice a second the account must add up.
    fn watch(&mut self, time: Duration) -> anyhow::Result<()> {
        let started = Instant::now();
        while started.elapsed() < time {
            let sink = sink(&self.relayd()?.streams()?, STREAM).context("the API has no such sink")?;
            if !adds_up(&sink) && self.report.broken.len() < 10 {
                self.report.broken.push(format!("in = out + dropped + buffered: {sink}"));
            }
            std::thread::sleep(Duration::from_millis(500).min(time));
        }
        Ok(())
    }

    /// Any moment of a fragment.
    fn at_random(&mut self) -> anyhow::Result<()> {
        let ms = self.chance.below(1_000 * self.fragment_secs());
        self.watch(Duration::from_millis(ms))
    }

    /// Waits for the moment after a fragment was received and before it is PERSISTED.
    fn amid(&self) {
        let started = Instant::now();
        let is_there = || self.service.fragments(STREAM).last().is_some_and(|last| last.persisted_utc_nanos.is_none());
        while !is_there() && started.elapsed() < SOON / 4 {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn judge(mut self) -> anyhow::Result<Report> {
        let relayd = self.relayd.take().context("relayd is not running")?;
        let counter = self.origin.counter();
        await_stored(&relayd, &self.service, STREAM, counter, SOON)?;
        // A backlog may still be on its way behind what is live.
        let drained = || {
            let sink = sink(&relayd.streams().ok()?, STREAM)?;
            (sink["kvs"]["buffered_ms"].as_u64()? <= 3_000 * self.fragment_secs()).then_some(())
        };
        let drained = wait_for("the backlog is gone", SOON, drained);
        let mark = newest(&self.service, STREAM).unwrap_or(0);
        let told = sink(&relayd.streams()?, STREAM).unwrap_or_default();
        let lasted = self.started.elapsed().as_secs();
        relayd.stop()?;
        let owed: BTreeSet<u64> = witnessed(self.dir, STREAM)?.into_iter().filter(|counter| *counter <= mark).collect();
        let back = self.service.read_back(STREAM);
        let report = &mut self.report;
        report.promise(drained.is_ok(), format!("no backlog at the end: {told}"));
        let dropped: u64 =
            told["packets_dropped"].as_object().into_iter().flatten().filter_map(|(_, count)| count.as_u64()).sum();
        report.promise(dropped == 0, format!("packets dropped in the second life: {dropped}"));
        let frames = u64::from(self.scale.picture.gop_frames);
        self.losses(&back, &owed, frames);
        let given = self.service.credentials_given();
        let report = &mut self.report;
        let keys: BTreeSet<_> = self.service.sessions(STREAM).into_iter().map(|log| log.access_key).collect();
        report
            .promise(keys.len() >= 3, format!("sessions were signed with {} credentials of {given} given", keys.len()));
        for wrong in back.wrong() {
            report.broken.push(wrong);
        }
        let calls = self.service.refused();
        let hasty = calls.iter().filter(|refused| refused.name == "ClientLimitExceededException").count();
        report.promise(hasty == 0, format!("calls above the service's rate: {hasty}"));
        report.figures.push(format!("{back}"));
        report.figures.push(format!("{lasted} s, seed {}", self.scale.seed));
        Ok(self.report)
    }

    /// Everything that reached the ring is stored, but for the unfinished fragment of the kill.
    fn losses(&mut self, back: &ReadBack, owed: &BTreeSet<u64>, frames: u64) {
        let missing = back.missing(owed.iter().copied());
        let last = self.before_kill.last().copied().unwrap_or(0);
        let (killed, lost): (Vec<u64>, Vec<u64>) =
            missing.into_iter().partition(|counter| *counter <= last && last - counter < frames);
        let report = &mut self.report;
        report.promise(owed.len() as u64 > 4 * frames, format!("frames that reached the ring: {}", owed.len()));
        report.promise(
            lost.is_empty(),
            format!("of them lost: {} {:?}", lost.len(), lost.iter().take(5).collect::<Vec<_>>()),
        );
        let most = usize::try_from(frames).unwrap_or(0);
        report.promise(
            killed.len() <= most,
            format!("of the fragment that SIGKILL left unfinished: {} frames, at most {most}", killed.len()),
        );
    }
}

//! The whole daemon and a stand-in for Kinesis Video Streams: each fault once, all at the same time, a stream each.
//! What the recorder beside it took from the ring is what the service must have.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use relay_sim::kvs::{Answer, Event, Fault, Limits, Second, Service, ServiceConfig, Trouble};
use relay_sim::{CameraConfig, Farm, FarmConfig};
use relay_tests::farm::{Picture, clip, utc_nanos};
use relay_tests::kvs::{Keys, Stream, await_stored, environment, newest, sink, toml, witnessed};
use relay_tests::process::wait_for;
use relay_tests::relayd::Relayd;
use relay_tests::soak::Scratch;

/// Also in a debug build on a busy machine.
const SOON: Duration = Duration::from_secs(40);
/// Frames of a fragment, which is one group of pictures.
const FRAGMENT: u64 = 25;

/// One service, one stream, one kind of trouble.
struct Row {
    name: &'static str,
    limits: Limits,
    /// What happens once the stream is live; each a moment after the one before.
    troubles: Vec<Trouble>,
    /// What the service must have seen: how a session ended, or what it refused.
    seen: &'static str,
    /// Fragments that the service never takes.
    poisoned: bool,
}

fn rows() -> Vec<Row> {
    let limits = Limits::default();
    let for_ms = |fault, ms| Trouble::Fault(fault, Some(Duration::from_millis(ms)));
    let once = Trouble::Event;
    let next = |status, name| once(Event::NextPut(Answer::new(status, name)));
    let row = |name, seen, troubles| Row { name, limits, troubles, seen, poisoned: false };
    let ms = Duration::from_millis;
    vec![
        row("health", "", vec![]),
        row("reset", "reset", vec![once(Event::Reset), once(Event::Reset)]),
        row("close", "closed", vec![once(Event::Close)]),
        row("restart", "reset", vec![once(Event::Restart), once(Event::Restart)]),
        row("longest", "error 4003", vec![once(Event::Ack(4003)), once(Event::Ack(4003))]),
        row("internal", "error 5000", vec![once(Event::Ack(5000))]),
        row("unknown", "error 4999", vec![once(Event::Ack(4999))]),
        Row { poisoned: true, ..row("poison", "error 4006", vec![once(Event::Poison(4006))]) },
        row("denied", "AccessDeniedException", vec![next(403, "AccessDeniedException"), once(Event::Reset)]),
        row("missing", "ResourceNotFoundException", vec![next(404, "ResourceNotFoundException"), once(Event::Reset)]),
        row(
            "limit",
            "ConnectionLimitExceededException",
            vec![for_ms(Fault::Put(Answer::connection_limit()), 2_000), once(Event::Reset)],
        ),
        row(
            "expired",
            "ExpiredTokenException",
            vec![for_ms(Fault::Http(Answer::expired()), 2_000), once(Event::Reset)],
        ),
        row("fault", "500", vec![for_ms(Fault::Http(Answer::new(500, "")), 2_000), once(Event::Reset)]),
        row("silence", "client gone", vec![for_ms(Fault::Blackhole, 13_000)]),
        row("slow", "", vec![for_ms(Fault::SlowAcks(1_500), 4_000)]),
        row("split", "", vec![for_ms(Fault::SplitAcks, 4_000)]),
        row("merged", "reset", vec![for_ms(Fault::MergedAcks, 4_000), once(Event::Reset)]),
        row("absurd", "reset", vec![for_ms(Fault::AbsurdAcks, 4_000), once(Event::Reset)]),
        Row { limits: Limits { connection_max: ms(3_000), ..limits }, ..row("brief", "error 4003", vec![]) },
        Row {
            limits: Limits { second: Second::Accepted, connection_max: ms(4_000), ..limits },
            ..row("both", "error 4003", vec![])
        },
    ]
}

#[test]
fn every_frame_of_the_ring_is_stored_whatever_the_service_does() {
    let run = || {
        let scratch = Scratch::new("kvs-faults")?;
        all_at_once(&scratch.path)
    };
    run().unwrap_or_else(|error| panic!("{error:#}"));
}

fn all_at_once(dir: &Path) -> anyhow::Result<()> {
    let rows = rows();
    let picture = clip(Picture::SMALL)?;
    let farm = Farm::start(FarmConfig::local(rows.iter().map(|_| CameraConfig::new(vec![picture.clone()])).collect()))?;
    let service = |row: &Row| Service::start(ServiceConfig { limits: row.limits, ..ServiceConfig::new([row.name]) });
    let services = rows.iter().map(service).collect::<Result<Vec<_>, _>>()?;
    let streams = rows.iter().zip(farm.cameras()).zip(&services).map(|((row, camera), service)| Stream {
        name: row.name.into(),
        url: camera.url(),
        endpoint: service.url(),
        kvs: "fragment = \"1s\"".into(),
    });
    let streams: Vec<_> = streams.collect();
    let relayd = Relayd::start_in(dir, &toml(dir, &streams)?, &environment(dir, Keys::Fixed)?)?;
    for (row, service) in rows.iter().zip(&services) {
        await_stored(&relayd, service, row.name, 0, SOON)?;
    }
    for turn in 0..2 {
        trouble(&rows, &services, turn);
    }
    for (row, service) in rows.iter().zip(&services).filter(|(row, _)| !row.seen.is_empty()) {
        wait_for(&format!("{} is seen at {}", row.seen, row.name), SOON, || has_seen(service, row).then_some(()))
            .with_context(|| format!("{} {:?}", service.read_back(row.name), service.refused()))?;
    }
    // Beyond everything that happened.
    let beyond: Vec<_> = farm.cameras().iter().map(|camera| camera.counter() + FRAGMENT).collect();
    for ((row, service), counter) in rows.iter().zip(&services).zip(beyond) {
        await_stored(&relayd, service, row.name, counter, SOON)?;
    }
    let marks: Vec<_> = rows.iter().zip(&services).map(|(row, service)| newest(service, row.name)).collect();
    let told = relayd.streams()?;
    relayd.stop()?;
    let mut wrong = Vec::new();
    for ((row, service), mark) in rows.iter().zip(&services).zip(marks) {
        let owed = witnessed(dir, row.name)?.into_iter().filter(|counter| Some(*counter) <= mark).collect();
        let sink = sink(&told, row.name).unwrap_or_default();
        wrong.extend(judge(row, service, &owed).into_iter().map(|wrong| format!("{}: {wrong}: {sink}", row.name)));
    }
    ensure!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    Ok(())
}

/// Trouble in the middle of what is sent: a fragment was received and is not PERSISTED. Some faults leave no such moment;
/// they are not waited for for long.
fn trouble(rows: &[Row], services: &[Service], turn: usize) {
    let mut due: Vec<_> =
        rows.iter().zip(services).filter_map(|(row, service)| Some((row, service, row.troubles.get(turn)?))).collect();
    let started = utc_nanos();
    let moments = wait_for("a moment for each", Duration::from_secs(3), || {
        due.retain(|(row, service, trouble)| {
            let last = service.fragments(row.name).pop();
            let is_moment =
                last.is_some_and(|last| last.received_utc_nanos > started && last.persisted_utc_nanos.is_none());
            if is_moment {
                service.happen((*trouble).clone());
            }
            !is_moment
        });
        due.is_empty().then_some(())
    });
    if moments.is_err() {
        due.iter().for_each(|(_, service, trouble)| service.happen((*trouble).clone()));
    }
}

fn has_seen(service: &Service, row: &Row) -> bool {
    let refused =
        service.refused().into_iter().any(|refused| refused.name == row.seen || refused.status.to_string() == row.seen);
    refused || service.read_back(row.name).sessions.contains_key(row.seen)
}

fn judge(row: &Row, service: &Service, owed: &BTreeSet<u64>) -> Vec<String> {
    let back = service.read_back(row.name);
    println!("{}: {} owed; {back}", row.name, owed.len());
    let mut wrong = back.wrong();
    let missing = back.missing(owed.iter().copied());
    let poisoned = if row.poisoned { FRAGMENT as usize } else { 0 };
    let is_right = missing.len() == poisoned;
    if owed.len() < 4 * FRAGMENT as usize || !is_right {
        wrong.push(format!("{} of {} frames are missing: {missing:?}", missing.len(), owed.len()));
    }
    if back.unstamped > 0 {
        wrong.push(format!("{} pictures are not the camera's", back.unstamped));
    }
    wrong
}

#[test]
fn a_backlog_on_disk_survives_a_kill() {
    let run = || {
        let scratch = Scratch::new("kvs-kill")?;
        killed_with_a_backlog(&scratch.path)
    };
    run().unwrap_or_else(|error| panic!("{error:#}"));
}

fn killed_with_a_backlog(dir: &Path) -> anyhow::Result<()> {
    const NAME: &str = "yard";
    let farm = Farm::start(FarmConfig::local(vec![CameraConfig::new(vec![clip(Picture::SMALL)?])]))?;
    let camera = farm.cameras().first().context("no camera")?;
    let service = Service::start(ServiceConfig::new([NAME]))?;
    let stream = Stream {
        name: NAME.into(),
        url: camera.url(),
        endpoint: service.url(),
        kvs: format!("fragment = \"1s\"\nspool = {{ dir = {:?}, mode = \"always\" }}", dir.join("spool")),
    };
    let (toml, environment) = (toml(dir, &[stream])?, environment(dir, Keys::Fixed)?);
    let relayd = Relayd::start_in(dir, &toml, &environment)?;
    await_stored(&relayd, &service, NAME, FRAGMENT, SOON)?;
    service.inject(Fault::Http(Answer::new(503, "")), None);
    service.trigger(Event::Reset);
    let spooled =
        || sink(&relayd.streams().ok()?, NAME)?["kvs"]["buffered_fragments"].as_u64().filter(|held| *held >= 6);
    wait_for("six fragments wait", SOON, spooled)?;
    relayd.kill()?;
    let before = witnessed(dir, NAME)?;

    let relayd = Relayd::start_in(dir, &toml, &environment)?;
    relayd.await_all_live(SOON)?;
    service.clear();
    await_stored(&relayd, &service, NAME, camera.counter() + FRAGMENT, SOON)?;
    // The unfinished fragment, at the end of what the first life recorded.
    let (Some(first), Some(last)) = (before.first(), before.last()) else { bail!("nothing was recorded") };
    let whole: Vec<u64> = before.iter().copied().filter(|counter| counter + FRAGMENT <= *last).collect();
    let is_there = || service.read_back(NAME).missing(whole.iter().copied()).is_empty().then_some(());
    let stored = wait_for("the backlog is stored", SOON, is_there);
    let back = service.read_back(NAME);
    stored.with_context(|| format!("{:?} of {first} to {last}: {back}", back.missing(whole)))?;
    relayd.stop()?;
    ensure!(back.wrong().is_empty(), "{back}");
    Ok(())
}

//! The producer against the service, each fault once; and the service against requests that are wrong.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "the real clock is asked, and it tells what it saw"
)]

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use aws_credential_types::Credentials;
use futures_util::future::join_all;
use relay_kvs::{
    Cloud, Create, Event, Network, Options, Producer, Time,
    proto::{Settings, Stats},
};
use relay_media::{
    Codec, Flags, Packet, Timebase, Timestamp, Track, TrackId, UtcTime, Wall, WallOrigin, h264, stamp::Stamp,
};
use relay_sim::kvs::{Identity, Limits, ReadBack, Second, Service, ServiceConfig, Step};
use rustls::{RootCertStore, pki_types::pem::PemObject};

const SPS: &[u8] =
    &[0x67, 0x42, 0xc0, 0x0d, 0xd9, 1, 0x41, 0xfb, 1, 0x10, 0, 0, 3, 0, 0x10, 0, 0, 3, 3, 0x20, 0xf1, 0x42, 0xa4, 0x80];
const PPS: &[u8] = &[0x68, 0xcb, 0x83, 0xcb, 0x20];
/// Frames a second of the film; the first of each second is a key frame.
const FPS: u64 = 20;
/// All is stored by then, on a slow machine too.
const PATIENCE: Duration = Duration::from_secs(40);

#[derive(Debug)]
struct Clocks;

impl Time for Clocks {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn utc(&self) -> UtcTime {
        UtcTime::from_unix_nanos(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as i64)
    }
}

/// What happens to one producer, and what is expected to be seen of it.
#[derive(Default)]
struct Row {
    name: &'static str,
    script: &'static [&'static str],
    limits: Limits,
    /// Seconds of film; it is live.
    seconds: u64,
    /// How a session must have ended, as [`ReadBack::sessions`] tells.
    ends: &'static str,
    /// What a call must have been refused with.
    refused: &'static str,
    /// Fragments that the service never takes.
    poison: usize,
    tls: bool,
    /// How long sessions are: then the next is opened before the last is closed, if the service lets us.
    session_max: Option<Duration>,
}

impl Row {
    fn new(name: &'static str, script: &'static [&'static str], ends: &'static str, refused: &'static str) -> Self {
        Self { name, script, ends, refused, seconds: 7, ..Self::default() }
    }
}

fn rows() -> Vec<Row> {
    let limits = Limits::default();
    let ms = Duration::from_millis;
    vec![
        Row::new("health", &[], "finished", ""),
        Row { tls: true, ..Row::new("tls", &[], "finished", "") },
        Row::new("reset", &["reset@2100ms"], "reset", ""),
        Row::new("close", &["close@2100ms"], "closed", ""),
        Row::new("restart", &["restart@3100ms"], "reset", ""),
        Row::new("4003", &["ack=4003@2100ms"], "error 4003", ""),
        Row::new("5000", &["ack=5000@2100ms", "ack=5000@4100ms"], "error 5000", ""),
        Row::new("an unknown error", &["ack=4999@2100ms"], "error 4999", ""),
        Row { poison: 1, ..Row::new("poison", &["poison=4006@2s"], "error 4006", "") },
        Row::new("500", &["http=500@2s+2s", "reset@2100ms"], "reset", "http 500"),
        Row::new("denied", &["reset@2s", "next-put=403/AccessDeniedException"], "reset", "AccessDeniedException"),
        Row::new(
            "not found",
            &["next-put=404/ResourceNotFoundException@1s", "reset@2s"],
            "reset",
            "ResourceNotFoundException",
        ),
        Row::new("limit", &["reset@2s", "connection-limit@2s+2s"], "reset", "ConnectionLimitExceededException"),
        Row::new("expired", &["expired@2s+2s", "reset@2s"], "reset", "ExpiredTokenException"),
        Row { seconds: 16, ..Row::new("blackhole", &["blackhole@2100ms+14s"], "client gone", "") },
        Row::new("a short silence", &["blackhole@2100ms+3s"], "finished", ""),
        Row::new("slow acks", &["slow-acks=2000"], "finished", ""),
        Row::new("split acks", &["split-acks"], "finished", ""),
        Row::new("merged acks", &["merged-acks", "reset@3100ms"], "reset", ""),
        Row::new("absurd acks", &["absurd-acks", "reset@3100ms"], "reset", ""),
        Row::new("nobody there", &["refuse@0s+3s", "reset@3100ms"], "reset", ""),
        Row::new("late answers", &["late=500+6s", "reset@4100ms"], "reset", ""),
        Row { limits: Limits { connection_max: ms(2_500), ..limits }, ..Row::new("45 minutes", &[], "error 4003", "") },
        Row {
            limits: Limits { retention_hours: 0, ..limits },
            ..Row::new("no retention", &["reset@3100ms"], "reset", "")
        },
        rotation("rotation", Second::Refused, "finished", ""),
        rotation("two at once", Second::Accepted, "finished", ""),
        rotation("the newest stays", Second::Replaces, "finished", ""),
    ]
}

fn rotation(name: &'static str, second: Second, ends: &'static str, refused: &'static str) -> Row {
    let limits = Limits { second, ..Limits::default() };
    Row { limits, session_max: Some(Duration::from_secs(2)), ..Row::new(name, &[], ends, refused) }
}

#[tokio::test]
async fn whatever_happens_every_frame_is_stored() {
    let outcomes = join_all(rows().iter().map(check)).await;
    let wrong: Vec<String> = outcomes.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Runs one row; returns what is wrong with it.
async fn check(row: &Row) -> Vec<String> {
    let steps = row.script.iter().map(|line| line.parse::<Step>().unwrap());
    let (script, later): (Vec<_>, Vec<_>) = steps.partition(|step| step.at.is_zero());
    let identity = row.tls.then(|| Identity::new().unwrap());
    let config =
        ServiceConfig { script, limits: row.limits, identity: identity.clone(), ..ServiceConfig::new(["front"]) };
    let service = Service::start(config).unwrap();
    let mut options = options(&service, identity.as_ref());
    options.settings.session_max = row.session_max.unwrap_or(options.settings.session_max);
    let mut producer = Producer::open(options, Arc::new(Clocks)).await.unwrap();
    let (frames, ()) = tokio::join!(show(&mut producer, row.seconds), happen(&service, later));
    let stats = finish(&mut producer).await;
    let back = ended(&service).await;
    println!("{}: {back}", row.name);
    let mut wrong = judge(row, &back, frames, &stats);
    let refused = service.refused();
    let named =
        |name: &str| refused.iter().any(|refused| refused.name == name || name == format!("http {}", refused.status));
    if !row.refused.is_empty() && !named(row.refused) {
        wrong.push(format!("no call was refused with {}: {refused:?}", row.refused));
    }
    wrong.into_iter().map(|wrong| format!("{}: {wrong}: {back} {stats:?}", row.name)).collect()
}

/// Has things happen, at their times since what would be the film's begin: that is so long before the first PERSISTED.
async fn happen(service: &Service, mut steps: Vec<Step>) {
    const BEFORE: Duration = Duration::from_millis(1_300);
    steps.sort_by_key(|step| step.at);
    while service.fragments("front").first().is_none_or(|first| first.persisted_utc_nanos.is_none())
        && !steps.is_empty()
    {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let begun = tokio::time::Instant::now();
    for step in steps {
        tokio::time::sleep_until(begun + step.at.saturating_sub(BEFORE)).await;
        service.happen(step.trouble);
    }
}

/// What is there once the service has seen the end of every session.
async fn ended(service: &Service) -> ReadBack {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let back = service.read_back("front");
        if !back.sessions.contains_key("under way") || Instant::now() > deadline {
            return back;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn judge(row: &Row, back: &ReadBack, frames: u64, stats: &Stats) -> Vec<String> {
    let mut wrong = back.wrong();
    let missing = back.missing(0..frames);
    let poisoned = row.poison as u64 * FPS;
    if missing.len() as u64 != poisoned {
        wrong.push(format!("{} of {frames} frames are missing, {missing:?}", missing.len()));
    }
    if stats.packets_persisted + poisoned != frames || stats.packets_buffered != 0 {
        wrong.push("the account does not say so".into());
    }
    if !back.sessions.contains_key(row.ends) {
        wrong.push(format!("no session ended so: {}", row.ends));
    }
    wrong
}

fn options(service: &Service, identity: Option<&Identity>) -> Options {
    let credentials = Credentials::new("AKIDSIMULATED", "simulated-secret", None, None, "test");
    let mut roots = RootCertStore::empty();
    if let Some(identity) = identity {
        roots.add(rustls::pki_types::CertificateDer::from_pem_slice(identity.pem().as_bytes()).unwrap()).unwrap();
    }
    Options {
        stream: "front".into(),
        cloud: Cloud::with_credentials("eu-west-1".into(), credentials),
        network: Network::trusting(roots).unwrap(),
        endpoint: Some(service.url().parse().unwrap()),
        create: None,
        settings: Settings { fragment: Duration::from_secs(1), ..Settings::new(7) },
        spool: None,
    }
}

/// Shows the producer so many seconds of a live film; returns how many frames it has.
async fn show(producer: &mut Producer, seconds: u64) -> u64 {
    let track = Arc::new(Track {
        id: TrackId(1),
        codec: Codec::H264(h264::Config::parse(SPS, PPS).unwrap()),
        timebase: Timebase::new(90_000).unwrap(),
    });
    let (started, first) = (tokio::time::Instant::now(), Clocks.utc());
    for frame in 0..seconds * FPS {
        let due = started + Duration::from_millis(frame * 1_000 / FPS);
        while tokio::time::timeout_at(due, producer.turn()).await.is_ok() {}
        let utc = first.plus_nanos((frame * 1_000_000_000 / FPS) as i64);
        let stamp = Stamp { counter: frame, utc_nanos: Clocks.utc().unix_nanos() }.to_nal();
        let slice = vec![0x65; if frame % FPS == 0 { 20_000 } else { 2_000 }];
        let nal = |nal: &[u8]| [&(nal.len() as u32).to_be_bytes(), nal].concat();
        let time = Timestamp::new((frame * 90_000 / FPS) as i64, track.timebase);
        producer.push(Arc::new(Packet {
            track: track.clone(),
            dts: time,
            pts: time,
            duration: None,
            arrival: Instant::now(),
            wall: Wall { utc, origin: WallOrigin::Arrival },
            flags: if frame % FPS == 0 { Flags::KEY } else { Flags::empty() },
            payload: [nal(&stamp), nal(&slice)].concat().into(),
        }));
    }
    seconds * FPS
}

async fn finish(producer: &mut Producer) -> Stats {
    producer.stop(PATIENCE);
    while !matches!(producer.turn().await, Event::Done) {}
    producer.seen().stats
}

#[tokio::test]
async fn a_stream_is_made_where_there_is_none() {
    let service = Service::start(ServiceConfig::new::<String>([])).unwrap();
    let create = Create { retention_hours: 24, tags: vec![("site".into(), "yard".into())], kms_key_id: None };
    let options = Options { create: Some(create), ..options(&service, None) };
    let mut producer = Producer::open(options, Arc::new(Clocks)).await.unwrap();
    let frames = show(&mut producer, 3).await;
    finish(&mut producer).await;
    assert_eq!(service.read_back("front").missing(0..frames), Vec::<u64>::new());
    let asked = service.creation("front").unwrap();
    assert!(asked.contains("yard") && asked.contains("\"DataRetentionInHours\":24"), "{asked}");
}

#[tokio::test]
async fn a_wrong_secret_stores_nothing_and_loses_nothing() {
    let config =
        ServiceConfig { fixed_key: ("AKIDSIMULATED".into(), "another".into()), ..ServiceConfig::new(["front"]) };
    let service = Service::start(config).unwrap();
    let mut producer = Producer::open(options(&service, None), Arc::new(Clocks)).await.unwrap();
    let frames = show(&mut producer, 3).await;
    let stats = producer.seen().stats;
    assert_eq!((stats.packets_buffered, service.fragments("front")), (frames, vec![]));
    assert!(service.refused().iter().all(|refused| refused.name == "SignatureDoesNotMatch"));
    assert!(stats.failure.contains("SignatureDoesNotMatch"), "{}", stats.failure);
}

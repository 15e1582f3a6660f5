//! The producer against a service on a real socket.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "the real clock is asked, and the service is a task")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use aws_credential_types::Credentials;
use film::Film;
use relay_kvs::{
    Cloud, Create, Event, Network, Options, Producer, SpoolOptions, Time,
    proto::{Settings, SpoolMode},
};
use relay_media::UtcTime;
use rustls::RootCertStore;
use service::{Answer, Service};

#[path = "shell/film.rs"]
mod film;
#[path = "shell/service.rs"]
mod service;

#[derive(Debug)]
struct Clocks {
    /// How far the time of day is off.
    off: Duration,
}

impl Time for Clocks {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn utc(&self) -> UtcTime {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap() + self.off;
        UtcTime::from_unix_nanos(since.as_nanos() as i64)
    }
}

fn options(service: &Service) -> Options {
    let credentials = Credentials::new("AKIDEXAMPLE", "secret", Some("token".into()), None, "test");
    Options {
        stream: "front".into(),
        cloud: Cloud::with_credentials("eu-west-1".into(), credentials),
        network: Network::trusting(RootCertStore::empty()).unwrap(),
        endpoint: Some(service.url()),
        create: None,
        settings: Settings { fragment: Duration::from_secs(1), ..Settings::new(7) },
        spool: None,
    }
}

async fn producer(options: Options) -> Producer {
    Producer::open(options, Arc::new(Clocks { off: Duration::ZERO })).await.unwrap()
}

/// Turns until it is done, at most 30 s; returns what it told.
async fn finish(producer: &mut Producer, patience: Duration) -> Vec<Event> {
    producer.stop(patience);
    let mut events = vec![];
    let turns = async {
        loop {
            let event = producer.turn().await;
            let is_done = matches!(event, Event::Done);
            events.push(event);
            if is_done {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), turns).await.expect("it ends");
    events
}

/// Turns until so many packets are PERSISTED.
async fn persisted(producer: &mut Producer, packets: u64) {
    let turns = async {
        while producer.seen().stats.packets_persisted < packets {
            producer.turn().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), turns).await.expect("all is persisted");
}

#[tokio::test]
async fn all_is_persisted_whatever_the_service_answers_first() {
    for answers in [
        vec![],
        vec![Answer::Refuse(403, "AccessDeniedException")],
        vec![Answer::Refuse(404, "ResourceNotFoundException"), Answer::Refuse(500, "")],
        vec![Answer::Refuse(400, "ConnectionLimitExceededException")],
        vec![Answer::Break(2), Answer::Refuse(403, "AccessDeniedException"), Answer::Break(0)],
        vec![Answer::Error(3, 4003), Answer::Refuse(404, ""), Answer::Error(1, 5000)],
        vec![Answer::Silent],
        vec![Answer::Late],
    ] {
        let service = Service::start(answers.clone()).await;
        let mut producer = producer(options(&service)).await;
        let mut film = Film::new();
        for _ in 0..10 {
            film.second().into_iter().for_each(|packet| producer.push(packet));
        }
        let events = finish(&mut producer, Duration::from_secs(25)).await;
        let seen = producer.seen();
        let told: u64 = events
            .iter()
            .map(|event| match event {
                Event::Persisted { packets, .. } => u64::from(*packets),
                _ => 0,
            })
            .sum();
        assert_eq!((told, seen.stats.packets_persisted), (film.packets(), film.packets()), "{answers:?}: {events:?}");
        assert_eq!(service.frames(), film.packets(), "{answers:?}");
        assert_eq!(seen.retention, Some(true));
        let failures = events.iter().filter(|event| matches!(event, Event::Failed(_))).count();
        let silent = answers.iter().filter(|answer| matches!(answer, Answer::Silent | Answer::Late)).count();
        assert!(failures + silent >= answers.len(), "{answers:?}: {events:?}");
        assert!(service.signatures().iter().all(|head| head.contains("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/")));
    }
}

#[tokio::test]
async fn a_spool_carries_over_what_could_not_be_sent() {
    for mode in [SpoolMode::Overflow, SpoolMode::Always] {
        let dir = std::env::temp_dir().join(format!("relay-kvs-shell-{}-{mode:?}", std::process::id()));
        let spool = SpoolOptions { dir: dir.clone(), max_bytes: 1 << 30, mode };
        let away = Service::start(vec![Answer::Refuse(503, ""); 1_000]).await;
        let mut first = producer(Options { spool: Some(spool.clone()), ..options(&away) }).await;
        let mut film = Film::new();
        (0..10).flat_map(|_| film.second()).for_each(|packet| first.push(packet));
        finish(&mut first, Duration::from_secs(1)).await;
        assert_eq!((first.seen().stats.packets_persisted, first.seen().stats.packets_buffered), (0, film.packets()));
        drop(first);

        let service = Service::start(vec![Answer::Break(3)]).await;
        let mut second = producer(Options { spool: Some(spool), ..options(&service) }).await;
        (0..5).flat_map(|_| film.second()).for_each(|packet| second.push(packet));
        persisted(&mut second, film.packets() - 20).await;
        finish(&mut second, Duration::from_secs(10)).await;
        assert_eq!(service.frames(), film.packets());
        assert_eq!(second.seen().stats.disk_bytes, 0);
        drop(second);
        std::fs::remove_dir_all(dir).unwrap();
    }
}

#[tokio::test]
async fn a_missing_stream_is_made_and_a_wrong_clock_is_mended() {
    let service = Service::start(vec![]).await;
    service.forget_stream();
    let create = Create { retention_hours: 24, tags: vec![("site".into(), "yard".into())], kms_key_id: None };
    let options = Options { create: Some(create), ..options(&service) };
    let mut producer = Producer::open(options, Arc::new(Clocks { off: Duration::from_secs(3_600) })).await.unwrap();
    let mut film = Film::new();
    (0..5).flat_map(|_| film.second()).for_each(|packet| producer.push(packet));
    finish(&mut producer, Duration::from_secs(20)).await;
    assert_eq!(service.frames(), film.packets());
    assert!(service.made().contains("\"yard\""), "{}", service.made());
    let skew = producer.seen().skew_seconds;
    assert!((-3_602..=-3_598).contains(&skew), "{skew}");
}

#[tokio::test]
async fn a_proxy_is_gone_by() {
    let service = Service::start(vec![]).await;
    let proxy = Service::proxy(service.url()).await;
    let url = proxy.url().as_str().replace("http://", "http://user:secret@");
    let proxies = hyper_util::client::proxy::matcher::Matcher::builder().all(url).build();
    let plain = options(&service);
    let mut producer = producer(Options { network: plain.network.clone().by(proxies), ..plain }).await;
    let mut film = Film::new();
    (0..5).flat_map(|_| film.second()).for_each(|packet| producer.push(packet));
    finish(&mut producer, Duration::from_secs(20)).await;
    assert_eq!(service.frames(), film.packets());
    assert_eq!(proxy.signatures(), ["Basic dXNlcjpzZWNyZXQ="]);
}

#[tokio::test]
async fn nobody_at_the_other_end_is_said_plainly() {
    let endpoint = { tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap() };
    let service = Service::start(vec![]).await;
    let url = format!("http://{endpoint}").parse().unwrap();
    let mut producer = producer(Options { endpoint: Some(url), ..options(&service) }).await;
    let mut film = Film::new();
    (0..3).flat_map(|_| film.second()).for_each(|packet| producer.push(packet));
    let event = tokio::time::timeout(Duration::from_secs(20), producer.turn()).await.unwrap();
    let Event::Failed(failure) = event else { panic!("{event:?}") };
    assert!(failure.to_string().starts_with("no connection to the service: GetDataEndpoint: "), "{failure}");
    let kept = producer.seen().stats;
    assert_eq!((kept.packets_buffered, kept.puts), (film.packets(), 1));
}

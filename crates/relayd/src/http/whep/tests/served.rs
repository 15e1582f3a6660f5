//! WHEP in front of real sessions, up to the port: what Chromium offers, and what is left of it when it is damaged.

use tokio::runtime::Handle;

use super::*;
use crate::{config, http::App, watching::Watching};

/// What a Chromium offers, and its fragments' head.
const CHROMIUM: &str = include_str!("../../../../../relay-webrtc/tests/offers/chromium_156.sdp");

/// A house whose streams may be watched for real, `yard` by two at a time, both together by three.
struct Served {
    house: House,
    _watching: Watching,
    _scratch: Scratch,
}

impl Served {
    async fn open(name: &str) -> Self {
        let text = "[webrtc]\nlisten = \"127.0.0.1:0\"\nmax_viewers = 3\n\
            [streams.yard]\nsource = \"test://pattern\"\nwebrtc = { max_viewers = 2 }\n\
            [streams.gate]\nsource = \"test://pattern\"\n";
        let config = config::parse(text, "f").map_err(|error| error.to_string()).expect("a configuration").config;
        let clock = Clock::system();
        let watching = Watching::open(&config, &clock, &Handle::current()).expect("a port").expect("viewers");
        let (mut sinks, mut doors) = (Vec::new(), BTreeMap::new());
        for name in ["yard", "gate"] {
            let stream = config.streams.iter().find(|stream| stream.name == name).expect("the stream");
            let (sink, viewers) = watching.sink(stream.webrtc.as_ref().expect("to be watched"));
            sinks.push(sink);
            doors.insert(name.to_owned(), Door::new(Arc::new(viewers), None));
        }
        let whep = Whep::new(Settings { port: Some(watching.port().clone()), ..anyone() }, doors, &clock);
        let scratch = Scratch::new(name);
        let house = House::with_whep(&scratch.0, None, whep, sinks).await;
        Self { house, _watching: watching, _scratch: scratch }
    }

    async fn watching(&self, count: usize) {
        while self.app().0.whep.count("yard") != count {
            self.app().0.whep.clock.sleep(Duration::from_millis(5)).await;
        }
    }

    fn app(&self) -> &App {
        &self.house.app
    }
}

#[tokio::test]
async fn a_chromium_is_answered_and_its_places_are_counted() {
    let served = Served::open("whep-served").await;
    let house = &served.house;
    let first = post(house, "/whep/yard", CHROMIUM).await;
    assert_eq!(first.status, 201, "{}", first.text());
    for line in ["a=sendonly", "a=ice-lite", "a=rtcp-mux", " 127.0.0.1 "] {
        assert!(first.text().contains(line), "{line} in\n{}", first.text());
    }
    let second = post(house, "/whep/yard", CHROMIUM).await;
    assert_eq!(second.status, 201, "{}", second.text());
    let full = post(house, "/whep/yard", CHROMIUM).await;
    assert_eq!((full.status, full.header("retry-after").is_empty()), (503, false), "{}", full.text());

    let viewers = house.get("/api/v1/streams/yard/viewers").await.json();
    assert_eq!((viewers.as_array().map(Vec::len), &viewers[0]["state"]), (Some(2), &"connecting".into()));
    let streams = house.get("/api/v1/streams/yard").await.json();
    let sink = &streams["sinks"][1];
    assert_eq!((&sink["name"], &sink["type"], &sink["state"]), (&"webrtc".into(), &"webrtc".into(), &"running".into()));

    let session = first.header("location").to_owned();
    let ufrag = CHROMIUM.lines().find(|line| line.starts_with("a=ice-ufrag:")).expect("a ufrag");
    let candidate = "a=candidate:1 1 udp 2113937151 192.0.2.1 38776 typ host";
    for (body, status) in [
        (format!("{ufrag}\r\nm=video 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n{candidate}\r\n"), 204),
        ("a=ice-ufrag:other\r\na=ice-pwd:otherotherotherotherother\r\n".into(), 422),
        ("nonsense".into(), 400),
        (String::new(), 400),
    ] {
        let headers = [("content-type", FRAGMENT), ("if-match", first.header("etag"))];
        let answer = house.ask("PATCH", &session, &headers, Body::from(body.clone())).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.text());
    }
    for answer in [first, second] {
        let session = answer.header("location").to_owned();
        assert_eq!(house.ask("DELETE", &session, &[], Body::empty()).await.status, 200);
    }
    served.watching(0).await;
    // For a minute it is told what became of them.
    let told = house.ask("GET", &session, &[("accept", "application/json")], Body::empty()).await.json();
    assert_eq!(told["state"], "closed", "{told}");
    assert_eq!(house.ask("DELETE", &session, &[], Body::empty()).await.status, 404);
    assert_eq!(post(house, "/whep/yard", CHROMIUM).await.status, 201);
}

#[tokio::test]
async fn what_can_t_be_served_is_refused_with_the_reason_and_what_would_help() {
    let served = Served::open("whep-refused").await;
    let audio_only = CHROMIUM.replacen("m=video", "m=audio", 1);
    for (stream, offer, status) in [
        ("gate", CHROMIUM, 409),
        ("yard", "", 400),
        ("yard", "hello", 400),
        ("yard", &CHROMIUM[..400], 422),
        ("yard", &CHROMIUM.replace("a=fingerprint:", "a=fingerprints:"), 400),
        ("yard", &CHROMIUM.replace("H264", "H263"), 422),
        ("yard", &CHROMIUM.replace("a=recvonly", "a=sendonly"), 422),
        ("yard", &audio_only, 422),
    ] {
        let answer = post(&served.house, &format!("/whep/{stream}"), offer).await;
        assert_eq!(answer.status, status, "{}\n{offer}", answer.text());
        assert!(answer.json()["detail"].as_str().is_some_and(|detail| detail.len() > 20), "{}", answer.text());
        assert_eq!(answer.header("retry-after").is_empty(), status != 409);
    }
    assert_eq!(served.app().0.whep.count("yard"), 0);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(48))]

    /// An offer with any piece of it replaced by anything is answered or refused, and never our fault.
    #[test]
    fn damaged_offers_are_answered_or_refused(
        at in 0..CHROMIUM.len(),
        length in 0_usize..200,
        bytes in proptest::collection::vec(any::<u8>(), 0..60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let served = Served::open("whep-damaged").await;
            let end = (at + length).min(CHROMIUM.len());
            let damaged = [&CHROMIUM.as_bytes()[..at], &bytes, &CHROMIUM.as_bytes()[end..]].concat();
            for (method, path, media_type) in
                [("POST", "/whep/yard", SDP), ("PATCH", "/whep/yard/AAAAAAAAAAAAAAAAAAAAAA", FRAGMENT)]
            {
                let headers = [("content-type", media_type), ("if-match", "*")];
                let answer = served.house.ask(method, path, &headers, Body::from(damaged.clone())).await;
                assert!(answer.status < 500, "{}", answer.text());
            }
        });
    }
}

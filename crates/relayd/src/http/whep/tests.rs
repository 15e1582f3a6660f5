//! WHEP as a player sees it: status codes and headers row by row, over a real connection where it matters.

mod served;

use std::collections::BTreeSet;

use async_trait::async_trait;
use axum::body::Body;
use proptest::prelude::{any, prop_oneof};
use relay_media::UtcTime;
use relay_nodes::{JoinStages, ViewerSnapshot};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
};

use super::*;
use crate::http::{
    Server,
    tests::{Answer, House, Scratch},
};

/// A stream whose viewers ask for what becomes of them.
#[derive(Default)]
struct Fake {
    sessions: Mutex<BTreeSet<String>>,
}

const RETRY: Duration = Duration::from_millis(1_500);

#[async_trait]
impl Watch for Fake {
    async fn open(&self, offer: String) -> Result<(String, String), OpenError> {
        match offer.as_str() {
            "an offer" => {
                let mut sessions = lock(&self.sessions);
                let id = format!("session-{}", sessions.len());
                sessions.insert(id.clone());
                Ok((id, "v=0".to_owned()))
            }
            "dead" => Err(OpenError::NotLive { retry_after: RETRY, why: "its source is backoff".into() }),
            "full" => Err(OpenError::Full { retry_after: RETRY, why: "as many as may be".into() }),
            "long" => Err(OpenError::TooLarge("too long".into())),
            "h265" => Err(OpenError::Unservable("no H.265 was offered; use a browser that has it".into())),
            "late" => Err(OpenError::Stopping),
            _ => Err(OpenError::Malformed("no offer".into())),
        }
    }

    async fn trickle(&self, id: &str, fragment: String) -> Result<(), PatchError> {
        match fragment.as_str() {
            _ if !lock(&self.sessions).contains(id) => Err(PatchError::Unknown),
            "a=candidate" => Ok(()),
            "a=ice-ufrag:new" => Err(PatchError::IceRestart),
            _ => Err(PatchError::Malformed("no fragment".into())),
        }
    }

    async fn close(&self, id: &str) -> bool {
        lock(&self.sessions).remove(id)
    }

    fn count(&self) -> usize {
        lock(&self.sessions).len()
    }

    fn connected(&self) -> usize {
        0
    }

    fn ends(&self) -> BTreeMap<&'static str, u64> {
        BTreeMap::from([("closed", 7)])
    }

    fn snapshot(&self) -> Vec<ViewerSnapshot> {
        let ids: Vec<String> = lock(&self.sessions).iter().cloned().collect();
        ids.iter().filter_map(|id| self.diagnose(id)).collect()
    }

    fn diagnose(&self, id: &str) -> Option<ViewerSnapshot> {
        lock(&self.sessions).contains(id).then(|| ViewerSnapshot {
            tag: "abcd".into(),
            state: "failed",
            cause: Some("no UDP came".into()),
            remote: None,
            protocol: Some("udp"),
            since: UtcTime::from_unix_nanos(0),
            packets_out: 1,
            bytes_out: 2,
            dropped: BTreeMap::from([("lag", 3)]),
            lag: Duration::from_millis(4),
            rtt: Some(Duration::from_millis(5)),
            estimate_bps: Some(6),
            fraction_lost_milli: 7,
            retransmitted: 8,
            key_frame_requests: 9,
            stages: JoinStages { answer: Some(Duration::from_millis(1)), ..JoinStages::default() },
        })
    }
}

/// A house whose stream `yard` may be watched by whoever has `own`, and `gate` by nobody.
async fn house(scratch: &Scratch, token: Option<&str>, own: Option<&str>, settings: Settings) -> House {
    let own = own.and_then(Token::new);
    let door = Door::new(Arc::new(Fake::default()), own);
    let whep = Whep::new(settings, BTreeMap::from([("yard".to_owned(), door)]), &Clock::system());
    House::with_whep(&scratch.0, token, whep, Vec::new()).await
}

fn anyone() -> Settings {
    Settings { origins: vec![Origin::any()], ..Settings::default() }
}

const OFFER: &[(&str, &str)] = &[("content-type", "application/sdp")];

async fn post(house: &House, path: &str, offer: &str) -> Answer {
    house.ask("POST", path, OFFER, Body::from(offer.to_owned())).await
}

#[tokio::test]
async fn a_player_comes_trickles_looks_and_leaves() {
    let scratch = Scratch::new("whep-life");
    let mut ice_servers = IceServers::default();
    let login = RelayLogin::Fixed { username: "u".into(), credential: Token::new("p").expect("a token") };
    ice_servers.add(vec!["turn:t.example.com".into()], login);
    let house = house(&scratch, None, None, Settings { ice_servers, ..anyone() }).await;
    let answer = post(&house, "/whep/yard", "an offer").await;
    assert_eq!((answer.status, answer.text()), (201, "v=0"));
    assert_eq!(answer.header("content-type"), "application/sdp");
    assert_eq!(answer.header("accept-patch"), "application/trickle-ice-sdpfrag");
    assert_eq!(answer.header("access-control-allow-origin"), "*");
    assert_eq!(answer.header("cross-origin-resource-policy"), "");
    let link =
        "<turn:t.example.com>; rel=\"ice-server\"; username=\"u\"; credential=\"p\"; credential-type=\"password\"";
    assert_eq!(answer.header("link"), link);
    let session = answer.header("location").to_owned();
    assert!(session.starts_with("/whep/yard/session-"), "{session}");
    let tag = answer.header("etag").to_owned();
    assert!(tag.starts_with('"') && tag.ends_with('"') && tag.len() > 2, "{tag}");
    assert_ne!(post(&house, "/whep/yard", "an offer").await.header("etag"), tag);

    let fragment = ("content-type", "application/trickle-ice-sdpfrag");
    for (headers, body, status) in [
        (&[fragment, ("if-match", &tag)][..], "a=candidate", 204),
        (&[fragment, ("if-match", "*")], "a=candidate", 204),
        (&[fragment, ("if-match", "\"*\"")], "a=candidate", 204),
        (&[fragment, ("if-match", &format!("\"x\", {tag}"))], "a=candidate", 204),
        (&[fragment, ("if-match", "\"stale\"")], "a=candidate", 412),
        (&[fragment, ("if-match", &format!("W/{tag}"))], "a=candidate", 412),
        (&[fragment], "a=candidate", 428),
        (&[fragment, ("if-match", "*")], "a=ice-ufrag:new", 422),
        (&[fragment, ("if-match", &tag)], "junk", 400),
        (&[("content-type", "application/sdp"), ("if-match", &tag)], "a=candidate", 415),
        (&[("if-match", &tag)], "a=candidate", 415),
    ] {
        let answer = house.ask("PATCH", &session, headers, Body::from(body)).await;
        assert_eq!(answer.status, status, "{headers:?} {body}");
        assert_eq!(answer.header("etag"), "", "{headers:?} {body}");
        assert_eq!(status == 204, answer.body.is_empty(), "{headers:?} {body}");
    }

    assert_eq!(house.get(&session).await.status, 204);
    let told = house.ask("GET", &session, &[("accept", "text/html, application/json;q=0.9")], Body::empty()).await;
    let told = told.json();
    assert_eq!((&told["state"], &told["cause"]), (&"failed".into(), &"no UDP came".into()));
    assert_eq!((&told["viewer"], &told["join_ms"]["answer"], &told["lag_ms"]), (&"abcd".into(), &1.into(), &4.into()));
    let viewers = house.get("/api/v1/streams/yard/viewers").await;
    assert_eq!(viewers.json().as_array().map(Vec::len), Some(2));
    assert!(!viewers.text().contains("session-"), "{}", viewers.text());
    assert_eq!(house.get("/api/v1/streams/gate/viewers").await.text(), "[]");
    assert_eq!(house.get("/api/v1/streams/yard").await.json()["viewers"], 2);

    // Draft §4.3.1: a DELETE's entity tag is ignored.
    let gone = house.ask("DELETE", &session, &[("if-match", "\"stale\"")], Body::empty()).await;
    assert_eq!((gone.status, gone.body.len()), (200, 0));
    for method in ["DELETE", "GET", "HEAD", "PATCH"] {
        assert_eq!(house.ask(method, &session, &[fragment], Body::empty()).await.status, 404, "{method}");
    }
    let metrics = house.get("/metrics").await;
    for line in [
        "relayd_webrtc_viewers{stream=\"yard\"} 1",
        "relayd_webrtc_viewers{stream=\"gate\"} 0",
        "relayd_webrtc_sessions_total{stream=\"yard\",outcome=\"closed\"} 7",
        "relayd_webrtc_offers_total{stream=\"yard\",outcome=\"answered\"} 2",
        "relayd_whep_requests_total{method=\"PATCH\",status=\"412\"} 2",
    ] {
        assert!(metrics.text().lines().any(|found| found == line), "{line} in\n{}", metrics.text());
    }
}

/// A request as it goes over the wire, and the status it gets.
const ROWS: &[(&str, &str, &str, &str, u16)] = &[
    ("POST", "/whep/yard", "Content-Type: application/sdp", "an offer", 201),
    ("POST", "/whep/yard", "Content-Type: Application/SDP ; charset=utf-8", "an offer", 201),
    ("POST", "/whep/%79ard", "Content-Type: application/sdp", "an offer", 201),
    ("POST", "/whep/yard", "Content-Type: application/sdp", "junk", 400),
    ("POST", "/whep/yard", "Content-Type: application/sdp", "", 400),
    ("POST", "/whep/nobody", "Content-Type: application/sdp", "an offer", 404),
    ("POST", "/whep/gate", "Content-Type: application/sdp", "an offer", 404),
    ("POST", "/whep/%ff", "Content-Type: application/sdp", "an offer", 404),
    ("PUT", "/whep/yard", "Content-Type: application/sdp", "an offer", 405),
    ("POST", "/whep/yard/session-0", "Content-Type: application/sdp", "an offer", 405),
    ("POST", "/whep/yard", "Content-Type: application/sdp", "dead", 409),
    ("POST", "/whep/yard", "Content-Type: application/sdp", "long", 413),
    ("POST", "/whep/yard", "Content-Type: application/sdpx", "an offer", 415),
    ("POST", "/whep/yard", "X: y", "an offer", 415),
    ("POST", "/whep/yard", "Content-Type: application/sdp", "h265", 422),
    ("POST", "/whep/yard", "Content-Type: application/sdp", "full", 503),
    ("POST", "/whep/yard", "Content-Type: application/sdp", "late", 503),
    ("PATCH", "/whep/yard/nobody", "Content-Type: application/trickle-ice-sdpfrag", "a=candidate", 404),
    ("DELETE", "/whep/yard/nobody", "X: y", "", 404),
    ("DELETE", "/whep/nobody/nobody", "X: y", "", 404),
    ("DELETE", "/whep/yard", "X: y", "", 405),
    ("GET", "/whep/yard", "X: y", "", 204),
    ("HEAD", "/whep/yard", "X: y", "", 200),
    ("GET", "/whep/nobody", "X: y", "", 404),
    ("OPTIONS", "/whep/yard", "X: y", "", 200),
    ("OPTIONS", "/whep/yard/any", "Origin: https://example.com", "", 200),
];

#[tokio::test]
async fn every_mistake_has_its_status_and_a_reason_over_a_real_connection() {
    let scratch = Scratch::new("whep-rows");
    let house = house(&scratch, None, None, anyone()).await;
    over_the_wire(&house, async |address| {
        for (method, path, header, body, status) in ROWS {
            let length = body.len();
            let request = format!(
                "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{header}\r\nContent-Length: {length}\r\n\r\n{body}"
            );
            let answer = exchange(address, request.as_bytes()).await;
            let row = format!("{method} {path} {header} {body}: {answer}");
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{row}");
            // Pages of other origins can read every answer.
            assert!(answer.contains("\r\naccess-control-allow-origin: *\r\n"), "{row}");
            assert!(answer.contains("location, etag, link, accept-patch, retry-after"), "{row}");
            assert_eq!(*status >= 400, answer.contains("application/problem+json"), "{row}");
            assert_eq!(matches!(status, 409 | 503), answer.contains("\r\nretry-after: 2\r\n"), "{row}");
            assert_eq!(*status == 405, answer.contains("\r\nallow: ") && *method != "OPTIONS", "{row}");
            if matches!(*method, "OPTIONS") {
                assert!(answer.contains("\r\naccept-post: application/sdp\r\n"), "{row}");
                let allowed = "\r\naccess-control-allow-headers: authorization, content-type, if-match\r\n";
                assert!(answer.contains(allowed), "{row}");
            }
            if matches!(*method, "HEAD") {
                assert!(answer.contains("\r\ncontent-type: application/sdp\r\n"), "{row}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn bodies_are_bounded_while_they_are_read() {
    let scratch = Scratch::new("whep-large");
    let house = house(&scratch, None, None, anyone()).await;
    over_the_wire(&house, async |address| {
        let head = "POST /whep/yard HTTP/1.1\r\nHost: x\r\nContent-Type: application/sdp\r\n";
        let told = format!("{head}Content-Length: 100000\r\n\r\n");
        // Chunks of 32 KiB, of which the third is never asked for.
        let chunk = format!("8000\r\n{}\r\n", "x".repeat(0x8000));
        let untold = format!("{head}Transfer-Encoding: chunked\r\n\r\n{}", chunk.repeat(3));
        for request in [told, untold] {
            let answer = exchange(address, request.as_bytes()).await;
            assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
            assert!(answer.contains("\r\naccess-control-allow-origin: *\r\n"), "{answer}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_stream_s_own_token_takes_the_place_of_the_house_s() {
    let scratch = Scratch::new("whep-token");
    for (token, own, sent, status) in [
        (None, None, None, 201),
        (Some("house"), None, None, 401),
        (Some("house"), None, Some("Bearer wrong"), 401),
        (Some("house"), None, Some("Bearer house"), 201),
        (Some("house"), None, Some("Basic dTpob3VzZQ=="), 201),
        (Some("house"), Some("yards"), Some("Bearer house"), 401),
        // A browser would forget the house's token if it heard 401.
        (Some("house"), Some("yards"), Some("Basic dTpob3VzZQ=="), 403),
        (Some("house"), Some("yards"), Some("Basic dTp3cm9uZw=="), 401),
        (Some("house"), Some("yards"), Some("Bearer yards"), 201),
        (None, Some("yards"), None, 401),
        (None, Some("yards"), Some("Bearer yards"), 201),
    ] {
        let house = house(&scratch, token, own, anyone()).await;
        let mut headers = OFFER.to_vec();
        headers.extend(sent.map(|sent| ("authorization", sent)));
        let answer = house.ask("POST", "/whep/yard", &headers, Body::from("an offer")).await;
        assert_eq!(answer.status, status, "{token:?} {own:?} {sent:?}");
        assert_eq!(answer.header("access-control-allow-origin"), "*");
        let challenges: Vec<_> = answer.headers.get_all("www-authenticate").iter().collect();
        assert_eq!(challenges.len(), usize::from(status == 401), "{challenges:?}");
        assert_eq!(house.ask("OPTIONS", "/whep/yard", &[], Body::empty()).await.status, 200);
        // The session is guarded as its stream is.
        let session = house.ask("DELETE", "/whep/yard/session-0", &headers, Body::empty()).await;
        assert_eq!(session.status == 401, status == 401, "{token:?} {own:?} {sent:?}");
        // The house's token opens the rest as before.
        assert_eq!(house.get("/api/v1/streams").await.status == 401, token.is_some());
    }
}

#[tokio::test]
async fn only_pages_of_allowed_origins_may_read_answers() {
    let scratch = Scratch::new("whep-origin");
    let origins = || {
        let text = "[webrtc]\nallow_origins = [\"https://example.com\"]\n";
        crate::config::parse(text, "f").map(|loaded| loaded.config.webrtc.allow_origins).expect("origins")
    };
    let house = house(&scratch, None, None, Settings { origins: origins(), ..Settings::default() }).await;
    for (origin, admitted) in [
        (Some("https://example.com"), "https://example.com"),
        (Some("https://example.com.evil.org"), ""),
        (Some("null"), ""),
        (None, ""),
    ] {
        for method in ["OPTIONS", "POST", "PUT"] {
            let headers: Vec<_> = origin.map(|origin| ("origin", origin)).into_iter().collect();
            let answer = house.ask(method, "/whep/yard", &headers, Body::empty()).await;
            assert_eq!(answer.header("access-control-allow-origin"), admitted, "{method} {origin:?}");
            assert_eq!(answer.header("vary"), "Origin");
        }
    }
}

#[tokio::test]
async fn who_asks_too_often_is_told_when_to_come_back() {
    let scratch = Scratch::new("whep-rate");
    let house = house(&scratch, Some("house"), None, anyone()).await;
    over_the_wire(&house, async |address| {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        let mut statuses = BTreeMap::<String, usize>::new();
        let started = Clock::system().now();
        for _ in 0..600 {
            stream.write_all(b"DELETE /whep/yard/x HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("a request");
            let answer = read_head_and_body(&mut stream).await;
            assert_eq!(answer.contains("HTTP/1.1 429"), answer.contains("\r\nretry-after: 1\r\n"), "{answer}");
            *statuses.entry(answer.chars().skip(9).take(3).collect()).or_default() += 1;
        }
        let refilled = Clock::system().now().saturating_duration_since(started).as_millis() / 20;
        let taken = statuses.get("401").copied().unwrap_or_default();
        assert!((400..=401 + usize::try_from(refilled).expect("small")).contains(&taken), "{statuses:?}");
        assert_eq!(statuses.get("429").copied().unwrap_or_default(), 600 - taken, "{statuses:?}");
        // Looking costs nothing.
        let answer = exchange(address, b"OPTIONS /whep/yard HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    })
    .await;
}

#[tokio::test]
async fn nobody_new_is_let_in_while_draining() {
    let scratch = Scratch::new("whep-drain");
    let house = house(&scratch, None, None, anyone()).await;
    house.app.drain();
    let answer = post(&house, "/whep/yard", "an offer").await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, "2"));
}

async fn over_the_wire(house: &House, client: impl AsyncFnOnce(std::net::SocketAddr)) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let end = Notify::new();
    let server = Server::new(listener, house.app.router()).run(end.notified());
    tokio::join!(server, async {
        client(address).await;
        end.notify_one();
    });
}

/// An answer until the connection ends, header names and values in lower case.
async fn exchange(address: std::net::SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    // A server that has seen enough may close before all is sent.
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let mut chunk = [0; 4_096];
    while let Ok(count) = stream.read(&mut chunk).await {
        answer.extend_from_slice(&chunk[..count]);
        if count == 0 {
            break;
        }
    }
    lower_headers(&String::from_utf8_lossy(&answer))
}

/// One answer with a `Content-Length` on a connection that goes on.
async fn read_head_and_body(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let mut chunk = [0; 4_096];
    loop {
        let count = stream.read(&mut chunk).await.expect("an answer");
        assert!(count > 0, "the connection ended");
        answer.extend_from_slice(&chunk[..count]);
        let text = lower_headers(&String::from_utf8_lossy(&answer));
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()).map(str::parse);
        if length == Some(Ok(body.len())) {
            return text;
        }
    }
}

fn lower_headers(answer: &str) -> String {
    match answer.split_once("\r\n") {
        Some((status, rest)) => format!("{status}\r\n{}", rest.to_ascii_lowercase()),
        None => answer.to_owned(),
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(32))]

    /// Whatever is sent gets an answer, and never one that says that we are at fault.
    #[test]
    fn any_body_is_answered(
        method in prop_oneof!["POST", "PATCH", "DELETE", "GET", "PUT"],
        path in prop_oneof!["/whep/yard", "/whep/yard/session-0", "/whep/[a-z%0-9/]{0,12}"],
        bytes in proptest::collection::vec(any::<u8>(), 0..2_000),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let scratch = Scratch::new("whep-any");
            let house = house(&scratch, None, None, anyone()).await;
            for media_type in [SDP, FRAGMENT] {
                let headers = [("content-type", media_type), ("if-match", "*")];
                let Ok(_) = path.parse::<axum::http::Uri>() else { continue };
                let answer = house.ask(&method, &path, &headers, Body::from(bytes.clone())).await;
                assert!(answer.status < 500, "{method} {path}: {}", answer.status);
            }
        });
    }
}

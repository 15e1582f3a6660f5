//! The shell against a real server on a real socket.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

mod server;

use std::{sync::atomic::Ordering, time::Instant};

use relay_hls::{
    Fetcher, HttpOptions,
    proto::{Answer, Event, Fetch, Head, Options, Output, Planner, reason},
};
use server::{Reply, Request, Server};
use url::Url;

/// Makes the first request of a planner for `url`: all shells' requests come from planners.
fn first_fetch(url: &Url) -> Fetch {
    let mut planner = Planner::new(now(), url.clone(), Options::default());
    match planner.poll_output() {
        Some(Output::Fetch(fetch)) => fetch,
        other => panic!("{other:?}"),
    }
}

#[expect(clippy::disallowed_methods, reason = "these tests run in real time")]
fn now() -> Instant {
    Instant::now()
}

/// What comes for one request: the head, the body, and why it broke.
async fn ask(fetcher: &mut Fetcher, fetch: &Fetch) -> (Option<Head>, Vec<u8>, Option<&'static str>) {
    fetcher.start(fetch);
    let (mut head, mut body) = (None, Vec::new());
    loop {
        match fetcher.next().await.1 {
            Answer::Head(found) => head = Some(found),
            Answer::Body(bytes) => body.extend_from_slice(&bytes),
            Answer::End => return (head, body, None),
            Answer::Failed(cause) => {
                assert!(!cause.text.contains("secret"), "{}", cause.text);
                return (head, body, Some(cause.reason));
            }
        }
    }
}

fn header<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    let line = request.iter().find(|line| line.to_ascii_lowercase().starts_with(name))?;
    Some(line.split_once(':')?.1.trim())
}

/// A gzip member of "hello", stored.
const GZIP: &[u8] = b"\x1f\x8b\x08\0\0\0\0\0\0\xff\x01\x05\0\xfa\xffhello\x86\xa6\x10\x36\x05\0\0\0";

fn habits(request: &Request) -> Reply {
    let path = request[0].split(' ').nth(1).unwrap();
    match path {
        "/plain" => Reply::new("200 OK", "ETag: \"7\"\r\n", b"hello"),
        "/gzip" => {
            assert!(header(request, "accept-encoding").unwrap().contains("gzip"));
            Reply::new("200 OK", "Content-Encoding: gzip\r\n", GZIP)
        }
        "/closes" => Reply { keep: false, ..Reply::new("200 OK", "Connection: close\r\n", b"hello") },
        "/silent-close" => Reply { keep: false, ..Reply::new("200 OK", "", b"hello") },
        "/chunked" => Reply {
            keep: true,
            ..Reply::raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n")
        },
        "/short" => Reply::raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello"),
        "/short-chunked" => Reply::raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
        "/no-length" => Reply::raw(b"HTTP/1.1 200 OK\r\n\r\nhello"),
        "/nothing" => Reply::raw(b""),
        "/no-http" => Reply::raw(b"\x16\x03\x01 hello\r\n\r\n"),
        "/hop" => Reply::new("302 Found", "Location: /plain\r\n", b""),
        "/loop" => Reply::new("302 Found", "Location: /loop\r\n", b""),
        "/cookie" => Reply::new("302 Found", "Set-Cookie: a=b\r\nLocation: /needs-cookie\r\n", b""),
        "/needs-cookie" if header(request, "cookie") == Some("a=b") => Reply::new("200 OK", "", b"hello"),
        "/basic" if header(request, "authorization") == Some("Basic bWU6c2VjcmV0Kw==") => {
            Reply::new("200 OK", "", b"hello")
        }
        "/bearer" if header(request, "authorization") == Some("Bearer secret") => Reply::new("200 OK", "", b"hello"),
        "/extra" if header(request, "x-extra") == Some("1") => Reply::new("200 OK", "", b"hello"),
        "/hangs" => Reply { hang: true, ..Reply::raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello") },
        _ => Reply::new("404 Not Found", "", b""),
    }
}

#[tokio::test]
async fn answers_are_what_the_server_said() {
    let server = Server::start(habits).await;
    let options = HttpOptions {
        bearer: Some("secret".into()),
        headers: vec![("X-Extra".into(), "1".into())],
        ..HttpOptions::default()
    };
    let mut fetcher = Fetcher::new(&server.url("/"), options).unwrap();
    for (path, status, failure) in [
        ("/plain", 200, None),
        ("/gzip", 200, None),
        ("/closes", 200, None),
        ("/silent-close", 200, None),
        ("/plain", 200, None),
        ("/chunked", 200, None),
        ("/no-length", 200, None),
        ("/short", 200, Some(reason::TRUNCATED)),
        ("/short-chunked", 200, Some(reason::TRUNCATED)),
        ("/nothing", 0, Some(reason::RESET)),
        ("/no-http", 0, Some(reason::PROTOCOL)),
        ("/hop", 200, None),
        ("/cookie", 200, None),
        ("/bearer", 200, None),
        ("/extra", 200, None),
        ("/loop", 0, Some(reason::REDIRECTS)),
    ] {
        let (head, body, failed) = ask(&mut fetcher, &first_fetch(&server.url(path))).await;
        assert_eq!((head.as_ref().map_or(0, |head| head.status), failed), (status, failure), "{path}");
        assert!(status == 0 || body == b"hello", "{path}: {body:?}");
        let led_to = head.and_then(|head| head.url).map(|url| url.path().to_owned());
        let expected = [("/hop", "/plain"), ("/cookie", "/needs-cookie")].iter().find(|(from, _)| *from == path);
        assert_eq!(led_to.as_deref(), expected.map(|(_, to)| *to), "{path}");
    }
    let mut url = server.url("/basic");
    url.set_username("me").unwrap();
    url.set_password(Some("secret%2B")).unwrap();
    let (head, _, failed) = ask(&mut fetcher, &first_fetch(&url)).await;
    assert_eq!((head.unwrap().status, failed), (200, None));
}

#[tokio::test]
async fn connections_are_kept_and_cancelled_ones_closed() {
    let server = Server::start(habits).await;
    let mut fetcher = Fetcher::new(&server.url("/"), HttpOptions::default()).unwrap();
    let fetch = first_fetch(&server.url("/plain"));
    for _ in 0..5 {
        let (head, _, failed) = ask(&mut fetcher, &fetch).await;
        assert_eq!((head.unwrap().etag.as_deref(), failed), (Some("\"7\""), None));
    }
    assert_eq!(server.connections.load(Ordering::Relaxed), 1);
    let hanging = first_fetch(&server.url("/hangs"));
    fetcher.start(&hanging);
    assert!(matches!(fetcher.next().await.1, Answer::Head(_)));
    assert!(matches!(fetcher.next().await.1, Answer::Body(_)));
    fetcher.cancel(hanging.id);
    let (head, ..) = ask(&mut fetcher, &fetch).await;
    assert_eq!(head.unwrap().status, 200);
}

#[tokio::test]
async fn what_cannot_be_reached_is_named() {
    let server = Server::start(habits).await;
    let mut fetcher = Fetcher::new(&server.url("/"), HttpOptions::default()).unwrap();
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let tls = format!("https://{}/x?token=secret", server.address);
    for (url, expected) in [
        (format!("http://me:secret@{closed}/x?token=secret"), reason::CONNECT),
        ("http://nowhere.invalid/x".to_owned(), reason::DNS),
        (tls, reason::TLS),
    ] {
        let (head, _, failed) = ask(&mut fetcher, &first_fetch(&url.parse().unwrap())).await;
        assert_eq!((head, failed), (None, Some(expected)), "{url}");
    }
}

/// A playlist of three segments of which the second breaks off once, on a server that closes after each answer.
fn broken_vod(request: &Request) -> Reply {
    let media = |n: u8| [&[0x47, n][..], &[n; 374]].concat();
    let path = request[0].split(' ').nth(1).unwrap();
    let range = header(request, "range");
    match (path, range) {
        ("/vod.m3u8", _) => Reply { keep: false, ..Reply::new(
            "200 OK",
            "Connection: close\r\n",
            b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n1.ts\n#EXTINF:1,\n2.ts\n#EXTINF:1,\n3.ts\n#EXT-X-ENDLIST\n",
        ) },
        ("/2.ts", None) => {
            let bytes = media(2);
            Reply::raw(&[b"HTTP/1.1 200 OK\r\nContent-Length: 376\r\n\r\n", &bytes[..200]].concat())
        }
        ("/2.ts", Some("bytes=200-")) => {
            Reply::new("206 Partial Content", "Content-Range: bytes 200-375/376\r\n", &media(2)[200..])
        }
        ("/1.ts", None) => Reply { keep: false, ..Reply::new("200 OK", "", &media(1)) },
        ("/3.ts", None) => Reply::new("200 OK", "", &media(3)),
        _ => Reply::new("404 Not Found", "", b""),
    }
}

#[tokio::test]
async fn planner_and_shell_play_together() {
    let server = Server::start(broken_vod).await;
    let url = server.url("/vod.m3u8");
    let mut fetcher = Fetcher::new(&url, HttpOptions::default()).unwrap();
    let mut planner = Planner::new(now(), url, Options::default());
    let (mut media, mut failures) = (Vec::new(), Vec::new());
    loop {
        let mut is_ended = false;
        while let Some(output) = planner.poll_output() {
            match output {
                Output::Fetch(fetch) => fetcher.start(&fetch),
                Output::Cancel(id) => fetcher.cancel(id),
                Output::Event(Event::Bytes { bytes, .. }) => media.extend_from_slice(&bytes),
                Output::Event(Event::Failed(failure)) => failures.push(failure.cause.reason),
                Output::Event(Event::Ended) => is_ended = true,
                Output::Event(_) => {}
            }
        }
        if is_ended {
            break;
        }
        let wait = planner.poll_timeout().map(tokio::time::Instant::from_std);
        let timeout = async { tokio::time::sleep_until(wait.unwrap()).await };
        tokio::select! {
            biased;
            (id, answer) = fetcher.next() => planner.handle_input(now(), id, answer),
            () = timeout, if wait.is_some() => planner.handle_timeout(now()),
        }
    }
    let expected: Vec<u8> = (1..=3).flat_map(|n: u8| [&[0x47, n][..], &[n; 374]].concat()).collect();
    assert_eq!((media == expected, failures), (true, vec![reason::TRUNCATED]));
}

//! What is answered to a request, and how badly.

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    Origin,
    fault::{OriginFault, Requests},
    ledger::Piece,
    media, playlist,
    programme::Segment,
};
use crate::locked;

/// A GET request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) query: String,
    /// The first and the last byte wanted.
    pub(crate) range: Option<(u64, Option<u64>)>,
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// More header lines.
    pub(crate) headers: String,
    pub(crate) body: Bytes,
    pub(crate) manner: Manner,
    /// The connection is closed after it.
    pub(crate) closes: bool,
    /// What of which segments it brings to its end.
    pub(crate) pieces: Vec<Piece>,
    /// Segments of which it passes off a part as the whole.
    pub(crate) spoils: Vec<Piece>,
}

/// How an answer is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    Whole,
    /// Half of it, then the connection is reset.
    Cut,
    /// Half of it, then the connection is closed.
    Truncated,
    /// Half of it, then nothing.
    Stalled,
    /// Byte by byte.
    Slow,
    /// Its body again and again.
    Endless,
}

impl Request {
    /// Parses a request's head, without the empty line at its end.
    pub(crate) fn parse(head: &str) -> Option<Self> {
        let mut lines = head.lines();
        let mut words = lines.next()?.split(' ');
        let target = words.nth(1).filter(|target| target.starts_with('/'))?;
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let range = lines.find_map(|line| {
            let (name, value) = line.split_once(':')?;
            let (first, last) = value.trim().strip_prefix("bytes=")?.split_once('-')?;
            let is_range = name.eq_ignore_ascii_case("range");
            is_range.then_some((first.parse().ok()?, last.parse().ok()))
        });
        Some(Self { path: path.to_owned(), query: query.to_owned(), range })
    }

    /// A number in the query.
    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        let pairs = self.query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.filter(|(key, _)| *key == name).find_map(|(_, value)| value.parse().ok())
    }

    fn asks_for(&self) -> Requests {
        match self.path.rsplit_once('/').map(|(_, name)| name) {
            Some(name) if name.ends_with(".m3u8") => Requests::Playlists,
            Some(name) if name.starts_with("key") => Requests::Keys,
            _ => Requests::Segments,
        }
    }

    /// The variant's number and the name within it.
    pub(crate) fn of_variant(&self) -> Option<(usize, &str)> {
        let (variant, name) = self.path.strip_prefix("/live/v")?.split_once('/')?;
        Some((variant.parse().ok()?, name))
    }
}

impl Reply {
    fn plain(status: u16, body: impl Into<Bytes>) -> Self {
        let headers = "Content-Type: text/plain\r\n".to_owned();
        Self {
            status,
            headers,
            body: body.into(),
            manner: Manner::Whole,
            closes: false,
            pieces: Vec::new(),
            spoils: Vec::new(),
        }
    }

    fn of(kind: &str, body: impl Into<Bytes>) -> Self {
        let headers = format!("Content-Type: {kind}\r\n");
        Self { headers, ..Self::plain(200, body) }
    }
}

const PAGE: &str = "<!DOCTYPE html><html><body><h1>We'll be back soon</h1></body></html>\n";
const PLAYLIST: &str = "application/vnd.apple.mpegurl";

impl Origin {
    /// The answer to `request`, with the faults of this moment.
    pub(crate) fn reply(&self, now: Instant, request: &Request) -> Reply {
        let asks_for = request.asks_for();
        let condition = locked(&self.state).condition.clone();
        if condition.has(OriginFault::Redirects) {
            let again = request.number("again").unwrap_or(0) + 1;
            let headers = format!("Location: {}?again={again}\r\n", request.path);
            return Reply { headers, ..Reply::plain(302, "") };
        }
        if let Some(status) = condition.status(asks_for) {
            return Reply::plain(status, "something is wrong\n");
        }
        if condition.is_html(asks_for) {
            return Reply::of("text/html", PAGE);
        }
        let closes = condition.has(OriginFault::Close);
        let mut reply = self.healthy(now, request);
        reply.closes = closes;
        if reply.status >= 300 {
            return reply;
        }
        let is_media = asks_for == Requests::Segments;
        if condition.stalls(asks_for) {
            reply.manner = Manner::Stalled;
        } else if condition.has(OriginFault::Giant) && asks_for == Requests::Playlists {
            let segment = "#EXTINF:1.000000,\nanother-segment-of-many.ts\n";
            reply.body = format!("{}{}", String::from_utf8_lossy(&reply.body), segment.repeat(1_000)).into();
            reply.manner = Manner::Endless;
        } else if is_media && condition.has(OriginFault::Slow) {
            reply.manner = Manner::Slow;
        } else if is_media && condition.has(OriginFault::Cut) && self.is_its_turn() {
            reply.manner = Manner::Cut;
        } else if is_media && condition.has(OriginFault::Truncate) && self.is_its_turn() {
            reply.manner = Manner::Truncated;
        } else if is_media && condition.has(OriginFault::Short) && self.is_its_turn() {
            // An odd length ends within a packet of MPEG-TS.
            reply.body.truncate((reply.body.len() / 2) | 1);
            reply.spoils = std::mem::take(&mut reply.pieces);
        }
        if reply.manner != Manner::Whole {
            reply.pieces.clear();
        }
        reply
    }

    /// Every other time.
    fn is_its_turn(&self) -> bool {
        let mut state = locked(&self.state);
        state.turns += 1;
        state.turns % 2 == 1
    }

    fn healthy(&self, now: Instant, request: &Request) -> Reply {
        if request.path == "/live/master.m3u8" && self.config.has_master {
            return self.master();
        }
        let refused = {
            let state = locked(&self.state);
            let is_old = self.config.is_signed && request.number("t") != Some(state.signature.into());
            is_old.then_some(state.expired)
        };
        if let Some(status) = refused {
            return Reply::plain(status, "the signature has expired\n");
        }
        let Some((variant, name)) = request.of_variant() else { return not_found() };
        if locked(&self.state).condition.has(OriginFault::Vanish(variant)) {
            return not_found();
        }
        let Some(studio) = self.studios.get(variant) else { return not_found() };
        let reply = if name == "index.m3u8" {
            Some(Reply::of(PLAYLIST, self.media(now, studio)))
        } else if name == "init.mp4" {
            studio.init().ok().map(|bytes| Reply::of("video/mp4", bytes))
        } else if let Some(number) = name.strip_prefix("key") {
            number.parse().ok().map(|number| Reply::of("application/octet-stream", media::key(number).to_vec()))
        } else if let Some(file) = name.strip_prefix("file") {
            self.file(studio, file, request)
        } else {
            self.segment(studio, name, request)
        };
        reply.unwrap_or_else(not_found)
    }

    fn master(&self) -> Reply {
        let condition = locked(&self.state).condition.clone();
        let there = self.studios.iter().enumerate().filter(|(number, _)| !condition.has(OriginFault::Vanish(*number)));
        Reply::of(PLAYLIST, playlist::master(there, self.config.has_audio, &self.manner()))
    }

    fn media(&self, now: Instant, studio: &media::Studio) -> String {
        let listing = locked(&self.state).programme.listing(now);
        let length = |segment: &Segment| studio.segment(segment).map_or(0, |bytes| bytes.len() as u64);
        let sizes = |segment: &Segment| {
            let before = self.of_file(segment.index / self.file_segments());
            let before = before.iter().filter(|other| other.index < segment.index);
            (before.map(length).sum(), length(segment))
        };
        playlist::media(&listing, &self.manner(), sizes)
    }

    pub(crate) fn manner(&self) -> playlist::Manner {
        let state = locked(&self.state);
        let config = &self.config;
        playlist::Manner {
            container: config.container,
            has_wall: config.has_wall,
            file_segments: config.file_segments,
            signature: config.is_signed.then_some(state.signature),
            part_frames: state.programme.pace.part_frames,
            fps: state.programme.pace.fps,
            segment_frames: state.programme.pace.segment_frames,
        }
    }

    fn segment(&self, studio: &media::Studio, name: &str, request: &Request) -> Option<Reply> {
        let mut words = name.split('.');
        let segment = locked(&self.state).programme.named(words.next()?)?;
        if segment.gap {
            return None;
        }
        let part = words.next()?.strip_prefix("part").map(str::parse::<u64>);
        let is_part = part.is_some();
        let (bytes, bits) = match part {
            Some(part) => {
                let part = part.ok().filter(|part| *part < studio.parts(&segment).min(64))?;
                (studio.part(&segment, part).ok()?.into(), 1 << part)
            }
            None => (studio.segment(&segment).ok()?, u64::MAX),
        };
        let is_there = is_part || locked(&self.state).programme.is_made(&segment);
        is_there.then(|| self.ranged(request, &bytes, &[(segment.index, bytes.len(), bits)]))
    }

    fn file(&self, studio: &media::Studio, name: &str, request: &Request) -> Option<Reply> {
        let segments = self.of_file(name.split('.').next()?.parse().ok()?);
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for segment in &segments {
            bytes.extend_from_slice(&studio.segment(segment).ok()?);
            ends.push((segment.index, bytes.len(), u64::MAX));
        }
        (!segments.is_empty()).then(|| self.ranged(request, &bytes.into(), &ends))
    }

    fn of_file(&self, file: u64) -> Vec<Segment> {
        locked(&self.state).programme.of_file(file, self.file_segments())
    }

    fn file_segments(&self) -> u64 {
        self.config.file_segments.unwrap_or(1).max(1)
    }

    /// The bytes asked for; each segment with its end in them is brought to it.
    fn ranged(&self, request: &Request, bytes: &Bytes, ends: &[(u64, usize, u64)]) -> Reply {
        let kind = if self.config.container == media::Container::Ts { "video/mp2t" } else { "video/mp4" };
        let total = bytes.len();
        let Some((first, last)) = request.range.filter(|_| self.config.has_ranges) else {
            let pieces = ends.iter().map(|(index, _, bits)| (*index, *bits)).collect();
            return Reply { pieces, ..Reply::of(kind, bytes.clone()) };
        };
        let first = usize::try_from(first).unwrap_or(usize::MAX);
        let until =
            last.and_then(|last| usize::try_from(last).ok()).map_or(total, |last| total.min(last.saturating_add(1)));
        if first >= until {
            let headers = format!("Content-Range: bytes */{total}\r\n");
            return Reply { headers, ..Reply::plain(416, "") };
        }
        let headers = format!("Content-Type: {kind}\r\nContent-Range: bytes {first}-{}/{total}\r\n", until - 1);
        let ended = ends.iter().filter(|(_, end, _)| (first + 1..=until).contains(end));
        let pieces = ended.map(|(index, _, bits)| (*index, *bits)).collect();
        Reply { headers, pieces, ..Reply::plain(206, bytes.slice(first..until)) }
    }
}

fn not_found() -> Reply {
    Reply::plain(404, "there is no such thing\n")
}

#[test]
fn requests_are_taken_apart() {
    let request = |path: &str, query: &str, range| Some(Request { path: path.into(), query: query.into(), range });
    for (head, expected) in [
        ("GET /live/v0/index.m3u8 HTTP/1.1\r\nHost: a", request("/live/v0/index.m3u8", "", None)),
        ("GET /a?t=3&u=4 HTTP/1.1\r\nrange: bytes=5-", request("/a", "t=3&u=4", Some((5, None)))),
        ("GET /a HTTP/1.1\r\nRange: bytes=5-9", request("/a", "", Some((5, Some(9))))),
        ("GET http://other/ HTTP/1.1", None),
        ("", None),
    ] {
        assert_eq!(Request::parse(head), expected, "{head}");
    }
}

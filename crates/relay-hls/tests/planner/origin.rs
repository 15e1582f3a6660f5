//! A live origin on simulated time, with faults: what it answers to a request, and when.

use std::time::Duration;

use aes::cipher::{BlockModeEncrypt as _, KeyIvInit as _, block_padding::Pkcs7};
use bytes::Bytes;
use relay_hls::proto::{Answer, Cause, Class, Fetch, Head, What, reason};

/// Milliseconds since the client began. The origin has been up for a while then.
pub(crate) type Millis = u64;

/// The first segment's number, all runs alike: the origin made it [`WINDOW`] segments before the client began.
const FIRST: u64 = 100;
/// Bytes of a segment: 100 packets of MPEG-TS.
pub(crate) const SEGMENT_BYTES: usize = 188 * 100;
const LATENCY: Millis = 20;
const CHUNK: usize = 4_096;

/// What goes wrong, between two times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// A status for everything, playlists, segments, or keys.
    Status(u16, Option<What>),
    /// No connection, for this reason.
    Away(&'static str),
    /// The playlist stays as it was.
    Frozen,
    /// Answers don't come, until the fault ends.
    Hangs(Option<What>),
    /// Segments stop in the middle, until the fault ends.
    HangsMidway,
    /// A byte a second.
    Drips,
    /// The connection breaks in the middle of a segment.
    Resets,
    /// The answer ends in the middle, and says nothing of it.
    EndsShort,
    /// A page with status 200 instead of a segment.
    Page,
    /// A page with status 200 instead of a playlist.
    PageForPlaylist,
    EmptyPlaylist,
    /// From then on another run: numbers begin at 0, with names that were used before or with others.
    Restart {
        names_again: bool,
    },
    /// From then on numbers are so much higher (or lower); segments are the same.
    Renumber(i64),
    /// The playlist ends, and another run begins when the fault ends.
    Ends,
    /// Every second playlist is two segments old.
    Stale,
    /// Before every segment, EXT-X-DISCONTINUITY.
    Storm,
    /// From then on, URLs are signed anew: the old ones get 403.
    Expires,
    /// From then on the higher variant gets 404.
    VariantGone,
    /// The higher variant gets 404, or its playlist stays as it was, until the fault ends.
    VariantAway,
    VariantFrozen,
    /// EXT-X-GAP on every third segment, which gets 404.
    Gaps,
    /// Audio has a playlist of its own, which gets 404.
    AudioGone,
    /// The key is another than the segments were encrypted with.
    WrongKey,
}

/// Answers requests on simulated time.
pub(crate) trait Origin {
    /// What is answered to a request made at `now`, each with its time; so many playlists were asked for.
    fn answer(&self, now: Millis, fetch: &Fetch, asked: usize) -> Vec<(Millis, Answer)>;

    /// After the end, the client goes on looking.
    fn begins_anew(&self) -> bool {
        false
    }
}

/// How the origin is set up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) target: Millis,
    pub(crate) window: u64,
    pub(crate) fault: Fault,
    pub(crate) from: Millis,
    pub(crate) until: Millis,
    pub(crate) has_master: bool,
    pub(crate) has_wall: bool,
    pub(crate) has_bom: bool,
    pub(crate) is_encrypted: bool,
    /// Byte ranges are answered.
    pub(crate) has_ranges: bool,
    /// Segments come with a length.
    pub(crate) has_length: bool,
    /// The playlist ends at this segment.
    pub(crate) vod: Option<u64>,
    /// Segments are byte ranges of one file.
    pub(crate) one_file: bool,
    /// Audio has a playlist of its own.
    pub(crate) has_audio: bool,
    /// A segment takes most of its duration to come.
    pub(crate) is_slow: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            target: 2_000,
            window: 6,
            fault: Fault::None,
            from: 10_000,
            until: 10_000,
            has_master: false,
            has_wall: false,
            has_bom: false,
            is_encrypted: false,
            has_ranges: true,
            has_length: true,
            vod: None,
            one_file: false,
            has_audio: false,
            is_slow: false,
        }
    }
}

/// Which segment: of which run, and which in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Id {
    pub(crate) run: u64,
    pub(crate) index: u64,
}

impl Origin for Setup {
    fn begins_anew(&self) -> bool {
        self.fault == Fault::Ends
    }

    fn answer(&self, now: Millis, fetch: &Fetch, asked: usize) -> Vec<(Millis, Answer)> {
        let on = self.is_on(now);
        let at = now + LATENCY;
        let fits = |what: Option<What>| what.is_none_or(|what| what == fetch.what);
        match self.fault {
            Fault::Status(status, what) if on && fits(what) => plain(at, status, "text/html", b"<html>"),
            Fault::Away(reason) if on => {
                let cause = Cause { reason, text: "away".into(), class: Class::Cheap };
                vec![(at, Answer::Failed(cause))]
            }
            Fault::Hangs(what) if on && fits(what) => self.content(self.until.max(at), fetch, asked),
            _ => self.content(at, fetch, asked),
        }
    }
}

impl Setup {
    /// What the client is given.
    pub(crate) fn url(&self) -> &'static str {
        if self.has_master { "http://origin/master.m3u8" } else { "http://origin/high/live.m3u8" }
    }

    fn is_on(&self, now: Millis) -> bool {
        (self.from..self.until).contains(&now)
    }

    /// Faults that happen once and stay.
    fn has_happened(&self, now: Millis) -> bool {
        now >= self.from
    }

    pub(crate) fn run_at(&self, now: Millis) -> u64 {
        let begins_anew = match self.fault {
            Fault::Restart { .. } => self.has_happened(now),
            Fault::Ends => now >= self.until,
            _ => false,
        };
        u64::from(begins_anew)
    }

    /// When a segment is listed first.
    pub(crate) fn made_at(&self, id: Id) -> Millis {
        match id.run {
            0 => (id.index - FIRST + 1).saturating_sub(self.window) * self.target,
            // A new run has two segments when it appears.
            _ => self.until.max(self.from) + id.index.saturating_sub(1) * self.target,
        }
    }

    /// When a segment was made in its run; negative before the client began.
    fn since_first(&self, id: Id) -> i64 {
        let index = if id.run == 0 { id.index as i64 - (FIRST + self.window) as i64 } else { id.index as i64 };
        index * self.target as i64
    }

    /// The segments listed at a time.
    pub(crate) fn listed_at(&self, now: Millis) -> Vec<Id> {
        let run = self.run_at(now);
        if let Some(end) = self.vod {
            return (FIRST..end).map(|index| Id { run, index }).collect();
        }
        let made = |index: &u64| self.made_at(Id { run, index: *index }) <= now;
        let first = if run == 0 { FIRST } else { 0 };
        let count = (first..).take_while(made).count() as u64;
        let skipped = count.saturating_sub(self.window);
        (first + skipped..first + count).map(|index| Id { run, index }).collect()
    }

    /// The bytes of a segment: packets that say whose they are.
    pub(crate) fn media(id: Id) -> Vec<u8> {
        let packet = |number: u64| {
            let mut packet = vec![0x47];
            packet.extend_from_slice(&id.run.to_be_bytes());
            packet.extend_from_slice(&id.index.to_be_bytes());
            packet.extend_from_slice(&number.to_be_bytes());
            packet.resize(188, 0xff);
            packet
        };
        (0..SEGMENT_BYTES as u64 / 188).flat_map(packet).collect()
    }

    fn key(period: u64) -> [u8; 16] {
        [(period % 251) as u8 + 1; 16]
    }

    fn body(&self, id: Id, sequence: u64) -> Vec<u8> {
        let plain = Self::media(id);
        if !self.is_encrypted {
            return plain;
        }
        let iv = u128::from(sequence).to_be_bytes();
        let mut buffer = plain.clone();
        buffer.resize(plain.len() + 16, 0);
        let cipher = cbc::Encryptor::<aes::Aes128>::new(&Self::key(sequence / 3).into(), &iv.into());
        cipher.encrypt_padded::<Pkcs7>(&mut buffer, plain.len()).unwrap().to_vec()
    }

    fn content(&self, at: Millis, fetch: &Fetch, asked: usize) -> Vec<(Millis, Answer)> {
        let path = fetch.url.path().to_owned();
        let parts: Vec<_> = path.trim_start_matches('/').split('/').collect();
        let token = fetch.url.query_pairs().find(|(key, _)| key == "token").map(|(_, value)| value.into_owned());
        let signed = u64::from(self.fault == Fault::Expires && self.has_happened(at));
        if token.is_some_and(|token| token != signed.to_string()) {
            return plain(at, 403, "text/plain", b"expired");
        }
        match parts.as_slice() {
            ["master.m3u8"] => plain(at, 200, "application/vnd.apple.mpegurl", self.master(at).as_bytes()),
            ["high", ..] if self.fault == Fault::VariantGone && self.has_happened(at) => {
                plain(at, 404, "text/html", b"<html>")
            }
            ["high", ..] if self.fault == Fault::VariantAway && self.is_on(at) => {
                plain(at, 404, "text/html", b"<html>")
            }
            ["high", "live.m3u8"] if self.fault == Fault::VariantFrozen && self.is_on(at) => {
                plain(at, 200, "text/plain", self.playlist(self.from - 1, at).as_bytes())
            }
            ["audio", ..] if self.fault == Fault::AudioGone && self.is_on(at) => plain(at, 404, "text/html", b"<html>"),
            [.., "live.m3u8"] => self.playlist_answer(at, asked),
            [.., key] if key.ends_with(".key") => {
                let period: u64 = key.trim_end_matches(".key").parse().unwrap();
                let wrong = self.fault == Fault::WrongKey && self.is_on(at);
                plain(at, 200, "application/octet-stream", &Self::key(period + u64::from(wrong) * 50))
            }
            [.., name] => self.segment_answer(at, fetch, name),
            [] => plain(at, 404, "text/html", b"<html>"),
        }
    }

    fn master(&self, at: Millis) -> String {
        let signed = u64::from(self.fault == Fault::Expires && self.has_happened(at));
        let token = if self.fault == Fault::Expires { format!("?token={signed}") } else { String::new() };
        let (media, group) = if self.has_audio {
            let media = "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"a\",DEFAULT=YES,URI=\"audio/live.m3u8\"\n";
            (media, ",AUDIO=\"a\"")
        } else {
            ("", "")
        };
        format!(
            "#EXTM3U\n{media}#EXT-X-STREAM-INF:BANDWIDTH=1000000,RESOLUTION=640x360{group}\nlow/live.m3u8{token}\n\
             #EXT-X-STREAM-INF:BANDWIDTH=2000000,RESOLUTION=1280x720{group}\nhigh/live.m3u8{token}\n"
        )
    }

    fn playlist_answer(&self, at: Millis, asked: usize) -> Vec<(Millis, Answer)> {
        let on = self.is_on(at);
        match self.fault {
            Fault::PageForPlaylist if on => plain(at, 200, "text/html", b"<html><body>Sorry</body></html>"),
            Fault::EmptyPlaylist if on => plain(at, 200, "text/plain", b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n"),
            Fault::Ends if on => {
                let text = self.playlist(self.from - 1, at) + "#EXT-X-ENDLIST\r\n";
                plain(at, 200, "text/plain", text.as_bytes())
            }
            Fault::Frozen if on => plain(at, 200, "text/plain", self.playlist(self.from - 1, at).as_bytes()),
            Fault::Stale if on && asked % 2 == 1 => {
                plain(at, 200, "text/plain", self.playlist(at - 2 * self.target, at).as_bytes())
            }
            _ => plain(at, 200, "text/plain", self.playlist(at, at).as_bytes()),
        }
    }

    fn playlist(&self, then: Millis, now: Millis) -> String {
        let listed = self.listed_at(then);
        let first = listed.first().copied().unwrap();
        let renumbered = match self.fault {
            Fault::Renumber(by) if self.has_happened(then) => by,
            _ => 0,
        };
        let bom = if self.has_bom { "\u{feff}" } else { "" };
        let sequence = first.index.checked_add_signed(renumbered).unwrap();
        let seconds = self.target / 1_000;
        let mut text = format!(
            "{bom}#EXTM3U\r\n#EXT-X-VERSION:3\r\n#EXT-X-TARGETDURATION:{seconds}\r\n#EXT-X-MEDIA-SEQUENCE:{sequence}\r\n"
        );
        for id in &listed {
            let number = id.index.checked_add_signed(renumbered).unwrap();
            if self.is_encrypted && (number % 3 == 0 || *id == first) {
                text += &format!("#EXT-X-KEY:METHOD=AES-128,URI=\"{}.key\"\r\n", number / 3);
            }
            if self.has_wall {
                // As if each had been made in real time.
                let offset = if id.run == 0 { 0 } else { self.from };
                let at = 1_795_228_200_000 + offset as i64 + self.since_first(*id);
                let at = jiff::Timestamp::from_millisecond(at).unwrap();
                text += &format!("#EXT-X-PROGRAM-DATE-TIME:{at}\r\n");
            }
            if self.fault == Fault::Storm && self.is_on(self.made_at(*id)) {
                text += "#EXT-X-DISCONTINUITY\r\n";
            }
            if self.fault == Fault::Gaps && id.index % 3 == 0 {
                text += "#EXT-X-GAP\r\n";
            }
            if self.one_file {
                let at = (id.index - FIRST) * SEGMENT_BYTES as u64;
                text += &format!("#EXT-X-BYTERANGE:{SEGMENT_BYTES}@{at}\r\n");
            }
            text += &format!("#EXTINF:{seconds}.000,\r\n{}\r\n", self.name(*id, now));
        }
        text + if self.vod.is_some() { "#EXT-X-ENDLIST\r\n" } else { "" }
    }

    fn name(&self, id: Id, now: Millis) -> String {
        let token = match self.fault {
            Fault::Expires => format!("?token={}", u64::from(self.has_happened(now))),
            _ => String::new(),
        };
        match (self.fault, self.one_file) {
            (_, true) => "all.ts".to_owned(),
            (Fault::Restart { names_again: false } | Fault::Ends, _) => format!("{}-{}.ts", id.run, id.index),
            // The first run began at 100, so that only a long one could use a name twice: both count from 0 here.
            (Fault::Restart { names_again: true }, _) if id.run == 0 => format!("{}.ts", id.index - FIRST),
            _ => format!("{}.ts{token}", id.index),
        }
    }

    fn find(&self, at: Millis, name: &str) -> Option<(Id, u64)> {
        let stem = name.trim_end_matches(".ts");
        let id = match self.fault {
            Fault::Restart { names_again: false } | Fault::Ends => {
                let (run, index) = stem.split_once('-')?;
                Id { run: run.parse().ok()?, index: index.parse().ok()? }
            }
            Fault::Restart { names_again: true } if self.run_at(at) == 0 => {
                Id { run: 0, index: stem.parse::<u64>().ok()? + FIRST }
            }
            _ => Id { run: self.run_at(at), index: stem.parse().ok()? },
        };
        // RFC 8216 §6.2.2: a segment stays for the length of the playlist after it has left it.
        let made = self.made_at(id);
        let gone = made + (2 * self.window + 1) * self.target;
        let there = self.vod.is_some() || (made <= at && at < gone);
        let renumbered = match self.fault {
            Fault::Renumber(by) if self.has_happened(at) => by,
            _ => 0,
        };
        there.then_some((id, id.index.checked_add_signed(renumbered)?))
    }

    fn segment_answer(&self, at: Millis, fetch: &Fetch, name: &str) -> Vec<(Millis, Answer)> {
        let on = self.is_on(at);
        if self.fault == Fault::Page && on {
            return plain(at, 200, "text/html", b"<html><body>Sorry</body></html>");
        }
        let body = if self.one_file {
            let last = self.listed_at(at).last().unwrap().index;
            (FIRST..=last).flat_map(|index| Self::media(Id { run: 0, index })).collect()
        } else {
            let Some((id, sequence)) = self.find(at, name) else { return plain(at, 404, "text/html", b"<html>") };
            if self.fault == Fault::Gaps && id.index % 3 == 0 {
                return plain(at, 404, "text/html", b"<html>");
            }
            self.body(id, sequence)
        };
        let total = body.len() as u64;
        let range = fetch.range.filter(|_| self.has_ranges);
        let start = range.map_or(0, |range| range.start);
        let end = range.and_then(|range| range.last).map_or(total, |last| (last + 1).min(total));
        let Some(wanted) = body.get(start as usize..end as usize) else {
            return plain(at, 416, "text/html", b"<html>");
        };
        let head = Head {
            status: if range.is_some() { 206 } else { 200 },
            content_type: Some("video/mp2t".into()),
            length: self.has_length.then_some(wanted.len() as u64),
            range: range.map(|range| (range.start, Some(total))),
            ..Head::default()
        };
        let mut answers = vec![(at, Answer::Head(head))];
        self.pour(at, wanted, on, &mut answers);
        answers
    }

    fn pour(&self, at: Millis, wanted: &[u8], on: bool, answers: &mut Vec<(Millis, Answer)>) {
        let chunk = |bytes: &[u8]| Answer::Body(Bytes::copy_from_slice(bytes));
        let (front, back) = wanted.split_at(wanted.len() / 2 - wanted.len() / 11);
        match self.fault {
            Fault::Drips if on => {
                answers.extend((0..200).map(|n| (at + n * 1_000, chunk(&wanted[n as usize..n as usize + 1]))));
            }
            Fault::HangsMidway if on => {
                answers.push((at, chunk(front)));
                answers.push((self.until.max(at), chunk(back)));
                answers.push((self.until.max(at), Answer::End));
            }
            Fault::Resets | Fault::EndsShort if on => {
                answers.push((at, chunk(front)));
                let cause = Cause { reason: reason::RESET, text: "reset".into(), class: Class::Cheap };
                let is_silent = self.fault == Fault::EndsShort;
                answers.push((at + 1, if is_silent { Answer::End } else { Answer::Failed(cause) }));
            }
            _ => {
                let pieces = wanted.chunks(CHUNK).zip(1..);
                let pace = if self.is_slow { self.target / 8 } else { 1 };
                answers.extend(pieces.map(|(bytes, n)| (at + n * pace, chunk(bytes))));
                answers.push((at + 6 * pace, Answer::End));
            }
        }
    }
}

pub(crate) fn plain(at: Millis, status: u16, content_type: &str, body: &[u8]) -> Vec<(Millis, Answer)> {
    let head =
        Head { status, content_type: Some(content_type.into()), length: Some(body.len() as u64), ..Head::default() };
    let body = Answer::Body(Bytes::copy_from_slice(body));
    vec![(at, Answer::Head(head)), (at, body), (at + 1, Answer::End)]
}

/// How long a simulated duration is.
pub(crate) fn millis(duration: Millis) -> Duration {
    Duration::from_millis(duration)
}

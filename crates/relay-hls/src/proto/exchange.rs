//! One request and its answer: how long it may take, and whether the answer is what was asked for.

use std::time::{Duration, Instant};

use url::Url;

use super::{
    cause::{Cause, reason},
    desk::Desk,
    event::{Answer, FetchId, Head, Range, What},
    redact::redacted,
};

/// The most bytes of a key: it has 16; more is read to say so.
pub(crate) const KEY_BYTES_MAX: u64 = 1 << 10;
/// The most bytes of an initialisation section: parameter sets of a few tracks.
pub(crate) const MAP_BYTES_MAX: u64 = 1 << 20;
/// The most bytes of a segment: 10 s at 100 Mbit/s.
pub(crate) const SEGMENT_BYTES_MAX: u64 = 128 << 20;

/// What an answer must keep to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Until it begins.
    pub(crate) answer: Duration,
    /// Between its bytes.
    pub(crate) quiet: Duration,
    /// How long the rest may take at the rate seen.
    pub(crate) rest: Duration,
    /// The size to reckon with where the answer tells none.
    pub(crate) typical: u64,
    /// Its bytes.
    pub(crate) bytes: u64,
}

/// A request under way.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) id: FetchId,
    pub(crate) url: Url,
    pub(crate) asked: Instant,
    limits: Limits,
    is_headed: bool,
    /// The last byte came.
    heard: Instant,
    received: u64,
    length: Option<u64>,
    /// Since when, and from how many bytes on, the rate is measured.
    window: (Instant, u64),
}

impl Exchange {
    /// Sends a request.
    pub(crate) fn start(
        now: Instant,
        (what, url): (What, Url),
        range: Option<Range>,
        is_fresh: bool,
        limits: Limits,
        desk: &mut Desk,
    ) -> Self {
        let id = desk.fetch(what, url.clone(), range, is_fresh);
        Self { id, url, asked: now, limits, is_headed: false, heard: now, received: 0, length: None, window: (now, 0) }
    }

    /// When it is to be looked at again.
    pub(crate) fn deadline(&self) -> Instant {
        if self.is_headed {
            (self.heard + self.limits.quiet).min(self.window.0 + self.limits.quiet)
        } else {
            self.asked + self.limits.answer
        }
    }

    /// Whether it takes too long.
    pub(crate) fn look(&mut self, now: Instant) -> Result<(), Cause> {
        if now < self.deadline() {
            return Ok(());
        }
        let url = redacted(&self.url);
        if !self.is_headed {
            let waited = now.saturating_duration_since(self.asked);
            return Err(Cause::cheap(reason::NO_ANSWER, format!("no answer from {url} for {}", shown(waited))));
        }
        let quiet = now.saturating_duration_since(self.heard);
        if quiet >= self.limits.quiet {
            let text = format!("{url} went quiet for {} after {} bytes", shown(quiet), self.received);
            return Err(Cause::cheap(reason::QUIET, text));
        }
        let (since, before) = self.window;
        let span = now.saturating_duration_since(since);
        let came = self.received.saturating_sub(before);
        let whole = self.length.unwrap_or(self.limits.typical.max(self.received));
        let missing = whole.saturating_sub(self.received);
        // missing / (came / span) > rest
        if u128::from(missing) * span.as_millis() > u128::from(came) * self.limits.rest.as_millis() {
            let text = format!("{url} trickles: {came} bytes in {}, {missing} still missing", shown(span));
            return Err(Cause::cheap(reason::TRICKLE, text));
        }
        self.window = (now, self.received);
        Ok(())
    }

    /// Takes the head: fails on any status but 200 and 206. Says how long it took.
    pub(crate) fn head(&mut self, now: Instant, head: &Head) -> Result<Duration, Cause> {
        self.is_headed = true;
        self.heard = now;
        self.window = (now, 0);
        self.length = head.length;
        match head.status {
            200 | 206 => {}
            status => return Err(status_cause(status, &self.url)),
        }
        if head.length.is_some_and(|length| length > self.limits.bytes) {
            return Err(self.too_large());
        }
        Ok(now.saturating_duration_since(self.asked))
    }

    /// Counts bytes of the body.
    pub(crate) fn body(&mut self, now: Instant, bytes: usize) -> Result<(), Cause> {
        self.heard = now;
        self.received = self.received.saturating_add(bytes as u64);
        if self.received > self.limits.bytes {
            return Err(self.too_large());
        }
        Ok(())
    }

    fn too_large(&self) -> Cause {
        let text = format!("{} is larger than {} bytes", redacted(&self.url), self.limits.bytes);
        Cause::last(reason::TOO_LARGE, text)
    }
}

/// Seconds and tenths.
pub(crate) fn shown(duration: Duration) -> String {
    format!("{}.{} s", duration.as_secs(), duration.subsec_millis() / 100)
}

fn status_cause(status: u16, url: &Url) -> Cause {
    let text = format!("{} answered {status}", redacted(url));
    let reason = match status {
        401 => reason::HTTP_401,
        403 => reason::HTTP_403,
        404 => reason::HTTP_404,
        410 => reason::HTTP_410,
        416 => reason::RANGE,
        400..=499 => reason::HTTP_4XX,
        500..=599 => reason::HTTP_5XX,
        _ => reason::HTTP_STATUS,
    };
    match status {
        401 | 403 => Cause::slow(reason, text),
        _ => Cause::cheap(reason, text),
    }
}

/// A small thing that is fetched whole: a playlist, a key, an initialisation section.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) exchange: Exchange,
    pub(crate) head: Option<Head>,
    body: Vec<u8>,
}

/// How far a document is.
pub(crate) enum Progress {
    More,
    Done(Vec<u8>),
    Failed(Cause),
}

impl Document {
    pub(crate) fn new(exchange: Exchange) -> Self {
        Self { exchange, head: None, body: Vec::new() }
    }

    /// Where it really came from.
    pub(crate) fn url(&self) -> &Url {
        self.head.as_ref().and_then(|head| head.url.as_ref()).unwrap_or(&self.exchange.url)
    }

    pub(crate) fn handle(&mut self, now: Instant, answer: Answer) -> Progress {
        let taken = match answer {
            Answer::Head(head) => {
                let taken = self.exchange.head(now, &head).map(|_| ());
                self.head = Some(head);
                taken
            }
            Answer::Body(bytes) => {
                self.body.extend_from_slice(&bytes);
                self.exchange.body(now, bytes.len())
            }
            Answer::End if self.head.is_some() => return Progress::Done(std::mem::take(&mut self.body)),
            Answer::End => Err(Cause::cheap(reason::PROTOCOL, "an answer without a head")),
            Answer::Failed(cause) => Err(cause),
        };
        match taken {
            Ok(()) => Progress::More,
            Err(cause) => Progress::Failed(cause),
        }
    }
}

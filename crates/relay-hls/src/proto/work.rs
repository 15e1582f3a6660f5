//! One segment on its way: its key, its initialisation section, its pieces, and what is left of each after a failure.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use url::Url;

use super::{
    cause::{Cause, reason},
    decrypt::{self, Decryptor},
    desk::Desk,
    event::{Answer, Begin, Event, FetchId, Head, Joint, Range, Rendition, What},
    exchange::{Document, Exchange, KEY_BYTES_MAX, Limits, MAP_BYTES_MAX, Progress, SEGMENT_BYTES_MAX},
    larder::{Larder, key_url},
    playlist::{MediaPlaylist, Segment, Span, resolve},
    redact::redacted,
    sniff::{self, Looks, SNIFF_BYTES},
    timing::{Timing, Waits},
};

/// Bytes of an MPEG-TS packet.
const TS_PACKET: u64 = 188;

/// What is fetched now: a whole segment, or a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) url: Url,
    /// Where it begins in its resource, and how long it is where that is known.
    pub(crate) start: u64,
    pub(crate) length: Option<u64>,
}

impl Piece {
    pub(crate) fn new(url: Url, span: Option<Span>) -> Self {
        Self { url, start: span.map_or(0, |span| span.offset), length: span.map(|span| span.length) }
    }
}

/// Where the work stands.
#[derive(Debug)]
enum Stage {
    /// Nothing is under way; something is to be asked for at the given time.
    Rest(Instant),
    Key(Document),
    Map(Document),
    Media(Exchange),
    /// The piece is complete.
    Done,
}

/// What ties a segment to the playlist in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bond {
    /// It is, or was, listed there.
    Listed,
    /// It is of the variant that was played before: it is not tried again, but may be had from this one.
    Before,
    /// It is of another run of the encoder: it is not tried again.
    Gone,
}

/// What came of an answer or of time passing.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It goes on.
    Goes,
    /// The piece is complete.
    PieceDone,
    /// It failed; [`Work::retry`] or [`Work::close`] it.
    Failed(What, Cause),
}

/// A key or an initialisation section that has to come first.
type Need = (What, Url, Option<Span>);

/// A segment being fetched.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) sequence: u64,
    pub(crate) segment: Segment,
    pub(crate) begin: Begin,
    /// [`Event::Begin`] was told.
    pub(crate) is_begun: bool,
    pub(crate) piece: Piece,
    /// How many parts are complete, if it is fetched by parts.
    pub(crate) parts: Option<usize>,
    pub(crate) bond: Bond,
    /// What its URIs are relative to.
    base: Url,
    pub(crate) waits: Waits,
    pub(crate) first_failure: Option<Instant>,
    stage: Stage,
    /// Where the key came from.
    key: Option<Url>,
    cipher: Option<Decryptor>,
    /// Bytes of the piece that were taken.
    done: u64,
    /// Bytes of the present answer that are to be passed over.
    skip: u64,
    /// Of the whole resource, and the last answer's tag.
    total: Option<u64>,
    etag: Option<String>,
    head: Option<Head>,
    /// The first bytes, until they tell what they are.
    sniff: BytesMut,
    looks: Option<Looks>,
    /// A stream without a length ended at this byte once.
    ended_at: Option<u64>,
    is_fresh: bool,
    in_all: u64,
}

impl Work {
    pub(crate) fn new(now: Instant, base: Url, begin: Begin, segment: Segment, piece: Piece) -> Self {
        Self {
            sequence: begin.sequence,
            segment,
            begin,
            is_begun: false,
            piece,
            parts: None,
            bond: Bond::Listed,
            base,
            waits: Waits::default(),
            first_failure: None,
            stage: Stage::Rest(now),
            key: None,
            cipher: None,
            done: 0,
            skip: 0,
            total: None,
            etag: None,
            head: None,
            sniff: BytesMut::new(),
            looks: None,
            ended_at: None,
            is_fresh: false,
            in_all: 0,
        }
    }

    pub(crate) fn owns(&self, id: FetchId) -> bool {
        match &self.stage {
            Stage::Key(document) | Stage::Map(document) => document.exchange.id == id,
            Stage::Media(exchange) => exchange.id == id,
            Stage::Rest(_) | Stage::Done => false,
        }
    }

    /// When it is to be looked at again.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match &self.stage {
            Stage::Rest(at) => Some(*at),
            Stage::Key(document) | Stage::Map(document) => Some(document.exchange.deadline()),
            Stage::Media(exchange) => Some(exchange.deadline()),
            Stage::Done => None,
        }
    }

    /// The last try failed.
    pub(crate) fn is_failing(&self) -> bool {
        self.waits.failures() > 0
    }

    /// The present piece is complete and the next one not yet known.
    pub(crate) fn is_piece_done(&self) -> bool {
        matches!(self.stage, Stage::Done)
    }

    /// Goes on with the next piece of the same segment.
    pub(crate) fn next_piece(&mut self, now: Instant, piece: Piece) {
        self.piece = piece;
        (self.done, self.skip, self.total, self.etag, self.ended_at) = (0, 0, None, None, None);
        self.stage = Stage::Rest(now);
    }

    /// Time has passed.
    pub(crate) fn drive(&mut self, now: Instant, larder: &mut Larder, timing: &Timing, desk: &mut Desk) -> Outcome {
        let overdue = match &mut self.stage {
            Stage::Rest(at) if *at <= now => return self.ask(now, larder, timing, desk),
            Stage::Rest(_) | Stage::Done => return Outcome::Goes,
            Stage::Key(document) => (What::Key, document.exchange.look(now)),
            Stage::Map(document) => (What::Map, document.exchange.look(now)),
            Stage::Media(exchange) => (What::Media, exchange.look(now)),
        };
        match overdue {
            (_, Ok(())) => Outcome::Goes,
            (what, Err(cause)) => {
                self.is_fresh = true;
                self.stop(desk);
                Outcome::Failed(what, cause)
            }
        }
    }

    /// Asks for whatever is missing next.
    fn ask(&mut self, now: Instant, larder: &mut Larder, timing: &Timing, desk: &mut Desk) -> Outcome {
        match self.prepare(larder) {
            Err((what, cause)) => Outcome::Failed(what, cause),
            Ok(Some((what, url, span))) => {
                let range = span.map(|span| Range {
                    start: span.offset,
                    last: Some(span.offset.saturating_add(span.length).saturating_sub(1)),
                });
                let bytes = if what == What::Key { KEY_BYTES_MAX } else { MAP_BYTES_MAX };
                let exchange = self.start(now, (what, url), range, (bytes, larder, timing), desk);
                let document = Document::new(exchange);
                self.stage = if what == What::Key { Stage::Key(document) } else { Stage::Map(document) };
                Outcome::Goes
            }
            Ok(None) => {
                let from = self.piece.start.saturating_add(self.done);
                let last = self.piece.length.map(|length| self.piece.start.saturating_add(length).saturating_sub(1));
                let range = (from > 0 || last.is_some()).then_some(Range { start: from, last });
                let target = (What::Media, self.piece.url.clone());
                let exchange = self.start(now, target, range, (SEGMENT_BYTES_MAX, larder, timing), desk);
                self.head = None;
                self.stage = Stage::Media(exchange);
                Outcome::Goes
            }
        }
    }

    fn start(
        &mut self,
        now: Instant,
        target: (What, Url),
        range: Option<Range>,
        (bytes, larder, timing): (u64, &Larder, &Timing),
        desk: &mut Desk,
    ) -> Exchange {
        let failures = self.waits.failures();
        let is_segment = self.parts.is_none() && bytes == SEGMENT_BYTES_MAX;
        let typical = if is_segment { larder.typical } else { 0 };
        // What is asked for ahead of its time comes when it comes.
        let early = if self.parts.is_some() { timing.target() } else { Duration::ZERO };
        let limits = Limits {
            answer: timing.answer(failures) + early,
            quiet: timing.quiet(failures) + early,
            rest: timing.rest(failures) + early,
            typical,
            bytes,
        };
        Exchange::start(now, target, range, std::mem::take(&mut self.is_fresh), limits, desk)
    }

    /// The key or the initialisation section that has to come first, if one is missing.
    fn prepare(&mut self, larder: &mut Larder) -> Result<Option<Need>, (What, Cause)> {
        let keys = [&self.segment.key, &self.segment.map.as_ref().and_then(|map| map.key.clone())]
            .into_iter()
            .flatten()
            .cloned()
            .collect::<Vec<_>>();
        for key in keys {
            let url = key_url(&key, &self.base).map_err(|cause| (What::Key, cause))?;
            if larder.key(&url).is_none() {
                return Ok(Some((What::Key, url, None)));
            }
        }
        if let Some(map) = &self.segment.map
            && self.begin.map.is_none()
        {
            let lost = || (What::Map, Cause::last(reason::REQUEST, "an initialisation section without an http URL"));
            let url = resolve(&self.base, &map.uri).ok_or_else(lost)?;
            let Some(bytes) = larder.map(&url, map.span) else {
                return Ok(Some((What::Map, url, map.span)));
            };
            self.begin.map = Some(bytes);
        }
        if let Some(key) = &self.segment.key
            && self.cipher.is_none()
        {
            let url = key_url(key, &self.base).map_err(|cause| (What::Key, cause))?;
            let bytes = larder.key(&url).unwrap_or_default();
            let iv = key.iv.unwrap_or_else(|| decrypt::iv_of(self.sequence));
            self.cipher = Some(Decryptor::new(&bytes, &iv));
            self.key = Some(url);
        }
        Ok(None)
    }

    /// An answer came.
    pub(crate) fn handle(
        &mut self,
        now: Instant,
        answer: Answer,
        kit: (&mut Larder, &mut Timing),
        desk: &mut Desk,
    ) -> Outcome {
        let (larder, timing) = kit;
        let (what, progress) = match &mut self.stage {
            Stage::Rest(_) | Stage::Done => return Outcome::Goes,
            Stage::Media(_) => {
                let is_over = matches!(answer, Answer::End | Answer::Failed(_));
                let taken = self.media(now, answer, timing, larder, desk);
                match (&taken, is_over) {
                    (Outcome::Failed(..), true) => self.stage = Stage::Done,
                    (Outcome::Failed(..), false) => self.stop(desk),
                    _ => {}
                }
                return taken;
            }
            Stage::Key(document) => (What::Key, document.handle(now, answer)),
            Stage::Map(document) => (What::Map, document.handle(now, answer)),
        };
        let taken = match progress {
            Progress::More => return Outcome::Goes,
            Progress::Failed(cause) => {
                self.stop(desk);
                Err(cause)
            }
            Progress::Done(bytes) => self.store(bytes, larder),
        };
        match taken {
            Ok(()) => {
                self.stage = Stage::Rest(now);
                self.drive(now, larder, timing, desk)
            }
            Err(cause) => {
                self.stage = Stage::Done;
                Outcome::Failed(what, cause)
            }
        }
    }

    /// Puts a fetched key or initialisation section where it is found.
    fn store(&self, bytes: Vec<u8>, larder: &mut Larder) -> Result<(), Cause> {
        match (&self.stage, &self.segment.map) {
            (Stage::Key(document), _) => larder.store_key(bytes, document),
            (Stage::Map(document), Some(map)) => larder.store_map(bytes, document, map, &self.base, self.sequence),
            _ => Ok(()),
        }
    }

    fn media(
        &mut self,
        now: Instant,
        answer: Answer,
        timing: &mut Timing,
        larder: &mut Larder,
        desk: &mut Desk,
    ) -> Outcome {
        let Stage::Media(exchange) = &mut self.stage else { return Outcome::Goes };
        let taken = match answer {
            Answer::Head(head) => exchange.head(now, &head).and_then(|after| {
                if self.parts.is_none() {
                    timing.answered(after);
                }
                self.head(head)
            }),
            Answer::Body(bytes) => exchange.body(now, bytes.len()).and_then(|()| self.body(&bytes, desk)),
            Answer::End => match self.end(larder, desk) {
                Ok(()) => return Outcome::PieceDone,
                Err(cause) => Err(cause),
            },
            Answer::Failed(cause) => Err(cause),
        };
        match taken {
            Ok(()) => Outcome::Goes,
            Err(cause) => Outcome::Failed(What::Media, cause),
        }
    }

    /// Checks that the answer is what was asked for, and goes on where the last one ended.
    fn head(&mut self, head: Head) -> Result<(), Cause> {
        let from = self.piece.start.saturating_add(self.done);
        let total = match (head.status, head.range) {
            (206, Some((start, _))) if start != from => {
                return Err(Cause::cheap(reason::RANGE, format!("bytes from {start} instead of {from}")));
            }
            (206, Some((_, total))) => {
                self.skip = 0;
                total
            }
            // Without Content-Range (against RFC 9110 §15.3.7) it is believed to be what was asked for.
            (206, None) => {
                self.skip = 0;
                None
            }
            // Range was ignored: what was taken comes again.
            _ => {
                self.skip = from;
                head.length
            }
        };
        if self.skip > SEGMENT_BYTES_MAX {
            return Err(Cause::last(reason::RANGE, "the origin ignores byte ranges"));
        }
        // A file that segments are byte ranges of grows while it is live, and its tag changes with it.
        let grows = self.piece.length.is_some();
        let differs =
            self.total.zip(total).is_some_and(|(before, now)| if grows { now < before } else { now != before });
        let is_other = !grows && self.etag.is_some() && head.etag.is_some() && self.etag != head.etag;
        if self.done > 0 && (differs || is_other) {
            return Err(Cause::last(reason::CHANGED, "the segment has changed since its first part was taken"));
        }
        self.total = total.or(self.total);
        self.etag = head.etag.clone().or(self.etag.take());
        self.head = Some(head);
        Ok(())
    }

    fn body(&mut self, bytes: &Bytes, desk: &mut Desk) -> Result<(), Cause> {
        if self.head.is_none() {
            return Err(Cause::cheap(reason::PROTOCOL, "an answer without a head"));
        }
        let skipped = self.skip.min(bytes.len() as u64);
        self.skip -= skipped;
        let left = self.piece.length.map_or(u64::MAX, |length| length.saturating_sub(self.done));
        let skipped = usize::try_from(skipped).unwrap_or(usize::MAX);
        let end = bytes.len().min(skipped.saturating_add(usize::try_from(left).unwrap_or(usize::MAX)));
        let wanted = bytes.slice(skipped.min(bytes.len())..end);
        self.done += wanted.len() as u64;
        self.in_all += wanted.len() as u64;
        if self.in_all > SEGMENT_BYTES_MAX {
            return Err(Cause::last(reason::TOO_LARGE, "the segment is too large"));
        }
        match &mut self.cipher {
            None => self.tell(wanted, desk),
            Some(cipher) => {
                let plain = cipher.push(&wanted);
                self.tell(plain, desk)
            }
        }
    }

    /// Hands out plain bytes, once it is sure that they are media.
    fn tell(&mut self, bytes: Bytes, desk: &mut Desk) -> Result<(), Cause> {
        let bytes = if self.looks.is_some() {
            bytes
        } else if self.sniff.is_empty() && bytes.len() >= SNIFF_BYTES {
            self.settle(bytes)?
        } else {
            self.sniff.extend_from_slice(&bytes);
            if self.sniff.len() < SNIFF_BYTES {
                return Ok(());
            }
            let front = std::mem::take(&mut self.sniff).freeze();
            self.settle(front)?
        };
        self.hand_out(bytes, desk);
        Ok(())
    }

    /// Decides what the first bytes are. If they are no media, they were never taken.
    fn settle(&mut self, bytes: Bytes) -> Result<Bytes, Cause> {
        let front = bytes.get(..SNIFF_BYTES).unwrap_or(&bytes);
        match sniff::looks(front, self.head.as_ref(), self.cipher.is_some()) {
            Ok(looks) => {
                self.looks = Some(looks);
                Ok(bytes)
            }
            Err(cause) => {
                self.start_over();
                Err(cause)
            }
        }
    }

    /// Nothing was handed out yet: the next try begins at the first byte.
    fn start_over(&mut self) {
        (self.done, self.in_all, self.cipher, self.total, self.etag) = (0, 0, None, None, None);
        self.sniff.clear();
    }

    fn hand_out(&mut self, bytes: Bytes, desk: &mut Desk) {
        if bytes.is_empty() {
            return;
        }
        if !self.is_begun {
            self.is_begun = true;
            desk.tell(Event::Begin(self.begin.clone()));
        }
        desk.tell(Event::Bytes { rendition: self.begin.rendition, bytes });
    }

    /// The answer is complete: is the piece?
    fn end(&mut self, larder: &mut Larder, desk: &mut Desk) -> Result<(), Cause> {
        let expected = self.piece.length.or(self.total.map(|total| total.saturating_sub(self.piece.start)));
        let is_short = expected.is_some_and(|expected| self.done < expected);
        // Without a length, only the packets of MPEG-TS tell. If the next try ends there too, so it is.
        let is_cut = expected.is_none()
            && self.looks == Some(Looks::Ts)
            && !self.done.is_multiple_of(TS_PACKET)
            && self.ended_at != Some(self.done);
        if is_short || is_cut || self.done == 0 {
            self.ended_at = Some(self.done);
            let of = expected.map(|expected| format!(" of {expected}")).unwrap_or_default();
            let text = format!("{} ended after {}{of} bytes", redacted(&self.piece.url), self.done);
            return Err(Cause::cheap(reason::TRUNCATED, text));
        }
        if let Some(cipher) = &mut self.cipher {
            let Some(rest) = cipher.finish() else {
                if !self.is_begun && sniff::says_text(self.head.as_ref()) {
                    self.start_over();
                    return Err(Cause::cheap(reason::NOT_MEDIA, "a page instead of an encrypted segment"));
                }
                if let Some(url) = self.key.take() {
                    larder.forget_key(&url);
                }
                let text = "the segment's padding is wrong: another key, or its end is missing";
                if !self.is_begun {
                    self.start_over();
                    return Err(Cause::cheap(reason::WRONG_KEY, text));
                }
                return Err(Cause::last(reason::WRONG_KEY, text));
            };
            self.tell(rest, desk)?;
        }
        if self.looks.is_none() && self.parts.is_none() {
            // Less than tells anything.
            let rest = std::mem::take(&mut self.sniff).freeze();
            let rest = self.settle(rest)?;
            self.hand_out(rest, desk);
        }
        if self.parts.is_none() && self.piece.length.is_none() {
            larder.typical = self.done;
        }
        self.stage = Stage::Done;
        Ok(())
    }

    /// Tries again after `wait`. A key that may be wrong is fetched again.
    pub(crate) fn retry(&mut self, now: Instant, wait: Duration, cause: &Cause, larder: &mut Larder) {
        self.first_failure.get_or_insert(now);
        if cause.reason == reason::WRONG_KEY
            && let Some(url) = self.key.take()
        {
            larder.forget_key(&url);
        }
        self.is_fresh |= matches!(cause.reason, reason::NO_ANSWER | reason::QUIET | reason::TRICKLE);
        self.stage = Stage::Rest(now + wait);
    }

    /// A newer playlist lists it elsewhere, or with another key: tries that at once.
    pub(crate) fn renew(&mut self, now: Instant, list: &MediaPlaylist, url: Url, segment: &Segment) {
        self.piece.url = url;
        self.base = list.url.clone();
        if !self.is_begun && self.segment.key != segment.key {
            self.segment.key.clone_from(&segment.key);
            self.start_over();
        }
        if let Stage::Rest(at) = &mut self.stage {
            *at = (*at).min(now);
        }
    }

    /// Gives up whatever is under way.
    pub(crate) fn stop(&mut self, desk: &mut Desk) {
        match &self.stage {
            Stage::Key(document) | Stage::Map(document) => desk.cancel(document.exchange.id),
            Stage::Media(exchange) => desk.cancel(exchange.id),
            Stage::Rest(_) | Stage::Done => {}
        }
        self.stage = Stage::Done;
    }

    /// Tells the end, if the beginning was told.
    pub(crate) fn close(&self, rendition: Rendition, whole: bool, desk: &mut Desk) {
        if self.is_begun {
            desk.tell(Event::End { rendition, whole });
        }
    }

    /// How it joins what came before, for whoever comes after it if it never began.
    pub(crate) fn joint(&self) -> Joint {
        if self.is_begun { Joint::Seamless } else { self.begin.joint }
    }
}

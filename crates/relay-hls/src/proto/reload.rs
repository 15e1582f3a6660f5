//! One media playlist, loaded again and again.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use url::Url;

use super::{
    cause::{Cause, reason},
    define::Variables,
    desk::Desk,
    event::{Answer, FetchId, What},
    exchange::{Document, Exchange, Limits, Progress},
    playlist::{MediaPlaylist, PLAYLIST_BYTES_MAX, PlaylistError},
    timing::{Timing, Waits},
};

/// Requests are never closer together than this, however fast an origin makes parts.
const INTERVAL_MIN: Duration = Duration::from_millis(50);

/// Loads a media playlist.
#[derive(Debug)]
pub(crate) struct Reload {
    url: Url,
    /// Where redirects led, which is asked as long as that works: the session is there.
    led_to: Option<Url>,
    variables: Variables,
    document: Option<Document>,
    is_blocking: bool,
    /// The last blocking request was in vain: ask plainly once.
    is_plain_next: bool,
    due: Instant,
    pub(crate) waits: Waits,
    pub(crate) list: Option<Arc<MediaPlaylist>>,
    /// When it last changed, and when it was last loaded.
    pub(crate) changed: Instant,
    pub(crate) loaded: Option<Instant>,
    /// Loads since the last change.
    pub(crate) same: u32,
    is_fresh: bool,
    /// Goes on although the playlist has ended: the origin may begin anew.
    is_watching: bool,
}

/// What came of an answer or of time passing.
#[derive(Debug)]
pub(crate) enum Loaded {
    Nothing,
    /// A playlist; `true` if it is another than before.
    List(Arc<MediaPlaylist>, bool),
    Failed(Cause),
}

impl Reload {
    pub(crate) fn new(now: Instant, url: Url, variables: Variables) -> Self {
        Self {
            url,
            led_to: None,
            variables,
            document: None,
            is_blocking: false,
            is_plain_next: false,
            due: now,
            waits: Waits::default(),
            list: None,
            changed: now,
            loaded: None,
            same: 0,
            is_fresh: false,
            is_watching: false,
        }
    }

    /// Goes on although the playlist has ended.
    pub(crate) fn watch(&mut self, now: Instant, timing: &Timing) {
        (self.is_watching, self.due) = (true, now + timing.target());
    }

    pub(crate) fn owns(&self, id: FetchId) -> bool {
        self.document.as_ref().is_some_and(|document| document.exchange.id == id)
    }

    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    /// When it is to be looked at again; never, once the playlist has ended.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match &self.document {
            Some(document) => Some(document.exchange.deadline()),
            None => (!self.is_ended()).then_some(self.due),
        }
    }

    /// No reload is needed any more.
    pub(crate) fn is_ended(&self) -> bool {
        !self.is_watching && self.list.as_ref().is_some_and(|list| list.ended)
    }

    /// The same playlist is elsewhere now.
    pub(crate) fn go_to(&mut self, now: Instant, url: Url, variables: Variables, desk: &mut Desk) {
        if let Some(document) = self.document.take() {
            desk.cancel(document.exchange.id);
        }
        (self.url, self.led_to, self.variables, self.due) = (url, None, variables, now);
    }

    /// Another playlist from now on.
    pub(crate) fn switch(&mut self, now: Instant, url: Url, variables: Variables, desk: &mut Desk) {
        self.go_to(now, url, variables, desk);
        self.list = None;
        self.waits.reset();
        (self.changed, self.loaded, self.same) = (now, None, 0);
    }

    /// Asks soon rather than later: what the playlist says is no longer true.
    pub(crate) fn hurry(&mut self, now: Instant, timing: &Timing) {
        let earliest = self.loaded.map_or(now, |loaded| loaded + timing.target() / 2);
        if self.document.is_none() {
            self.due = self.due.min(earliest.max(now));
        }
    }

    /// Time has passed.
    pub(crate) fn drive(&mut self, now: Instant, timing: &Timing, desk: &mut Desk) -> Loaded {
        if let Some(document) = &mut self.document {
            let Err(cause) = document.exchange.look(now) else { return Loaded::Nothing };
            desk.cancel(document.exchange.id);
            self.document = None;
            if self.is_blocking {
                // Nothing new came in time: that is no failure yet.
                (self.is_plain_next, self.due) = (true, now);
                self.ask(now, timing, desk);
                return Loaded::Nothing;
            }
            self.is_fresh = true;
            return Loaded::Failed(cause);
        }
        if self.due <= now && !self.is_ended() {
            self.ask(now, timing, desk);
        }
        Loaded::Nothing
    }

    fn ask(&mut self, now: Instant, timing: &Timing, desk: &mut Desk) {
        let mut url = self.led_to.clone().unwrap_or_else(|| self.url.clone());
        let blocks = self.list.as_ref().filter(|list| {
            list.control.can_block_reload && desk.options.low_latency && !self.is_plain_next && self.same < 3
        });
        self.is_blocking = blocks.is_some();
        if let Some(list) = blocks {
            let age = self.loaded.map(|loaded| now.saturating_duration_since(loaded)).unwrap_or_default();
            let skips = list.control.can_skip_until.is_some_and(|until| age < until / 2);
            directives(&mut url, list, skips);
        }
        let failures = self.waits.failures();
        let mut limits = Limits {
            answer: timing.answer(failures),
            quiet: timing.quiet(failures),
            rest: timing.rest(failures),
            typical: 0,
            bytes: PLAYLIST_BYTES_MAX as u64,
        };
        if self.is_blocking {
            limits.answer = timing.target() + Duration::from_millis(500);
        }
        let is_fresh = std::mem::take(&mut self.is_fresh);
        let exchange = Exchange::start(now, (What::Playlist, url), None, is_fresh, limits, desk);
        self.document = Some(Document::new(exchange));
        self.is_plain_next = false;
    }

    /// An answer came.
    pub(crate) fn handle(&mut self, now: Instant, answer: Answer, timing: &mut Timing, desk: &mut Desk) -> Loaded {
        let Some(document) = &mut self.document else { return Loaded::Nothing };
        let is_over = matches!(answer, Answer::End | Answer::Failed(_));
        match document.handle(now, answer) {
            Progress::More => Loaded::Nothing,
            Progress::Failed(cause) => {
                if let Some(document) = self.document.take()
                    && !is_over
                {
                    desk.cancel(document.exchange.id);
                }
                Loaded::Failed(cause)
            }
            Progress::Done(bytes) => {
                let Some(document) = self.document.take() else { return Loaded::Nothing };
                let (asked, url) = (document.exchange.asked, document.url().clone());
                if !self.is_blocking {
                    timing.answered(now.saturating_duration_since(asked));
                }
                self.take((now, asked), &bytes, &url, timing, desk)
            }
        }
    }

    /// Takes a playlist that came from `url`, having been asked for at `asked`.
    pub(crate) fn take(
        &mut self,
        (now, asked): (Instant, Instant),
        bytes: &[u8],
        url: &Url,
        timing: &mut Timing,
        desk: &Desk,
    ) -> Loaded {
        let list = match MediaPlaylist::parse_with(bytes, url, &self.variables) {
            Ok(list) => list,
            Err(error @ PlaylistError::Empty) => {
                return Loaded::Failed(Cause::cheap(reason::EMPTY_PLAYLIST, error.to_string()));
            }
            Err(error) => return Loaded::Failed(Cause::cheap(reason::NOT_PLAYLIST, error.to_string())),
        };
        let list = match list.merge(self.list.as_deref()) {
            Ok(list) => list,
            Err(error) => {
                self.is_plain_next = true;
                return Loaded::Failed(Cause::cheap(reason::DELTA, error.to_string()));
            }
        };
        self.is_watching &= list.ended;
        self.led_to = (*url != self.url).then(|| without_directives(url));
        timing.learn(list.target_duration, !list.ended);
        let is_new = self.list.as_ref().is_none_or(|known| differs(known, &list));
        if is_new {
            (self.changed, self.same) = (now, 0);
        } else {
            self.same = self.same.saturating_add(1);
        }
        self.loaded = Some(now);
        self.waits.reset();
        self.schedule((now, asked), &list, is_new, timing, desk);
        let list = Arc::new(list);
        self.list = Some(list.clone());
        Loaded::List(list, is_new)
    }

    /// RFC 8216 §6.3.4: a target duration after a change, half of one without; at once where the server holds the
    /// answer back until there is one.
    fn schedule(
        &mut self,
        (now, asked): (Instant, Instant),
        list: &MediaPlaylist,
        is_new: bool,
        timing: &Timing,
        desk: &Desk,
    ) {
        let target = timing.target();
        let last = list.segments.last().map_or(target, |segment| segment.duration);
        let blocks = list.control.can_block_reload && desk.options.low_latency;
        self.due = match (is_new, blocks) {
            (true, true) => now.max(asked + list.part_target.map_or(target / 4, |part| part / 2)),
            (true, false) => asked + last.clamp(target / 2, target),
            (false, _) if list.ended => asked + target,
            (false, _) => asked + target / 2,
        };
        // A slow answer is no reason to ask without a pause.
        self.due = self.due.max(now + INTERVAL_MIN);
    }

    /// A load failed: when the next one is made.
    pub(crate) fn failed(&mut self, now: Instant, cause: &Cause, timing: &Timing, desk: &mut Desk) -> Instant {
        self.led_to = None;
        self.due = now + self.waits.next(cause.class, timing, desk);
        self.due
    }
}

/// Whether anything was added or the numbers are others.
fn differs(known: &MediaPlaylist, list: &MediaPlaylist) -> bool {
    let told = |list: &MediaPlaylist| (list.media_sequence, list.end(), list.pending.parts.len(), list.ended);
    told(known) != told(list)
        || known.segments.last().map(|segment| &segment.uri) != list.segments.last().map(|segment| &segment.uri)
}

/// RFC 8216bis §6.2.5.2 and §6.2.5.1: hold the answer back until the next part or segment is there; leave out old
/// segments.
fn directives(url: &mut Url, list: &MediaPlaylist, skips: bool) {
    let mut pairs = url.query_pairs_mut();
    pairs.append_pair("_HLS_msn", &list.end().to_string());
    if list.part_target.is_some() {
        pairs.append_pair("_HLS_part", &list.pending.parts.len().to_string());
    }
    if skips {
        pairs.append_pair("_HLS_skip", "YES");
    }
}

fn without_directives(url: &Url) -> Url {
    let mut url = url.clone();
    if let Some(query) = url.query() {
        let kept: Vec<_> = query.split('&').filter(|pair| !pair.starts_with("_HLS_")).collect();
        let kept = kept.join("&");
        url.set_query(Some(&kept).filter(|kept| !kept.is_empty()).map(String::as_str));
    }
    url
}

//! Follows one media playlist: takes its segments in order, each once, whatever happens to it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use relay_media::UtcTime;
use url::Url;

use super::{
    cause::{Cause, Class, reason},
    define::Variables,
    desk::Desk,
    event::{Answer, Begin, Event, Failure, FetchId, Joint, Rendition, What},
    exchange::shown,
    larder::Larder,
    parts,
    place::{Place, Verdict},
    playlist::{MediaPlaylist, PlaylistKind, Segment},
    reload::{Loaded, Reload},
    timing::{Timing, Waits},
    work::{Bond, Outcome, Piece, Work},
};

/// After so many failed tries of one thing another variant or a fresh URL is wished for.
const FAILURES_MANY: u32 = 3;
/// The fewest tries of a segment before it is given up while it is still listed.
const SEGMENT_TRIES_MIN: u32 = 8;
/// How long a segment that stays listed is tried, if the origin is well otherwise.
const SEGMENT_PATIENCE: Duration = Duration::from_secs(30);
/// How long, if it fails as the whole origin may.
const ORIGIN_PATIENCE: Duration = Duration::from_secs(120);

/// What only the planner can do about a failure.
#[derive(Clone, Debug)]
pub(crate) enum Wish {
    /// The URL is no good any more: read the master playlist again.
    Master(Cause),
    /// This variant is no good.
    Variant(Cause),
}

/// Where to begin.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Start {
    /// As far from the end as usual; at the beginning of what doesn't grow.
    Usual,
    /// Not before the other rendition has begun.
    Wait,
    /// Where the other rendition began: at a time of day, else so far from the end.
    With { wall: Option<UtcTime>, from_end: Duration },
}

/// Follows one media playlist.
#[derive(Debug)]
pub(crate) struct Follower {
    pub(crate) rendition: Rendition,
    pub(crate) reload: Reload,
    pub(crate) place: Place,
    pub(crate) work: Option<Work>,
    larder: Larder,
    pub(crate) timing: Timing,
    pub(crate) start: Start,
    /// How the next segment joins.
    joint: Joint,
    overlap: bool,
    pub(crate) variant: u32,
    /// How much has been taken or skipped.
    pub(crate) played: Duration,
    /// No segment is started beyond this.
    pub(crate) leash: Option<Duration>,
    wish: Option<Wish>,
    /// What a person has to mend is tried more and more rarely, one segment after the other.
    slow: Waits,
    /// Another variant's playlist is awaited.
    is_switching: bool,
    stale_since: Option<Instant>,
    /// When a stall was last told.
    stalled: Option<Instant>,
    pub(crate) is_ended: bool,
}

impl Follower {
    pub(crate) fn new(now: Instant, rendition: Rendition, url: Url, variables: Variables, start: Start) -> Self {
        Self {
            rendition,
            reload: Reload::new(now, url, variables),
            place: Place::default(),
            work: None,
            larder: Larder::default(),
            timing: Timing::new(),
            start,
            joint: Joint::Seamless,
            overlap: false,
            variant: 0,
            played: Duration::ZERO,
            leash: None,
            wish: None,
            slow: Waits::default(),
            is_switching: false,
            stale_since: None,
            stalled: None,
            is_ended: false,
        }
    }

    /// Everything was taken; goes on looking whether more comes after all.
    pub(crate) fn watch(&mut self, now: Instant) {
        self.is_ended = false;
        self.reload.watch(now, &self.timing);
    }

    pub(crate) fn owns(&self, id: FetchId) -> bool {
        self.reload.owns(id) || self.work.as_ref().is_some_and(|work| work.owns(id))
    }

    pub(crate) fn take_wish(&mut self) -> Option<Wish> {
        self.wish.take()
    }

    pub(crate) fn is_failing(&self) -> bool {
        self.reload.waits.failures() > 0 || self.work.as_ref().is_some_and(Work::is_failing)
    }

    /// When it is to be looked at again.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let work = self.work.as_ref().and_then(Work::deadline);
        [self.reload.deadline(), work].into_iter().flatten().min()
    }

    /// The same playlist is to be had elsewhere: its URL was signed anew.
    pub(crate) fn refresh(&mut self, now: Instant, url: Url, variables: Variables, desk: &mut Desk) {
        self.reload.go_to(now, url, variables, desk);
    }

    /// Another variant from now on.
    pub(crate) fn switch(&mut self, now: Instant, url: Url, variables: Variables, desk: &mut Desk) {
        self.reload.switch(now, url, variables, desk);
        self.place.forget_names();
        self.variant += 1;
        (self.is_switching, self.overlap, self.stale_since) = (true, true, None);
        match &mut self.work {
            Some(work) if work.is_failing() || !work.is_begun => self.abandon(desk),
            // The rest of it may still come; it is not tried again.
            Some(work) => work.bond = Bond::Before,
            None => {}
        }
    }

    /// An answer for this follower.
    pub(crate) fn handle(&mut self, now: Instant, id: FetchId, answer: Answer, desk: &mut Desk) {
        if self.reload.owns(id) {
            let loaded = self.reload.handle(now, answer, &mut self.timing, desk);
            self.loaded(now, loaded, desk);
            return;
        }
        let Some(work) = &mut self.work else { return };
        let outcome = work.handle(now, answer, (&mut self.larder, &mut self.timing), desk);
        self.worked(now, outcome, desk);
    }

    /// The first playlist is there already: it was fetched to see what it is.
    pub(crate) fn give(&mut self, now: Instant, asked: Instant, bytes: &[u8], url: &Url, desk: &mut Desk) {
        let loaded = self.reload.take((now, asked), bytes, url, &mut self.timing, desk);
        self.loaded(now, loaded, desk);
    }

    /// Time has passed.
    pub(crate) fn drive(&mut self, now: Instant, desk: &mut Desk) {
        let loaded = self.reload.drive(now, &self.timing, desk);
        self.loaded(now, loaded, desk);
        let list = self.reload.list.clone();
        if let (Some(work), Some(list)) = (&mut self.work, &list)
            && work.is_failing()
            && work.deadline().is_some_and(|at| at <= now)
            && work.bond == Bond::Listed
            && work.sequence < list.media_sequence
        {
            let cause = Cause::last(reason::SEGMENT_LOST, "it has left the playlist");
            self.lose(&cause, desk);
        }
        if let Some(work) = &mut self.work {
            let outcome = work.drive(now, &mut self.larder, &self.timing, desk);
            self.worked(now, outcome, desk);
        }
        if let Some(list) = list {
            self.proceed(now, &list, desk);
        }
    }

    fn loaded(&mut self, now: Instant, loaded: Loaded, desk: &mut Desk) {
        match loaded {
            Loaded::Nothing => {}
            Loaded::Failed(mut cause) => {
                // Any fault of a playlist that was well once is cheap to try again.
                if cause.class == Class::Final || cause.is_refusal() {
                    cause.class = Class::Cheap;
                }
                let next_try = self.reload.failed(now, &cause, &self.timing, desk);
                let attempt = self.reload.waits.failures();
                if cause.is_refusal() || attempt.is_multiple_of(FAILURES_MANY) {
                    self.wish = Some(Wish::Master(cause.clone()));
                }
                self.tell_failure(What::Playlist, cause, attempt, next_try, desk);
            }
            Loaded::List(list, is_new) => {
                self.position(now, &list, desk);
                self.renew_work(now, &list);
                if is_new {
                    self.stalled = None;
                } else {
                    self.frozen(now, &list, desk);
                }
            }
        }
    }

    /// Three target durations without a change: stalled, and another variant may do better.
    fn frozen(&mut self, now: Instant, list: &MediaPlaylist, desk: &mut Desk) {
        let since = now.saturating_duration_since(self.reload.changed);
        let patience = desk.options.stall_timeout.unwrap_or(self.timing.patience());
        let told = self.stalled.is_some_and(|at| now.saturating_duration_since(at) < patience);
        if list.ended || since < patience || told {
            return;
        }
        self.stalled = Some(now);
        let cause = Cause::cheap(reason::PLAYLIST_FROZEN, format!("the playlist has not changed for {}", shown(since)));
        desk.tell(Event::Stalled { rendition: self.rendition, cause: cause.clone() });
        self.wish = Some(Wish::Variant(cause));
    }

    /// Finds our place in a playlist.
    fn position(&mut self, now: Instant, list: &MediaPlaylist, desk: &mut Desk) {
        if self.place.next.is_none() {
            self.place.next = self.beginning(list, desk);
        } else if std::mem::take(&mut self.is_switching) {
            self.place.next = Some(self.place.find_in_variant(list));
        }
        let elapsed = self.place.since_growth(now);
        let mut verdict = self.place.judge(list, elapsed);
        if matches!(verdict, Verdict::Stale) {
            let since = *self.stale_since.get_or_insert(now);
            if now.saturating_duration_since(since) < self.timing.patience() {
                return;
            }
            verdict = self.place.give_in(list);
        }
        self.stale_since = None;
        match verdict {
            Verdict::Fits | Verdict::Stale => {}
            Verdict::Behind { next, cause, missed } => {
                self.skip(cause, missed, desk);
                self.place.next = Some(next);
            }
            Verdict::Anew { next, cause, shift } => {
                desk.tell(Event::Notice { rendition: self.rendition, cause });
                self.place.renumber(next, shift);
                if shift.is_none() {
                    self.joint = Joint::NewTimeline;
                }
                if let Some(work) = &mut self.work {
                    match shift {
                        Some(shift) => work.sequence = work.sequence.wrapping_add(shift),
                        None => work.bond = Bond::Gone,
                    }
                }
            }
        }
        self.place.accept(now, list);
    }

    /// Where to begin (RFC 8216 §6.3.3).
    fn beginning(&self, list: &MediaPlaylist, desk: &Desk) -> Option<u64> {
        if list.ended || list.kind == Some(PlaylistKind::Vod) {
            return Some(list.media_sequence);
        }
        let by_wall = |wall: Option<UtcTime>| {
            let wall = wall?;
            let ends_after = |segment: &Segment| {
                segment.wall.is_some_and(|begin| super::playlist::plus(begin, segment.duration).nanos_since(wall) > 0)
            };
            let at = list.segments.iter().position(ends_after)?;
            (at > 0 || list.segments.first()?.wall?.nanos_since(wall) <= 0)
                .then(|| list.media_sequence.saturating_add(at as u64))
        };
        match self.start {
            Start::Wait => None,
            Start::With { wall, from_end } => Some(by_wall(wall).unwrap_or_else(|| list.back_from_end(from_end))),
            Start::Usual => Some(list.back_from_end(self.edge(list, desk))),
        }
    }

    fn edge(&self, list: &MediaPlaylist, desk: &Desk) -> Duration {
        let with_parts = list.control.part_hold_back.filter(|_| parts::are_used(list, desk));
        let told = with_parts.or(list.control.hold_back);
        desk.options.live_edge.or(told).unwrap_or(list.target_duration * 3)
    }

    /// How much is listed that was not begun yet.
    pub(crate) fn pending(&self) -> Option<Duration> {
        Some(self.reload.list.as_deref()?.duration_from(self.place.next?))
    }

    /// How far from the end it begins.
    pub(crate) fn live_edge(&self, desk: &Desk) -> Option<Duration> {
        Some(self.edge(self.reload.list.as_deref()?, desk))
    }

    /// A newer playlist may say otherwise where a segment is: tokens expire.
    fn renew_work(&mut self, now: Instant, list: &MediaPlaylist) {
        let Some(work) = self.work.as_mut().filter(|work| work.bond == Bond::Listed && work.is_failing()) else {
            return;
        };
        let Some(segment) = list.segment(work.sequence) else { return };
        let Some(url) = list.resolve(&segment.uri) else { return };
        if work.parts.is_none() && (work.piece.url != url || work.segment.key != segment.key) {
            work.renew(now, list, url, segment);
        }
    }

    fn worked(&mut self, now: Instant, outcome: Outcome, desk: &mut Desk) {
        match outcome {
            Outcome::Goes => {}
            Outcome::PieceDone => self.slow.reset(),
            Outcome::Failed(what, cause) => self.failed(now, what, cause, desk),
        }
    }

    fn failed(&mut self, now: Instant, what: What, mut cause: Cause, desk: &mut Desk) {
        let Some(work) = &mut self.work else { return };
        // Any fault of a segment is cheap to try again, unless a person has to act.
        if cause.class == Class::Slow && cause.reason != reason::ENCRYPTION {
            cause.class = Class::Cheap;
        }
        let mut wait = work.waits.next(cause.class, &self.timing, desk);
        if cause.class == Class::Slow {
            wait = self.slow.next(cause.class, &self.timing, desk);
        }
        work.retry(now, wait, &cause, &mut self.larder);
        let attempt = work.waits.failures();
        let first = work.first_failure.unwrap_or(now);
        let tried = now.saturating_duration_since(first);
        if cause.is_refusal() {
            self.wish = Some(Wish::Master(cause.clone()));
            self.reload.hurry(now, &self.timing);
        }
        if attempt.is_multiple_of(FAILURES_MANY) && cause.class == Class::Cheap {
            self.wish = Some(Wish::Variant(cause.clone()));
        }
        let (is_well, list) = (self.reload.waits.failures() == 0, self.reload.list.as_deref());
        let is_its_own = cause.is_refusal()
            || matches!(cause.reason, reason::NOT_MEDIA | reason::TRUNCATED | reason::WRONG_KEY | reason::KEY_SIZE);
        let patience =
            if is_its_own || list.is_none_or(|list| !list.ended) { SEGMENT_PATIENCE } else { ORIGIN_PATIENCE };
        let patience = patience.max(self.timing.target() * 6);
        let is_delisted = work.bond == Bond::Listed && list.is_none_or(|list| work.sequence < list.media_sequence);
        let is_hopeless = is_well && attempt >= SEGMENT_TRIES_MIN && tried >= patience;
        let bond = work.bond;
        let gives_up = cause.class == Class::Final || bond == Bond::Gone || is_delisted || is_hopeless;
        self.tell_failure(what, cause.clone(), attempt, now + wait, desk);
        if bond == Bond::Before {
            self.overlap = true;
            self.abandon(desk);
        } else if gives_up {
            self.lose(&cause, desk);
        }
    }

    fn tell_failure(&self, what: What, cause: Cause, attempt: u32, next_try: Instant, desk: &mut Desk) {
        let rendition = self.rendition;
        desk.tell(Event::Failed(Failure { rendition, what, cause, attempt, next_try }));
    }

    /// Gives up the segment being fetched.
    fn lose(&mut self, cause: &Cause, desk: &mut Desk) {
        let Some(mut work) = self.work.take() else { return };
        work.stop(desk);
        work.close(self.rendition, false, desk);
        let text = format!("segment {} given up: {}", work.sequence, cause.text);
        let gap = Cause { reason: cause.reason, text, class: Class::Final };
        let duration = work.segment.duration;
        self.joint = self.joint.max(work.joint()).max(Joint::Loss);
        desk.tell(Event::Gap { rendition: self.rendition, cause: gap, duration });
    }

    /// Leaves the segment being fetched for another variant's.
    fn abandon(&mut self, desk: &mut Desk) {
        let Some(mut work) = self.work.take() else { return };
        work.stop(desk);
        work.close(self.rendition, false, desk);
        self.joint = self.joint.max(work.joint());
        self.place.untake();
    }

    /// Segments that were never asked for are missing.
    fn skip(&mut self, cause: Cause, missed: Duration, desk: &mut Desk) {
        self.joint = self.joint.max(Joint::Loss);
        self.played = self.played.saturating_add(missed);
        desk.tell(Event::Gap { rendition: self.rendition, cause, duration: missed });
    }

    /// Goes on with the next piece or segment, if there is one. Called once per input, after everything else.
    fn proceed(&mut self, now: Instant, list: &MediaPlaylist, desk: &mut Desk) {
        // Every round either ends or moves on in the playlist, whose length is bounded.
        loop {
            if !self.finish_piece(now, list, desk) {
                return;
            }
            let Some(next) = self.place.next else { return };
            if list.ended && next >= list.end() {
                self.is_ended = self.reload.is_ended();
                return;
            }
            let is_held = self.leash.is_some_and(|leash| self.played >= leash);
            if !desk.has_room || is_held {
                return;
            }
            self.keep_up(next, list, desk);
            let Some(next) = self.place.next else { return };
            let Some(segment) = list.segment(next) else {
                let Some((segment, piece)) = parts::first(list, next, desk) else { return };
                self.begin(now, next, segment, piece, Some(0), list, desk);
                continue;
            };
            if segment.gap {
                let cause = Cause::cheap(reason::GAP_TAG, format!("the playlist says that segment {next} is missing"));
                if segment.discontinuity {
                    self.joint = Joint::NewTimeline;
                }
                self.place.take(next, segment);
                self.skip(cause, segment.duration, desk);
                continue;
            }
            let Some(url) = list.resolve(&segment.uri) else {
                let cause = Cause::last(reason::REQUEST, format!("segment {next} has no http URL"));
                self.place.take(next, segment);
                self.skip(cause, segment.duration, desk);
                continue;
            };
            let piece = Piece::new(url, segment.span);
            self.begin(now, next, Segment { parts: Vec::new(), ..segment.clone() }, piece, None, list, desk);
        }
    }

    /// Looks after the piece being fetched: `true` if no segment is on its way.
    fn finish_piece(&mut self, now: Instant, list: &MediaPlaylist, desk: &mut Desk) -> bool {
        let Some(work) = &mut self.work else { return true };
        if work.parts.is_some() {
            match parts::next(work, list, desk) {
                parts::Next::Stay => return false,
                parts::Next::Piece(piece) => {
                    work.next_piece(now, piece);
                    let outcome = work.drive(now, &mut self.larder, &self.timing, desk);
                    self.worked(now, outcome, desk);
                    return false;
                }
                parts::Next::Whole => {
                    // The parts are gone: the rest comes with the whole segment, of which the front is known.
                    self.overlap = work.is_begun;
                    self.abandon(desk);
                    return true;
                }
                parts::Next::Complete => {}
            }
        } else if !work.is_piece_done() {
            return false;
        }
        work.close(self.rendition, true, desk);
        self.joint = self.joint.max(work.joint());
        self.work = None;
        true
    }

    /// Jumps towards the live edge if we are further behind than allowed.
    fn keep_up(&mut self, next: u64, list: &MediaPlaylist, desk: &mut Desk) {
        let Some(max) = desk.options.max_behind.filter(|_| self.timing.is_live) else { return };
        let behind = list.duration_from(next);
        let edge = list.back_from_end(self.edge(list, desk));
        if behind > max && edge > next {
            let text = format!("{} behind, more than {}", shown(behind), shown(max));
            let missed = behind.saturating_sub(list.duration_from(edge));
            self.skip(Cause::cheap(reason::MAX_BEHIND, text), missed, desk);
            self.place.next = Some(edge);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "what a segment begins with")]
    fn begin(
        &mut self,
        now: Instant,
        sequence: u64,
        segment: Segment,
        piece: Piece,
        parts: Option<usize>,
        list: &MediaPlaylist,
        desk: &mut Desk,
    ) {
        let declared = if segment.discontinuity { Joint::NewTimeline } else { Joint::Seamless };
        let begin = Begin {
            rendition: self.rendition,
            sequence,
            joint: std::mem::replace(&mut self.joint, Joint::Seamless).max(declared),
            overlap: std::mem::take(&mut self.overlap),
            wall: segment.wall,
            duration: segment.duration,
            map: None,
            variant: self.variant,
        };
        self.place.take(sequence, &segment);
        self.place.learn_names(list);
        self.played = self.played.saturating_add(segment.duration);
        let mut work = Work::new(now, list.url.clone(), begin, segment, piece);
        work.parts = parts;
        let outcome = work.drive(now, &mut self.larder, &self.timing, desk);
        self.work = Some(work);
        self.worked(now, outcome, desk);
    }

    /// The list in use.
    pub(crate) fn list(&self) -> Option<Arc<MediaPlaylist>> {
        self.reload.list.clone()
    }
}

//! The whole of it: a master playlist or none, one media playlist or two, and what to do when one fails.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use url::Url;

use super::{
    cause::{Cause, Class, reason},
    define::Variables,
    desk::Desk,
    event::{Answer, Event, Failure, FetchId, Options, Output, Rendition, What},
    exchange::{Document, Exchange, Limits, Progress},
    follower::{Follower, Start, Wish},
    lexer,
    master::{Master, Variant},
    playlist::{MediaPlaylist, PLAYLIST_BYTES_MAX},
    redact::redacted,
    timing::{Timing, Waits},
};

/// How long a variant that failed is left alone, if there is another.
const COOLING: Duration = Duration::from_secs(60);
/// How far one rendition may run ahead of the other, in target durations, while that one is well.
const AHEAD_TARGETS: u32 = 2;

/// Plans what to fetch, and hands out the media in order.
///
/// Drive it with three verbs: [`handle_input`](Self::handle_input) for every answer, [`handle_timeout`] when
/// [`poll_timeout`](Self::poll_timeout) has passed, and after either [`poll_output`](Self::poll_output) until there is
/// none. Nothing happens by itself. Answers that have come are to be handed in before time is: an answer that waited
/// unseen looks like one that never came. What it holds is bounded: two playlists of 13 MiB at most, a handful of keys and
/// initialisation sections, and no media beyond what one input brought.
///
/// [`handle_timeout`]: Self::handle_timeout
#[derive(Debug)]
pub struct Planner {
    desk: Desk,
    entry: Entry,
    /// The variants, if there is a master playlist.
    master: Option<Master>,
    /// The one being played, and the ones to be left alone until a time.
    current: Option<Variant>,
    cooling: VecDeque<(Variant, Instant)>,
    /// A better variant that had failed is looked at again.
    probe: Option<(Variant, Document)>,
    main: Option<Follower>,
    audio: Option<Follower>,
    is_over: bool,
}

/// The URL that was configured.
#[derive(Debug)]
struct Entry {
    url: Url,
    document: Option<Document>,
    due: Option<Instant>,
    waits: Waits,
    timing: Timing,
    read: Option<Instant>,
    is_fresh: bool,
}

impl Planner {
    /// A planner for the playlist at `url`, master or media. Its first request is due at once.
    pub fn new(now: Instant, url: Url, options: Options) -> Self {
        let entry = Entry {
            url,
            document: None,
            due: Some(now),
            waits: Waits::default(),
            timing: Timing::new(),
            read: None,
            is_fresh: false,
        };
        let mut planner = Self {
            desk: Desk::new(options),
            entry,
            master: None,
            current: None,
            cooling: VecDeque::new(),
            probe: None,
            main: None,
            audio: None,
            is_over: false,
        };
        planner.drive(now);
        planner
    }

    /// Takes what came for a request. Answers to requests that were cancelled are passed over.
    pub fn handle_input(&mut self, now: Instant, id: FetchId, answer: Answer) {
        if self.entry.document.as_ref().is_some_and(|document| document.exchange.id == id) {
            self.entered(now, answer);
        } else if self.probe.as_ref().is_some_and(|(_, document)| document.exchange.id == id) {
            self.probed(now, answer);
        } else if let Some(follower) = self.main.iter_mut().chain(&mut self.audio).find(|follower| follower.owns(id)) {
            follower.handle(now, id, answer, &mut self.desk);
        }
        self.drive(now);
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.drive(now);
    }

    /// Whether the consumer has room for another segment; the one under way comes whole in any case.
    pub fn set_room(&mut self, now: Instant, room: Room) {
        self.desk.has_room = room == Room::Free;
        self.drive(now);
    }

    /// After [`Event::Ended`]: goes on looking, once a target duration, whether the origin adds to its playlist after
    /// all or begins anew. What was taken isn't taken again.
    pub fn watch(&mut self, now: Instant) {
        if std::mem::take(&mut self.is_over) {
            self.main.iter_mut().chain(&mut self.audio).for_each(|follower| follower.watch(now));
        }
    }

    /// What is to be done next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.desk.outputs.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called; `None` if only answers are waited for, or
    /// nothing at all.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let entry = match &self.entry.document {
            Some(document) => Some(document.exchange.deadline()),
            None => self.entry.due,
        };
        let probe = match &self.probe {
            Some((_, document)) => Some(document.exchange.deadline()),
            None => self.better().map(|(_, until)| *until),
        };
        self.followers().filter_map(Follower::deadline).chain(entry).chain(probe).min().filter(|_| !self.is_over)
    }

    /// The target duration of the playlist being played, once it is known.
    pub fn target_duration(&self) -> Option<Duration> {
        Some(self.main.as_ref()?.list()?.target_duration)
    }

    /// Whether the playlist being played grows; `None` before the first one came.
    pub fn is_live(&self) -> Option<bool> {
        Some(!self.main.as_ref()?.list()?.ended)
    }

    /// How much of the playlist being played is listed and was not begun yet.
    pub fn pending(&self) -> Option<Duration> {
        self.main.as_ref()?.pending()
    }

    /// How far from the end of a live playlist it begins: as told by the options or the server, else three target
    /// durations.
    pub fn live_edge(&self) -> Option<Duration> {
        self.main.as_ref()?.live_edge(&self.desk)
    }

    /// Whether audio comes by itself, as [`Rendition::Audio`].
    pub fn has_audio_rendition(&self) -> bool {
        self.audio.is_some()
    }

    fn followers(&self) -> impl Iterator<Item = &Follower> {
        self.main.iter().chain(&self.audio)
    }

    fn drive(&mut self, now: Instant) {
        if self.is_over {
            return;
        }
        self.drive_entry(now);
        self.drive_probe(now);
        self.couple();
        for follower in self.main.iter_mut().chain(&mut self.audio) {
            follower.drive(now, &mut self.desk);
        }
        let wishes: Vec<_> = self
            .main
            .iter_mut()
            .chain(&mut self.audio)
            .filter_map(|it| Some((it.rendition, it.take_wish()?)))
            .collect();
        for (rendition, wish) in wishes {
            self.grant(now, rendition, wish);
        }
        if self.main.is_some() && self.followers().all(|follower| follower.is_ended) {
            self.is_over = true;
            self.desk.tell(Event::Ended);
        }
    }

    /// Lets audio begin where video began, and neither run far ahead of the other.
    fn couple(&mut self) {
        let (Some(main), Some(audio)) = (&mut self.main, &mut self.audio) else { return };
        if matches!(audio.start, Start::Wait)
            && let Some((list, next)) = main.list().zip(main.place.next)
        {
            let wall = list.segment(next).and_then(|segment| segment.wall);
            audio.start = Start::With { wall, from_end: list.duration_from(next) };
        }
        let ahead = main.timing.target().max(audio.timing.target()) * AHEAD_TARGETS;
        let leash = |other: &Follower| {
            let is_well = !other.is_failing() && !other.is_ended && other.reload.list.is_some();
            is_well.then(|| other.played.saturating_add(ahead))
        };
        let (for_main, for_audio) = (leash(audio), leash(main));
        (main.leash, audio.leash) = (for_main, for_audio);
    }

    fn drive_entry(&mut self, now: Instant) {
        let entry = &mut self.entry;
        if let Some(document) = &mut entry.document {
            let Err(cause) = document.exchange.look(now) else { return };
            self.desk.cancel(document.exchange.id);
            entry.document = None;
            entry.is_fresh = true;
            self.entry_failed(now, cause);
        } else if entry.due.is_some_and(|due| due <= now) {
            let failures = entry.waits.failures();
            let limits = Limits {
                answer: entry.timing.answer(failures),
                quiet: entry.timing.quiet(failures),
                rest: entry.timing.rest(failures),
                typical: 0,
                bytes: PLAYLIST_BYTES_MAX as u64,
            };
            let target = (What::Playlist, entry.url.clone());
            let is_fresh = std::mem::take(&mut entry.is_fresh);
            let exchange = Exchange::start(now, target, None, is_fresh, limits, &mut self.desk);
            (entry.document, entry.due) = (Some(Document::new(exchange)), None);
        }
    }

    fn entered(&mut self, now: Instant, answer: Answer) {
        let Some(document) = &mut self.entry.document else { return };
        let is_over = matches!(answer, Answer::End | Answer::Failed(_));
        match document.handle(now, answer) {
            Progress::More => {}
            Progress::Failed(cause) => {
                if let Some(document) = self.entry.document.take()
                    && !is_over
                {
                    self.desk.cancel(document.exchange.id);
                }
                self.entry_failed(now, cause);
            }
            Progress::Done(bytes) => {
                let Some(document) = self.entry.document.take() else { return };
                if let Err(cause) = self.entry_read(now, &document, &bytes) {
                    self.entry_failed(now, cause);
                }
            }
        }
    }

    fn entry_failed(&mut self, now: Instant, cause: Cause) {
        let wait = self.entry.waits.next(cause.class, &self.entry.timing, &mut self.desk);
        // While something plays, its own reloads ask again; a wish brings the next try.
        let is_needed = self.main.is_none() || self.followers().any(Follower::is_failing);
        self.entry.due = is_needed.then_some(now + wait);
        let (rendition, attempt) = (Rendition::Main, self.entry.waits.failures());
        let failure = Failure { rendition, what: What::Playlist, cause, attempt, next_try: now + wait };
        self.desk.tell(Event::Failed(failure));
    }

    fn entry_read(&mut self, now: Instant, document: &Document, bytes: &[u8]) -> Result<(), Cause> {
        let url = document.url().clone();
        if let Err(error) = lexer::lines(bytes) {
            return Err(Cause::cheap(reason::NOT_PLAYLIST, error.to_string()));
        }
        if !Master::is_master(bytes) {
            if self.main.is_none() {
                let variables = Variables::default();
                let mut main = Follower::new(now, Rendition::Main, self.entry.url.clone(), variables, Start::Usual);
                main.give(now, document.exchange.asked, bytes, &url, &mut self.desk);
                self.main = Some(main);
            }
            self.entry.waits.reset();
            return Ok(());
        }
        let master = Master::parse(bytes, &url, self.desk.options.variant)?;
        self.entry.waits.reset();
        self.entry.read = Some(now);
        self.use_master(now, master);
        Ok(())
    }

    /// A master playlist was read, for the first time or again.
    fn use_master(&mut self, now: Instant, master: Master) {
        let again = self.current.take().and_then(|current| {
            let same = master.variants.iter().find(|variant| variant.url == current.url);
            same.or_else(|| master.variants.iter().find(|variant| variant.is_same(&current))).cloned()
        });
        // What is no longer offered is forgotten: as many are left alone as there are variants, at most.
        self.cooling.retain(|(known, _)| master.variants.iter().any(|variant| variant.url == known.url));
        let variables = master.variables.clone();
        let (main, audio) = (self.main.as_mut(), self.audio.as_mut());
        match (again, main) {
            (Some(variant), Some(main)) => {
                if *main.reload.url() != variant.url {
                    main.refresh(now, variant.url.clone(), variables.clone(), &mut self.desk);
                }
                if let (Some(audio), Some(url)) = (audio, &variant.audio)
                    && audio.reload.url() != url
                {
                    audio.refresh(now, url.clone(), variables, &mut self.desk);
                }
                (self.current, self.master) = (Some(variant), Some(master));
            }
            (None, Some(_)) => {
                self.master = Some(master);
                self.play(now, &Cause::cheap(reason::VARIANT_SWITCHED, "the variant is no longer offered"));
            }
            (_, None) => {
                let Some(variant) = master.variants.first().cloned() else { return };
                let follow =
                    |rendition, url: &Url, start| Follower::new(now, rendition, url.clone(), variables.clone(), start);
                self.main = Some(follow(Rendition::Main, &variant.url, Start::Usual));
                self.audio = variant.audio.as_ref().map(|url| follow(Rendition::Audio, url, Start::Wait));
                (self.current, self.master) = (Some(variant), Some(master));
            }
        }
    }

    /// Does what a follower cannot do by itself.
    fn grant(&mut self, now: Instant, rendition: Rendition, wish: Wish) {
        if self.master.is_none() {
            return;
        }
        match wish {
            Wish::Master(cause) => {
                // A master that was just read has nothing new to say: its URL is dead for good.
                let is_recent = self.entry.read.is_some_and(|read| now.saturating_duration_since(read) < self.brief());
                let is_dead = is_recent && cause.is_refusal() && self.failures(rendition) > 1;
                if is_dead && self.has_other(now) && rendition == Rendition::Main {
                    self.leave(now, &cause);
                } else if !is_recent && self.entry.document.is_none() && self.entry.due.is_none() {
                    self.entry.due = Some(now);
                    self.drive_entry(now);
                }
            }
            Wish::Variant(cause) if rendition == Rendition::Main && self.has_other(now) => self.leave(now, &cause),
            Wish::Variant(_) => {}
        }
    }

    /// The best variant that is better than the one being played and was left alone, and until when.
    fn better(&self) -> Option<&(Variant, Instant)> {
        let variants = &self.master.as_ref()?.variants;
        let rank = |variant: &Variant| variants.iter().position(|known| known.url == variant.url);
        let current = rank(self.current.as_ref()?)?;
        let ranked = self.cooling.iter().filter_map(|entry| Some((rank(&entry.0)?, entry)));
        ranked.filter(|(rank, _)| *rank < current).min_by_key(|(rank, _)| *rank).map(|(_, entry)| entry)
    }

    /// Looks at a better variant again once it was left alone for long enough, and all is well otherwise.
    fn drive_probe(&mut self, now: Instant) {
        if let Some((variant, document)) = &mut self.probe {
            if document.exchange.look(now).is_err() {
                self.desk.cancel(document.exchange.id);
                let variant = variant.clone();
                self.probe_failed(now, variant);
            }
            return;
        }
        let Some((variant, _)) = self.better().filter(|(_, until)| *until <= now).cloned() else { return };
        let Some(main) = self.main.as_ref().filter(|main| !main.is_failing()) else {
            // Not now: the one being played has troubles of its own.
            self.probe_failed(now, variant);
            return;
        };
        let limits = Limits {
            answer: main.timing.answer(0),
            quiet: main.timing.quiet(0),
            rest: main.timing.rest(0),
            typical: 0,
            bytes: PLAYLIST_BYTES_MAX as u64,
        };
        let target = (What::Playlist, variant.url.clone());
        let exchange = Exchange::start(now, target, None, false, limits, &mut self.desk);
        self.probe = Some((variant, Document::new(exchange)));
    }

    fn probed(&mut self, now: Instant, answer: Answer) {
        let Some((variant, document)) = &mut self.probe else { return };
        let is_over = matches!(answer, Answer::End | Answer::Failed(_));
        let id = document.exchange.id;
        let progress = document.handle(now, answer);
        let variant = variant.clone();
        match progress {
            Progress::More => {}
            Progress::Failed(_) => {
                if !is_over {
                    self.desk.cancel(id);
                }
                self.probe_failed(now, variant);
            }
            Progress::Done(bytes) => {
                self.probe = None;
                // Not behind the one being played: its playlist may be frozen.
                let current = self.main.as_ref().and_then(Follower::list).map(|list| list.end());
                let is_well = MediaPlaylist::parse(&bytes, &variant.url)
                    .is_ok_and(|list| current.is_none_or(|end| list.end().saturating_add(1) >= end));
                if !is_well {
                    self.probe_failed(now, variant);
                    return;
                }
                self.cooling.retain(|(known, _)| known.url != variant.url);
                let cause = Cause::cheap(reason::VARIANT_SWITCHED, "a better variant is well again");
                self.play(now, &cause);
            }
        }
    }

    fn probe_failed(&mut self, now: Instant, variant: Variant) {
        self.probe = None;
        self.cooling.retain(|(known, _)| known.url != variant.url);
        self.cooling.push_back((variant, now + COOLING));
    }

    /// The master playlist is not read more often than this.
    fn brief(&self) -> Duration {
        self.main.as_ref().map_or(self.entry.timing.target(), |main| main.timing.target())
    }

    fn failures(&self, rendition: Rendition) -> u32 {
        let follower = if rendition == Rendition::Main { &self.main } else { &self.audio };
        follower.as_ref().map_or(0, |follower| {
            follower.reload.waits.failures() + follower.work.as_ref().map_or(0, |work| work.waits.failures())
        })
    }

    fn others(&self, now: Instant) -> impl Iterator<Item = &Variant> {
        let is_cooling = move |variant: &Variant| {
            self.cooling
                .iter()
                .any(|(cooling, until)| *until > now && cooling.is_same(variant) && cooling.url == variant.url)
        };
        let variants = self.master.iter().flat_map(|master| &master.variants);
        variants.filter(move |variant| !is_cooling(variant) && self.current.as_ref() != Some(*variant))
    }

    fn has_other(&self, now: Instant) -> bool {
        self.others(now).next().is_some()
    }

    /// Leaves the variant being played for another.
    fn leave(&mut self, now: Instant, cause: &Cause) {
        if let Some(current) = self.current.clone() {
            self.cooling.retain(|(known, _)| known.url != current.url);
            self.cooling.push_back((current, now + COOLING));
        }
        self.play(now, cause);
    }

    /// Plays the best variant that is not cooling.
    fn play(&mut self, now: Instant, cause: &Cause) {
        let first = || self.master.as_ref().and_then(|master| master.variants.first());
        let Some(variant) = self.others(now).next().or_else(first).cloned() else { return };
        let variables = self.master.as_ref().map(|master| master.variables.clone()).unwrap_or_default();
        let text = format!("{}; going on with {} ({})", cause.text, redacted(&variant.url), variant.shown());
        let cause = Cause { reason: reason::VARIANT_SWITCHED, text, class: Class::Cheap };
        self.desk.tell(Event::Notice { rendition: Rendition::Main, cause });
        if let Some(main) = &mut self.main {
            main.switch(now, variant.url.clone(), variables.clone(), &mut self.desk);
        }
        match (&mut self.audio, &variant.audio) {
            (Some(audio), Some(url)) if audio.reload.url() != url => {
                audio.switch(now, url.clone(), variables, &mut self.desk);
            }
            (None, Some(url)) => {
                self.audio = Some(Follower::new(now, Rendition::Audio, url.clone(), variables, Start::Wait));
            }
            // Without a playlist of its own, audio comes with the variant: the old one is followed no more.
            (Some(_), None) => self.audio = None,
            _ => {}
        }
        self.current = Some(variant);
    }
}

/// Whether another segment may be begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// It may.
    Free,
    /// It may not.
    Full,
}

//! Runs a planner against an origin on simulated time, and keeps what it hands out.

use std::{collections::HashMap, time::Instant};

use bytes::{Bytes, BytesMut};
use relay_hls::proto::{Answer, Begin, Event, FetchId, Joint, Options, Output, Planner, Rendition};
use url::Url;

use crate::origin::{Id, Millis, Origin, millis};

/// A segment as it was handed out.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    pub(crate) begin: Begin,
    pub(crate) bytes: Bytes,
    pub(crate) whole: bool,
    /// When its first byte came.
    pub(crate) at: Millis,
}

impl Taken {
    /// Which one it is, by its bytes.
    pub(crate) fn id(&self) -> Id {
        let number = |at: usize| u64::from_be_bytes(*self.bytes[at..].first_chunk().unwrap());
        Id { run: number(1), index: number(9) }
    }
}

/// What happened.
#[derive(Debug, Default)]
pub(crate) struct Story {
    pub(crate) taken: Vec<Taken>,
    /// Reasons of failures, gaps, stalls and notices with their times.
    pub(crate) reasons: Vec<(Millis, &'static str)>,
    pub(crate) is_ended: bool,
    /// Requests made.
    pub(crate) requests: usize,
    pub(crate) last_at: Millis,
}

struct World<'a> {
    start: Instant,
    now: Millis,
    origin: &'a dyn Origin,
    planner: Planner,
    coming: Vec<(Millis, u64, FetchId, Answer)>,
    order: u64,
    asked_playlists: usize,
    story: Story,
    watches: bool,
    has_ended: bool,
    open: HashMap<Rendition, (Begin, BytesMut, Millis)>,
}

/// Plays for so long.
pub(crate) fn play(origin: &dyn Origin, url: &str, options: Options, length: Millis) -> Story {
    #[expect(clippy::disallowed_methods, reason = "any instant does")]
    let start = Instant::now();
    let planner = Planner::new(start, Url::parse(url).unwrap(), options);
    let mut world = World {
        start,
        now: 0,
        origin,
        planner,
        coming: Vec::new(),
        order: 0,
        asked_playlists: 0,
        story: Story::default(),
        watches: origin.begins_anew(),
        has_ended: false,
        open: HashMap::new(),
    };
    let mut idle = 0;
    while world.now < length && !world.story.is_ended {
        world.carry_out();
        let before = world.now;
        if std::mem::take(&mut world.has_ended) {
            world.planner.watch(world.start + millis(world.now));
        }
        if !world.step() {
            break;
        }
        idle = if world.now == before { idle + 1 } else { 0 };
        assert!(idle < 10_000, "no time passes at {before} ms");
    }
    world.carry_out();
    world.story.last_at = world.now;
    world.story
}

impl World<'_> {
    fn step(&mut self) -> bool {
        let answer = self.coming.iter().map(|(at, order, ..)| (*at, *order)).min();
        let timeout = self.planner.poll_timeout().map(|at| {
            let after = at.saturating_duration_since(self.start);
            // Rounded up: it must have passed.
            u64::try_from(after.as_nanos().div_ceil(1_000_000)).unwrap().max(self.now)
        });
        match (answer, timeout) {
            (Some((at, order)), timeout) if timeout.is_none_or(|timeout| at <= timeout) => {
                self.now = self.now.max(at);
                let index = self.coming.iter().position(|(_, found, ..)| *found == order).unwrap();
                let (_, _, id, answer) = self.coming.remove(index);
                self.planner.handle_input(self.start + millis(self.now), id, answer);
            }
            (_, Some(timeout)) => {
                self.now = timeout;
                self.planner.handle_timeout(self.start + millis(self.now));
            }
            _ => return false,
        }
        true
    }

    fn carry_out(&mut self) {
        while let Some(output) = self.planner.poll_output() {
            match output {
                Output::Fetch(fetch) => {
                    self.story.requests += 1;
                    self.asked_playlists += usize::from(fetch.url.path().ends_with("live.m3u8"));
                    for (at, answer) in self.origin.answer(self.now, &fetch, self.asked_playlists) {
                        self.order += 1;
                        self.coming.push((at, self.order, fetch.id, answer));
                    }
                }
                Output::Cancel(id) => self.coming.retain(|(_, _, of, _)| *of != id),
                Output::Event(event) => self.hear(event),
            }
        }
    }

    fn hear(&mut self, event: Event) {
        let now = self.now;
        let mut note = |reason| self.story.reasons.push((now, reason));
        match event {
            Event::Begin(begin) => {
                let before = self.open.insert(begin.rendition, (begin, BytesMut::new(), now));
                assert!(before.is_none(), "a segment begins in another");
            }
            Event::Bytes { rendition, bytes } => {
                assert!(!bytes.is_empty());
                self.open.get_mut(&rendition).expect("bytes outside a segment").1.extend_from_slice(&bytes);
            }
            Event::End { rendition, whole } => {
                let (begin, bytes, at) = self.open.remove(&rendition).expect("an end without a beginning");
                self.story.taken.push(Taken { begin, bytes: bytes.freeze(), whole, at });
            }
            Event::Gap { cause, .. } | Event::Stalled { cause, .. } | Event::Notice { cause, .. } => note(cause.reason),
            Event::Failed(failure) => note(failure.cause.reason),
            Event::Ended if self.watches => self.has_ended = true,
            Event::Ended => self.story.is_ended = true,
        }
    }
}

/// How each segment joined the one before it.
pub(crate) fn joints(story: &Story) -> Vec<Joint> {
    story.taken.iter().map(|taken| taken.begin.joint).collect()
}

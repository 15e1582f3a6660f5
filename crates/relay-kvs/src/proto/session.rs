//! One PutMedia connection: what was sent in it, what of it was acknowledged, when it must end.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::ack::{Ack, AckEvent, AckParser};

/// The number of a PutMedia call, from 1, never used twice in a life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// What a session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// What is new.
    Live,
    /// What an outage left.
    Backfill,
}

/// Endpoint, credentials, connection and answer take at most this long.
pub const OPEN_MAX: Duration = Duration::from_secs(20);
/// Nobody is there when nothing was acknowledged or written for so long while something should have been, or nothing
/// acknowledged of what was written so long ago.
pub const STALL: Duration = Duration::from_secs(10);
/// A fragment behind which others were PERSISTED so long ago has lost its acknowledgement, or is lost.
const PASSED_OVER: Duration = Duration::from_secs(10);
/// A fragment that took so long will not be PERSISTED any more.
const OVERDUE: Duration = Duration::from_secs(60);
/// How long a session waits for its last acknowledgements before it ends.
const SETTLE: Duration = Duration::from_secs(5);
/// How long the service may take to end its answer when the request has ended.
const CLOSE: Duration = Duration::from_secs(2);
/// A session without media ends before the service ends it, after 30 s.
pub const IDLE: Duration = Duration::from_secs(20);
/// Numbers of PERSISTED fragments that are remembered, so that one is not taken for another's.
const PERSISTED_NUMBERS: usize = 64;

#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: SessionId,
    pub(crate) lane: Lane,
    pub(crate) stage: Stage,
    pub(crate) header: Option<Bytes>,
    /// The latest fragment sent.
    pub(crate) last: Option<u64>,
    /// The fragment that is being written.
    pub(crate) busy: Option<u64>,
    pub(crate) opened: Instant,
    pub(crate) rotate_at: Option<Instant>,
    /// Fragments sent and not PERSISTED.
    pub(crate) sent: BTreeMap<u64, Sent>,
    /// The last sign of life, or the last thing given to it.
    moved: Instant,
    /// The last acknowledgement.
    heard: Instant,
    fed: Instant,
    acks: AckParser,
    persisted: VecDeque<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Opening,
    Open {
        since: Instant,
    },
    /// Nothing more is sent; acknowledgements are waited for.
    Settling {
        until: Instant,
    },
    /// The request has ended; the answer's end is waited for.
    Closing {
        until: Instant,
    },
}

#[derive(Debug, Default)]
pub(crate) struct Sent {
    number: Option<String>,
    pub(crate) is_received: bool,
    pub(crate) given: Option<Instant>,
    pub(crate) written: Option<Instant>,
    passed_over: Option<Instant>,
}

/// What a session asks for by the time alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Nothing,
    /// It never came to be.
    NotOpened,
    Stalled,
    /// A fragment's acknowledgement is overdue: end it in good order.
    Overdue,
    /// All is settled, or was waited for long enough.
    Finish,
    /// Its end was waited for long enough.
    Gone,
}

impl Session {
    pub(crate) fn new(id: SessionId, lane: Lane, now: Instant) -> Self {
        Self {
            id,
            lane,
            stage: Stage::Opening,
            header: None,
            last: None,
            busy: None,
            opened: now,
            rotate_at: None,
            sent: BTreeMap::new(),
            moved: now,
            heard: now,
            fed: now,
            acks: AckParser::default(),
            persisted: VecDeque::new(),
        }
    }

    pub(crate) fn accept(&mut self, now: Instant, life: Duration) {
        if self.stage == Stage::Opening {
            self.stage = Stage::Open { since: now };
            self.rotate_at = now.checked_add(life);
            (self.moved, self.fed) = (now, now);
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Open { .. })
    }

    /// How long it has been open.
    pub(crate) fn age(&self, now: Instant) -> Duration {
        match self.stage {
            Stage::Open { since } => now.saturating_duration_since(since),
            _ => Duration::ZERO,
        }
    }

    pub(crate) fn give(&mut self, now: Instant, timecode_ms: u64) {
        self.last = Some(timecode_ms);
        self.busy = Some(timecode_ms);
        self.sent.insert(timecode_ms, Sent { given: Some(now), ..Sent::default() });
        (self.moved, self.fed) = (now, now);
    }

    /// The fragment in writing is wholly handed to the connection.
    pub(crate) fn written(&mut self, now: Instant) {
        if let Some(sent) = self.busy.take().and_then(|busy| self.sent.get_mut(&busy)) {
            sent.written = Some(now);
        }
        self.moved = now;
    }

    pub(crate) fn moved(&mut self, now: Instant) {
        self.moved = now;
    }

    /// Ends it once all is acknowledged.
    pub(crate) fn settle(&mut self, now: Instant) {
        if matches!(self.stage, Stage::Opening | Stage::Open { .. }) {
            self.stage = Stage::Settling { until: now + SETTLE };
        }
    }

    pub(crate) fn closing(&mut self, now: Instant) {
        self.stage = Stage::Closing { until: now + CLOSE };
    }

    pub(crate) fn is_idle(&self, now: Instant) -> bool {
        self.sent.is_empty() && now >= self.fed + IDLE
    }

    /// Reads acknowledgements; returns them with how many objects were none.
    pub(crate) fn read(&mut self, now: Instant, bytes: &[u8]) -> (Vec<Ack>, u64) {
        let before = self.acks.malformed();
        self.acks.push(bytes);
        let acks: Vec<_> = std::iter::from_fn(|| self.acks.poll()).collect();
        if !acks.is_empty() {
            (self.moved, self.heard) = (now, now);
        }
        (acks, self.acks.malformed() - before)
    }

    /// The fragment that an acknowledgement is of: one that was sent here, under the number it was given first.
    pub(crate) fn fragment_of(&mut self, ack: &Ack) -> Option<u64> {
        let by_time = ack.timecode_ms.filter(|timecode| self.sent.contains_key(timecode));
        let Some(number) = &ack.number else { return by_time };
        let named = self.sent.iter().find(|(_, sent)| sent.number.as_ref() == Some(number)).map(|(time, _)| *time);
        // A real error of the service told the time 0 beside the right number.
        let has_time = ack.timecode_ms.is_some_and(|time| time != 0) || !matches!(ack.event, AckEvent::Error(_));
        match (by_time, named) {
            (Some(time), Some(named)) => (time == named).then_some(time),
            (Some(time), None) => {
                let sent = self.sent.get_mut(&time)?;
                if sent.number.is_some() || self.persisted.contains(number) {
                    return None;
                }
                sent.number = Some(number.clone());
                Some(time)
            }
            (None, named) => named.filter(|_| ack.timecode_ms.is_none() || !has_time),
        }
    }

    /// The fragment is PERSISTED, if it was wholly written: no other can be.
    pub(crate) fn persisted(&mut self, now: Instant, timecode_ms: u64) -> Option<Sent> {
        self.sent.get(&timecode_ms)?.written?;
        let mut sent = self.sent.remove(&timecode_ms)?;
        if let Some(number) = sent.number.take() {
            if self.persisted.len() >= PERSISTED_NUMBERS {
                self.persisted.pop_front();
            }
            self.persisted.push_back(number);
        }
        for (_, before) in self.sent.range_mut(..timecode_ms) {
            before.passed_over.get_or_insert(now);
        }
        Some(sent)
    }

    /// What the time asks for.
    pub(crate) fn due(&self, now: Instant) -> Due {
        match self.stage {
            Stage::Opening if now >= self.opened + OPEN_MAX => Due::NotOpened,
            Stage::Opening => Due::Nothing,
            Stage::Settling { .. } if self.busy.is_none() && self.sent.is_empty() => Due::Finish,
            Stage::Settling { until } if self.busy.is_none() && now >= until => Due::Finish,
            Stage::Closing { until } if now >= until => Due::Gone,
            Stage::Closing { .. } => Due::Nothing,
            _ if self.stalls_at().is_some_and(|at| now >= at) => Due::Stalled,
            Stage::Open { .. } if self.overdue_at().is_some_and(|at| now >= at) => Due::Overdue,
            _ => Due::Nothing,
        }
    }

    /// When to look again.
    pub(crate) fn timeout(&self) -> Option<Instant> {
        match self.stage {
            Stage::Opening => Some(self.opened + OPEN_MAX),
            Stage::Open { .. } => {
                let idle = self.sent.is_empty().then_some(self.fed + IDLE);
                [self.stalls_at(), self.overdue_at(), idle].into_iter().flatten().min()
            }
            Stage::Settling { until } if self.busy.is_none() => self.stalls_at().min(Some(until)).or(Some(until)),
            Stage::Settling { .. } => self.stalls_at(),
            Stage::Closing { until } => Some(until),
        }
    }

    fn stalls_at(&self) -> Option<Instant> {
        // Buffers on the way take minutes of a small stream: that bytes go out does not prove that anybody is there.
        let written = self.sent.values().filter_map(|sent| sent.written).min();
        let mute = written.map(|written| written.max(self.heard) + STALL);
        (!self.sent.is_empty()).then_some(self.moved + STALL).into_iter().chain(mute).min()
    }

    fn overdue_at(&self) -> Option<Instant> {
        let passed = self.sent.values().filter_map(|sent| Some(sent.passed_over? + PASSED_OVER));
        let slow = self.sent.values().filter_map(|sent| Some(sent.written? + OVERDUE));
        passed.chain(slow).min()
    }
}

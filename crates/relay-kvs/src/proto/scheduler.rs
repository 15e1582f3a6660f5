//! The one place that decides what is sent when: the window, the sessions, the spool.
//!
//! A fragment is sent whole or not at all. It is kept until PERSISTED, whatever else the service says; when its
//! session ends before that, it waits again. One connection at a time carries the stream. While there is a backlog
//! they take turns: a live session ends behind a fragment once it has caught up, a back-fill session begins no
//! fragment after three seconds, the next live session begins with what has queued. Only where credentials or the
//! service's longest session run out is the next connection opened before the last is closed, if the service lets us.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use fastrand::Rng;
use relay_media::Packet;

use super::{
    cause::{Failure, Refresh},
    fragment::{DropReason, Fragment},
    fragmenter::Fragmenter,
    pace::Pace,
    session::{Lane, Session, SessionId},
    stats::{State, Stats},
    window::{Disk, Entry, Restored, Window},
};

mod acks;
mod bounds;
mod sessions;

/// How a producer behaves.
#[derive(Clone, Debug)]
pub struct Settings {
    /// A fragment is cut at the first key frame after this.
    pub fragment: Duration,
    /// The longest that a fragment waits in memory, before it goes to disk or is lost.
    pub window_time: Duration,
    /// The most bytes in memory.
    pub window_bytes: usize,
    /// What is lost when more would wait, and no disk takes it.
    pub leak: Leak,
    /// A session is never longer. The service ends them after 45 minutes.
    pub session_max: Duration,
    /// Where there is a disk for what outgrows the window.
    pub spool: Option<SpoolSettings>,
    /// Makes waits and identifiers differ from other producers'.
    pub seed: u64,
}

impl Settings {
    /// Two-second fragments, 120 s and 64 MiB in memory, sessions of 40 minutes, no spool.
    pub fn new(seed: u64) -> Self {
        Self {
            fragment: Duration::from_secs(2),
            window_time: Duration::from_secs(120),
            window_bytes: 64 << 20,
            leak: Leak::default(),
            session_max: Duration::from_secs(2_400),
            spool: None,
            seed,
        }
    }

    /// The most bytes of a fragment: a quarter of the window, so that others fit beside it.
    pub fn fragment_bytes_max(&self) -> usize {
        self.window_bytes / 4
    }

    /// The most bytes of memory that all of it takes: the window, and a fragment on its way out in each of the two
    /// connections that there may be for a moment.
    pub fn memory_bytes_max(&self) -> usize {
        self.window_bytes + 2 * self.fragment_bytes_max()
    }
}

/// What is lost at the window's bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Leak {
    /// The oldest fragment.
    #[default]
    Oldest,
    /// All but the newest fragment: live, with a gap.
    AllButNewest,
}

/// What the spool takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpoolSettings {
    /// The most bytes of fragments on disk.
    pub max_bytes: u64,
    /// Which fragments go there.
    pub mode: SpoolMode,
}

/// Which fragments go to disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SpoolMode {
    /// Those that outgrow the window, and at the end all that are not PERSISTED.
    #[default]
    Overflow,
    /// Each, before it is sent.
    Always,
}

/// What happened.
#[derive(Debug)]
pub enum Input<'a> {
    /// A packet of the stream.
    Packet(Arc<Packet>),
    /// The stream has ended: all that is not PERSISTED by `deadline` is spooled, or lost.
    Stop {
        /// When waiting ends.
        deadline: Instant,
    },
    /// The service took the call, with credentials that last so long.
    Accepted(SessionId, Option<Duration>),
    /// Bytes went out.
    Progress(SessionId),
    /// The fragment sent last is wholly handed to the connection.
    Written(SessionId),
    /// Bytes of the answer.
    Acks(SessionId, &'a [u8]),
    /// The answer has ended, or there was none.
    Closed(SessionId, Option<Failure>),
    /// Whether the stream keeps what it gets. One that keeps nothing never says PERSISTED: there, RECEIVED is the end.
    Retains(bool),
    /// The spool has this fragment.
    Stored(u64),
    /// The spool could not take this fragment.
    NotStored(u64),
    /// The spool could not give this fragment back.
    Unreadable(u64),
}

/// What to do, in this order.
#[derive(Debug)]
pub enum Output {
    /// Begin a PutMedia call.
    Open {
        /// Its number.
        session: SessionId,
        /// What it is for.
        lane: Lane,
        /// `x-amzn-producer-start-timestamp` in milliseconds: not after any fragment's time.
        start_ms: u64,
        /// What to fetch anew before.
        refresh: Refresh,
    },
    /// Write these bytes, which begin the request's body.
    Begin(SessionId, Bytes),
    /// Write this fragment, then tell so.
    Send(SessionId, Arc<Fragment>),
    /// Write this fragment, which is in the spool, then tell so.
    SendSpooled(SessionId, u64),
    /// End the request's body; go on reading.
    Finish(SessionId),
    /// Drop the connection.
    Abort(SessionId),
    /// Put this fragment into the spool, then tell so.
    Store(Arc<Fragment>),
    /// The fragment is done with: the spool forgets it.
    Forget(u64),
    /// Keep this fragment for inspection, the spool's own copy if there is no other; then forget it.
    SetAside(u64, Option<Arc<Fragment>>),
    /// Remember that frame times have come so far.
    Mark(u64),
    /// This fragment of so many packets was PERSISTED, so long after its first frame arrived if that was in this life.
    Persisted {
        /// Its time.
        timecode_ms: u64,
        /// Its packets.
        packets: u32,
        /// Since its first frame arrived.
        lag: Option<Duration>,
    },
    /// A call failed or its connection ended otherwise than it should: it is tried again by itself.
    Failed(Failure),
    /// After [`Input::Stop`]: nothing is left to do.
    Done,
}

/// The producer of one stream. It does no I/O and reads no clock.
#[derive(Debug)]
pub struct Scheduler {
    settings: Settings,
    fragmenter: Fragmenter,
    window: Window,
    sessions: Vec<Session>,
    last_session: u64,
    /// Fragments from here on are for live sessions, those before for back-fill.
    live_from: u64,
    turn: Lane,
    /// The last session did not end in good order.
    is_broken: bool,
    refresh: Refresh,
    pace: Pace,
    rng: Rng,
    retains: bool,
    stopping: Option<Instant>,
    is_done: bool,
    /// When all was last looked at.
    looked: Option<Instant>,
    /// After a failed write, the spool is left alone until then.
    spool_rests_until: Option<Instant>,
    outputs: VecDeque<Output>,
    stats: Stats,
}

impl Scheduler {
    /// A producer that goes on from what an earlier life left: its fragments, and how far its times had come.
    pub fn new(settings: Settings, restored: Vec<Restored>, high_water_ms: u64) -> Self {
        let mut rng = Rng::with_seed(settings.seed);
        let mut window = Window::default();
        let mut stats = Stats::default();
        let mut high_water_ms = high_water_ms;
        for restored in restored {
            high_water_ms = high_water_ms.max(restored.last_ms);
            stats.packets_restored += u64::from(restored.packets);
            window.insert(restored.timecode_ms, Entry::restored(restored));
        }
        let fragmenter = Fragmenter::new(settings.fragment, settings.fragment_bytes_max(), high_water_ms, rng.u64(..));
        Self {
            fragmenter,
            window,
            sessions: Vec::new(),
            last_session: 0,
            live_from: high_water_ms.saturating_add(1),
            turn: Lane::Live,
            is_broken: false,
            refresh: Refresh::default(),
            pace: Pace::new(),
            rng,
            retains: true,
            stopping: None,
            is_done: false,
            looked: None,
            spool_rests_until: None,
            outputs: VecDeque::new(),
            stats,
            settings,
        }
    }

    /// Takes what happened.
    pub fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        match input {
            Input::Packet(packet) => {
                self.stats.packets_in += 1;
                self.fragmenter.push(now, packet);
                // Most packets close no fragment and change nothing.
                let is_first = self.looked.is_none();
                if !self.collect(now) && !is_first && self.memory_bytes() <= self.soft_bytes() {
                    return;
                }
            }
            Input::Stop { deadline } => {
                self.fragmenter.finish();
                self.stopping.get_or_insert(deadline);
                self.collect(now);
            }
            Input::Accepted(id, credentials) => self.accepted(now, id, credentials),
            Input::Progress(id) => self.with(id, |session| session.moved(now)),
            Input::Written(id) => self.with(id, |session| session.written(now)),
            Input::Acks(id, bytes) => self.read_acks(now, id, bytes),
            Input::Closed(id, failure) => self.closed(now, id, failure),
            Input::Retains(retains) => self.retains = retains,
            Input::Stored(timecode_ms) => self.window.set_disk(timecode_ms, Disk::Yes),
            Input::NotStored(timecode_ms) => {
                self.window.set_disk(timecode_ms, Disk::Failed);
                self.spool_rests_until = Some(now + bounds::SPOOL_REST);
            }
            Input::Unreadable(timecode_ms) => self.unreadable(now, timecode_ms),
        }
        self.act(now);
    }

    /// Looks at the time.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.fragmenter.handle_timeout(now);
        self.collect(now);
        self.act(now);
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to look at the time again, if nothing happens before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let looked = self.looked?;
        let sessions = self.sessions.iter().filter_map(Session::timeout);
        let rotation = self.sessions.iter().filter(|session| session.is_open()).filter_map(|session| session.rotate_at);
        let pace = self.pace.wait(looked).filter(|_| self.window.len() > 0 || !self.sessions.is_empty());
        let stop =
            self.stopping.map(|deadline| if looked < deadline { deadline } else { deadline + bounds::STORE_MAX });
        let all = sessions.chain(rotation).chain(pace).chain(self.window.next_due(looked)).chain(stop);
        let all =
            all.chain(self.fragmenter.poll_timeout()).chain(self.bounds_timeout()).chain(self.turn_timeout(looked));
        // What had come by the last look changed nothing, or did so then.
        all.filter(|at| *at > looked && !self.is_done).min()
    }

    /// What can be seen of it.
    pub fn stats(&self) -> Stats {
        let mut stats = self.stats.clone();
        let newest = self.window.newest().next().and_then(|(_, entry)| entry.body.as_ref()).map(|body| body.last_ms);
        let newest = newest.or(self.window.newest().next().map(|(timecode_ms, _)| timecode_ms));
        let oldest = self.window.oldest().next().map(|(timecode_ms, _)| timecode_ms);
        stats.state = self.state();
        stats.attempt = self.pace.attempt();
        stats.packets_buffered = self.window.packets() + self.fragmenter.packets();
        stats.fragments_buffered = self.window.len() as u64;
        stats.memory_bytes = self.memory_bytes();
        stats.disk_bytes = self.window.disk_bytes();
        stats.buffered_ms = newest.zip(oldest).map_or(0, |(newest, oldest)| newest.saturating_sub(oldest));
        stats.long_gops = self.fragmenter.long_gops();
        stats.ahead_ms = self.fragmenter.ahead_ms();
        stats
    }

    fn state(&self) -> State {
        match self.sessions.iter().max_by_key(|session| (session.is_open(), session.id)) {
            Some(session) if session.last.is_none() && !session.is_open() => State::Connecting,
            Some(Session { lane: Lane::Live, .. }) => State::Live,
            Some(Session { lane: Lane::Backfill, .. }) => State::Backfill,
            None if self.window.len() == 0 => State::Idle,
            None if self.pace.attempt() > 0 => State::Backoff,
            None => State::Connecting,
        }
    }

    /// Takes closed fragments into the window. Returns whether there were any.
    fn collect(&mut self, now: Instant) -> bool {
        for (reason, count) in self.fragmenter.take_drops() {
            self.count_drop(reason, count);
        }
        let mut any = false;
        while let Some(fragment) = self.fragmenter.poll() {
            any = true;
            let timecode_ms = fragment.timecode_ms;
            if self.settings.spool.is_some() {
                self.outputs.push_back(Output::Mark(fragment.last_ms));
            }
            self.window.insert(timecode_ms, Entry::new(fragment, now));
            if self.stores_each() {
                self.store(now, timecode_ms);
            }
        }
        any
    }

    fn act(&mut self, now: Instant) {
        self.looked = Some(now);
        self.bound(now);
        self.look_at_sessions(now);
        self.feed(now);
        self.open(now);
        self.stop(now);
    }

    /// After the stream's end: says when all is done.
    fn stop(&mut self, now: Instant) {
        let Some(deadline) = self.stopping.filter(|_| !self.is_done) else { return };
        let is_writing = self.window.in_memory().any(|(_, entry)| entry.disk == Disk::Writing);
        // What only an outage's backlog holds is safe on disk; what is under way is given its time.
        let is_safe = self.window.in_memory().all(|(_, entry)| entry.disk == Disk::Yes) && self.sessions.is_empty();
        let is_late = now >= deadline && !is_writing || now >= deadline + bounds::STORE_MAX;
        // While the service is well, what is new is sent all the same.
        let is_live = self.window.next(self.live_from.., false, now).is_some() && self.pace.attempt() == 0;
        if (!is_safe || is_live) && !is_late {
            return;
        }
        for session in std::mem::take(&mut self.sessions) {
            self.window.requeue(session.sent.keys().copied());
            self.outputs.push_back(Output::Abort(session.id));
        }
        let lost: Vec<_> =
            self.window.oldest().filter(|(_, entry)| entry.disk != Disk::Yes).map(|(at, _)| at).collect();
        for timecode_ms in lost {
            self.lose(timecode_ms, DropReason::Stopped);
        }
        self.is_done = true;
        self.outputs.push_back(Output::Done);
    }

    fn memory_bytes(&self) -> usize {
        self.window.memory_bytes() + self.fragmenter.bytes()
    }

    /// Each fragment is on disk before it is sent.
    fn stores_each(&self) -> bool {
        self.settings.spool.is_some_and(|spool| spool.mode == SpoolMode::Always)
    }

    /// Removes a fragment that was not PERSISTED, and counts what was in it.
    fn lose(&mut self, timecode_ms: u64, reason: DropReason) {
        if let Some(entry) = self.window.remove(timecode_ms) {
            self.count_drop(reason, u64::from(entry.packets));
            if entry.disk != Disk::No {
                self.outputs.push_back(Output::Forget(timecode_ms));
            }
        }
    }

    fn count_drop(&mut self, reason: DropReason, count: u64) {
        *self.stats.packets_dropped.entry(reason).or_default() += count;
    }

    fn with(&mut self, id: SessionId, change: impl FnOnce(&mut Session)) {
        if let Some(session) = self.sessions.iter_mut().find(|session| session.id == id) {
            change(session);
        }
    }
}

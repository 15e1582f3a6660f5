//! The life of sessions: which to open, what to send in them, when to end them.

use std::time::{Duration, Instant};

use super::{DropReason, Lane, Output, Scheduler, Session, SessionId};
use crate::proto::{
    cause::{Cause, Failure, Refresh},
    session::{Due, Stage},
};

/// A back-fill session begins no fragment after this.
const BACKFILL_TURN: Duration = Duration::from_secs(3);
/// A live session lasts at least so long before a back-fill session has its turn.
const LIVE_TURN: Duration = Duration::from_secs(2);
/// What was closed no longer ago than this is sent in one session, oldest first, as if nothing had happened.
const INLINE: Duration = Duration::from_secs(10);
/// After a failure with an older backlog, a live session begins with what was closed no longer ago than this.
const FRESH: Duration = Duration::from_secs(4);
/// After a back-fill session, live begins with what queued meanwhile: its turn, its end, and some room.
const QUEUED: Duration = Duration::from_secs(12);
/// Shorter lives of credentials are taken for this, so that rotation never runs hot.
const LIFE_MIN: Duration = Duration::from_secs(5);

/// What a session does next.
enum Next {
    Send(u64),
    End,
    Wait,
}

impl Scheduler {
    pub(super) fn accepted(&mut self, now: Instant, id: SessionId, credentials: Option<Duration>) {
        let is_opening = |session: &Session| session.id == id && session.stage == Stage::Opening;
        if !self.sessions.iter().any(is_opening) {
            return;
        }
        let life = credentials.unwrap_or(Duration::MAX).min(self.settings.session_max).max(LIFE_MIN);
        // Early by 5 to 15 %, so that many producers started together don't rotate together.
        let life = life.mul_f64(0.95 - 0.1 * self.rng.f64());
        if self.sessions.iter().any(|session| session.id < id) {
            self.stats.takes_second_connection = Some(true);
        }
        for session in &mut self.sessions {
            match session.id == id {
                true => session.accept(now, life),
                // The next one has come: this one has sent its last.
                false => session.settle(now),
            }
        }
        self.refresh = Refresh::default();
    }

    pub(super) fn closed(&mut self, now: Instant, id: SessionId, failure: Option<Failure>) {
        let Some(session) = self.sessions.iter().find(|session| session.id == id) else { return };
        let is_over = session.sent.is_empty() && session.busy.is_none();
        let is_ending = matches!(session.stage, Stage::Settling { .. } | Stage::Closing { .. });
        // The end that was asked for, however it came.
        if is_ending && is_over {
            return self.ended(now, id, None);
        }
        let failure = failure.unwrap_or_else(|| Failure::new(Cause::Ended, ""));
        self.ended(now, id, Some(failure));
    }

    /// Takes a session away; what it did not get PERSISTED waits again.
    pub(super) fn ended(&mut self, now: Instant, id: SessionId, failure: Option<Failure>) {
        let Some(place) = self.sessions.iter().position(|session| session.id == id) else { return };
        let session = self.sessions.remove(place);
        self.stats.fragments_resent += self.window.requeue(session.sent.keys().copied());
        let Some(failure) = failure else { return };
        *self.stats.reconnects.entry(failure.cause.as_str()).or_default() += 1;
        self.outputs.push_back(Output::Failed(failure.clone()));
        if failure.cause == Cause::ConnectionLimit && !self.sessions.is_empty() {
            // Not now: the last one must be closed before.
            self.stats.takes_second_connection = Some(false);
            return;
        }
        let refresh = failure.cause.refresh();
        self.refresh.credentials |= refresh.credentials;
        self.refresh.endpoint |= refresh.endpoint;
        self.is_broken = true;
        self.turn = Lane::Live;
        self.pace.failed(now, failure.cause.class(), &mut self.rng);
        self.stats.failure = failure.to_string();
    }

    pub(super) fn unreadable(&mut self, now: Instant, timecode_ms: u64) {
        for session in &mut self.sessions {
            if session.busy == Some(timecode_ms) {
                session.written(now);
            }
            session.sent.remove(&timecode_ms);
        }
        self.lose(timecode_ms, DropReason::SpoolRead);
    }

    /// Ends what the time has come for.
    pub(super) fn look_at_sessions(&mut self, now: Instant) {
        let due: Vec<_> = self.sessions.iter().map(|session| (session.id, session.due(now))).collect();
        for (id, due) in due {
            match due {
                Due::Nothing => {}
                Due::NotOpened => self.abort(now, id, Cause::NoAnswer),
                Due::Stalled => self.abort(now, id, Cause::Stalled),
                Due::Overdue => self.with(id, |session| session.settle(now)),
                Due::Finish => {
                    self.outputs.push_back(Output::Finish(id));
                    self.with(id, |session| session.closing(now));
                }
                Due::Gone => {
                    self.outputs.push_back(Output::Abort(id));
                    self.ended(now, id, None);
                }
            }
        }
    }

    fn abort(&mut self, now: Instant, id: SessionId, cause: Cause) {
        self.outputs.push_back(Output::Abort(id));
        self.ended(now, id, Some(Failure::new(cause, "")));
    }

    /// Gives the open session its next fragment, or ends it.
    pub(super) fn feed(&mut self, now: Instant) {
        let Some(place) = self.sessions.iter().position(|session| session.is_open() && session.busy.is_none()) else {
            return;
        };
        let Some(session) = self.sessions.get(place) else { return };
        let (id, lane) = (session.id, session.lane);
        match self.next(now, session) {
            Next::Wait => {}
            Next::End => {
                self.with(id, |session| session.settle(now));
                // Nothing may be left to wait for.
                self.look_at_sessions(now);
            }
            Next::Send(timecode_ms) => {
                let Some(entry) = self.window.get(timecode_ms) else { return };
                if session.header.is_none() {
                    self.outputs.push_back(Output::Begin(id, entry.header.clone()));
                }
                let (header, body) = (entry.header.clone(), entry.body.clone());
                self.outputs.push_back(match body {
                    Some(body) => Output::Send(id, body),
                    None => Output::SendSpooled(id, timecode_ms),
                });
                self.with(id, |session| {
                    session.header = Some(header);
                    session.give(now, timecode_ms);
                });
                self.window.send(timecode_ms, id);
                if lane == Lane::Live {
                    self.live_from = self.live_from.max(timecode_ms + 1);
                }
            }
        }
    }

    fn next(&self, now: Instant, session: &Session) -> Next {
        let from = session.last.map_or(0, |last| last + 1);
        let needs_disk = self.stores_each();
        let is_backfill = session.lane == Lane::Backfill;
        if is_backfill && session.age(now) >= BACKFILL_TURN || self.must_rotate(now, session) {
            return Next::End;
        }
        let next = match session.lane {
            Lane::Backfill if from >= self.live_from => None,
            Lane::Backfill => self.window.next(from..self.live_from, needs_disk, now),
            Lane::Live => self.window.next(from.max(self.live_from).., needs_disk, now),
        };
        match next {
            // Other tracks or parameters are another session.
            Some((_, entry)) if session.header.as_ref().is_some_and(|header| *header != entry.header) => Next::End,
            Some((timecode_ms, _)) => Next::Send(timecode_ms),
            None if is_backfill || self.stopping.is_some() || session.is_idle(now) => Next::End,
            None if self.may_yield(now, session) => Next::End,
            None => Next::Wait,
        }
    }

    /// It has caught up, and there is a backlog.
    fn may_yield(&self, now: Instant, session: &Session) -> bool {
        session.age(now) >= LIVE_TURN && self.window.next(..self.live_from, self.stores_each(), now).is_some()
    }

    /// Its time is over, and the service takes no second connection beside it.
    fn must_rotate(&self, now: Instant, session: &Session) -> bool {
        let is_due = session.rotate_at.is_some_and(|at| now >= at);
        is_due && (session.lane == Lane::Backfill || self.stats.takes_second_connection == Some(false))
    }

    pub(super) fn open(&mut self, now: Instant) {
        if self.pace.wait(now).is_some() || self.is_done {
            return;
        }
        let lane = match self.sessions.as_slice() {
            [] => self.next_lane(now),
            [session] if session.lane == Lane::Live && session.is_open() => {
                let is_due = session.rotate_at.is_some_and(|at| now >= at);
                let is_used = session.last.is_some() && self.stopping.is_none();
                (is_due && is_used && !self.must_rotate(now, session)).then_some(Lane::Live)
            }
            _ => None,
        };
        let Some(lane) = lane else { return };
        self.last_session += 1;
        let id = SessionId(self.last_session);
        let first = match lane {
            Lane::Live => self.window.next(self.live_from.., false, now),
            Lane::Backfill => self.window.next(.., false, now),
        };
        let start_ms = first.map_or_else(|| self.fragmenter.high_water_ms(), |(timecode_ms, _)| timecode_ms);
        self.outputs.push_back(Output::Open { session: id, lane, start_ms, refresh: self.refresh });
        self.sessions.push(Session::new(id, lane, now));
        self.pace.called(now);
        self.stats.puts += 1;
        // After a back-fill it is live's turn, after live a back-fill's if there is one.
        self.turn = if lane == Lane::Live { Lane::Backfill } else { Lane::Live };
        self.is_broken = false;
    }

    /// What the next session is for, with no other open.
    fn next_lane(&mut self, now: Instant) -> Option<Lane> {
        let needs_disk = self.stores_each();
        self.place_live(now);
        let has_live = self.window.next(self.live_from.., needs_disk, now).is_some();
        let has_backlog = self.window.next(..self.live_from, needs_disk, now).is_some();
        match (has_live, has_backlog) {
            (true, true) => Some(self.turn),
            (true, false) => Some(Lane::Live),
            // At the end, what is safe on disk stays there.
            (false, true) if self.stopping.is_some() && self.settings.spool.is_some() => None,
            (false, true) => Some(Lane::Backfill),
            (false, false) => None,
        }
    }

    /// Decides what is live: everything, if all of it is fresh; else what is, or queued in a back-fill's turn.
    fn place_live(&mut self, now: Instant) {
        let age = |arrived: Option<(Instant, Instant)>| {
            arrived.map_or(Duration::MAX, |(_, closed)| now.saturating_duration_since(closed))
        };
        let oldest = self.window.oldest().next().map(|(timecode_ms, entry)| (timecode_ms, age(entry.arrived)));
        self.live_from = match oldest {
            Some((timecode_ms, age)) if age <= INLINE => timecode_ms,
            _ => {
                let limit = if self.is_broken { FRESH } else { QUEUED };
                let fresh = self.window.newest().take_while(|(_, entry)| age(entry.arrived) <= limit);
                let fresh = fresh.map(|(timecode_ms, _)| timecode_ms).last();
                let fresh = fresh.unwrap_or_else(|| self.fragmenter.high_water_ms().saturating_add(1));
                // What back-fill has taken over is not taken back.
                if self.is_broken { fresh } else { fresh.max(self.live_from) }
            }
        };
    }

    /// When a live session may yield, or a back-fill session must.
    pub(super) fn turn_timeout(&self, now: Instant) -> Option<Instant> {
        let session = self.sessions.iter().find(|session| session.is_open() && session.busy.is_none())?;
        let turn = if session.lane == Lane::Live { LIVE_TURN } else { BACKFILL_TURN };
        let left = turn.checked_sub(session.age(now)).filter(|left| !left.is_zero())?;
        Some(now + left)
    }
}

//! One viewer while it is served: its session, its cursor, and what it is told of itself.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use relay_graph::{ReaderKey, SinkContext};
use relay_media::{Kind, Packet};
use relay_ring::{Cursor, CursorStats, LeakPolicy, Ring, Start};
use relay_webrtc::{
    CloseCause, Datagram, Event, FragmentError, Handed, LocalCandidate, Outbox, Output, Registration, Session,
};

use super::{
    Newcomer,
    diagnosis::never_connected,
    partings::Parting,
    roster::{Row, SessionId},
    units::Units,
    viewers::Seat,
};

/// A viewer being served.
pub(super) struct Viewer {
    pub(super) id: SessionId,
    session: Session,
    registration: Registration,
    row: Arc<Row>,
    opened: Instant,
    candidates: Arc<[LocalCandidate]>,
    _seat: Seat,
    reading: Option<Reading>,
    due: Instant,
    /// When its row is written next.
    told_next: Instant,
    end: Option<End>,
}

/// Its place in the ring, from when it is connected.
struct Reading {
    cursor: Cursor,
    /// Where the ring puts the next packet; empty between turns, and kept so that none of them allocates.
    taken: Vec<Arc<Packet>>,
    key: ReaderKey,
    /// Since when it has been further behind than it may, while it is excused for having joined there.
    late_since: Option<Instant>,
    sent: u64,
    skipped: BTreeMap<&'static str, u64>,
    key_frame_sent: bool,
    before: CursorStats,
}

/// How a session ended: one of a few fixed words, and the cause for a person.
struct End {
    how: &'static str,
    cause: String,
}

/// What serving a viewer needs of its stream.
pub(super) struct Stream<'a> {
    pub(super) ctx: &'a SinkContext,
    pub(super) ring: &'a Ring,
    pub(super) max_lag: Duration,
    pub(super) units: &'a mut Units,
    pub(super) outbox: &'a mut Outbox,
}

/// Rows are written this often, and at every event: for people.
const TELL: Duration = Duration::from_secs(1);

/// A viewer that joined far behind has this long to catch up, if its link can.
const CATCH_UP: Duration = Duration::from_secs(2);

/// Taken from the ring for one viewer before the next one's turn: a backlog must not keep the others waiting.
const UNITS_PER_TURN: usize = 16;

impl Viewer {
    pub(super) fn new(newcomer: Newcomer, now: Instant) -> Self {
        let Newcomer { id, session, registration, row, opened, candidates, seat } = newcomer;
        Self {
            id,
            session,
            registration,
            row,
            opened,
            candidates,
            _seat: seat,
            reading: None,
            due: now,
            told_next: now + TELL,
            end: None,
        }
    }

    pub(super) fn key(&self) -> relay_webrtc::SessionKey {
        self.registration.key()
    }

    /// When it is to be served again, if nothing comes for it before.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    pub(super) fn is_reading(&self) -> bool {
        self.reading.is_some()
    }

    pub(super) fn receive(&mut self, now: Instant, datagram: &Datagram) {
        let Datagram { protocol, source, destination, contents, .. } = datagram;
        self.session.handle_datagram(now, *protocol, *source, *destination, contents);
        self.due = now;
    }

    pub(super) fn trickle(&mut self, fragment: &str) -> Result<(), FragmentError> {
        self.session.trickle(fragment)
    }

    /// Says goodbye; the session ends with the next turn.
    pub(super) fn close(&mut self, now: Instant) {
        self.session.close();
        self.due = now;
    }

    /// Sends what there is to send, and says how the session ended if it did.
    pub(super) fn serve(&mut self, now: Instant, stream: &mut Stream<'_>) -> Option<Parting> {
        if self.due <= now {
            self.session.handle_timeout(now);
        }
        self.drain(now, stream);
        let mut turns = 0;
        while self.end.is_none() && turns < UNITS_PER_TURN && self.session.room() && self.send_next(now, stream) {
            self.drain(now, stream);
            turns += 1;
        }
        if turns == UNITS_PER_TURN {
            self.due = now;
        }
        if self.told_next <= now || self.end.is_some() {
            self.tell(stream);
            self.told_next = now + TELL;
        }
        self.due = self.due.min(self.told_next);
        let End { how, cause } = self.end.take()?;
        let (tag, remote) = {
            let row = self.row.write();
            (row.tag.clone(), row.remote.clone().unwrap_or_default())
        };
        Some(Parting { how, cause, tag, remote, watched: now.saturating_duration_since(self.opened) })
    }

    /// Takes what the session has to say until it has nothing more.
    fn drain(&mut self, now: Instant, stream: &mut Stream<'_>) {
        loop {
            match self.session.poll_output(now) {
                Output::Transmit(transmit) => {
                    let bytes: &[u8] = &transmit.contents;
                    self.registration.sent(transmit.protocol, transmit.destination, bytes);
                    stream.outbox.push(transmit.protocol, transmit.source, transmit.destination, bytes);
                }
                Output::Timeout(due) => {
                    self.due = due;
                    return;
                }
                Output::Event(event) => self.happened(event, stream),
            }
        }
    }

    fn happened(&mut self, event: Event, stream: &mut Stream<'_>) {
        match event {
            Event::Connected => {
                let cursor = stream.ring.cursor(LeakPolicy::Live { max_lag: stream.max_lag }, Start::JoinPoint);
                let key = stream.ctx.monitor.joined(cursor.monitor());
                self.reading = Some(Reading::new(cursor, key));
                self.tell(stream);
            }
            Event::KeyFrameWanted => {
                self.row.write().key_frame_requests += 1;
                if let Some(reading) = &self.reading {
                    reading.cursor.request_key_frame();
                }
            }
            Event::EstimateChanged(_) => {}
            Event::Closed(cause) => self.end = Some(self.ended(&cause)),
        }
    }

    /// Takes one packet from the ring and hands it to the session; whether there was one.
    fn send_next(&mut self, now: Instant, stream: &mut Stream<'_>) -> bool {
        let Some(reading) = &mut self.reading else { return false };
        let Some((packet, backlog)) = reading.next(now, stream.max_lag) else { return false };
        let unit = stream.units.of(&packet);
        let handed = unit.as_ref().map_or(Handed::NotCarried, |unit| self.session.send(now, unit, backlog));
        match handed {
            Handed::Sent => {
                reading.sent += 1;
                stream.ctx.monitor.delivered(1, packet.payload.len() as u64);
                if packet.is_key() && !std::mem::replace(&mut reading.key_frame_sent, true) {
                    self.row.write().stages.first_key_frame = Some(now.saturating_duration_since(self.opened));
                }
            }
            Handed::Skipped => reading.skip("joining", stream.ctx),
            Handed::NotCarried if packet.track.kind() == Kind::Video => {
                reading.skip("codec", stream.ctx);
                let cause =
                    format!("the picture is {} now, which this session was not made for", packet.track.codec.name());
                self.end = Some(End { how: "codec_changed", cause });
            }
            Handed::NotCarried => reading.skip("codec", stream.ctx),
        }
        true
    }

    fn ended(&self, cause: &CloseCause) -> End {
        let how = cause.as_str();
        let cause = match cause {
            CloseCause::NeverConnected => never_connected(&self.session.report(), &self.candidates),
            cause => cause.to_string(),
        };
        End { how, cause }
    }

    /// Writes its row.
    fn tell(&mut self, stream: &Stream<'_>) {
        let report = self.session.report();
        let mut row = self.row.write();
        row.remote = report.selected.map(|pair| pair.remote.to_string());
        row.protocol = report.selected.map(|pair| pair.protocol.as_str());
        row.bytes_out = report.bytes_sent;
        row.rtt = report.rtt;
        row.estimate_bps = report.estimate_bps;
        row.fraction_lost_milli = report.fraction_lost_milli;
        row.retransmitted = report.retransmitted;
        row.stages.ice = report.ice_after;
        row.stages.connected = report.connected_after;
        let mut state = row.state;
        if let Some(reading) = &mut self.reading {
            let stats = reading.cursor.stats();
            state = reading.state(stats, stream.max_lag);
            row.packets_out = reading.sent;
            row.lag = stats.lag;
            row.dropped.clone_from(&reading.skipped);
            row.dropped.insert("lag", stats.dropped.lag + stats.dropped.cap);
            row.dropped.insert("no_key_frame", stats.dropped.no_key_frame);
            reading.before = stats;
        }
        if let Some(end) = &self.end {
            state = if matches!(end.how, "closed") { "closed" } else { "failed" };
            row.cause = Some(end.cause.clone());
        }
        if row.state != state {
            (row.state, row.since) = (state, stream.ctx.clock.utc());
        }
    }

    /// Its place in the account of the sink is given up.
    pub(super) fn leave(mut self, ctx: &SinkContext) -> SessionId {
        if let Some(reading) = self.reading.take() {
            drop(reading.cursor);
            ctx.monitor.left(reading.key);
        }
        self.id
    }
}

impl Reading {
    fn new(cursor: Cursor, key: ReaderKey) -> Self {
        let before = cursor.stats();
        Self {
            cursor,
            taken: Vec::with_capacity(1),
            key,
            late_since: None,
            sent: 0,
            skipped: BTreeMap::new(),
            key_frame_sent: false,
            before,
        }
    }

    /// The next packet for this viewer, and how much media time there is from it to the newest.
    fn next(&mut self, now: Instant, max_lag: Duration) -> Option<(Arc<Packet>, Duration)> {
        let stats = self.cursor.stats();
        if stats.buffered == 0 {
            return None;
        }
        if stats.lag <= max_lag {
            self.late_since = None;
        } else {
            let since = *self.late_since.get_or_insert(now);
            if now.saturating_duration_since(since) >= CATCH_UP {
                self.cursor.end_catch_up();
            }
        }
        // A closed ring ends the whole sink's run: nothing to do about it here.
        let _ = self.cursor.try_batch(&mut self.taken, 1);
        let packet = self.taken.pop()?;
        // After a jump the packet is nearer to the newest than what was asked for before.
        let lag = if packet.is_key() { self.cursor.stats().lag } else { stats.lag };
        Some((packet, lag))
    }

    fn skip(&mut self, reason: &'static str, ctx: &SinkContext) {
        *self.skipped.entry(reason).or_default() += 1;
        ctx.monitor.dropped(reason, 1);
    }

    /// How it is, from what happened since its row was last written.
    fn state(&self, stats: CursorStats, max_lag: Duration) -> &'static str {
        let starved = stats.dropped.no_key_frame > self.before.dropped.no_key_frame;
        if starved || !self.key_frame_sent {
            "waiting_for_key_frame"
        } else if stats.dropped.lag > self.before.dropped.lag || stats.lag > max_lag / 2 {
            "behind"
        } else {
            "live"
        }
    }
}

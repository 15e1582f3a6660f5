//! A model of the service, strict about what is documented.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use fastrand::Rng;
use relay_kvs::proto::{AckEvent, Cause, Failure, Lane, SessionId};
use relay_mkv::{Event, Reader, Sessions};

/// How unwell the service and the way to it are. Shares are in thousandths.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    pub refused: u64,
    pub broken: u64,
    pub ack_lost: u64,
    pub error_ack: u64,
    /// Of a broken connection's fragments, how many are stored all the same.
    pub stored_unacknowledged: u64,
    pub silent: u64,
    /// A second connection is refused, and a broken one is held for a while.
    pub one_connection: bool,
}

/// What comes back, after a while.
#[derive(Debug)]
pub enum Reply {
    Accepted,
    Written,
    Ack { event: AckEvent, timecode_ms: u64, number: String },
    Closed(Option<Failure>),
}

#[derive(Debug, Default)]
pub struct Service {
    connections: BTreeMap<SessionId, Connection>,
    /// Connections that broke, and that the service holds until then.
    held_until: Option<Instant>,
    /// Each frame's stored times.
    pub stored: BTreeMap<u64, BTreeSet<u64>>,
    /// Fragments by time, with how often each was stored.
    pub fragments: BTreeMap<u64, u32>,
    pub calls: Vec<Instant>,
    pub most_at_once: usize,
    pub backfill_max: Duration,
    numbers: u64,
    /// The nth fragment of the stream fails with this error, which names it or does not.
    pub poison: Option<(u64, u32, bool)>,
}

#[derive(Debug)]
struct Connection {
    lane: Lane,
    since: Instant,
    reader: Reader,
    tracks: BTreeSet<u64>,
    open: Option<Open>,
    last_ms: Option<u64>,
    is_silent: bool,
}

#[derive(Debug)]
struct Open {
    timecode_ms: u64,
    frames: Vec<(u64, u64, u64)>,
}

const ERRORS: [u32; 5] = [4000, 4003, 5000, 5001, 4999];

impl Service {
    pub fn open(
        &mut self,
        now: Instant,
        id: SessionId,
        lane: Lane,
        faults: &Faults,
        rng: &mut Rng,
    ) -> Vec<(Duration, Reply)> {
        self.calls.push(now);
        let soon = Duration::from_millis(rng.u64(5..80));
        let refuse = |failure| vec![(soon, Reply::Closed(Some(failure)))];
        if rng.u64(..1_000) < faults.refused {
            return refuse(match rng.u8(..4) {
                0 => Failure::refused(403, "AccessDeniedException:http://internal/", "no"),
                1 => Failure::refused(404, "ResourceNotFoundException", "no"),
                2 => Failure::refused(503, "", "no"),
                _ => Failure::new(Cause::Connect, "refused"),
            });
        }
        let is_held = self.held_until.is_some_and(|until| now < until);
        if faults.one_connection && (is_held || !self.connections.is_empty()) {
            return refuse(Failure::refused(400, "ConnectionLimitExceededException", "one connection"));
        }
        let connection = Connection {
            lane,
            since: now,
            reader: Reader::new(Sessions::One),
            tracks: BTreeSet::new(),
            open: None,
            last_ms: None,
            is_silent: rng.u64(..1_000) < faults.silent,
        };
        let reply = (!connection.is_silent).then_some((soon, Reply::Accepted));
        self.connections.insert(id, connection);
        self.most_at_once = self.most_at_once.max(self.connections.len());
        reply.into_iter().collect()
    }

    /// Bytes of a request's body.
    pub fn write(
        &mut self,
        now: Instant,
        id: SessionId,
        bytes: &[u8],
        faults: &Faults,
        rng: &mut Rng,
    ) -> Vec<(Duration, Reply)> {
        let Some(connection) = self.connections.get_mut(&id) else { return vec![] };
        if connection.lane == Lane::Backfill {
            self.backfill_max = self.backfill_max.max(now - connection.since);
        }
        connection.reader.push(bytes);
        let mut whole = Vec::new();
        while let Some((_, event)) = connection.reader.poll().expect("strict Matroska") {
            match event {
                Event::Tracks(tracks) => connection.tracks = tracks.iter().map(|track| track.number).collect(),
                Event::Cluster { timecode } => {
                    assert!(connection.open.is_none(), "a fragment was not ended");
                    let last = connection.last_ms;
                    assert!(last.is_none_or(|last| timecode > last), "4004: {timecode} is not after {last:?}");
                    connection.open = Some(Open { timecode_ms: timecode, frames: vec![] });
                }
                Event::Block(block) => {
                    let open = connection.open.as_mut().expect("a cluster");
                    let frame = u64::from_be_bytes(block.payload[..8].try_into().unwrap());
                    let at = u64::try_from(block.timecode).unwrap();
                    connection.last_ms = connection.last_ms.max(Some(at));
                    open.frames.push((frame, at, block.track));
                }
                Event::Tags(_) => whole.extend(connection.open.take()),
                _ => {}
            }
        }
        let mut replies = vec![];
        let header = connection.tracks.clone();
        for fragment in whole {
            let tracks: BTreeSet<_> = fragment.frames.iter().map(|frame| frame.2).collect();
            assert_eq!(tracks, header, "4011: not every track has a frame");
            let last = fragment.frames.iter().map(|frame| frame.1).max().unwrap();
            assert!(last - fragment.timecode_ms <= 10_000, "4002: {} ms", last - fragment.timecode_ms);
            replies.extend(self.take(now, id, fragment, faults, rng));
            if !self.connections.contains_key(&id) {
                break;
            }
        }
        replies
    }

    fn take(
        &mut self,
        now: Instant,
        id: SessionId,
        fragment: Open,
        faults: &Faults,
        rng: &mut Rng,
    ) -> Vec<(Duration, Reply)> {
        let ms = Duration::from_millis;
        let is_silent = self.connections.get(&id).is_some_and(|connection| connection.is_silent);
        self.numbers += 1;
        let (timecode_ms, number) = (fragment.timecode_ms, format!("{:047}", self.numbers));
        let ack = |event| Reply::Ack { event, timecode_ms, number: number.clone() };
        let poison = self.poison.filter(|(nth, _, _)| timecode_ms == super::START_MS + nth * 2_000);
        if let Some((_, error, is_named)) = poison {
            self.close(now, id, faults, rng);
            let (event, number) = (AckEvent::Error(error), String::new());
            let reply = if is_named { ack(event) } else { Reply::Ack { event, timecode_ms: 0, number } };
            return vec![(ms(20), reply), (ms(25), Reply::Closed(None))];
        }
        if rng.u64(..1_000) < faults.error_ack {
            let error = AckEvent::Error(ERRORS[rng.usize(..ERRORS.len())]);
            self.close(now, id, faults, rng);
            return vec![(ms(20), ack(error)), (ms(25), Reply::Closed(None))];
        }
        if rng.u64(..1_000) < faults.broken || is_silent {
            if rng.u64(..1_000) < faults.stored_unacknowledged {
                self.store(fragment);
            }
            if is_silent {
                return vec![];
            }
            self.close(now, id, faults, rng);
            return vec![(ms(rng.u64(1..200)), Reply::Closed(Some(Failure::new(Cause::Reset, "reset"))))];
        }
        self.store(fragment);
        let mut replies = vec![(ms(10), ack(AckEvent::Buffering)), (ms(50), ack(AckEvent::Received))];
        if rng.u64(..1_000) >= faults.ack_lost {
            replies.push((ms(rng.u64(100..400)), ack(AckEvent::Persisted)));
        }
        replies
    }

    fn store(&mut self, fragment: Open) {
        *self.fragments.entry(fragment.timecode_ms).or_default() += 1;
        for (frame, at, _) in fragment.frames {
            self.stored.entry(frame).or_default().insert(at);
        }
    }

    /// A connection broke.
    fn close(&mut self, now: Instant, id: SessionId, faults: &Faults, rng: &mut Rng) {
        self.connections.remove(&id);
        if faults.one_connection {
            self.held_until = Some(now + Duration::from_millis(rng.u64(0..4_000)));
        }
    }

    /// The request's body has ended.
    pub fn finish(&mut self, id: SessionId) -> Vec<(Duration, Reply)> {
        match self.connections.remove(&id) {
            Some(connection) if !connection.is_silent => vec![(Duration::from_millis(30), Reply::Closed(None))],
            _ => vec![],
        }
    }

    pub fn abort(&mut self, now: Instant, id: SessionId, faults: &Faults, rng: &mut Rng) {
        if self.connections.contains_key(&id) {
            self.close(now, id, faults, rng);
        }
    }
}

//! Who watches, and who did until a minute ago: for the API, the page and the log.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use relay_media::UtcTime;

/// The unguessable name of a session: who knows it may change and end it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SessionId(String);

/// 128 random bits.
const ID_BYTES: usize = 16;

impl SessionId {
    /// A new one; `None` if the system gives no random numbers.
    pub(super) fn generate() -> Option<Self> {
        let mut bytes = [0; ID_BYTES];
        getrandom::fill(&mut bytes).ok()?;
        Some(Self(BASE64_URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// `text`, if it could be one.
    pub fn parse(text: &str) -> Option<Self> {
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (text.len() == (ID_BYTES * 8).div_ceil(6) && text.bytes().all(letter)).then(|| Self(text.to_owned()))
    }

    /// As it goes into a URL.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for SessionId {
    /// Not told: logs are read by more people than may end a session.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SessionId(***)")
    }
}

/// One viewer at one moment; counters since it came.
#[derive(Clone, Debug)]
pub struct ViewerSnapshot {
    /// A short name that tells viewers apart and opens nothing.
    pub tag: String,
    /// `"connecting"`, `"live"`, `"waiting_for_key_frame"`, `"behind"`, `"closed"` or `"failed"`.
    pub state: &'static str,
    /// Why it ended or is behind, in plain words: what each side sent, which candidates were tried.
    pub cause: Option<String>,
    /// The address that media goes to.
    pub remote: Option<String>,
    /// `"udp"` or `"tcp"`.
    pub protocol: Option<&'static str>,
    /// Since when it is in this state.
    pub since: UtcTime,
    /// Access units sent.
    pub packets_out: u64,
    /// Bytes sent, RTP and SRTP included.
    pub bytes_out: u64,
    /// Access units lost, by reason.
    pub dropped: BTreeMap<&'static str, u64>,
    /// Media time between the newest packet and the next one to be sent to this viewer.
    pub lag: Duration,
    /// Round trip, as its receiver reports tell.
    pub rtt: Option<Duration>,
    /// What its link is thought to carry, in bits per second.
    pub estimate_bps: Option<u64>,
    /// Packets it missed of a thousand, in its newest receiver report.
    pub fraction_lost_milli: u32,
    /// RTP packets sent again.
    pub retransmitted: u64,
    /// Key frames it asked for.
    pub key_frame_requests: u64,
    /// How its join went.
    pub stages: JoinStages,
}

/// How long each step of a join took, since the offer came in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JoinStages {
    /// The answer was ready.
    pub answer: Option<Duration>,
    /// The first STUN check was answered.
    pub ice: Option<Duration>,
    /// DTLS was done.
    pub connected: Option<Duration>,
    /// The first key frame was on its way.
    pub first_key_frame: Option<Duration>,
}

impl ViewerSnapshot {
    pub(super) fn new(tag: String, since: UtcTime) -> Self {
        Self {
            tag,
            state: "connecting",
            cause: None,
            remote: None,
            protocol: None,
            since,
            packets_out: 0,
            bytes_out: 0,
            dropped: BTreeMap::new(),
            lag: Duration::ZERO,
            rtt: None,
            estimate_bps: None,
            fraction_lost_milli: 0,
            retransmitted: 0,
            key_frame_requests: 0,
            stages: JoinStages::default(),
        }
    }
}

/// The viewers of a stream by their sessions.
#[derive(Debug, Default)]
pub(super) struct Roster {
    rows: Mutex<Rows>,
}

#[derive(Debug, Default)]
struct Rows {
    now: HashMap<SessionId, Arc<Row>>,
    ended: VecDeque<(Instant, SessionId, Arc<Row>)>,
    ends: BTreeMap<&'static str, u64>,
}

/// What is told of one viewer; its task writes, whoever asks reads.
#[derive(Debug)]
pub(super) struct Row(Mutex<ViewerSnapshot>);

/// An ended session is remembered so long: its page asks why.
const REMEMBERED: Duration = Duration::from_secs(60);

/// And so many of them.
const REMEMBERED_MAX: usize = 256;

impl Row {
    pub(super) fn new(snapshot: ViewerSnapshot) -> Arc<Self> {
        Arc::new(Self(Mutex::new(snapshot)))
    }

    pub(super) fn write(&self) -> MutexGuard<'_, ViewerSnapshot> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> ViewerSnapshot {
        self.write().clone()
    }
}

impl Roster {
    pub(super) fn enter(&self, id: SessionId, row: Arc<Row>) {
        self.lock().now.insert(id, row);
    }

    /// A session has ended, `how` it did being one of a few fixed words.
    pub(super) fn leave(&self, id: &SessionId, how: &'static str, now: Instant) {
        let mut rows = self.lock();
        *rows.ends.entry(how).or_default() += 1;
        if let Some(row) = rows.now.remove(id) {
            rows.ended.push_back((now, id.clone(), row));
        }
        let stale = |(at, ..): &(Instant, _, _)| now.saturating_duration_since(*at) > REMEMBERED;
        while rows.ended.len() > REMEMBERED_MAX || rows.ended.front().is_some_and(stale) {
            rows.ended.pop_front();
        }
    }

    /// All sessions of a run that failed are over.
    pub(super) fn abandon(&self, now: Instant) {
        let stale: Vec<SessionId> = self.lock().now.keys().cloned().collect();
        for id in stale {
            if let Some(row) = self.lock().now.get(&id) {
                let mut row = row.write();
                (row.state, row.cause) = ("failed", Some("the stream's viewer task failed and was run again".into()));
            }
            self.leave(&id, "failed", now);
        }
    }

    pub(super) fn find(&self, id: &SessionId, now: Instant) -> Option<ViewerSnapshot> {
        let rows = self.lock();
        let fresh = |at: &Instant| now.saturating_duration_since(*at) <= REMEMBERED;
        let ended = || rows.ended.iter().find(|(at, ended, _)| ended == id && fresh(at)).map(|(_, _, row)| row);
        rows.now.get(id).or_else(ended).map(|row| row.read())
    }

    pub(super) fn contains(&self, id: &SessionId) -> bool {
        self.lock().now.contains_key(id)
    }

    pub(super) fn len(&self) -> usize {
        self.lock().now.len()
    }

    /// Those that receive media now.
    pub(super) fn connected(&self) -> usize {
        self.lock().now.values().filter(|row| row.write().state != "connecting").count()
    }

    /// Sessions that ended, by how they did.
    pub(super) fn ends(&self) -> BTreeMap<&'static str, u64> {
        self.lock().ends.clone()
    }

    /// Running sessions first, then the ended ones that are remembered.
    pub(super) fn snapshot(&self, now: Instant) -> Vec<ViewerSnapshot> {
        let rows = self.lock();
        let fresh = rows.ended.iter().filter(|(at, ..)| now.saturating_duration_since(*at) <= REMEMBERED);
        let mut running: Vec<ViewerSnapshot> = rows.now.values().map(|row| row.read()).collect();
        running.sort_by_key(|viewer| viewer.since);
        running.into_iter().chain(fresh.map(|(_, _, row)| row.read())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_names_are_parsed_as_they_are_made() {
        let id = SessionId::generate().unwrap();
        assert_eq!(SessionId::parse(id.as_str()).as_ref(), Some(&id));
        assert_ne!(SessionId::generate(), Some(id.clone()));
        assert!(!format!("{id:?}").contains(id.as_str()));
        for wrong in ["", "short", "../../../../etc/passwd", "aaaaaaaaaaaaaaaaaaaaaaa", "aaaaaaaaaaaaaaaaaaaaa+"] {
            assert_eq!(SessionId::parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn ended_sessions_are_remembered_for_a_while() {
        let (roster, start) = (Roster::default(), relay_graph::Clock::system().now());
        let ids: Vec<SessionId> = (0..REMEMBERED_MAX + 10).filter_map(|_| SessionId::generate()).collect();
        for id in &ids {
            roster.enter(id.clone(), Row::new(ViewerSnapshot::new("a".into(), UtcTime::from_unix_nanos(0))));
        }
        assert_eq!(roster.len(), ids.len());
        for id in &ids {
            roster.leave(id, "closed", start);
        }
        assert_eq!((roster.len(), roster.snapshot(start).len()), (0, REMEMBERED_MAX));
        assert_eq!(roster.ends().get("closed"), Some(&(ids.len() as u64)));
        let newest = ids.last().unwrap();
        assert!(roster.find(newest, start).is_some() && !roster.contains(newest));
        assert!(roster.find(newest, start + REMEMBERED * 2).is_none());
        assert!(roster.snapshot(start + REMEMBERED * 2).is_empty());
    }
}

//! The service's state: its streams, its credentials, who is connected, and what is wrong at the moment.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    Limits, Second, ServiceConfig,
    fault::{Answer, Condition, Event, Fault, Step, Trouble},
    ingest::Media,
    keys::Keys,
    sign::{Refusal, verify},
    store::{PutEnd, PutLog, Refused, StoredFragment, Upload},
    wire::Head,
};
use crate::clock;

/// Faults at once, and steps in line; more are not taken.
const FAULTS_MAX: usize = 64;
/// Fragments remembered of a stream: a day of two seconds each.
const FRAGMENTS_MAX: usize = 43_200;
/// Sessions remembered of a stream, and refusals of all.
const LOG_MAX: usize = 10_000;

/// All of it, behind one lock.
#[derive(Debug)]
pub(crate) struct World {
    data_url: String,
    credentials_url: String,
    region: String,
    limits: Limits,
    keys: Keys,
    started: Instant,
    /// Steps still to come, latest first.
    script: Vec<Step>,
    faults: Vec<(Fault, Option<Instant>)>,
    condition: Condition,
    next_puts: VecDeque<Answer>,
    /// For the next fragment that begins.
    poison: Option<u32>,
    streams: BTreeMap<String, Stream>,
    /// What each connection is to do.
    orders: BTreeMap<u64, Option<Order>>,
    refused: VecDeque<Refused>,
    uploads: BTreeMap<String, Upload>,
    /// Numbers given to connections, sessions and fragments.
    numbers: u64,
    tells: bool,
    news: VecDeque<String>,
}

/// What a connection is told from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Reset,
    Close,
    Ack(u32),
}

#[derive(Debug, Default)]
struct Stream {
    fragments: VecDeque<StoredFragment>,
    sessions: VecDeque<PutLog>,
    /// Sessions under way, by their connections.
    active: BTreeMap<u64, u64>,
    /// Fragments that are never taken, and the error they get.
    poisoned: BTreeMap<u64, u32>,
    puts: VecDeque<Instant>,
    endpoints: VecDeque<Instant>,
    creation: Option<String>,
}

/// A session as its connection knows it.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) id: u64,
    pub(super) stream: String,
    pub(super) ends: Option<Instant>,
    pub(super) limits: Limits,
}

impl World {
    pub(super) fn new(config: ServiceConfig, [data_url, credentials_url]: [String; 2], started: Instant) -> Self {
        let mut script = config.script;
        script.sort_by_key(|step| std::cmp::Reverse(step.at));
        Self {
            data_url,
            credentials_url,
            region: config.region,
            limits: config.limits,
            keys: Keys::fixed(&config.fixed_key.0, &config.fixed_key.1),
            started,
            script,
            faults: Vec::new(),
            condition: Condition::default(),
            next_puts: VecDeque::new(),
            poison: None,
            streams: config.streams.into_iter().map(|name| (name, Stream::default())).collect(),
            orders: BTreeMap::new(),
            refused: VecDeque::new(),
            uploads: BTreeMap::new(),
            numbers: 0,
            tells: config.tells,
            news: VecDeque::new(),
        }
    }

    fn tell(&mut self, line: impl FnOnce() -> String) {
        if self.tells {
            bounded(&mut self.news, line(), LOG_MAX);
        }
    }

    pub(super) fn take_news(&mut self) -> Vec<String> {
        self.news.drain(..).collect()
    }

    pub(super) fn credentials_url(&self) -> String {
        self.credentials_url.clone()
    }

    pub(super) fn data_url(&self) -> String {
        self.data_url.clone()
    }

    pub(super) fn condition(&self) -> &Condition {
        &self.condition
    }

    /// Does the steps that are due and ends the faults that are over; true if that changed anything.
    pub(super) fn tick(&mut self, now: Instant) -> bool {
        let mut changed = false;
        while let Some(step) = self.script.pop_if(|step| self.started + step.at <= now) {
            self.happen(step.trouble, now);
            changed = true;
        }
        let before = self.faults.len();
        self.faults.retain(|(_, until)| until.is_none_or(|until| now < until));
        changed |= before != self.faults.len();
        if changed {
            self.merge();
        }
        changed
    }

    pub(super) fn happen(&mut self, trouble: Trouble, now: Instant) {
        match trouble {
            Trouble::Fault(fault, lasting) if self.faults.len() < FAULTS_MAX => {
                self.faults.push((fault, lasting.map(|lasting| now + lasting)));
            }
            Trouble::Fault(..) => {}
            Trouble::Event(Event::Clear) => self.faults.clear(),
            Trouble::Event(Event::Ack(id)) => self.order(Order::Ack(id)),
            Trouble::Event(Event::Poison(id)) => self.poison = Some(id),
            Trouble::Event(Event::Reset) => self.order(Order::Reset),
            Trouble::Event(Event::Restart) => {
                self.order(Order::Reset);
                self.keys.forget();
                self.streams.values_mut().for_each(|stream| stream.poisoned.clear());
            }
            Trouble::Event(Event::Close) => self.order(Order::Close),
            Trouble::Event(Event::NextPut(answer)) if self.next_puts.len() < FAULTS_MAX => {
                self.next_puts.push_back(answer);
            }
            Trouble::Event(Event::NextPut(_)) => {}
            Trouble::Event(Event::Expire) => self.keys.expire(clock::utc()),
        }
        self.merge();
    }

    pub(super) fn end_fault(&mut self, fault: &Fault) {
        self.faults.retain(|(active, _)| active != fault);
        self.merge();
    }

    fn merge(&mut self) {
        self.condition = self.faults.iter().fold(Condition::default(), |all, (fault, _)| all.with(fault));
    }

    fn order(&mut self, order: Order) {
        self.orders.values_mut().for_each(|slot| *slot = Some(order));
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    pub(super) fn connected(&mut self) -> u64 {
        let connection = self.number();
        self.orders.insert(connection, None);
        connection
    }

    pub(super) fn disconnected(&mut self, connection: u64) {
        self.orders.remove(&connection);
    }

    /// What a connection is to do, once.
    pub(super) fn take_order(&mut self, connection: u64) -> Option<Order> {
        self.orders.get_mut(&connection)?.take()
    }

    /// Who asks; the path's own fault comes before that.
    pub(super) fn admit(&mut self, head: &Head, body: &[u8]) -> Result<String, Refusal> {
        let is_put = head.path == "/putMedia";
        let refusal = |answer: &Answer| Refusal::new(answer.status, &answer.name, "it was told to say so");
        let own = if is_put { &self.condition.put } else { &self.condition.control };
        if let Some(answer) = self.condition.http.as_ref().or(own.as_ref()) {
            return Err(refusal(answer));
        }
        if let Some(answer) = is_put.then(|| self.next_puts.pop_front()).flatten() {
            return Err(refusal(&answer));
        }
        verify(head, body, &self.keys, &self.region, clock::utc())
    }

    /// Begins a PutMedia session.
    pub(super) fn put(&mut self, head: &Head, connection: u64, now: Instant) -> Result<Session, Refusal> {
        let access_key = self.admit(head, &[])?;
        let invalid = |what: &str| Refusal::new(400, "InvalidArgumentException", what);
        let name = match (head.get("x-amzn-stream-name"), head.get("x-amzn-stream-arn")) {
            (Some(name), None) => name.to_owned(),
            (None, Some(arn)) => arn.split('/').nth(1).unwrap_or_default().to_owned(),
            _ => return Err(invalid("one of x-amzn-stream-name and x-amzn-stream-arn must be given")),
        };
        if head.get("x-amzn-fragment-timecode-type") != Some("ABSOLUTE") {
            return Err(invalid("this stand-in takes absolute times only"));
        }
        let start = head.get("x-amzn-producer-start-timestamp").and_then(|start| start.split_once('.'));
        if !start.is_some_and(|(seconds, millis)| seconds.parse::<u64>().is_ok() && millis.len() == 3) {
            return Err(invalid("x-amzn-producer-start-timestamp is not seconds and three digits"));
        }
        let id = self.number();
        let limits = self.limits;
        let stream = self.streams.get_mut(&name).ok_or_else(|| missing(&name))?;
        is_within(&mut stream.puts, limits.calls_per_second, now)?;
        match limits.second {
            _ if stream.active.is_empty() => {}
            Second::Accepted => {}
            Second::Refused => {
                let answer = Answer::connection_limit();
                return Err(Refusal::new(answer.status, &answer.name, "another connection has the stream"));
            }
            Second::Replaces => {
                for other in stream.active.keys() {
                    self.orders.insert(*other, Some(Order::Close));
                }
            }
        }
        stream.active.insert(connection, id);
        let utc = clock::utc();
        let started_utc_nanos = utc.unix_nanos();
        let left = self.keys.end(&access_key).map(|end| end.nanos_since(utc).max(0).unsigned_abs());
        let log = PutLog { id, access_key, started_utc_nanos, ended_utc_nanos: None, end: None, bytes: 0 };
        bounded(&mut stream.sessions, log, LOG_MAX);
        let ends = left.map(|left| now + Duration::from_nanos(left));
        self.tell(|| format!("session {id} of {name} begins"));
        Ok(Session { id, stream: name, ends, limits })
    }

    /// A fragment begins: its number.
    pub(super) fn began(&mut self, session: &Session, timecode_ms: u64) -> String {
        let number = self.number();
        if let Some(stream) = self.streams.get_mut(&session.stream)
            && let Some(id) = self.poison.take()
        {
            stream.poisoned.insert(timecode_ms, id);
        }
        format!("913438523331{number:035}")
    }

    /// A fragment is all there; an error if it is one that is never taken.
    pub(super) fn received(&mut self, session: &Session, number: &str, media: Media) -> Result<(), u32> {
        let Session { id, stream, .. } = session;
        let (time, bytes, pictures, sounds) = (media.timecode_ms, media.bytes, media.pictures, media.sounds);
        self.tell(|| {
            format!("session {id} of {stream}: fragment {time}: {pictures} pictures, {sounds} sounds, {bytes} bytes")
        });
        let Some(stream) = self.streams.get_mut(&session.stream) else { return Ok(()) };
        if let Some(id) = stream.poisoned.get(&media.timecode_ms) {
            return Err(*id);
        }
        let fragment = StoredFragment::new(session.id, number.to_owned(), media, clock::utc().unix_nanos());
        bounded(&mut stream.fragments, fragment, FRAGMENTS_MAX);
        Ok(())
    }

    /// A fragment is PERSISTED.
    pub(super) fn persisted(&mut self, session: &Session, number: &str) {
        let fragments = self.streams.get_mut(&session.stream).into_iter().flat_map(|stream| &mut stream.fragments);
        if let Some(fragment) = fragments.rev().find(|fragment| fragment.number == number) {
            fragment.persisted_utc_nanos = Some(clock::utc().unix_nanos());
            let (time, lag) = (fragment.timecode_ms, fragment.persisted_lag_ms());
            let lag = lag.map_or(String::new(), |lag| format!(", {lag} ms after its first picture was made"));
            self.tell(|| format!("session {} of {}: fragment {time} PERSISTED{lag}", session.id, session.stream));
        }
    }

    pub(super) fn ended(&mut self, session: &Session, connection: u64, end: PutEnd, bytes: u64) {
        self.tell(|| format!("session {} of {} ends: {end:?}", session.id, session.stream));
        let Some(stream) = self.streams.get_mut(&session.stream) else { return };
        stream.active.remove(&connection);
        if let Some(log) = stream.sessions.iter_mut().rev().find(|log| log.id == session.id) {
            log.ended_utc_nanos = Some(clock::utc().unix_nanos());
            (log.end, log.bytes) = (Some(end), bytes);
        }
    }

    /// Where to send a stream's media.
    pub(super) fn data_endpoint(&mut self, name: &str, now: Instant) -> Result<String, Refusal> {
        let limit = self.limits.calls_per_second;
        let stream = self.streams.get_mut(name).ok_or_else(|| missing(name))?;
        is_within(&mut stream.endpoints, limit, now)?;
        Ok(self.data_url.clone())
    }

    /// The hours that a stream keeps its data.
    pub(super) fn retention_hours(&self, name: &str) -> Result<u32, Refusal> {
        self.streams.get(name).map(|_| self.limits.retention_hours).ok_or_else(|| missing(name))
    }

    pub(super) fn create(&mut self, name: &str, request: String) -> Result<(), Refusal> {
        if self.streams.contains_key(name) {
            return Err(Refusal::new(400, "ResourceInUseException", format!("{name} is there already")));
        }
        self.streams.insert(name.to_owned(), Stream { creation: Some(request), ..Stream::default() });
        Ok(())
    }

    pub(super) fn give_credentials(&mut self) -> String {
        self.keys.give(self.limits.credentials_life, clock::utc())
    }

    pub(super) fn refuse(&mut self, path: &str, refusal: &Refusal) {
        let Refusal { status, name, message } = refusal.clone();
        self.tell(|| format!("{path} refused: {status} {name}: {message}"));
        let refused = Refused { utc_nanos: clock::utc().unix_nanos(), path: path.to_owned(), status, name, message };
        bounded(&mut self.refused, refused, LOG_MAX);
    }

    pub(super) fn uploaded(&mut self, name: &str, bytes: u64, frames: u64) {
        let upload = self.uploads.entry(name.to_owned()).or_default();
        upload.bytes += bytes;
        upload.frames += frames;
    }

    pub(super) fn fragments(&self, stream: &str) -> Vec<StoredFragment> {
        self.streams.get(stream).map(|stream| stream.fragments.iter().cloned().collect()).unwrap_or_default()
    }

    pub(super) fn sessions(&self, stream: &str) -> Vec<PutLog> {
        self.streams.get(stream).map(|stream| stream.sessions.iter().cloned().collect()).unwrap_or_default()
    }

    pub(super) fn refused(&self) -> Vec<Refused> {
        self.refused.iter().cloned().collect()
    }

    pub(super) fn credentials_given(&self) -> u64 {
        self.keys.given()
    }

    pub(super) fn streams(&self) -> Vec<String> {
        self.streams.keys().cloned().collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The CreateStream request that made a stream, if one did.
    pub(super) fn creation(&self, stream: &str) -> Option<String> {
        self.streams.get(stream)?.creation.clone()
    }

    pub(super) fn uploads(&self) -> Vec<(String, Upload)> {
        self.uploads.iter().map(|(name, upload)| (name.clone(), *upload)).collect()
    }
}

fn missing(name: &str) -> Refusal {
    Refusal::new(404, "ResourceNotFoundException", format!("there is no stream {name}"))
}

/// Notes a call, unless there were too many within a second.
fn is_within(calls: &mut VecDeque<Instant>, limit: usize, now: Instant) -> Result<(), Refusal> {
    calls.retain(|call| now.saturating_duration_since(*call) < Duration::from_secs(1));
    if calls.len() >= limit {
        return Err(Refusal::new(400, "ClientLimitExceededException", format!("more than {limit} calls in a second")));
    }
    calls.push_back(now);
    Ok(())
}

fn bounded<T>(log: &mut VecDeque<T>, entry: T, most: usize) {
    if log.len() >= most {
        log.pop_front();
    }
    log.push_back(entry);
}

//! The producer with its connections, its disk and the time: a thin shell around [`proto`](crate::proto).
//!
//! Nothing is spawned but blocking work on files: all of it runs where [`Producer::turn`] is awaited.

use std::{
    collections::{HashMap, VecDeque},
    fmt, io,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use relay_media::{Packet, UtcTime};
use tokio::{sync::mpsc, task::spawn_blocking};
use url::Url;

mod body;
mod connect;
mod connection;
mod store;

use body::Piece;
pub use connect::Network;
use connection::{Call, Told};
use store::{Job, Outcome, Store};

use crate::{
    Cloud, Create, Spool, SpoolError, SpoolSync,
    cloud::Stream,
    proto::{Failure, Input, Output, Scheduler, SessionId, Settings, SpoolMode, SpoolSettings, Stats},
};

/// What tells the time. The producer reads no clock of its own.
pub trait Time: fmt::Debug + Send + Sync + 'static {
    /// Monotonic time.
    fn now(&self) -> Instant;
    /// The time of day.
    fn utc(&self) -> UtcTime;
}

/// Where a producer sends what.
#[derive(Clone, Debug)]
pub struct Options {
    /// The stream's name.
    pub stream: String,
    /// Its region and our credentials.
    pub cloud: Arc<Cloud>,
    /// Whom to trust, and by which proxy to go.
    pub network: Network,
    /// Another control plane than AWS's, for tests. The data endpoint it names may be `http://`.
    pub endpoint: Option<Url>,
    /// How to make the stream where there is none.
    pub create: Option<Create>,
    /// How to behave. Its `spool` is set by the one here.
    pub settings: Settings,
    /// Where to keep what outgrows the window.
    pub spool: Option<SpoolOptions>,
}

/// A spool on disk.
#[derive(Clone, Debug)]
pub struct SpoolOptions {
    /// Its directory, for this stream alone.
    pub dir: PathBuf,
    /// The most bytes of fragments in it.
    pub max_bytes: u64,
    /// What goes there.
    pub mode: SpoolMode,
}

/// What a turn has to tell.
#[derive(Clone, Debug)]
pub enum Event {
    /// A fragment of so many packets was PERSISTED; so long after its first frame arrived, if that was in this life.
    Persisted {
        /// Its packets.
        packets: u32,
        /// Since its first frame arrived.
        lag: Option<Duration>,
    },
    /// A call failed or its connection ended: it is tried again by itself.
    Failed(Failure),
    /// A fragment is refused by the service for good and was set aside.
    SetAside {
        /// Its time.
        timecode_ms: u64,
    },
    /// The spool failed at something.
    Spool(Arc<SpoolError>),
    /// After [`Producer::stop`]: all is PERSISTED, on disk, or lost and counted.
    Done,
}

/// What can be seen of a producer.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// What the scheduler counts.
    pub stats: Stats,
    /// When the credentials in use end; `None` if never, or not known yet.
    pub credentials_end: Option<Instant>,
    /// How many seconds the service's clock is ahead of ours, where that matters.
    pub skew_seconds: i64,
    /// Whether the stream keeps what it gets; without, fragments are done with when they were received.
    pub retention: Option<bool>,
    /// The spool's last error.
    pub spool_error: Option<String>,
}

impl Seen {
    /// What a person should know of, in plain words: nothing of it ends the stream.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = self.stats.problems();
        problems.extend(self.spool_error.as_ref().map(|error| format!("the spool can't be used: {error}")));
        if self.retention == Some(false) {
            problems.push("the stream keeps no data (its retention is 0): what it gets can't be read back".to_owned());
        }
        if self.skew_seconds != 0 {
            let which = if self.skew_seconds > 0 { "behind" } else { "ahead of" };
            let seconds = self.skew_seconds.unsigned_abs();
            problems
                .push(format!("this machine's clock is {seconds} s {which} the service's; signatures allow for it"));
        }
        problems
    }
}

/// Pieces on their way into a body: a header and a fragment.
const PIECES: usize = 2;
/// What calls have told and nobody has heard yet.
const TOLD: usize = 64;

/// The producer of one stream.
pub struct Producer {
    scheduler: Scheduler,
    stream: Arc<Stream>,
    name: Arc<str>,
    network: Network,
    time: Arc<dyn Time>,
    store: Option<Store>,
    calls: FuturesUnordered<BoxFuture<'static, (SessionId, Option<Failure>)>>,
    bodies: HashMap<SessionId, Body>,
    told_by: mpsc::Sender<(SessionId, Told)>,
    told: mpsc::Receiver<(SessionId, Told)>,
    events: VecDeque<Event>,
    seen: Seen,
}

/// The way into a call, and the way to end it.
struct Body {
    pieces: Option<mpsc::Sender<Piece>>,
    _abort: tokio::sync::oneshot::Sender<()>,
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("stream", &self.name).finish_non_exhaustive()
    }
}

impl Producer {
    /// A producer that goes on from what its spool holds. Nothing is connected before there is something to send.
    ///
    /// # Errors
    /// The spool can't be opened.
    pub async fn open(options: Options, time: Arc<dyn Time>) -> Result<Self, SpoolError> {
        let mut settings = options.settings;
        let (mut store, mut found) = (None, crate::Found::default());
        settings.spool = None;
        if let Some(spool) = options.spool {
            let sync = match spool.mode {
                SpoolMode::Always => SpoolSync::EachFragment,
                SpoolMode::Overflow => SpoolSync::Segments,
            };
            settings.spool = Some(SpoolSettings { max_bytes: spool.max_bytes, mode: spool.mode });
            let dir = spool.dir.clone();
            let opened = spawn_blocking(move || Spool::open(spool.dir, sync)).await;
            let panicked = |error| SpoolError { path: dir, source: io::Error::other(error) };
            let (spool, left) = opened.map_err(panicked)??;
            (store, found) = (Some(Store::new(spool)), left);
        }
        let (told_by, told) = mpsc::channel(TOLD);
        let mut producer = Self {
            scheduler: Scheduler::new(settings, found.fragments, found.high_water_ms),
            name: options.stream.as_str().into(),
            stream: Arc::new(Stream::new(options.cloud, options.stream, options.endpoint, options.create)),
            network: options.network,
            time,
            store,
            calls: FuturesUnordered::new(),
            bodies: HashMap::new(),
            told_by,
            told,
            events: VecDeque::new(),
            seen: Seen::default(),
        };
        let now = producer.time.now();
        producer.scheduler.handle_timeout(now);
        producer.perform();
        Ok(producer)
    }

    /// Takes a packet. Never blocks.
    pub fn push(&mut self, packet: Arc<Packet>) {
        self.input(Input::Packet(packet));
    }

    /// The stream has ended: goes on until all is PERSISTED or on disk, for as long as `patience`.
    pub fn stop(&mut self, patience: Duration) {
        let deadline = self.time.now() + patience;
        self.input(Input::Stop { deadline });
    }

    /// Works until there is something to tell. May be dropped and called again at any point.
    pub async fn turn(&mut self) -> Event {
        loop {
            if let Some(event) = self.events.pop_front() {
                return event;
            }
            let timeout = self.scheduler.poll_timeout();
            let timer = async {
                match timeout {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            let store = async {
                match &mut self.store {
                    Some(store) => store.work().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                Some((id, told)) = self.told.recv() => self.hear(id, told),
                Some((id, failure)) = self.calls.next(), if !self.calls.is_empty() => self.call_ended(id, failure),
                outcomes = store => outcomes.into_iter().for_each(|outcome| self.stored(outcome)),
                () = timer => {
                    let now = self.time.now();
                    self.scheduler.handle_timeout(now);
                    self.perform();
                }
            }
        }
    }

    /// What can be seen of it.
    pub fn seen(&self) -> Seen {
        Seen { stats: self.scheduler.stats(), ..self.seen.clone() }
    }

    fn input(&mut self, input: Input<'_>) {
        let now = self.time.now();
        self.scheduler.handle_input(now, input);
        self.perform();
    }

    fn hear(&mut self, id: SessionId, told: Told) {
        if !self.bodies.contains_key(&id) {
            return;
        }
        match told {
            Told::Prepared { life, skew_seconds, retention } => {
                self.seen.credentials_end = life.and_then(|life| self.time.now().checked_add(life));
                self.seen.skew_seconds = skew_seconds;
                self.seen.retention = retention;
                if let Some(retains) = retention {
                    self.input(Input::Retains(retains));
                }
            }
            Told::Accepted(life) => self.input(Input::Accepted(id, life)),
            Told::Progress => self.input(Input::Progress(id)),
            Told::Written => self.input(Input::Written(id)),
            Told::Acks(bytes) => self.input(Input::Acks(id, &bytes)),
        }
    }

    fn call_ended(&mut self, id: SessionId, failure: Option<Failure>) {
        // What it told before its end.
        while let Ok((id, told)) = self.told.try_recv() {
            self.hear(id, told);
        }
        if self.bodies.remove(&id).is_some() {
            self.input(Input::Closed(id, failure));
        }
    }

    fn stored(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Stored(timecode_ms) => {
                self.seen.spool_error = None;
                self.input(Input::Stored(timecode_ms));
            }
            Outcome::NotStored(timecode_ms, error) => {
                self.spool_failed(error);
                self.input(Input::NotStored(timecode_ms));
            }
            Outcome::Read(id, bytes) => self.piece(id, Piece::Fragment(vec![bytes])),
            Outcome::Unreadable(timecode_ms, error) => {
                self.spool_failed(error);
                self.input(Input::Unreadable(timecode_ms));
            }
            Outcome::Failed(error) => self.spool_failed(error),
            Outcome::NotSynced(error) => {
                self.spool_failed(error);
                self.events.push_back(Event::Done);
            }
            Outcome::Synced => self.events.push_back(Event::Done),
        }
    }

    fn spool_failed(&mut self, error: SpoolError) {
        self.seen.spool_error = Some(error.to_string());
        self.events.push_back(Event::Spool(Arc::new(error)));
    }

    fn perform(&mut self) {
        while let Some(output) = self.scheduler.poll_output() {
            match output {
                Output::Open { session, start_ms, refresh, .. } => self.call(session, start_ms, refresh),
                Output::Begin(id, header) => self.piece(id, Piece::Begin(header)),
                Output::Send(id, fragment) => self.piece(id, Piece::Fragment(fragment.body.clone())),
                Output::SendSpooled(id, timecode_ms) => self.job(Job::Read(id, timecode_ms)),
                // The body ends when nobody can write to it any more.
                Output::Finish(id) => {
                    if let Some(body) = self.bodies.get_mut(&id) {
                        body.pieces = None;
                    }
                }
                Output::Abort(id) => drop(self.bodies.remove(&id)),
                Output::Store(fragment) => self.job(Job::Store(fragment)),
                Output::Forget(timecode_ms) => self.job(Job::Forget(timecode_ms)),
                Output::SetAside(timecode_ms, fragment) => {
                    self.job(Job::SetAside(timecode_ms, fragment));
                    self.events.push_back(Event::SetAside { timecode_ms });
                }
                Output::Mark(mark) => self.job(Job::Mark(mark)),
                Output::Persisted { packets, lag, .. } => self.events.push_back(Event::Persisted { packets, lag }),
                Output::Failed(failure) => self.events.push_back(Event::Failed(failure)),
                Output::Done if self.store.is_some() => self.job(Job::Sync),
                Output::Done => self.events.push_back(Event::Done),
            }
        }
    }

    fn job(&mut self, job: Job) {
        if let Some(store) = &mut self.store {
            store.push(job);
        }
    }

    fn piece(&mut self, id: SessionId, piece: Piece) {
        let pieces = self.bodies.get(&id).and_then(|body| body.pieces.as_ref());
        // There is room: a fragment is given only when the one before was taken.
        if let Some(pieces) = pieces {
            let _ = pieces.try_send(piece);
        }
    }

    fn call(&mut self, id: SessionId, start_ms: u64, refresh: crate::proto::Refresh) {
        let (pieces, taken) = mpsc::channel(PIECES);
        let (abort, aborted) = tokio::sync::oneshot::channel();
        let call = Call {
            id,
            start_ms,
            refresh,
            is_alone: self.bodies.is_empty(),
            stream: self.stream.clone(),
            name: self.name.clone(),
            network: self.network.clone(),
            time: self.time.clone(),
            pieces: taken,
            told: self.told_by.clone(),
        };
        self.bodies.insert(id, Body { pieces: Some(pieces), _abort: abort });
        self.calls.push(Box::pin(async move {
            tokio::select! {
                ended = call.run() => ended,
                // Nobody holds the other end any more.
                _ = aborted => (id, None),
            }
        }));
    }
}

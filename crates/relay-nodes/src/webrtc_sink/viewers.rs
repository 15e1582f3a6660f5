//! How sessions begin, change and end: the handle that an HTTP server holds.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use relay_graph::{Clock, SourceMonitor, SourceState};
use relay_media::Kind;
use relay_webrtc::{FragmentError, Media, Packetizer, Port, Refusal, SessionSettings, answer};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::{
    Command, Newcomer,
    roster::{Roster, Row, SessionId, ViewerSnapshot},
};

/// How many may watch at once, all streams together. A handle: clones share the places.
#[derive(Clone, Debug)]
pub struct Places(Arc<Semaphore>);

impl Places {
    /// So many.
    pub fn new(count: usize) -> Self {
        Self(Arc::new(Semaphore::new(count.min(Semaphore::MAX_PERMITS))))
    }

    fn take(&self) -> Option<OwnedSemaphorePermit> {
        self.0.clone().try_acquire_owned().ok()
    }
}

/// The places that a session holds until it is dropped: one of the stream's, one of all.
#[derive(Debug)]
pub(super) struct Seat {
    _stream: OwnedSemaphorePermit,
    _process: OwnedSemaphorePermit,
}

/// The viewers of one stream. A handle: clones are the same viewers.
#[derive(Clone, Debug)]
pub struct Viewers(pub(super) Arc<Shared>);

/// What the handle and the stream's task share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) port: Port,
    pub(super) lane: relay_webrtc::Lane,
    pub(super) roster: Roster,
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) certificate: relay_webrtc::Certificate,
    pub(super) stream_places: Places,
    pub(super) process_places: Places,
    /// Known once the task runs.
    pub(super) running: Mutex<Option<Running>>,
}

/// What the task runs with.
#[derive(Clone, Debug)]
pub(super) struct Running {
    pub(super) clock: Clock,
    pub(super) source: Arc<SourceMonitor>,
}

/// A session that has begun.
#[derive(Clone, Debug)]
pub struct Opened {
    /// Its unguessable name.
    pub id: SessionId,
    /// The answer, SDP.
    pub answer: String,
}

/// Why a session was not begun.
#[derive(Clone, Debug, thiserror::Error)]
pub enum OpenError {
    /// The source is away; it may be worth asking again then.
    #[error("the stream is not live: {cause}")]
    NotLive {
        /// When its source tries next, about.
        retry_after: Duration,
        /// Why it is not live, in plain words.
        cause: String,
    },
    /// There are as many viewers as may be.
    #[error("as many viewers as are allowed watch {what} already")]
    Full {
        /// When it may be worth asking again.
        retry_after: Duration,
        /// `"this stream"` or `"this server"`.
        what: &'static str,
    },
    /// Nothing of this stream can be sent to this viewer.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The stream is being stopped.
    #[error("the stream is being stopped")]
    Stopping,
}

/// Why a session was not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// There is no such session.
    #[error("there is no such session: it has ended, or never was")]
    Unknown,
    /// The fragment says nothing that can be done.
    #[error(transparent)]
    Fragment(#[from] FragmentError),
}

/// A source that is away without a next try in sight is asked for again after this.
const RETRY_LIVE: Duration = Duration::from_secs(2);

/// Viewers leave when they like; this is as good a guess as any.
const RETRY_FULL: Duration = Duration::from_secs(10);

impl Viewers {
    /// Begins a session for `offer`, an SDP offer as WHEP has it.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open(&self, offer: &str) -> Result<Opened, OpenError> {
        let shared = &self.0;
        let Some(Running { clock, source }) = shared.running() else {
            return Err(OpenError::NotLive { retry_after: RETRY_LIVE, cause: "it is starting".into() });
        };
        let opened = clock.now();
        let media = live_media(&source)?;
        let full = |what| OpenError::Full { retry_after: RETRY_FULL, what };
        let seat = Seat {
            _stream: shared.stream_places.take().ok_or_else(|| full("this stream"))?,
            _process: shared.process_places.take().ok_or_else(|| full("this server"))?,
        };
        let registration = shared.lane.register();
        let candidates = shared.port.candidates();
        let settings =
            SessionSettings { ufrag: registration.ufrag(), candidates: &candidates, certificate: &shared.certificate };
        let (session, answer) = answer(offer, &media, &settings, opened)?;
        let id = SessionId::generate().ok_or(OpenError::Stopping)?;
        let row = Row::new(ViewerSnapshot::new(tag_of(&registration), clock.utc()));
        row.write().stages.answer = Some(clock.now().saturating_duration_since(opened));
        // Nothing is awaited once it is on the roster: whoever asked may hang up, and nobody would take it off again.
        let place = shared.commands.reserve().await.map_err(|_| OpenError::Stopping)?;
        shared.roster.enter(id.clone(), row.clone());
        let newcomer = Newcomer { id: id.clone(), session, registration, row, opened, candidates, seat };
        place.send(Command::Open(Box::new(newcomer)));
        Ok(Opened { id, answer })
    }

    /// Gives a session more of its viewer's candidates (RFC 8840).
    ///
    /// # Errors
    /// See [`PatchError`].
    pub async fn trickle(&self, id: &SessionId, fragment: String) -> Result<(), PatchError> {
        if !self.0.roster.contains(id) {
            return Err(PatchError::Unknown);
        }
        let (reply, told) = oneshot::channel();
        let command = Command::Trickle { id: id.clone(), fragment, reply };
        self.0.commands.send(command).await.map_err(|_| PatchError::Unknown)?;
        told.await.map_err(|_| PatchError::Unknown)?.ok_or(PatchError::Unknown)?.map_err(PatchError::Fragment)
    }

    /// Ends a session; whether there was one.
    pub async fn close(&self, id: &SessionId) -> bool {
        if !self.0.roster.contains(id) {
            return false;
        }
        let (reply, told) = oneshot::channel();
        let command = Command::Close { id: id.clone(), reply };
        self.0.commands.send(command).await.is_ok() && told.await.unwrap_or(false)
    }

    /// Sessions now, those that are still connecting included.
    pub fn count(&self) -> usize {
        self.0.roster.len()
    }

    /// Sessions that receive media now.
    pub fn connected(&self) -> usize {
        self.0.roster.connected()
    }

    /// Every viewer now, and those that ended within the last minute.
    pub fn snapshot(&self) -> Vec<ViewerSnapshot> {
        self.0.running().map(|running| self.0.roster.snapshot(running.clock.now())).unwrap_or_default()
    }

    /// One viewer now, or as it was when it ended within the last minute.
    pub fn diagnose(&self, id: &SessionId) -> Option<ViewerSnapshot> {
        self.0.running().and_then(|running| self.0.roster.find(id, running.clock.now()))
    }

    /// Sessions that have ended since the process started, by how: `"closed"` by either side, `"vanished"`,
    /// `"never_connected"`, `"failed"`.
    pub fn ends(&self) -> BTreeMap<&'static str, u64> {
        self.0.roster.ends()
    }
}

impl Shared {
    pub(super) fn running(&self) -> Option<Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What the stream carries, if it does now: its video and the first sound that a browser takes.
fn live_media(source: &SourceMonitor) -> Result<Media, OpenError> {
    let snapshot = source.snapshot();
    if snapshot.state != SourceState::Live {
        let retry_after = snapshot.next_try.unwrap_or(RETRY_LIVE).max(Duration::from_millis(500));
        let cause = match snapshot.last_error {
            Some(error) => format!("its source is {}: {error}", snapshot.state.as_str()),
            None => format!("its source is {}", snapshot.state.as_str()),
        };
        return Err(OpenError::NotLive { retry_after, cause });
    }
    let of_kind = |kind| snapshot.tracks.iter().filter(move |track| track.track.kind() == kind);
    let video = of_kind(Kind::Video).next();
    let audio =
        of_kind(Kind::Audio).find(|track| Packetizer::carries(&track.track.codec)).or(of_kind(Kind::Audio).next());
    Ok(Media {
        video: video.map(|track| track.track.clone()),
        audio: audio.map(|track| track.track.clone()),
        reordered: video.is_some_and(|track| track.reordered),
    })
}

/// The beginning of the name that is on the wire anyway: tells viewers apart and opens nothing.
fn tag_of(registration: &relay_webrtc::Registration) -> String {
    registration.ufrag().chars().take(8).collect()
}

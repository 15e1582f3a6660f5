//! One simulated camera: its endless film, its faults, and the truth about what it sent.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tokio::sync::watch;

use crate::Clip;

/// What is wrong with a camera.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// Its process is gone: connections are reset and new ones refused.
    Gone,
    /// It answers requests and sends no media.
    Frozen,
    /// It answers every DESCRIBE with this status.
    Status(u16),
    /// It answers with bytes that are no RTSP.
    Garbage,
    /// Key frames are left out.
    NoKeyFrames,
    /// Every picture has the same timestamp.
    TimestampsFrozen,
    /// This many of 1000 RTP packets are lost.
    Loss(u32),
}

/// How a camera is set up.
#[derive(Clone, Debug)]
pub struct CameraOptions {
    /// What it shows.
    pub clip: Arc<Clip>,
    /// User and password, if it wants them (Digest, RFC 2617).
    pub credentials: Option<(String, String)>,
    /// Whether the session description holds the parameter sets.
    pub sprop: bool,
    /// Whether it has a microphone: a tone in A-law.
    pub audio: bool,
}

impl CameraOptions {
    /// A camera that shows `clip` to everybody.
    pub fn new(clip: Arc<Clip>) -> Self {
        Self { clip, credentials: None, sprop: true, audio: false }
    }
}

/// What a camera sent in one session: pictures `first..=last`, all of them, beginning with a key frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SentSession {
    /// When PLAY was answered, nanoseconds since the Unix epoch.
    pub played_utc_nanos: i64,
    /// When the first picture, a key frame, was sent.
    pub first_utc_nanos: i64,
    /// The counter of the first picture.
    pub first: u64,
    /// The counter of the newest picture sent whole.
    pub last: u64,
}

/// Sessions remembered per camera.
const MAX_SESSIONS: usize = 4_096;

/// A camera's state, shared by its connections and whoever disturbs it.
#[derive(Debug)]
pub struct Camera {
    pub(crate) options: CameraOptions,
    clip: Mutex<Arc<Clip>>,
    started: Instant,
    fault: watch::Sender<Fault>,
    sessions: Mutex<VecDeque<SentSession>>,
}

impl Camera {
    /// A camera that has just been switched on.
    pub fn new(options: CameraOptions) -> Self {
        Self {
            clip: Mutex::new(options.clip.clone()),
            options,
            started: Instant::now(),
            fault: watch::Sender::new(Fault::None),
            sessions: Mutex::default(),
        }
    }

    /// Breaks or mends the camera, at once.
    pub fn set_fault(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }

    /// What is wrong with it now.
    pub fn fault(&self) -> Fault {
        self.fault.borrow().clone()
    }

    /// Shows another clip to sessions that begin from now on (a camera restarted with other settings).
    pub fn set_clip(&self, clip: Arc<Clip>) {
        *lock(&self.clip) = clip;
    }

    /// The sessions so far, oldest first; the newest 4096 are kept.
    pub fn sessions(&self) -> Vec<SentSession> {
        lock(&self.sessions).iter().copied().collect()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Fault> {
        self.fault.subscribe()
    }

    pub(crate) fn clip(&self) -> Arc<Clip> {
        lock(&self.clip).clone()
    }

    /// The counter of the picture that is due at `now`; counters rise by one a frame for as long as the camera lives.
    pub(crate) fn counter_at(&self, now: Instant, fps: u32) -> u64 {
        let nanos = now.saturating_duration_since(self.started).as_nanos();
        u64::try_from(nanos * u128::from(fps) / 1_000_000_000).unwrap_or(u64::MAX)
    }

    /// When picture `counter` is due.
    pub(crate) fn due(&self, counter: u64, fps: u32) -> Instant {
        let nanos = u128::from(counter) * 1_000_000_000 / u128::from(fps.max(1)) + 1;
        self.started + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    pub(crate) fn session_began(&self, session: SentSession) {
        let mut sessions = lock(&self.sessions);
        if sessions.len() == MAX_SESSIONS {
            sessions.pop_front();
        }
        sessions.push_back(session);
    }

    /// Picture `counter` of the session that began with `first` was sent whole.
    pub(crate) fn sent(&self, first: u64, counter: u64) {
        if let Some(session) = lock(&self.sessions).iter_mut().rev().find(|session| session.first == first) {
            session.last = session.last.max(counter);
        }
    }
}

/// Now, in nanoseconds since the Unix epoch.
pub fn utc_nanos() -> i64 {
    let passed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(passed.as_nanos()).unwrap_or(i64::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

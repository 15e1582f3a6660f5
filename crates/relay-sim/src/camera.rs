//! A camera: its configuration, what is wrong with it at the moment, and the handle that changes that.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use crate::{
    audio::Audio,
    auth::Auth,
    clip::Clip,
    fault::{Condition, Event, Fault, Step, Trouble},
    locked,
    stage::Stage,
    truth::SessionLog,
};

/// What a camera is.
#[derive(Clone, Debug)]
pub struct CameraConfig {
    /// What it plays first, and what [`Event::Clip`] can change it to.
    pub clips: Vec<Arc<Clip>>,
    /// Its sound.
    pub audio: Audio,
    /// Who may watch.
    pub auth: Auth,
    /// What a viewer gets first.
    pub join: Join,
    /// Which transports it grants.
    pub transports: Transports,
    /// What will go wrong, and when.
    pub script: Vec<Step>,
    /// Sessions without a request or report for this long are dropped (RFC 2326 §12.37); `None`: never.
    pub session_timeout: Option<Duration>,
    /// Where chance begins for packet loss and the like.
    pub seed: u64,
}

impl CameraConfig {
    /// A healthy, open camera that plays the first of `clips`, without sound.
    pub fn new(clips: Vec<Arc<Clip>>) -> Self {
        Self {
            clips,
            audio: Audio::None,
            auth: Auth::Open,
            join: Join::KeyFrame,
            transports: Transports::Both,
            script: Vec::new(),
            session_timeout: None,
            seed: 1,
        }
    }
}

/// What a viewer gets first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Join {
    /// The next key frame.
    KeyFrame,
    /// The next frame, whatever it is, as many servers do.
    AnyFrame,
}

/// Which transports a camera grants; the others are answered with 461.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transports {
    /// TCP and UDP.
    Both,
    /// Interleaved only.
    TcpOnly,
    /// UDP only.
    UdpOnly,
}

/// Changes a camera while it runs, and tells what it sent. Clones are the same camera; it outlives the farm.
#[derive(Clone, Debug)]
pub struct CameraHandle {
    pub(crate) camera: Arc<Camera>,
}

impl CameraHandle {
    /// Where it can be watched, with its credentials in the URL if it wants any.
    pub fn url(&self) -> String {
        let user = match &locked(&self.camera.control).auth {
            Auth::Open => String::new(),
            Auth::Basic(who) | Auth::Digest(who) => format!("{}:{}@", who.user, who.password),
        };
        format!("rtsp://{user}{}/{}", self.camera.address, self.camera.mount)
    }

    /// As [`url`](Self::url), without credentials.
    pub fn open_url(&self) -> String {
        format!("rtsp://{}/{}", self.camera.address, self.camera.mount)
    }

    /// Makes `fault` so for a time, or with `None` until [`clear`](Self::clear) or [`end`](Self::end).
    pub fn inject(&self, fault: Fault, lasting: Option<Duration>) {
        self.happen(Trouble::Fault(fault, lasting));
    }

    /// Makes `event` happen before the next frame.
    pub fn trigger(&self, event: Event) {
        self.happen(Trouble::Event(event));
    }

    /// What a line of a script says, now.
    pub fn happen(&self, trouble: Trouble) {
        self.camera.happen(trouble, Instant::now());
    }

    /// Ends one fault, however often it was injected.
    pub fn end(&self, fault: Fault) {
        locked(&self.camera.control).faults.retain(|(active, _)| *active != fault);
        self.camera.changed.notify_one();
    }

    /// Ends every fault.
    pub fn clear(&self) {
        self.trigger(Event::Clear);
    }

    /// Changes who may watch from the next request on; those who watch go on.
    pub fn set_auth(&self, auth: Auth) {
        locked(&self.camera.control).auth = auth;
    }

    /// Adds a clip for [`Event::Clip`] and returns its index.
    pub fn add_clip(&self, clip: Arc<Clip>) -> usize {
        let mut control = locked(&self.camera.control);
        control.clips.push(clip);
        control.clips.len() - 1
    }

    /// The counter that the next frame will carry.
    pub fn counter(&self) -> u64 {
        locked(&self.camera.stage).next_counter()
    }

    /// What was sent whole, per session, oldest first; the log is bounded.
    pub fn sent(&self) -> Vec<SessionLog> {
        locked(&self.camera.stage).truth.sessions()
    }

    /// Sessions that play now.
    pub fn viewers(&self) -> usize {
        locked(&self.camera.stage).viewers()
    }

    /// Sessions given up because they read too slowly.
    pub fn slow_readers(&self) -> u64 {
        locked(&self.camera.stage).truth.slow
    }

    /// TCP connections that reached this camera with a request.
    pub fn requests(&self) -> u64 {
        locked(&self.camera.control).requests
    }
}

/// The camera itself, shared between the farm's thread and its handles.
#[derive(Debug)]
pub(crate) struct Camera {
    pub(crate) mount: String,
    pub(crate) address: SocketAddr,
    pub(crate) audio: Audio,
    pub(crate) transports: Transports,
    pub(crate) session_timeout: Option<Duration>,
    pub(crate) control: Mutex<Control>,
    pub(crate) stage: Mutex<Stage>,
    /// Told to the listener: it may have to close or open its port.
    pub(crate) changed: Notify,
}

/// What is changed from outside.
#[derive(Debug)]
pub(crate) struct Control {
    pub(crate) auth: Auth,
    pub(crate) clips: Vec<Arc<Clip>>,
    pub(crate) requests: u64,
    faults: Vec<(Fault, Option<Instant>)>,
    events: Vec<Event>,
    /// Steps still to come, latest first.
    script: Vec<Step>,
    started: Instant,
}

/// Faults at once; more are not taken.
const MAX_FAULTS: usize = 64;

impl Camera {
    pub(crate) fn new(config: CameraConfig, address: SocketAddr, mount: String, started: Instant) -> Self {
        let mut script = config.script;
        script.sort_by_key(|step| std::cmp::Reverse(step.at));
        let clip = config.clips.first().cloned();
        Self {
            mount,
            address,
            audio: config.audio,
            transports: config.transports,
            session_timeout: config.session_timeout,
            stage: Mutex::new(Stage::new(clip, config.audio, config.join, config.seed, started)),
            control: Mutex::new(Control {
                auth: config.auth,
                clips: config.clips,
                requests: 0,
                faults: Vec::new(),
                events: Vec::new(),
                script,
                started,
            }),
            changed: Notify::new(),
        }
    }

    fn happen(&self, trouble: Trouble, now: Instant) {
        locked(&self.control).happen(trouble, now);
        self.changed.notify_one();
    }

    /// What is wrong at `now`, after the steps of the script that are due.
    pub(crate) fn condition(&self, now: Instant) -> Condition {
        let (condition, changed) = locked(&self.control).condition(now);
        if changed {
            self.changed.notify_one();
        }
        condition
    }

    pub(crate) fn take_events(&self) -> Vec<Event> {
        std::mem::take(&mut locked(&self.control).events)
    }
}

impl Control {
    fn happen(&mut self, trouble: Trouble, now: Instant) {
        match trouble {
            Trouble::Fault(fault, lasting) if self.faults.len() < MAX_FAULTS => {
                self.faults.push((fault, lasting.map(|lasting| now + lasting)));
            }
            Trouble::Fault(..) => {}
            Trouble::Event(Event::Clear) => self.faults.clear(),
            Trouble::Event(event) if self.events.len() < MAX_FAULTS => self.events.push(event),
            Trouble::Event(_) => {}
        }
    }

    fn condition(&mut self, now: Instant) -> (Condition, bool) {
        let mut changed = false;
        while let Some(step) = self.script.pop_if(|step| self.started + step.at <= now) {
            self.happen(step.trouble, now);
            changed = true;
        }
        self.faults.retain(|(_, until)| until.is_none_or(|until| now < until));
        (self.faults.iter().fold(Condition::default(), |all, (fault, _)| all.with(*fault)), changed)
    }
}

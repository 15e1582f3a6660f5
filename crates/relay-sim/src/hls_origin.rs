//! A live HLS origin that can be told to misbehave, and that knows what could be had of it and what was.
//!
//! It plays a [`Clip`] for each variant, whose frames carry the same counter, and makes segments of them when they are
//! asked for. One thread serves it.

mod fault;
mod fmp4;
mod ledger;
mod media;
mod playlist;
mod programme;
mod reply;
mod server;
mod sound;
mod ts;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, mpsc},
    thread::JoinHandle,
};

use tokio::{sync::Notify, time::Instant};

pub use fault::{OriginEvent, OriginFault, OriginLine, OriginLineError, OriginTrouble, Requests};
pub use ledger::SegmentLog;
pub use media::Container;

use crate::{clip::Clip, clock, locked};
use fault::{Condition, Troubles};
use ledger::Ledger;
use media::Studio;
use programme::{Pace, Programme};

/// What an origin is.
#[derive(Clone, Debug)]
pub struct OriginConfig {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// What its variants play, the best first: of the same frame rate and groups of pictures.
    pub variants: Vec<Arc<Clip>>,
    /// What segments are.
    pub container: Container,
    /// Silent AAC beside the pictures.
    pub has_audio: bool,
    /// Frames in a segment: whole groups of pictures.
    pub segment_frames: u64,
    /// Segments listed.
    pub window: usize,
    /// A master playlist is where clients begin; else the first variant's playlist is.
    pub has_master: bool,
    /// URLs beyond the master playlist carry a signature, which can expire.
    pub is_signed: bool,
    /// Segments to a key of AES-128; `None` for no encryption.
    pub key_segments: Option<u64>,
    /// Segments are byte ranges of files of so many, at most eight; `None` for files of their own.
    pub file_segments: Option<u64>,
    /// Low latency: frames in a part, of which a segment has 64 at most. Neither with keys nor with byte ranges.
    pub part_frames: Option<u64>,
    /// EXT-X-PROGRAM-DATE-TIME before each segment.
    pub has_wall: bool,
    /// Ranges of segments can be asked for.
    pub has_ranges: bool,
    /// What will go wrong, and when.
    pub script: Vec<OriginLine>,
    /// Where chance begins.
    pub seed: u64,
}

impl OriginConfig {
    /// A healthy origin on a free loopback port: MPEG-TS with sound, a group of pictures to a segment, six listed.
    pub fn local(variants: Vec<Arc<Clip>>) -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            segment_frames: variants.first().map_or(1, |clip| u64::from(clip.spec().gop_frames)),
            container: Container::Ts,
            has_audio: true,
            window: 6,
            has_master: variants.len() > 1,
            is_signed: false,
            key_segments: None,
            file_segments: None,
            part_frames: None,
            has_wall: true,
            has_ranges: true,
            script: Vec::new(),
            seed: 1,
            variants,
        }
    }

    fn pace(&self) -> io::Result<Pace> {
        let wrong = |what| io::Error::new(io::ErrorKind::InvalidInput, what);
        let first = self.variants.first().ok_or(wrong("no variant"))?;
        let (fps, gop) = (first.spec().fps, u64::from(first.spec().gop_frames));
        let fits = |clip: &Arc<Clip>| {
            let spec = clip.spec();
            spec.fps == fps && u64::from(spec.gop_frames) == gop && (clip.frames() as u64).is_multiple_of(gop.max(1))
        };
        if !self.variants.iter().all(fits)
            || self.segment_frames == 0
            || !self.segment_frames.is_multiple_of(gop.max(1))
        {
            return Err(wrong("segments are not whole groups of pictures"));
        }
        if self.part_frames.is_some_and(|frames| frames == 0 || !self.segment_frames.is_multiple_of(frames)) {
            return Err(wrong("a segment is not whole parts"));
        }
        if self.part_frames.is_some() && (self.key_segments.is_some() || self.file_segments.is_some()) {
            return Err(wrong("parts go neither with keys nor with byte ranges"));
        }
        if self.file_segments.is_some_and(|segments| segments == 0 || segments > programme::KEPT as u64) {
            return Err(wrong("a file has one to eight segments"));
        }
        Ok(Pace {
            fps: fps.get().into(),
            segment_frames: self.segment_frames,
            part_frames: self.part_frames,
            window: self.window.max(1),
            key_segments: self.key_segments,
        })
    }
}

/// A running origin. Dropping it closes its port and resets its clients.
#[derive(Debug)]
pub struct HlsOrigin {
    origin: Arc<Origin>,
    stop: Arc<Notify>,
    thread: Option<JoinHandle<()>>,
}

/// The origin itself, shared between its thread and its handle.
#[derive(Debug)]
pub(crate) struct Origin {
    config: OriginConfig,
    address: SocketAddr,
    studios: Vec<Studio>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    troubles: Troubles,
    condition: Condition,
    programme: Programme,
    ledger: Ledger,
    signature: u32,
    /// The status for old signatures.
    expired: u16,
    turns: u64,
    requests: u64,
    connections: usize,
}

impl HlsOrigin {
    /// Starts it; its port is bound when this returns, and its playlist full.
    ///
    /// # Errors
    /// The configuration makes no sense, the port cannot be bound, or there is no thread to be had.
    pub fn start(config: OriginConfig) -> io::Result<Self> {
        let stop = Arc::new(Notify::new());
        let (ready, bound) = mpsc::sync_channel(1);
        let stopped = stop.clone();
        let thread = std::thread::Builder::new().name("hls-origin".into()).spawn(move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(ready.send(Err(error))),
            };
            runtime.block_on(async {
                let begun = server::listen(config.listen).and_then(|listener| {
                    let origin = Origin::new(config, listener.local_addr()?)?;
                    Ok((Arc::new(origin), listener))
                });
                match begun {
                    Ok((origin, listener)) => {
                        if ready.send(Ok(origin.clone())).is_ok() {
                            server::run(origin, listener, &stopped).await;
                        }
                    }
                    Err(error) => drop(ready.send(Err(error))),
                }
            });
        })?;
        let origin = bound.recv().map_err(io::Error::other)??;
        Ok(Self { origin, stop, thread: Some(thread) })
    }

    /// The playlist to begin with.
    pub fn url(&self) -> String {
        let name = if self.origin.config.has_master { "master.m3u8" } else { "v0/index.m3u8" };
        format!("http://{}/live/{name}", self.origin.address)
    }

    /// What a line of a script says, now.
    pub fn happen(&self, trouble: OriginTrouble) {
        locked(&self.origin.state).troubles.happen(trouble, Instant::now());
        self.origin.advance(Instant::now());
    }

    /// Makes `fault` so until [`clear`](Self::clear) or [`end`](Self::end).
    pub fn inject(&self, fault: OriginFault) {
        self.happen(OriginTrouble::Fault(fault, None));
    }

    /// Makes `event` happen.
    pub fn trigger(&self, event: OriginEvent) {
        self.happen(OriginTrouble::Event(event));
    }

    /// Ends one fault.
    pub fn end(&self, fault: OriginFault) {
        locked(&self.origin.state).troubles.end(fault);
        self.origin.advance(Instant::now());
    }

    /// Ends every fault.
    pub fn clear(&self) {
        self.trigger(OriginEvent::Clear);
    }

    /// The counter of the frame that is due next.
    pub fn counter(&self) -> u64 {
        locked(&self.origin.state).programme.counter(Instant::now())
    }

    /// What was listed, oldest first, and what became of it; the log is bounded.
    pub fn segments(&self) -> Vec<SegmentLog> {
        locked(&self.origin.state).ledger.logs()
    }

    /// Requests that were answered, well or badly.
    pub fn requests(&self) -> u64 {
        locked(&self.origin.state).requests
    }

    /// Connections that are open. What was sent last is taken for received once its connection is closed in order.
    pub fn connections(&self) -> usize {
        locked(&self.origin.state).connections
    }
}

impl Drop for HlsOrigin {
    fn drop(&mut self) {
        self.stop.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Origin {
    fn new(config: OriginConfig, address: SocketAddr) -> io::Result<Self> {
        let pace = config.pace()?;
        let (now, script) = (Instant::now(), config.script.clone());
        let studio =
            |clip: &Arc<Clip>| Studio::new(clip.clone(), config.container, config.has_audio, config.part_frames);
        let studios = config.variants.iter().map(studio).collect::<io::Result<_>>()?;
        let mut ledger = Ledger::default();
        ledger.changed(now, true);
        let state = Mutex::new(State {
            troubles: Troubles::new(script, now),
            condition: Condition::default(),
            programme: Programme::new(pace, now, clock::utc().unix_nanos(), config.seed),
            ledger,
            signature: 1,
            expired: 403,
            turns: 0,
            requests: 0,
            connections: 0,
        });
        let origin = Self { config, address, studios, state };
        origin.advance(now);
        Ok(origin)
    }

    /// Lets time pass; true while nobody may connect.
    fn advance(&self, now: Instant) -> bool {
        let mut state = locked(&self.state);
        let state = &mut *state;
        let condition = state.troubles.condition(now);
        let events = state.troubles.take_events();
        for event in &events {
            if let OriginEvent::Expire(status) = event {
                state.signature += 1;
                state.expired = *status;
            }
        }
        state.programme.advance(now, &condition, &events);
        if condition != state.condition {
            state.ledger.changed(now, condition.is_healthy());
            state.condition = condition;
            state.turns = 0;
        }
        let parts = self.config.part_frames.map_or(1, |frames| self.config.segment_frames / frames);
        state.ledger.look(now, &state.programme.listing(now), parts);
        state.condition.has(OriginFault::Refuse)
    }

    /// Whether a segment, or a part of it, is listed.
    fn has(&self, now: Instant, number: u64, part: Option<u64>) -> bool {
        let listing = locked(&self.state).programme.listing(now);
        let end = listing.sequence + listing.segments.len() as u64;
        let parts = listing.open.map_or(0, |(_, parts)| parts);
        number < end || number == end && part.is_some_and(|part| part < parts)
    }
}

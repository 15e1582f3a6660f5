//! Lets browsers watch a stream: one task serves all of its viewers.
//!
//! Every viewer has a session (relay-webrtc) and a cursor of its own on the stream's ring, opened when it is connected
//! at the newest key frame. Packets are made ready for RTP once and shared. What a viewer's link does not take waits
//! in the ring, where its cursor leaks by itself: whole pictures, never later than `max_lag`.

mod diagnosis;
mod partings;
mod roster;
mod units;
mod viewer;
mod viewers;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use relay_graph::{NodeError, Sink, SinkContext, SinkDescription};
use relay_ring::{Cursor, LeakPolicy, Start};
use relay_webrtc::{
    Certificate, CertificateError, Datagram, FragmentError, Lane, LocalCandidate, Outbox, Port, Registration, Session,
    SessionKey,
};
use tokio::sync::{Mutex as AsyncMutex, mpsc, oneshot};

pub use roster::{JoinStages, SessionId, ViewerSnapshot};
pub use viewers::{OpenError, Opened, PatchError, Places, Viewers};

use partings::Partings;
use roster::{Roster, Row};
use units::Units;
use viewer::{Stream, Viewer};
use viewers::{Running, Seat, Shared};

/// How a stream is watched.
#[derive(Clone, Debug)]
pub struct WebRtcOptions {
    /// How late a viewer may be before it loses pictures.
    pub max_lag: Duration,
    /// How many may watch this stream at once.
    pub max_viewers: usize,
    /// How many may watch all streams together.
    pub places: Places,
    /// What the process shows of itself to viewers.
    pub certificate: Certificate,
}

impl WebRtcOptions {
    /// A second late at most, a thousand viewers, with a certificate of its own.
    ///
    /// # Errors
    /// Without random numbers no certificate can be made.
    pub fn new() -> Result<Self, CertificateError> {
        Ok(Self {
            max_lag: Duration::from_secs(1),
            max_viewers: 1_000,
            places: Places::new(1_000),
            certificate: Certificate::generate()?,
        })
    }
}

/// Serves a stream to browsers.
#[derive(Debug)]
pub struct WebRtcSink {
    max_lag: Duration,
    shared: Arc<Shared>,
    commands: AsyncMutex<mpsc::Receiver<Command>>,
}

/// What an HTTP request asks of the task.
#[derive(Debug)]
enum Command {
    Open(Box<Newcomer>),
    Trickle { id: SessionId, fragment: String, reply: oneshot::Sender<Option<Result<(), FragmentError>>> },
    Close { id: SessionId, reply: oneshot::Sender<bool> },
}

/// A session that was answered and is to be served.
#[derive(Debug)]
struct Newcomer {
    id: SessionId,
    session: Session,
    registration: Registration,
    row: Arc<Row>,
    opened: Instant,
    candidates: Arc<[LocalCandidate]>,
    seat: Seat,
}

/// Requests that wait for the task; more wait in their own tasks.
const COMMANDS: usize = 64;

/// Packets taken at a time by the cursor that only wakes the task.
const WAKE_BATCH: usize = 256;

/// At least as long between two turns that nothing but timers asked for: timers that are due close together are
/// served together.
const TIMER_GRAIN: Duration = Duration::from_millis(1);

impl WebRtcSink {
    /// The most bytes it holds outside the ring, beside its viewers' sessions.
    pub const MAX_BUFFER_BYTES: usize = units::BYTES_MAX * 2;

    /// A sink whose viewers come through `port`, and the handle that lets them in.
    pub fn new(options: WebRtcOptions, port: &Port) -> (Self, Viewers) {
        let (commands, receiver) = mpsc::channel(COMMANDS);
        let shared = Arc::new(Shared {
            port: port.clone(),
            lane: port.lane(),
            roster: Roster::default(),
            commands,
            certificate: options.certificate,
            stream_places: Places::new(options.max_viewers),
            process_places: options.places,
            running: Mutex::new(None),
        });
        let sink = Self { max_lag: options.max_lag, shared: shared.clone(), commands: AsyncMutex::new(receiver) };
        (sink, Viewers(shared))
    }
}

#[async_trait]
impl Sink for WebRtcSink {
    fn describe(&self) -> SinkDescription {
        SinkDescription {
            kind: "webrtc",
            policy: LeakPolicy::Live { max_lag: self.max_lag },
            start: Start::Next,
            max_buffer_bytes: Self::MAX_BUFFER_BYTES,
        }
    }

    fn accepts(&self, codec: &str) -> bool {
        // A stream that no browser takes is refused viewer by viewer, with the reason: the plan stands.
        let _ = codec;
        true
    }

    async fn run(&self, cursor: &mut Cursor, ctx: &SinkContext) -> Result<(), NodeError> {
        // One run at a time: the supervisor has dropped the last one before it calls this.
        let mut commands = self.commands.lock().await;
        ctx.monitor.fans_out();
        self.shared.roster.abandon(ctx.clock.now());
        let running = Running { clock: ctx.clock.clone(), source: ctx.source.clone() };
        *self.shared.running.lock().unwrap_or_else(PoisonError::into_inner) = Some(running);
        ctx.monitor.running();
        let mut egress = Egress::new(self, cursor, ctx);
        let (mut woken, mut batch) = (Vec::new(), Vec::new());
        loop {
            egress.set_wakes(cursor);
            let due = egress.due();
            tokio::select! {
                read = cursor.next_batch(&mut woken, WAKE_BATCH) => {
                    if read.is_err() {
                        break;
                    }
                    woken.clear();
                    egress.packets_came = true;
                }
                () = egress.lane.arrived() => {}
                Some(command) = commands.recv() => egress.obey(command),
                () = ctx.clock.sleep_until(due), if egress.has_viewers() => {}
            }
            while let Ok(command) = commands.try_recv() {
                egress.obey(command);
            }
            egress.lane.drain(&mut batch);
            egress.turn(&mut batch);
            egress.outbox.flush().await;
        }
        egress.farewell().await;
        *self.shared.running.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(())
    }
}

/// All viewers of the stream while it runs.
struct Egress<'a> {
    ctx: &'a SinkContext,
    shared: &'a Shared,
    max_lag: Duration,
    ring: relay_ring::Ring,
    lane: Lane,
    viewers: Vec<Viewer>,
    index: HashMap<SessionKey, usize>,
    units: Units,
    outbox: Outbox,
    partings: Partings,
    packets_came: bool,
    wakes: bool,
}

impl<'a> Egress<'a> {
    fn new(sink: &'a WebRtcSink, cursor: &Cursor, ctx: &'a SinkContext) -> Self {
        let shared = &*sink.shared;
        Self {
            ctx,
            shared,
            max_lag: sink.max_lag,
            ring: cursor.ring(),
            lane: shared.lane.clone(),
            viewers: Vec::new(),
            index: HashMap::new(),
            units: Units::default(),
            outbox: Outbox::new(&shared.port),
            partings: Partings::default(),
            packets_came: false,
            wakes: true,
        }
    }

    fn has_viewers(&self) -> bool {
        !self.viewers.is_empty()
    }

    /// While nobody watches, packets wake nobody; only key frames do, to let go of what was not read.
    fn set_wakes(&mut self, cursor: &mut Cursor) {
        let wanted = self.has_viewers();
        if wanted != self.wakes {
            self.wakes = wanted;
            cursor.set_wake_threshold(if wanted { 1 } else { usize::MAX });
            self.units.clear();
        }
    }

    /// When the next viewer's timer is due; a moment from now at the earliest.
    fn due(&self) -> Instant {
        let now = self.ctx.clock.now();
        let next = self.viewers.iter().map(Viewer::due).min();
        next.map_or(now, |due| due.max(now + TIMER_GRAIN))
    }

    fn obey(&mut self, command: Command) {
        let now = self.ctx.clock.now();
        // Whoever asked may have gone meanwhile: then nobody is told.
        match command {
            Command::Open(newcomer) => {
                self.index.insert(newcomer.registration.key(), self.viewers.len());
                self.viewers.push(Viewer::new(*newcomer, now));
            }
            Command::Trickle { id, fragment, reply } => {
                let viewer = self.viewers.iter_mut().find(|viewer| viewer.id == id);
                let _ = reply.send(viewer.map(|viewer| viewer.trickle(&fragment)));
            }
            Command::Close { id, reply } => {
                let viewer = self.viewers.iter_mut().find(|viewer| viewer.id == id);
                let _ = reply.send(viewer.map(|viewer| viewer.close(now)).is_some());
            }
        }
    }

    /// Gives every datagram to its session, and serves every viewer that has something to do.
    fn turn(&mut self, datagrams: &mut Vec<Datagram>) {
        let now = self.ctx.clock.now();
        for datagram in datagrams.drain(..) {
            let viewer = self.index.get(&datagram.session).and_then(|index| self.viewers.get_mut(*index));
            if let Some(viewer) = viewer {
                viewer.receive(now, &datagram);
            }
        }
        let packets_came = std::mem::take(&mut self.packets_came);
        let mut ended = Vec::new();
        let mut stream = Stream {
            ctx: self.ctx,
            ring: &self.ring,
            max_lag: self.max_lag,
            units: &mut self.units,
            outbox: &mut self.outbox,
        };
        for (index, viewer) in self.viewers.iter_mut().enumerate() {
            if viewer.due() <= now || (packets_came && viewer.is_reading()) {
                ended.extend(viewer.serve(now, &mut stream).map(|parting| (index, parting)));
            }
        }
        // From the back: what is moved into a gap has been looked at.
        for (index, parting) in ended.into_iter().rev() {
            self.partings.tell(&parting, now);
            let viewer = self.viewers.swap_remove(index);
            self.index.remove(&viewer.key());
            if let Some(moved) = self.viewers.get(index) {
                self.index.insert(moved.key(), index);
            }
            let id = viewer.leave(self.ctx);
            self.shared.roster.leave(&id, parting.how, now);
        }
        self.partings.sum_up(now);
    }

    /// The stream is over: tells every viewer.
    async fn farewell(&mut self) {
        let now = self.ctx.clock.now();
        for viewer in &mut self.viewers {
            viewer.close(now);
        }
        self.turn(&mut Vec::new());
        self.outbox.flush().await;
        for viewer in self.viewers.drain(..) {
            let id = viewer.leave(self.ctx);
            self.shared.roster.leave(&id, "closed", now);
        }
        self.partings.sum_up(now + Duration::from_secs(1));
    }
}

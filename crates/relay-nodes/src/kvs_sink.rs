//! Sends a stream to Kinesis Video Streams: takes packets from the ring, lets `relay_kvs` decide and send.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use relay_graph::{Backoff, BackoffLimits, Clock, FailureClass, NodeError, Sink, SinkContext, SinkDescription};
use relay_kvs::{Create, Event, Options, Producer, SpoolOptions, Time, proto::Settings};
use relay_media::{Packet, TrackId, UtcTime};
use relay_ring::{Cursor, LeakPolicy, Start};
use url::Url;

mod account;
mod clouds;
mod monitor;

use account::Account;
pub use clouds::KvsClouds;
pub use monitor::{KvsMonitor, KvsSeen};

/// What to send where.
#[derive(Clone, Debug)]
pub struct KvsOptions {
    /// The Kinesis Video stream's name.
    pub stream_name: String,
    /// Its region; without, that of the environment or the profile.
    pub region: Option<String>,
    /// Another control plane than AWS's, for tests.
    pub endpoint: Option<Url>,
    /// How to make the stream where there is none.
    pub create: Option<Create>,
    /// Fragments, the window, sessions. Its `spool` is set by the one here, its `seed` by the node.
    pub settings: Settings,
    /// Where what outgrows the window is kept, for this stream alone.
    pub spool: Option<SpoolOptions>,
}

impl KvsOptions {
    /// The stream of this name, with the defaults of [`Settings::new`].
    pub fn new(stream_name: impl Into<String>) -> Self {
        Self {
            stream_name: stream_name.into(),
            region: None,
            endpoint: None,
            create: None,
            settings: Settings::new(0),
            spool: None,
        }
    }

    /// The directory of a stream's spool within one that many share.
    pub fn spool_dir(&self, dir: impl Into<PathBuf>) -> PathBuf {
        dir.into().join(self.region.as_deref().unwrap_or("default")).join(&self.stream_name)
    }
}

/// Sends a stream to Kinesis Video Streams. Whatever fails there, it tries again by itself, for ever; what it takes
/// from the ring meanwhile waits in its window, then on disk.
#[derive(Debug)]
pub struct KvsSink {
    options: KvsOptions,
    clouds: KvsClouds,
    monitor: KvsMonitor,
}

impl KvsSink {
    /// A sink that has connected to nothing yet. Sinks that are given the same `clouds` share credentials and clients.
    pub fn new(options: KvsOptions, clouds: KvsClouds) -> Self {
        let monitor = KvsMonitor::new(&options.stream_name);
        Self { options, clouds, monitor }
    }

    /// Reads what it is doing: acknowledgements, what waits, why it failed.
    pub fn monitor(&self) -> KvsMonitor {
        self.monitor.clone()
    }

    /// A producer that goes on from what the spool holds. A spool that can't be opened pauses the sink; `None` if it
    /// was told to stop meanwhile.
    async fn open(&self, ctx: &SinkContext) -> Result<Option<Producer>, NodeError> {
        let (cloud, network) =
            self.clouds.of(self.options.region.clone()).await.map_err(|error| NodeError::new("network", error))?;
        let KvsOptions { stream_name, endpoint, create, settings, spool, .. } = self.options.clone();
        let settings = Settings { seed: fastrand::u64(..), ..settings };
        let options = Options { stream: stream_name, cloud, network, endpoint, create, settings, spool };
        let mut backoff = Backoff::new(RETRY);
        let mut rng = fastrand::Rng::new();
        loop {
            let error = match Producer::open(options.clone(), Arc::new(GraphTime(ctx.clock.clone()))).await {
                Ok(producer) => return Ok(Some(producer)),
                Err(error) => error,
            };
            let wait = backoff.next_delay(ctx.clock.now(), FailureClass::Slow, &mut rng);
            tracing::warn!(%error, wait_ms = account::millis(wait), "the spool can't be opened");
            ctx.monitor.paused(format!("the spool can't be opened: {error}"));
            tokio::select! {
                () = ctx.shutdown.cancelled() => return Ok(None),
                () = ctx.clock.sleep(wait) => {}
            }
        }
    }
}

/// The most packets taken from the ring at once.
const BATCH_MAX: usize = 256;
/// Packets that wake the sink without a key frame: it looks by itself after [`LOOK`].
const WAKE_PACKETS: usize = 512;
/// How often it looks for packets: sound that a fragment waits for comes late by no more than this.
const LOOK: Duration = Duration::from_millis(100);
/// How old what the monitor tells may be.
const TELL: Duration = Duration::from_millis(500);
/// At the end, how long the service has to acknowledge what is under way before it is spooled or lost.
const PATIENCE: Duration = Duration::from_millis(2_500);
/// How soon a spool that could not be opened is tried again, at first and at most.
const RETRY: BackoffLimits = BackoffLimits { initial: Duration::from_secs(1), max: Duration::from_secs(30) };

#[async_trait]
impl Sink for KvsSink {
    fn describe(&self) -> SinkDescription {
        SinkDescription {
            kind: "kvs",
            policy: LeakPolicy::Keep,
            start: Start::JoinPoint,
            max_buffer_bytes: self.options.settings.memory_bytes_max(),
        }
    }

    fn accepts(&self, codec: &str) -> bool {
        relay_kvs::proto::takes(codec)
    }

    async fn run(&self, cursor: &mut Cursor, ctx: &SinkContext) -> Result<(), NodeError> {
        cursor.set_wake_threshold(WAKE_PACKETS);
        let Some(producer) = self.open(ctx).await? else { return Ok(()) };
        let mut sending = Sending::new(producer, self.monitor.clone(), ctx);
        let mut batch = Vec::with_capacity(BATCH_MAX);
        loop {
            tokio::select! {
                biased;
                read = cursor.next_batch(&mut batch, BATCH_MAX) => match read {
                    Ok(()) => batch.drain(..).for_each(|packet| sending.push(packet)),
                    Err(_closed) => break,
                },
                event = sending.producer.turn() => sending.hear(&event),
                () = ctx.clock.sleep(LOOK) => {}
            }
            sending.tell_at_times();
        }
        sending.finish().await;
        Ok(())
    }
}

/// The running state of a sink.
struct Sending<'a> {
    ctx: &'a SinkContext,
    producer: Producer,
    account: Account,
    monitor: KvsMonitor,
    /// Tracks that the service does not take, and that were told of.
    refused: BTreeSet<TrackId>,
    told: Instant,
}

impl<'a> Sending<'a> {
    fn new(producer: Producer, monitor: KvsMonitor, ctx: &'a SinkContext) -> Self {
        let told = ctx.clock.now();
        let mut sending = Self { ctx, producer, account: Account::new(), monitor, refused: BTreeSet::new(), told };
        sending.tell();
        let left = sending.producer.seen().stats;
        if left.packets_restored > 0 {
            let (packets, bytes) = (left.packets_restored, left.disk_bytes);
            tracing::info!(packets, bytes, "the spool holds what an earlier run left: it is sent now");
        }
        sending
    }

    fn push(&mut self, packet: Arc<Packet>) {
        let codec = packet.track.codec.name();
        if !relay_kvs::proto::takes(codec) && self.refused.insert(packet.track.id) {
            tracing::warn!(track = packet.track.id.0, codec, "{REFUSED}");
            self.ctx.monitor.warn(format!("track {} is {codec}: {REFUSED}", packet.track.id.0));
        }
        self.producer.push(packet);
    }

    fn hear(&mut self, event: &Event) {
        self.account.hear(event, self.ctx);
        self.tell();
    }

    fn tell_at_times(&mut self) {
        if self.ctx.clock.now().saturating_duration_since(self.told) >= TELL {
            self.tell();
        }
    }

    /// Brings the account and the monitor up to date.
    fn tell(&mut self) {
        self.told = self.ctx.clock.now();
        let seen = self.producer.seen();
        self.account.settle(&seen.stats, &self.ctx.monitor);
        self.monitor.set(seen, self.told);
    }

    /// The stream is over: what it has left is sent; what is not PERSISTED by the end is spooled, or lost.
    async fn finish(mut self) {
        if !self.ctx.shutdown.is_cancelled() {
            self.drain().await;
        }
        self.producer.stop(PATIENCE);
        loop {
            let event = self.producer.turn().await;
            if matches!(event, Event::Done) {
                break;
            }
            self.hear(&event);
        }
        self.tell();
        self.account.keep(&self.producer.seen().stats, &self.ctx.monitor);
    }

    /// The source has come to its end by itself: there is all the time in the world.
    async fn drain(&mut self) {
        while self.producer.seen().stats.packets_buffered > 0 {
            tokio::select! {
                () = self.ctx.shutdown.cancelled() => return,
                event = self.producer.turn() => self.hear(&event),
                () = self.ctx.clock.sleep(TELL) => self.tell(),
            }
        }
    }
}

const REFUSED: &str = "Kinesis Video Streams takes H.264, H.265, AAC and G.711 only, so this track is left out";

/// The graph's clocks, for the producer.
#[derive(Debug)]
struct GraphTime(Clock);

impl Time for GraphTime {
    fn now(&self) -> Instant {
        self.0.now()
    }

    fn utc(&self) -> UtcTime {
        self.0.utc()
    }
}

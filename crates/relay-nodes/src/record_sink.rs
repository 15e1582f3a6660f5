//! Records a stream into MP4 files: takes packets from the ring, lets `relay_record` decide and write.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use relay_graph::{Backoff, BackoffLimits, FailureClass, NodeError, Sink, SinkContext, SinkDescription};
use relay_media::UtcTime;
use relay_record::{
    Disk, Outcome, PENDING_BYTES_MAX, Policy, RecordMonitor, Retention, Segmenter, Step, SyncPolicy, SystemDisk,
    Target, WriteError, Writer, Written,
};
use relay_ring::{Cursor, LeakPolicy, Start};
use tokio::task::spawn_blocking;

/// What to record where.
#[derive(Clone, Debug)]
pub struct RecordOptions {
    /// The directory of all recordings; created when needed.
    pub dir: PathBuf,
    /// The stream's name: its recordings' directory within.
    pub stream: String,
    /// A new file begins at the first key frame after this.
    pub segment: Duration,
    /// A fragment is written at each key frame, at the latest after this.
    pub fragment: Duration,
    /// When data is made durable.
    pub sync: SyncPolicy,
    /// What is kept.
    pub keep: Retention,
}

impl RecordOptions {
    /// Files of a minute in fragments of at most a second, each synced; kept for ever.
    pub fn new(dir: impl Into<PathBuf>, stream: impl Into<String>) -> Self {
        Self {
            dir: dir.into(),
            stream: stream.into(),
            segment: Duration::from_secs(60),
            fragment: Duration::from_secs(1),
            sync: SyncPolicy::default(),
            keep: Retention::default(),
        }
    }
}

/// Records a stream. A full or missing disk pauses it; it tries again by itself and goes on with a new file.
#[derive(Debug)]
pub struct RecordSink {
    options: RecordOptions,
    disk: Arc<dyn Disk>,
    monitor: RecordMonitor,
}

impl RecordSink {
    /// A recorder that has touched nothing yet.
    pub fn new(options: RecordOptions) -> Self {
        Self::with_disk(options, Arc::new(SystemDisk))
    }

    /// One that writes to another disk than the system's.
    pub fn with_disk(options: RecordOptions, disk: Arc<dyn Disk>) -> Self {
        Self { options, disk, monitor: RecordMonitor::default() }
    }

    /// Reads its counters: bytes written, the current file, the last error.
    pub fn monitor(&self) -> RecordMonitor {
        self.monitor.clone()
    }

    /// Finishes what a crash left. Whatever can't be mended stays as it is, and keeps nobody from recording.
    async fn repair(&self) -> Result<(), NodeError> {
        let (dir, stream) = (self.options.dir.clone(), self.options.stream.clone());
        let mended = spawn_blocking(move || {
            let repair = match relay_record::repair(&dir, &stream) {
                Ok(repair) => repair,
                Err(error) => return tracing::warn!(dir = %dir.display(), %error, "can't look for torn recordings"),
            };
            for file in repair {
                let path = file.path.display();
                match file.outcome {
                    Outcome::Finished { cut } => tracing::info!(%path, cut_bytes = cut, "finished a torn recording"),
                    Outcome::Removed => tracing::info!(%path, "removed a recording without a whole fragment"),
                    Outcome::InUse => tracing::warn!(%path, "another process is writing this recording"),
                    Outcome::Foreign => tracing::warn!(%path, "not a recording, left alone"),
                    Outcome::Failed(error) => tracing::warn!(%path, %error, "can't mend this recording"),
                }
            }
        });
        mended.await.map_err(|error| NodeError::new("panic", error))
    }
}

/// The most packets taken from the ring at once.
const BATCH_MAX: usize = 256;
/// Packets that wake the recorder without a key frame: it looks by itself after each fragment's time.
const WAKE_PACKETS: usize = 512;
/// How much later than a fragment's time it looks: the packet that ends the fragment has come by then.
const LOOK_LATER: Duration = Duration::from_millis(60);
/// How soon it looks again when it waits for late sound only.
const LOOK_SOON: Duration = Duration::from_millis(100);
/// After so long without a packet, what waits is written.
const IDLE: Duration = Duration::from_secs(2);
/// How soon a disk that failed is tried again, at first and at most.
const RETRY: BackoffLimits = BackoffLimits { initial: Duration::from_secs(1), max: Duration::from_secs(30) };

#[async_trait]
impl Sink for RecordSink {
    fn describe(&self) -> SinkDescription {
        SinkDescription {
            kind: "record",
            policy: LeakPolicy::Keep,
            start: Start::JoinPoint,
            max_buffer_bytes: PENDING_BYTES_MAX,
        }
    }

    async fn run(&self, cursor: &mut Cursor, ctx: &SinkContext) -> Result<(), NodeError> {
        if !relay_record::is_safe_name(&self.options.stream) {
            return Err(NodeError::new("config", format!("{:?} can't be a directory's name", self.options.stream)));
        }
        cursor.set_wake_threshold(WAKE_PACKETS);
        self.repair().await?;
        let mut recorder = Recorder::new(self, ctx);
        let mut batch = Vec::with_capacity(BATCH_MAX);
        loop {
            let look = match recorder.segmenter.is_closing() {
                true => LOOK_SOON,
                false => self.options.fragment + LOOK_LATER,
            };
            tokio::select! {
                biased;
                read = cursor.next_batch(&mut batch, BATCH_MAX) => match read {
                    Ok(()) => {
                        recorder.last_packet = ctx.clock.now();
                        recorder.segmenter.announce(ctx.source.announced());
                        batch.drain(..).for_each(|packet| recorder.segmenter.push(packet));
                    }
                    Err(_closed) => break,
                },
                () = ctx.clock.sleep(look) => recorder.idle(self.options.segment),
            }
            recorder.perform().await?;
        }
        recorder.segmenter.finish();
        recorder.perform().await
    }
}

/// The running state of a recorder.
struct Recorder<'a> {
    ctx: &'a SinkContext,
    segmenter: Segmenter,
    /// Not here while it writes.
    writer: Option<Writer>,
    last_packet: Instant,
    backoff: Backoff,
    rng: fastrand::Rng,
}

impl<'a> Recorder<'a> {
    fn new(sink: &RecordSink, ctx: &'a SinkContext) -> Self {
        let RecordOptions { dir, stream, segment, fragment, sync, keep } = sink.options.clone();
        let target = Target { dir, stream, sync, keep };
        Self {
            ctx,
            segmenter: Segmenter::new(Policy { segment, fragment }),
            writer: Some(Writer::new(target, sink.disk.clone(), sink.monitor.clone())),
            last_packet: ctx.clock.now(),
            backoff: Backoff::new(RETRY),
            rng: fastrand::Rng::new(),
        }
    }

    /// No packet came for the time of a fragment.
    fn idle(&mut self, segment: Duration) {
        let idle = self.ctx.clock.now().saturating_duration_since(self.last_packet);
        if idle >= segment.max(IDLE) {
            self.segmenter.finish();
        } else if idle >= IDLE {
            self.segmenter.flush();
        }
    }

    /// Writes what was decided; after a failure waits, while the ring holds what comes.
    async fn perform(&mut self) -> Result<(), NodeError> {
        let steps: Vec<_> = std::iter::from_fn(|| self.segmenter.next_step()).collect();
        let now = self.ctx.clock.utc();
        let work = |writer: &Writer| !steps.is_empty() || writer.maintenance_due(now);
        if !self.writer.as_ref().is_none_or(work) {
            self.count_drops();
            return Ok(());
        }
        let Some(writer) = self.writer.take() else { return Err(NodeError::new("bug", "the writer is gone")) };
        let done = spawn_blocking(move || write(writer, &steps, now)).await;
        let done = done.map_err(|error| NodeError::new("panic", error))?;
        self.writer = Some(done.writer);
        self.ctx.monitor.delivered(done.written.packets, done.written.bytes);
        let Some((error, lost)) = done.failed else {
            if done.written.packets > 0 {
                self.backoff.healthy(self.ctx.clock.now());
                self.ctx.monitor.running();
            }
            self.count_drops();
            return Ok(());
        };
        let reason = error.kind().as_str();
        self.ctx.monitor.dropped(reason, lost);
        self.segmenter.abandon(reason);
        self.count_drops();
        let wait = self.backoff.next_delay(self.ctx.clock.now(), FailureClass::Slow, &mut self.rng);
        tracing::warn!(%error, wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX), "recording paused");
        self.ctx.monitor.paused(error.to_string());
        tokio::select! {
            () = self.ctx.shutdown.cancelled() => {}
            () = self.ctx.clock.sleep(wait) => {}
        }
        Ok(())
    }

    fn count_drops(&mut self) {
        for (reason, packets) in self.segmenter.take_drops() {
            self.ctx.monitor.dropped(reason, packets);
        }
    }
}

/// What became of some steps.
struct Done {
    writer: Writer,
    written: Written,
    /// Why it stopped, and the packets that were not written for it.
    failed: Option<(WriteError, u64)>,
}

/// Does the steps until one fails.
fn write(mut writer: Writer, steps: &[Step], now: UtcTime) -> Done {
    let mut written = Written::default();
    for (index, step) in steps.iter().enumerate() {
        match writer.perform(step, now) {
            Ok(more) => {
                written.packets += more.packets;
                written.bytes += more.bytes;
            }
            Err(error) => {
                let lost = steps.iter().skip(index).map(packets).sum();
                return Done { writer, written, failed: Some((error, lost)) };
            }
        }
    }
    if writer.maintenance_due(now) {
        writer.maintain(now);
    }
    Done { writer, written, failed: None }
}

fn packets(step: &Step) -> u64 {
    match step {
        Step::Fragment { runs, .. } => runs.iter().map(|run| run.samples.len() as u64).sum(),
        Step::Finish => 0,
    }
}

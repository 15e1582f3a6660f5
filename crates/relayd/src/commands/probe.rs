//! `relayd probe`: watches a source for a few seconds and tells what it carries.

mod report;

use std::{
    io::{self, IsTerminal, Write},
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{anyhow, bail};
use async_trait::async_trait;
use relay_graph::{
    Clock, NodeError, Pipeline, Plan, Sink, SinkContext, SinkDescription, SourceState, Spec, StreamSnapshot, StreamSpec,
};
use relay_media::{Kind, WallOrigin};
use relay_ring::{Cursor, LeakPolicy, Start};

use self::report::Report;
use super::say;
use crate::{cli::Probe, config, logging, logging::Secrets, nodes};

/// Rates are measured over windows of 2 s.
const WATCH_MIN: Duration = Duration::from_secs(4);

/// For two key frames of a camera with long GOPs.
const WATCH_MAX: Duration = Duration::from_secs(10);

const POLL: Duration = Duration::from_millis(200);

pub(super) fn probe(options: &Probe, verbose: u8) -> anyhow::Result<ExitCode> {
    let url = config::SourceUrl::parse(&options.url)
        .map_err(|wrong| anyhow!("{} {}", config::redact(&options.url), wrong.0))?;
    let source = config::Source::new(url, 0..0);
    if verbose > 0 || std::env::var_os("RUST_LOG").is_some() {
        logging::init(verbose, Secrets::new(source.url.secrets()));
        relay_graph::log_panics();
    }
    let node = nodes::source(&source).map_err(|error| anyhow!("{}: {error}", source.url))?;
    let clock_source = ClockSource::default();
    let stream = StreamSpec::new("probe", node).sink("watch", Watch { clock: clock_source.clone() });
    let plan = Plan::try_new(Spec { streams: vec![stream] }).map_err(|errors| anyhow!("{errors}"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let seen = runtime.block_on(async {
        let pipeline = Pipeline::start(plan, &Clock::system());
        let seen = watch(&pipeline, options.timeout, &source.url.to_string()).await;
        pipeline.stop(Duration::from_secs(2)).await;
        seen
    })?;
    let report = Report::new(&seen, clock_source.get());
    say(if options.json { serde_json::to_string_pretty(&report)? } else { report.to_string() })?;
    Ok(ExitCode::SUCCESS)
}

/// Waits until enough was seen.
async fn watch(pipeline: &Pipeline, timeout: Duration, url: &str) -> anyhow::Result<StreamSnapshot> {
    let clock = Clock::system();
    let started = clock.now();
    let mut live_since = None;
    let progress = Progress::new();
    loop {
        clock.sleep(POLL).await;
        let snapshot = pipeline.snapshot().into_iter().next().ok_or_else(|| anyhow!("the pipeline has gone"))?;
        let source = &snapshot.source;
        let now = clock.now();
        let cause = || source.last_error.clone().unwrap_or_else(|| "no cause was told".into());
        match source.state {
            SourceState::Live => {
                let watched = now - *live_since.get_or_insert(now);
                progress.show(format_args!("live, watched for {} s", watched.as_secs()));
                if watched >= WATCH_MAX || (watched >= WATCH_MIN && key_frames_known(&snapshot)) {
                    return Ok(snapshot);
                }
            }
            SourceState::Backoff => bail!("{url}: {}", cause()),
            SourceState::Connecting | SourceState::Stalled => {
                let waited = now - started;
                let state = source.state.as_str();
                progress.show(format_args!("{state} for {} s of {} s", waited.as_secs(), timeout.as_secs()));
                if waited >= timeout && live_since.is_none() {
                    let cause = source.last_error.clone().unwrap_or_else(|| "no media came".into());
                    bail!("{url}: {cause}; gave up after {} s", timeout.as_secs());
                }
                if let Some(since) = live_since
                    && now - since >= WATCH_MIN
                    && source.kind == "hls"
                {
                    // A short playlist has ended: what it carries was seen.
                    return Ok(snapshot);
                }
                if let Some(since) = live_since
                    && now - since >= WATCH_MAX
                {
                    bail!("{url}: it was live, then {state}: {}", cause());
                }
            }
        }
    }
}

fn key_frames_known(snapshot: &StreamSnapshot) -> bool {
    let mut video = snapshot.source.tracks.iter().filter(|track| track.track.kind() == Kind::Video);
    video.all(|track| track.key_frame_interval.is_some())
}

/// One line that is written over, on a terminal only.
struct Progress {
    shown: bool,
}

impl Progress {
    fn new() -> Self {
        Self { shown: io::stderr().is_terminal() }
    }

    fn show(&self, line: std::fmt::Arguments<'_>) {
        if self.shown {
            let _ = write!(io::stderr(), "\r\x1b[K{line}");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

/// Who told the time of day of the newest packet.
#[derive(Clone, Default)]
struct ClockSource(Arc<Mutex<Option<WallOrigin>>>);

impl ClockSource {
    fn get(&self) -> Option<WallOrigin> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A sink that looks and keeps nothing.
struct Watch {
    clock: ClockSource,
}

#[async_trait]
impl Sink for Watch {
    fn describe(&self) -> SinkDescription {
        SinkDescription { kind: "watch", policy: LeakPolicy::Keep, start: Start::Next, max_buffer_bytes: 0 }
    }

    async fn run(&self, cursor: &mut Cursor, ctx: &SinkContext) -> Result<(), NodeError> {
        const BATCH: usize = 64;
        let mut batch = Vec::with_capacity(BATCH);
        while cursor.next_batch(&mut batch, BATCH).await.is_ok() {
            if let Some(packet) = batch.last() {
                *self.clock.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(packet.wall.origin);
            }
            ctx.monitor.delivered(batch.len() as u64, 0);
            batch.clear();
        }
        Ok(())
    }
}

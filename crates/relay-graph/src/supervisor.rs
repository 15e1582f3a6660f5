//! Runs nodes, catches their panics, restarts them; the one place that spawns tasks.

use std::{
    any::Any,
    backtrace::{Backtrace, BacktraceStatus},
    future::Future,
    panic::{self, AssertUnwindSafe},
    sync::Arc,
    time::Duration,
};

use futures_util::FutureExt;
use relay_ring::{CloseReason, Cursor};
use tokio::{runtime::Handle, task::JoinHandle};
use tracing::{Instrument, Span, error, info_span};

use crate::{Backoff, BackoffLimits, Clock, FailureClass, NodeError, Output, Sink, SinkContext, Source, SourceContext};

/// How a failed node is waited for before it runs again.
const RESTART: BackoffLimits = BackoffLimits { initial: Duration::from_millis(250), max: Duration::from_secs(30) };

/// Starts `source` on `runtime`; its ring closes when it ends.
pub(crate) fn spawn_source(
    runtime: &Handle,
    stream: &str,
    source: Arc<dyn Source>,
    output: Output,
    ctx: SourceContext,
) -> JoinHandle<()> {
    let span = info_span!("source", stream);
    spawn(runtime, span, async move { supervise_source(source.as_ref(), output, &ctx).await })
}

/// Starts `sink` on `runtime` behind `cursor`; it ends when the ring is closed and drained.
pub(crate) fn spawn_sink(
    runtime: &Handle,
    stream: &str,
    name: &str,
    sink: Arc<dyn Sink>,
    cursor: Cursor,
    ctx: SinkContext,
) -> JoinHandle<()> {
    let span = info_span!("sink", stream, node = name);
    spawn(runtime, span, async move { supervise_sink(sink.as_ref(), cursor, &ctx).await })
}

fn spawn(runtime: &Handle, span: Span, task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    runtime.spawn(task.instrument(span))
}

async fn supervise_source(source: &dyn Source, mut output: Output, ctx: &SourceContext) {
    let mut restarts = Restarts::new(&ctx.clock);
    loop {
        restarts.started(&ctx.clock);
        match run_to_end(source.run(&mut output, ctx)).await {
            Ok(()) => break,
            Err(failure) => {
                let wait = restarts.next_delay(&ctx.clock);
                error!(reason = failure.reason(), "the source failed and is run again in {wait:.1?}: {failure}");
                ctx.monitor.backoff(failure.reason(), failure.to_string(), wait);
                output.restart();
                if cancelled_while_waiting(ctx.shutdown.cancelled(), &ctx.clock, wait).await {
                    break;
                }
            }
        }
    }
    output.close(if ctx.shutdown.is_cancelled() { CloseReason::Stopped } else { CloseReason::Ended });
}

async fn supervise_sink(sink: &dyn Sink, mut cursor: Cursor, ctx: &SinkContext) {
    let mut restarts = Restarts::new(&ctx.clock);
    loop {
        restarts.started(&ctx.clock);
        let Err(failure) = run_to_end(sink.run(&mut cursor, ctx)).await else { break };
        ctx.monitor.drop_held(failure.reason());
        ctx.monitor.failed(failure.to_string());
        let wait = restarts.next_delay(&ctx.clock);
        error!(reason = failure.reason(), "the sink failed and is run again in {wait:.1?}: {failure}");
        if cancelled_while_waiting(ctx.shutdown.cancelled(), &ctx.clock, wait).await {
            // One more run takes what the ring still holds to a clean end; a second failure is the last word.
            if let Err(failure) = run_to_end(sink.run(&mut cursor, ctx)).await {
                error!(reason = failure.reason(), "the sink failed while stopping: {failure}");
                ctx.monitor.failed(failure.to_string());
            }
            break;
        }
    }
    ctx.monitor.drop_held("sink_ended");
}

async fn cancelled_while_waiting(cancelled: impl Future<Output = ()>, clock: &Clock, wait: Duration) -> bool {
    tokio::select! {
        () = cancelled => true,
        () = clock.sleep(wait) => false,
    }
}

/// The waits between a node's runs: they grow, and start anew after a healthy minute.
struct Restarts {
    backoff: Backoff,
    rng: fastrand::Rng,
    run_started: std::time::Instant,
}

impl Restarts {
    fn new(clock: &Clock) -> Self {
        Self { backoff: Backoff::new(RESTART), rng: fastrand::Rng::new(), run_started: clock.now() }
    }

    fn started(&mut self, clock: &Clock) {
        self.run_started = clock.now();
    }

    fn next_delay(&mut self, clock: &Clock) -> Duration {
        const HEALTHY: Duration = Duration::from_secs(60);
        if clock.now().saturating_duration_since(self.run_started) >= HEALTHY {
            self.backoff = Backoff::new(RESTART);
        }
        self.backoff.next_delay(clock.now(), FailureClass::Slow, &mut self.rng)
    }
}

/// Runs a node's future to its end; a panic becomes an error.
async fn run_to_end(run: impl Future<Output = Result<(), NodeError>>) -> Result<(), NodeError> {
    match AssertUnwindSafe(run).catch_unwind().await {
        Ok(result) => result,
        Err(payload) => Err(NodeError::new("panic", format!("it panicked: {}", panic_text(payload.as_ref())))),
    }
}

fn panic_text(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&'static str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

/// Installs a panic hook that logs the message, the place and the backtrace, within the span of the node that
/// panicked. For programs; a library leaves its host's hook alone.
pub fn log_panics() {
    panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let backtrace = Backtrace::force_capture();
        let backtrace = match backtrace.status() {
            BacktraceStatus::Captured => backtrace.to_string(),
            _ => String::from("not available"),
        };
        error!(place, backtrace, "panic: {}", panic_text(info.payload()));
    }));
}

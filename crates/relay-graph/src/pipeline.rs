//! What runs: the tasks of a plan, their monitors, and the orderly stop.

use std::{sync::Arc, time::Duration};

use relay_ring::Ring;
use tokio::{runtime::Handle, task::JoinHandle};
use tracing::warn;

use crate::{
    Clock, Output, Plan, Shutdown, SinkContext, SinkMonitor, SourceContext, SourceMonitor, StreamSnapshot, StreamSpec,
    supervisor::{spawn_sink, spawn_source},
};

/// A running plan.
pub struct Pipeline {
    streams: Arc<[Stream]>,
    tasks: Vec<Task>,
    shutdown: Shutdown,
    clock: Clock,
}

/// A stream's ring and monitors, for reading.
struct Stream {
    name: String,
    ring: Ring,
    source: Arc<SourceMonitor>,
    sinks: Vec<Arc<SinkMonitor>>,
}

struct Task {
    node: String,
    handle: JoinHandle<()>,
}

impl Pipeline {
    /// Starts every node of `plan` on the current tokio runtime.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(plan: Plan, clock: &Clock) -> Self {
        Self::start_on(plan, clock, &[Handle::current()])
    }

    /// Starts each stream of `plan` whole on one of `runtimes`, in turn: with one single-threaded runtime per core,
    /// a stream's tasks never change cores. With no runtime nothing is started.
    pub fn start_on(plan: Plan, clock: &Clock, runtimes: &[Handle]) -> Self {
        let shutdown = Shutdown::new();
        let mut tasks = Vec::new();
        let streams = plan.into_streams().into_iter().zip(runtimes.iter().cycle());
        let streams = streams.map(|(spec, runtime)| start_stream(spec, clock, &shutdown, runtime, &mut tasks));
        Self { streams: streams.collect(), tasks, shutdown, clock: clock.clone() }
    }

    /// A handle for reading, which outlives nothing and keeps nothing running.
    pub fn reader(&self) -> PipelineReader {
        PipelineReader(self.streams.clone())
    }

    /// Every stream now, in the order of the plan.
    pub fn snapshot(&self) -> Vec<StreamSnapshot> {
        self.reader().snapshot()
    }

    /// Stops in the direction of the data: sources stop, rings close, sinks drain and finish. Whatever still runs
    /// after `deadline` is aborted and named in the report.
    pub async fn stop(mut self, deadline: Duration) -> StopReport {
        self.shutdown.cancel();
        let tasks = std::mem::take(&mut self.tasks);
        let end = self.clock.now() + deadline;
        let mut aborted = Vec::new();
        for mut task in tasks {
            if tokio::time::timeout_at(end.into(), &mut task.handle).await.is_err() {
                task.handle.abort();
                warn!(node = task.node, "did not stop within {deadline:?} and was aborted");
                aborted.push(task.node);
            }
        }
        let unfinished = self.streams.iter().map(Stream::snapshot).flat_map(|stream| stream.sinks);
        let lost = unfinished.map(|sink| sink.packets_buffered).sum();
        StopReport { aborted, packets_lost: lost }
    }

    /// Waits until every node has ended by itself (files played out, sources that end).
    pub async fn ended(&mut self) {
        for task in &mut self.tasks {
            // A task that was aborted has ended too.
            let _ = (&mut task.handle).await;
        }
        self.tasks.clear();
    }
}

impl Drop for Pipeline {
    /// A pipeline that is dropped without [`stop`](Self::stop) tells its nodes to stop and does not wait for them.
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// Reads a pipeline's state from elsewhere (an HTTP server).
#[derive(Clone)]
pub struct PipelineReader(Arc<[Stream]>);

impl PipelineReader {
    /// Every stream now, in the order of the plan.
    pub fn snapshot(&self) -> Vec<StreamSnapshot> {
        self.0.iter().map(Stream::snapshot).collect()
    }

    /// One stream now; `None` if there is no such name.
    pub fn stream(&self, name: &str) -> Option<StreamSnapshot> {
        self.0.iter().find(|stream| stream.name == name).map(Stream::snapshot)
    }
}

/// How a stop went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StopReport {
    /// Nodes that did not end in time, as `stream/node`.
    pub aborted: Vec<String>,
    /// Packets that were in a ring or a sink and were not delivered.
    pub packets_lost: u64,
}

impl Stream {
    fn snapshot(&self) -> StreamSnapshot {
        StreamSnapshot {
            name: self.name.clone(),
            source: self.source.snapshot(),
            ring: self.ring.stats(),
            sinks: self.sinks.iter().map(|sink| sink.snapshot()).collect(),
        }
    }
}

fn start_stream(
    spec: StreamSpec,
    clock: &Clock,
    shutdown: &Shutdown,
    runtime: &Handle,
    tasks: &mut Vec<Task>,
) -> Stream {
    let StreamSpec { name, source, transforms, ring: limits, sinks } = spec;
    let (publisher, ring) = relay_ring::ring(limits);
    let source_monitor = Arc::new(SourceMonitor::new(source.describe(), clock.clone()));
    let mut sink_monitors = Vec::new();
    // Sinks first: the first packet finds its readers waiting.
    for spec in sinks {
        let description = spec.sink.describe();
        let cursor = ring.cursor(description.policy, description.start);
        let monitor = Arc::new(SinkMonitor::new(spec.name.clone(), description, cursor.monitor(), clock.clone()));
        let (clock, shutdown) = (clock.clone(), shutdown.clone());
        let ctx = SinkContext { clock, shutdown, monitor: monitor.clone(), source: source_monitor.clone() };
        let handle = spawn_sink(runtime, &name, &spec.name, Arc::from(spec.sink), cursor, ctx);
        tasks.push(Task { node: format!("{name}/{}", spec.name), handle });
        sink_monitors.push(monitor);
    }
    let output = Output::new(publisher, transforms, source_monitor.clone());
    let monitor = source_monitor.clone();
    let ctx = SourceContext { clock: clock.clone(), shutdown: shutdown.clone(), monitor };
    let handle = spawn_source(runtime, &name, Arc::from(source), output, ctx);
    tasks.push(Task { node: format!("{name}/source"), handle });
    Stream { name, ring, source: source_monitor, sinks: sink_monitors }
}

//! Runs a plan with its HTTP surface until told to stop.

use std::{
    io,
    net::TcpListener,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::anyhow;
use relay_graph::{Clock, Pipeline, Plan, Shutdown, StopReport};
use tokio::{
    runtime::{Builder, Handle},
    signal::unix::{Signal, SignalKind, signal},
    sync::Notify,
};
use tracing::{info, warn};

use crate::{
    allocator,
    config::{Config, Scheduler, Size, VIEWERS},
    emf,
    heartbeat::Heartbeat,
    http::{App, Door, Server, Settings, Shown, Whep},
    keys::Keys,
    nodes::{self, Watched},
    systemd,
    watching::Watching,
};

/// Without spools, everything has ended 5 s after the signal: the pipeline may take most of it, HTTP and the threads the rest.
const STOP_DEADLINE: Duration = Duration::from_secs(4);

/// With a spool, what waits for a service that is away has to be written first: up to a window for each stream.
const STOP_DEADLINE_SPOOLING: Duration = Duration::from_secs(10);

/// What still blocks after the pipeline's end (a read from a dead network disk) is left behind after this.
const THREADS_DEADLINE: Duration = Duration::from_millis(300);

/// Runs `config` until SIGINT or SIGTERM, and serves its HTTP surface on `listener`, guarded by `keys`. `greet` is told
/// the page's URL once every listener is bound.
///
/// # Errors
/// What keeps it from running: no threads, no descriptors, a port that is taken; or a second signal, which stops it in
/// the middle.
pub(crate) fn run(
    config: &Config,
    listener: TcpListener,
    keys: Keys,
    greet: impl FnOnce(&str) -> anyhow::Result<()>,
) -> anyhow::Result<StopReport> {
    let threads = threads(config);
    // The one branch between the schedulers.
    let (main, pinned) = match config.runtime.scheduler {
        Scheduler::Shared => (Builder::new_multi_thread().worker_threads(threads).enable_all().build()?, None),
        Scheduler::PerCore => (Builder::new_current_thread().enable_all().build()?, Some(Pinned::start(threads)?)),
    };
    let carriers = pinned.as_ref().map_or_else(|| vec![main.handle().clone()], |pinned| pinned.handles.clone());
    let report = main.block_on(serve(config, listener, keys, &carriers, greet));
    main.shutdown_timeout(THREADS_DEADLINE);
    drop(pinned);
    report
}

async fn serve(
    config: &Config,
    listener: TcpListener,
    keys: Keys,
    carriers: &[Handle],
    greet: impl FnOnce(&str) -> anyhow::Result<()>,
) -> anyhow::Result<StopReport> {
    let clock = Clock::system();
    let mut signals = Signals::listen()?;
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let page = format!("http://{}", listener.local_addr()?);
    let first = carriers.first().ok_or_else(|| anyhow!("no thread carries streams"))?;
    let watching = Watching::open(config, &clock, first)?;
    let Watched { plan, viewers, kvs } = nodes::watched(config, watching.as_ref())?;
    greet(&page)?;
    summarise(config, &plan, &page, keys.token.is_some());
    let pipeline = Pipeline::start_on(plan, &clock, carriers);
    let heartbeat = Heartbeat::start(&clock, carriers);
    let scheduler = config.runtime.scheduler.as_str();
    let _metrics = emf::write(&kvs, &clock);
    let Keys { token, mut streams, ice_servers } = keys;
    let doors = viewers.into_iter().map(|(stream, watch)| {
        let door = Door::new(Arc::new(watch), streams.remove(&stream));
        (stream, door)
    });
    let port = watching.as_ref().map(|watching| watching.port().clone());
    let settings = Settings { ice_servers, origins: config.webrtc.allow_origins.clone(), port };
    let whep = Whep::new(settings, doors.collect(), &clock);
    let shown = Shown { pipeline: pipeline.reader(), recorders: nodes::recorders(config), kvs };
    let app = App::new(shown, token, heartbeat.clone(), scheduler, whep);
    let end = Notify::new();
    let server = Server::new(listener, app.router());
    let told = systemd::ready(pipeline.reader(), heartbeat, clock.clone());
    let stopping = async {
        let signal = signals.next().await;
        systemd::stopping();
        drop(told);
        let asked = clock.now();
        info!(signal, "stopping: sources first, then sinks as they finish");
        app.drain();
        let report = tokio::select! {
            report = pipeline.stop(stop_deadline(config)) => Ok(report),
            signal = signals.next() => {
                Err(anyhow!("{signal} while stopping: given up before every sink had finished"))
            }
        };
        if let Ok(report) = &report {
            tell(report, asked, clock.now());
        }
        end.notify_one();
        report
    };
    let (report, ()) = tokio::join!(stopping, server.run(end.notified()));
    report
}

/// One line per stream at the start: what runs, where it goes, what it may take.
fn summarise(config: &Config, plan: &Plan, page: &str, guarded: bool) {
    for (stream, (_, memory)) in config.streams.iter().zip(plan.memory()) {
        let viewers = stream.webrtc.as_ref().map(|_| VIEWERS);
        let sinks: Vec<&str> = stream.sinks.iter().map(|sink| sink.name.as_str()).chain(viewers).collect();
        info!(stream = stream.name, source = %stream.source.url, sinks = sinks.join(","), memory_max = %Size(memory as u64), "starting");
    }
    info!(
        version = env!("CARGO_PKG_VERSION"),
        page,
        guarded,
        streams = config.streams.len(),
        memory_max = %Size(plan.memory_max_bytes() as u64),
        scheduler = config.runtime.scheduler.as_str(),
        threads = threads(config),
        allocator = allocator::NAME,
        "relayd runs"
    );
}

fn tell(report: &StopReport, asked: Instant, now: Instant) {
    let took_ms = u64::try_from(now.saturating_duration_since(asked).as_millis()).unwrap_or(u64::MAX);
    if report.aborted.is_empty() {
        info!(took_ms, packets_lost = report.packets_lost, "stopped; every sink has finished");
    } else {
        let aborted = report.aborted.join(", ");
        warn!(took_ms, packets_lost = report.packets_lost, aborted, "stopped; some nodes did not end in time");
    }
}

fn stop_deadline(config: &Config) -> Duration {
    let mut sinks = config.streams.iter().flat_map(|stream| &stream.sinks);
    if sinks.any(|sink| sink.kind.spool().is_some()) { STOP_DEADLINE_SPOOLING } else { STOP_DEADLINE }
}

/// How many threads carry streams.
fn threads(config: &Config) -> usize {
    let cores = || thread::available_parallelism().map_or(1, usize::from);
    config.runtime.threads.map_or_else(cores, usize::from)
}

/// The signals that end the process in good order.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}

/// Threads with a single-threaded runtime each, until dropped.
struct Pinned {
    handles: Vec<Handle>,
    end: Shutdown,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Pinned {
    fn start(count: usize) -> io::Result<Self> {
        let mut pinned = Self { handles: Vec::new(), end: Shutdown::new(), threads: Vec::new() };
        for index in 0..count {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            pinned.handles.push(runtime.handle().clone());
            let end = pinned.end.clone();
            let thread = thread::Builder::new().name(format!("core-{index}")).spawn(move || {
                runtime.block_on(end.cancelled());
                runtime.shutdown_timeout(THREADS_DEADLINE);
            })?;
            pinned.threads.push(thread);
        }
        Ok(pinned)
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.end.cancel();
        for thread in self.threads.drain(..) {
            // A panic there was logged when it happened.
            let _ = thread.join();
        }
    }
}

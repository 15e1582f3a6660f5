//! Whether the runtimes turn: a task on each writes down the time, once a second.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use relay_graph::Clock;
use tokio::{runtime::Handle, task::JoinSet};

/// The last beats; cloned freely. The beating stops when the last clone goes.
#[derive(Clone)]
pub(crate) struct Heartbeat {
    clock: Clock,
    beats: Arc<[Beat]>,
    _tasks: Arc<Mutex<JoinSet<()>>>,
}

type Beat = Arc<Mutex<Instant>>;

/// A runtime that turns beats this often.
const PERIOD: Duration = Duration::from_secs(1);

/// Beats may be late on a busy machine; one that is later than this has stopped.
const PATIENCE: Duration = Duration::from_secs(10);

impl Heartbeat {
    /// Begins to beat on each of `runtimes`.
    pub(crate) fn start(clock: &Clock, runtimes: &[Handle]) -> Self {
        let mut tasks = JoinSet::new();
        let beats = runtimes.iter().map(|runtime| {
            let beat: Beat = Arc::new(Mutex::new(clock.now()));
            tasks.spawn_on(beating(clock.clone(), beat.clone()), runtime);
            beat
        });
        Self { clock: clock.clone(), beats: beats.collect(), _tasks: Arc::new(Mutex::new(tasks)) }
    }

    /// For how long a runtime has been silent, if for too long.
    pub(crate) fn silent(&self) -> Option<Duration> {
        let now = self.clock.now();
        let silence = |beat: &Beat| now.saturating_duration_since(*beat.lock().unwrap_or_else(PoisonError::into_inner));
        self.beats.iter().map(silence).max().filter(|silence| *silence > PATIENCE)
    }
}

async fn beating(clock: Clock, beat: Beat) {
    loop {
        *beat.lock().unwrap_or_else(PoisonError::into_inner) = clock.now();
        clock.sleep(PERIOD).await;
    }
}

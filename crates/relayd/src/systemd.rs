//! What the service manager is told (sd_notify(3)): ready, how it goes, that it is alive, that it stops.
//!
//! Without `NOTIFY_SOCKET` in the environment nothing is told.

use std::time::Duration;

use relay_graph::{Clock, PipelineReader, SinkSnapshot, SinkState, SourceState, StreamSnapshot};
use sd_notify::NotifyState;
use tokio::task::JoinSet;
use tracing::warn;

use crate::heartbeat::Heartbeat;

/// Tells the service manager until dropped.
pub(crate) struct Told {
    _telling: JoinSet<()>,
}

/// The status is looked at this often, and told when it changed.
const STATUS_PERIOD: Duration = Duration::from_secs(2);

/// Says that everything is bound and runs; from now on tells how it goes and, while every runtime turns, that it is
/// alive.
pub(crate) fn ready(pipeline: PipelineReader, heartbeat: Heartbeat, clock: Clock) -> Told {
    let mut telling = JoinSet::new();
    if std::env::var_os("NOTIFY_SOCKET").is_some() {
        tell(&[NotifyState::Ready, NotifyState::Status(&status(&pipeline.snapshot()))]);
        telling.spawn(report(pipeline, clock.clone()));
        if let Some(limit) = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero()) {
            telling.spawn(keep_alive(heartbeat, clock, limit));
        }
    }
    Told { _telling: telling }
}

/// Says that it has begun to stop.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
}

async fn report(pipeline: PipelineReader, clock: Clock) {
    let mut last = String::new();
    loop {
        let status = status(&pipeline.snapshot());
        if status != last {
            tell(&[NotifyState::Status(&status)]);
            last = status;
        }
        clock.sleep(STATUS_PERIOD).await;
    }
}

/// A third of the limit, so that one late turn on a busy machine is not the end.
async fn keep_alive(heartbeat: Heartbeat, clock: Clock, limit: Duration) {
    loop {
        match heartbeat.silent() {
            None => tell(&[NotifyState::Watchdog]),
            Some(silence) => warn!("a runtime has not turned for {silence:.0?}: the watchdog is not told to wait"),
        }
        clock.sleep(limit / 3).await;
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!(%error, "the service manager can't be told");
    }
}

/// The most streams and sinks that are named: `systemctl status` shows one line.
const NAMED_MAX: usize = 3;

/// `3 of 4 streams live; not live: yard (backoff); in trouble: gate/cloud (paused)`.
fn status(streams: &[StreamSnapshot]) -> String {
    let away: Vec<&StreamSnapshot> = streams.iter().filter(|stream| stream.source.state != SourceState::Live).collect();
    let mut text = format!("{} of {} streams live", streams.len() - away.len(), streams.len());
    let named = |stream: &&StreamSnapshot| format!("{} ({})", stream.name, stream.source.state.as_str());
    list(&mut text, "; not live: ", away.iter().map(named));
    let is_troubled =
        |sink: &&SinkSnapshot| matches!(sink.state, SinkState::Backoff | SinkState::Paused | SinkState::Failed);
    let troubled = streams.iter().flat_map(|stream| {
        let of = move |sink: &SinkSnapshot| format!("{}/{} ({})", stream.name, sink.name, sink.state.as_str());
        stream.sinks.iter().filter(is_troubled).map(of)
    });
    list(&mut text, "; in trouble: ", troubled);
    text
}

fn list(text: &mut String, title: &str, names: impl Iterator<Item = String>) {
    let names: Vec<String> = names.collect();
    if let Some(named) = names.get(..names.len().min(NAMED_MAX)).filter(|named| !named.is_empty()) {
        text.push_str(title);
        text.push_str(&named.join(", "));
        if names.len() > NAMED_MAX {
            text.push_str(&format!(" and {} more", names.len() - NAMED_MAX));
        }
    }
}

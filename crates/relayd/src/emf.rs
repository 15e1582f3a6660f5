//! Lines of metrics for CloudWatch on standard output, where a container's log driver or an agent takes them.

use std::{
    io::{self, Write},
    time::Duration,
};

use relay_graph::Clock;
use relay_kvs::proto::Emf;
use tokio::task::{JoinSet, spawn_blocking};
use tracing::warn;

use crate::nodes::KvsShown;

/// Writes a line for each of `shown` as often as it asks for; ends with what it returns.
pub(crate) fn write(shown: &[KvsShown], clock: &Clock) -> JoinSet<()> {
    let mut writing = JoinSet::new();
    for shown in shown {
        if let Some(period) = shown.emf {
            writing.spawn(lines(shown.clone(), clock.clone(), period.0));
        }
    }
    writing
}

async fn lines(shown: KvsShown, clock: Clock, period: Duration) {
    let mut emf = Emf::default();
    loop {
        clock.sleep(period).await;
        let stats = shown.monitor.seen().producer.stats;
        let line = emf.line(shown.monitor.stream_name(), clock.utc(), &stats);
        // Whoever reads may be slow.
        let written = spawn_blocking(move || writeln!(io::stdout().lock(), "{line}")).await;
        if let Ok(Err(error)) = written {
            warn!(%error, "standard output does not take metrics any more");
            return;
        }
    }
}

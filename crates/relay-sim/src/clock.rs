//! The only place of relay-sim that reads clocks: a simulated camera or viewer is a world of its own beside the graph.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use relay_media::UtcTime;

/// The time of day.
#[allow(clippy::disallowed_methods, reason = "cameras run beside the graph, whose Clock they do not share")]
pub(crate) fn utc() -> UtcTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UtcTime::from_unix_nanos(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

/// The monotonic clock.
#[allow(clippy::disallowed_methods, reason = "viewers run beside the graph, whose Clock they do not share")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

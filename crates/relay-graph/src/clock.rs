//! The one place that reads the operating system's clocks.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use relay_media::UtcTime;

/// The monotonic clock and the time of day: the system's, or a simulated pair.
#[derive(Clone, Debug)]
pub struct Clock(Kind);

#[derive(Clone, Debug)]
enum Kind {
    System,
    /// On tokio's paused clock: time passes when every task waits.
    Simulated {
        start: Instant,
        start_utc: UtcTime,
    },
}

impl Clock {
    /// The operating system's clocks.
    pub fn system() -> Self {
        Self(Kind::System)
    }

    /// A clock that starts at `utc` now and follows tokio's clock, which a test pauses
    /// (`#[tokio::test(start_paused = true)]`).
    pub fn simulated(utc: UtcTime) -> Self {
        Self(Kind::Simulated { start: tokio::time::Instant::now().into_std(), start_utc: utc })
    }

    /// Monotonic time.
    #[expect(clippy::disallowed_methods, reason = "this is the place")]
    pub fn now(&self) -> Instant {
        match self.0 {
            Kind::System => Instant::now(),
            Kind::Simulated { .. } => tokio::time::Instant::now().into_std(),
        }
    }

    /// The time of day; may step.
    #[expect(clippy::disallowed_methods, reason = "this is the place")]
    pub fn utc(&self) -> UtcTime {
        match self.0 {
            Kind::System => {
                let now = SystemTime::now();
                let nanos = match now.duration_since(UNIX_EPOCH) {
                    Ok(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
                    Err(before) => -i64::try_from(before.duration().as_nanos()).unwrap_or(i64::MAX),
                };
                UtcTime::from_unix_nanos(nanos)
            }
            Kind::Simulated { start, start_utc } => {
                let passed = self.now().saturating_duration_since(start);
                start_utc.plus_nanos(i64::try_from(passed.as_nanos()).unwrap_or(i64::MAX))
            }
        }
    }

    /// Waits for `duration`.
    pub async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    /// Waits until `deadline`; returns at once if it has passed.
    pub async fn sleep_until(&self, deadline: Instant) {
        tokio::time::sleep_until(deadline.into()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn simulated_time_passes_on_both_clocks_together() {
        let clock = Clock::simulated(UtcTime::from_unix_nanos(1_000));
        let start = clock.now();
        clock.sleep(Duration::from_secs(3_600)).await;
        assert_eq!(clock.now() - start, Duration::from_secs(3_600));
        assert_eq!(clock.utc().unix_nanos(), 3_600_000_000_000 + 1_000);
    }
}

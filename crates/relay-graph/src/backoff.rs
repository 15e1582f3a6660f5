//! How long to wait before the next try: pure, capped exponential with full jitter.

use std::time::{Duration, Instant};

/// The bounds of a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackoffLimits {
    /// The first wait's upper bound.
    pub initial: Duration,
    /// No wait is longer.
    pub max: Duration,
}

impl Default for BackoffLimits {
    /// 250 ms, 30 s.
    fn default() -> Self {
        Self { initial: Duration::from_millis(250), max: Duration::from_secs(30) }
    }
}

/// What kind of failure is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureClass {
    /// Trying again soon costs little and may well succeed: refused, reset, stalled, unreachable, timeout, name
    /// resolution, HTTP 5xx. At most [`CHEAP_MAX`] for the first [`CHEAP_PERIOD`], then doubling.
    Cheap,
    /// A person probably has to act, or the peer locks out those who insist: 401, 403, RTSP 404, certificate or
    /// codec refusal. Doubles at once, and goes on for ever.
    Slow,
}

/// The longest wait of the cheap class while the trouble is young: a camera that is back is seen within a second.
pub const CHEAP_MAX: Duration = Duration::from_secs(1);
/// How long trouble counts as young.
pub const CHEAP_PERIOD: Duration = Duration::from_secs(600);
/// How long a connection must stay healthy before its past is forgotten.
pub const HEALTHY_PERIOD: Duration = Duration::from_secs(60);

/// The state of one source's or sink's tries. It does not sleep.
#[derive(Clone, Debug)]
pub struct Backoff {
    limits: BackoffLimits,
    trouble_since: Option<Instant>,
    healthy_since: Option<Instant>,
    /// Failures in a row that count towards doubling.
    doublings: u32,
    attempt: u32,
}

impl Backoff {
    /// No failure yet. `initial` is taken as `max` if it is greater.
    pub fn new(limits: BackoffLimits) -> Self {
        let limits = BackoffLimits { initial: limits.initial.min(limits.max), ..limits };
        Self { limits, trouble_since: None, healthy_since: None, doublings: 0, attempt: 0 }
    }

    /// A try or a connection failed at `now`: how long to wait before the next one.
    ///
    /// The wait is drawn evenly from zero to a bound (full jitter), so that a thousand sources that failed together
    /// don't come back together.
    pub fn next_delay(&mut self, now: Instant, class: FailureClass, rng: &mut fastrand::Rng) -> Duration {
        self.healthy(now);
        self.healthy_since = None;
        self.attempt = self.attempt.saturating_add(1);
        let trouble = now.saturating_duration_since(*self.trouble_since.get_or_insert(now));
        let bound = match class {
            FailureClass::Cheap if trouble < CHEAP_PERIOD => {
                let bound = self.doubled().min(CHEAP_MAX);
                if self.doubled() < CHEAP_MAX {
                    self.doublings += 1;
                }
                bound
            }
            FailureClass::Cheap | FailureClass::Slow => {
                let bound = self.doubled();
                self.doublings = self.doublings.saturating_add(1);
                bound
            }
        };
        bound.min(self.limits.max).mul_f64(rng.f64())
    }

    /// The connection is healthy at `now`; after [`HEALTHY_PERIOD`] of it the past is forgotten.
    pub fn healthy(&mut self, now: Instant) {
        let Some(since) = self.healthy_since else { return };
        if now.saturating_duration_since(since) >= HEALTHY_PERIOD {
            *self = Self { healthy_since: Some(since), ..Self::new(self.limits) };
        }
    }

    /// The connection became healthy at `now`.
    pub fn became_healthy(&mut self, now: Instant) {
        self.healthy_since.get_or_insert(now);
    }

    /// Failures since the past was last forgotten.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    fn doubled(&self) -> Duration {
        self.limits.initial.saturating_mul(1_u32.checked_shl(self.doublings).unwrap_or(u32::MAX)).min(self.limits.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "any instant does")]
    fn start() -> Instant {
        Instant::now()
    }

    /// The greatest of 2000 draws, as good as the bound.
    fn bound(backoff: &Backoff, now: Instant, class: FailureClass) -> Duration {
        let mut rng = fastrand::Rng::with_seed(7);
        (0..2_000).map(|_| backoff.clone().next_delay(now, class, &mut rng)).max().unwrap()
    }

    fn assert_about(actual: Duration, expected_ms: u64) {
        let expected = Duration::from_millis(expected_ms);
        assert!(actual <= expected && actual > expected.mul_f64(0.97), "{actual:?} is not about {expected:?}");
    }

    #[test]
    fn cheap_failures_wait_a_second_at_most_for_ten_minutes_then_up_to_the_limit() {
        let (mut backoff, mut now, mut rng) =
            (Backoff::new(BackoffLimits::default()), start(), fastrand::Rng::with_seed(1));
        for expected_ms in [250, 500, 1_000, 1_000, 1_000] {
            assert_about(bound(&backoff, now, FailureClass::Cheap), expected_ms);
            backoff.next_delay(now, FailureClass::Cheap, &mut rng);
            now += Duration::from_secs(10);
        }
        now += CHEAP_PERIOD;
        for expected_ms in [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000] {
            assert_about(bound(&backoff, now, FailureClass::Cheap), expected_ms);
            backoff.next_delay(now, FailureClass::Cheap, &mut rng);
        }
    }

    #[test]
    fn slow_failures_double_at_once_and_never_stop() {
        let (mut backoff, now, mut rng) =
            (Backoff::new(BackoffLimits::default()), start(), fastrand::Rng::with_seed(1));
        for expected_ms in [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000] {
            assert_about(bound(&backoff, now, FailureClass::Slow), expected_ms);
            backoff.next_delay(now, FailureClass::Slow, &mut rng);
        }
        for _ in 0..10_000 {
            assert!(backoff.next_delay(now, FailureClass::Slow, &mut rng) <= Duration::from_secs(30));
        }
        assert_eq!(backoff.attempt(), 10_008);
    }

    #[test]
    fn a_healthy_minute_forgets_the_past_and_a_shorter_one_does_not() {
        for (healthy, expected_ms) in [(59, 500), (60, 250)] {
            let (mut backoff, now, mut rng) = (Backoff::new(BackoffLimits::default()), start(), fastrand::Rng::new());
            backoff.next_delay(now, FailureClass::Slow, &mut rng);
            backoff.became_healthy(now);
            assert_about(bound(&backoff, now + Duration::from_secs(healthy), FailureClass::Slow), expected_ms);
        }
    }
}

//! How long to wait for an answer, and between tries: all of it hangs on the target duration.

use std::time::Duration;

use super::{cause::Class, desk::Desk};

/// What is assumed before a playlist has told.
const TARGET_UNKNOWN: Duration = Duration::from_secs(4);
/// Shorter and longer target durations are not believed as far as waiting goes.
const TARGET_MIN: Duration = Duration::from_millis(500);
const TARGET_MAX: Duration = Duration::from_secs(30);
/// No answer is expected faster: a TLS handshake over a satellite takes two round trips of 600 ms.
const ANSWER_MIN: Duration = Duration::from_secs(1);
/// No wait is shorter, so that time passes whatever the origin does.
const WAIT_MIN: Duration = Duration::from_millis(20);
/// The longest wait of the cheap class while the trouble is young.
const WAIT_CHEAP_MAX: Duration = Duration::from_secs(1);
/// How many cheap waits count as young: ten minutes of them, half a second each.
const CHEAP_TRIES: u32 = 1_200;

/// The target duration and what follows from it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    target: Option<Duration>,
    /// The playlist grows.
    pub(crate) is_live: bool,
    /// The slowest recent answer; it fades.
    slowest: Duration,
}

impl Timing {
    pub(crate) fn new() -> Self {
        Self { target: None, is_live: true, slowest: Duration::ZERO }
    }

    pub(crate) fn learn(&mut self, target: Duration, is_live: bool) {
        self.target = Some(target.clamp(TARGET_MIN, TARGET_MAX));
        self.is_live = is_live;
    }

    /// An answer began after so long.
    pub(crate) fn answered(&mut self, after: Duration) {
        self.slowest = after.max(self.slowest.saturating_sub(self.slowest / 8));
    }

    pub(crate) fn target(&self) -> Duration {
        self.target.unwrap_or(TARGET_UNKNOWN)
    }

    /// Three target durations: after so long without news something is wrong.
    pub(crate) fn patience(&self) -> Duration {
        self.target() * 3
    }

    /// How long to wait for an answer to begin, after so many failures in a row: half a target duration at first, then
    /// a whole one. Live media doesn't get longer: an origin that hung and is well again must be noticed within a
    /// target duration and a second, and one that always takes longer cannot be followed anyway.
    pub(crate) fn answer(&self, failures: u32) -> Duration {
        let longest = match (self.target, self.is_live) {
            (Some(target), true) => target.max(ANSWER_MIN) + Duration::from_millis(500),
            _ => self.patience().max(Duration::from_secs(10)),
        };
        let first = (self.target() / 2).max(ANSWER_MIN).max(self.slowest * 3);
        first.saturating_mul(1 << failures.min(4)).min(longest)
    }

    /// How long an answer may pause.
    pub(crate) fn quiet(&self, failures: u32) -> Duration {
        self.answer(failures)
    }

    /// How long the rest of a segment may take at the rate seen, after so many failures in a row.
    pub(crate) fn rest(&self, failures: u32) -> Duration {
        (self.target() * 2).saturating_mul(1 << failures.min(6))
    }
}

/// The waits between tries of one thing: full jitter below a doubling bound.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Waits {
    failures: u32,
    doublings: u32,
}

impl Waits {
    /// Failures in a row.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// It failed once more: how long to wait.
    pub(crate) fn next(&mut self, class: Class, timing: &Timing, desk: &mut Desk) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let doubled = desk.options.wait_initial.saturating_mul(1 << self.doublings.min(16));
        self.doublings = self.doublings.saturating_add(1);
        let half = timing.target() / 2;
        let longest = match class {
            Class::Cheap if self.failures < CHEAP_TRIES => half.min(WAIT_CHEAP_MAX),
            Class::Cheap => half,
            Class::Slow | Class::Final => Duration::MAX,
        };
        let bound = doubled.min(longest).min(desk.options.wait_max);
        bound.mul_f64(desk.rng.f64()).max(WAIT_MIN)
    }

    /// It succeeded.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }
}

//! When the next PutMedia may begin: the service's rate, and waiting after failures.

use std::time::{Duration, Instant};

use fastrand::Rng;

use super::cause::Class;

/// The service takes 5 PutMedia calls a second for a stream: one each 300 ms is 4 in any second.
const CALL_GAP: Duration = Duration::from_millis(300);
/// The first wait is up to this long.
const FIRST: Duration = Duration::from_millis(250);
/// The longest wait while a cheap trouble is young, so that a network that is back is seen within a second.
const CHEAP_MAX: Duration = Duration::from_millis(500);
/// How long a trouble is young.
const CHEAP_PERIOD: Duration = Duration::from_secs(1_800);
/// The longest wait of all.
const MAX: Duration = Duration::from_secs(30);

/// Times of calls and failures.
#[derive(Debug)]
pub(crate) struct Pace {
    next: Option<Instant>,
    trouble_since: Option<Instant>,
    doublings: u32,
    attempt: u32,
}

impl Pace {
    pub(crate) fn new() -> Self {
        Self { next: None, trouble_since: None, doublings: 0, attempt: 0 }
    }

    /// When the next call may begin, if that is later than `now`.
    pub(crate) fn wait(&self, now: Instant) -> Option<Instant> {
        self.next.filter(|next| *next > now)
    }

    /// A call begins.
    pub(crate) fn called(&mut self, now: Instant) {
        self.next = Some(now + CALL_GAP);
    }

    /// A fragment was PERSISTED: the past is forgotten.
    pub(crate) fn healthy(&mut self) {
        (self.trouble_since, self.doublings, self.attempt) = (None, 0, 0);
    }

    /// A call failed, or its connection did.
    pub(crate) fn failed(&mut self, now: Instant, class: Class, rng: &mut Rng) {
        let trouble = now.saturating_duration_since(*self.trouble_since.get_or_insert(now));
        self.attempt = self.attempt.saturating_add(1);
        let doubled = FIRST.saturating_mul(1_u32.checked_shl(self.doublings).unwrap_or(u32::MAX)).min(MAX);
        let wait = match class {
            Class::Steady => Duration::from_millis(750) + FIRST.mul_f64(rng.f64()),
            Class::Cheap if trouble < CHEAP_PERIOD => doubled.min(CHEAP_MAX).mul_f64(rng.f64()),
            Class::Cheap | Class::Slow => {
                self.doublings = self.doublings.saturating_add(1);
                doubled.mul_f64(rng.f64())
            }
        };
        self.next = self.next.max(Some(now + wait));
    }

    /// Failures since something was PERSISTED.
    pub(crate) fn attempt(&self) -> u32 {
        self.attempt
    }
}

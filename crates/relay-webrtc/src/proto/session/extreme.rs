//! What a value was at its least lately, without a list of what it was.

use std::time::{Duration, Instant};

/// The least value of the last one to two periods.
#[derive(Debug)]
pub(super) struct Extreme<T> {
    period: Duration,
    turned: Option<Instant>,
    current: Option<T>,
    previous: Option<T>,
}

impl<T: Ord + Copy> Extreme<T> {
    /// None yet.
    pub(super) fn new(period: Duration) -> Self {
        Self { period, turned: None, current: None, previous: None }
    }

    /// One more value.
    pub(super) fn put(&mut self, now: Instant, value: T) {
        let turned = *self.turned.get_or_insert(now);
        if now.saturating_duration_since(turned) >= self.period {
            self.turned = Some(now);
            self.previous = self.current.take();
        }
        self.current = Some(self.current.map_or(value, |current| current.min(value)));
    }

    /// The least, if there is any.
    pub(super) fn get(&self) -> Option<T> {
        match (self.current, self.previous) {
            (Some(current), Some(previous)) => Some(current.min(previous)),
            (current, previous) => current.or(previous),
        }
    }
}

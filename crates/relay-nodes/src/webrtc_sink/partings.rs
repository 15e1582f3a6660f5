//! What the log hears of viewers that go: one line per way of going and second, however many go at once.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use tracing::{info, warn};

/// A viewer that has gone.
pub(super) struct Parting {
    /// One of a few fixed words.
    pub(super) how: &'static str,
    /// Why, in plain words.
    pub(super) cause: String,
    /// What its lines in the log are told apart by.
    pub(super) tag: String,
    /// Where it was, as far as is known.
    pub(super) remote: String,
    pub(super) watched: Duration,
}

/// What was said of each way of going, and how many have not been mentioned.
#[derive(Default)]
pub(super) struct Partings(BTreeMap<&'static str, Said>);

struct Said {
    at: Instant,
    more: u64,
}

/// Between two lines about the same.
const PAUSE: Duration = Duration::from_secs(1);

impl Partings {
    /// Says that a viewer has gone, or counts it.
    pub(super) fn tell(&mut self, parting: &Parting, now: Instant) {
        let Parting { how, cause, tag, remote, watched } = parting;
        let watched_s = watched.as_secs();
        match (self.is_first(how, now), *how) {
            (false, _) => {}
            (true, "closed") => info!(viewer = tag, remote, watched_s, "viewer left: {cause}"),
            (true, how) => warn!(viewer = tag, remote, watched_s, how, "viewer lost: {cause}"),
        }
    }

    /// Says how many more have gone, once it is time. To be called at every turn.
    pub(super) fn sum_up(&mut self, now: Instant) {
        for (how, viewers) in self.take_due(now) {
            match how {
                "closed" => info!(viewers, "more viewers left within a second"),
                how => warn!(viewers, how, "more viewers were lost within a second, in the same way"),
            }
        }
    }

    fn is_first(&mut self, how: &'static str, now: Instant) -> bool {
        let known = self.0.get_mut(how).map(|said| said.more += 1).is_some();
        if !known {
            self.0.insert(how, Said { at: now, more: 0 });
        }
        !known
    }

    /// What is to be said of those that were only counted.
    fn take_due(&mut self, now: Instant) -> Vec<(&'static str, u64)> {
        let mut due = Vec::new();
        self.0.retain(|how, said| {
            let is_over = now.saturating_duration_since(said.at) >= PAUSE;
            if is_over && said.more > 0 {
                due.push((*how, said.more));
            }
            !is_over
        });
        due
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant will do")]
mod tests {
    use super::*;

    #[test]
    fn however_many_go_there_are_two_lines_a_second() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut partings = Partings::default();
        assert!(partings.is_first("vanished", at(0)));
        assert!((1..500).all(|ms| !partings.is_first("vanished", at(ms))));
        assert!(partings.is_first("closed", at(500)), "another way of going has its own line");
        assert_eq!(partings.take_due(at(999)), []);
        assert_eq!(partings.take_due(at(1_000)), [("vanished", 499)]);
        assert!(partings.is_first("vanished", at(1_001)));
        assert_eq!(partings.take_due(at(3_000)), [], "nobody was only counted");
    }
}

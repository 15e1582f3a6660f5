//! What one viewer saw, counted: times of its join, frames shown and missing, latency, freezes.

use std::time::Duration;

use super::units::{Released, UtcNanos, Whole};

/// A shown picture that stands for longer is a frozen interval.
const FREEZE: i64 = 200_000_000;
/// A viewer whose newest frame is less than this behind its stamp has caught up with live …
const CAUGHT_UP: i64 = 200_000_000;
/// … and after this long since its first frame it counts as if it had.
const CATCH_UP_MAX: i64 = 2_000_000_000;
/// How long after joining the lag is looked at.
const LAG_AFTER: i64 = 2_000_000_000;
/// Latencies remembered of one viewer: an hour at 25 fps, 8 bytes each.
const MAX_LATENCIES: usize = 90_000;

/// Counters of one viewer. Those of the window begin anew with [`Tally::begin_window`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// When the viewer began to join.
    pub(crate) began: UtcNanos,
    /// First and last packet of the first whole key frame.
    pub(crate) first_key: Option<(UtcNanos, UtcNanos)>,
    /// Lag of what a player that starts at once shows 2 s after the viewer began to join.
    pub(crate) lag_after_2s: Option<i64>,
    /// Its lag now.
    pub(crate) lag: Option<i64>,
    /// The window's.
    pub(crate) seen: Seen,
    shown: Option<Shown>,
    last: Option<u64>,
    is_chained: bool,
    caught_up: bool,
}

/// Counters of a window.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) whole: u64,
    pub(crate) incomplete: u64,
    pub(crate) keys: u64,
    pub(crate) shown: u64,
    /// Whole, but behind a gap: it refers to a frame that is missing.
    pub(crate) orphans: u64,
    pub(crate) unstamped: u64,
    /// Counters left out, once the viewer had caught up.
    pub(crate) lost: u64,
    /// Counters left out before.
    pub(crate) skipped_joining: u64,
    pub(crate) repeated: u64,
    pub(crate) freezes: u64,
    pub(crate) longest_gap: i64,
    pub(crate) most_lag: i64,
    /// Nanoseconds from a stamp to the arrival of the packet that has it.
    pub(crate) latencies: Vec<i64>,
    /// Nanoseconds from a stamp to the arrival of its unit's last packet.
    pub(crate) whole_latencies: Vec<i64>,
}

/// The player: it shows the first frame when it has it, and the others by their timestamps, or when they come, if later.
#[derive(Clone, Copy, Debug)]
struct Shown {
    start: UtcNanos,
    start_time: u64,
    at: UtcNanos,
}

impl Tally {
    pub(crate) fn new(began: UtcNanos) -> Self {
        Self { began, ..Self::default() }
    }

    /// Forgets the counts, not the joining.
    pub(crate) fn begin_window(&mut self) {
        self.seen = Seen::default();
    }

    /// True if a key frame must be asked for.
    pub(crate) fn add(&mut self, released: &Released) -> bool {
        match released {
            Released::Incomplete => {
                self.seen.incomplete += 1;
                self.is_chained = false;
                true
            }
            Released::Whole(whole) => {
                self.add_whole(whole);
                !self.is_chained
            }
        }
    }

    fn add_whole(&mut self, whole: &Whole) {
        self.seen.whole += 1;
        self.seen.keys += u64::from(whole.key);
        if whole.key {
            self.first_key.get_or_insert((whole.first, whole.last));
        }
        let gap = self.gap(whole);
        self.is_chained = whole.key || (self.is_chained && gap == 0);
        if self.is_chained {
            self.seen.shown += 1;
            self.show(whole);
        } else {
            self.seen.orphans += 1;
        }
        if let Some(stamp) = whole.stamp.filter(|_| self.caught_up && self.seen.latencies.len() < MAX_LATENCIES) {
            self.seen.latencies.push(whole.stamped - stamp.utc_nanos);
            self.seen.whole_latencies.push(whole.last - stamp.utc_nanos);
        }
    }

    /// Counters left out before this frame.
    fn gap(&mut self, whole: &Whole) -> u64 {
        let Some(stamp) = whole.stamp else {
            self.seen.unstamped += 1;
            return 0;
        };
        if self.last.is_some_and(|last| stamp.counter <= last) {
            self.seen.repeated += 1;
            return 0;
        }
        let gap = self.last.map_or(0, |last| stamp.counter - last - 1);
        self.last = Some(stamp.counter);
        let first = self.first_key.map_or(whole.last, |(_, last)| last);
        self.caught_up |= whole.stamped - stamp.utc_nanos < CAUGHT_UP || whole.last - first > CATCH_UP_MAX;
        if self.caught_up {
            self.seen.lost += gap;
        } else {
            self.seen.skipped_joining += gap;
        }
        gap
    }

    fn show(&mut self, whole: &Whole) {
        let at = match &mut self.shown {
            None => {
                let at = whole.released;
                self.shown = Some(Shown { start: at, start_time: whole.time, at });
                at
            }
            Some(shown) => {
                let ticks = whole.time.saturating_sub(shown.start_time).cast_signed();
                let due = shown.start + ticks.saturating_mul(100_000) / 9;
                let at = due.max(whole.released).max(shown.at);
                let gap = at - shown.at;
                shown.at = at;
                self.seen.freezes += u64::from(gap > FREEZE);
                self.seen.longest_gap = self.seen.longest_gap.max(gap);
                at
            }
        };
        let Some(stamp) = whole.stamp else { return };
        let lag = at - stamp.utc_nanos;
        self.lag = Some(lag);
        // What is due later than 2 s after joining says how late the picture then is as well, if nothing came before.
        if at <= self.began + LAG_AFTER || self.lag_after_2s.is_none() {
            self.lag_after_2s = Some(lag);
        }
        if self.caught_up {
            self.seen.most_lag = self.seen.most_lag.max(lag);
        }
    }
}

/// Nanoseconds to milliseconds with three decimals.
pub(crate) fn millis(nanos: i64) -> f64 {
    (nanos / 1_000) as f64 / 1_000.0
}

/// The value below which `percent` of the values lie, in milliseconds; `values` gets sorted.
pub(crate) fn percentile(values: &mut [i64], percent: usize) -> Option<f64> {
    values.sort_unstable();
    let rank = (values.len() * percent).div_ceil(100).saturating_sub(1);
    values.get(rank).copied().map(millis)
}

/// A duration in nanoseconds.
pub(crate) fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use relay_media::stamp::Stamp;

    use super::*;

    const MS: i64 = 1_000_000;

    fn frame(counter: u64, key: bool, sent_ms: i64, came_ms: i64, ticks: u64) -> Released {
        let (utc_nanos, at) = (sent_ms * MS, came_ms * MS);
        let stamp = Some(Stamp { counter, utc_nanos });
        Released::Whole(Whole { time: ticks, key, stamp, first: at, last: at, stamped: at, released: at })
    }

    #[test]
    fn a_backlog_in_real_time_lags_and_a_compressed_one_does_not() {
        // A group of 4 s, joined at its end: 100 frames come at once, then 75 come live.
        for (ticks_of_backlog, lag_ms) in [(3_600, 3_960), (36, 39)] {
            let mut tally = Tally::new(4_000 * MS);
            for counter in 0..175_u64 {
                let sent = counter as i64 * 40;
                let ticks = counter.min(99) * ticks_of_backlog + counter.saturating_sub(99) * 3_600;
                tally.add(&frame(counter, counter == 0, sent, sent.max(4_000), ticks));
            }
            let lag = tally.lag_after_2s.unwrap() / MS;
            assert!((lag - lag_ms).abs() <= 60, "{lag} ms, expected {lag_ms}");
            assert_eq!((tally.seen.lost, tally.seen.freezes, tally.seen.shown), (0, 0, 175));
        }
    }

    #[test]
    fn gaps_break_the_chain_until_a_key_frame() {
        let mut tally = Tally::new(0);
        let asked: Vec<bool> = [(0, true), (1, false), (3, false), (4, false), (10, true), (11, false), (11, false)]
            .into_iter()
            .map(|(counter, key)| {
                let at = counter as i64 * 40;
                tally.add(&frame(counter, key, at, at, counter * 3_600))
            })
            .collect();
        assert_eq!(asked, [false, false, true, true, false, false, false]);
        let Seen { whole, shown, orphans, lost, repeated, freezes, keys, .. } = tally.seen;
        assert_eq!((whole, shown, orphans, lost, repeated, freezes, keys), (7, 5, 2, 6, 1, 1, 2));
    }
}

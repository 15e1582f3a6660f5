//! How long a viewer should hold pictures back: hardly at all, but long enough for repairs where packets get lost.
//!
//! A picture that lacks a packet waits for its retransmission, and all behind it wait with it. A browser that only
//! receives knows no round trip, and keeps its jitter buffer as short as the pictures' jitter: Chromium, behind a path
//! of 50 to 100 ms each way with 3 % loss, froze once a second although every picture became whole. The sender knows
//! both figures, and the playout-delay extension carries them over.

use std::{
    cmp::Reverse,
    time::{Duration, Instant},
};

use super::extreme::Extreme;

/// What the extension says: minimum and maximum delay in hundredths of a second.
pub(super) type Delay = (u64, u64);

/// While the viewer catches up: show what you have.
pub(super) const CATCHING_UP: Delay = (0, 0);

/// On the live edge: room for jitter, but never the lasting delay that a receiver which once stuttered keeps.
const LIVE: Delay = (1, 20);

/// Repairs in so many different seconds mean a lossy path, not an accident; and so long without any mean a good one.
const LOSSY_SECONDS: u8 = 3;
const QUIET: Duration = Duration::from_secs(10);

/// Round trips: for a repair, for the repair of a repair, and for one more.
const REPAIRS: u32 = 3;

/// A loss shows with the next packet, perhaps a picture later, and receivers ask in turns of 20 to 30 ms.
const NOTICED_AFTER: Duration = Duration::from_millis(100);

/// The longest that pictures are held back, whatever the round trip.
const HOLD_MAX: Duration = Duration::from_millis(800);

/// The longest round trip is forgotten after one to two of these. A receiver that is told of less shows more at once,
/// and one that is told of more stands still for the difference: a hold that followed each measurement over a path
/// with 50 ms of jitter was itself what froze the picture.
const ROUND_TRIP_MEMORY: Duration = Duration::from_secs(60);

/// A change of less than this is not worth the stutter that it costs, in hundredths of a second.
const STEP: u64 = 5;

/// The delay that one viewer is told.
#[derive(Debug)]
pub(super) struct Playout {
    delay: Delay,
    /// The viewer has been told.
    told: bool,
    /// The last second with a repair began.
    second: Option<Instant>,
    repaired_at: Option<Instant>,
    /// Seconds with repairs since the last quiet time.
    lossy: u8,
    /// The longest of the last minutes.
    round_trip: Extreme<Reverse<Duration>>,
}

impl Playout {
    pub(super) fn new() -> Self {
        let round_trip = Extreme::new(ROUND_TRIP_MEMORY);
        Self { delay: LIVE, told: true, second: None, repaired_at: None, lossy: 0, round_trip }
    }

    /// A retransmission has left.
    pub(super) fn repaired(&mut self, now: Instant) {
        self.repaired_at = Some(now);
        if self.second.is_none_or(|second| now.saturating_duration_since(second) >= Duration::from_secs(1)) {
            self.second = Some(now);
            self.lossy = self.lossy.saturating_add(1);
        }
    }

    /// Looks at what happened since the last time. `round_trip`: as far as it is known.
    pub(super) fn adapt(&mut self, now: Instant, round_trip: Option<Duration>) {
        if self.repaired_at.is_none_or(|at| now.saturating_duration_since(at) > QUIET) {
            self.lossy = 0;
        }
        if let Some(round_trip) = round_trip {
            self.round_trip.put(now, Reverse(round_trip));
        }
        let wanted = match self.round_trip.get().filter(|_| self.lossy >= LOSSY_SECONDS) {
            Some(Reverse(round_trip)) => holding((round_trip * REPAIRS + NOTICED_AFTER).min(HOLD_MAX)),
            None => LIVE,
        };
        if wanted.0.abs_diff(self.delay.0) >= STEP {
            self.delay = wanted;
            self.told = false;
        }
    }

    /// What the next unit's packets should say, if anything: what is new, and with each key frame all there is.
    pub(super) fn tell(&mut self, key: bool) -> Option<Delay> {
        let tells = key || !self.told;
        self.told |= tells;
        tells.then_some(self.delay)
    }
}

fn holding(hold: Duration) -> Delay {
    let hundredths = u64::try_from(hold.as_millis() / 10).unwrap_or(LIVE.0);
    (hundredths, hundredths + LIVE.1)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant will do")]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Repairs at these times (ms), then a look at `at` with this round trip.
    fn told(repairs: &[u32], at: u32, round_trip: Option<u32>) -> Delay {
        let start = Instant::now();
        let mut playout = Playout::new();
        repairs.iter().for_each(|&at| playout.repaired(start + at * MS));
        playout.adapt(start + at * MS, round_trip.map(|ms| ms * MS));
        playout.tell(true).unwrap()
    }

    #[test]
    fn lossy_paths_are_given_time_for_repairs() {
        let lossy = [0, 400, 900, 1_100, 2_200];
        for (name, repairs, at, round_trip, delay) in [
            ("nothing lost", &[][..], 5_000, Some(100), LIVE),
            ("one accident", &[0, 1, 2, 3, 20], 1_000, Some(100), LIVE),
            ("a lossy path", &lossy, 2_300, Some(150), (55, 75)),
            ("a lossy short path", &lossy, 2_300, Some(2), (10, 30)),
            ("a lossy path of unknown length", &lossy, 2_300, None, LIVE),
            ("a lossy long path", &lossy, 2_300, Some(900), (80, 100)),
            ("quiet again", &lossy, 12_300, Some(150), LIVE),
        ] {
            assert_eq!(told(repairs, at, round_trip), delay, "{name}");
        }
    }

    #[test]
    fn a_change_is_told_once_and_key_frames_repeat_it() {
        let start = Instant::now();
        let mut playout = Playout::new();
        assert_eq!(playout.tell(false), None);
        (0..4).for_each(|second| playout.repaired(start + Duration::from_secs(second)));
        for (round_trip, told) in [(150, Some((55, 75))), (150, None), (160, None), (200, Some((70, 90))), (100, None)]
        {
            playout.adapt(start + Duration::from_secs(4), Some(round_trip * MS));
            assert_eq!(playout.tell(false), told, "{round_trip} ms");
        }
        assert_eq!(playout.tell(true), Some((70, 90)));
        playout.adapt(start + Duration::from_secs(14), Some(200 * MS));
        assert_eq!(playout.tell(false), Some(LIVE));
    }

    #[test]
    fn a_round_trip_that_varies_moves_nothing() {
        let start = Instant::now();
        let mut playout = Playout::new();
        let mut told = Vec::new();
        for second in 0..200 {
            let now = start + second * Duration::from_secs(1);
            playout.repaired(now);
            // 100 to 200 ms, and only 100 after a minute.
            playout.adapt(now, Some((100 + if second < 60 { second * 37 % 101 } else { 0 }) * MS));
            told.extend(playout.tell(false).map(|(least, _)| (second, least)));
        }
        let (rise, fall) = told.split_at(told.len() - 1);
        assert!(rise.iter().all(|&(second, _)| second < 10), "{told:?}");
        assert!(rise.is_sorted_by_key(|&(_, least)| least), "{told:?}");
        assert!(matches!(fall, [(120..=180, 40)]), "{told:?}");
    }
}

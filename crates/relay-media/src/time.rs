//! Media time: ticks of a timebase, never floating point seconds.

use std::{fmt, num::NonZeroU32, time::Duration};

/// Ticks per second of a clock (90 000 for video over RTP).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Timebase(NonZeroU32);

impl Timebase {
    /// 90 kHz: every video codec over RTP and MPEG-TS.
    pub const VIDEO: Self = Self::new(90_000).expect("90 kHz is not zero");

    /// A clock of `hz` ticks per second; `None` if `hz` is zero.
    pub const fn new(hz: u32) -> Option<Self> {
        match NonZeroU32::new(hz) {
            Some(hz) => Some(Self(hz)),
            None => None,
        }
    }

    /// Ticks per second.
    pub const fn hz(self) -> u32 {
        self.0.get()
    }

    /// `duration` in ticks, rounded to nearest, saturating.
    pub fn ticks(self, duration: Duration) -> i64 {
        let ticks = (duration.as_nanos() * u128::from(self.hz()) + NANOS as u128 / 2) / NANOS as u128;
        i64::try_from(ticks).unwrap_or(i64::MAX)
    }

    /// `ticks` as a duration; negative ticks give zero.
    pub fn duration(self, ticks: i64) -> Duration {
        let ticks = u128::try_from(ticks).unwrap_or(0);
        let nanos = ticks * NANOS as u128 / u128::from(self.hz());
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

impl fmt::Debug for Timebase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} Hz", self.0)
    }
}

/// A point on a stream's own timeline: signed 64-bit ticks of a [`Timebase`].
///
/// Unwrapped once, at ingress; converted once, at the sink. Its zero is the start of the stream's timeline, not
/// an epoch: [`Wall`](crate::Wall) tells the time of day.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Timestamp {
    ticks: i64,
    timebase: Timebase,
}

const NANOS: i128 = 1_000_000_000;

impl Timestamp {
    /// `ticks` of `timebase`.
    pub const fn new(ticks: i64, timebase: Timebase) -> Self {
        Self { ticks, timebase }
    }

    /// Ticks since the start of the timeline.
    pub const fn ticks(self) -> i64 {
        self.ticks
    }

    /// The clock these ticks count.
    pub const fn timebase(self) -> Timebase {
        self.timebase
    }

    /// The same instant in another timebase, rounded to nearest, saturating at the ends of `i64`.
    pub fn rescale(self, to: Timebase) -> Self {
        if to == self.timebase {
            return self;
        }
        let (from_hz, to_hz) = (i128::from(self.timebase.hz()), i128::from(to.hz()));
        Self { ticks: saturate((i128::from(self.ticks) * to_hz + from_hz / 2).div_euclid(from_hz)), timebase: to }
    }

    /// Nanoseconds since the start of the timeline, saturating.
    pub fn nanos(self) -> i64 {
        saturate((i128::from(self.ticks) * NANOS).div_euclid(i128::from(self.timebase.hz())))
    }

    /// Signed nanoseconds from `earlier` to `self`; exact across timebases to the nanosecond, saturating.
    pub fn nanos_since(self, earlier: Self) -> i64 {
        self.nanos().saturating_sub(earlier.nanos())
    }

    /// The time from `earlier` to `self`, zero if `earlier` is the later one.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(u64::try_from(self.nanos_since(earlier)).unwrap_or(0))
    }

    /// `ticks` later in the same timebase, saturating.
    #[must_use]
    pub const fn plus(self, ticks: i64) -> Self {
        Self { ticks: self.ticks.saturating_add(ticks), timebase: self.timebase }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ticks, self.timebase.hz())
    }
}

fn saturate(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

/// A time of day: nanoseconds since 1970-01-01T00:00:00Z, without leap seconds (POSIX time).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UtcTime(i64);

impl UtcTime {
    /// Nanoseconds since the Unix epoch.
    pub const fn from_unix_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the Unix epoch.
    pub const fn unix_nanos(self) -> i64 {
        self.0
    }

    /// Milliseconds since the Unix epoch, rounded down.
    pub const fn unix_millis(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// From a 64-bit NTP timestamp (RFC 3550 §4), era 0 or 1 as RFC 4330 §3 tells them apart by the top bit.
    pub fn from_ntp(ntp: u64) -> Self {
        /// Seconds from 1900 to 1970: 70 years with 17 leap days.
        const EPOCH: i64 = 2_208_988_800;
        let (secs, fraction) = ((ntp >> 32) as i64, (ntp & 0xffff_ffff) as i128);
        let era = if secs & 0x8000_0000 == 0 { 1_i64 << 32 } else { 0 };
        let nanos = i128::from(secs + era - EPOCH) * NANOS + ((fraction * NANOS) >> 32);
        Self(saturate(nanos))
    }

    /// As a 64-bit NTP timestamp (RFC 3550 §4), the era dropped.
    pub fn to_ntp(self) -> u64 {
        const EPOCH: i128 = 2_208_988_800;
        let (secs, nanos) = (self.0.div_euclid(NANOS as i64), self.0.rem_euclid(NANOS as i64));
        let secs = ((i128::from(secs) + EPOCH) as u64) << 32;
        secs | ((((nanos as u64) << 32) + 500_000_000) / NANOS as u64).min(0xffff_ffff)
    }

    /// `nanos` later, saturating.
    #[must_use]
    pub const fn plus_nanos(self, nanos: i64) -> Self {
        Self(self.0.saturating_add(nanos))
    }

    /// Signed nanoseconds from `earlier` to `self`, saturating.
    pub const fn nanos_since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rescales_to_the_nearest_tick_on_both_sides_of_zero() {
        let aac = Timebase::new(44_100).unwrap();
        for (ticks, expected) in [(90_000, 44_100), (-90_000, -44_100), (1, 0), (2, 1), (-2, -1)] {
            assert_eq!(Timestamp::new(ticks, Timebase::VIDEO).rescale(aac).ticks(), expected, "{ticks}");
        }
        assert_eq!(Timestamp::new(i64::MAX, Timebase::new(1).unwrap()).rescale(aac).ticks(), i64::MAX);
    }

    #[test]
    fn ntp_round_trips_in_both_eras() {
        for secs in [0_i64, 1_795_219_200, 2_085_978_496, 2_200_000_000] {
            let utc = UtcTime::from_unix_nanos(secs * 1_000_000_000 + 123_456_789);
            assert!(UtcTime::from_ntp(utc.to_ntp()).nanos_since(utc).abs() <= 1, "{secs}");
        }
    }

    #[test]
    fn durations_convert_both_ways() {
        assert_eq!(Timebase::VIDEO.ticks(Duration::from_millis(40)), 3_600);
        assert_eq!(Timebase::VIDEO.duration(3_600), Duration::from_millis(40));
        assert_eq!(Timebase::VIDEO.duration(-1), Duration::ZERO);
    }
}

//! Media time to time of day: one anchor per connection, corrected without steps.

use relay_media::{Timestamp, UtcTime, Wall, WallOrigin};

/// Maps a connection's media time to UTC.
///
/// It starts from the arrival of the first packet. A sender report is believed if it is within 5 s of
/// local time; the mapping then moves towards it by at most 500 ppm of the media time that passes, so that the
/// time of day never steps within a connection.
#[derive(Clone, Debug)]
pub struct WallAnchor {
    /// UTC minus media time, in nanoseconds, as it is used now.
    offset: i64,
    /// Where the offset is going.
    target: i64,
    origin: WallOrigin,
    slewed_until: Option<Timestamp>,
}

/// A camera whose clock differs more than this from ours is wrong (moonfire-nvr's rule).
const TRUST_NANOS: u64 = 5_000_000_000;
/// Cameras' clocks run within 500 ppm of the truth.
const SLEW_PPM: i64 = 500;

impl WallAnchor {
    /// The packet of presentation time `pts` arrived at `utc`.
    pub fn at_arrival(pts: Timestamp, utc: UtcTime) -> Self {
        let offset = utc.unix_nanos().saturating_sub(pts.nanos());
        Self { offset, target: offset, origin: WallOrigin::Arrival, slewed_until: None }
    }

    /// The peer says that `pts` is `utc`, while our clock says `local`. False if it was not believed.
    pub fn sender_report(&mut self, pts: Timestamp, utc: UtcTime, local: UtcTime) -> bool {
        if utc.nanos_since(local).unsigned_abs() > TRUST_NANOS {
            return false;
        }
        self.target = utc.unix_nanos().saturating_sub(pts.nanos());
        self.origin = WallOrigin::SenderReport;
        if self.slewed_until.is_none() {
            self.offset = self.target;
        }
        true
    }

    /// The origin's playlist says that `pts` is `utc` (RFC 8216 §4.3.2.6). Media that is fetched is older than now by
    /// what the playlist holds, so whether to believe it is the caller's to judge. The first one sets the clock, later
    /// ones slew it.
    pub fn program_date_time(&mut self, pts: Timestamp, utc: UtcTime) {
        self.target = utc.unix_nanos().saturating_sub(pts.nanos());
        self.origin = WallOrigin::ProgramDateTime;
        if self.slewed_until.is_none() {
            self.offset = self.target;
        }
    }

    /// The time of day of `pts`. Called in the order of the packets.
    pub fn wall(&mut self, pts: Timestamp) -> Wall {
        let passed = self.slewed_until.map_or(0, |last| pts.nanos_since(last).max(0));
        if self.slewed_until.is_none_or(|last| pts.nanos_since(last) > 0) {
            self.slewed_until = Some(pts);
        }
        let step = i64::try_from(i128::from(passed) * i128::from(SLEW_PPM) / 1_000_000).unwrap_or(i64::MAX);
        self.offset = self.offset.saturating_add(self.target.saturating_sub(self.offset).clamp(-step, step));
        Wall { utc: UtcTime::from_unix_nanos(pts.nanos().saturating_add(self.offset)), origin: self.origin }
    }
}

#[cfg(test)]
mod tests {
    use relay_media::Timebase;

    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn pts(seconds: i64) -> Timestamp {
        Timestamp::new(seconds * 90_000, Timebase::VIDEO)
    }

    #[test]
    fn a_report_before_the_first_packet_sets_the_clock_and_a_late_one_slews() {
        let mut anchor = WallAnchor::at_arrival(pts(0), UtcTime::from_unix_nanos(100 * SECOND));
        assert!(anchor.sender_report(
            pts(0),
            UtcTime::from_unix_nanos(99 * SECOND),
            UtcTime::from_unix_nanos(100 * SECOND)
        ));
        assert_eq!(anchor.wall(pts(0)).utc.unix_nanos(), 99 * SECOND);

        assert!(anchor.sender_report(
            pts(0),
            UtcTime::from_unix_nanos(100 * SECOND),
            UtcTime::from_unix_nanos(100 * SECOND)
        ));
        let wall = anchor.wall(pts(1_000));
        assert_eq!(wall.utc.unix_nanos(), (1_099 * SECOND) + SECOND / 2, "500 ppm of 1000 s is half a second");
        assert_eq!(wall.origin, WallOrigin::SenderReport);
        assert_eq!(anchor.wall(pts(3_000)).utc.unix_nanos(), 3_100 * SECOND, "it stops where it was going");
    }

    #[test]
    fn a_camera_that_lives_in_1970_is_not_believed() {
        let mut anchor = WallAnchor::at_arrival(pts(0), UtcTime::from_unix_nanos(100 * SECOND));
        assert!(!anchor.sender_report(pts(0), UtcTime::from_unix_nanos(0), UtcTime::from_unix_nanos(100 * SECOND)));
        assert_eq!(anchor.wall(pts(1)).utc.unix_nanos(), 101 * SECOND);
        assert_eq!(anchor.wall(pts(1)).origin, WallOrigin::Arrival);
    }
}

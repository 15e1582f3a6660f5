//! Every decision to drop a packet, as pure functions: when the ring evicts, and what a cursor that cannot keep up
//! gives away.
//!
//! A cursor moves through the packets in the order they were pushed, all tracks together. Where it jumps or waits for
//! a key frame, the sound in between goes with the picture: both resume at the same key frame, in step. A stream
//! without video can be joined at every packet.

use std::time::Duration;

use relay_media::Flags;

use crate::Limits;

/// What a cursor gives away when it cannot keep up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeakPolicy {
    /// For viewers: stays near the newest packet.
    ///
    /// Behind by more than half of `max_lag` it sheds [`DISPOSABLE`](Flags::DISPOSABLE) packets; behind by more than
    /// `max_lag`, or passed by eviction, it jumps to the newest join point ahead of it. With none ahead it goes on if
    /// it still stands within `max_lag` of where it joined (a new viewer of a camera with long GOPs joins far behind
    /// and has nothing newer to show), else it drops everything up to the next key frame.
    Live {
        /// How far behind it may fall, in media time.
        max_lag: Duration,
    },
    /// For recorders: loses only what the ring's caps evict before it is read, then resumes at the oldest join point
    /// still retained.
    Keep,
}

impl LeakPolicy {
    /// `max_lag` in nanoseconds, `None` for [`Keep`](Self::Keep).
    pub(crate) fn max_lag_nanos(self) -> Option<i64> {
        match self {
            Self::Live { max_lag } => Some(nanos(max_lag)),
            Self::Keep => None,
        }
    }
}

/// What the ring holds, for the decision to evict its oldest packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    pub(crate) packets: usize,
    pub(crate) bytes: usize,
    /// Media time from the oldest packet to the newest, in nanoseconds.
    pub(crate) span_nanos: i64,
    /// The oldest packet belongs to the newest GOP.
    pub(crate) newest_gop_only: bool,
}

/// Whether the oldest packet must go: past the byte or the count cap always, past the duration cap only while it is
/// older than the newest GOP.
pub(crate) fn evicts(held: Held, limits: &Limits) -> bool {
    held.packets > limits.max_packets
        || held.bytes > limits.max_bytes
        || (held.span_nanos > nanos(limits.max_duration) && !held.newest_gop_only)
}

/// How a `Live` cursor goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// It keeps up: everything is delivered.
    Whole,
    /// It is late: disposable packets are dropped on the way.
    Shed,
    /// It is too late: everything before this join point is dropped.
    JumpTo(u64),
    /// It is too late and there is nothing to jump to: everything is dropped up to the next key frame.
    Starve,
}

/// How a `Live` cursor that is `lag` behind goes on (all in nanoseconds). `landing` is how far behind it joined or
/// jumped to, zero once it has caught up; `newest_ahead` is the newest join point after the packet it would read.
pub(crate) fn pace(lag: i64, max_lag: i64, landing: i64, newest_ahead: Option<u64>) -> Pace {
    if lag <= max_lag / 2 {
        return Pace::Whole;
    }
    if lag <= max_lag {
        return Pace::Shed;
    }
    match newest_ahead {
        Some(join) => Pace::JumpTo(join),
        None if lag <= landing.saturating_add(max_lag) => Pace::Shed,
        None => Pace::Starve,
    }
}

/// Whether a shedding cursor drops a packet with these flags.
pub(crate) fn sheds(flags: Flags) -> bool {
    flags.contains(Flags::DISPOSABLE) && !flags.contains(Flags::KEY)
}

/// Where a cursor jumps to after eviction passed it: a viewer to the newest picture. A recorder does not jump, it goes
/// on at the oldest join point still retained, as whoever waits for one does.
pub(crate) fn jumps_to(policy: LeakPolicy, newest_join: Option<u64>) -> Option<u64> {
    match policy {
        LeakPolicy::Live { .. } => newest_join,
        LeakPolicy::Keep => None,
    }
}

pub(crate) fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_live_cursor_sheds_before_it_jumps_and_jumps_before_it_starves() {
        for (lag, landing, ahead, expected) in [
            (0, 0, Some(9), Pace::Whole),
            (500, 0, Some(9), Pace::Whole),
            (501, 0, Some(9), Pace::Shed),
            (1_000, 0, None, Pace::Shed),
            (1_001, 0, Some(9), Pace::JumpTo(9)),
            (1_001, 0, None, Pace::Starve),
            (8_000, 8_000, None, Pace::Shed),
            (9_000, 8_000, None, Pace::Shed),
            (9_001, 8_000, None, Pace::Starve),
            (8_000, 8_000, Some(9), Pace::JumpTo(9)),
        ] {
            assert_eq!(pace(lag, 1_000, landing, ahead), expected, "lag {lag}, joined at {landing}, {ahead:?}");
        }
    }

    #[test]
    fn the_newest_gop_outlives_the_duration_cap_only() {
        let limits = Limits { max_bytes: 100, max_duration: Duration::from_nanos(100), max_packets: 100 };
        for (packets, bytes, span_nanos, newest_gop_only, expected) in [
            (100, 100, 100, false, false),
            (101, 1, 1, false, true),
            (101, 1, 1, true, true),
            (1, 101, 1, true, true),
            (1, 1, 101, true, false),
            (1, 1, 101, false, true),
        ] {
            let held = Held { packets, bytes, span_nanos, newest_gop_only };
            assert_eq!(evicts(held, &limits), expected, "{held:?}");
        }
    }

    #[test]
    fn only_disposable_pictures_that_nobody_joins_at_are_shed() {
        for (flags, expected) in [
            (Flags::empty(), false),
            (Flags::DISPOSABLE, true),
            (Flags::DISPOSABLE | Flags::DISCONTINUITY, true),
            (Flags::DISPOSABLE | Flags::KEY, false),
        ] {
            assert_eq!(sheds(flags), expected, "{flags:?}");
        }
    }
}

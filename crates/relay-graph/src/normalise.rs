//! The one timestamp normaliser, at ingress: whatever the peer's clock does, decode times strictly increase, never
//! exceed presentation times, and follow the time that really passed across breaks.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    time::{Duration, Instant},
};

use relay_media::{Timebase, Timestamp, TrackId};

/// One timeline for all tracks of a stream, from its first packet for as long as the process lives.
///
/// Time zero is the arrival of the first packet. Each track is anchored by the arrival of its first packet on each
/// connection and then follows its own clock, until that clock jumps.
#[derive(Debug, Default)]
pub struct Normaliser {
    zero: Option<Instant>,
    tracks: Vec<TrackTime>,
}

/// The times of a unit as the peer told them, unwrapped.
#[derive(Clone, Copy, Debug)]
pub struct RawTime {
    /// Its track.
    pub track: TrackId,
    /// The track's clock.
    pub timebase: Timebase,
    /// Presentation time in ticks, on the connection's own scale, 32-bit wraps already undone.
    pub pts: i64,
    /// Decode time in ticks on the same scale, where the protocol carries one (not RTP).
    pub dts: Option<i64>,
    /// Pictures that may be reordered (H.264 E.2.1 `max_num_reorder_frames`); `None`: learn it. 0 for audio.
    pub reorder: Option<u8>,
    /// When it was read.
    pub arrival: Instant,
}

/// Where a unit lies on the stream's timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Strictly greater than the one before on the same track.
    pub dts: Timestamp,
    /// Never before `dts`.
    pub pts: Timestamp,
    /// The peer's clock broke here.
    pub jump: Option<Jump>,
}

/// How a peer's clock broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Jump {
    /// The first unit of a connection after another: the timeline advanced by the time that passed.
    Reconnect,
    /// The clock stepped back, or leapt by more than 15 s against the time that passed.
    Reset,
    /// Reordering was deeper than known: a presentation time was lifted to keep its decode time in order.
    Reordered,
}

impl Jump {
    /// A fixed word for counting.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reconnect => "timeline_reconnect",
            Self::Reset => "timestamp_jump",
            Self::Reordered => "timestamp_reordered",
        }
    }
}

/// A clock that differs from the time that passed by more than this has jumped. Bursts at the start of a connection
/// (a server's GOP cache) run ahead by seconds, which this must let through: 10 s GOPs are common.
const JUMP: Duration = Duration::from_secs(15);
/// A step back by more than this is no jitter. GStreamer's shared media step back to their start when a viewer joins.
const STEP_BACK: Duration = Duration::from_millis(100);
/// The same where pictures are reordered: 16 frames (see [`MAX_REORDER`]) at 15 a second.
const REORDERED_STEP_BACK: Duration = Duration::from_millis(1_067);
/// H.264 A.3.1: no level allows more than 16 frames of reordering.
const MAX_REORDER: u8 = 16;

impl Normaliser {
    /// A timeline without a zero yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A timeline whose zero is given rather than the arrival of the first unit, which need not be the earliest.
    pub fn starting_at(zero: Instant) -> Self {
        Self { zero: Some(zero), tracks: Vec::new() }
    }

    /// A new connection begins: every track is anchored anew by its next unit.
    pub fn reconnect(&mut self) {
        for track in &mut self.tracks {
            track.anchor = None;
        }
    }

    /// Places a unit on the timeline.
    pub fn place(&mut self, raw: RawTime) -> Placed {
        let zero = *self.zero.get_or_insert(raw.arrival);
        let elapsed = raw.timebase.ticks(raw.arrival.saturating_duration_since(zero));
        let index = match self.tracks.iter().position(|track| track.id == raw.track) {
            Some(index) => index,
            None => {
                self.tracks.push(TrackTime::new(&raw));
                self.tracks.len() - 1
            }
        };
        match self.tracks.get_mut(index) {
            Some(track) => track.place(&raw, elapsed),
            None => Placed {
                dts: Timestamp::new(elapsed, raw.timebase),
                pts: Timestamp::new(elapsed, raw.timebase),
                jump: None,
            },
        }
    }

    /// The timeline's ticks of a peer's time on this connection (for sender reports); `None` before the track's
    /// first unit.
    pub fn map(&self, track: TrackId, pts: i64) -> Option<Timestamp> {
        let track = self.tracks.iter().find(|time| time.id == track)?;
        Some(Timestamp::new(pts.saturating_add(track.anchor?.offset), track.timebase))
    }
}

#[derive(Debug)]
struct TrackTime {
    id: TrackId,
    timebase: Timebase,
    anchor: Option<Anchor>,
    last_dts: Option<i64>,
    reorder: Reorder,
}

/// How a peer's ticks map to the timeline, and the newest unit, by which a jump is told.
#[derive(Clone, Copy, Debug)]
struct Anchor {
    offset: i64,
    /// Decode time where it is told, else presentation time.
    last: i64,
    last_elapsed: i64,
}

impl TrackTime {
    fn new(raw: &RawTime) -> Self {
        Self { id: raw.track, timebase: raw.timebase, anchor: None, last_dts: None, reorder: Reorder::default() }
    }

    fn place(&mut self, raw: &RawTime, elapsed: i64) -> Placed {
        if raw.timebase != self.timebase {
            self.change_timebase(raw.timebase);
        }
        let mut jump = self.follow(raw, elapsed);
        let offset = self.anchor.map_or(0, |anchor| anchor.offset);
        let mut pts = raw.pts.saturating_add(offset);
        let wanted = match raw.dts {
            Some(dts) => dts.saturating_add(offset),
            None => self.reorder.dts(pts, raw.reorder, self.timebase),
        };
        let dts = match self.last_dts {
            Some(last) if wanted <= last => {
                if pts <= last && raw.reorder != Some(0) && raw.dts.is_none() {
                    self.reorder.deepen();
                    jump = jump.or(Some(Jump::Reordered));
                }
                last.saturating_add(1)
            }
            _ => wanted,
        };
        pts = pts.max(dts);
        self.last_dts = Some(dts);
        Placed { dts: Timestamp::new(dts, self.timebase), pts: Timestamp::new(pts, self.timebase), jump }
    }

    /// Anchors the track by this unit if it has to be, and says why.
    fn follow(&mut self, raw: &RawTime, elapsed: i64) -> Option<Jump> {
        let jump = match &mut self.anchor {
            None if self.last_dts.is_none() => None,
            None => Some(Jump::Reconnect),
            Some(anchor) => {
                let media = i128::from(raw.dts.unwrap_or(raw.pts)) - i128::from(anchor.last);
                let passed = i128::from(elapsed) - i128::from(anchor.last_elapsed);
                let ticks = |duration| i128::from(self.timebase.ticks(duration));
                // Reordered pictures step back by a few frames and forward again; nothing else does.
                let reordered = raw.dts.is_none() && raw.reorder != Some(0);
                let step_back = ticks(if reordered { REORDERED_STEP_BACK } else { STEP_BACK });
                let follows = media >= -step_back && (media - passed).abs() <= ticks(JUMP);
                anchor.last_elapsed = elapsed;
                anchor.last = raw.dts.unwrap_or(raw.pts);
                if follows {
                    return None;
                }
                Some(Jump::Reset)
            }
        };
        // An outage stays visible as a gap; a timeline that ran ahead of arrival is not set back.
        let start = self.last_dts.map_or(elapsed, |last| elapsed.max(last.saturating_add(1)));
        self.reorder.clear();
        let offset =
            start.saturating_sub(raw.dts.unwrap_or(raw.pts)).saturating_add(self.reorder.head(raw, self.timebase));
        self.anchor = Some(Anchor { offset, last: raw.dts.unwrap_or(raw.pts), last_elapsed: elapsed });
        jump
    }

    fn change_timebase(&mut self, timebase: Timebase) {
        self.last_dts = self.last_dts.map(|last| Timestamp::new(last, self.timebase).rescale(timebase).ticks());
        self.timebase = timebase;
        self.anchor = None;
    }
}

/// Decode times for a protocol that carries presentation times only.
///
/// With a reorder depth of `d`, the decode time of a unit is the smallest of the last `d + 1` presentation times not
/// used yet: never after its own presentation time, and in order if the depth is true. Without reordering it is the
/// presentation time itself, at once.
#[derive(Debug, Default)]
struct Reorder {
    learnt: u8,
    pending: BinaryHeap<Reverse<i64>>,
}

impl Reorder {
    fn dts(&mut self, pts: i64, depth: Option<u8>, timebase: Timebase) -> i64 {
        let depth = self.depth(depth);
        if depth == 0 {
            self.pending.clear();
            return pts;
        }
        self.pending.push(Reverse(pts));
        if self.pending.len() > usize::from(depth) {
            while self.pending.len() > usize::from(depth) + 1 {
                self.pending.pop();
            }
            return self.pending.pop().map_or(pts, |Reverse(dts)| dts);
        }
        // The first units: count back from the first presentation time.
        let missing = i64::from(depth) + 1 - self.pending.len() as i64;
        let first = self.pending.peek().map_or(pts, |Reverse(first)| *first);
        first.saturating_sub(missing.saturating_mul(step(timebase)))
    }

    /// How far the first presentation time lies behind the first decode time.
    fn head(&self, raw: &RawTime, timebase: Timebase) -> i64 {
        if raw.dts.is_some() { 0 } else { i64::from(self.depth(raw.reorder)).saturating_mul(step(timebase)) }
    }

    fn depth(&self, told: Option<u8>) -> u8 {
        told.unwrap_or(0).max(self.learnt).min(MAX_REORDER)
    }

    fn deepen(&mut self) {
        self.learnt = (self.learnt + 1).min(MAX_REORDER);
    }

    fn clear(&mut self) {
        self.pending.clear();
    }
}

/// The decode interval assumed for the first reordered units of a connection: 10 ms is below that of any camera.
fn step(timebase: Timebase) -> i64 {
    timebase.ticks(Duration::from_millis(10))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use relay_media::Timebase;

    use super::*;

    const FRAME: i64 = 3_600;

    #[expect(clippy::disallowed_methods, reason = "any instant does")]
    fn origin() -> Instant {
        Instant::now()
    }

    fn raw(pts: i64, reorder: Option<u8>, arrival: Instant) -> RawTime {
        RawTime { track: TrackId(1), timebase: Timebase::VIDEO, pts, dts: None, reorder, arrival }
    }

    fn place_all(reorder: Option<u8>, pts: &[i64]) -> Vec<(i64, i64)> {
        let (mut normaliser, start) = (Normaliser::new(), origin());
        let placed = pts.iter().enumerate().map(|(frame, pts)| {
            let arrival = start + Timebase::VIDEO.duration(frame as i64 * FRAME);
            let placed = normaliser.place(raw(*pts * FRAME, reorder, arrival));
            (placed.dts.ticks(), placed.pts.ticks())
        });
        placed.collect()
    }

    fn assert_sound(placed: &[(i64, i64)]) {
        assert!(placed.windows(2).all(|pair| pair[0].0 < pair[1].0), "decode times go back: {placed:?}");
        assert!(placed.iter().all(|(dts, pts)| dts <= pts), "decoded after it is shown: {placed:?}");
    }

    #[test]
    fn a_stream_without_reordering_gets_no_delay() {
        let placed = place_all(Some(0), &[10, 11, 12, 13]);
        assert_eq!(placed, [(0, 0), (FRAME, FRAME), (2 * FRAME, 2 * FRAME), (3 * FRAME, 3 * FRAME)]);
    }

    #[test]
    fn b_frames_keep_their_distances_when_the_depth_is_told() {
        let order = [0, 3, 1, 2, 6, 4, 5, 9, 7, 8];
        let placed = place_all(Some(2), &order);
        assert_sound(&placed);
        let first = placed[0].1;
        for ((_, pts), frame) in placed.iter().zip(order) {
            assert_eq!(pts - first, frame * FRAME);
        }
    }

    #[test]
    fn an_untold_depth_is_learnt_and_then_kept() {
        let order: Vec<i64> = (0..30).flat_map(|gop| [3, 1, 2].map(|frame| gop * 3 + frame)).collect();
        let placed = place_all(None, &order);
        assert_sound(&placed);
        let tail: Vec<i64> = placed.iter().skip(60).map(|(_, pts)| *pts).collect();
        let mut sorted = tail.clone();
        sorted.sort_unstable();
        assert!(sorted.windows(2).all(|pair| pair[1] - pair[0] == FRAME), "learnt too late: {tail:?}");
    }

    #[test]
    fn an_outage_is_a_gap_as_long_as_it_was() {
        let (mut normaliser, start) = (Normaliser::new(), origin());
        normaliser.place(raw(500_000, Some(0), start));
        normaliser.reconnect();
        let placed = normaliser.place(raw(7, Some(0), start + Duration::from_secs(10)));
        assert_eq!(placed.jump, Some(Jump::Reconnect));
        assert_eq!(placed.dts.ticks(), 900_000);
    }

    #[test]
    fn a_clock_that_leaps_is_followed_without_a_leap() {
        let (mut normaliser, start) = (Normaliser::new(), origin());
        normaliser.place(raw(0, Some(0), start));
        let placed = normaliser.place(raw(1 << 40, Some(0), start + Duration::from_millis(40)));
        assert_eq!((placed.jump, placed.dts.ticks()), (Some(Jump::Reset), FRAME));
        let placed = normaliser.place(raw(0, Some(0), start + Duration::from_millis(80)));
        assert_eq!((placed.jump, placed.dts.ticks()), (Some(Jump::Reset), 2 * FRAME));
    }

    #[test]
    fn a_step_back_is_followed_at_once_and_jitter_is_smoothed() {
        for (back_ms, reorder, jump) in [
            (920, Some(0), Some(Jump::Reset)),
            (50, Some(0), None),
            (920, Some(2), None),
            (1_200, Some(2), Some(Jump::Reset)),
        ] {
            let (mut normaliser, start) = (Normaliser::new(), origin());
            let first = normaliser.place(raw(90_000, reorder, start));
            let step = Timebase::VIDEO.ticks(Duration::from_millis(back_ms));
            let second = normaliser.place(raw(90_000 - step, reorder, start + Duration::from_millis(40)));
            assert_eq!(second.jump.filter(|jump| *jump != Jump::Reordered), jump, "{back_ms} ms back");
            assert!(second.dts.ticks() > first.dts.ticks());
            if jump.is_some() {
                let third = normaliser.place(raw(90_000 - step + FRAME, reorder, start + Duration::from_millis(80)));
                assert_eq!(third.pts.ticks() - second.pts.ticks(), FRAME, "the new clock is followed");
            }
        }
    }

    #[test]
    fn frozen_timestamps_still_rise() {
        assert_sound(&place_all(Some(0), &[5, 5, 5, 5]));
    }

    proptest! {
        #[test]
        fn any_clock_gives_a_sound_timeline(
            units in prop::collection::vec((any::<i64>(), 0_u64..20_000, any::<bool>(), prop::option::of(0_u8..20)), 1..200),
        ) {
            let mut normaliser = Normaliser::new();
            let mut arrival = origin();
            let mut placed = Vec::new();
            for (pts, millis, reconnect, reorder) in units {
                arrival += Duration::from_millis(millis);
                if reconnect {
                    normaliser.reconnect();
                }
                let unit = normaliser.place(raw(pts >> 8, reorder, arrival));
                placed.push((unit.dts.ticks(), unit.pts.ticks()));
            }
            assert_sound(&placed);
        }
    }
}

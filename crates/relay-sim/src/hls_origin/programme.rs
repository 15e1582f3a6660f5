//! What is on: a frame after the other for as long as the origin lives, cut into segments, the newest of them listed.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::{
    fault::{Condition, OriginEvent, OriginFault},
    ts::Frames,
};

/// Segments that left the playlist can be had for so many more.
pub(crate) const KEPT: usize = 8;
/// Timestamps begin so that they wrap after 40 s.
const FIRST_TICKS: u64 = (1 << 33) - 40 * 90_000;
/// A new run of the encoder, or a new timeline, is this far away at least: an hour.
const TICKS_LEAP: u64 = 3_600 * 90_000;

/// How fast it goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) fps: u64,
    pub(crate) segment_frames: u64,
    pub(crate) part_frames: Option<u64>,
    /// Segments listed.
    pub(crate) window: usize,
    /// Segments to a key, if they are encrypted.
    pub(crate) key_segments: Option<u64>,
}

/// One segment.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    /// Its number since the origin was started.
    pub(crate) index: u64,
    pub(crate) name: String,
    pub(crate) frames: Frames,
    pub(crate) discontinuity: bool,
    pub(crate) gap: bool,
    pub(crate) key: Option<u32>,
    /// The index with which the encoder's run began, and what is taken off indices to number segments.
    run: u64,
    offset: i64,
    /// Discontinuities of its run up to and with it.
    discontinuities: u64,
}

/// A playlist's content.
#[derive(Clone, Debug)]
pub(crate) struct Listing {
    pub(crate) sequence: u64,
    pub(crate) discontinuity_sequence: u64,
    pub(crate) segments: Vec<Segment>,
    /// The segment that is being made, and how many of its parts are there.
    pub(crate) open: Option<(Segment, u64)>,
}

/// The programme and its playlist.
#[derive(Debug)]
pub(crate) struct Programme {
    pub(crate) pace: Pace,
    /// When frame 0 was due.
    epoch: Instant,
    epoch_utc_nanos: i64,
    made: VecDeque<Segment>,
    open: Segment,
    /// The index that is called 0.
    names_from: u64,
    /// What is added to a frame's time in the programme.
    ticks: u64,
    frozen: Option<Listing>,
    chance: fastrand::Rng,
    next: Next,
}

/// What the next segment begins with.
#[derive(Clone, Copy, Debug, Default)]
struct Next {
    reset: bool,
    names_again: bool,
    leap: i64,
    rotations: u32,
}

impl Programme {
    /// A programme that has been on for as long as a playlist takes to fill.
    pub(crate) fn new(pace: Pace, now: Instant, utc_nanos: i64, seed: u64) -> Self {
        let past = segment_duration(&pace) * pace.window as u32;
        let epoch = now.checked_sub(past).unwrap_or(now);
        let epoch_utc_nanos = utc_nanos - i64::try_from(now.duration_since(epoch).as_nanos()).unwrap_or(0);
        let frames = Frames { first: 0, count: pace.segment_frames, ticks: FIRST_TICKS, utc_nanos: epoch_utc_nanos };
        let open = Segment {
            index: 0,
            name: "seg0".into(),
            frames,
            discontinuity: false,
            gap: false,
            key: pace.key_segments.map(|_| 0),
            run: 0,
            offset: 0,
            discontinuities: 0,
        };
        let (chance, made, next) = (fastrand::Rng::with_seed(seed), VecDeque::new(), Next::default());
        let ticks = FIRST_TICKS;
        Self { pace, epoch, epoch_utc_nanos, made, open, names_from: 0, ticks, frozen: None, chance, next }
    }

    /// Lets time pass; events are about the next segment that begins.
    pub(crate) fn advance(&mut self, now: Instant, condition: &Condition, events: &[OriginEvent]) {
        for event in events {
            match *event {
                OriginEvent::Reset { names_again } => {
                    self.next.reset = true;
                    self.next.names_again = names_again;
                }
                OriginEvent::Leap(leap) => self.next.leap += leap,
                OriginEvent::Rotate => self.next.rotations += 1,
                OriginEvent::Expire(_) | OriginEvent::Clear => {}
            }
        }
        if condition.has(OriginFault::Frozen) {
            if self.frozen.is_none() {
                self.frozen = Some(self.listing(now));
            }
        } else {
            self.frozen = None;
        }
        while self.due(self.open.frames.first + self.open.frames.count) <= now {
            let open = self.following(condition);
            self.made.push_back(std::mem::replace(&mut self.open, open));
            if self.made.len() > self.pace.window + KEPT {
                self.made.pop_front();
            }
        }
    }

    /// When a frame is due; a segment is there once the frame after it is.
    fn due(&self, frame: u64) -> Instant {
        self.epoch + Duration::from_nanos(frame * 1_000_000_000 / self.pace.fps)
    }

    fn following(&mut self, condition: &Condition) -> Segment {
        let Next { reset, names_again, leap, rotations } = std::mem::take(&mut self.next);
        let before = &self.open;
        let index = before.index + 1;
        let storm = condition.has(OriginFault::Storm);
        if reset || storm {
            self.ticks += TICKS_LEAP + self.chance.u64(..TICKS_LEAP);
        }
        let run = if reset { index } else { before.run };
        let offset = if reset { index.cast_signed() } else { before.offset } - leap;
        let due = self.pace.key_segments.is_some_and(|segments| index.is_multiple_of(segments));
        let discontinuity = storm && !reset;
        let first = before.frames.first + before.frames.count;
        if reset && names_again {
            self.names_from = index;
        }
        Segment {
            index,
            name: format!("seg{}", index - self.names_from),
            frames: Frames {
                first,
                count: self.pace.segment_frames,
                ticks: self.ticks + first * 90_000 / self.pace.fps,
                utc_nanos: self.epoch_utc_nanos + (first * 1_000_000_000 / self.pace.fps).cast_signed(),
            },
            discontinuity,
            gap: condition.has(OriginFault::Gaps) && index.is_multiple_of(3),
            key: before.key.map(|key| key + rotations + u32::from(due)),
            run,
            offset,
            discontinuities: if reset { 0 } else { before.discontinuities + u64::from(discontinuity) },
        }
    }

    /// What the playlist says at `now`.
    pub(crate) fn listing(&self, now: Instant) -> Listing {
        if let Some(frozen) = &self.frozen {
            return frozen.clone();
        }
        let Some(newest) = self.made.back() else {
            return Listing { sequence: 0, discontinuity_sequence: 0, segments: Vec::new(), open: None };
        };
        let of_run = self.made.iter().skip(self.made.len().saturating_sub(self.pace.window));
        let segments: Vec<Segment> = of_run.filter(|segment| segment.run == newest.run).cloned().collect();
        let (index, discontinuity_sequence) = segments
            .first()
            .map_or((0, 0), |first| (first.index, first.discontinuities - u64::from(first.discontinuity)));
        let open = self.pace.part_frames.filter(|_| self.open.run == newest.run).map(|frames| {
            let there = (0..self.open.frames.count / frames)
                .take_while(|part| self.due(self.open.frames.first + (part + 1) * frames) <= now);
            (self.open.clone(), there.count() as u64)
        });
        let sequence = u64::try_from(index.cast_signed() - newest.offset).unwrap_or(0);
        Listing { sequence, discontinuity_sequence, segments, open }
    }

    /// The newest segment of this name that can still be had; with parts, the one that is being made too.
    pub(crate) fn named(&self, name: &str) -> Option<Segment> {
        let open = Some(&self.open).filter(|_| self.pace.part_frames.is_some());
        open.into_iter().chain(self.made.iter().rev()).find(|segment| segment.name == name).cloned()
    }

    /// Whether a segment is complete.
    pub(crate) fn is_made(&self, segment: &Segment) -> bool {
        segment.index < self.open.index
    }

    /// Those made of so many, in order, that can still be had.
    pub(crate) fn of_file(&self, file: u64, segments: u64) -> Vec<Segment> {
        self.made.iter().filter(|segment| segment.index / segments == file).cloned().collect()
    }

    /// The frame that is due next.
    pub(crate) fn counter(&self, now: Instant) -> u64 {
        (now.duration_since(self.epoch).as_nanos() as u64).saturating_mul(self.pace.fps) / 1_000_000_000
    }
}

/// How long a segment plays.
pub(crate) fn segment_duration(pace: &Pace) -> Duration {
    Duration::from_nanos(pace.segment_frames * 1_000_000_000 / pace.fps.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sequence, discontinuity sequence and names after so many seconds of segments of one second, three listed.
    #[test]
    fn playlists_slide_reset_and_leap() {
        let pace = Pace { fps: 25, segment_frames: 25, part_frames: None, window: 3, key_segments: Some(2) };
        let start = Instant::now();
        let events: [(u64, OriginEvent); 3] = [
            (2, OriginEvent::Leap(1_000)),
            (4, OriginEvent::Reset { names_again: false }),
            (8, OriginEvent::Reset { names_again: true }),
        ];
        let rows: [(u64, u64, &str); 8] = [
            (0, 0, "seg0 seg1 seg2"),
            (1, 1, "seg1 seg2 seg3"),
            (3, 3, "seg3 seg4 seg5"),
            (4, 1_004, "seg4 seg5 seg6"),
            (5, 1_005, "seg5 seg6 seg7"),
            (6, 0, "seg8"),
            (8, 0, "seg8 seg9 seg10"),
            (10, 0, "seg0"),
        ];
        let mut programme = Programme::new(pace, start, 0, 1);
        for second in 0..=10 {
            let now = start + Duration::from_secs(second);
            programme.advance(now, &Condition::default(), &[]);
            let due: Vec<_> = events.iter().filter(|(at, _)| *at == second).map(|(_, event)| *event).collect();
            programme.advance(now, &Condition::default(), &due);
            let Some((_, sequence, names)) = rows.iter().find(|(at, ..)| *at == second) else { continue };
            let listing = programme.listing(now);
            let listed: Vec<_> = listing.segments.iter().map(|segment| segment.name.as_str()).collect();
            assert_eq!((listing.sequence, listed.join(" ").as_str()), (*sequence, *names), "after {second} s");
            assert!(listing.segments.iter().all(|segment| segment.key == Some((segment.index / 2) as u32)));
        }
    }
}

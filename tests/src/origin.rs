//! Recordings of a simulated HLS origin, held against what could be had of it.

use std::collections::BTreeMap;
use std::time::Duration;

use relay_sim::hls_origin::SegmentLog;

use crate::recordings::Recorded;

/// What a recording has of what an origin served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Frames of segments that were served whole, from the first recorded frame to the last.
    pub served: u64,
    /// Of these, the ones that were recorded once.
    pub once: u64,
    /// Of these, the ones that are not in the recording.
    pub missing: Vec<u64>,
    /// Frames recorded more than once.
    pub doubled: Vec<u64>,
    /// Frames that are not in the recording, though their segment could be had for long enough.
    pub unexplained: Vec<u64>,
    /// Frames that are not in the recording, because they could not be had.
    pub gaps: u64,
    /// Frames of segments that were served whole, after the last recorded one: those under way at the end.
    pub under_way: u64,
}

impl Verdict {
    /// Holds `recorded` against what the origin says; what could be had for `enough` must be there.
    #[must_use]
    pub fn of(segments: &[SegmentLog], recorded: &Recorded, enough: Duration) -> Self {
        let mut seen = BTreeMap::<u64, u64>::new();
        for frame in &recorded.frames {
            *seen.entry(frame.counter).or_default() += 1;
        }
        let mut verdict = Self::default();
        verdict.doubled.extend(seen.iter().filter(|(_, times)| **times > 1).map(|(counter, _)| *counter));
        let (Some(first), Some(last)) = (seen.keys().next().copied(), seen.keys().next_back().copied()) else {
            return verdict;
        };
        let mut explained = 0;
        for segment in segments {
            let counters = segment.first..segment.first + segment.frames;
            if segment.is_served {
                verdict.under_way += counters.clone().filter(|counter| *counter > last).count() as u64;
            }
            for counter in counters.filter(|counter| (first..=last).contains(counter)) {
                let times = seen.get(&counter).copied().unwrap_or(0);
                verdict.served += u64::from(segment.is_served);
                verdict.once += u64::from(segment.is_served && times == 1);
                explained += u64::from(times == 0);
                if times == 0 && segment.is_served {
                    verdict.missing.push(counter);
                } else if times == 0 && !segment.is_gap && segment.available >= enough {
                    verdict.unexplained.push(counter);
                }
            }
        }
        // Frames whose segment was never listed could not be had either.
        let all = last - first + 1 - seen.len() as u64;
        verdict.gaps = all.max(explained) - (verdict.missing.len() + verdict.unexplained.len()) as u64;
        verdict
    }

    /// What is wrong with it, in words; nothing if all is well. At the end, a segment of `frames` may have been under
    /// way.
    #[must_use]
    pub fn wrong(&self, frames: u64) -> Vec<String> {
        let told = |what: &str, counters: &[u64]| {
            let shown: Vec<_> = counters.iter().take(3).collect();
            (!counters.is_empty()).then(|| format!("{} frames {what}, from {shown:?} on", counters.len()))
        };
        let late = (self.under_way > frames).then(|| format!("{} frames served and not recorded", self.under_way));
        let nothing = (self.served == 0).then(|| "nothing was recorded".to_owned());
        let missing = told("of whole segments missing", &self.missing);
        let wrong = [missing, told("twice", &self.doubled), told("missing without cause", &self.unexplained)];
        wrong.into_iter().chain([late, nothing]).flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recordings::Frame;

    #[test]
    fn what_was_served_must_be_there_once() {
        let segment = |first, is_served, available, is_gap| SegmentLog {
            first,
            frames: 2,
            available: Duration::from_secs(available),
            is_gap,
            is_served,
        };
        // Served; listed briefly; a gap by tag; listed for long; served; (never listed;) served.
        let segments = [
            segment(0, true, 5, false),
            segment(2, false, 1, false),
            segment(4, false, 5, true),
            segment(6, false, 5, false),
            segment(8, true, 5, false),
            segment(12, true, 5, false),
        ];
        let rows: [(&[u64], [usize; 3], u64); 6] = [
            (&[0, 1, 6, 7, 8, 9, 12, 13], [0, 0, 0], 6),
            (&[0, 1, 2, 6, 7, 8, 9, 12, 13], [0, 0, 0], 5),
            (&[0, 1, 8, 9, 12, 13], [0, 0, 2], 6),
            (&[0, 1, 6, 7, 9, 12, 13], [1, 0, 0], 6),
            (&[0, 1, 1, 6, 7, 8, 9, 12, 13], [0, 1, 0], 6),
            (&[0, 1], [0, 0, 0], 0),
        ];
        for (counters, expected, gaps) in rows {
            let frames = counters.iter().map(|&counter| Frame { counter, key: false, starts_file: false });
            let recorded = Recorded { frames: frames.collect(), ..Recorded::default() };
            let verdict = Verdict::of(&segments, &recorded, Duration::from_secs(2));
            let seen = [verdict.missing.len(), verdict.doubled.len(), verdict.unexplained.len()];
            assert_eq!((seen, verdict.gaps), (expected, gaps), "{counters:?}: {verdict:?}");
        }
    }
}

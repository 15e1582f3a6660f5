//! What was stored, held against what should be.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::store::{PutEnd, PutLog, StoredFragment};

/// An acknowledgement sent less than this before its session broke may not have been seen, on a busy machine.
const UNHEARD_NANOS: i64 = 2_000_000_000;

/// What the fragments of a stream say.
#[derive(Clone, Debug, Default)]
pub struct ReadBack {
    /// Frames in PERSISTED fragments.
    pub counters: BTreeSet<u64>,
    /// Fragments PERSISTED.
    pub persisted: usize,
    /// Fragments received whole and never PERSISTED there.
    pub unpersisted: usize,
    /// Fragments sent again because their session ended before their PERSISTED, or broke within two seconds of it.
    pub sent_again: usize,
    /// Fragments sent again although they were PERSISTED well before their session's end: their times.
    pub needless: Vec<u64>,
    /// Fragments sent again with other bytes under the same time.
    pub changed: Vec<u64>,
    /// Frames that were stored under more than one time.
    pub retimed: Vec<u64>,
    /// Fragments that do not rise within their session.
    pub not_rising: Vec<u64>,
    /// Pictures without a counter.
    pub unstamped: usize,
    /// From the first picture to PERSISTED, in milliseconds, of those PERSISTED at the first try, in their order.
    pub lags_ms: Vec<i64>,
    /// Sessions by how they ended.
    pub sessions: BTreeMap<String, usize>,
}

impl ReadBack {
    /// Reads back.
    pub fn of(fragments: &[StoredFragment], sessions: &[PutLog]) -> Self {
        let mut back = Self::default();
        let logs: BTreeMap<u64, &PutLog> = sessions.iter().map(|log| (log.id, log)).collect();
        for log in sessions {
            *back.sessions.entry(how(log.end.as_ref())).or_default() += 1;
        }
        let mut latest: BTreeMap<u64, u64> = BTreeMap::new();
        let mut before: BTreeMap<u64, Vec<&StoredFragment>> = BTreeMap::new();
        let mut times: BTreeMap<u64, u64> = BTreeMap::new();
        for fragment in fragments {
            let time = fragment.timecode_ms;
            if latest.insert(fragment.session, fragment.end_ms).is_some_and(|latest| time <= latest) {
                back.not_rising.push(time);
            }
            let earlier = before.entry(time).or_default();
            if let Some(first) = earlier.last() {
                back.sent_again += 1;
                if earlier.iter().any(|earlier| was_known(earlier, &logs)) {
                    back.needless.push(time);
                }
                if first.hash != fragment.hash {
                    back.changed.push(time);
                }
            } else if let Some(lag) = fragment.persisted_lag_ms() {
                back.lags_ms.push(lag);
            }
            earlier.push(fragment);
            let again =
                fragment.counters.iter().filter(|counter| times.insert(**counter, time).is_some_and(|t| t != time));
            back.retimed.extend(again);
            back.unstamped += fragment.pictures - fragment.counters.len().min(fragment.pictures);
            if fragment.persisted_utc_nanos.is_some() {
                back.persisted += 1;
                back.counters.extend(&fragment.counters);
            } else {
                back.unpersisted += 1;
            }
        }
        back
    }

    /// Which of these frames are in no PERSISTED fragment.
    pub fn missing(&self, owed: impl IntoIterator<Item = u64>) -> Vec<u64> {
        owed.into_iter().filter(|counter| !self.counters.contains(counter)).collect()
    }

    /// The lag that `percent` of the fragments stay below, in milliseconds.
    pub fn lag_ms(&self, percent: usize) -> Option<i64> {
        let mut sorted = self.lags_ms.clone();
        sorted.sort_unstable();
        sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1)).copied()
    }

    /// What is wrong, whatever happened: one sentence each.
    pub fn wrong(&self) -> Vec<String> {
        let rows = [
            (&self.needless, "fragments were sent again though they were PERSISTED before their session ended"),
            (&self.changed, "fragments were sent again with other frames"),
            (&self.retimed, "frames were stored under two times"),
            (&self.not_rising, "fragments do not rise within their session"),
        ];
        let wrong = rows.into_iter().filter(|(what, _)| !what.is_empty());
        wrong.map(|(what, why)| format!("{} {why}, the first is {:?}", what.len(), what.first())).collect()
    }
}

impl fmt::Display for ReadBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} frames in {} fragments PERSISTED, {} not, {} sent again; sessions {:?}",
            self.counters.len(),
            self.persisted,
            self.unpersisted,
            self.sent_again,
            self.sessions
        )?;
        self.wrong().iter().try_for_each(|wrong| write!(f, "; WRONG: {wrong}"))
    }
}

/// Whether the client must have known that it was PERSISTED.
fn was_known(fragment: &StoredFragment, logs: &BTreeMap<u64, &PutLog>) -> bool {
    let Some(persisted) = fragment.persisted_utc_nanos else { return false };
    match logs.get(&fragment.session) {
        Some(log) if log.end.as_ref().is_some_and(PutEnd::is_abrupt) => {
            log.ended_utc_nanos.is_none_or(|ended| persisted + UNHEARD_NANOS < ended)
        }
        _ => true,
    }
}

fn how(end: Option<&PutEnd>) -> String {
    match end {
        None => "under way".into(),
        Some(PutEnd::Finished) => "finished".into(),
        Some(PutEnd::Gone) => "client gone".into(),
        Some(PutEnd::Closed) => "closed".into(),
        Some(PutEnd::Reset) => "reset".into(),
        Some(PutEnd::Error(id, _)) => format!("error {id}"),
    }
}

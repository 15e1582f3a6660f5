//! An hour of a live stream whose origin fails in every way that is promised to be survived, one after the other.

use std::collections::BTreeSet;

use relay_hls::proto::{Answer, Fetch, Joint, Options};

use crate::{
    origin::{Fault, Id, Millis, Origin, Setup},
    world::{Story, play},
};

const HOUR: Millis = 3_600_000;
/// From "healthy again" to the first byte of a segment: a target duration and a second.
const MARGIN: Millis = 3_000;

/// What goes wrong, when in seconds, and for how long. The last one lasts: the encoder begins anew.
const TROUBLES: [(Fault, u64, u64); 11] = [
    (Fault::Status(503, None), 300, 60),
    (Fault::Frozen, 600, 30),
    (Fault::Storm, 900, 60),
    (Fault::VariantAway, 1_200, 60),
    (Fault::Resets, 1_500, 20),
    (Fault::Hangs(None), 1_800, 30),
    (Fault::Drips, 2_100, 20),
    (Fault::EndsShort, 2_400, 20),
    (Fault::Page, 2_700, 10),
    (Fault::VariantFrozen, 2_900, 40),
    (Fault::Restart { names_again: true }, 3_200, 0),
];

/// One origin after the other, each with its trouble: what was listed stays as it was.
struct Hour {
    setups: Vec<Setup>,
}

impl Hour {
    /// Two variants, keys that rotate.
    fn new(has_wall: bool) -> Self {
        let base = Setup { has_master: true, is_encrypted: true, has_wall, ..Setup::default() };
        let setups = TROUBLES.iter().map(|(fault, from, length)| {
            let from = from * 1_000;
            Setup { fault: *fault, from, until: from + length * 1_000, ..base }
        });
        Self { setups: setups.collect() }
    }

    fn at(&self, now: Millis) -> &Setup {
        self.setups.iter().rev().find(|setup| setup.from <= now).unwrap_or(&self.setups[0])
    }

    /// From when to when nothing but the usual happens. A variant that fails and a storm are no excuse.
    fn well(&self) -> Vec<(Millis, Millis)> {
        let is_excuse =
            |setup: &&Setup| !matches!(setup.fault, Fault::Storm | Fault::VariantAway | Fault::VariantFrozen);
        let mut well = Vec::new();
        let mut from = 0;
        for setup in self.setups.iter().filter(is_excuse) {
            well.push((from, setup.from));
            from = setup.until;
        }
        well.push((from, HOUR));
        well
    }
}

impl Origin for Hour {
    fn answer(&self, now: Millis, fetch: &Fetch, asked: usize) -> Vec<(Millis, Answer)> {
        self.at(now).answer(now, fetch, asked)
    }
}

#[test]
fn an_hour_of_every_trouble_loses_nothing_that_could_be_had() {
    for (seed, has_wall) in [(0, false), (1, true)] {
        let hour = Hour::new(has_wall);
        let story = play(&hour, hour.setups[0].url(), Options { seed, ..Options::default() }, HOUR);
        check(&format!("seed {seed}"), &hour, &story);
    }
}

fn check(name: &str, hour: &Hour, story: &Story) {
    let wholes: Vec<Id> = story.taken.iter().filter(|taken| taken.whole).map(crate::world::Taken::id).collect();
    assert!(wholes.is_sorted_by(|a, b| a < b), "{name}: each once, in order");
    let mut last: Option<Id> = None;
    for taken in story.taken.iter().filter(|taken| taken.whole) {
        let id = taken.id();
        assert!(taken.bytes == Setup::media(id), "{name}: the bytes of {id:?}");
        let is_next = last.is_none_or(|last| last.run == id.run && id.index == last.index + 1);
        assert!(is_next || taken.begin.joint > Joint::Seamless, "{name}: an undeclared gap before {id:?}");
        last = Some(id);
    }
    let taken: BTreeSet<Id> = wholes.iter().copied().collect();
    let missing: Vec<Id> = owed(hour).into_iter().filter(|id| *id >= wholes[0] && !taken.contains(id)).collect();
    assert!(missing.is_empty(), "{name}: missing {missing:?}, {:?}", story.reasons);
    for (from, _) in hour.well().into_iter().skip(1) {
        let heard = story.taken.iter().find(|taken| taken.at >= from).expect("something came").at;
        assert!(heard <= from + MARGIN, "{name}: well at {from}, heard at {heard}");
    }
    // A playlist and a segment every two seconds, a key every six, and tries.
    assert!(story.requests < 6_000, "{name}: {} requests", story.requests);
}

/// What was listed for long enough while all was well.
fn owed(hour: &Hour) -> BTreeSet<Id> {
    let mut owed = BTreeSet::new();
    for (from, until) in hour.well() {
        let until = until.min(HOUR - MARGIN);
        for time in (from..until).step_by(500) {
            let setup = hour.at(time);
            let lasts = |id: &Id| {
                let listed = setup.made_at(*id).max(from);
                let gone = setup.made_at(*id) + setup.window * setup.target;
                gone.min(until) >= listed + MARGIN
            };
            owed.extend(setup.listed_at(time).into_iter().filter(lasts));
        }
    }
    owed
}

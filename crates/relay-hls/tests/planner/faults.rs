//! One row for each fault.

use std::collections::BTreeSet;

use relay_hls::proto::{Choice, Joint, Options, What, reason};

use crate::{
    origin::{Fault, Id, Millis, Setup},
    world::{Story, joints, play},
};

const LENGTH: Millis = 120_000;

/// What must be true of any story.
fn check(name: &str, setup: Setup, story: &Story, is_recovery_checked: bool) {
    let seen = |reason: &str| story.reasons.iter().filter(|(_, found)| *found == reason).count();
    let context = format!("{name}: {:?}", story.reasons.iter().take(40).collect::<Vec<_>>());
    let mut wholes = BTreeSet::new();
    let mut last = None;
    for taken in story.taken.iter().filter(|taken| taken.whole) {
        let id = taken.id();
        assert!(taken.bytes == Setup::media(id), "{context}: the bytes of {id:?}");
        assert!(last < Some(id), "{context}: {id:?} after {last:?}");
        assert!(wholes.insert(id), "{context}: {id:?} twice");
        if let Some(Id { run, index }) = last {
            let is_next = run == id.run && id.index == index + 1;
            assert!(is_next || taken.begin.joint > Joint::Seamless, "{context}: an undeclared gap before {id:?}");
        }
        last = Some(id);
    }
    let first = *wholes.first().unwrap_or_else(|| panic!("{context}: nothing was taken"));
    let margin = setup.target + 1_000;
    let mut owed = BTreeSet::new();
    let mut time = 0;
    while time < story.last_at.saturating_sub(margin) {
        for id in setup.listed_at(time) {
            let gone = setup.made_at(id) + setup.window * setup.target;
            let well_after = gone >= setup.until + margin && time >= setup.until;
            let well_before = setup.made_at(id) + margin <= setup.from;
            let is_gap = setup.fault == Fault::Gaps && id.index % 3 == 0;
            if id >= first && (well_before || well_after) && !is_gap {
                owed.insert(id);
            }
        }
        time += 500;
    }
    let missing: Vec<_> = owed.difference(&wholes).collect();
    assert!(missing.is_empty(), "{context}: missing {missing:?}, of {} owed", owed.len());
    if is_recovery_checked {
        let heard = story.taken.iter().find(|taken| taken.at >= setup.until).expect("something came").at;
        assert!(heard <= setup.until + margin, "{context}: well at {}, heard at {heard}", setup.until);
    }
    assert!(story.requests < 1_000, "{context}: {} requests", story.requests);
    assert_eq!(seen("bug"), 0);
}

fn seeded(seed: u64) -> Options {
    Options { seed, ..Options::default() }
}

#[test]
fn faults_lose_nothing_that_could_be_had() {
    let fault = |fault, from, until| Setup { fault, from, until, ..Setup::default() };
    let rows = [
        ("nothing is wrong", Setup::default(), None),
        ("a byte order mark", Setup { has_bom: true, ..Setup::default() }, None),
        ("byte ranges of one file", Setup { one_file: true, ..Setup::default() }, None),
        ("keys change", Setup { is_encrypted: true, ..Setup::default() }, None),
        ("503 for 5 s", fault(Fault::Status(503, None), 10_000, 15_000), Some(reason::HTTP_5XX)),
        ("503 for 60 s", fault(Fault::Status(503, None), 10_000, 70_000), Some(reason::HTTP_5XX)),
        ("playlist 503 once", fault(Fault::Status(503, Some(What::Playlist)), 10_000, 12_000), Some(reason::HTTP_5XX)),
        ("playlist 404 once", fault(Fault::Status(404, Some(What::Playlist)), 10_000, 12_000), Some(reason::HTTP_404)),
        ("segments 404", fault(Fault::Status(404, Some(What::Media)), 10_000, 15_000), Some(reason::HTTP_404)),
        ("segments 403", fault(Fault::Status(403, Some(What::Media)), 10_000, 15_000), Some(reason::HTTP_403)),
        ("segments 500 for 8 s", fault(Fault::Status(500, Some(What::Media)), 10_000, 18_000), Some(reason::HTTP_5XX)),
        ("refused 8 s", fault(Fault::Away(reason::CONNECT), 10_000, 18_000), Some(reason::CONNECT)),
        ("no name for 8 s", fault(Fault::Away(reason::DNS), 10_000, 18_000), Some(reason::DNS)),
        ("no TLS for 8 s", fault(Fault::Away(reason::TLS), 10_000, 18_000), Some(reason::TLS)),
        ("frozen 15 s", fault(Fault::Frozen, 10_000, 25_000), Some(reason::PLAYLIST_FROZEN)),
        ("frozen 30 s", fault(Fault::Frozen, 10_000, 40_000), Some(reason::PLAYLIST_FROZEN)),
        ("everything hangs 30 s", fault(Fault::Hangs(None), 10_000, 40_000), Some(reason::NO_ANSWER)),
        ("playlists hang 8 s", fault(Fault::Hangs(Some(What::Playlist)), 10_000, 18_000), Some(reason::NO_ANSWER)),
        ("segments hang 5 s", fault(Fault::Hangs(Some(What::Media)), 10_000, 15_000), Some(reason::NO_ANSWER)),
        ("segments hang midway", fault(Fault::HangsMidway, 10_000, 15_000), Some(reason::QUIET)),
        ("a byte a second for 20 s", fault(Fault::Drips, 10_000, 30_000), Some(reason::TRICKLE)),
        ("resets", fault(Fault::Resets, 10_000, 15_000), Some(reason::RESET)),
        ("truncated", fault(Fault::EndsShort, 10_000, 15_000), Some(reason::TRUNCATED)),
        ("a page for a segment", fault(Fault::Page, 10_000, 15_000), Some(reason::NOT_MEDIA)),
        ("a page for a playlist", fault(Fault::PageForPlaylist, 10_000, 15_000), Some(reason::NOT_PLAYLIST)),
        ("an empty playlist", fault(Fault::EmptyPlaylist, 10_000, 13_000), Some(reason::EMPTY_PLAYLIST)),
        ("restart", fault(Fault::Restart { names_again: false }, 10_000, 10_000), Some(reason::SEQUENCE_BACK)),
        (
            "restart, old names",
            fault(Fault::Restart { names_again: true }, 40_000, 40_000),
            Some(reason::SEQUENCE_BACK),
        ),
        ("leap", fault(Fault::Renumber(1_000), 10_000, 10_000), Some(reason::SEQUENCE_LEAP)),
        ("renumbered downwards", fault(Fault::Renumber(-90), 10_000, 10_000), Some(reason::SEQUENCE_BACK)),
        ("renumbered by one", fault(Fault::Renumber(1), 10_000, 10_000), Some(reason::SEQUENCE_REUSED)),
        ("old copies from a cache", fault(Fault::Stale, 10_000, 40_000), None),
        ("a storm of discontinuities", fault(Fault::Storm, 10_000, 40_000), None),
        ("gaps by tag", fault(Fault::Gaps, 0, 0), Some(reason::GAP_TAG)),
    ];
    for (name, setup, expected) in rows {
        for seed in 0..3 {
            for setup in [setup, Setup { has_wall: true, ..setup }, Setup { has_ranges: false, ..setup }] {
                if setup.one_file && !setup.has_ranges {
                    continue;
                }
                let story = play(setup, seeded(seed), LENGTH);
                check(name, setup, &story, setup.until > setup.from);
                let is_seen = expected.is_none_or(|expected| story.reasons.iter().any(|(_, found)| *found == expected));
                assert!(is_seen, "{name}: {expected:?} is not among {:?}", story.reasons);
            }
        }
    }
}

#[test]
fn keys_are_fetched_again() {
    let encrypted = Setup { is_encrypted: true, ..Setup::default() };
    for (name, fault, expected) in [
        ("keys refused", Fault::Status(403, Some(What::Key)), reason::HTTP_403),
        ("wrong keys", Fault::WrongKey, reason::WRONG_KEY),
        ("resets", Fault::Resets, reason::RESET),
        ("truncated", Fault::EndsShort, reason::TRUNCATED),
        ("a page for a segment", Fault::Page, reason::NOT_MEDIA),
    ] {
        for has_ranges in [true, false] {
            let setup = Setup { fault, from: 10_000, until: 15_000, has_ranges, ..encrypted };
            let story = play(setup, seeded(1), LENGTH);
            check(name, setup, &story, true);
            assert!(story.reasons.iter().any(|(_, found)| *found == expected), "{name}: {:?}", story.reasons);
        }
    }
}

#[test]
fn the_master_is_read_again() {
    let master = Setup { has_master: true, has_wall: true, ..Setup::default() };
    for (name, fault, variant) in [
        ("nothing is wrong", Fault::None, 0),
        ("signed URLs expire", Fault::Expires, 0),
        ("the variant is gone", Fault::VariantGone, 1),
        ("playlists 404 once", Fault::Status(404, Some(What::Playlist)), 0),
    ] {
        for seed in 0..8 {
            for has_wall in [true, false] {
                let setup = Setup { fault, from: 10_000, until: 10_500, has_wall, ..master };
                let story = play(setup, seeded(seed), LENGTH);
                check(name, setup, &story, true);
                let last = story.taken.last().unwrap().begin.variant;
                assert_eq!(last, variant, "{name}: {:?}", story.reasons);
            }
        }
    }
}

#[test]
fn lengths_and_ends() {
    for (name, setup) in [
        ("no lengths, resets", Setup { has_length: false, fault: Fault::Resets, ..Setup::default() }),
        ("no lengths, truncated", Setup { has_length: false, fault: Fault::EndsShort, ..Setup::default() }),
    ] {
        let setup = Setup { from: 10_000, until: 15_000, ..setup };
        check(name, setup, &play(setup, seeded(1), LENGTH), true);
    }
    let vod = Setup { vod: Some(110), fault: Fault::Resets, from: 0, until: 3_000, ..Setup::default() };
    let story = play(vod, seeded(1), LENGTH);
    assert!(story.is_ended, "{:?}", story.reasons);
    assert_eq!(story.taken.iter().map(|taken| taken.id().index).collect::<Vec<_>>(), (100..110).collect::<Vec<_>>());
    assert!(story.last_at < 10_000, "as fast as it comes: {} ms", story.last_at);
}

#[test]
fn joints_tell_what_happened() {
    let of = |fault, from, until| {
        let story = play(Setup { fault, from, until, ..Setup::default() }, seeded(3), 60_000);
        joints(&story)
    };
    let count = |joints: &[Joint], joint| joints.iter().filter(|found| **found == joint).count();
    let storm = of(Fault::Storm, 10_000, 40_000);
    assert_eq!(count(&storm, Joint::NewTimeline), 15);
    assert_eq!(count(&of(Fault::Restart { names_again: false }, 10_000, 10_000), Joint::NewTimeline), 1);
    assert!(of(Fault::Renumber(1_000), 10_000, 10_000).iter().all(|joint| *joint == Joint::Seamless));
    assert_eq!(count(&of(Fault::Status(503, None), 10_000, 40_000), Joint::Loss), 1);
}

#[test]
fn begins_three_target_durations_from_the_edge_and_jumps_only_when_told() {
    let first = |options: Options| play(Setup::default(), options, 20_000).taken[0].id().index;
    assert_eq!(first(seeded(0)), 103);
    assert_eq!(first(Options { live_edge: Some(std::time::Duration::from_secs(2)), ..seeded(0) }), 105);
    assert_eq!(first(Options { variant: Choice::Lowest, ..seeded(0) }), 103);
    let away =
        Setup { fault: Fault::Away(reason::CONNECT), from: 10_000, until: 30_000, window: 30, ..Setup::default() };
    let max_behind = Some(std::time::Duration::from_secs(10));
    let story = play(away, Options { max_behind, ..seeded(0) }, 60_000);
    assert!(story.reasons.iter().any(|(_, reason)| *reason == reason::MAX_BEHIND), "{:?}", story.reasons);
    check("nothing is jumped over by itself", away, &play(away, seeded(0), 60_000), true);
}

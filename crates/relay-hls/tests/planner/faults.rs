//! One row for each fault.

use std::collections::BTreeSet;

use relay_hls::proto::{Answer, Choice, Fetch, Joint, Options, Rendition, What, reason};

use crate::{
    origin::{Fault, Id, Millis, Origin, Setup, plain},
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
    assert!(!wholes.is_empty(), "{context}: nothing was taken");
    let first = *wholes.first().unwrap();
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
        ("resets, in one file", Setup { one_file: true, ..fault(Fault::Resets, 10_000, 25_000) }, Some(reason::RESET)),
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
        ("ends, and begins anew", fault(Fault::Ends, 10_000, 30_000), Some(reason::SEQUENCE_BACK)),
        ("leap", fault(Fault::Renumber(1_000), 10_000, 10_000), Some(reason::SEQUENCE_LEAP)),
        ("renumbered downwards", fault(Fault::Renumber(-90), 10_000, 10_000), Some(reason::SEQUENCE_BACK)),
        ("renumbered by one", fault(Fault::Renumber(1), 10_000, 10_000), Some(reason::SEQUENCE_REUSED)),
        ("old copies from a cache", fault(Fault::Stale, 10_000, 40_000), None),
        ("a storm of discontinuities", fault(Fault::Storm, 10_000, 40_000), None),
        ("gaps by tag", fault(Fault::Gaps, 0, 0), Some(reason::GAP_TAG)),
    ];
    for (name, setup, expected) in rows {
        for seed in 0..2 {
            let walls = Setup { has_wall: true, ..setup };
            let no_ranges = Setup { has_ranges: false, ..setup };
            for setup in [setup, walls, no_ranges, Setup { is_slow: true, ..setup }] {
                if setup.one_file && !setup.has_ranges {
                    continue;
                }
                let story = play(&setup, setup.url(), seeded(seed), LENGTH);
                check(name, setup, &story, setup.until > setup.from);
                let is_seen = expected.is_none_or(|expected| story.reasons.iter().any(|(_, found)| *found == expected));
                assert!(is_seen, "{name}: {expected:?} is not among {:?}", story.reasons);
            }
        }
    }
}

#[test]
fn audio_of_its_own_begins_with_video_and_fails_alone() {
    for (name, fault, has_wall) in [
        ("nothing is wrong", Fault::None, false),
        ("by the time of day", Fault::None, true),
        ("503 for 5 s", Fault::Status(503, None), false),
        ("audio 404 for 5 s", Fault::AudioGone, false),
    ] {
        let setup = Setup {
            has_master: true,
            has_audio: true,
            fault,
            from: 10_000,
            until: 15_000,
            has_wall,
            ..Setup::default()
        };
        let mut story = play(&setup, setup.url(), seeded(4), LENGTH);
        let (audio, main): (Vec<_>, Vec<_>) =
            story.taken.drain(..).partition(|taken| taken.begin.rendition == Rendition::Audio);
        let of = |taken: &[crate::world::Taken]| taken.iter().map(|taken| taken.id().index).collect::<Vec<_>>();
        assert_eq!(of(&audio)[..50], of(&main)[..50], "{name}: {:?}", story.reasons);
        assert!(audio.iter().all(|taken| taken.whole && taken.bytes == Setup::media(taken.id())), "{name}");
        if fault == Fault::AudioGone {
            let late = main.iter().filter(|taken| (11_000..15_000).contains(&taken.at)).count();
            assert!(late >= 2, "{name}: video goes on");
        }
        story.taken = main;
        check(name, setup, &story, false);
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
            let story = play(&setup, setup.url(), seeded(1), LENGTH);
            check(name, setup, &story, true);
            assert!(story.reasons.iter().any(|(_, found)| *found == expected), "{name}: {:?}", story.reasons);
        }
    }
}

#[test]
fn the_master_is_read_again() {
    let master = Setup { has_master: true, has_wall: true, ..Setup::default() };
    for (name, fault, until, variant) in [
        ("nothing is wrong", Fault::None, 10_500, 0),
        ("signed URLs expire", Fault::Expires, 10_500, 0),
        ("the variant is gone", Fault::VariantGone, 10_500, 1),
        ("the variant is away", Fault::VariantAway, 30_000, 2),
        ("the variant is frozen", Fault::VariantFrozen, 40_000, 2),
        ("playlists 404 once", Fault::Status(404, Some(What::Playlist)), 10_500, 0),
    ] {
        for seed in 0..3 {
            for (has_wall, is_slow) in [(true, false), (false, false), (true, true), (false, true)] {
                let setup = Setup { fault, from: 10_000, until, has_wall, is_slow, ..master };
                let story = play(&setup, setup.url(), seeded(seed), LENGTH);
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
        check(name, setup, &play(&setup, setup.url(), seeded(1), LENGTH), true);
    }
    let vod = Setup { vod: Some(110), fault: Fault::Resets, from: 0, until: 3_000, ..Setup::default() };
    let story = play(&vod, vod.url(), seeded(1), LENGTH);
    assert!(story.is_ended, "{:?}", story.reasons);
    assert_eq!(story.taken.iter().map(|taken| taken.id().index).collect::<Vec<_>>(), (100..110).collect::<Vec<_>>());
    assert!(story.last_at < 10_000, "as fast as it comes: {} ms", story.last_at);
}

#[test]
fn joints_tell_what_happened() {
    let of = |fault, from, until| {
        let setup = Setup { fault, from, until, ..Setup::default() };
        let story = play(&setup, setup.url(), seeded(3), 60_000);
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
    let first = |options: Options| play(&Setup::default(), Setup::default().url(), options, 20_000).taken[0].id().index;
    assert_eq!(first(seeded(0)), 103);
    assert_eq!(first(Options { live_edge: Some(std::time::Duration::from_secs(2)), ..seeded(0) }), 105);
    assert_eq!(first(Options { variant: Choice::Lowest, ..seeded(0) }), 103);
    let away =
        Setup { fault: Fault::Away(reason::CONNECT), from: 10_000, until: 30_000, window: 30, ..Setup::default() };
    let max_behind = Some(std::time::Duration::from_secs(10));
    let story = play(&away, away.url(), Options { max_behind, ..seeded(0) }, 60_000);
    assert!(story.reasons.iter().any(|(_, reason)| *reason == reason::MAX_BEHIND), "{:?}", story.reasons);
    check("nothing is jumped over by itself", away, &play(&away, away.url(), seeded(0), 60_000), true);
}

/// An origin whose segments are encrypted in a way that is not supported.
struct SampleAes;

impl Origin for SampleAes {
    fn answer(&self, now: Millis, fetch: &Fetch, _asked: usize) -> Vec<(Millis, Answer)> {
        assert_eq!(fetch.what, What::Playlist, "nothing else is asked for");
        let text = format!(
            "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:{}\n#EXT-X-KEY:METHOD=SAMPLE-AES,URI=\"k\"\n{}",
            now / 2_000,
            "#EXTINF:2,\na.ts?x\n".repeat(6),
        );
        plain(now + 20, 200, "text/plain", text.as_bytes())
    }
}

#[test]
fn sample_aes_is_refused_by_name() {
    let story = play(&SampleAes, "http://origin/live.m3u8", seeded(1), LENGTH);
    assert!(story.taken.is_empty());
    let refusals = story.reasons.iter().filter(|(_, found)| *found == reason::ENCRYPTION).count();
    assert!((5..60).contains(&refusals), "{refusals} in {LENGTH} ms");
}

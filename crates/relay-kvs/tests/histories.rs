//! The scheduler in a simulated world: whatever happens, every frame is stored at its time.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use proptest::prelude::*;
use relay_kvs::proto::{DropReason, Lane, Leak, Settings, SpoolMode, SpoolSettings};
use world::{Faults, World};

mod world;

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn spooled(mode: SpoolMode) -> Settings {
    Settings { spool: Some(SpoolSettings { max_bytes: 1 << 30, mode }), ..Settings::new(1) }
}

#[test]
fn a_healthy_service_gets_every_fragment_once_and_soon() {
    let mut world = World::new(1, Settings::new(1));
    world.run(secs(600));
    world.stop(secs(5));
    world.check_all_stored();
    assert_eq!(world.service.fragments.len(), 300);
    assert!(world.service.fragments.values().all(|stored| *stored == 1));
    assert_eq!(world.scheduler.stats().puts, 1);
    let slowest = world.persisted.values().flatten().max().unwrap();
    assert!(*slowest < secs(2) + Duration::from_millis(600), "{slowest:?}");
}

#[test]
fn an_hour_takes_two_sessions_however_the_service_takes_a_second_connection() {
    for one_connection in [false, true] {
        let mut world = World::new(2, Settings::new(1));
        world.faults.one_connection = one_connection;
        world.run(secs(3_600));
        world.stop(secs(5));
        world.check_all_stored();
        assert!(world.service.fragments.values().all(|stored| *stored == 1));
        let stats = world.scheduler.stats();
        assert_eq!(stats.puts, 2 + u64::from(one_connection), "{stats:?}");
        assert_eq!(stats.takes_second_connection, Some(!one_connection));
        let slowest = world.persisted.values().flatten().max().unwrap();
        assert!(*slowest < secs(4), "{slowest:?}");
    }
}

#[test]
fn credentials_that_last_a_minute_are_outlived() {
    let mut world = World::new(3, Settings::new(1));
    world.credentials = Some(secs(60));
    world.run(secs(600));
    world.stop(secs(5));
    world.check_all_stored();
    assert!((10..=12).contains(&world.scheduler.stats().puts));
    assert!(world.service.fragments.values().all(|stored| *stored == 1));
}

#[test]
fn after_ten_minutes_without_network_live_is_back_at_once_and_the_backlog_follows() {
    for mode in [SpoolMode::Overflow, SpoolMode::Always] {
        let mut world = World::new(4, spooled(mode));
        world.run(secs(60));
        world.network = false;
        world.run(secs(600));
        world.network = true;
        let back = world.now;
        world.run(secs(600));
        let soon: Vec<_> = world.persisted_at.iter().filter(|(_, at)| **at > back).collect();
        let live = soon.iter().filter(|(at, _)| {
            let back_ms = (back - world.start).as_millis() as u64 + world::START_MS;
            back_ms.saturating_sub(**at) < 5_000
        });
        let first = live.map(|(_, at)| **at - back).min().unwrap();
        assert!(first < secs(2), "live was back after {first:?}");
        assert_eq!(world.scheduler.stats().fragments_buffered, world.scheduler.stats().fragments_buffered.min(2));
        assert!(world.service.backfill_max <= Duration::from_millis(3_200), "{:?}", world.service.backfill_max);
        assert_eq!(world.service.most_at_once, 1);
        world.stop(secs(5));
        world.check_all_stored();
        assert!(world.disk.is_empty());
        // No turn makes live late.
        let late = world.persisted.range(world.mark - 500_000..).filter_map(|(_, lag)| *lag).max().unwrap();
        assert!(late < secs(10), "{late:?}");
    }
}

#[test]
fn without_a_spool_only_what_outgrew_the_window_is_lost() {
    let mut world = World::new(5, Settings { window_time: secs(60), ..Settings::new(1) });
    world.run(secs(30));
    world.network = false;
    world.run(secs(120));
    world.network = true;
    world.run(secs(60));
    world.stop(secs(5));
    let stats = world.scheduler.stats();
    let lost = stats.packets_dropped[&DropReason::Window];
    // 20 frames a second for the minute that the window did not hold.
    assert!((1_100..1_400).contains(&lost), "{lost}");
    assert_eq!(world.camera.frames.len() as u64, lost + world.service.stored.len() as u64);
    world.check_times();
}

#[test]
fn a_window_that_is_to_stay_live_gives_up_all_but_the_newest() {
    let mut world = World::new(5, Settings { window_time: secs(60), leak: Leak::AllButNewest, ..Settings::new(1) });
    world.run(secs(30));
    world.network = false;
    world.run(secs(70));
    world.network = true;
    world.run(secs(30));
    world.stop(secs(5));
    let lost = world.scheduler.stats().packets_dropped[&DropReason::Window];
    // 20 frames a second for the minute that the window held when it was full.
    assert!((1_100..1_300).contains(&lost), "{lost}");
    assert_eq!(world.camera.frames.len() as u64, lost + world.service.stored.len() as u64);
    world.check_times();
}

#[test]
fn a_stream_that_pauses_ends_its_session_before_the_service_does() {
    let mut world = World::new(6, Settings::new(1));
    world.run(secs(20));
    world.camera.is_away = true;
    world.run(secs(60));
    assert_eq!(world.scheduler.stats().fragments_buffered, 0);
    assert_eq!(world.scheduler.stats().reconnects.len(), 0);
    world.camera.is_away = false;
    world.camera.key();
    world.run(secs(20));
    world.stop(secs(5));
    world.check_all_stored();
    assert_eq!(world.scheduler.stats().puts, 2);
}

#[test]
fn tracks_come_and_go_and_change() {
    let mut world = World::new(7, Settings::new(1));
    world.run(secs(20));
    world.camera.has_sound = false;
    world.run(secs(30));
    world.camera.has_sound = true;
    world.run(secs(20));
    world.camera.parameters = 1;
    world.camera.key();
    world.run(secs(20));
    world.camera.sound_late = Duration::from_millis(900);
    world.run(secs(20));
    world.camera.step(-7_200_000);
    world.run(secs(20));
    assert!(world.scheduler.stats().ahead_ms > 7_190_000);
    world.stop(secs(5));
    world.check_all_stored();
    assert_eq!(world.scheduler.stats().puts, 4);
    assert!(world.service.fragments.values().all(|stored| *stored == 1));
}

#[test]
fn sound_later_than_a_fragment_and_key_frames_too_far_apart() {
    let mut world = World::new(8, Settings::new(1));
    world.camera.sound_late = secs(3);
    world.run(secs(60));
    let frames = world.camera.frames.len();
    world.stop(secs(5));
    assert_eq!(world.service.stored.len(), frames, "late sound is stored, at the next fragment's start");

    let mut world = World::new(8, Settings::new(1));
    world.camera.gop = 150;
    world.run(secs(150));
    world.stop(secs(5));
    world.check_times();
    let stats = world.scheduler.stats();
    assert_eq!(stats.long_gops, 10);
    assert!(stats.problems()[0].starts_with("10 times there was no key frame for 10 s"), "{:?}", stats.problems());
    // Five of fifteen seconds have no place, in picture or sound.
    assert_eq!(stats.packets_dropped[&DropReason::GopTooLong], 10 * 100);
    assert!(stats.reconnects.is_empty());
}

#[test]
fn killed_and_started_again_only_the_unfinished_fragment_is_missing() {
    let mut world = World::new(9, spooled(SpoolMode::Always));
    world.faults = Faults { broken: 100, stored_unacknowledged: 500, ..Faults::default() };
    for _ in 0..20 {
        world.run(Duration::from_millis(17_300));
        let held = world.scheduler.stats();
        let whole: Vec<u64> = world.camera.frames.keys().copied().collect();
        world.restart();
        world.run(secs(8));
        let unfinished = whole.iter().filter(|id| !world.service.stored.contains_key(id)).count();
        assert!(unfinished <= 20 * 45, "{unfinished} {held:?}");
    }
    world.faults = Faults::default();
    world.run(secs(60));
    world.stop(secs(5));
    let missing = world.camera.frames.keys().filter(|id| !world.service.stored.contains_key(id)).count();
    // At each of twenty kills two seconds of a fragment, at the most, and what sound was awaited for.
    assert!(missing <= 20 * 45, "{missing}");
    world.check_times();
    assert!(world.disk.is_empty());
}

#[test]
fn ended_and_started_again_nothing_is_missing() {
    for mode in [SpoolMode::Overflow, SpoolMode::Always] {
        let mut world = World::new(10, spooled(mode));
        world.run(secs(31));
        world.network = false;
        world.run(secs(30));
        world.camera.stop();
        let deadline = world.now + secs(3);
        world.input(relay_kvs::proto::Input::Stop { deadline });
        world.run(secs(20));
        assert!(world.is_done && !world.disk.is_empty());
        world.network = true;
        world.restart();
        world.run(secs(30));
        world.check_all_stored();
        assert!(world.disk.is_empty());
    }
}

#[test]
fn a_disk_that_fails_keeps_nothing_live_from_going() {
    for mode in [SpoolMode::Overflow, SpoolMode::Always] {
        let mut world = World::new(11, spooled(mode));
        world.disk_works = false;
        world.run(secs(60));
        world.disk_works = true;
        world.run(secs(60));
        world.stop(secs(5));
        world.check_all_stored();
        assert!(world.service.fragments.values().all(|stored| *stored == 1));
    }
}

#[test]
fn the_lanes_take_turns() {
    let mut world = World::new(12, Settings { window_bytes: 256 << 20, ..spooled(SpoolMode::Overflow) });
    world.camera.payload = 100_000;
    world.run(secs(10));
    world.network = false;
    world.run(secs(90));
    world.network = true;
    let back = world.now;
    world.run(secs(120));
    let lanes: Vec<_> = world.lanes.iter().filter(|(at, _)| *at > back).map(|(_, lane)| *lane).collect();
    assert!(lanes.windows(2).all(|pair| pair[0] != pair[1]), "{lanes:?}");
    assert!(lanes.iter().filter(|lane| **lane == Lane::Backfill).count() >= 3, "{lanes:?}");
    world.stop(secs(5));
    world.check_all_stored();
}

#[test]
fn a_poison_fragment_is_set_aside_and_nothing_else() {
    // With its own time told, and with none.
    for (error, is_named) in [(4006, true), (4011, true), (4006, false), (4004, true)] {
        let mut world = World::new(13, Settings::new(1));
        world.service.poison = Some((4, error, is_named));
        world.run(secs(120));
        world.stop(secs(5));
        let stats = world.scheduler.stats();
        assert_eq!(stats.aside.iter().map(|aside| aside.error).collect::<Vec<_>>(), [error]);
        assert_eq!(stats.packets_dropped[&DropReason::Poison], 40);
        assert_eq!(world.aside.len(), 1);
        assert_eq!(world.camera.frames.len() as u64, 40 + world.service.stored.len() as u64);
        world.check_times();
    }
}

#[test]
fn faults_of_the_stream_cost_no_fragment() {
    for error in [4008, 4500, 4507, 4000, 5000, 5001, 4003] {
        let mut world = World::new(14, Settings::new(1));
        world.service.poison = Some((4, error, true));
        world.run(secs(60));
        let calls = world.scheduler.stats().puts;
        world.service.poison = None;
        world.run(secs(120));
        world.stop(secs(5));
        world.check_all_stored();
        assert!(calls < 120, "{error}: {calls} calls");
        assert!(world.scheduler.stats().error_acks[&error] > 1);
    }
}

#[test]
fn a_report_tells_what_was_added() {
    let mut world = World::new(18, Settings::new(1));
    let mut emf = relay_kvs::proto::Emf::default();
    for expected in [29, 30] {
        world.run(secs(60));
        let line = emf.line("front", relay_media::UtcTime::from_unix_nanos(7_000_000), &world.scheduler.stats());
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&line["FragmentsPersisted"], &line["StreamName"]), (&expected.into(), &"front".into()));
        assert_eq!(line["_aws"]["Timestamp"], 7);
        let declared = line["_aws"]["CloudWatchMetrics"][0]["Metrics"].as_array().unwrap();
        assert!(declared.iter().all(|metric| line[metric["Name"].as_str().unwrap()].is_u64()) && declared.len() == 10);
    }
}

#[test]
fn a_full_spool_loses_its_oldest() {
    let spool = SpoolSettings { max_bytes: 2_000_000, mode: SpoolMode::Overflow };
    let settings = Settings { window_time: secs(10), window_bytes: 4 << 20, spool: Some(spool), ..Settings::new(1) };
    let mut world = World::new(15, settings);
    world.network = false;
    world.run(secs(300));
    assert!(world.scheduler.stats().disk_bytes <= 2_000_000);
    world.network = true;
    world.run(secs(120));
    world.stop(secs(5));
    let lost = world.scheduler.stats().packets_dropped[&DropReason::SpoolFull];
    assert_eq!(world.camera.frames.len() as u64, lost + world.service.stored.len() as u64);
    // 40 kB a second: fifty seconds are on disk, ten in memory.
    assert!((4_600..5_000).contains(&lost), "{lost}");
    world.check_times();
}

#[test]
fn without_retention_what_was_received_is_done_with() {
    let mut world = World::new(16, Settings::new(1));
    world.faults.ack_lost = 1_000;
    world.input(relay_kvs::proto::Input::Retains(false));
    world.keeps_nothing = true;
    world.run(secs(60));
    world.stop(secs(5));
    world.check_all_stored();
    assert_eq!(world.scheduler.stats().puts, 1);
}

#[test]
fn absurd_acknowledgements_trim_nothing() {
    let mut world = World::new(17, Settings::new(1));
    world.faults.ack_lost = 1_000;
    world.run(secs(9));
    let held = world.scheduler.stats().fragments_buffered;
    assert!(held >= 4);
    let start = world::START_MS;
    for ack in [
        // Unknown times, another's number, none at all, a fragment that was never sent.
        format!(r#"{{"EventType":"PERSISTED","FragmentTimecode":{}}}"#, start + 1),
        format!(r#"{{"EventType":"PERSISTED","FragmentTimecode":{start},"FragmentNumber":"{:047}"}}"#, 2),
        format!(r#"{{"EventType":"PERSISTED","FragmentTimecode":{start},"FragmentNumber":"77"}}"#),
        format!(r#"{{"EventType":"PERSISTED","FragmentTimecode":{},"FragmentNumber":"{:047}"}}"#, start + 999, 1),
        r#"{"EventType":"PERSISTED"}{"EventType":"PERSISTED","FragmentTimecode":18446744073709551616}"#.to_owned(),
        "{{{{\"\\".repeat(3_000),
    ] {
        for session in 0..3 {
            let session = relay_kvs::proto::SessionId(session);
            world.input(relay_kvs::proto::Input::Acks(session, ack.as_bytes()));
        }
        assert_eq!(world.scheduler.stats().fragments_buffered, held, "{ack:.100}");
    }
    assert!(world.scheduler.stats().acks_ignored >= 6);
}

fn faults() -> impl Strategy<Value = Faults> {
    let shares = (0..400_u64, 0..200_u64, 0..100_u64, 0..100_u64, 0..1_000_u64, 0..100_u64, any::<bool>());
    shares.prop_map(|(refused, broken, ack_lost, error_ack, stored_unacknowledged, silent, one_connection)| Faults {
        refused,
        broken,
        ack_lost,
        error_ack,
        stored_unacknowledged,
        silent,
        one_connection,
    })
}

#[derive(Clone, Debug)]
enum Event {
    Faults(Faults),
    Cut(u64),
    Step(i64),
    Sound(bool),
    Away(u64),
    Parameters(usize),
    Credentials(Option<u64>),
    /// Stopped in good order and started again.
    Restart,
}

fn events() -> impl Strategy<Value = Vec<(u64, Event)>> {
    let event = prop_oneof![
        6 => faults().prop_map(Event::Faults),
        2 => (1..100_u64).prop_map(Event::Cut),
        1 => (-100_000..10_000_i64).prop_map(Event::Step),
        1 => any::<bool>().prop_map(Event::Sound),
        1 => (1..60_u64).prop_map(Event::Away),
        1 => (0..2_usize).prop_map(Event::Parameters),
        1 => prop::option::of(10..300_u64).prop_map(Event::Credentials),
        1 => Just(Event::Restart),
    ];
    prop::collection::vec((1_000..60_000_u64, event), 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases / 12,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_frame_is_stored_whatever_happens(
        seed: u64,
        spool in prop::option::of(any::<bool>()),
        tight: bool,
        events in events(),
    ) {
        let mode = spool.map(|always| if always { SpoolMode::Always } else { SpoolMode::Overflow });
        let mut settings = mode.map_or(Settings::new(seed), spooled);
        settings.window_time = secs(3_600);
        if tight && mode.is_some() {
            (settings.window_time, settings.window_bytes) = (secs(10), 2 << 20);
        }
        let mut world = World::new(seed, settings);
        for (ms, event) in events {
            match event {
                Event::Faults(faults) => world.faults = faults,
                Event::Cut(time) => {
                    world.network = false;
                    world.run(secs(time));
                    world.network = true;
                }
                Event::Step(ms) => world.camera.step(ms),
                Event::Sound(has_sound) => world.camera.has_sound = has_sound,
                Event::Away(time) => {
                    world.camera.is_away = true;
                    world.run(secs(time));
                    world.camera.is_away = false;
                    world.camera.key();
                }
                Event::Parameters(parameters) => {
                    world.camera.parameters = parameters;
                    world.camera.key();
                }
                Event::Credentials(life) => world.credentials = life.map(secs),
                Event::Restart if mode.is_some() => {
                    world.camera.is_away = true;
                    let deadline = world.now + secs(3);
                    world.input(relay_kvs::proto::Input::Stop { deadline });
                    world.run(secs(10));
                    prop_assert!(world.is_done);
                    world.restart();
                    world.camera.is_away = false;
                }
                Event::Restart => {}
            }
            world.run(Duration::from_millis(ms));
        }
        world.faults = Faults { one_connection: world.faults.one_connection, ..Faults::default() };
        world.run(secs(900));
        let stats = world.scheduler.stats();
        prop_assert!(stats.fragments_buffered <= 2, "{stats:?}");
        world.stop(secs(10));
        let stats = world.scheduler.stats();
        prop_assert!(stats.packets_dropped.values().all(|count| *count == 0), "{:?}", stats.packets_dropped);
        world.check_all_stored();
    }
}

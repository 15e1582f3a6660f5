//! Sessions over simulated paths.

use std::{collections::BTreeMap, time::Duration};

use relay_webrtc::{CloseCause, FragmentError, SessionState};

use super::{camera::Scene, link::Path, simulation::Simulation};

const SECOND: Duration = Duration::from_secs(1);
const SCENE: Scene = Scene { bps: 2_000_000, gop: Duration::from_secs(10), sound: true };
const WAN: Path = Path { delay: Duration::from_millis(25), ..Path::CLEAN };

/// A viewer joins in the middle of a GOP: it gets everything from its key frame on, in order and whole, and is live
/// soon. `within`: how long after it is connected.
#[test]
fn joiners_get_whole_pictures_and_catch_up() {
    struct Row {
        name: &'static str,
        path: Path,
        /// The camera's age when the viewer comes.
        age: u64,
        within: Duration,
    }
    let rows = [
        Row { name: "right after a key frame", path: WAN, age: 10_050, within: Duration::from_millis(300) },
        Row { name: "at the end of a GOP", path: WAN, age: 9_700, within: Duration::from_millis(1_200) },
        Row { name: "on a LAN", path: Path::CLEAN, age: 19_000, within: Duration::from_millis(1_200) },
        Row {
            name: "20 Mbit/s",
            path: Path { bottleneck: Some(20_000_000), ..WAN },
            age: 9_700,
            within: Duration::from_millis(1_900),
        },
    ];
    for Row { name, path, age, within } in rows {
        let mut simulation = Simulation::new(SCENE, path, Duration::from_millis(age), 7);
        simulation.run(10 * SECOND, |simulation| simulation.connected_at.is_some());
        let connected = simulation.connected_at.unwrap();
        simulation.run_for(5 * SECOND);
        let (pictures, lost) = simulation.viewer.whole_pictures();
        assert_eq!(lost, 0, "{name}");
        assert!(pictures[0].key, "{name}");
        for pair in pictures.windows(2) {
            assert_eq!(pair[1].number(), pair[0].number() + 1, "{name}");
            assert!(pair[1].timestamp.wrapping_sub(pair[0].timestamp) < 1 << 31, "{name}: timestamps go back");
        }
        for picture in &pictures {
            // What the camera made is what arrived.
            let made = &simulation
                .camera
                .packets
                .iter()
                .filter(|packet| packet.track.id.0 == 1)
                .nth(usize::try_from(picture.number()).unwrap());
            assert_eq!(picture.payload, made.unwrap().payload, "{name}");
        }
        let live = pictures.iter().find(|picture| {
            let made = simulation.camera.made_at(picture.number());
            picture.at.saturating_duration_since(made) < path.delay + Duration::from_millis(100)
        });
        let caught_up = live.unwrap().at.saturating_duration_since(connected);
        assert!(caught_up <= within, "{name}: {caught_up:?}");
        // On the live edge timestamps are media time, and show what is shown without delay.
        let (first, last) = (&pictures[pictures.len() - 50], &pictures[pictures.len() - 1]);
        assert_eq!(last.timestamp.wrapping_sub(first.timestamp), 49 * 3_600, "{name}");
        assert_eq!(pictures[0].playout, Some((0, 0)), "{name}");
        assert!(simulation.longest <= 1_200, "{name}: {}", simulation.longest);
        assert!(simulation.viewer.sounds.len() > 100, "{name}: sound");
    }
}

/// The backlog is shown as fast as it arrives: a second of timestamps at most lies between the first picture and the
/// first live one, however much media time it is.
#[test]
fn the_backlogs_timestamps_are_compressed() {
    let mut simulation = Simulation::new(SCENE, WAN, Duration::from_millis(9_700), 3);
    simulation.run(10 * SECOND, |simulation| simulation.connected_at.is_some());
    simulation.run_for(2 * SECOND);
    let (pictures, _) = simulation.viewer.whole_pictures();
    let start = &pictures[0];
    let live = pictures.iter().find(|picture| picture.number() >= 245).unwrap();
    let between = live.timestamp.wrapping_sub(start.timestamp);
    assert!((1..=90_000).contains(&between), "{between}");
    let latest = pictures.last().unwrap();
    let elapsed = latest.at.saturating_duration_since(start.at);
    let shown = relay_media::Timebase::VIDEO.duration(i64::from(latest.timestamp.wrapping_sub(start.timestamp)));
    assert!(elapsed.abs_diff(shown) < Duration::from_millis(200), "{elapsed:?} {shown:?}");
}

/// Retransmissions repair random loss.
#[test]
fn loss_is_repaired() {
    for seed in 0..4 {
        let mut simulation = Simulation::new(SCENE, WAN, Duration::from_millis(5_000), seed);
        simulation.run(10 * SECOND, |simulation| simulation.connected_at.is_some());
        simulation.run_for(SECOND);
        simulation.down.set_path(Path { loss_milli: 30, ..WAN });
        simulation.run_for(20 * SECOND);
        simulation.down.set_path(WAN);
        simulation.run_for(SECOND);
        let (pictures, lost) = simulation.viewer.whole_pictures();
        assert_eq!(lost, 0, "seed {seed}");
        assert!(pictures.windows(2).all(|pair| pair[1].number() == pair[0].number() + 1), "seed {seed}");
        let report = simulation.report();
        assert!(report.nacks > 0 && report.retransmitted >= 80, "{report:?}");
        assert_eq!(simulation.shed, 0, "seed {seed}");
    }
}

/// A path that carries half of the stream: the queue in it stays short, every picture that is shown is whole, and the
/// session has no room for more than the path carries.
#[test]
fn a_thin_path_is_not_flooded() {
    let scene = Scene { gop: 2 * SECOND, ..SCENE };
    for (bps, behind) in [(1_000_000, 700), (3_000_000, 150)] {
        let path = Path { bottleneck: Some(bps), ..WAN };
        let mut simulation = Simulation::new(scene, path, Duration::from_millis(9_700), 11);
        simulation.run(10 * SECOND, |simulation| simulation.connected_at.is_some());
        simulation.run_for(4 * SECOND);
        (simulation.down.worst_wait, simulation.shed) = (Duration::ZERO, 0);
        let bytes = simulation.down.bytes;
        simulation.run_for(20 * SECOND);
        assert!(simulation.down.worst_wait < Duration::from_millis(300), "{bps}: {:?}", simulation.down.worst_wait);
        assert_eq!(simulation.down.dropped, 0, "{bps}");
        let sent = (simulation.down.bytes - bytes) * 8 / 20;
        let carried = bps.min(2_200_000);
        assert!((carried * 7 / 10..=carried).contains(&sent), "{bps}: {sent} bit/s");
        let (pictures, lost) = simulation.viewer.whole_pictures();
        assert_eq!(lost, 0, "{bps}");
        // No picture refers to one that was left out: after a gap comes a key frame.
        for pair in pictures.windows(2) {
            assert!(
                pair[1].key || pair[1].number() == pair[0].number() + 1,
                "{bps}: {} {}",
                pair[0].number(),
                pair[1].number()
            );
        }
        let lags = pictures
            .iter()
            .skip(100)
            .map(|picture| picture.at.saturating_duration_since(simulation.camera.made_at(picture.number())));
        // The sink's limit of a second, and what is on the way.
        assert!(lags.max().unwrap() < SECOND + Duration::from_millis(behind), "{bps}");
        assert_eq!(simulation.shed > 0, bps < 2_000_000, "{bps}");
        let estimate = simulation.report().estimate_bps.unwrap();
        assert!((bps * 3 / 4..bps * 5 / 2).contains(&estimate), "{bps}: {estimate}");
    }
}

/// Jitter alone neither slows a session down nor makes it shed.
#[test]
fn jitter_is_no_congestion() {
    let mut simulation = Simulation::new(SCENE, WAN, Duration::from_millis(9_700), 5);
    simulation.run(10 * SECOND, |simulation| simulation.connected_at.is_some());
    simulation.run_for(2 * SECOND);
    simulation.down.set_path(Path { jitter: Duration::from_millis(50), ..WAN });
    simulation.run_for(20 * SECOND);
    simulation.down.set_path(WAN);
    simulation.run_for(SECOND);
    let (_, lost) = simulation.viewer.whole_pictures();
    assert_eq!((simulation.shed, lost), (0, 0));
}

/// Lost packets, and lost reports about packets, are no congestion either: key frames leave at once all the same.
#[test]
fn loss_is_no_congestion() {
    for seed in 0..4 {
        let mut simulation = Simulation::new(SCENE, WAN, Duration::from_millis(5_000), seed);
        simulation.run(10 * SECOND, |simulation| simulation.connected_at.is_some());
        simulation.run_for(2 * SECOND);
        let delay = Duration::from_millis(50);
        let lossy = Path { delay, jitter: delay, loss_milli: 30, ..WAN };
        simulation.down.set_path(lossy);
        simulation.up.set_path(lossy);
        simulation.run_for(2 * SECOND);
        simulation.held_back = Duration::ZERO;
        simulation.run_for(60 * SECOND);
        assert!(simulation.held_back < Duration::from_millis(100), "seed {seed}: {:?}", simulation.held_back);
    }
}

/// Sender reports map both tracks' timestamps to one clock (RFC 3550 §6.4.1): what was made at the same time is
/// shown at the same time.
#[test]
fn sound_and_pictures_are_in_step() {
    let mut simulation = Simulation::new(SCENE, WAN, Duration::from_millis(9_700), 5);
    simulation.run(10 * SECOND, |simulation| simulation.connected_at.is_some());
    simulation.run_for(20 * SECOND);
    let mut offsets = BTreeMap::new();
    let viewer = &simulation.viewer;
    for (mid, at, ticks) in &viewer.reports {
        let (hz, got) = match *mid == viewer.video_mid() {
            true => (90_000_i64, viewer.pictures.values().next_back().unwrap()),
            false => (48_000, viewer.sounds.values().next_back().unwrap()),
        };
        // When the newest unit is to be shown, by the report's clock, in microseconds.
        let ahead = i64::from(got.timestamp.wrapping_sub(*ticks as u32).cast_signed()) * 1_000_000 / hz;
        let at = i64::try_from(at.duration_since(std::time::UNIX_EPOCH).unwrap().as_micros()).unwrap();
        offsets.insert(mid.to_string(), at + ahead);
    }
    let newest =
        |id| simulation.camera.packets.iter().rfind(|packet| packet.track.id.0 == id).unwrap().pts.nanos() / 1_000;
    assert_eq!(Some(offsets.len()), viewer.audio_mid().map(|_| 2), "{offsets:?}");
    let shown: Vec<i64> =
        [viewer.video_mid(), viewer.audio_mid().unwrap()].map(|mid| offsets[&mid.to_string()]).to_vec();
    let skew = (shown[0] - newest(1)) - (shown[1] - newest(2));
    // The newest units may still be on the way: a frame and a sound of difference.
    assert!(skew.abs() <= 60_000, "{skew} us");
}

#[test]
fn key_frame_requests_surface() {
    let mut simulation = Simulation::new(SCENE, WAN, SECOND, 1);
    simulation.run(10 * SECOND, |simulation| simulation.connected_at.is_some());
    simulation.run_for(SECOND);
    assert_eq!(simulation.key_frames_wanted, 0);
    simulation.viewer.ask_for_key_frame();
    simulation.viewer.timeout = simulation.now;
    simulation.run_for(3 * SECOND);
    assert_eq!(simulation.key_frames_wanted, 1);
    assert_eq!(simulation.report().plis, 1);
}

#[test]
fn endings_have_causes() {
    // The viewer closes.
    let mut simulation = Simulation::new(SCENE, WAN, SECOND, 1);
    simulation.run(10 * SECOND, |simulation| simulation.connected_at.is_some());
    simulation.run_for(SECOND);
    simulation.viewer.rtc.close().unwrap();
    simulation.viewer.timeout = simulation.now;
    simulation.run(2 * SECOND, |simulation| simulation.closed.is_some());
    assert_eq!(simulation.closed, Some(CloseCause::ByViewer));
    assert_eq!(simulation.report().state, SessionState::Closed);

    // The server closes, and the viewer learns it.
    let mut simulation = Simulation::new(SCENE, WAN, SECOND, 1);
    simulation.run(10 * SECOND, |simulation| simulation.connected_at.is_some());
    simulation.run_for(SECOND);
    simulation.session.close();
    simulation.poll_session();
    assert_eq!(simulation.closed, Some(CloseCause::ByServer));
    simulation.run_for(SECOND);
    assert!(simulation.viewer.closed);

    // The viewer's machine goes away.
    let mut simulation = Simulation::new(SCENE, WAN, SECOND, 1);
    simulation.run(10 * SECOND, |simulation| simulation.connected_at.is_some());
    simulation.run_for(5 * SECOND);
    simulation.gone = true;
    let gone_at = simulation.now;
    simulation.run(60 * SECOND, |simulation| simulation.closed.is_some());
    assert_eq!(simulation.closed, Some(CloseCause::Vanished));
    let took = simulation.now.saturating_duration_since(gone_at);
    assert!(took > 15 * SECOND && took < 30 * SECOND, "{took:?}");

    // It never comes.
    let mut simulation = Simulation::new(SCENE, WAN, SECOND, 1);
    simulation.gone = true;
    simulation.run(60 * SECOND, |simulation| simulation.closed.is_some());
    assert_eq!(simulation.closed, Some(CloseCause::NeverConnected));
    assert_eq!(simulation.report().stun_received, 0);

    // It stays as long as it is there.
    let mut simulation = Simulation::new(SCENE, WAN, SECOND, 1);
    simulation.run_for(120 * SECOND);
    assert_eq!(simulation.closed, None);
}

#[test]
fn candidates_trickle_and_restarts_are_refused() {
    let mut simulation = Simulation::new(SCENE, WAN, SECOND, 1);
    let session = &mut simulation.session;
    let before = session.report().remote_candidates.len();
    let candidate = "a=candidate:1 1 udp 2113937151 3f1f.local 50000 typ host";
    for (fragment, expected) in [
        (format!("a=mid:0\r\n{candidate}\r\na=end-of-candidates\r\n"), Ok(())),
        ("a=candidate:\r\n".to_owned(), Ok(())),
        ("a=ice-ufrag:other\r\na=ice-pwd:another password of length\r\n".to_owned(), Err(FragmentError::IceRestart)),
    ] {
        assert_eq!(session.trickle(&fragment), expected, "{fragment}");
    }
    for fragment in ["", "hello", "a=mid:0\r\n", "a=candidate:what\r\n", &"a".repeat(20_000)] {
        assert!(matches!(session.trickle(fragment), Err(FragmentError::Malformed(_))), "{fragment}");
    }
    assert_eq!(session.report().remote_candidates.len(), before + 1);
    for port in 0..1_000 {
        session.trickle(&candidate.replace("50000", &port.to_string())).unwrap();
    }
    assert_eq!(session.report().remote_candidates.len(), 64);
}

/// What anyone may send to the port.
#[test]
fn foreign_datagrams_do_no_harm() {
    let mut simulation = Simulation::new(SCENE, WAN, SECOND, 1);
    simulation.run(10 * SECOND, |simulation| simulation.connected_at.is_some());
    simulation.run_for(SECOND);
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..2_000 {
        let length = random.usize(0..200);
        let mut bytes: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(length).collect();
        if let Some(first) = bytes.first_mut() {
            *first = *random.choice([0, 1, 20, 22, 23, 63, 128, 144, 191, 255].iter()).unwrap();
        }
        simulation.inject(&bytes);
    }
    simulation.run_for(5 * SECOND);
    assert_eq!(simulation.closed, None);
    assert_eq!(simulation.viewer.whole_pictures().1, 0);
}

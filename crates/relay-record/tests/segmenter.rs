//! When files and fragments begin and end, on packets that say no more than a time.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use proptest::prelude::*;
use relay_media::{Codec, Flags, Packet, Timebase, Timestamp, Track, TrackId, UtcTime, Wall, WallOrigin, g711, h264};
use relay_mp4::{Muxer, Run};
use relay_record::{Policy, Segmenter, Step};

const SPS: [&[u8]; 2] = [
    &[
        0x67, 0x42, 0xc0, 0x0d, 0xd9, 0x01, 0x41, 0xfb, 0x01, 0x10, 0, 0, 3, 0, 0x10, 0, 0, 3, 3, 0x20, 0xf1, 0x42,
        0xa4, 0x80,
    ],
    &[
        0x67, 0x42, 0xc0, 0x0b, 0xd9, 0x02, 0x84, 0x7e, 0x5c, 0x04, 0x40, 0, 0, 3, 0, 0x40, 0, 0, 0x0c, 0x83, 0xc5,
        0x0a, 0x92,
    ],
];
const PPS: &[u8] = &[0x68, 0xcb, 0x83, 0xcb, 0x20];

/// Makes packets of a picture (track 1, 25 fps) and of sound (track 2, 20 ms), at milliseconds.
struct Camera {
    tracks: [Arc<Track>; 2],
    sound: Arc<Track>,
    arrival: Instant,
}

#[derive(Clone, Copy, PartialEq)]
enum Of {
    Key,
    Delta,
    Sound,
}

impl Camera {
    #[expect(clippy::disallowed_methods, reason = "packets need an arrival; nothing looks at it")]
    fn new() -> Self {
        let track = |id, codec, hz| Arc::new(Track { id: TrackId(id), codec, timebase: Timebase::new(hz).unwrap() });
        let law = g711::Config { law: g711::Law::A, sample_rate: 8_000, channels: 1 };
        Self {
            tracks: SPS.map(|sps| track(1, Codec::H264(h264::Config::parse(sps, PPS).unwrap()), 90_000)),
            sound: track(2, Codec::G711(law), 8_000),
            arrival: Instant::now(),
        }
    }

    fn packet(&self, of: Of, millis: i64, size: usize, flags: Flags) -> Arc<Packet> {
        let track = if of == Of::Sound { &self.sound } else { &self.tracks[0] };
        self.packet_of(track, of, millis, size, flags)
    }

    fn packet_of(&self, track: &Arc<Track>, of: Of, millis: i64, size: usize, flags: Flags) -> Arc<Packet> {
        let time = Timestamp::new(millis * i64::from(track.timebase.hz()) / 1_000, track.timebase);
        Arc::new(Packet {
            track: track.clone(),
            dts: time,
            pts: time,
            duration: None,
            arrival: self.arrival,
            wall: Wall {
                utc: UtcTime::from_unix_nanos(1_000_000_000_000_000_000 + millis * 1_000_000),
                origin: WallOrigin::Arrival,
            },
            flags: if of == Of::Key { flags | Flags::KEY } else { flags },
            payload: Bytes::from(vec![7; size]),
        })
    }

    /// Picture and sound of `[from, to)` milliseconds with a key frame every `gop`.
    fn film(&self, from: i64, to: i64, gop: i64) -> Vec<Arc<Packet>> {
        let of = |millis: i64| if (millis - from) % gop == 0 { Of::Key } else { Of::Delta };
        let pictures = (from..to).step_by(40).map(|millis| self.packet(of(millis), millis, 100, Flags::empty()));
        let mut all: Vec<_> = pictures.chain(self.sounds(from, to)).collect();
        all.sort_by_key(|packet| packet.dts.nanos());
        all
    }

    fn sounds(&self, from: i64, to: i64) -> impl Iterator<Item = Arc<Packet>> {
        (from..to).step_by(20).map(|millis| self.packet(Of::Sound, millis, 160, Flags::empty()))
    }

    fn pictures(&self, from: i64, to: i64, gop: i64) -> Vec<Arc<Packet>> {
        let film = self.film(from, to, gop).into_iter();
        film.filter(|packet| packet.track.id == TrackId(1)).collect()
    }
}

fn policy(segment: u64) -> Policy {
    Policy { segment: Duration::from_secs(segment), fragment: Duration::from_secs(1) }
}

/// What came of it, a letter a step: `[1 2` a file of two tracks, and of each fragment the milliseconds that each run
/// spans and the packets it holds, `]` the end of a file.
fn told(segmenter: &mut Segmenter, muxer: &mut Option<Muxer>) -> String {
    let mut told = String::new();
    while let Some(step) = segmenter.next_step() {
        match step {
            Step::Fragment { start, runs } => {
                if let Some(start) = start {
                    assert!(muxer.is_none(), "a file begins before the last one has ended");
                    told += &format!("[{} ", start.tracks.len());
                    *muxer = Some(Muxer::new(*start).unwrap().0);
                }
                let muxer = muxer.as_mut().expect("a fragment without a file");
                let fragment = muxer.fragment(&runs).unwrap();
                muxer.commit(fragment);
                told += &runs.iter().map(tell).collect::<Vec<_>>().join("+");
                told += " ";
            }
            Step::Finish => {
                told += "] ";
                if let Some(muxer) = muxer.take() {
                    muxer.finish().unwrap();
                }
            }
        }
    }
    told
}

fn tell(run: &Run) -> String {
    let (first, last) = (run.samples.first().unwrap(), run.samples.last().unwrap());
    let millis = |ticks: i64| ticks * 1_000 / i64::from(first.packet.track.timebase.hz());
    let end = last.packet.dts.ticks() + i64::from(last.duration);
    format!("{}:{}..{}/{}", run.track, millis(first.packet.dts.ticks()), millis(end), run.samples.len())
}

fn check(name: &str, segment: u64, packets: &[Arc<Packet>], expected: &str, dropped: &[(&'static str, u64)]) {
    let mut segmenter = Segmenter::new(policy(segment));
    let mut muxer = None;
    let mut seen = String::new();
    for packet in packets {
        segmenter.push(packet.clone());
        seen += &told(&mut segmenter, &mut muxer);
    }
    segmenter.finish();
    seen += &told(&mut segmenter, &mut muxer);
    assert_eq!(seen.trim(), expected, "{name}");
    assert_eq!(segmenter.take_drops().into_iter().collect::<Vec<_>>(), dropped, "{name}");
    assert_eq!(segmenter.pending(), 0, "{name}");
}

#[test]
fn files_are_cut_at_key_frames() {
    let camera = Camera::new();
    check(
        "a file each two seconds",
        2,
        &camera.film(0, 4_500, 1_000),
        "[2 0:0..1000/25+1:0..1000/50 0:1000..2000/25+1:1000..2000/50 ] \
         [2 0:2000..3000/25+1:2000..3000/50 0:3000..4000/25+1:3000..4000/50 ] \
         [2 0:4000..4520/13+1:4000..4500/25 ]",
        &[],
    );
    check(
        "a GOP longer than a file and a fragment",
        2,
        &camera.film(0, 6_000, 3_000),
        "[2 0:0..1000/25+1:0..1000/50 0:1000..2000/25+1:1000..2000/50 0:2000..3000/25+1:2000..3000/50 ] \
         [2 0:3000..4000/25+1:3000..4000/50 0:4000..5000/25+1:4000..5000/50 0:5000..6000/25+1:5000..6000/50 ]",
        &[],
    );
    check(
        "a GOP shorter than a fragment",
        60,
        &camera.film(0, 1_500, 400),
        "[2 0:0..400/10+1:0..400/20 0:400..800/10+1:400..800/20 0:800..1200/10+1:800..1200/20 \
         0:1200..1520/8+1:1200..1500/15 ]",
        &[],
    );
}

#[test]
fn a_key_frame_that_comes_a_little_early_is_the_one() {
    let camera = Camera::new();
    let jittery = [camera.film(0, 1_960, 4_000), camera.film(1_980, 2_500, 2_000)].concat();
    check(
        "20 ms before its time",
        2,
        &jittery,
        "[2 0:0..1000/25+1:0..1000/50 0:1000..1980/24+1:1000..1980/48 ] [2 0:1980..2500/13+1:1980..2500/26 ]",
        &[],
    );
}

#[test]
fn a_file_begins_with_a_key_frame_and_the_tracks_that_speak() {
    let camera = Camera::new();
    let delta = |millis| camera.packet(Of::Delta, millis, 100, Flags::empty());
    let begun_late =
        [vec![delta(0), delta(40)], camera.sounds(0, 80).collect(), camera.film(80, 1_200, 2_000)].concat();
    check(
        "what comes before the first key frame",
        60,
        &begun_late,
        "[2 0:80..1080/25+1:80..1080/50 0:1080..1200/3+1:1080..1200/6 ]",
        &[("no_key_frame", 6)],
    );
    check(
        "no sound for two seconds",
        60,
        &camera.pictures(0, 3_200, 10_000),
        "[1 0:0..2000/50 0:2000..3000/25 0:3000..3200/5 ]",
        &[],
    );
    let mut late = [camera.pictures(0, 6_000, 2_000), camera.sounds(3_000, 6_000).collect()].concat();
    late.sort_by_key(|packet| packet.dts.nanos());
    check(
        "sound appears: a new file at the next key frame",
        60,
        &late,
        "[1 0:0..2000/50 0:2000..3000/25 0:3000..4000/25 ] \
         [2 0:4000..5000/25+1:4000..5000/50 0:5000..6000/25+1:5000..6000/50 ]",
        &[("late_track", 50)],
    );
    let mut silent = [camera.pictures(0, 8_000, 2_000), camera.sounds(0, 3_000).collect()].concat();
    silent.sort_by_key(|packet| packet.dts.nanos());
    check(
        "sound falls silent: the next file is without it",
        4,
        &silent,
        "[2 0:0..1000/25+1:0..1000/50 0:1000..2000/25+1:1000..2000/50 0:2000..3000/25+1:2000..3000/50 \
         0:3000..4000/25 ] [1 0:4000..5000/25 0:5000..6000/25 0:6000..7000/25 0:7000..8000/25 ]",
        &[],
    );
    check(
        "no picture at all",
        2,
        &camera.sounds(0, 4_000).collect::<Vec<_>>(),
        "[1 0:0..2000/100 ] [1 0:2000..3000/50 0:3000..4000/50 ]",
        &[],
    );
    check("one key frame is a file", 60, &[camera.packet(Of::Key, 0, 9, Flags::empty())], "[1 0:0..40/1 ]", &[]);
    check("nothing is none", 60, &[], "", &[]);
}

#[test]
fn late_sound_is_waited_for_where_a_file_ends() {
    let camera = Camera::new();
    let mut late = camera.film(0, 4_000, 1_000);
    let lag = |packet: &Packet| if packet.track.id == TrackId(2) { 300_000_000 } else { 0 };
    late.sort_by_key(|packet| packet.dts.nanos() + lag(packet));
    check(
        "300 ms behind",
        2,
        &late,
        "[2 0:0..1000/25+1:0..720/36 0:1000..2000/25+1:720..2000/64 ] \
         [2 0:2000..3000/25+1:2000..2720/36 0:3000..4000/25+1:2720..4000/64 ]",
        &[],
    );
    let mut later = camera.film(0, 6_000, 1_000);
    let lag = |packet: &Packet| if packet.track.id == TrackId(2) { 1_500_000_000 } else { 0 };
    later.sort_by_key(|packet| packet.dts.nanos() + lag(packet));
    check(
        "1.5 s behind: not waited for that long, and not lost",
        2,
        &later,
        "[2 0:0..1520/38+1:0..40/2 0:1520..2000/12+1:40..1520/74 ] \
         [2 0:2000..3040/26+1:1520..1560/2 0:3040..4000/24+1:1560..3520/98 ] \
         [2 0:4000..5040/26+1:3520..3560/2 0:5040..6000/24+1:3560..6000/122 ]",
        &[],
    );
}

#[test]
fn a_break_in_the_source_is_a_gap_and_not_an_end() {
    let camera = Camera::new();
    let again = |of, millis| camera.packet(of, millis, 100, Flags::DISCONTINUITY);
    let broken = [camera.pictures(0, 1_000, 1_000), vec![again(Of::Key, 9_000)], camera.pictures(9_040, 10_040, 9_000)];
    check("eight seconds away", 60, &broken.concat(), "[1 0:0..9000/25 0:9000..9040/1 0:9040..10040/25 ]", &[]);
    check("and a new file is due", 5, &broken.concat(), "[1 0:0..1000/25 ] [1 0:9000..9040/1 0:9040..10040/25 ]", &[]);
    let back = [camera.pictures(5_000, 6_000, 1_000), camera.pictures(0, 1_000, 1_000)].concat();
    check("a timeline that begins again", 60, &back, "[1 0:5000..6000/25 ] [1 0:0..1000/25 ]", &[]);
    let key = camera.packet(Of::Key, 0, 100, Flags::empty());
    check("twice the same time", 60, &[key.clone(), key], "[1 0:0..40/1 ]", &[("timestamp", 1)]);
}

#[test]
fn new_parameters_begin_a_new_file() {
    let camera = Camera::new();
    let other = |of, millis| camera.packet_of(&camera.tracks[1], of, millis, 100, Flags::empty());
    let mut changed = camera.film(0, 1_000, 1_000);
    changed.extend([other(Of::Delta, 1_000), other(Of::Key, 1_040), other(Of::Delta, 1_080)]);
    changed.extend(camera.sounds(1_000, 1_200));
    check(
        "another picture size",
        60,
        &changed,
        "[2 0:0..1000/25+1:0..1040/52 ] [2 0:1040..1120/2+1:1040..1200/8 ]",
        &[("no_key_frame", 1)],
    );
    let mut repeated = camera.film(0, 400, 1_000);
    let twin = Arc::new(Track::clone(&camera.tracks[0]));
    repeated.push(camera.packet_of(&twin, Of::Delta, 400, 100, Flags::empty()));
    check("the same again in another Arc", 60, &repeated, "[2 0:0..440/11+1:0..400/20 ]", &[]);
}

#[test]
fn idle_sources_leave_nothing_waiting() {
    let camera = Camera::new();
    let mut segmenter = Segmenter::new(policy(60));
    let mut muxer = None;
    camera.film(0, 500, 1_000).into_iter().for_each(|packet| segmenter.push(packet));
    segmenter.flush();
    assert_eq!(told(&mut segmenter, &mut muxer), "[2 0:0..520/13+1:0..500/25 ");
    assert_eq!(segmenter.pending(), 0);
    camera.film(3_000, 3_400, 1_000).into_iter().for_each(|packet| segmenter.push(packet));
    segmenter.finish();
    assert_eq!(told(&mut segmenter, &mut muxer), "0:3000..3400/10+1:3000..3400/20 ] ");
    assert!(segmenter.take_drops().is_empty());
}

proptest! {
    /// Whatever comes: nothing is lost uncounted, every step can be written, and what waits is bounded.
    #[test]
    fn any_packets_are_accounted_for(
        packets in prop::collection::vec((0_u8..5, -4_000_i64..4_000, 0_usize..600_000, 0_u8..40), 1..300),
        segment in 1_u64..10,
    ) {
        let camera = Camera::new();
        let mut segmenter = Segmenter::new(policy(segment));
        let (mut muxer, mut now, mut written) = (None, 0, 0);
        let count = packets.len() as u64;
        let mut dropped = 0;
        for (kind, step, size, rare) in packets {
            now += match rare { 0 => step * 1_000_000, 1..4 => step, _ => step.rem_euclid(60) };
            let flags = if rare == 5 { Flags::DISCONTINUITY } else { Flags::empty() };
            let track = if rare == 6 { &camera.tracks[1] } else { &camera.tracks[0] };
            let packet = match kind {
                0 => camera.packet_of(track, Of::Key, now, size, flags),
                1 | 2 => camera.packet_of(track, Of::Delta, now, size, flags),
                _ => camera.packet(Of::Sound, now, size / 100, flags),
            };
            segmenter.push(packet);
            match rare {
                7 => segmenter.flush(),
                8 => segmenter.finish(),
                9 => { segmenter.abandon("write_error"); muxer = None; }
                _ => {}
            }
            while let Some(step) = segmenter.next_step() {
                match step {
                    Step::Fragment { start, runs } => {
                        if let Some(start) = start {
                            prop_assert!(muxer.is_none());
                            muxer = Some(Muxer::new(*start).unwrap().0);
                        }
                        written += runs.iter().map(|run| run.samples.len() as u64).sum::<u64>();
                        let muxer: &mut Muxer = muxer.as_mut().expect("a fragment without a file");
                        let fragment = muxer.fragment(&runs).unwrap();
                        muxer.commit(fragment);
                    }
                    Step::Finish => muxer = None,
                }
            }
            dropped += segmenter.take_drops().values().sum::<u64>();
        }
        prop_assert_eq!(count, written + dropped + segmenter.pending() as u64);
        segmenter.finish();
        while let Some(step) = segmenter.next_step() {
            if let Step::Fragment { runs, .. } = step {
                written += runs.iter().map(|run| run.samples.len() as u64).sum::<u64>();
            }
        }
        dropped += segmenter.take_drops().values().sum::<u64>();
        prop_assert_eq!((count, segmenter.pending()), (written + dropped, 0));
    }
}

//! Any bytes, and files with any bytes changed: looked at without a panic, in bounded steps.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use proptest::prelude::*;
use relay_media::{Codec, Flags, Packet, Timebase, Timestamp, Track, TrackId, UtcTime, Wall, WallOrigin, g711, opus};
use relay_mp4::{Muxer, Run, Sample, Scan, Scanner, Start, read_samples};

/// A running file of two tracks and three fragments, and the same finished.
#[expect(clippy::disallowed_methods, reason = "packets need an arrival; nothing looks at it")]
fn files() -> [Vec<u8>; 2] {
    let arrival = Instant::now();
    let track = |id, codec, hz| Arc::new(Track { id: TrackId(id), codec, timebase: Timebase::new(hz).unwrap() });
    let law = g711::Config { law: g711::Law::Mu, sample_rate: 8_000, channels: 1 };
    let tracks = vec![track(1, Codec::G711(law), 8_000), track(2, Codec::Opus(opus::Config { channels: 2 }), 48_000)];
    let zero = Timestamp::new(0, Timebase::VIDEO);
    let start = Start { tracks: tracks.clone(), zero, presentation: zero.plus(900), utc: UtcTime::from_unix_nanos(1) };
    let (mut muxer, mut file) = Muxer::new(start).unwrap();
    for fragment in 0..3 {
        let run = |(index, track): (usize, &Arc<Track>)| {
            let ticks = i64::from(track.timebase.hz() / 50);
            let sample = |n: i64| Sample {
                packet: Arc::new(Packet {
                    track: track.clone(),
                    dts: Timestamp::new((fragment * 3 + n) * ticks, track.timebase),
                    pts: Timestamp::new((fragment * 3 + n) * ticks + n % 2, track.timebase),
                    duration: None,
                    arrival,
                    wall: Wall { utc: UtcTime::from_unix_nanos(n), origin: WallOrigin::Arrival },
                    flags: Flags::empty(),
                    payload: Bytes::from(vec![n as u8; 5 + n as usize]),
                }),
                duration: u32::try_from(ticks).unwrap(),
            };
            Run { track: index, samples: (0..3).map(sample).collect() }
        };
        let runs: Vec<_> = tracks.iter().enumerate().map(run).collect();
        let fragment = muxer.fragment(&runs).unwrap();
        file.extend_from_slice(fragment.header());
        runs.iter().flat_map(|run| &run.samples).for_each(|sample| file.extend_from_slice(&sample.packet.payload));
        muxer.commit(fragment);
    }
    let finale = muxer.finish().unwrap();
    let mut finished = [&file[..], &finale.moov].concat();
    finished[..finale.head.len()].copy_from_slice(&finale.head);
    [file, finished]
}

fn look_at(file: &[u8]) {
    let mut scanner = Scanner::new(file.len() as u64);
    let mut steps = 0;
    while let Some(range) = scanner.wants() {
        assert!(range.start < range.end && range.end - range.start <= 1 << 20);
        scanner.supply(&file[range.start as usize..range.end as usize]);
        steps += 1;
        assert!(steps <= file.len() + 100, "no progress");
    }
    if let Scan::Fragments(muxer) = scanner.finish() {
        assert!(muxer.position() <= file.len() as u64);
        let _ = muxer.finish();
    }
    if let Ok(tracks) = read_samples(file) {
        assert!(tracks.iter().flat_map(|track| &track.samples).all(|sample| sample.range.end <= file.len()));
    }
    let _ = relay_mp4::finished_moov_offset(file);
    let _ = relay_mp4::movie_duration(file);
}

proptest! {
    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        look_at(&bytes);
    }

    #[test]
    fn any_change_of_a_file(
        finished: bool,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut: prop::sample::Index,
    ) {
        let mut file = files()[usize::from(finished)].clone();
        for (at, byte) in changes {
            let at = at.index(file.len());
            file[at] = byte;
        }
        look_at(&file);
        look_at(&file[..cut.index(file.len())]);
    }
}

#[test]
fn the_files_themselves_are_whole() {
    let [running, finished] = files();
    for file in [&running, &finished] {
        let counts: Vec<_> = read_samples(file).unwrap().iter().map(|track| track.samples.len()).collect();
        assert_eq!(counts, [9, 9]);
    }
    assert_eq!(read_samples(&running).unwrap()[1].samples, read_samples(&finished).unwrap()[1].samples);
}

//! Files made of real media, read by ffmpeg, by the `mp4` crate, and by our own reader.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use std::{io::Cursor, path::Path, sync::Arc};

use clip::{Media, Scratch, decodes, packets, probe};
use relay_media::{Packet, Timestamp};
use relay_mp4::{Finale, Muxer, Run, Sample, Scan, Scanner, Start, read_samples};

mod clip;

/// What a file is cut into.
struct File {
    bytes: Vec<u8>,
    /// Where the header and each fragment end.
    ends: Vec<usize>,
    finale: Finale,
}

/// One fragment per second of all tracks, the first of them leading.
fn mux(tracks: &[Vec<Arc<Packet>>]) -> File {
    let first = &tracks[0][0];
    let start = Start {
        tracks: tracks.iter().map(|packets| packets[0].track.clone()).collect(),
        zero: first.dts,
        presentation: first.pts,
        utc: first.wall.utc,
    };
    let (mut muxer, mut bytes) = Muxer::new(start).unwrap();
    let mut ends = vec![bytes.len()];
    let last = tracks.iter().flatten().map(|packet| packet.dts.nanos()).max().unwrap();
    for second in 0..=last / 1_000_000_000 {
        let runs: Vec<_> = tracks.iter().enumerate().map(|(track, packets)| run(track, packets, second)).collect();
        let fragment = muxer.fragment(&runs).unwrap();
        let before = bytes.len();
        bytes.extend_from_slice(fragment.header());
        runs.iter().flat_map(|run| &run.samples).for_each(|sample| bytes.extend_from_slice(&sample.packet.payload));
        assert_eq!(bytes.len() - before, fragment.len());
        muxer.commit(fragment);
        assert_eq!(bytes.len() as u64, muxer.position());
        ends.push(bytes.len());
    }
    File { bytes, ends, finale: muxer.finish().unwrap() }
}

fn run(track: usize, packets: &[Arc<Packet>], second: i64) -> Run {
    let within = |packet: &Packet| packet.dts.nanos() / 1_000_000_000 == second;
    let samples = packets.iter().enumerate().filter(|(_, packet)| within(packet)).map(|(index, packet)| {
        let next = packets.get(index + 1);
        let typical = packets[1].dts.ticks() - packets[0].dts.ticks();
        let ticks = next.map_or(typical, |next| next.dts.ticks() - packet.dts.ticks());
        Sample { packet: packet.clone(), duration: u32::try_from(ticks).unwrap() }
    });
    Run { track, samples: samples.collect() }
}

fn finish(bytes: &mut Vec<u8>, finale: &Finale) {
    assert_eq!(finale.at, bytes.len() as u64);
    bytes.extend_from_slice(&finale.moov);
    bytes[..finale.head.len()].copy_from_slice(&finale.head);
}

fn save(dir: &Path, name: &str, bytes: &[u8]) -> std::path::PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

/// The file says what the packets said: their bytes, their order, their times on the presentation's clock.
fn holds(file: &[u8], tracks: &[Vec<Arc<Packet>>]) {
    let zero = tracks[0][0].pts;
    let read = read_samples(file).unwrap();
    assert_eq!(read.len(), tracks.len());
    for (read, packets) in read.iter().zip(tracks) {
        assert_eq!(read.track.codec, packets[0].track.codec);
        assert_eq!(read.samples.len(), packets.len(), "{:?}", read.track.codec.name());
        for (sample, packet) in read.samples.iter().zip(packets) {
            assert_eq!(&file[sample.range.clone()], &packet.payload[..]);
            assert_eq!(sample.key, packet.is_key() || read.track.kind() == relay_media::Kind::Audio);
            let expected = |time: Timestamp| time.ticks() - zero.rescale(time.timebase()).ticks();
            assert!((sample.dts.ticks() - expected(packet.dts)).abs() <= 1, "{sample:?} {packet:?}");
            assert!((sample.pts.ticks() - expected(packet.pts)).abs() <= 1, "{sample:?} {packet:?}");
        }
    }
}

#[test]
fn every_codec_plays_while_running_and_when_finished() {
    let rows: [&[Media]; 8] = [
        &[Media::H264],
        &[Media::H264, Media::Aac],
        &[Media::H264Reordered, Media::Aac],
        &[Media::H265],
        &[Media::H265, Media::Opus],
        &[Media::H264, Media::Pcma],
        &[Media::H264, Media::Pcmu],
        &[Media::Opus],
    ];
    for row in rows {
        let mut tracks: Vec<_> = (1..).zip(row).map(|(id, &media)| packets(media, id, 3)).collect();
        // Sound from before the first picture belongs to the file before.
        let start = tracks[0][0].pts.nanos();
        tracks.iter_mut().skip(1).for_each(|packets| packets.retain(|packet| packet.pts.nanos() >= start));
        let dir = Scratch::new();
        let mut file = mux(&tracks);
        let running = save(dir.path(), "running.mp4", &file.bytes);
        decodes(&running).unwrap_or_else(|error| panic!("{row:?} running: {error}"));
        holds(&file.bytes, &tracks);
        finish(&mut file.bytes, &file.finale);
        let finished = save(dir.path(), "finished.mp4", &file.bytes);
        decodes(&finished).unwrap_or_else(|error| panic!("{row:?} finished: {error}"));
        holds(&file.bytes, &tracks);
        for path in [&running, &finished] {
            for (index, packets) in tracks.iter().enumerate() {
                let listed = probe(path, &index.to_string(), "packet=pts_time");
                assert_eq!(listed.len(), packets.len(), "{row:?} {path:?}");
                let first: f64 = listed[0].parse().unwrap();
                assert!((-0.03..0.03).contains(&first), "{row:?} {path:?} starts at {first}");
            }
        }
    }
}

#[test]
fn a_finished_file_seeks_and_tells_its_length() {
    let tracks = [packets(Media::H264Reordered, 1, 6), packets(Media::Aac, 2, 6)];
    let dir = Scratch::new();
    let mut file = mux(&tracks);
    finish(&mut file.bytes, &file.finale);
    let path = save(dir.path(), "seek.mp4", &file.bytes);
    let text = path.to_str().unwrap();
    let at = relay_mp4::finished_moov_offset(&file.bytes[..relay_mp4::FINISHED_HEAD_BYTES]).unwrap() as usize;
    let head = &file.bytes[at..at + relay_mp4::MOVIE_HEAD_BYTES];
    let duration = relay_mp4::movie_duration(head).unwrap();
    assert!((5_990..6_050).contains(&duration.as_millis()), "{duration:?}");
    let seek = ["-v", "error", "-xerror", "-ss", "4", "-i", text, "-frames:v", "1", "-f", "framehash", "-"];
    let direct =
        ["-v", "error", "-xerror", "-i", text, "-vf", "select=eq(n\\,100)", "-frames:v", "1", "-f", "framehash", "-"];
    let hash = |arguments: &[&str]| {
        let text = String::from_utf8(clip::run("ffmpeg", arguments).stdout).unwrap();
        text.lines().find(|line| line.starts_with("0,")).map(|line| line.rsplit(',').next().unwrap().trim().to_owned())
    };
    assert_eq!(hash(&seek).unwrap(), hash(&direct).unwrap(), "frame 100 is at 4 s");
}

#[test]
fn the_mp4_crate_reads_finished_files() {
    let tracks = [packets(Media::H264, 1, 3), packets(Media::Aac, 2, 3)];
    let mut file = mux(&tracks);
    finish(&mut file.bytes, &file.finale);
    let length = file.bytes.len() as u64;
    let mut reader = mp4::Mp4Reader::read_header(Cursor::new(&file.bytes), length).unwrap();
    assert_eq!(reader.tracks().len(), 2);
    assert_eq!(reader.tracks()[&1].media_type().unwrap(), mp4::MediaType::H264);
    assert_eq!((reader.tracks()[&1].width(), reader.tracks()[&1].height()), (320, 240));
    assert_eq!(reader.tracks()[&2].media_type().unwrap(), mp4::MediaType::AAC);
    for (id, packets) in (1_u32..).zip(&tracks) {
        assert_eq!(reader.sample_count(id).unwrap() as usize, packets.len());
        for (number, packet) in (1_u32..).zip(packets) {
            let sample = reader.read_sample(id, number).unwrap().expect("there are so many");
            assert_eq!(sample.bytes, packet.payload);
            let first = packets[0].dts.ticks();
            assert_eq!(sample.start_time, u64::try_from(packet.dts.ticks() - first).unwrap(), "sample {number}");
        }
    }
}

#[test]
fn cut_anywhere_the_whole_fragments_play() {
    let tracks = [packets(Media::H264Reordered, 1, 3), packets(Media::Aac, 2, 3)];
    let file = mux(&tracks);
    let mut finished = file.bytes.clone();
    finish(&mut finished, &file.finale);
    let mut unflipped = file.bytes.clone();
    unflipped.extend_from_slice(&file.finale.moov);
    let dir = Scratch::new();
    let mut played = std::collections::HashSet::new();
    // Every byte of the boxes and strides over the media, of a file that runs, that is being finished, and that was.
    for (name, bytes) in [("running", &file.bytes), ("unflipped", &unflipped), ("finished", &finished)] {
        let near = |cut: usize| file.ends.iter().any(|&end| cut.abs_diff(end) < 900);
        for cut in (0..=bytes.len()).filter(|&cut| cut % 997 == 0 || near(cut) || cut == bytes.len()) {
            let whole = file.ends.iter().filter(|&&end| end <= cut).count().saturating_sub(1);
            let mut scanner = Scanner::new(cut as u64);
            while let Some(range) = scanner.wants() {
                assert!(range.end - range.start <= 1 << 20);
                scanner.supply(&bytes[range.start as usize..range.end as usize]);
            }
            match scanner.finish() {
                Scan::Finished => assert!(name == "finished" && cut == bytes.len()),
                Scan::Empty => assert_eq!(whole, 0, "{name} cut at {cut}"),
                Scan::Fragments(muxer) => {
                    assert_eq!(muxer.position() as usize, file.ends[whole], "{name} cut at {cut}");
                    let mut repaired = bytes[..file.ends[whole]].to_vec();
                    finish(&mut repaired, &muxer.finish().unwrap());
                    let read = read_samples(&repaired).unwrap();
                    assert_eq!(read[0].samples.len(), (whole * 25).min(75));
                    if played.insert((name, whole)) {
                        let path = save(dir.path(), "repaired.mp4", &repaired);
                        decodes(&path).unwrap_or_else(|error| panic!("{name} cut at {cut}: {error}"));
                    }
                }
                Scan::Foreign => panic!("{name} cut at {cut} is still ours"),
            }
        }
    }
    assert_eq!(played.len(), 3 * (file.ends.len() - 1));
}

//! Fragments that ffmpeg wrote, in its several ways, read back as ffprobe reads them; and any bytes.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use std::{path::Path, process::Command};

use clip::Scratch;
use proptest::prelude::*;
use relay_media::{Flags, Kind};
use relay_mp4::{CmafReader, CmafUnit};

mod clip;

fn ffmpeg(dir: &Path, args: &str) -> Vec<u8> {
    let inputs = "-v error -f lavfi -i testsrc2=size=160x120:rate=25 -f lavfi -i sine=440:sample_rate=48000 -t 4 \
                  -pix_fmt yuv420p -g 50 -c:a aac";
    let path = dir.join("clip.mp4");
    let all = inputs.split_whitespace().chain(args.split_whitespace());
    let status = Command::new("ffmpeg").args(all).arg("-y").arg(&path).status().unwrap();
    assert!(status.success(), "ffmpeg {args}");
    std::fs::read(&path).unwrap()
}

/// Times in nanoseconds and key flags of the packets of a kind (`v`, `a`), as ffprobe tells.
fn probe(file: &Path, kind: &str) -> Vec<(i64, i64, bool)> {
    let entries = "packet=pts_time,dts_time,flags";
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-select_streams", kind, "-show_entries", entries, "-of", "csv=p=0"])
        .arg(file)
        .output()
        .unwrap();
    let micros = |text: &str| (text.parse::<f64>().unwrap() * 1e6).round() as i64;
    let line = |line: &str| {
        let fields: Vec<_> = line.split(',').collect();
        (micros(fields[0]), micros(fields[1]), fields[2].starts_with('K'))
    };
    String::from_utf8(output.stdout).unwrap().lines().map(line).collect()
}

fn read(file: &[u8], piece: usize) -> (CmafReader, Vec<CmafUnit>) {
    let (mut reader, mut units) = (CmafReader::new(), Vec::new());
    for bytes in file.chunks(piece) {
        reader.push(bytes).unwrap();
        units.extend(std::iter::from_fn(|| reader.poll()));
    }
    (reader, units)
}

#[test]
fn ffmpegs_fragments_are_read_as_ffprobe_reads_them() {
    let fragmented = "-movflags frag_keyframe+empty_moov";
    for args in [
        format!("-c:v libx264 -bf 0 {fragmented}"),
        format!("-c:v libx264 -bf 2 {fragmented}"),
        format!("-c:v libx264 -bf 2 {fragmented}+default_base_moof"),
        format!("-c:v libx264 -bf 2 {fragmented}+separate_moof"),
        format!("-c:v libx264 -bf 2 {fragmented}+omit_tfhd_offset"),
        format!("-c:v libx264 -bf 2 {fragmented}+negative_cts_offsets"),
        "-c:v libx264 -bf 2 -movflags frag_keyframe+delay_moov+default_base_moof".to_owned(),
        "-c:v libx264 -bf 2 -movflags cmaf -frag_duration 500000".to_owned(),
        format!("-c:v libx265 -x265-params log-level=error -tag:v hvc1 {fragmented}"),
        format!("-c:v libx265 -x265-params log-level=error:repeat-headers=1 -tag:v hev1 {fragmented}"),
    ] {
        let dir = Scratch::new();
        let file = ffmpeg(dir.path(), &args);
        for piece in [1, 997, usize::MAX] {
            let (mut reader, units) = read(&file, piece);
            for (kind, letter) in [(Kind::Video, "v"), (Kind::Audio, "a")] {
                let index = reader.tracks().iter().position(|track| track.kind == Some(kind)).unwrap();
                let found: Vec<_> = units.iter().filter(|unit| unit.track == index).collect();
                let expected = probe(&dir.path().join("clip.mp4"), letter);
                assert_eq!(found.len(), expected.len(), "{args}: {kind:?}");
                for (unit, (pts, dts, key)) in found.iter().zip(&expected) {
                    // ffmpeg moves such a stream so that no picture is shown before it is decoded.
                    let is_negative = args.contains("negative") || args.contains("movflags cmaf");
                    let shift = if is_negative && kind == Kind::Video { expected[0].0 } else { 0 };
                    let (pts, dts) = (pts - shift, dts);
                    let close = |nanos: i64, micros: i64| (nanos / 1_000 - micros).abs() <= 1;
                    let (unit_dts, unit_pts) = (unit.dts.nanos(), unit.pts.nanos());
                    assert!(
                        close(unit_pts, pts) && close(unit_dts, *dts),
                        "{args}: {unit_pts} {unit_dts}, {pts} {dts}"
                    );
                    assert!(kind == Kind::Audio || unit.flags.contains(Flags::KEY) == *key, "{args}");
                }
                let codecs: Vec<_> = found.iter().filter(|unit| unit.codec.is_some()).collect();
                assert_eq!(codecs.len(), 1, "{args}: {kind:?} tells its codec once");
                assert_eq!(*codecs[0], found[0]);
            }
            assert_eq!(reader.dropped(), 0, "{args}");
            assert!(reader.finish(), "{args}: whole");
        }
        // A cut in the media: what came is kept, what was cut is dropped, and the next segment is read.
        let (mut reader, units) = read(&file[..file.len() * 2 / 3], 1_000);
        assert!(!units.is_empty() && !reader.finish(), "{args}");
    }
}

fn look_at(bytes: &[u8], piece: usize) {
    let (mut reader, mut held) = (CmafReader::new(), 0);
    for bytes in bytes.chunks(piece) {
        if reader.push(bytes).is_err() {
            reader.finish();
        }
        held += std::iter::from_fn(|| reader.poll()).map(|unit| unit.payload.len()).sum::<usize>();
    }
    reader.finish();
    // A unit repeats at most the parameter sets.
    assert!(held <= bytes.len() * 64 + 4_096, "{held} of {}", bytes.len());
}

#[test]
fn changed_bytes_are_looked_at() {
    let dir = Scratch::new();
    let file = ffmpeg(dir.path(), "-c:v libx264 -bf 2 -movflags frag_keyframe+empty_moov+default_base_moof");
    let mut rng = fastrand_like(7);
    for _ in 0..300 {
        let mut changed = file[..file.len().min(40_000)].to_vec();
        for _ in 0..1 + rng() % 6 {
            let at = rng() as usize % changed.len().min(8_000);
            changed[at] = rng() as u8;
        }
        look_at(&changed, 1 + rng() as usize % 5_000);
    }
}

/// Numbers that are the same every time (xorshift).
fn fastrand_like(mut state: u64) -> impl FnMut() -> u64 {
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state >> 11
    }
}

proptest! {
    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300), piece in 1_usize..50) {
        look_at(&bytes, piece);
    }
}

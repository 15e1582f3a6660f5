//! relay-ts against what ffmpeg writes: every unit, its times, its flags and its bytes, as ffprobe sees them.

use std::path::{Path, PathBuf};
use std::process::Command;

use relay_media::{Codec, Flags};
use relay_tests::needs;
use relay_ts::{AfterLoss, Content, Demuxer, Quirk, Unit};
use serde_json::Value;

const VIDEO: u16 = 0x100;
const AUDIO: u16 = 0x101;

/// A picture generator and a tone, for `seconds`.
fn inputs(seconds: u32) -> String {
    format!("-f lavfi -i testsrc2=s=320x180:r=25:d={seconds} -f lavfi -i sine=r=48000:d={seconds} -pix_fmt yuv420p")
}

/// What ffprobe says about one packet.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    pts: i64,
    dts: i64,
    key: bool,
    size: usize,
    adler32: u32,
}

#[test]
fn units_are_those_that_ffprobe_sees() {
    if !needs(&["ffmpeg", "ffprobe"]) {
        return;
    }
    let rows = [
        ("h264 with B-frames, aac", "-c:v libx264 -bf 3 -g 25 -c:a aac -ac 2", "h264 aac"),
        (
            "h264 of four slices",
            "-c:v libx264 -tune zerolatency -x264-params slices=4:nal-hrd=cbr -b:v 1M -maxrate 1M -bufsize 1M -c:a aac",
            "h264 aac",
        ),
        ("h264 with open groups", "-c:v libx264 -g 12 -x264-params open-gop=1:b-adapt=0 -c:a aac", "h264 aac"),
        ("h264 in Blu-ray packets", "-c:v libx264 -c:a ac3 -mpegts_m2ts_mode 1", "h264 ac3"),
        ("h264 at the wrap of the clock", "-c:v libx264 -bf 2 -c:a aac -output_ts_offset 95441", "h264 aac"),
        (
            "h264 without delimiters",
            "-c:v libx264 -x264-params aud=0 -c:a aac -mpegts_flags latm -ar 44100",
            "h264 aac_latm",
        ),
        ("h265", "-c:v libx265 -preset ultrafast -x265-params log-level=none -c:a aac -ac 1 -ar 22050", "h265 aac"),
        ("h265 with B-frames", "-c:v libx265 -x265-params log-level=none:bframes=3:keyint=20 -c:a aac", "h265 aac"),
        ("opus", "-c:v libx264 -c:a libopus -ac 2", "h264 opus"),
        ("mp3 is named", "-c:v libx264 -c:a libmp3lame", "h264 mp3"),
        ("ac3 is named", "-c:v libx264 -c:a ac3", "h264 ac3"),
        ("eac3 is named", "-c:v libx264 -c:a eac3", "h264 eac3"),
    ];
    for (name, options, contents) in rows {
        check(name, options, contents);
    }
}

fn check(name: &str, options: &str, contents: &str) {
    let dir = Dir::new(name);
    let path = dir.0.join("a.ts");
    ffmpeg(&format!("{} {options}", inputs(4)), &path);
    let bytes = std::fs::read(&path).expect("written");
    for piece in [bytes.len(), 1_316, 61] {
        let mut demuxer = Demuxer::new(AfterLoss::WaitForKey);
        let mut units = Vec::new();
        for piece in bytes.chunks(piece) {
            demuxer.push(piece);
            units.extend(std::iter::from_fn(|| demuxer.poll()));
        }
        demuxer.finish();
        units.extend(std::iter::from_fn(|| demuxer.poll()));
        let named: Vec<_> = demuxer.streams().map(|stream| stream.content.name()).collect();
        assert_eq!(named.join(" "), contents, "{name}");
        let quirks: Vec<_> = demuxer.quirks().iter().filter(|(quirk, _)| *quirk != Quirk::BytesSkipped).collect();
        assert!(quirks.is_empty(), "{name}: {quirks:?}");
        for stream in demuxer.streams().filter(|stream| !matches!(stream.content, Content::PassedOver(_))) {
            let expected = probe(&path, stream.pid, stream.content);
            let got: Vec<_> = units.iter().filter(|unit| unit.pid == stream.pid).map(seen).collect();
            compare(&format!("{name}, {} in pieces of {piece}", stream.content.name()), &got, &expected);
        }
        let codecs: Vec<_> = units.iter().filter_map(|unit| unit.codec.as_ref()).map(Codec::name).collect();
        assert!(codecs.len() <= 2 && units.iter().all(|unit| !unit.discontinuity), "{name}: {codecs:?}");
    }
}

#[test]
fn segments_follow_each_other_without_a_seam() {
    if !needs(&["ffmpeg", "ffprobe"]) {
        return;
    }
    let dir = Dir::new("segments");
    let path = dir.0.join("a.m3u8");
    let options = "-c:v libx264 -g 25 -bf 2 -c:a aac -f hls -hls_time 1 -hls_list_size 0";
    ffmpeg(&format!("{} {options}", inputs(5)), &path);
    let mut demuxer = Demuxer::new(AfterLoss::WaitForKey);
    let mut units = Vec::new();
    for index in 0..5 {
        demuxer.push(&std::fs::read(dir.0.join(format!("a{index}.ts"))).expect("a segment"));
        demuxer.finish();
        units.extend(std::iter::from_fn(|| demuxer.poll()));
    }
    assert_eq!(demuxer.quirks().get(Quirk::UnitDamaged), 0, "{:?}", demuxer.quirks());
    assert!(units.iter().all(|unit| !unit.discontinuity));
    let pictures: Vec<_> = units.iter().filter(|unit| unit.pid == VIDEO).map(|unit| unit.dts).collect();
    assert_eq!(pictures.len(), 125);
    assert!(pictures.is_sorted_by(|one, next| next - one == 3_600), "{pictures:?}");
    let sounds: Vec<_> = units.iter().filter(|unit| unit.pid == AUDIO).map(|unit| unit.dts).collect();
    assert!(sounds.is_sorted_by(|one, next| (1_919..=1_921).contains(&(next - one))), "{sounds:?}");
    assert!(sounds.len() >= 234, "{}", sounds.len());
}

#[test]
fn another_programme_map_takes_over() {
    if !needs(&["ffmpeg", "ffprobe"]) {
        return;
    }
    let dir = Dir::new("maps");
    let parts = [
        ("-c:v libx264 -bf 2 -c:a aac", "h264 aac", VIDEO),
        (
            "-c:v libx265 -x265-params log-level=none -c:a libopus -mpegts_start_pid 0x200 -mpegts_pmt_start_pid 0x1100",
            "h265 opus",
            0x200,
        ),
        ("-c:v libx264 -s 160x90 -c:a ac3 -mpegts_start_pid 0x200", "h264 ac3", 0x200),
    ];
    let mut demuxer = Demuxer::new(AfterLoss::WaitForKey);
    let mut units = Vec::new();
    for (index, (options, contents, pid)) in parts.into_iter().enumerate() {
        let path = dir.0.join(format!("{index}.ts"));
        ffmpeg(&format!("{} {options}", inputs(2)), &path);
        // Straight behind each other, with nothing said about it.
        demuxer.push(&std::fs::read(&path).expect("written"));
        let named: Vec<_> = demuxer.streams().map(|stream| stream.content.name()).collect();
        assert_eq!(named.join(" "), contents);
        if index + 1 == parts.len() {
            demuxer.finish();
        }
        units.extend(std::iter::from_fn(|| demuxer.poll()).map(|unit| (index, unit)));
        let expected = probe(&path, pid, if contents.starts_with("h265") { Content::H265 } else { Content::H264 });
        let told = demuxer.streams().find(|stream| stream.pid == pid).and_then(|stream| stream.codec.cloned());
        assert!(contents.starts_with(told.expect("known").name()));
        assert_eq!(expected.len(), 50);
    }
    let pictures = units.iter().filter(|(_, unit)| unit.payload.len() > 4 && unit.pid & 0xff == 0).count();
    assert_eq!(pictures, 150, "{:?}", demuxer.quirks());
    let codecs: Vec<_> = units.iter().filter_map(|(_, unit)| unit.codec.as_ref()).map(Codec::name).collect();
    assert_eq!(codecs, ["h264", "aac", "h265", "opus", "h264"]);
}

fn seen(unit: &Unit) -> Seen {
    let Unit { pts, dts, .. } = *unit;
    let key = unit.flags.contains(Flags::KEY);
    Seen { pts, dts, key, size: unit.payload.len(), adler32: adler32(&unit.payload) }
}

/// RFC 1950 §8.
fn adler32(bytes: &[u8]) -> u32 {
    let (low, high) = bytes.iter().fold((1_u32, 0_u32), |(low, high), byte| {
        let low = (low + u32::from(*byte)) % 65_521;
        (low, (high + low) % 65_521)
    });
    high << 16 | low
}

fn compare(what: &str, got: &[Seen], expected: &[Seen]) {
    for (index, (got, expected)) in got.iter().zip(expected).enumerate() {
        // ffmpeg rounds where several frames share a time, and moves the times before a wrap below zero.
        let near = |one: i64, other: i64| (one - other + 1).rem_euclid(1 << 33) <= 2;
        let same = near(got.pts, expected.pts) && near(got.dts, expected.dts);
        let same = same && (got.key, got.size, got.adler32) == (expected.key, expected.size, expected.adler32);
        assert!(same, "{what}: unit {index} is {got:?}, not {expected:?}");
    }
    assert_eq!(got.len(), expected.len(), "{what}");
    assert!(got.is_sorted_by(|one, next| one.dts < next.dts), "{what}");
}

/// Times and flags from the transport stream; sizes and sums from a file of another kind that ffmpeg makes of it, without what
/// doesn't go into packets.
fn probe(path: &Path, pid: u16, content: Content) -> Vec<Seen> {
    let times = packets(path, pid);
    let (filter, extension) = match content {
        Content::H264 => ("-bsf:v filter_units=remove_types=7-9|12", "mp4"),
        Content::H265 => ("-bsf:v filter_units=remove_types=32-35|38", "mp4"),
        _ => ("", "mkv"),
    };
    let remuxed = path.with_extension(format!("{pid}.{extension}"));
    if !remuxed.is_file() {
        let mut command = Command::new("ffmpeg");
        command.args(["-v", "error", "-y", "-i"]).arg(path);
        command.args(["-map", &format!("0:i:{pid}"), "-c", "copy"]).args(filter.split_whitespace()).arg(&remuxed);
        assert!(command.status().expect("ffmpeg runs").success(), "{command:?}");
    }
    let contents = packets(&remuxed, 0);
    assert_eq!(times.len(), contents.len(), "{}", path.display());
    let is_video = matches!(content, Content::H264 | Content::H265);
    let times = times.into_iter().zip(contents);
    times.map(|(time, content)| Seen { key: is_video && time.key, pts: time.pts, dts: time.dts, ..content }).collect()
}

/// The packets of one stream by its `pid`; of the first in files that have none.
fn packets(path: &Path, pid: u16) -> Vec<Seen> {
    let mut ffprobe = Command::new("ffprobe");
    let select = if pid == 0 { "0".to_owned() } else { format!("i:{pid}") };
    ffprobe.args([
        "-v",
        "error",
        "-of",
        "json",
        "-show_packets",
        "-show_data_hash",
        "adler32",
        "-select_streams",
        &select,
    ]);
    let output = ffprobe.arg(path).output().expect("ffprobe runs");
    let seen: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let packets = seen["packets"].as_array().expect("packets").iter();
    let number = |packet: &Value, name: &str| packet[name].as_i64().unwrap_or_else(|| panic!("{name}: {packet}"));
    packets
        .map(|packet| Seen {
            pts: number(packet, "pts"),
            dts: number(packet, "dts"),
            key: packet["flags"].as_str().is_some_and(|flags| flags.starts_with('K')),
            size: packet["size"].as_str().and_then(|size| size.parse().ok()).expect("size"),
            adler32: packet["data_hash"]
                .as_str()
                .and_then(|hash| u32::from_str_radix(hash.split(':').next_back()?, 16).ok())
                .expect("hash"),
        })
        .collect()
}

fn ffmpeg(arguments: &str, path: &Path) {
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-y"]).args(arguments.split_whitespace()).arg(path);
    assert!(command.status().expect("ffmpeg runs").success(), "{command:?}");
}

/// A directory for one test, gone after it.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let name: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
        let dir = std::env::temp_dir().join(format!("relay-ts-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory");
        Self(dir)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        // Left behind at worst.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

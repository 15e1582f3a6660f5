//! Real media for tests, made by ffmpeg when the test runs: packets as a source would push them, and checks by ffprobe
//! and ffmpeg of the files made of them.

#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use relay_media::{
    Codec, Flags, Packet, Timebase, Timestamp, Track, TrackId, UtcTime, Wall, WallOrigin, aac, g711, h264, h265, nal,
    opus,
};

/// 2026-11-21T02:30:00.123Z.
pub(crate) const UTC: UtcTime = UtcTime::from_unix_nanos(1_795_228_200_123_000_000);

/// What is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Media {
    /// 25 fps, a key frame each second, no reordering.
    H264,
    /// Likewise with two B-frames in a row.
    H264Reordered,
    /// 25 fps, a key frame each second, with B-frames.
    H265,
    /// 48 kHz stereo.
    Aac,
    /// 48 kHz stereo, 20 ms.
    Opus,
    /// 8 kHz mono, 20 ms.
    Pcma,
    /// 8 kHz mono, 20 ms.
    Pcmu,
}

/// Packets of `seconds` of a moving picture or a tone, track number `id`, starting at 0 on the stream's time.
pub(crate) fn packets(media: Media, id: u32, seconds: u32) -> Vec<Arc<Packet>> {
    let dir = Scratch::new();
    let (codec, timebase, listed) = encode(media, seconds, dir.path());
    let track = Arc::new(Track { id: TrackId(id), codec, timebase });
    let arrival = origin();
    let delay = listed.iter().map(|packet| -packet.dts).max().unwrap_or(0).max(0);
    let packet = |listed: Listed| {
        let (dts, pts) = (listed.dts + delay, listed.pts + delay);
        let nanos = Timestamp::new(pts, timebase).nanos();
        let key = listed.key && matches!(media, Media::H264 | Media::H264Reordered | Media::H265);
        Arc::new(Packet {
            track: track.clone(),
            dts: Timestamp::new(dts, timebase),
            pts: Timestamp::new(pts, timebase),
            duration: None,
            arrival: arrival + Duration::from_nanos(nanos.unsigned_abs()),
            wall: Wall { utc: UTC.plus_nanos(nanos), origin: WallOrigin::Arrival },
            flags: if key { Flags::KEY } else { Flags::empty() },
            payload: listed.payload,
        })
    };
    listed.into_iter().map(packet).collect()
}

/// The packets of several tracks as they would arrive: in the order of their decode times.
pub(crate) fn interleave(tracks: &[Vec<Arc<Packet>>]) -> Vec<Arc<Packet>> {
    let mut all: Vec<_> = tracks.iter().flatten().cloned().collect();
    all.sort_by_key(|packet| packet.dts.nanos());
    all
}

#[expect(clippy::disallowed_methods, reason = "packets need an arrival; nothing waits for it")]
fn origin() -> Instant {
    Instant::now()
}

struct Listed {
    pts: i64,
    dts: i64,
    key: bool,
    payload: Bytes,
}

fn encode(media: Media, seconds: u32, dir: &Path) -> (Codec, Timebase, Vec<Listed>) {
    let picture = format!("testsrc2=size=320x240:rate=25:duration={seconds}");
    let tone = format!("sine=frequency=440:sample_rate=48000:duration={seconds}");
    let x264 = "-c:v libx264 -preset veryfast -g 25 -sc_threshold 0 -pix_fmt yuv420p";
    let (source, options) = match media {
        Media::H264 => (&picture, format!("{x264} -bf 0")),
        Media::H264Reordered => (&picture, format!("{x264} -bf 2 -b_strategy 0")),
        Media::H265 => (
            &picture,
            "-c:v libx265 -preset ultrafast -pix_fmt yuv420p \
             -x265-params keyint=25:min-keyint=25:bframes=2:open-gop=0:log-level=error"
                .to_owned(),
        ),
        Media::Aac => (&tone, "-c:a aac -ac 2".to_owned()),
        Media::Opus => (&tone, "-c:a libopus -ac 2".to_owned()),
        Media::Pcma | Media::Pcmu => return companded(media, seconds),
    };
    let options: Vec<&str> = options.split_whitespace().collect();
    let file = dir.join("clip.mp4");
    let file = file.to_str().expect("temporary paths are UTF-8");
    let input = ["-v", "error", "-y", "-f", "lavfi", "-i", source];
    run("ffmpeg", &[&input[..], &options, &["-video_track_timescale", "90000", file]].concat());
    let entries = ["-v", "error", "-show_entries", "packet=pts,dts,size,flags", "-of", "csv=p=0", file];
    let table = String::from_utf8(run("ffprobe", &entries).stdout).expect("ffprobe prints text");
    let media_bytes = run("ffmpeg", &["-v", "error", "-i", file, "-map", "0", "-c", "copy", "-f", "data", "-"]).stdout;
    let mut rest = Bytes::from(media_bytes);
    let listed = table.lines().filter(|line| !line.is_empty()).map(|line| {
        let mut columns = line.split(',');
        let mut number = || columns.next().and_then(|text| text.parse::<i64>().ok()).expect("a number");
        let (pts, dts, size) = (number(), number(), number());
        let key = columns.next().is_some_and(|flags| flags.starts_with('K'));
        Listed { pts, dts, key, payload: rest.split_to(usize::try_from(size).expect("a size")) }
    });
    let listed = listed.collect();
    let annex_b = |filter: &str, format: &str| {
        run("ffmpeg", &["-v", "error", "-i", file, "-c", "copy", "-bsf:v", filter, "-f", format, "-"]).stdout
    };
    let (codec, hz) = match media {
        Media::H264 | Media::H264Reordered => {
            let bytes = annex_b("h264_mp4toannexb", "h264");
            let set = |kind: u8| nal::split_annex_b(&bytes).find(|nal| nal[0] & 0x1f == kind).expect("a set");
            (Codec::H264(h264::Config::parse(set(7), set(8)).expect("sound sets")), 90_000)
        }
        Media::H265 => {
            let bytes = annex_b("hevc_mp4toannexb", "hevc");
            let set = |kind: u8| nal::split_annex_b(&bytes).find(|nal| nal[0] >> 1 == kind).expect("a set");
            (Codec::H265(h265::Config::parse(set(32), set(33), set(34)).expect("sound sets")), 90_000)
        }
        Media::Aac => (Codec::Aac(aac::Config::new(2, 48_000, 2).expect("usual")), 48_000),
        _ => (Codec::Opus(opus::Config { channels: 2 }), 48_000),
    };
    (codec, Timebase::new(hz).expect("not zero"), listed)
}

fn companded(media: Media, seconds: u32) -> (Codec, Timebase, Vec<Listed>) {
    let law = if media == Media::Pcma { g711::Law::A } else { g711::Law::Mu };
    let payload = |n: i64| Bytes::from((0..160).map(|byte| (byte * 3 + n) as u8).collect::<Vec<_>>());
    let packet = |n: i64| Listed { pts: n * 160, dts: n * 160, key: true, payload: payload(n) };
    let config = g711::Config { law, sample_rate: 8_000, channels: 1 };
    let listed = (0..i64::from(seconds) * 50).map(packet).collect();
    (Codec::G711(config), Timebase::new(8_000).expect("not zero"), listed)
}

/// A directory that is removed with its content.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("relay-clip-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a temporary directory");
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs a program that must succeed.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    output
}

/// What ffprobe and ffmpeg say of a file: frames decoded per stream, `None` where ffmpeg finds any error.
pub(crate) fn decodes(file: &Path) -> Result<(), String> {
    let file = file.to_str().expect("temporary paths are UTF-8");
    for (program, arguments) in [
        ("ffprobe", vec!["-v", "warning", "-show_streams", "-show_format", file]),
        ("ffmpeg", vec!["-v", "warning", "-xerror", "-i", file, "-map", "0", "-f", "null", "-"]),
    ] {
        let output = Command::new(program).args(arguments).output().expect("installed");
        let said = String::from_utf8_lossy(&output.stderr);
        // G.711 has no channel layout to tell; ffmpeg says that it guesses mono.
        let complaints =
            said.lines().any(|line| !line.trim().is_empty() && !line.starts_with("Guessed Channel Layout"));
        if !output.status.success() || complaints {
            return Err(format!("{program}: {said}"));
        }
    }
    Ok(())
}

/// `entries` of ffprobe's packets of the stream `select`, a line each.
pub(crate) fn probe(file: &Path, select: &str, entries: &str) -> Vec<String> {
    let file = file.to_str().expect("temporary paths are UTF-8");
    let arguments =
        ["-v", "error", "-select_streams", select, "-show_entries", entries, "-of", "csv=p=0", file].map(str::to_owned);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let text = String::from_utf8(run("ffprobe", &arguments).stdout).expect("ffprobe prints text");
    text.lines().map(|line| line.trim_end_matches(',').to_owned()).filter(|line| !line.is_empty()).collect()
}

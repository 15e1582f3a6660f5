//! What relay-mkv writes, as ffprobe, ffmpeg, mkvinfo and mkvmerge see it; and what ffmpeg and mkvmerge write, as
//! relay-mkv sees it.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use relay_encode::{Decoder, Encoder, EncoderConfig, Frame, FrameKind, Pattern, Size, Tone, ToneCodec, pattern};
use relay_media::{
    Codec, Flags, Kind, Packet, Timebase, Timestamp, Track, TrackId, UtcTime, Wall, WallOrigin, g711::Law,
};
use relay_mkv::{Block, ClusterStart, Event, Sessions, Start, Tag, Writer, read_all};
use relay_tests::needs;
use relay_tests::soak::Scratch;
use serde_json::Value;

/// 2026-11-21T02:30:00.123Z, the time of the first key frame.
const EPOCH_MS: u64 = 1_795_228_200_123;
const SECONDS: u32 = 4;
const FPS: u32 = 25;

#[test]
fn the_built_in_camera_in_matroska_is_found_without_fault() {
    if needs(&["ffmpeg", "ffprobe", "mkvinfo", "mkvmerge"]) {
        camera(ToneCodec::G711(Law::A)).and_then(|film| judge("mkv-alaw", &film)).unwrap_or_else(|e| panic!("{e:#}"));
        camera(ToneCodec::Opus).and_then(|film| judge("mkv-opus", &film)).unwrap_or_else(|e| panic!("{e:#}"));
    }
}

#[test]
fn other_codecs_in_matroska_are_found_without_fault() {
    if needs(&["ffmpeg", "ffprobe", "mkvinfo", "mkvmerge"]) {
        for (name, options) in [
            ("mkv-avc-aac", "-c:v libx264 -preset veryfast -bf 2 -b_strategy 0 -c:a aac"),
            (
                "mkv-hevc-aac",
                "-c:v libx265 -preset ultrafast -x265-params log-level=error:open-gop=0:bframes=2 -c:a aac -ac 2",
            ),
            (
                "mkv-hevc-ulaw",
                "-c:v libx265 -preset ultrafast -x265-params log-level=error:open-gop=0:bframes=0 -c:a pcm_mulaw -ar 8000",
            ),
        ] {
            let film = foreign(name, options).with_context(|| format!("{name} as ffmpeg writes it"));
            film.and_then(|film| judge(name, &film)).unwrap_or_else(|error| panic!("{name}: {error:#}"));
        }
    }
}

/// Packets of all tracks in their order of decoding; the first track is the picture.
struct Film {
    tracks: Vec<Arc<Track>>,
    packets: Vec<Packet>,
}

impl Film {
    #[expect(clippy::disallowed_methods, reason = "packets need an arrival; nothing waits for it")]
    fn packet(&mut self, track: usize, ticks: i64, is_key: bool, payload: Bytes) {
        let track = self.tracks[track].clone();
        let time = Timestamp::new(ticks, track.timebase);
        self.packets.push(Packet {
            dts: time,
            pts: time,
            duration: None,
            arrival: Instant::now(),
            wall: Wall { utc: UtcTime::from_unix_nanos(time.nanos()), origin: WallOrigin::Generated },
            flags: if is_key && track.kind() == Kind::Video { Flags::KEY } else { Flags::empty() },
            payload,
            track,
        });
    }
}

/// The picture and the sound that relayd makes itself.
fn camera(tone: ToneCodec) -> anyhow::Result<Film> {
    let size = Size::new(320, 180)?;
    let config = EncoderConfig { width: 320, height: 180, fps: FPS, bitrate_bps: 300_000, gop_frames: FPS };
    let (pattern, mut frame, mut encoder) = (Pattern::new(size), Frame::new(size), Encoder::new(config)?);
    let mut tone = Tone::new(tone)?;
    let sound = Arc::new(Track { id: TrackId(2), codec: tone.codec(), timebase: tone.timebase() });
    let mut film = Film { tracks: vec![], packets: vec![] };
    for counter in 0..SECONDS * FPS {
        let utc = UtcTime::from_unix_nanos(i64::from(counter) * 40_000_000);
        pattern.draw(&mut frame, counter.into(), utc);
        let picture = encoder.encode(&frame, FrameKind::Any, &[])?.context("a picture was left out")?;
        if film.tracks.is_empty() {
            let codec = Codec::H264(picture.config.clone());
            film.tracks.push(Arc::new(Track { id: TrackId(1), codec, timebase: Timebase::VIDEO }));
            film.tracks.push(sound.clone());
        }
        film.packet(0, i64::from(counter) * 3_600, picture.key, picture.payload);
        for half in [0, 1] {
            let ticks = i64::from(2 * counter + half) * i64::from(tone.frame_ticks());
            film.packet(1, ticks, false, tone.next_frame(utc.plus_nanos(i64::from(half) * 20_000_000))?);
        }
    }
    Ok(film)
}

/// A moving picture and a tone as ffmpeg encodes them and writes them as Matroska, read by ourselves.
fn foreign(name: &str, options: &str) -> anyhow::Result<Film> {
    let scratch = Scratch::new(&format!("{name}-foreign"))?;
    let file = scratch.path.join("foreign.mkv");
    let picture = format!("testsrc2=size=320x180:rate={FPS}:duration={SECONDS}");
    let sound = format!("sine=frequency=440:sample_rate=48000:duration={SECONDS}");
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-v", "error", "-f", "lavfi", "-i", &picture, "-f", "lavfi", "-i", &sound]);
    ffmpeg.args(["-g", "25", "-sc_threshold", "0", "-pix_fmt", "yuv420p"]).args(options.split_whitespace());
    run(ffmpeg.arg(&file))?;
    let events = read_all(&std::fs::read(&file)?, Sessions::One)?;
    let (tracks, blocks) = sort(&events)?;
    let timebase = Timebase::new(1_000).context("a millisecond")?;
    let track = |(id, codec)| Arc::new(Track { id: TrackId(id), codec, timebase });
    let mut film = Film { tracks: (1..).zip(tracks).map(track).collect(), packets: vec![] };
    for block in blocks {
        film.packet(usize::try_from(block.track)? - 1, block.timecode, block.is_key, block.payload);
    }
    Ok(film)
}

/// The codecs of the tracks, and all blocks.
fn sort(events: &[Event]) -> anyhow::Result<(Vec<Codec>, Vec<Block>)> {
    let (mut codecs, mut blocks) = (Vec::new(), Vec::new());
    for event in events {
        match event {
            Event::Info(info) => ensure!(info.timecode_scale_ns == 1_000_000, "{info:?}"),
            Event::Tracks(tracks) => codecs = tracks.iter().map(|track| track.codec()).collect::<Result<_, _>>()?,
            Event::Block(block) => blocks.push(block.clone()),
            Event::Session(_) | Event::Cluster { .. } | Event::Tags(_) => {}
        }
    }
    Ok((codecs, blocks))
}

/// A session with a cluster for each group of pictures, as it would go to the service.
fn write(film: &Film) -> anyhow::Result<Vec<u8>> {
    let (mut writer, head) = Writer::new(Start { uid: *b"relay-tests/mkv!", tracks: film.tracks.clone() })?;
    let mut stream = head.to_vec();
    let keys: Vec<_> = film.packets.iter().filter(|packet| packet.is_key()).map(|packet| packet.pts).collect();
    ensure!(keys.len() == SECONDS as usize, "{} key frames", keys.len());
    for (index, key) in keys.iter().enumerate() {
        if index == 1 {
            stream.extend(writer.tags(&[Tag::new("place", "gate"), Tag::new("motion", "none")])?);
        }
        let timecode_ms = EPOCH_MS + u64::try_from(key.nanos_since(keys[0]) / 1_000_000)?;
        let timecode_ms = writer.last_ms().map_or(timecode_ms, |last| timecode_ms.max(last + 1));
        stream.extend(writer.begin_cluster(ClusterStart { timecode_ms, media: *key })?);
        let ends = keys.get(index + 1).map_or(i64::MAX, |next| next.nanos());
        let within = |packet: &&Packet| (key.nanos()..ends).contains(&packet.pts.nanos());
        for packet in film.packets.iter().filter(within) {
            stream.extend(writer.block(packet)?.concat());
        }
    }
    stream.extend(writer.end_fragment());
    Ok(stream)
}

fn judge(name: &str, film: &Film) -> anyhow::Result<()> {
    let mut scratch = Scratch::new(name)?;
    let file = scratch.path.join("session.mkv");
    let stream = write(film)?;
    std::fs::write(&file, &stream)?;
    let result = peers_find_no_fault(&file, film);
    if result.is_err() {
        scratch.keep();
    }
    result
}

fn peers_find_no_fault(file: &Path, film: &Film) -> anyhow::Result<()> {
    let (codecs, blocks) = sort(&read_all(&std::fs::read(file)?, Sessions::One)?)?;
    ensure!(codecs.iter().eq(film.tracks.iter().map(|track| &track.codec)), "other codecs: {codecs:?}");
    ensure!(blocks.len() + 5 > film.packets.len(), "{} blocks of {} packets", blocks.len(), film.packets.len());
    decodes_to_its_counters(&codecs, &blocks)?;

    run(Command::new("ffprobe").args(["-v", "warning", "-show_streams", "-show_format"]).arg(file))?;
    run(Command::new("ffmpeg")
        .args(["-v", "warning", "-xerror", "-i"])
        .arg(file)
        .args(["-map", "0", "-f", "null", "-"]))?;
    let mut times: BTreeMap<u64, Vec<i64>> = BTreeMap::new();
    blocks.iter().for_each(|block| times.entry(block.track).or_default().push(block.timecode));
    times.values_mut().for_each(|times| times.sort_unstable());
    ensure!(probed_times(file)? == times, "ffprobe reads other times");

    let info = run(Command::new("mkvinfo").args(["--all"]).arg(file))?;
    let told = String::from_utf8_lossy(&info.stdout);
    let clusters = told.lines().filter(|line| *line == "|+ Cluster").count();
    ensure!(clusters == SECONDS as usize, "mkvinfo sees {clusters} clusters");
    let is_complaint = |line: &&str| ["rror", "nknown element", "nvalid", "(!)"].iter().any(|word| line.contains(word));
    ensure!(told.lines().find(is_complaint).is_none(), "mkvinfo: {:?}", told.lines().find(is_complaint));

    let identified = run(Command::new("mkvmerge").arg("-J").arg(file))?;
    let identified: Value = serde_json::from_slice(&identified.stdout)?;
    let is_empty = |key: &str| identified[key].as_array().is_some_and(Vec::is_empty);
    ensure!(is_empty("errors") && is_empty("warnings"), "mkvmerge: {identified}");
    ensure!(identified["tracks"].as_array().map_or(0, Vec::len) == film.tracks.len(), "mkvmerge: {identified}");

    let remuxed = file.with_file_name("remuxed.mkv");
    run(Command::new("mkvmerge").args(["-q", "--disable-lacing", "-o"]).arg(&remuxed).arg(file))?;
    let (again, again_blocks) = sort(&read_all(&std::fs::read(&remuxed)?, Sessions::One)?)?;
    ensure!(again == codecs, "mkvmerge made other codecs of them: {again:?}");
    for track in times.into_keys() {
        let of = |blocks: &[Block]| blocks.iter().filter(|block| block.track == track).cloned().collect::<Vec<_>>();
        let (ours, theirs) = (of(&blocks), of(&again_blocks));
        ensure!(ours.len() == theirs.len(), "mkvmerge: {} blocks of {} in track {track}", theirs.len(), ours.len());
        let shift = blocks[0].timecode - again_blocks[0].timecode;
        for (ours, theirs) in ours.iter().zip(&theirs) {
            // mkvmerge puts the parameter sets of H.265 in front of key frames.
            let is_same = theirs.payload.ends_with(&ours.payload) && theirs.is_key == ours.is_key;
            ensure!(is_same && ours.timecode == theirs.timecode + shift, "mkvmerge made {theirs:?} of {ours:?}");
        }
    }
    Ok(())
}

/// The pictures of the built-in camera show their numbers.
fn decodes_to_its_counters(codecs: &[Codec], blocks: &[Block]) -> anyhow::Result<()> {
    let mut decoder = Decoder::new()?;
    let Codec::H264(config) = &codecs[0] else { return Ok(()) };
    if config.profile_name() != "Constrained Baseline" {
        return Ok(());
    }
    for (index, block) in (0..).zip(blocks.iter().filter(|block| block.track == 1)) {
        let picture = decoder.decode(config, &block.payload)?.with_context(|| format!("no picture {index}"))?;
        ensure!(pattern::read_counter(&picture) == Some(index), "picture {index} shows another number");
    }
    Ok(())
}

/// Presentation times by track number, sorted.
fn probed_times(file: &Path) -> anyhow::Result<BTreeMap<u64, Vec<i64>>> {
    let entries = ["-v", "error", "-show_entries", "packet=stream_index,pts", "-of", "csv=p=0"];
    let output = run(Command::new("ffprobe").args(entries).arg(file))?;
    let mut times: BTreeMap<u64, Vec<i64>> = BTreeMap::new();
    for line in String::from_utf8(output.stdout)?.lines().filter(|line| !line.is_empty()) {
        let mut columns = line.split(',');
        let (stream, pts) = columns.next().zip(columns.next()).with_context(|| line.to_owned())?;
        times.entry(stream.parse::<u64>()? + 1).or_default().push(pts.parse()?);
    }
    times.values_mut().for_each(|times| times.sort_unstable());
    Ok(times)
}

/// Runs a program that must succeed and have nothing to say against it.
fn run(command: &mut Command) -> anyhow::Result<Output> {
    let output = command.output().with_context(|| format!("start {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    // G.711 has no channel layout to tell; ffmpeg says that it guesses mono.
    let complaint = said.lines().find(|line| !line.trim().is_empty() && !line.contains("Guessed Channel Layout"));
    if !output.status.success() || complaint.is_some() {
        bail!("{command:?}: {} {said}{}", output.status, String::from_utf8_lossy(&output.stdout));
    }
    Ok(output)
}

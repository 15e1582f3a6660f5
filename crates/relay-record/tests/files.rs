//! Real media through segmenter and writer onto a real disk, a full one, and a broken one.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

#[path = "../../relay-mp4/tests/clip/mod.rs"]
mod clip;
mod faulty;

use std::{path::Path, sync::Arc, time::Duration};

use clip::{Media, Scratch, UTC, decodes, interleave, packets};
use faulty::{Faults, FaultyDisk};
use relay_media::{Kind, Packet};
use relay_mp4::read_samples;
use relay_record::{
    Disk, Outcome, Policy, RecordMonitor, Retention, Segmenter, SyncPolicy, SystemDisk, Target, WriteErrorKind, Writer,
    finish_view, list, repair,
};

/// Segmenter and writer in one.
struct Recorder {
    segmenter: Segmenter,
    writer: Writer,
    monitor: RecordMonitor,
    written: u64,
    errors: Vec<WriteErrorKind>,
}

impl Recorder {
    fn new(dir: &Path, segment: u64, disk: Arc<dyn Disk>, keep: Retention) -> Self {
        let monitor = RecordMonitor::default();
        let target = Target { dir: dir.to_owned(), stream: "yard".into(), sync: SyncPolicy::Fragment, keep };
        let policy = Policy { segment: Duration::from_secs(segment), fragment: Duration::from_secs(1) };
        Self {
            segmenter: Segmenter::new(policy),
            writer: Writer::new(target, disk, monitor.clone()),
            monitor,
            written: 0,
            errors: Vec::new(),
        }
    }

    fn push(&mut self, packets: &[Arc<Packet>]) {
        for packet in packets {
            self.segmenter.push(packet.clone());
            self.perform();
        }
    }

    fn perform(&mut self) {
        while let Some(step) = self.segmenter.next_step() {
            match self.writer.perform(&step, UTC) {
                Ok(written) => self.written += written.packets,
                Err(error) => {
                    self.errors.push(error.kind());
                    self.segmenter.abandon(error.kind().as_str());
                }
            }
        }
    }

    fn finish(&mut self) {
        self.segmenter.finish();
        self.perform();
    }
}

fn film(seconds: u32, media: &[Media]) -> Vec<Arc<Packet>> {
    let tracks: Vec<_> = (1..).zip(media).map(|(id, &media)| packets(media, id, seconds)).collect();
    interleave(&tracks)
}

/// The payloads of all recordings' video, and of their sound, in order.
fn recorded(dir: &Path) -> [Vec<Vec<u8>>; 2] {
    let mut payloads = [Vec::new(), Vec::new()];
    for recording in list(dir, "yard").unwrap() {
        let file = std::fs::read(dir.join("yard").join(&recording.name)).unwrap();
        for track in read_samples(&file).unwrap_or_else(|error| panic!("{}: {error}", recording.name)) {
            let kind = usize::from(track.track.kind() == Kind::Audio);
            payloads[kind].extend(track.samples.iter().map(|sample| file[sample.range.clone()].to_vec()));
        }
    }
    payloads
}

fn sent(packets: &[Arc<Packet>], kind: Kind) -> Vec<Vec<u8>> {
    packets.iter().filter(|packet| packet.track.kind() == kind).map(|packet| packet.payload.to_vec()).collect()
}

#[test]
fn files_follow_one_another_without_a_loss() {
    for media in [[Media::H264, Media::Aac], [Media::H264Reordered, Media::Opus], [Media::H265, Media::Pcma]] {
        let scratch = Scratch::new();
        let packets = film(10, &media);
        let mut recorder = Recorder::new(scratch.path(), 4, Arc::new(SystemDisk), Retention::default());
        recorder.push(&packets);
        let running = list(scratch.path(), "yard").unwrap();
        assert_eq!(running.iter().map(|recording| recording.finished).collect::<Vec<_>>(), [true, true, false]);
        assert_eq!(recorder.monitor.stats().current.as_ref(), Some(&running[2].name));
        recorder.finish();
        let finished = list(scratch.path(), "yard").unwrap();
        assert_eq!(finished.len(), 3);
        for (recording, (start, length)) in finished.iter().zip([(0, 4_000), (4_000, 4_000), (8_000, 2_000)]) {
            let from = recording.start.nanos_since(UTC) / 1_000_000;
            let delay = if media[0] == Media::H264 { 0 } else { 80 };
            assert!((start + delay - 1..=start + delay + 1).contains(&from), "{media:?} {recording:?}");
            let played = i64::try_from(recording.duration.as_millis()).unwrap();
            assert!((length - 90..length + 90).contains(&played), "{media:?} {recording:?}");
            assert!(recording.finished);
            let file = std::fs::read(scratch.path().join("yard").join(&recording.name)).unwrap();
            let start = relay_mp4::read_start(&file).unwrap();
            assert_eq!(start.unix_millis(), recording.start.unix_millis(), "the name says what the file says");
            decodes(&scratch.path().join("yard").join(&recording.name)).unwrap();
        }
        let [video, audio] = recorded(scratch.path());
        assert_eq!(video, sent(&packets, Kind::Video), "{media:?}");
        // Only the sound from before the first picture is missing.
        let all = sent(&packets, Kind::Audio);
        let early = all.len() - audio.len();
        assert!(early <= 6 && all[early..] == audio, "{media:?}");
        assert_eq!(recorder.written + early as u64, packets.len() as u64);
        assert_eq!(recorder.segmenter.take_drops().values().sum::<u64>(), early as u64);
        let bytes: u64 = finished.iter().map(|recording| recording.bytes).sum();
        let stats = recorder.monitor.stats();
        assert_eq!((stats.segments, stats.current, stats.last_error), (3, None, None));
        assert!((bytes..bytes + 200).contains(&stats.bytes_written), "heads are written twice");
    }
}

#[test]
fn a_kill_costs_one_fragment_at_most() {
    let packets = film(6, &[Media::H264Reordered, Media::Aac]);
    for kill_at in (1..packets.len()).step_by(23) {
        let scratch = Scratch::new();
        let mut recorder = Recorder::new(scratch.path(), 4, Arc::new(SystemDisk), Retention::default());
        recorder.push(&packets[..kill_at]);
        let written = recorder.written;
        drop(recorder);
        // The kill came in the middle of a write.
        let newest = list(scratch.path(), "yard").unwrap().pop().filter(|recording| !recording.finished);
        if let Some(newest) = newest {
            let path = scratch.path().join("yard").join(newest.name);
            let mut bytes = std::fs::read(&path).unwrap();
            bytes.extend_from_within(1_000..1_000 + kill_at);
            std::fs::write(&path, &bytes).unwrap();
        }
        for file in repair(scratch.path(), "yard").unwrap() {
            assert!(matches!(file.outcome, Outcome::Finished { cut } if cut == kill_at as u64), "{file:?}");
        }
        assert_eq!(repair(scratch.path(), "yard").unwrap().len(), 0, "once is enough");
        let recordings = list(scratch.path(), "yard").unwrap();
        assert!(recordings.iter().all(|recording| recording.finished));
        let [video, audio] = recorded(scratch.path());
        assert_eq!((video.len() + audio.len()) as u64, written);
        let seconds = packets[kill_at - 1].dts.nanos() / 1_000_000_000;
        assert!(video.len() as i64 >= (seconds - 1) * 25, "{kill_at}: {} of {seconds} s", video.len());
        if kill_at % 3 == 0 {
            for recording in recordings {
                decodes(&scratch.path().join("yard").join(recording.name)).unwrap();
            }
        }
    }
}

/// What a player of a running recording is shown: it decodes whole, holds all that was written, and stays the same to
/// the byte while the file grows and when it is finished.
#[test]
fn a_view_of_a_running_file_is_whole_and_stays() {
    for media in [[Media::H264, Media::Aac], [Media::H264Reordered, Media::Opus]] {
        let scratch = Scratch::new();
        let packets = film(6, &media);
        let mut recorder = Recorder::new(scratch.path(), 60, Arc::new(SystemDisk), Retention::default());
        recorder.push(&packets[..packets.len() / 2]);
        let running = list(scratch.path(), "yard").unwrap().pop().unwrap();
        let path = scratch.path().join("yard").join(&running.name);
        let view = |bytes: u64| {
            let finale = finish_view(&path, bytes).unwrap()?;
            let own = &std::fs::read(&path).unwrap()[finale.head.len()..usize::try_from(finale.at).unwrap()];
            Some([&finale.head, own, &finale.moov].concat())
        };
        let shown = view(running.bytes).unwrap();
        let samples: usize = read_samples(&shown).unwrap().iter().map(|track| track.samples.len()).sum();
        assert_eq!(samples as u64, recorder.written, "{media:?}");
        let copy = scratch.path().join("copy.mp4");
        std::fs::write(&copy, &shown).unwrap();
        decodes(&copy).unwrap();
        recorder.push(&packets[packets.len() / 2..]);
        let torn = view(running.bytes + 1_000).unwrap();
        assert!(torn == shown, "a fragment that isn't whole is not shown");
        recorder.finish();
        assert!(view(running.bytes).unwrap() == shown, "{media:?}: finished in the middle of playback");
        let finished = list(scratch.path(), "yard").unwrap().pop().unwrap();
        for bytes in [0, 20, finished.bytes, u64::MAX] {
            assert!(view(bytes).is_none(), "{bytes} bytes need no finish");
        }
    }
}

#[test]
fn repair_touches_nothing_but_torn_recordings() {
    let scratch = Scratch::new();
    let yard = scratch.path().join("yard");
    std::fs::create_dir(&yard).unwrap();
    let name = |second: u32| format!("2026-11-21T02-30-{second:02}.000Z.mp4");
    let files: [(String, &[u8]); 5] = [
        (name(0), b""),
        (name(1), &[0; 5_000]),
        (name(2), b"\0\0\0\x1cftypiso6"),
        (name(3), b"#!/bin/sh\necho not a recording at all\n"),
        ("notes.txt".into(), b""),
    ];
    for (name, bytes) in &files {
        std::fs::write(yard.join(name), bytes).unwrap();
    }
    let outcomes: Vec<_> = repair(scratch.path(), "yard").unwrap().map(|file| file.outcome).collect();
    assert!(
        matches!(outcomes[..], [Outcome::Removed, Outcome::Removed, Outcome::Removed, Outcome::Foreign]),
        "{outcomes:?}"
    );
    assert_eq!(std::fs::read(yard.join(name(3))).unwrap(), files[3].1);
    assert!(yard.join("notes.txt").exists());
    assert_eq!(repair(scratch.path(), "nowhere").unwrap().len(), 0);

    let mut recorder = Recorder::new(scratch.path(), 60, Arc::new(SystemDisk), Retention::default());
    recorder.push(&film(3, &[Media::H264]));
    let outcomes: Vec<_> = repair(scratch.path(), "yard").unwrap().map(|file| file.outcome).collect();
    assert!(matches!(outcomes[..], [Outcome::InUse, Outcome::Foreign]), "{outcomes:?}");
    recorder.finish();
    assert_eq!(recorder.errors, []);
}

#[test]
fn a_name_is_never_used_twice() {
    let scratch = Scratch::new();
    let packets = film(2, &[Media::H264]);
    for _ in 0..3 {
        let mut recorder = Recorder::new(scratch.path(), 60, Arc::new(SystemDisk), Retention::default());
        recorder.push(&packets);
        recorder.finish();
    }
    let names: Vec<_> = list(scratch.path(), "yard").unwrap().into_iter().map(|recording| recording.name).collect();
    assert_eq!(names, ["123", "124", "125"].map(|millis| format!("2026-11-21T02-30-00.{millis}Z.mp4")));
}

#[test]
fn the_oldest_recordings_go() {
    let scratch = Scratch::new();
    let keep = Retention { bytes: Some(1), ..Retention::default() };
    let mut recorder = Recorder::new(scratch.path(), 2, Arc::new(SystemDisk), keep);
    recorder.push(&film(3, &[Media::H264]));
    recorder.finish();
    assert_eq!(list(scratch.path(), "yard").unwrap().len(), 2, "looked at when it began, and every 30 s");
    let mut again = Recorder::new(scratch.path(), 60, Arc::new(SystemDisk), keep);
    again.push(&film(3, &[Media::H264]));
    let left = list(scratch.path(), "yard").unwrap();
    assert_eq!(
        left.iter().map(|recording| Some(&recording.name)).collect::<Vec<_>>(),
        [again.monitor.stats().current.as_ref()]
    );
    assert_eq!(again.monitor.stats().removed, 2);
}

#[test]
fn old_recordings_go_also_while_nothing_is_recorded() {
    let scratch = Scratch::new();
    let mut recorder = Recorder::new(scratch.path(), 2, Arc::new(SystemDisk), Retention::default());
    recorder.push(&film(3, &[Media::H264]));
    recorder.finish();
    let keep = Retention { age: Some(Duration::from_secs(60)), ..Retention::default() };
    let mut idle = Recorder::new(scratch.path(), 2, Arc::new(SystemDisk), keep);
    for (seconds, left) in [(0, 2), (10, 2), (61, 1), (62, 1), (100, 0)] {
        let now = UTC.plus_nanos(seconds * 1_000_000_000);
        if idle.writer.maintenance_due(now) {
            idle.writer.maintain(now);
        }
        assert_eq!(list(scratch.path(), "yard").unwrap().len(), left, "after {seconds} s");
    }
    assert!(!recorder.writer.maintenance_due(UTC.plus_nanos(i64::MAX)), "there is nothing to look after");
}

/// The disk fails in some way for a while; afterwards recording goes on, and every file that is left plays.
#[test]
fn a_disk_that_fails_leaves_files_that_play() {
    let packets = film(12, &[Media::H264, Media::Aac]);
    let rows: [(&str, Faults, WriteErrorKind); 5] = [
        ("full in the middle of a fragment", Faults { room: Some(200_000), ..Faults::default() }, WriteErrorKind::Full),
        ("full from the start", Faults { room: Some(0), ..Faults::default() }, WriteErrorKind::Full),
        ("full in the head", Faults { room: Some(500), ..Faults::default() }, WriteErrorKind::Full),
        ("no right to create", Faults { read_only: true, ..Faults::default() }, WriteErrorKind::Unwritable),
        ("a sync fails", Faults { sync_after: Some(2), ..Faults::default() }, WriteErrorKind::Sync),
    ];
    for (name, faults, kind) in rows {
        let scratch = Scratch::new();
        let disk = Arc::new(FaultyDisk::new(faults));
        let mut recorder = Recorder::new(scratch.path(), 60, disk.clone(), Retention::default());
        let middle = packets.len() / 2;
        recorder.push(&packets[..middle]);
        assert!(recorder.errors.contains(&kind), "{name}: {:?}", recorder.errors);
        assert!(recorder.monitor.stats().last_error.is_some());
        disk.mend();
        let failures = recorder.errors.len();
        recorder.push(&packets[middle..]);
        recorder.finish();
        assert_eq!(recorder.errors.len(), failures, "{name}: mended");
        for file in repair(scratch.path(), "yard").unwrap() {
            assert!(matches!(file.outcome, Outcome::Finished { .. }), "{name}: {file:?}");
        }
        let recordings = list(scratch.path(), "yard").unwrap();
        assert!(!recordings.is_empty() && recordings.iter().all(|recording| recording.finished), "{name}");
        for recording in &recordings {
            decodes(&scratch.path().join("yard").join(&recording.name))
                .unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        let [video, audio] = recorded(scratch.path());
        let lost: u64 = recorder.segmenter.take_drops().values().sum();
        assert!((video.len() + audio.len()) as u64 + lost <= packets.len() as u64, "{name}");
        assert!(video.len() >= 4 * 25, "{name}: the second half is there: {}", video.len());
        let last = sent(&packets, Kind::Video);
        assert_eq!(video.last(), last.last(), "{name}");
    }
}

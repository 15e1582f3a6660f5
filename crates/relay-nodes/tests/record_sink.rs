//! The recorder on a ring: accounting, a full disk, a source that is away, a clean end.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use std::{
    io::{self, IoSlice},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use relay_graph::{
    Clock, Shutdown, Sink, SinkContext, SinkMonitor, SinkSnapshot, SinkState, SourceDescription, SourceMonitor,
};
use relay_media::{Codec, Flags, Packet, Timebase, Timestamp, Track, TrackId, UtcTime, Wall, WallOrigin, h264};
use relay_nodes::{RecordOptions, RecordSink};
use relay_record::{Disk, DiskFile, SystemDisk, list};
use relay_ring::{CloseReason, Limits, Publisher, ring};

const UTC: UtcTime = UtcTime::from_unix_nanos(1_795_228_200_123_000_000);
const LIMITS: Limits = Limits { max_bytes: 1 << 20, max_duration: Duration::from_secs(30), max_packets: 2_000 };
const SPS: &[u8] =
    &[0x67, 0x42, 0xc0, 0x0d, 0xd9, 1, 0x41, 0xfb, 1, 0x10, 0, 0, 3, 0, 0x10, 0, 0, 3, 3, 0x20, 0xf1, 0x42, 0xa4, 0x80];
const PPS: &[u8] = &[0x68, 0xcb, 0x83, 0xcb, 0x20];

/// A disk that is full or not.
#[derive(Clone, Debug, Default)]
struct Switched(Arc<AtomicBool>);

impl Disk for Switched {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        SystemDisk.create_dir(dir)
    }
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(SwitchedFile(SystemDisk.create(path)?, self.clone())))
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        SystemDisk.remove(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        SystemDisk.sync_dir(dir)
    }
    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        SystemDisk.free_bytes(dir)
    }
}

#[derive(Debug)]
struct SwitchedFile(Box<dyn DiskFile>, Switched);

impl DiskFile for SwitchedFile {
    fn write_at(&mut self, at: u64, slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        if self.1.0.load(SeqCst) { Err(io::ErrorKind::StorageFull.into()) } else { self.0.write_at(at, slices) }
    }
    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.0.truncate(len)
    }
    fn sync(&mut self) -> io::Result<()> {
        self.0.sync()
    }
}

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("relay-record-sink-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A stream of 25 fps with a key frame each second, and the recorder that reads it.
struct Rig {
    scratch: Scratch,
    disk: Switched,
    publisher: Publisher,
    clock: Clock,
    track: Arc<Track>,
    frame: i64,
    monitor: Arc<SinkMonitor>,
    recorder: tokio::task::JoinHandle<()>,
}

impl Rig {
    #[expect(clippy::disallowed_methods, reason = "no supervisor here: the test waits for the task itself")]
    fn new(name: &str) -> Self {
        let (scratch, disk, clock) = (Scratch::new(name), Switched::default(), Clock::simulated(UTC));
        let (publisher, ring) = ring(LIMITS);
        let options = RecordOptions { segment: Duration::from_secs(4), ..RecordOptions::new(&scratch.0, "yard") };
        let sink = RecordSink::with_disk(options, Arc::new(disk.clone()));
        let description = sink.describe();
        let mut cursor = ring.cursor(description.policy, description.start);
        let monitor = Arc::new(SinkMonitor::new("archive".into(), description, cursor.monitor(), clock.clone()));
        let described = SourceDescription { kind: "test", url: "test:".into(), codecs: None, max_buffer_bytes: 0 };
        let source = Arc::new(SourceMonitor::new(described, clock.clone()));
        let ctx = SinkContext { clock: clock.clone(), shutdown: Shutdown::new(), monitor: monitor.clone(), source };
        let recorder = tokio::spawn(async move { sink.run(&mut cursor, &ctx).await.unwrap() });
        let codec = Codec::H264(h264::Config::parse(SPS, PPS).unwrap());
        let track = Arc::new(Track { id: TrackId(1), codec, timebase: Timebase::VIDEO });
        Self { scratch, disk, publisher, clock, track, frame: 0, monitor, recorder }
    }

    async fn film(&mut self, seconds: i64) {
        for _ in 0..seconds * 25 {
            let time = Timestamp::new(self.frame * 3_600, Timebase::VIDEO);
            let packet = Packet {
                track: self.track.clone(),
                dts: time,
                pts: time,
                duration: None,
                arrival: self.clock.now(),
                wall: Wall { utc: self.clock.utc(), origin: WallOrigin::Arrival },
                flags: if self.frame % 25 == 0 { Flags::KEY } else { Flags::empty() },
                payload: Bytes::from(vec![0, 0, 0, 2, 0x65, 0x88]),
            };
            self.publisher.push(Arc::new(packet));
            self.frame += 1;
            self.clock.sleep(Duration::from_millis(40)).await;
            self.balanced();
        }
    }

    fn balanced(&self) -> SinkSnapshot {
        let snapshot = self.monitor.snapshot();
        let dropped: u64 = snapshot.packets_dropped.values().sum();
        assert_eq!(snapshot.packets_in, snapshot.packets_out + dropped + snapshot.packets_buffered, "{snapshot:?}");
        snapshot
    }

    async fn close(self) -> (Scratch, SinkSnapshot) {
        let Self { scratch, publisher, recorder, monitor, .. } = self;
        publisher.close(CloseReason::Ended);
        recorder.await.unwrap();
        (scratch, monitor.snapshot())
    }
}

/// Frames in each recording, all of which must be finished.
fn frames(dir: &Path) -> Vec<usize> {
    let frames = |name: &str| {
        let file = std::fs::read(dir.join("yard").join(name)).unwrap();
        relay_mp4::read_samples(&file).unwrap_or_else(|error| panic!("{name}: {error}"))[0].samples.len()
    };
    let recordings = list(dir, "yard").unwrap();
    assert!(recordings.iter().all(|recording| recording.finished), "{recordings:?}");
    recordings.iter().map(|recording| frames(&recording.name)).collect()
}

#[tokio::test(start_paused = true)]
async fn every_packet_is_in_a_file_when_the_ring_closes() {
    let mut rig = Rig::new("clean");
    rig.film(10).await;
    let snapshot = rig.balanced();
    assert_eq!(snapshot.state, SinkState::Running);
    assert!(snapshot.packets_buffered <= 30, "a fragment and a frame: {snapshot:?}");
    let (scratch, snapshot) = rig.close().await;
    assert_eq!(frames(&scratch.0), [100, 100, 50]);
    assert_eq!((snapshot.packets_out, snapshot.packets_buffered), (250, 0));
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_pauses_and_recording_goes_on_when_there_is_room() {
    let mut rig = Rig::new("full");
    rig.film(6).await;
    rig.disk.0.store(true, SeqCst);
    rig.film(20).await;
    let snapshot = rig.balanced();
    assert_eq!(snapshot.state, SinkState::Paused);
    assert!(snapshot.last_error.unwrap().contains("can't write"));
    rig.disk.0.store(false, SeqCst);
    rig.film(40).await;
    assert_eq!(rig.balanced().state, SinkState::Running);
    let (scratch, snapshot) = rig.close().await;
    // The file that was cut short by the full disk is torn until the next start repairs it.
    relay_record::repair(&scratch.0, "yard").unwrap().for_each(drop);
    let written: usize = frames(&scratch.0).iter().sum();
    let lost = snapshot.packets_dropped["disk_full"];
    assert_eq!(written as u64, snapshot.packets_out);
    assert_eq!(snapshot.packets_out + snapshot.packets_dropped.values().sum::<u64>(), 66 * 25, "{snapshot:?}");
    assert!(lost > 0 && written > 36 * 25, "{lost} lost, {written} written");
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_written_when_the_source_is_away() {
    let mut rig = Rig::new("away");
    rig.film(3).await;
    rig.clock.sleep(Duration::from_secs(3)).await;
    assert_eq!(rig.balanced().packets_buffered, 0);
    rig.clock.sleep(Duration::from_secs(3)).await;
    assert_eq!(frames(&rig.scratch.0), [75], "and the file is finished when it is due");
    rig.frame += 25 * 60;
    rig.film(1).await;
    let (scratch, _) = rig.close().await;
    assert_eq!(frames(&scratch.0), [75, 25]);
}

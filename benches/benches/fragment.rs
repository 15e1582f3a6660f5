//! What recording costs per packet, the disk left out: the segmenter's decision, the boxes of a fragment, the vectored
//! write's slices, and the index at the end of a file.
//!
//! One criterion iteration is one packet of a 25 fps camera with 20 ms sound, in fragments of a second and files of a
//! minute; so the time printed is nanoseconds per packet.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::disallowed_methods, reason = "a benchmark")]

use std::{
    alloc::System,
    hint::black_box,
    io::{self, IoSlice},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use criterion::Criterion;
use relay_media::{Codec, Flags, Packet, Timebase, Timestamp, Track, TrackId, UtcTime, Wall, WallOrigin, g711, h264};
use relay_record::{Disk, DiskFile, Policy, RecordMonitor, Retention, Segmenter, SyncPolicy, Target, Writer};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const SPS: &[u8] =
    &[0x67, 0x42, 0xc0, 0x0d, 0xd9, 1, 0x41, 0xfb, 1, 0x10, 0, 0, 3, 0, 0x10, 0, 0, 3, 3, 0x20, 0xf1, 0x42, 0xa4, 0x80];
const PPS: &[u8] = &[0x68, 0xcb, 0x83, 0xcb, 0x20];
const SECONDS: i64 = 120;
const PER_SECOND: usize = 75;

fn main() {
    let film = film();
    let region = Region::new(ALLOCATOR);
    record(&film);
    let change = region.change();
    let per_packet = |count: usize| count as f64 / film.len() as f64;
    println!("fragment: {:.3} allocations per packet", per_packet(change.allocations + change.reallocations));
    let mut criterion = Criterion::default().configure_from_args();
    criterion.bench_function("fragment/record, no disk", |bencher| {
        bencher.iter_custom(|packets| {
            let rounds = packets.div_ceil(film.len() as u64);
            let start = Instant::now();
            (0..rounds).for_each(|_| record(black_box(&film)));
            start.elapsed().mul_f64(packets as f64 / (rounds * film.len() as u64) as f64)
        });
    });
    criterion.final_summary();
}

/// Two minutes: two files.
fn record(film: &[Arc<Packet>]) {
    let policy = Policy { segment: Duration::from_secs(60), fragment: Duration::from_secs(1) };
    let target = Target {
        dir: "/nowhere".into(),
        stream: "bench".into(),
        sync: SyncPolicy::Fragment,
        keep: Retention::default(),
    };
    let mut segmenter = Segmenter::new(policy);
    let mut writer = Writer::new(target, Arc::new(NoDisk), RecordMonitor::default());
    let mut written = 0;
    let mut perform = |segmenter: &mut Segmenter| {
        while let Some(step) = segmenter.next_step() {
            written += writer.perform(&step, UTC).unwrap().packets;
        }
    };
    for packet in film {
        segmenter.push(packet.clone());
        perform(&mut segmenter);
    }
    segmenter.finish();
    perform(&mut segmenter);
    assert_eq!(written as usize, film.len());
}

const UTC: UtcTime = UtcTime::from_unix_nanos(1_795_228_200_000_000_000);

/// 2 Mbit/s.
fn film() -> Vec<Arc<Packet>> {
    let track = |id, codec, hz| Arc::new(Track { id: TrackId(id), codec, timebase: Timebase::new(hz).unwrap() });
    let video = track(1, Codec::H264(h264::Config::parse(SPS, PPS).unwrap()), 90_000);
    let law = g711::Config { law: g711::Law::A, sample_rate: 8_000, channels: 1 };
    let audio = track(2, Codec::G711(law), 8_000);
    let (picture, sound) = (Bytes::from(vec![7; 10_000]), Bytes::from(vec![7; 160]));
    let packet = |track: &Arc<Track>, ticks: i64, payload: &Bytes, flags| {
        let time = Timestamp::new(ticks, track.timebase);
        Arc::new(Packet {
            track: track.clone(),
            dts: time,
            pts: time,
            duration: None,
            arrival: Instant::now(),
            wall: Wall { utc: UTC.plus_nanos(time.nanos()), origin: WallOrigin::Arrival },
            flags,
            payload: payload.clone(),
        })
    };
    let key = |frame: i64| if frame % 50 == 0 { Flags::KEY } else { Flags::empty() };
    let pictures = (0..SECONDS * 25).map(|frame| packet(&video, frame * 3_600, &picture, key(frame)));
    let sounds = (0..SECONDS * 50).map(|frame| packet(&audio, frame * 160, &sound, Flags::empty()));
    let mut film: Vec<_> = pictures.chain(sounds).collect();
    film.sort_by_key(|packet| packet.dts.nanos());
    assert_eq!(film.len(), SECONDS as usize * PER_SECOND);
    film
}

/// Takes everything and keeps nothing.
#[derive(Debug)]
struct NoDisk;

impl Disk for NoDisk {
    fn create_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }
    fn create(&self, _path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(NoFile))
    }
    fn remove(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }
    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }
    fn free_bytes(&self, _dir: &Path) -> io::Result<u64> {
        Ok(u64::MAX)
    }
}

#[derive(Debug)]
struct NoFile;

impl DiskFile for NoFile {
    fn write_at(&mut self, _at: u64, slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        black_box(slices);
        Ok(())
    }
    fn truncate(&mut self, _len: u64) -> io::Result<()> {
        Ok(())
    }
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

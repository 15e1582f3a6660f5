//! What taking a transport stream apart costs, on one core: megabytes a second, and allocations per unit.
//!
//! The stream is made in memory: 25 fps H.264 with a key frame every two seconds and 48 kHz AAC, of random bytes with
//! emulation prevention, as coded pictures are. One criterion iteration is 10 seconds of it, pushed in pieces of 64 KiB;
//! the units of the last three seconds are held, as a ring would.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::indexing_slicing, reason = "a benchmark")]

#[path = "../../crates/relay-ts/src/tests/writer.rs"]
#[allow(dead_code, reason = "shared with tests")]
mod writer;

use std::{alloc::System, collections::VecDeque, hint::black_box, time::Instant};

use criterion::{Criterion, Throughput};
use relay_ts::{AfterLoss, Demuxer, Unit};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use writer::{Length, Writer, adts, annex_b};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const VIDEO: u16 = 0x100;
const AUDIO: u16 = 0x101;
const SECONDS: u64 = 10;
/// What is promised, in gigabytes a second on one core.
const SPEED: f64 = 1.0;
const PASSES: usize = 21;
/// Three seconds of pictures and sound.
const HELD: usize = 219;
const SPS: &[u8] =
    &[0x67, 0x42, 0xc0, 0x0d, 0xd9, 1, 0x41, 0xfb, 1, 0x10, 0, 0, 3, 0, 0x10, 0, 0, 3, 3, 0x20, 0xf1, 0x42, 0xa4, 0x80];
const PPS: &[u8] = &[0x68, 0xcb, 0x83, 0xcb, 0x20];

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for (name, megabits) in [("2 Mbit", 2), ("8 Mbit", 8), ("40 Mbit", 40)] {
        let bytes = film(megabits);
        let mut demuxer = Demuxer::new(AfterLoss::WaitForKey);
        let mut held = VecDeque::with_capacity(HELD + 1);
        demux(&mut demuxer, &bytes, &mut held);
        let region = Region::new(ALLOCATOR);
        let units = demux(&mut demuxer, &bytes, &mut held);
        let change = region.change();
        let per_unit = (change.allocations + change.reallocations) as f64 / units as f64;
        let speed = speed(&mut demuxer, &bytes, &mut held);
        let seen = format!(
            "{units} units of {} bytes: {speed:.2} GB/s, {per_unit:.3} allocations a unit",
            bytes.len() / units
        );
        let word = if speed >= SPEED && per_unit <= 1.0 { "kept  " } else { "BROKEN" };
        println!("{word} ts/{name}, {seen}; promised at least {SPEED:.0} GB/s and at most 1 allocation");
        let mut group = criterion.benchmark_group("ts");
        group.throughput(Throughput::BytesDecimal(bytes.len() as u64));
        group.bench_function(name, |bencher| bencher.iter(|| demux(&mut demuxer, black_box(&bytes), &mut held)));
        group.finish();
    }
    criterion.final_summary();
}

/// Gigabytes a second: the median of some passes.
#[allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn speed(demuxer: &mut Demuxer, bytes: &[u8], held: &mut VecDeque<Unit>) -> f64 {
    let mut times: Vec<_> = (0..PASSES)
        .map(|_| {
            let begun = Instant::now();
            demux(demuxer, black_box(bytes), held);
            begun.elapsed()
        })
        .collect();
    times.sort_unstable();
    bytes.len() as f64 / times[PASSES / 2].as_secs_f64() / 1e9
}

/// The whole film as one segment; how many units came out.
fn demux(demuxer: &mut Demuxer, bytes: &[u8], held: &mut VecDeque<Unit>) -> usize {
    let mut units = 0;
    let mut drain = |demuxer: &mut Demuxer| {
        while let Some(unit) = demuxer.poll() {
            held.push_back(black_box(unit));
            if held.len() > HELD {
                held.pop_front();
            }
            units += 1;
        }
    };
    for piece in bytes.chunks(64 << 10) {
        demuxer.push(piece);
        drain(demuxer);
    }
    demuxer.finish();
    drain(demuxer);
    demuxer.discontinue();
    assert!(demuxer.quirks().iter().next().is_none());
    units
}

fn film(megabits: u64) -> Vec<u8> {
    let mut random = Random(1);
    let mut writer = Writer::default();
    let picture_bytes = usize::try_from(megabits * 1_000_000 / 8 / 25).unwrap();
    for picture in 0..SECONDS * 25 {
        if picture % 5 == 0 {
            writer.tables(0, &[(0x1b, VIDEO, &[]), (0x0f, AUDIO, &[])]);
        }
        let time = 126_000 + picture * 3_600;
        // Key frames are four times as large, the others smaller by as much.
        let key = picture % 50 == 0;
        let slice = random.bytes(if key { 4 * picture_bytes } else { picture_bytes * 46 / 49 });
        let slice = [if key { &[0x65, 0x88, 0x80] } else { &[0x41, 0x9a, 0x80] }, &*slice].concat();
        let nals: &[&[u8]] = if key { &[&[9, 0xf0], SPS, PPS, &slice] } else { &[&[9, 0xf0], &slice] };
        writer.pes(VIDEO, Some((time + 7_200, time)), Length::Open, &annex_b(nals));
        // 15 frames in 8 pictures: 128 kbit/s in PES packets of 3 or so.
        if picture % 8 == 0 {
            for packet in 0..5 {
                let frames: Vec<_> = (0..3).flat_map(|_| adts(&random.bytes(334))).collect();
                let time = time + packet * 3 * 1_920;
                writer.pes(AUDIO, Some((time, time)), Length::Told, &frames);
            }
        }
    }
    writer.out
}

/// Numbers that look random: xorshift64.
struct Random(u64);

impl Random {
    /// So many bytes without a start code in them.
    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count + 8);
        while bytes.len() < count {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            for byte in self.0.to_le_bytes() {
                if byte <= 3 && bytes.ends_with(&[0, 0]) {
                    bytes.push(3);
                }
                bytes.push(byte);
            }
        }
        bytes.truncate(count - 1);
        bytes.push(0x80);
        bytes
    }
}

//! One allocation for each unit, once buffers have grown: its payload. Alone in its process, where nobody else allocates.
#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test")]

#[path = "../src/tests/writer.rs"]
#[allow(dead_code, reason = "shared with the other tests")]
mod writer;

use std::alloc::System;

use relay_ts::{AfterLoss, Demuxer};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use writer::{Length, Writer, adts, annex_b};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const SPS: &[u8] =
    &[0x67, 0x42, 0xc0, 0x0d, 0xd9, 1, 0x41, 0xfb, 1, 0x10, 0, 0, 3, 0, 0x10, 0, 0, 3, 3, 0x20, 0xf1, 0x42, 0xa4, 0x80];
const PPS: &[u8] = &[0x68, 0xcb, 0x83, 0xcb, 0x20];
const SEI: &[u8] = &[6, 5, 2, 7, 7, 0x80];

#[test]
fn a_unit_is_one_allocation() {
    let mut writer = Writer::default();
    for picture in 0..100_u64 {
        if picture % 10 == 0 {
            writer.tables(0, &[(0x1b, 0x100, &[]), (0x0f, 0x101, &[])]);
        }
        let time = picture * 3_600;
        // Sizes that rise and fall.
        let bytes = vec![7; 500 + (picture as usize * 377) % 9_000];
        let key = picture % 25 == 0;
        let slice = [if key { &[0x65, 0x88, 0x80] } else { &[0x41, 0x9a, 0x80] }, &*bytes].concat();
        let nals: &[&[u8]] = if key { &[&[9, 0xf0], SPS, PPS, SEI, &slice] } else { &[&[9, 0xf0], SEI, &slice, SEI] };
        writer.pes(0x100, Some((time, time)), Length::Open, &annex_b(nals));
        writer.pes(0x101, Some((time, time)), Length::Told, &[adts(&[7; 300]), adts(&[8; 250])].concat());
    }
    let mut demuxer = Demuxer::new(AfterLoss::WaitForKey);
    let mut demux = || {
        let mut units = 0;
        for piece in writer.out.chunks(1_316) {
            demuxer.push(piece);
            units += std::iter::from_fn(|| demuxer.poll()).count();
        }
        demuxer.finish();
        units + std::iter::from_fn(|| demuxer.poll()).count()
    };
    assert_eq!(demux(), 300);
    let region = Region::new(ALLOCATOR);
    let units = demux();
    let change = region.change();
    assert_eq!(units, 300);
    let made = change.allocations + change.reallocations;
    assert!(made <= units, "{made} allocations for {units} units");
}

//! What an upload to Kinesis Video Streams costs per packet before the socket: clusters and heads of blocks, and the
//! slices of vectored writes. And what reading that costs the service that stands in for the real one.
//!
//! One criterion iteration is one packet of a 25 fps camera of 2 Mbit/s with 20 ms sound, in fragments of 2 s; so the
//! time printed is nanoseconds per packet. The throughput counts the session's bytes; a writer copies no payload, so
//! its own is only nominal.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a benchmark")]
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a benchmark")]

use std::{
    alloc::System,
    hint::black_box,
    io::IoSlice,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use criterion::{Criterion, Throughput};
use relay_media::{Codec, Flags, Packet, Timebase, Timestamp, Track, TrackId, UtcTime, Wall, WallOrigin, g711, h264};
use relay_mkv::{ClusterStart, Reader, Sessions, Start, Writer};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const SPS: &[u8] =
    &[0x67, 0x42, 0xc0, 0x0d, 0xd9, 1, 0x41, 0xfb, 1, 0x10, 0, 0, 3, 0, 0x10, 0, 0, 3, 3, 0x20, 0xf1, 0x42, 0xa4, 0x80];
const PPS: &[u8] = &[0x68, 0xcb, 0x83, 0xcb, 0x20];
const SECONDS: i64 = 120;
/// 2026-11-21T02:30:00Z.
const EPOCH_MS: u64 = 1_795_228_200_000;
/// What a vectored write gets at most: the heads of session and cluster, and a few blocks of two parts each, as a live
/// stream brings them.
const SLICES: usize = 16;
/// What a socket gives at a time.
const PIECE: usize = 16 << 10;

fn main() {
    let film = film();
    let stream = session(&film);
    let mut criterion = Criterion::default().configure_from_args();
    bench(&mut criterion, "write", &film, stream.len(), || write(black_box(&film), |_| {}));
    bench(&mut criterion, "read", &film, stream.len(), || read(black_box(&stream), film.len()));
    criterion.final_summary();
}

/// Runs `work`, which is about all packets of the film at once.
fn bench(criterion: &mut Criterion, name: &str, film: &[Packet], bytes: usize, work: impl Fn()) {
    let region = Region::new(ALLOCATOR);
    work();
    let change = region.change();
    let per_packet = |count: usize| count as f64 / film.len() as f64;
    println!("cluster/{name}: {:.4} allocations per packet", per_packet(change.allocations + change.reallocations));
    let mut group = criterion.benchmark_group("cluster");
    group.throughput(Throughput::Bytes((bytes / film.len()) as u64));
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|packets| {
            let rounds = packets.div_ceil(film.len() as u64);
            let start = Instant::now();
            (0..rounds).for_each(|_| work());
            let took: Duration = start.elapsed();
            took.mul_f64(packets as f64 / (rounds * film.len() as u64) as f64)
        });
    });
    group.finish();
}

/// Writes the film as one session; `sink` gets what a socket would get at once.
fn write(film: &[Packet], mut sink: impl FnMut(&[IoSlice<'_>])) {
    let tracks = vec![film[0].track.clone(), film[1].track.clone()];
    let (mut writer, head) = Writer::new(Start { uid: [7; 16], tracks }).unwrap();
    let mut parts: Vec<Bytes> = Vec::with_capacity(SLICES);
    parts.push(head);
    for packet in film {
        if packet.is_key() {
            let timecode_ms = EPOCH_MS + (packet.pts.nanos() / 1_000_000) as u64;
            parts.push(writer.begin_cluster(ClusterStart { timecode_ms, media: packet.pts }).unwrap());
        }
        parts.extend(writer.block(packet).unwrap());
        if parts.len() >= SLICES / 2 {
            flush(&mut parts, &mut sink);
        }
    }
    flush(&mut parts, &mut sink);
}

fn flush(parts: &mut Vec<Bytes>, sink: &mut impl FnMut(&[IoSlice<'_>])) {
    let mut slices = [IoSlice::new(&[]); SLICES];
    for (slice, part) in slices.iter_mut().zip(parts.iter()) {
        *slice = IoSlice::new(part);
    }
    sink(black_box(&slices[..parts.len()]));
    parts.clear();
}

fn read(stream: &[u8], blocks: usize) {
    let (mut reader, mut seen) = (Reader::new(Sessions::One), 0);
    for piece in stream.chunks(PIECE) {
        reader.push(piece);
        while let Some((_, event)) = reader.poll().unwrap() {
            seen += usize::from(matches!(black_box(event), relay_mkv::Event::Block(_)));
        }
    }
    reader.finish().unwrap();
    assert_eq!(seen, blocks);
}

fn session(film: &[Packet]) -> Vec<u8> {
    let mut stream = Vec::new();
    write(film, |slices| slices.iter().for_each(|slice| stream.extend_from_slice(slice)));
    stream
}

/// 2 Mbit/s.
fn film() -> Vec<Packet> {
    let track = |id, codec, hz| Arc::new(Track { id: TrackId(id), codec, timebase: Timebase::new(hz).unwrap() });
    let video = track(1, Codec::H264(h264::Config::parse(SPS, PPS).unwrap()), 90_000);
    let law = g711::Config { law: g711::Law::A, sample_rate: 8_000, channels: 1 };
    let audio = track(2, Codec::G711(law), 8_000);
    let (picture, sound) = (Bytes::from(vec![7; 10_000]), Bytes::from(vec![7; 160]));
    let packet = |track: &Arc<Track>, ticks: i64, payload: &Bytes, flags| {
        let time = Timestamp::new(ticks, track.timebase);
        Packet {
            track: track.clone(),
            dts: time,
            pts: time,
            duration: None,
            arrival: Instant::now(),
            wall: Wall { utc: UtcTime::from_unix_nanos(time.nanos()), origin: WallOrigin::Arrival },
            flags,
            payload: payload.clone(),
        }
    };
    let key = |frame: i64| if frame % 50 == 0 { Flags::KEY } else { Flags::empty() };
    let pictures = (0..SECONDS * 25).map(|frame| packet(&video, frame * 3_600, &picture, key(frame)));
    let sounds = (0..SECONDS * 50).map(|frame| packet(&audio, frame * 160, &sound, Flags::empty()));
    let mut film: Vec<_> = pictures.chain(sounds).collect();
    film.sort_by_key(|packet| packet.dts.nanos());
    film
}

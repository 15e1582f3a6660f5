//! Streams that a small writer makes, whole and hurt. Real ones, made by ffmpeg, are in the workspace's `tests`.

mod hurt;
mod oracle;
mod pictures;
mod sound;
mod tables;
mod writer;

use relay_media::nal::split_length_prefixed;
use writer::{Length, Writer, adts, annex_b};

use crate::{AfterLoss, Demuxer, Quirk, QuirkCounters, Unit};

const VIDEO: u16 = 0x100;
const AUDIO: u16 = 0x101;
const H264: u8 = 0x1b;
const AAC: u8 = 0x0f;
const STREAMS: &[(u8, u16, &[u8])] = &[(H264, VIDEO, &[]), (AAC, AUDIO, &[])];

/// 320x240, Constrained Baseline; its PPS 0.
const SPS: &[u8] =
    &[0x67, 0x42, 0xc0, 0x0d, 0xd9, 1, 0x41, 0xfb, 1, 0x10, 0, 0, 3, 0, 0x10, 0, 0, 3, 3, 0x20, 0xf1, 0x42, 0xa4, 0x80];
const PPS: &[u8] = &[0x68, 0xcb, 0x83, 0xcb, 0x20];
const AUD: &[u8] = &[9, 0xf0];

/// What a demuxer that gets all of `bytes` at once says.
fn demux(bytes: &[u8], after_loss: AfterLoss) -> (Vec<Unit>, QuirkCounters) {
    let mut demuxer = Demuxer::new(after_loss);
    demuxer.push(bytes);
    demuxer.finish();
    (std::iter::from_fn(|| demuxer.poll()).collect(), demuxer.quirks())
}

/// The same where nothing may be odd about the stream.
fn units(bytes: &[u8]) -> Vec<Unit> {
    let (units, quirks) = demux(bytes, AfterLoss::WaitForKey);
    assert_eq!(quirks, QuirkCounters::default(), "{:?}", quirks.iter().collect::<Vec<_>>());
    units
}

fn counted(quirks: QuirkCounters) -> Vec<(Quirk, u64)> {
    quirks.iter().collect()
}

/// A slice of so many bytes, of a key frame or not, told apart by `id`.
fn slice(key: bool, id: u8, bytes: usize) -> Vec<u8> {
    let head: &[u8] = if key { &[0x65, 0x88, 0x80] } else { &[0x41, 0x9a, 0x80] };
    [head, &vec![id.max(4); bytes]].concat()
}

/// A later slice of the same picture: first_mb_in_slice 6.
fn later_slice(key: bool, id: u8, bytes: usize) -> Vec<u8> {
    let head: &[u8] = if key { &[0x65, 0x1c, 0x44] } else { &[0x41, 0x1e, 0x44] };
    [head, &vec![id.max(4); bytes]].concat()
}

/// A key frame with all it needs, in Annex B.
fn key_frame(id: u8, bytes: usize) -> Vec<u8> {
    annex_b(&[AUD, SPS, PPS, &slice(true, id, bytes)])
}

fn other_frame(id: u8, bytes: usize) -> Vec<u8> {
    annex_b(&[AUD, &slice(false, id, bytes)])
}

/// Ten pictures of two slices, a key frame first and sixth, of different sizes; three AAC frames beside each.
fn film() -> Vec<u8> {
    let mut writer = Writer::new(STREAMS);
    for index in 0..10_u8 {
        let (key, bytes) = (index % 5 == 0, 50 + 300 * usize::from(index % 3));
        let [one, other] = [slice(key, index + 10, bytes), later_slice(key, index + 10, 2 * bytes)];
        let nals: &[&[u8]] = if key { &[AUD, SPS, PPS, &one, &other] } else { &[AUD, &one, &other] };
        let dts = 126_000 + 3_600 * u64::from(index);
        writer.pes(VIDEO, Some((dts + 3_600, dts)), Length::Open, &annex_b(nals));
        let frames: Vec<_> = (0..3).flat_map(|frame| adts(&[3 * index + frame + 4; 100])).collect();
        writer.pes(AUDIO, Some((dts, dts)), Length::Told, &frames);
    }
    writer.out
}

/// Presentation and decode times, and the NAL units' sizes without what all slices begin with.
fn summary(units: &[Unit], pid: u16) -> Vec<(i64, i64, Vec<usize>)> {
    let units = units.iter().filter(|unit| unit.pid == pid);
    units
        .map(|unit| (unit.pts, unit.dts, split_length_prefixed(&unit.payload).map(|nal| nal.len() - 3).collect()))
        .collect()
}

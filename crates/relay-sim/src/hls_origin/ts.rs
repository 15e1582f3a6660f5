//! MPEG-TS segments of a clip (ISO/IEC 13818-1): each stands for itself, and its counters go on from the one before,
//! without anything being remembered.

use relay_media::{nal::START_CODE, stamp::Stamp};

use super::sound;
use crate::{
    clip::{Clip, Unit},
    wire,
};

const PACKET: usize = 188;
const PID_PMT: u16 = 0x1000;
const PID_VIDEO: u16 = 0x100;
const PID_AUDIO: u16 = 0x101;
/// What a packet carries, without and with a clock reference.
const ROOM: usize = PACKET - 4;
const ROOM_PCR: usize = ROOM - 8;
/// Timestamps wrap at 33 bits (§2.4.3.7).
const TICKS_MASK: u64 = (1 << 33) - 1;
/// Decode times run so far ahead of the clock reference: 0.2 s of 90 kHz.
const LEAD: u64 = 18_000;

/// A run of frames to be written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frames {
    /// The first one's counter, and how many.
    pub(crate) first: u64,
    pub(crate) count: u64,
    /// The first one's decode time in ticks of 90 kHz, and when it was made.
    pub(crate) ticks: u64,
    pub(crate) utc_nanos: i64,
}

impl Frames {
    /// The decode time of the nth of them.
    pub(crate) fn ticks_of(&self, clip: &Clip, nth: u64) -> u64 {
        self.ticks + nth * 90_000 / u64::from(clip.spec().fps.get())
    }

    pub(crate) fn stamp(&self, clip: &Clip, nth: u64) -> Stamp {
        let nanos = nth * 1_000_000_000 / u64::from(clip.spec().fps.get());
        Stamp { counter: self.first + nth, utc_nanos: self.utc_nanos + nanos.cast_signed() }
    }
}

/// Writes segments of one clip.
#[derive(Debug)]
pub(crate) struct TsWriter {
    /// Packets of the clip's frames before each of them, and of all.
    before: Vec<u64>,
    has_audio: bool,
}

impl TsWriter {
    pub(crate) fn new(clip: &Clip, has_audio: bool) -> Self {
        let mut before = vec![0];
        for frame in 0..clip.frames() as u64 {
            let unit = clip.coded(frame).map(|unit| elementary(clip, unit, Stamp { counter: 0, utc_nanos: 0 }));
            let length = unit.map_or(0, |bytes| bytes.len()) + header_length(clip.coded(frame));
            let packets = 1 + length.saturating_sub(ROOM_PCR).div_ceil(ROOM) as u64;
            before.push(before.last().copied().unwrap_or(0) + packets);
        }
        Self { before, has_audio }
    }

    /// A segment, or with `has_tables` false a part of one that goes on; `number` is its own.
    pub(crate) fn write(&self, clip: &Clip, number: u64, frames: &Frames, has_tables: bool) -> Vec<u8> {
        let mut out = Out { bytes: Vec::new() };
        if has_tables {
            out.table(0, number, &PAT);
            out.table(PID_PMT, number, &self.programme(clip));
        }
        let mut video = self.packets_before(frames.first);
        let mut sound = sound::Frames::within(frames, clip).peekable();
        for nth in 0..frames.count {
            let ticks = frames.ticks_of(clip, nth);
            while let Some((index, at)) = sound.next_if(|(_, at)| self.has_audio && *at <= ticks) {
                out.sound(index, at);
            }
            let Some(unit) = clip.coded(frames.first + nth) else { continue };
            let shift = u64::from(unit.composition) * 90_000 / u64::from(clip.spec().fps.get());
            let pts = ticks + LEAD + shift;
            let dts = (shift > 0).then_some(ticks + LEAD);
            let pes = pes(0xe0, pts, dts, &elementary(clip, unit, frames.stamp(clip, nth)));
            out.pes(PID_VIDEO, &mut video, Some(ticks), unit.key, &pes);
        }
        for (index, at) in sound.filter(|_| self.has_audio) {
            out.sound(index, at);
        }
        out.bytes
    }

    fn packets_before(&self, frame: u64) -> u64 {
        let frames = (self.before.len() as u64 - 1).max(1);
        let whole = self.before.last().copied().unwrap_or(0);
        frame / frames * whole + self.before.get((frame % frames) as usize).copied().unwrap_or(0)
    }

    /// The programme map (§2.4.4.8), without header and checksum.
    fn programme(&self, clip: &Clip) -> Vec<u8> {
        let video = if clip.spec().coding.is_h265() { 0x24 } else { 0x1b };
        let mut section = vec![0x02, 0, 0, 0, 1, 0xc1, 0, 0, 0xe1, 0, 0xf0, 0];
        section.extend([video, 0xe1, 0x00, 0xf0, 0]);
        if self.has_audio {
            section.extend([0x0f, 0xe1, 0x01, 0xf0, 0]);
        }
        section
    }
}

/// The programme association (§2.4.4.3): programme 1 has its map at [`PID_PMT`].
const PAT: [u8; 12] = [0x00, 0, 0, 0, 1, 0xc1, 0, 0, 0, 1, 0xe0 | (PID_PMT >> 8) as u8, PID_PMT as u8];

/// An access unit in Annex B framing: a delimiter, parameter sets at key frames, the stamp, the picture.
fn elementary(clip: &Clip, unit: &Unit, stamp: Stamp) -> Vec<u8> {
    let coding = clip.spec().coding;
    let delimiter: &[u8] = if coding.is_h265() { &[0x46, 0x01, 0x50] } else { &[0x09, 0xf0] };
    let stamp = wire::stamp_nal(stamp, coding);
    let sets = clip.parameter_sets().iter().filter(|_| unit.key).map(AsRef::as_ref);
    let nals = unit.nals.iter().map(AsRef::as_ref);
    let mut out = Vec::new();
    for nal in [delimiter].into_iter().chain(sets).chain([stamp.as_slice()]).chain(nals) {
        out.extend_from_slice(&START_CODE);
        out.extend_from_slice(nal);
    }
    out
}

fn header_length(unit: Option<&Unit>) -> usize {
    if unit.is_some_and(|unit| unit.composition > 0) { 19 } else { 14 }
}

/// A PES packet (§2.4.3.6); video has no length.
fn pes(stream: u8, pts: u64, dts: Option<u64>, payload: &[u8]) -> Vec<u8> {
    let times = if dts.is_some() { 10 } else { 5 };
    let length = if stream == 0xe0 { 0 } else { u16::try_from(3 + times + payload.len()).unwrap_or(0) };
    let mut out = vec![0, 0, 1, stream];
    out.extend(length.to_be_bytes());
    out.extend([0x84, if dts.is_some() { 0xc0 } else { 0x80 }, times as u8]);
    out.extend(timestamp(if dts.is_some() { 3 } else { 2 }, pts));
    if let Some(dts) = dts {
        out.extend(timestamp(1, dts));
    }
    out.extend_from_slice(payload);
    out
}

fn timestamp(prefix: u8, ticks: u64) -> [u8; 5] {
    let ticks = ticks & TICKS_MASK;
    let middle = |shift: u32| ((ticks >> shift & 0x7fff) << 1 | 1) as u16;
    let [a, b] = middle(15).to_be_bytes();
    let [c, d] = middle(0).to_be_bytes();
    [prefix << 4 | ((ticks >> 30) as u8) << 1 | 1, a, b, c, d]
}

/// Packets, one after the other.
struct Out {
    bytes: Vec<u8>,
}

impl Out {
    /// A section in one packet; its counter is the segment's number, since each segment has one.
    fn table(&mut self, pid: u16, counter: u64, section: &[u8]) {
        let mut section = section.to_vec();
        // What follows the length: the rest and the checksum.
        let length = section.len() as u16 - 3 + 4;
        for (at, byte) in section.iter_mut().skip(1).zip((0xb000 | length).to_be_bytes()) {
            *at = byte;
        }
        let crc = section.iter().fold(u32::MAX, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte) << 24, |crc, _| (crc << 1) ^ ((crc >> 31) * 0x04c1_1db7))
        });
        section.extend(crc.to_be_bytes());
        self.header(pid, true, counter, false);
        self.bytes.push(0);
        self.bytes.extend_from_slice(&section);
        let missing = PACKET - 5 - section.len().min(PACKET - 5);
        self.bytes.extend(std::iter::repeat_n(0xff, missing));
    }

    /// A frame of sound, which is a packet.
    fn sound(&mut self, mut number: u64, ticks: u64) {
        self.pes(PID_AUDIO, &mut number, None, false, &pes(0xc0, ticks + LEAD, None, &sound::adts()));
    }

    /// A PES packet; `counter` goes on by a packet each.
    fn pes(&mut self, pid: u16, counter: &mut u64, clock: Option<u64>, is_key: bool, pes: &[u8]) {
        let mut rest = pes;
        let mut is_first = true;
        while !rest.is_empty() {
            let clock = clock.filter(|_| is_first);
            let room = if clock.is_some() { ROOM_PCR } else { ROOM };
            let (now, later) = rest.split_at(rest.len().min(room));
            let stuffing = room - now.len();
            self.header(pid, is_first, *counter, clock.is_some() || stuffing > 0);
            if let Some(clock) = clock {
                self.clock(clock, is_key, stuffing);
            } else if stuffing > 0 {
                // One byte of stuffing is the length alone (§2.4.3.5).
                self.bytes.push((stuffing - 1) as u8);
                if stuffing > 1 {
                    self.bytes.push(0);
                    self.bytes.extend(std::iter::repeat_n(0xff, stuffing - 2));
                }
            }
            self.bytes.extend_from_slice(now);
            (rest, is_first) = (later, false);
            *counter += 1;
        }
    }

    fn header(&mut self, pid: u16, starts: bool, counter: u64, has_adaptation: bool) {
        let [high, low] = pid.to_be_bytes();
        let control = if has_adaptation { 0x30 } else { 0x10 };
        self.bytes.extend([0x47, u8::from(starts) << 6 | high, low, control | (counter & 15) as u8]);
    }

    /// An adaptation field with a clock reference (§2.4.3.4) and so much stuffing.
    fn clock(&mut self, ticks: u64, is_key: bool, stuffing: usize) {
        let base = ticks & TICKS_MASK;
        self.bytes.extend([(7 + stuffing) as u8, 0x10 | u8::from(is_key) << 6]);
        let [.., b0, b1, b2, b3] = (base >> 1).to_be_bytes();
        self.bytes.extend([b0, b1, b2, b3, (base as u8 & 1) << 7 | 0x7e, 0]);
        self.bytes.extend(std::iter::repeat_n(0xff, stuffing));
    }
}

//! The initialisation segment: which tracks there are, and what fragments leave out.

use relay_media::{Kind, Timebase, access_unit::Syntax};

use super::CmafTrack;
use crate::{ReadError, TRACKS_MAX, entry, walk};

/// What an initialisation segment says.
#[derive(Debug, Default)]
pub(super) struct Init {
    pub(super) tracks: Vec<CmafTrack>,
    /// For each track.
    pub(super) clocks: Vec<Clock>,
    pub(super) framings: Vec<Option<Framing>>,
}

/// Times and defaults of one track.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Clock {
    /// Media ticks that the edit list takes away from all times.
    pub(super) shift: i64,
    /// `trex`.
    pub(super) default_duration: u32,
    pub(super) default_size: u32,
    /// The decode time of a fragment that tells none.
    pub(super) next_dts: i64,
}

/// How NAL units stand in a video track's samples.
#[derive(Clone, Debug)]
pub(super) struct Framing {
    pub(super) syntax: Syntax,
    /// Bytes of the length before each: 1, 2 or 4.
    pub(super) length_bytes: usize,
    /// The parameter sets of the sample entry.
    pub(super) sets: Vec<Vec<u8>>,
}

/// Reads the body of a `moov`.
pub(super) fn read(moov: &[u8]) -> Result<Init, ReadError> {
    let mut init = Init::default();
    let movie_hz = walk::find(moov, *b"mvhd").and_then(|mvhd| full_u32(mvhd, 12, 20)).unwrap_or(0);
    let traks = walk::children(moov).filter(|(letters, _)| letters == b"trak");
    for (_, trak) in traks.take(TRACKS_MAX) {
        let Some((track, framing, shift)) = track(trak, movie_hz) else { continue };
        let trex = walk::find(moov, *b"mvex").and_then(|mvex| {
            let of_track = |(letters, body): &([u8; 4], &[u8])| letters == b"trex" && u32_at(body, 4) == Some(track.id);
            walk::children(mvex).find(of_track).map(|(_, body)| body)
        });
        let default = |at| trex.and_then(|trex| u32_at(trex, at)).unwrap_or(0);
        init.clocks.push(Clock { shift, default_duration: default(12), default_size: default(16), next_dts: 0 });
        init.tracks.push(track);
        init.framings.push(framing);
    }
    if init.tracks.is_empty() {
        return Err(ReadError::new(0, "moov without a track"));
    }
    Ok(init)
}

fn track(trak: &[u8], movie_hz: u32) -> Option<(CmafTrack, Option<Framing>, i64)> {
    // ISO/IEC 14496-12 §8.3.2 and §8.4.2: version 1 has 64-bit times before the number wanted.
    let id = full_u32(walk::find(trak, *b"tkhd")?, 12, 20)?;
    let mdia = walk::find(trak, *b"mdia")?;
    let timebase = Timebase::new(full_u32(walk::find(mdia, *b"mdhd")?, 12, 20)?)?;
    let kind = match walk::find(mdia, *b"hdlr")?.get(8..12)? {
        b"vide" => Some(Kind::Video),
        b"soun" => Some(Kind::Audio),
        _ => None,
    };
    let stbl = walk::find(walk::find(mdia, *b"minf")?, *b"stbl")?;
    let stsd = walk::find(stbl, *b"stsd")?;
    let (letters, body) = walk::children(stsd.get(8..)?).next()?;
    let framing = framing(letters, body);
    // `avc3` and `hev1` may leave out the parameter sets; where they are there, the entry reads like its sister.
    let codec = kind.and_then(|_| entry::read(&stsd_like(stsd, letters)).ok());
    let edits = walk::find(trak, *b"edts").and_then(|edts| walk::find(edts, *b"elst"));
    let shift = edits.map_or(0, |elst| shift(elst, timebase, movie_hz));
    let entry = letters.escape_ascii().to_string();
    Some((CmafTrack { id, kind, entry, codec, timebase }, framing, shift))
}

/// The same `stsd` with `avc1` for `avc3` and `hvc1` for `hev1`.
fn stsd_like(stsd: &[u8], letters: [u8; 4]) -> Vec<u8> {
    let mut like = stsd.to_vec();
    let sister = match &letters {
        b"avc3" => b"avc1",
        b"hev1" => b"hvc1",
        _ => return like,
    };
    if let Some(at) = like.get_mut(12..16) {
        at.copy_from_slice(sister);
    }
    like
}

/// The configuration record inside a video sample entry (ISO/IEC 14496-15 §5.3.3.1, §8.3.3.1).
fn framing(letters: [u8; 4], entry: &[u8]) -> Option<Framing> {
    /// Bytes of a VisualSampleEntry before its boxes (ISO/IEC 14496-12 §12.1.3).
    const VISUAL_LEN: usize = 78;
    let child = |letters| walk::find(entry.get(VISUAL_LEN..)?, letters);
    let (syntax, length, sets) = match &letters {
        b"avc1" | b"avc3" => {
            let record = child(*b"avcC")?;
            let (mut rest, mut sets) = (record.get(5..)?, Vec::new());
            for mask in [0x1f, 0xff] {
                let (count, after) = rest.split_first()?;
                rest = take_sets(after, usize::from(count & mask), &mut sets)?;
            }
            (Syntax::H264, *record.get(4)?, sets)
        }
        b"hvc1" | b"hev1" => {
            let record = child(*b"hvcC")?;
            let (mut rest, mut sets) = (record.get(23..)?, Vec::new());
            for _ in 0..*record.get(22)? {
                let (head, after) = rest.split_first_chunk::<3>()?;
                let [_, high, low] = *head;
                rest = take_sets(after, usize::from(u16::from_be_bytes([high, low])), &mut sets)?;
            }
            (Syntax::H265, *record.get(21)?, sets)
        }
        _ => return None,
    };
    Some(Framing { syntax, length_bytes: usize::from(length & 3) + 1, sets })
}

fn take_sets<'a>(mut rest: &'a [u8], count: usize, sets: &mut Vec<Vec<u8>>) -> Option<&'a [u8]> {
    for _ in 0..count {
        let (length, after) = rest.split_first_chunk()?;
        let (set, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        sets.push(set.to_vec());
        rest = after;
    }
    Some(rest)
}

/// What an edit list takes away from media times (ISO/IEC 14496-12 §8.6.6): where the media begins to play, less the
/// silence before it.
fn shift(elst: &[u8], timebase: Timebase, movie_hz: u32) -> i64 {
    let is_long = elst.first() == Some(&1);
    let size = if is_long { 20 } else { 12 };
    let mut silence = 0_u128;
    // A few edits are usual; what comes after the first with media changes nothing for a stream.
    for edit in elst.get(8..).unwrap_or_default().chunks_exact(size).take(16) {
        let (duration, time) = match is_long {
            true => (u64_at(edit, 0).unwrap_or(0), u64_at(edit, 8).unwrap_or(0).cast_signed()),
            false => (u32_at(edit, 0).unwrap_or(0).into(), u32_at(edit, 4).unwrap_or(0).cast_signed().into()),
        };
        if time >= 0 {
            let hz = u128::from(timebase.hz());
            let silence = if movie_hz == 0 { 0 } else { silence * hz / u128::from(movie_hz) };
            return time.saturating_sub(i64::try_from(silence).unwrap_or(i64::MAX));
        }
        silence += u128::from(duration);
    }
    0
}

/// A 32-bit number of a full box whose place depends on its version, 0 or 1.
fn full_u32(body: &[u8], version_0: usize, version_1: usize) -> Option<u32> {
    u32_at(body, if body.first() == Some(&1) { version_1 } else { version_0 })
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|chunk| u32::from_be_bytes(*chunk))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|chunk| u64::from_be_bytes(*chunk))
}

//! A `moof` (ISO/IEC 14496-12 §8.8): where each sample is, and when.

use super::{
    CMAF_SAMPLES_MAX,
    init::{Clock, Init, u32_at, u64_at},
};
use crate::{ReadError, walk};

/// A sample and where its bytes are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed {
    pub(super) track: usize,
    /// From the first byte of the `moof`.
    pub(super) start: u64,
    pub(super) size: u32,
    /// Media ticks, the edit list not applied.
    pub(super) dts: i64,
    pub(super) offset: i32,
    pub(super) duration: u32,
}

/// What a `moof` says.
pub(super) struct Fragment {
    pub(super) placed: Vec<Placed>,
    /// The decode time after the last sample, for each track.
    pub(super) next: Vec<i64>,
}

/// `tfhd` (§8.8.7).
struct TrackHeader {
    track: usize,
    has_base: bool,
    default_base_is_moof: bool,
    duration: u32,
    size: u32,
}

/// Reads the body of a `moof`. Tracks that the initialisation segment doesn't name are passed over.
pub(super) fn read(moof: &[u8], init: &Init) -> Result<Fragment, ReadError> {
    let mut fragment = Fragment { placed: Vec::new(), next: init.clocks.iter().map(|clock| clock.next_dts).collect() };
    // Where the media of the last track ended: the base of the next, unless it says otherwise.
    let mut end = 0;
    for (index, (_, traf)) in walk::children(moof).filter(|(letters, _)| letters == b"traf").enumerate() {
        let tfhd = walk::find(traf, *b"tfhd").ok_or_else(|| ReadError::new(0, "traf without tfhd"))?;
        let header = header(tfhd, init);
        // An explicit base counts from the file's first byte, which a segment doesn't know: muxers that write one
        // (old ffmpeg, Wowza) mean the moof's.
        let from_moof = index == 0 || header.as_ref().is_some_and(|head| head.has_base || head.default_base_is_moof);
        let base = if from_moof { 0 } else { end };
        end = base;
        let Some(header) = header else { continue };
        let tfdt = walk::find(traf, *b"tfdt").and_then(|tfdt| match tfdt.first() {
            Some(1) => u64_at(tfdt, 4),
            _ => u32_at(tfdt, 4).map(u64::from),
        });
        let mut dts = match (tfdt, fragment.next.get(header.track)) {
            (Some(time), _) => i64::try_from(time).unwrap_or(i64::MAX),
            (None, next) => next.copied().unwrap_or(0),
        };
        for (_, trun) in walk::children(traf).filter(|(letters, _)| letters == b"trun") {
            end = run(trun, &header, (base, end), &mut dts, &mut fragment.placed)?;
        }
        if let Some(next) = fragment.next.get_mut(header.track) {
            *next = dts;
        }
    }
    Ok(fragment)
}

fn header(tfhd: &[u8], init: &Init) -> Option<TrackHeader> {
    let flags = u32_at(tfhd, 0)? & 0x00ff_ffff;
    let id = u32_at(tfhd, 4)?;
    let track = init.tracks.iter().position(|track| track.id == id)?;
    let Clock { default_duration, default_size, .. } = *init.clocks.get(track)?;
    let mut at = 8;
    let mut field = |flag: u32, bytes: usize| {
        let here = at;
        (flags & flag != 0).then(|| {
            at += bytes;
            here
        })
    };
    let base = field(0x01, 8);
    let _description = field(0x02, 4);
    let duration = field(0x08, 4).and_then(|at| u32_at(tfhd, at)).unwrap_or(default_duration);
    let size = field(0x10, 4).and_then(|at| u32_at(tfhd, at)).unwrap_or(default_size);
    let default_base_is_moof = flags & 0x02_0000 != 0;
    Some(TrackHeader { track, has_base: base.is_some(), default_base_is_moof, duration, size })
}

/// Reads a `trun` (§8.8.8); says where its media ends.
fn run(
    trun: &[u8],
    header: &TrackHeader,
    (base, end): (u64, u64),
    dts: &mut i64,
    placed: &mut Vec<Placed>,
) -> Result<u64, ReadError> {
    let cut = || ReadError::new(0, "a trun cut short");
    let flags = u32_at(trun, 0).ok_or_else(cut)?;
    let count = u32_at(trun, 4).ok_or_else(cut)?;
    if count as usize > CMAF_SAMPLES_MAX.saturating_sub(placed.len()) {
        return Err(ReadError::new(0, format!("a fragment of more than {CMAF_SAMPLES_MAX} samples")));
    }
    let mut at = 8;
    let mut start = end;
    if flags & 0x01 != 0 {
        let offset = u32_at(trun, at).ok_or_else(cut)?.cast_signed();
        start = base.saturating_add_signed(offset.into());
        at += 4;
    }
    if flags & 0x04 != 0 {
        at += 4;
    }
    for _ in 0..count {
        let mut field = |flag: u32| {
            if flags & flag == 0 {
                return Ok(None);
            }
            at += 4;
            u32_at(trun, at - 4).map(Some).ok_or_else(cut)
        };
        let duration = field(0x100)?.unwrap_or(header.duration);
        let size = field(0x200)?.unwrap_or(header.size);
        let _flags = field(0x400)?;
        // Version 0 says unsigned; offsets beyond 31 bits are negative ones of muxers that forgot the version.
        let offset = field(0x800)?.unwrap_or(0).cast_signed();
        placed.push(Placed { track: header.track, start, size, dts: *dts, offset, duration });
        start = start.saturating_add(size.into());
        *dts = dts.saturating_add(duration.into());
    }
    Ok(start)
}

//! Movie fragments (ISO/IEC 14496-12 §8.8): the boxes before the media, and reading them back.

use std::sync::Arc;

use mp4_atom::{
    Atom as _, Encode as _, Mfhd, Moof, Prft, ReferenceTime, Tfdt, Tfhd, Traf, Trun, TrunEntry, TrunSamples,
};
use relay_media::{Flags, Kind, Packet, WallOrigin};

use crate::{FRAGMENT_SAMPLES_MAX, ReadError, movie, table::Entry, walk};

/// Sample flags (§8.8.3.1): depends on no other sample.
const SYNC: u32 = 0x0200_0000;
/// Depends on another sample, and is no sync sample.
const NON_SYNC: u32 = 0x0101_0000;
/// No other sample depends on it.
const DISPOSABLE: u32 = 0x0080_0000;
/// Is no sync sample, the bit that readers look at.
const NON_SYNC_BIT: u32 = 0x0001_0000;

/// The samples of one track in a fragment, in its ticks from the file's media zero.
pub(crate) struct RunEntries {
    /// The track's place in the file.
    pub(crate) index: usize,
    pub(crate) entries: Vec<Entry>,
    pub(crate) flags: Vec<u32>,
}

impl RunEntries {
    pub(crate) fn bytes(&self) -> u64 {
        self.entries.iter().map(|entry| u64::from(entry.size)).sum()
    }
}

/// What players may know of a packet's sample.
pub(crate) fn sample_flags(packet: &Packet) -> u32 {
    match (packet.track.kind(), packet.is_key()) {
        (Kind::Audio, _) | (Kind::Video, true) => SYNC,
        (Kind::Video, false) if packet.flags.contains(Flags::DISPOSABLE) => NON_SYNC | DISPOSABLE,
        (Kind::Video, false) => NON_SYNC,
    }
}

/// Whether these flags are a sync sample's.
pub(crate) fn is_sync(flags: u32) -> bool {
    flags & NON_SYNC_BIT == 0
}

/// Writes `prft`, `moof` and the `mdat` header of a fragment; the media follows in the order of the runs.
pub(crate) fn write(sequence: u32, runs: &[RunEntries], clock: Option<&Prft>) -> mp4_atom::Result<Vec<u8>> {
    let samples: usize = runs.iter().map(|run| run.entries.len()).sum();
    // prft 32, moof 24, a traf with its boxes 88, at most 16 a sample, mdat 8.
    let mut buf = Vec::with_capacity(64 + runs.len() * 88 + samples * 16);
    if let Some(clock) = clock {
        clock.encode(&mut buf)?;
    }
    let start = buf.len();
    let mut moof = Moof { mfhd: Mfhd { sequence_number: sequence }, traf: runs.iter().map(traf).collect() };
    // The offsets are counted from the moof's first byte, so its length must be known: written twice.
    moof.encode(&mut buf)?;
    let mut offset = (buf.len() - start + MDAT_HEADER_LEN) as u64;
    for (traf, run) in moof.traf.iter_mut().zip(runs) {
        if let Some(trun) = traf.trun.first_mut() {
            trun.data_offset = i32::try_from(offset).ok();
        }
        offset += run.bytes();
    }
    buf.truncate(start);
    moof.encode(&mut buf)?;
    let media: u64 = runs.iter().map(RunEntries::bytes).sum();
    let size = u32::try_from(media + MDAT_HEADER_LEN as u64).map_err(|_| mp4_atom::Error::TooLarge(b"mdat".into()))?;
    size.encode(&mut buf)?;
    buf.extend_from_slice(b"mdat");
    Ok(buf)
}

const MDAT_HEADER_LEN: usize = 8;

fn traf(run: &RunEntries) -> Traf {
    let first = run.entries.first();
    let same_duration = first.filter(|first| run.entries.iter().all(|entry| entry.duration == first.duration));
    let same_flags = run.flags.first().filter(|first| run.flags.iter().all(|flags| flags == *first));
    let reordered = run.entries.iter().any(|entry| entry.offset != 0);
    let entries = run.entries.iter().zip(&run.flags).map(|(entry, &flags)| TrunEntry {
        duration: same_duration.is_none().then_some(entry.duration),
        size: Some(entry.size),
        flags: same_flags.is_none().then_some(flags),
        cts: reordered.then_some(entry.offset.into()),
    });
    Traf {
        tfhd: Tfhd {
            track_id: movie::track_number(run.index),
            default_sample_duration: same_duration.map(|first| first.duration),
            default_sample_flags: same_flags.copied(),
            default_base_is_moof: true,
            ..Tfhd::default()
        },
        tfdt: Some(Tfdt { base_media_decode_time: first.map_or(0, |first| u64::try_from(first.dts).unwrap_or(0)) }),
        trun: vec![Trun { data_offset: Some(0), samples: TrunSamples::Explicit(entries.collect()) }],
        ..Traf::default()
    }
}

/// Maps `packet`'s presentation, at `media_time` of track `index`, to its time of day.
pub(crate) fn clock(index: usize, packet: &Arc<Packet>, media_time: i64) -> Option<Prft> {
    Some(Prft {
        reference_track_id: movie::track_number(index),
        ntp_timestamp: packet.wall.utc.to_ntp(),
        media_time: u64::try_from(media_time).ok()?,
        utc_time_semantics: match packet.wall.origin {
            WallOrigin::SenderReport | WallOrigin::ProgramDateTime | WallOrigin::Generated => ReferenceTime::RealTime,
            WallOrigin::Arrival => ReferenceTime::Consistent,
        },
    })
}

/// One track's samples in a fragment that was read.
#[derive(Debug)]
pub(crate) struct ReadRun {
    /// The track's place in the file.
    pub(crate) index: usize,
    /// Where its media begins, from the first byte of the `moof`.
    pub(crate) offset: u64,
    pub(crate) entries: Vec<Entry>,
}

/// Reads the body of a `moof` of ours in a file of `tracks` tracks.
pub(crate) fn read(moof: &[u8], tracks: usize) -> Result<(u32, Vec<ReadRun>), ReadError> {
    let mut sequence = 0;
    let mut runs = Vec::new();
    let mut left = FRAGMENT_SAMPLES_MAX;
    for (letters, mut body) in walk::children(moof) {
        match &letters {
            b"mfhd" => sequence = Mfhd::decode_body(&mut body)?.sequence_number,
            b"traf" => {
                let run = read_traf(body, tracks, left)?;
                left -= run.entries.len();
                runs.push(run);
            }
            _ => {}
        }
    }
    Ok((sequence, runs))
}

fn read_traf(traf: &[u8], tracks: usize, samples_max: usize) -> Result<ReadRun, ReadError> {
    let body = |letters| walk::find(traf, letters).ok_or_else(|| ReadError::new(0, "traf without tfhd, tfdt or trun"));
    let tfhd = Tfhd::decode_body(&mut body(*b"tfhd")?)?;
    let tfdt = Tfdt::decode_body(&mut body(*b"tfdt")?)?;
    let trun = Trun::decode_body(&mut body(*b"trun")?)?;
    let index = usize::try_from(tfhd.track_id).ok().and_then(|id| id.checked_sub(1)).filter(|&index| index < tracks);
    let index = index.ok_or_else(|| ReadError::new(0, format!("traf of track {}", tfhd.track_id)))?;
    if trun.samples.len() > samples_max {
        return Err(ReadError::new(0, format!("trun of {} samples", trun.samples.len())));
    }
    let offset = trun.data_offset.and_then(|offset| u64::try_from(offset).ok());
    let offset = offset.ok_or_else(|| ReadError::new(0, "trun without a data offset"))?;
    let mut dts = i64::try_from(tfdt.base_media_decode_time).unwrap_or(i64::MAX);
    let entry = |sample: TrunEntry| {
        let duration = sample.duration.or(tfhd.default_sample_duration).unwrap_or(0);
        let entry = Entry {
            dts,
            duration,
            offset: sample.cts.and_then(|cts| i32::try_from(cts).ok()).unwrap_or(0),
            size: sample.size.or(tfhd.default_sample_size).unwrap_or(0),
            sync: is_sync(sample.flags.or(tfhd.default_sample_flags).unwrap_or(0)),
        };
        dts = dts.saturating_add(duration.into());
        entry
    };
    Ok(ReadRun { index, offset, entries: trun.samples.iter().map(entry).collect() })
}

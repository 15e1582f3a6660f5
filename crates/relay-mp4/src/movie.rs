//! The boxes around the samples: `ftyp`, and `moov` in its two forms, for a running file and for a finished one.

use std::sync::Arc;

use mp4_atom::{
    BufMut, Dref, Edts, Elst, ElstEntry, Encode as _, FixedPoint, FourCC, Ftyp, Hdlr, Mdhd, Mvex, Mvhd, Smhd, Tkhd,
    Trex, Url, Vmhd,
};
use relay_media::{Codec, Kind, Timebase, Track, TrackId, UtcTime};

use crate::{ReadError, TRACKS_MAX, entry, table::SampleTable, walk};

/// What a file's `moov` says besides its samples.
#[derive(Clone, Debug)]
pub(crate) struct Movie {
    pub(crate) tracks: Vec<MovieTrack>,
    /// The time of day at which the presentation begins.
    pub(crate) utc: UtcTime,
}

#[derive(Clone, Debug)]
pub(crate) struct MovieTrack {
    pub(crate) track: Arc<Track>,
    /// The media time, in ticks, at which the presentation begins: the reordering delay of the first key frame.
    pub(crate) lead: u64,
}

/// Ticks per second of the movie itself: those of video, so that edits are exact.
const MOVIE_HZ: u32 = 90_000;
/// The id of the track at `index`.
pub(crate) fn track_number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX).saturating_add(1)
}

/// Bytes of the `free` that becomes an `mdat` header with a 64-bit size.
pub(crate) const PLACEHOLDER_LEN: usize = 16;

/// The first bytes of a running file: `ftyp` and the placeholder.
pub(crate) fn running_head() -> mp4_atom::Result<Vec<u8>> {
    // iso6: default-base-is-moof and signed composition offsets.
    let mut head = ftyp(b"iso6", [b"iso6", b"isom", b"mp41"])?;
    head.encode_atom(*b"free", |buf| {
        buf.append_slice(&[0; PLACEHOLDER_LEN - 8]);
        Ok(())
    })?;
    Ok(head)
}

/// The first bytes of a finished file, of the same length: the placeholder is the header of an `mdat` that reaches up
/// to the `moov` at byte `moov_at`.
pub(crate) fn finished_head(moov_at: u64) -> mp4_atom::Result<Vec<u8>> {
    let mut head = ftyp(b"isom", [b"isom", b"iso2", b"mp41"])?;
    let size = moov_at.saturating_sub(head.len() as u64);
    1_u32.encode(&mut head)?;
    head.append_slice(b"mdat");
    size.encode(&mut head)?;
    Ok(head)
}

fn ftyp(major: &[u8; 4], compatible: [&[u8; 4]; 3]) -> mp4_atom::Result<Vec<u8>> {
    let mut buf = Vec::with_capacity(64);
    let compatible_brands = compatible.into_iter().map(FourCC::from).collect();
    Ftyp { major_brand: major.into(), minor_version: 512, compatible_brands }.encode(&mut buf)?;
    Ok(buf)
}

impl Movie {
    /// The `moov` of a running file: the samples are in fragments.
    pub(crate) fn write_running(&self, buf: &mut Vec<u8>) -> mp4_atom::Result<()> {
        buf.encode_atom(*b"moov", |buf| {
            self.header(0).encode(buf)?;
            for (index, track) in self.tracks.iter().enumerate() {
                // The whole media from `lead` on, however long it gets (ISO/IEC 14496-12 §8.6.6.1).
                let edit = (track.lead > 0).then(|| edit(0, Some(track.lead)));
                track.write(index, Times::default(), edit.into_iter().collect(), buf, SampleTable::write_empty)?;
            }
            let trex =
                |index| Trex { track_id: track_number(index), default_sample_description_index: 1, ..Trex::default() };
            Mvex { mehd: None, trex: (0..self.tracks.len()).map(trex).collect() }.encode(buf)?;
            self.write_anchor(buf)
        })
    }

    /// The `moov` of a finished file, with every sample.
    pub(crate) fn write_finished(&self, tables: Vec<SampleTable>, buf: &mut Vec<u8>) -> mp4_atom::Result<()> {
        let times: Vec<_> = self.tracks.iter().zip(&tables).map(|(track, table)| track.times(table)).collect();
        buf.encode_atom(*b"moov", |buf| {
            self.header(times.iter().map(|times| times.movie_duration).max().unwrap_or(0)).encode(buf)?;
            for (index, ((track, times), table)) in self.tracks.iter().zip(times).zip(tables).enumerate() {
                if table.len() > 0 {
                    track.write(index, times, times.edits(), buf, |buf| table.write(buf))?;
                }
            }
            self.write_anchor(buf)
        })
    }

    fn header(&self, duration: u64) -> Mvhd {
        let time = mac_time(self.utc);
        Mvhd {
            creation_time: time,
            modification_time: time,
            timescale: MOVIE_HZ,
            duration,
            rate: 1.into(),
            volume: 1.into(),
            next_track_id: track_number(self.tracks.len()),
            ..Mvhd::default()
        }
    }

    /// The time of day at which the presentation begins, to the nanosecond, in a box of our own: `mvhd` counts whole
    /// seconds, and the `prft` boxes are inside the `mdat` once the file is finished.
    fn write_anchor(&self, buf: &mut Vec<u8>) -> mp4_atom::Result<()> {
        buf.encode_atom(*b"udta", |buf| {
            buf.encode_atom(*b"uuid", |buf| {
                buf.append_slice(&ANCHOR_UUID);
                self.utc.unix_nanos().encode(buf)
            })
        })
    }
}

/// Names the wall anchor: nanoseconds since 1970-01-01T00:00:00Z, signed, 64 bits.
const ANCHOR_UUID: [u8; 16] = *b"relay wall start";

/// Seconds since 1904, as `mvhd` counts (§8.2.2.3).
fn mac_time(utc: UtcTime) -> u64 {
    /// From 1904 to 1970: 66 years with 17 leap days.
    const EPOCH: i64 = 2_082_844_800;
    u64::try_from(utc.unix_nanos().div_euclid(1_000_000_000).saturating_add(EPOCH)).unwrap_or(0)
}

fn edit(segment_duration: u64, media_time: Option<u64>) -> ElstEntry {
    ElstEntry { segment_duration, media_time, media_rate: 1.into() }
}

/// When a finished track plays.
#[derive(Clone, Copy, Debug, Default)]
struct Times {
    /// Media ticks.
    media_duration: u64,
    /// Movie ticks before the track begins.
    silence: u64,
    /// Media ticks skipped at its beginning.
    skip: u64,
    /// Movie ticks it plays.
    played: u64,
    /// Movie ticks from the movie's beginning to the track's end.
    movie_duration: u64,
}

impl Times {
    fn edits(self) -> Vec<ElstEntry> {
        match (self.silence, self.skip) {
            (0, 0) => Vec::new(),
            (0, skip) => vec![edit(self.played, Some(skip))],
            (silence, skip) => vec![edit(silence, None), edit(self.played, Some(skip))],
        }
    }
}

impl MovieTrack {
    fn times(&self, table: &SampleTable) -> Times {
        let first = u64::try_from(table.first()).unwrap_or(0);
        let skip = self.lead.saturating_sub(first);
        let silence = self.movie_ticks(first.saturating_sub(self.lead));
        let played = self.movie_ticks(table.presentation_end().saturating_sub(skip));
        Times {
            media_duration: table.duration(),
            silence,
            skip,
            played,
            movie_duration: silence.saturating_add(played),
        }
    }

    fn movie_ticks(&self, media: u64) -> u64 {
        let hz = u128::from(self.track.timebase.hz());
        u64::try_from((u128::from(media) * u128::from(MOVIE_HZ) + hz / 2) / hz).unwrap_or(u64::MAX)
    }

    fn write(
        &self,
        index: usize,
        times: Times,
        edits: Vec<ElstEntry>,
        buf: &mut Vec<u8>,
        samples: impl FnOnce(&mut Vec<u8>) -> mp4_atom::Result<()>,
    ) -> mp4_atom::Result<()> {
        buf.encode_atom(*b"trak", |buf| {
            self.header(index, times.movie_duration).encode(buf)?;
            if !edits.is_empty() {
                Edts { elst: Some(Elst { entries: edits }) }.encode(buf)?;
            }
            buf.encode_atom(*b"mdia", |buf| {
                let timescale = self.track.timebase.hz();
                let language = "und".to_owned();
                Mdhd { timescale, duration: times.media_duration, language, ..Mdhd::default() }.encode(buf)?;
                self.handler().encode(buf)?;
                buf.encode_atom(*b"minf", |buf| {
                    match self.track.kind() {
                        Kind::Video => Vmhd::default().encode(buf)?,
                        Kind::Audio => Smhd::default().encode(buf)?,
                    }
                    // mp4-atom's default dref is empty, and players refuse such a file: the media is in this one.
                    buf.encode_atom(*b"dinf", |buf| Dref { entries: vec![Url::default().into()] }.encode(buf))?;
                    buf.encode_atom(*b"stbl", |buf| {
                        buf.encode_atom(*b"stsd", |buf| {
                            0_u32.encode(buf)?;
                            1_u32.encode(buf)?;
                            entry::write(&self.track.codec, buf)
                        })?;
                        samples(buf)
                    })
                })
            })
        })
    }

    fn header(&self, index: usize, duration: u64) -> Tkhd {
        let (width, height) = match &self.track.codec {
            Codec::H264(config) => (config.width(), config.height()),
            Codec::H265(config) => (config.width(), config.height()),
            Codec::Aac(_) | Codec::Opus(_) | Codec::G711(_) => (0, 0),
        };
        let size = |pixels| FixedPoint::new(u16::try_from(pixels).unwrap_or(u16::MAX), 0);
        let audio = self.track.kind() == Kind::Audio;
        Tkhd {
            track_id: track_number(index),
            duration,
            alternate_group: audio.into(),
            enabled: true,
            in_movie: true,
            volume: u8::from(audio).into(),
            width: size(width),
            height: size(height),
            ..Tkhd::default()
        }
    }

    fn handler(&self) -> Hdlr {
        let (handler, name) = match self.track.kind() {
            Kind::Video => (b"vide", "video"),
            Kind::Audio => (b"soun", "audio"),
        };
        Hdlr { handler: handler.into(), name: name.to_owned() }
    }
}

/// Reads the body of a `moov` of ours, and for a finished one its tables.
pub(crate) fn read(moov: &[u8]) -> Result<(Movie, Vec<SampleTable>), ReadError> {
    let finished = walk::find(moov, *b"mvex").is_none();
    let (mut tracks, mut tables) = (Vec::new(), Vec::new());
    for (letters, trak) in walk::children(moov) {
        if letters == *b"trak" && tracks.len() < TRACKS_MAX {
            let (track, table) = read_track(trak, track_number(tracks.len()), finished)?;
            tracks.push(track);
            tables.push(table);
        }
    }
    if tracks.is_empty() {
        return Err(ReadError::new(0, "moov without a track"));
    }
    let anchor = walk::find(moov, *b"udta").and_then(|udta| walk::find(udta, *b"uuid"));
    let utc = anchor
        .and_then(|uuid| uuid.strip_prefix(&ANCHOR_UUID))
        .and_then(|nanos| nanos.first_chunk())
        .ok_or_else(|| ReadError::new(0, "moov without a wall anchor"))?;
    Ok((Movie { tracks, utc: UtcTime::from_unix_nanos(i64::from_be_bytes(*utc)) }, tables))
}

fn read_track(trak: &[u8], number: u32, finished: bool) -> Result<(MovieTrack, SampleTable), ReadError> {
    let Some(mdia) = walk::find(trak, *b"mdia") else { return Err(ReadError::new(0, "trak without mdia")) };
    let mdhd: Mdhd = leaf(mdia, *b"mdhd")?;
    let timebase = Timebase::new(mdhd.timescale).ok_or_else(|| ReadError::new(0, "mdhd without a timescale"))?;
    let stbl = walk::find(mdia, *b"minf").and_then(|minf| walk::find(minf, *b"stbl"));
    let Some(stbl) = stbl else { return Err(ReadError::new(0, "trak without stbl")) };
    let codec = entry::read(walk::find(stbl, *b"stsd").unwrap_or_default())?;
    let edits = match walk::find(trak, *b"edts") {
        Some(edts) => leaf::<Elst>(edts, *b"elst")?.entries,
        None => Vec::new(),
    };
    let silence = edits.iter().find(|edit| edit.media_time.is_none()).map_or(0, |edit| edit.segment_duration);
    let lead = edits.iter().find_map(|edit| edit.media_time).unwrap_or(0);
    let first = u128::from(silence) * u128::from(timebase.hz()) / u128::from(MOVIE_HZ);
    let first = i64::try_from(first).unwrap_or(i64::MAX);
    let table = if finished { SampleTable::read(stbl, first)? } else { SampleTable::default() };
    Ok((MovieTrack { track: Arc::new(Track { id: TrackId(number), codec, timebase }), lead }, table))
}

fn leaf<A: mp4_atom::Atom>(parent: &[u8], letters: [u8; 4]) -> Result<A, ReadError> {
    let mut body = walk::find(parent, letters)
        .ok_or_else(|| ReadError::new(0, format!("no {:?}", String::from_utf8_lossy(&letters))))?;
    Ok(A::decode_body(&mut body)?)
}

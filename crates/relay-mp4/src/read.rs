//! Reads a recording of ours whole, running or finished: for tests and tools.

use std::{ops::Range, sync::Arc};

use relay_media::{Timestamp, Track, UtcTime};

use crate::{
    ReadError,
    movie::{Movie, MovieTrack},
    scan::{self, Scan, Scanner},
    table::SampleTable,
};

/// One track of a file with its samples.
#[derive(Clone, Debug)]
pub struct TrackSamples {
    /// The track, numbered by its place in the file.
    pub track: Arc<Track>,
    /// Its samples in decoding order.
    pub samples: Vec<SampleInfo>,
}

/// One sample. Its times count from where the file begins to play, so the first decode times of a stream with
/// reordered pictures are negative.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SampleInfo {
    /// Decode time.
    pub dts: Timestamp,
    /// Presentation time.
    pub pts: Timestamp,
    /// Ticks to the next sample.
    pub duration: u32,
    /// A decoder can start here.
    pub key: bool,
    /// Where its bytes are in the file.
    pub range: Range<usize>,
}

/// Reads a recording up to its last whole fragment.
///
/// # Errors
/// It is no recording of ours, or holds no whole fragment.
pub fn read_samples(file: &[u8]) -> Result<Vec<TrackSamples>, ReadError> {
    let (Movie { tracks, .. }, tables) = read(file)?;
    tracks.into_iter().zip(tables).map(|(track, table)| read_track(&track, table, file.len())).collect()
}

/// The time of day at which a recording begins to play, as its wall anchor tells it.
///
/// # Errors
/// As [`read_samples`].
pub fn read_start(file: &[u8]) -> Result<UtcTime, ReadError> {
    Ok(read(file)?.0.utc)
}

fn read(file: &[u8]) -> Result<(Movie, Vec<SampleTable>), ReadError> {
    match Scanner::scan(file) {
        Scan::Finished => scan::finished(file),
        Scan::Fragments(muxer) => Ok(muxer.into_tables()),
        Scan::Empty => Err(ReadError::new(0, "no whole fragment")),
        Scan::Foreign => Err(ReadError::new(0, "no recording of ours")),
    }
}

fn read_track(movie: &MovieTrack, table: SampleTable, file_len: usize) -> Result<TrackSamples, ReadError> {
    let (track, lead) = (movie.track.clone(), i64::try_from(movie.lead).unwrap_or(i64::MAX));
    let sample = |(entry, at): (crate::table::Entry, u64)| {
        let start = usize::try_from(at).unwrap_or(usize::MAX);
        let end = start.saturating_add(usize::try_from(entry.size).unwrap_or(usize::MAX));
        if end > file_len {
            return Err(ReadError::new(at, "a sample behind the end of the file"));
        }
        let dts = Timestamp::new(entry.dts.saturating_sub(lead), track.timebase);
        let pts = dts.plus(entry.offset.into());
        Ok(SampleInfo { dts, pts, duration: entry.duration, key: entry.sync, range: start..end })
    };
    let samples = table.samples().into_iter().map(sample).collect::<Result<_, _>>()?;
    Ok(TrackSamples { track, samples })
}

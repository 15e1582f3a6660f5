//! Reads the frame counters back from recordings, and says what is missing, twice or out of order.

use std::{
    fmt, fs, io,
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

use relay_media::{Kind, stamp::Stamp};

/// What the counters of a recording, or of several one after the other, say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Stamps in decoding order.
    pub stamps: Vec<Stamp>,
    /// Counters that are missing between the smallest and the largest.
    pub gaps: Vec<RangeInclusive<u64>>,
    /// Counters that came more than once, each once.
    pub duplicates: Vec<u64>,
    /// Places in `stamps` where the counter is smaller than the one before.
    pub regressions: Vec<usize>,
    /// Pictures in the recordings, stamped or not; `None` if only bytes were searched.
    pub pictures: Option<usize>,
    /// Pictures whose decode time is not after the one before in the same file.
    pub dts_regressions: usize,
}

impl Report {
    /// The report on stamps alone.
    pub fn of(stamps: Vec<Stamp>) -> Self {
        let mut report = Self { stamps, ..Self::default() };
        let mut counters: Vec<u64> = report.stamps.iter().map(|stamp| stamp.counter).collect();
        let pairs = counters.iter().zip(counters.iter().skip(1));
        report.regressions = (1..).zip(pairs).filter(|(_, (before, after))| after < before).map(|(at, _)| at).collect();
        counters.sort_unstable();
        for (&before, &after) in counters.iter().zip(counters.iter().skip(1)) {
            match after - before {
                0 => report.duplicates.push(after),
                1 => {}
                _ => report.gaps.push(before + 1..=after - 1),
            }
        }
        report.duplicates.dedup();
        report
    }

    /// Frames missing between the first and the last.
    pub fn missing(&self) -> u64 {
        self.gaps.iter().map(|gap| gap.end() - gap.start() + 1).sum()
    }

    /// Nothing is missing, twice, unstamped or out of order.
    pub fn is_continuous(&self) -> bool {
        let out_of_order = self.regressions.len() + self.dts_regressions;
        self.gaps.is_empty() && self.duplicates.is_empty() && out_of_order == 0 && self.unstamped() == 0
    }

    /// Pictures without a stamp.
    pub fn unstamped(&self) -> usize {
        self.pictures.map_or(0, |pictures| pictures.saturating_sub(self.stamps.len()))
    }

    /// Smallest and largest counter.
    pub fn range(&self) -> Option<(u64, u64)> {
        let counters = || self.stamps.iter().map(|stamp| stamp.counter);
        Some((counters().min()?, counters().max()?))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((first, last)) = self.range() else { return f.write_str("no stamped frame") };
        write!(
            f,
            "{} frames, {first} to {last}: {} missing in {} gaps, {} twice, {} steps back, {} unstamped, {} decode times back",
            self.stamps.len(),
            self.missing(),
            self.gaps.len(),
            self.duplicates.len(),
            self.regressions.len(),
            self.unstamped(),
            self.dts_regressions,
        )
    }
}

/// Why a recording was not read.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The file cannot be read.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// How.
        error: io::Error,
    },
    /// It is no recording of ours.
    #[error("{}: {error}", path.display())]
    Recording {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: relay_mp4::ReadError,
    },
}

/// Reads our own recordings one after the other, running or finished, as the segments of one; a folder stands for its
/// `.mp4` files in the order of their names, which is that of their times.
///
/// # Errors
/// A file cannot be read, or is no recording of ours.
pub fn recordings<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>) -> Result<Report, VerifyError> {
    let (mut stamps, mut pictures, mut dts_regressions) = (Vec::new(), 0, 0);
    for path in files(paths)? {
        let file = read(&path)?;
        let tracks =
            relay_mp4::read_samples(&file).map_err(|error| VerifyError::Recording { path: path.clone(), error })?;
        for track in tracks.iter().filter(|track| track.track.kind() == Kind::Video) {
            pictures += track.samples.len();
            let times = || track.samples.iter().map(|sample| sample.dts.ticks());
            dts_regressions += times().zip(times().skip(1)).filter(|(before, after)| after <= before).count();
            let units = track.samples.iter().filter_map(|sample| file.get(sample.range.clone()));
            // Our reader gives the bytes; the stamp of H.265 has another NAL header, which the search ignores.
            stamps.extend(units.filter_map(|unit| stamps_in(unit).next()));
        }
    }
    Ok(Report { pictures: Some(pictures), dts_regressions, ..Report::of(stamps) })
}

/// Reads any files that keep a stamp in one piece (MP4 and Matroska of other programs, Annex B, dumps of the floor
/// program), without understanding them: stamps come in the order of the bytes.
///
/// # Errors
/// A file cannot be read.
pub fn search<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>) -> Result<Report, VerifyError> {
    let mut stamps = Vec::new();
    for path in files(paths)? {
        stamps.extend(stamps_in(&read(&path)?));
    }
    Ok(Report::of(stamps))
}

fn files<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>) -> Result<Vec<PathBuf>, VerifyError> {
    let mut files = Vec::new();
    for path in paths {
        let path = path.as_ref();
        if !path.is_dir() {
            files.push(path.to_owned());
            continue;
        }
        let failed = |error| VerifyError::Io { path: path.to_owned(), error };
        let entries: io::Result<Vec<PathBuf>> =
            fs::read_dir(path).map_err(failed)?.map(|entry| Ok(entry?.path())).collect();
        let mut inside = entries.map_err(failed)?;
        inside.retain(|file| file.extension().is_some_and(|extension| extension == "mp4"));
        inside.sort();
        files.extend(inside);
    }
    Ok(files)
}

fn read(path: &Path) -> Result<Vec<u8>, VerifyError> {
    fs::read(path).map_err(|error| VerifyError::Io { path: path.to_owned(), error })
}

/// Every stamp in `bytes`, in their order.
pub fn stamps_in(bytes: &[u8]) -> impl Iterator<Item = Stamp> {
    let pattern = Stamp { counter: 0, utc_nanos: 0 }.to_nal();
    // What all stamps share, behind the NAL unit's header: H.265 has another one.
    let shared: Vec<u8> = pattern.iter().skip(1).take(SHARED).copied().collect();
    let places: Vec<usize> = memchr::memmem::find_iter(bytes, &shared).collect();
    places.into_iter().filter_map(move |at| {
        let mut nal = pattern;
        let body = bytes.get(at..at + Stamp::NAL_LEN - 1)?;
        nal.iter_mut().skip(1).zip(body).for_each(|(to, from)| *to = *from);
        Stamp::from_nal(&nal)
    })
}

/// Payload type, size and UUID.
const SHARED: usize = 2 + 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_twice_or_out_of_order_is_reported() {
        let rows: [(&[u64], u64, usize, usize); 6] = [
            (&[], 0, 0, 0),
            (&[7, 8, 9], 0, 0, 0),
            (&[7, 9, 12], 3, 0, 0),
            (&[7, 8, 8, 9], 0, 1, 0),
            (&[7, 9, 8], 0, 0, 1),
            (&[7, 8, 7, 8, 9], 0, 2, 1),
        ];
        for (counters, missing, duplicates, regressions) in rows {
            let stamps = counters.iter().map(|&counter| Stamp { counter, utc_nanos: 5 });
            let bytes: Vec<u8> =
                stamps.clone().flat_map(|stamp| [b"noise\x05".to_vec(), stamp.to_nal().to_vec()].concat()).collect();
            let report = Report::of(stamps_in(&bytes).collect());
            assert_eq!(report.stamps, stamps.collect::<Vec<_>>());
            assert_eq!(
                (report.missing(), report.duplicates.len(), report.regressions.len()),
                (missing, duplicates, regressions),
                "{counters:?}"
            );
        }
    }
}

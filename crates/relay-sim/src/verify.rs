//! Reads the frame counters back from recordings.

use std::{fs, path::Path};

use anyhow::Context;
use relay_media::{Kind, stamp::Stamp};
use relay_mp4::read_samples;

/// What a recording holds of a stamped stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// The counter of each picture in decode order; pictures without a stamp are left out.
    pub counters: Vec<u64>,
    /// Pictures.
    pub frames: usize,
    /// Pictures whose decode time is not after the one before.
    pub dts_regressions: usize,
}

impl Counters {
    /// Reads one recording, running or finished.
    ///
    /// # Errors
    /// The file cannot be read, or is no recording.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let file = fs::read(path).with_context(|| path.display().to_string())?;
        let tracks = read_samples(&file).with_context(|| path.display().to_string())?;
        let mut counters = Self::default();
        for track in tracks.iter().filter(|track| track.track.kind() == Kind::Video) {
            let mut last = None;
            for sample in &track.samples {
                counters.frames += 1;
                counters.dts_regressions += usize::from(last.is_some_and(|last| sample.dts.ticks() <= last));
                last = Some(sample.dts.ticks());
                let stamp = file.get(sample.range.clone()).and_then(Stamp::find);
                counters.counters.extend(stamp.map(|stamp| stamp.counter));
            }
        }
        Ok(counters)
    }

    /// Adds what the next recording of the same stream holds.
    pub fn extend(&mut self, next: Self) {
        self.counters.extend(next.counters);
        self.frames += next.frames;
        self.dts_regressions += next.dts_regressions;
    }

    /// Counters missing between the first and the last, and counters that came twice.
    pub fn gaps_and_repeats(&self) -> (u64, u64) {
        let (mut gaps, mut repeats) = (0, 0);
        for pair in self.counters.windows(2) {
            if let [before, after] = pair {
                gaps += after.saturating_sub(*before).saturating_sub(1);
                repeats += u64::from(after <= before);
            }
        }
        (gaps, repeats)
    }

    /// The counters of every recording in `dir`, in the order of their names, which is that of their times.
    ///
    /// # Errors
    /// The folder or a recording cannot be read.
    pub fn read_dir(dir: &Path) -> anyhow::Result<Self> {
        let mut files: Vec<_> = fs::read_dir(dir)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
        files.retain(|path| path.extension().is_some_and(|extension| extension == "mp4"));
        files.sort();
        let mut counters = Self::default();
        for file in files {
            counters.extend(Self::read(&file)?);
        }
        Ok(counters)
    }
}

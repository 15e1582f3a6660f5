//! Recordings read back: which frames they hold, by the counters that the cameras put into them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use relay_media::stamp::Stamp;
use relay_media::{Codec, Kind};

use crate::relayd::segments;

/// A video frame of a recording.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// The camera's counter.
    pub counter: u64,
    /// Decoding can start here.
    pub key: bool,
    /// It is the first of its file.
    pub starts_file: bool,
}

/// What one stream's segments hold, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    /// The files.
    pub files: Vec<PathBuf>,
    /// The video frames, in decoding order.
    pub frames: Vec<Frame>,
    /// The sizes of the pictures, as the files' parameter sets have them.
    pub sizes: BTreeSet<(u32, u32)>,
    /// What must never be: times that go back, frames twice or out of order, files that don't start with a key frame.
    pub wrong: Vec<String>,
}

impl Recorded {
    /// Reads all segments of a stream.
    ///
    /// # Errors
    /// When a file can't be read, or isn't a recording with at least one whole fragment.
    pub fn read(dir: &Path, stream: &str) -> anyhow::Result<Self> {
        let mut recorded = Self::default();
        for path in segments(dir, stream)? {
            recorded.append(&path)?;
        }
        Ok(recorded)
    }

    /// Reads one file.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn of(path: &Path) -> anyhow::Result<Self> {
        let mut recorded = Self::default();
        recorded.append(path)?;
        Ok(recorded)
    }

    /// Whether a frame is there.
    #[must_use]
    pub fn contains(&self, counter: u64) -> bool {
        self.frames.iter().any(|frame| frame.counter == counter)
    }

    /// Frames missing between the first and the last.
    #[must_use]
    pub fn missing(&self) -> u64 {
        let pairs = self.frames.iter().zip(self.frames.iter().skip(1));
        pairs.map(|(one, next)| next.counter.saturating_sub(one.counter + 1)).sum()
    }

    /// The counters of the first and the last frame.
    #[must_use]
    pub fn range(&self) -> Option<(u64, u64)> {
        Some((self.frames.first()?.counter, self.frames.last()?.counter))
    }

    fn append(&mut self, path: &Path) -> anyhow::Result<()> {
        let bytes = std::fs::read(path)?;
        let tracks = relay_mp4::read_samples(&bytes).with_context(|| path.display().to_string())?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.files.push(path.to_path_buf());
        for track in &tracks {
            let pairs = track.samples.iter().zip(track.samples.iter().skip(1));
            for (one, next) in pairs.filter(|(one, next)| next.dts.ticks() <= one.dts.ticks()) {
                self.wrong.push(format!("{name}: decode time {:?} after {:?}", next.dts, one.dts));
            }
        }
        let Some(video) = tracks.iter().find(|track| track.track.kind() == Kind::Video) else {
            bail!("{name}: no video")
        };
        if let Codec::H264(config) = &video.track.codec {
            self.sizes.insert((config.width(), config.height()));
        }
        for (index, sample) in video.samples.iter().enumerate() {
            let payload = bytes.get(sample.range.clone()).context("a sample outside the file")?;
            let stamp = Stamp::find(payload).with_context(|| format!("sample {index} has no counter"))?;
            let frame = Frame { counter: stamp.counter, key: sample.key, starts_file: index == 0 };
            if let Some(last) = self.frames.last().filter(|last| last.counter >= frame.counter) {
                self.wrong.push(format!("{name}: frame {} after {}", frame.counter, last.counter));
            }
            if frame.starts_file && !frame.key {
                self.wrong.push(format!("{name}: starts with frame {}, which is no key frame", frame.counter));
            }
            self.frames.push(frame);
        }
        Ok(())
    }
}

/// Decodes a whole file with ffmpeg, which stops at the first error.
///
/// # Errors
/// When it finds one.
pub fn decode(path: &Path) -> anyhow::Result<()> {
    let mut ffmpeg = std::process::Command::new("ffmpeg");
    ffmpeg.args(["-nostdin", "-v", "error", "-xerror", "-threads", "1", "-i"]).arg(path);
    let output = ffmpeg.args(["-f", "null", "-"]).output().context("start ffmpeg")?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() || !said.trim().is_empty() {
        bail!("{}: ffmpeg says {}", path.display(), said.trim());
    }
    Ok(())
}

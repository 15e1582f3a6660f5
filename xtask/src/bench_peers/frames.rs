//! What the recordings hold, so that a program that does nothing can't win: frames are counted by ffprobe.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use crate::shell;

/// Bytes on disk of each recording under `dir`: one entry a stream, whether that is a file or a folder of segments.
///
/// # Errors
/// When a folder can't be read.
pub(super) fn sizes(dir: &Path) -> anyhow::Result<BTreeMap<PathBuf, u64>> {
    let mut sizes = BTreeMap::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let bytes = files(&path)?.iter().filter_map(|file| Some(file.metadata().ok()?.len())).sum();
        sizes.insert(path, bytes);
    }
    Ok(sizes)
}

/// The frames of the recording that holds fewest, all `streams` of them looked at. Files of raw bytes hold a frame in
/// `raw_frame_bytes`.
///
/// # Errors
/// When a recording is missing, or ffprobe can't read it.
pub(super) fn fewest(dir: &Path, streams: usize, raw_frame_bytes: Option<u64>) -> anyhow::Result<u64> {
    let sizes = sizes(dir)?;
    if sizes.len() != streams {
        anyhow::bail!("{} recordings of {streams} streams", sizes.len());
    }
    let mut fewest = u64::MAX;
    for (recording, bytes) in &sizes {
        let frames = match raw_frame_bytes {
            Some(frame) => bytes / frame,
            None => files(recording)?.iter().map(|file| count(file)).sum::<anyhow::Result<u64>>()?,
        };
        fewest = fewest.min(frames);
    }
    Ok(fewest)
}

/// The video packets of one file.
fn count(file: &Path) -> anyhow::Result<u64> {
    let mut ffprobe = Command::new("ffprobe");
    ffprobe.args(["-v", "error", "-select_streams", "v:0", "-count_packets"]);
    ffprobe.args(["-show_entries", "stream=nb_read_packets", "-of", "csv=p=0"]).arg(file);
    let said = shell::capture(&mut ffprobe)?;
    let digits = said.trim().trim_end_matches(',');
    digits.parse().with_context(|| format!("ffprobe says {said:?} of {}", file.display()))
}

fn files(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if path.is_file() {
        return Ok(vec![path.to_path_buf()]);
    }
    let entries = std::fs::read_dir(path)?;
    Ok(entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?)
}

//! What the recordings hold, so that a program that does nothing can't win: its frames are counted.

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

/// The frames of the recording that holds fewest, all `streams` of them looked at, and each file counted by `count`.
///
/// # Errors
/// When a recording is missing or can't be read.
pub(super) fn fewest(dir: &Path, streams: usize, count: fn(&Path) -> anyhow::Result<u64>) -> anyhow::Result<u64> {
    let sizes = sizes(dir)?;
    if sizes.len() != streams {
        anyhow::bail!("{} recordings of {streams} streams", sizes.len());
    }
    let mut fewest = u64::MAX;
    for recording in sizes.keys() {
        let frames = files(recording)?.iter().map(|file| count(file)).sum::<anyhow::Result<u64>>()?;
        fewest = fewest.min(frames);
    }
    Ok(fewest)
}

/// The video packets of a file that ffprobe reads.
///
/// # Errors
/// When it doesn't.
pub(super) fn of_media(file: &Path) -> anyhow::Result<u64> {
    let mut ffprobe = Command::new("ffprobe");
    ffprobe.args(["-v", "error", "-select_streams", "v:0", "-count_packets"]);
    ffprobe.args(["-show_entries", "stream=nb_read_packets", "-of", "csv=p=0"]).arg(file);
    let said = shell::capture(&mut ffprobe)?;
    let digits = said.trim().trim_end_matches(',');
    digits.parse().with_context(|| format!("ffprobe says {said:?} of {}", file.display()))
}

/// The frames in the bytes of an RTSP connection after PLAY, its video on channel 0: RTP packets with the marker bit,
/// behind `$`, channel and length (RFC 2326 §10.12), and answers to keep-alives between them.
///
/// # Errors
/// When the file can't be read.
pub(super) fn of_interleaved(file: &Path) -> anyhow::Result<u64> {
    let bytes = std::fs::read(file).with_context(|| format!("read {}", file.display()))?;
    Ok(markers(&bytes))
}

fn markers(bytes: &[u8]) -> u64 {
    let (mut rest, mut frames) = (bytes, 0);
    loop {
        match rest {
            [b'$', channel, high, low, after @ ..] => {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                let Some((packet, after)) = after.split_at_checked(length) else { return frames };
                frames += u64::from(*channel == 0 && packet.get(1).is_some_and(|byte| byte & 0x80 != 0));
                rest = after;
            }
            _ => {
                let Some(end) = rest.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { return frames };
                rest = rest.get(end + 4..).unwrap_or_default();
            }
        }
    }
}

fn files(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if path.is_file() {
        return Ok(vec![path.to_path_buf()]);
    }
    let entries = std::fs::read_dir(path)?;
    Ok(entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::markers;

    #[test]
    fn interleaved_frames_are_counted_by_their_markers() {
        let packet = |channel: u8, marker: u8| [b'$', channel, 0, 4, 0x80, 96 | marker, 0, 1];
        let mut bytes = [packet(0, 0), packet(0, 0x80), packet(1, 0x80)].concat();
        bytes.extend_from_slice(b"RTSP/1.0 200 OK\r\nCSeq: 5\r\n\r\n");
        bytes.extend_from_slice(&[packet(0, 0x80), packet(0, 0x80)].concat());
        assert_eq!(markers(&bytes), 3);
        assert_eq!(markers(bytes.split_last().unwrap().1), 2, "the last one is cut");
    }
}

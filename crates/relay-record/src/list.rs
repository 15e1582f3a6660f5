//! What there is on the disk.

use std::{
    fs::{File, Metadata},
    io,
    path::Path,
    time::{Duration, UNIX_EPOCH},
};

use relay_media::UtcTime;
use relay_mp4::{FINISHED_HEAD_BYTES, MOVIE_HEAD_BYTES, finished_moov_offset, movie_duration};

use crate::{disk::read_at, name::start_of};

/// One recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recording {
    /// Its file's name.
    pub name: String,
    /// When it begins to play.
    pub start: UtcTime,
    /// How long it plays. Of a running file: up to its last write, by the file's own time.
    pub duration: Duration,
    /// Its size.
    pub bytes: u64,
    /// Closed: an ordinary file that seeks.
    pub finished: bool,
}

/// The recordings of `stream` in `dir`, oldest first; none if there is no such directory yet. Two short reads a file,
/// whatever its size.
///
/// # Errors
/// The directory can't be read.
pub fn list(dir: &Path, stream: &str) -> io::Result<Vec<Recording>> {
    let entries = match std::fs::read_dir(dir.join(stream)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut recordings = Vec::new();
    for entry in entries {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let Some(start) = start_of(&name) else { continue };
        // A file that is gone since, or can't be read, is no recording to play.
        if let Ok(recording) = look_at(&entry.path(), name, start) {
            recordings.extend(recording);
        }
    }
    recordings.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(recordings)
}

fn look_at(path: &Path, name: String, start: UtcTime) -> io::Result<Option<Recording>> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() == 0 {
        return Ok(None);
    }
    let played = played(&file)?;
    let duration = played.unwrap_or_else(|| until_last_write(&metadata, start));
    Ok(Some(Recording { name, start, duration, bytes: metadata.len(), finished: played.is_some() }))
}

/// How long a finished file plays; `None` for one that isn't.
pub(crate) fn played(file: &File) -> io::Result<Option<Duration>> {
    let head = read_at(file, 0, FINISHED_HEAD_BYTES)?;
    let Some(at) = finished_moov_offset(&head) else { return Ok(None) };
    Ok(movie_duration(&read_at(file, at, MOVIE_HEAD_BYTES)?))
}

fn until_last_write(metadata: &Metadata, start: UtcTime) -> Duration {
    let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let nanos = modified.and_then(|since| i64::try_from(since.as_nanos()).ok()).unwrap_or(0);
    let nanos = UtcTime::from_unix_nanos(nanos).nanos_since(start);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
}

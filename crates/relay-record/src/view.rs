//! A recording that is still written, seen as it stood at one moment: an ordinary file that seeks and doesn't change.

use std::{fs::File, io, path::Path};

use relay_mp4::{Finale, Scan, Scanner};

use crate::disk::read_at;

/// What would make the first `bytes` of the recording at `path` an ordinary file: its `head`, then the file's own bytes
/// from there up to `at`, then its `moov`. The same for the same `bytes` for as long as the file is there, whether it
/// grows, is finished, or is mended. `None` if they are finished as they are, hold no whole fragment, or are no
/// recording. Reads the boxes around the media, not the media: 200 bytes or so of each fragment, and its sample table.
///
/// # Errors
/// The file can't be read.
pub fn finish_view(path: &Path, bytes: u64) -> io::Result<Option<Finale>> {
    let file = File::open(path)?;
    let len = file.metadata()?.len().min(bytes);
    match scan(&file, len)? {
        Scan::Fragments(muxer) => muxer.finish().map(Some).map_err(io::Error::other),
        Scan::Finished | Scan::Empty | Scan::Foreign => Ok(None),
    }
}

/// What the first `len` bytes of a file are.
pub(crate) fn scan(file: &File, len: u64) -> io::Result<Scan> {
    let mut scanner = Scanner::new(len);
    while let Some(range) = scanner.wants() {
        let wanted = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
        scanner.supply(&read_at(file, range.start, wanted)?);
    }
    Ok(scanner.finish())
}

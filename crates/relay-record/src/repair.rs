//! Mends what a crash left: cuts torn tails off, finishes files as if they had been closed.

use std::{
    fs::{File, OpenOptions},
    io::{self, IoSlice},
    path::{Path, PathBuf},
};

use relay_mp4::Scan;
use rustix::fs::FlockOperation;

use crate::{disk::DiskFile, list::played, name::start_of, view::scan};

/// Looks for files of `stream` in `dir` that were never closed, and mends one with every step of the iterator. A file
/// that another process is writing is left alone.
///
/// # Errors
/// The directory can't be read; one that isn't there has nothing to mend.
pub fn repair(dir: &Path, stream: &str) -> io::Result<Repair> {
    let entries = match std::fs::read_dir(dir.join(stream)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Repair { torn: Vec::new() }),
        Err(error) => return Err(error),
    };
    let mut torn = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let ours = path.file_name().and_then(|name| name.to_str()).and_then(start_of).is_some();
        // What can't be opened is told about when its turn comes.
        let finished = || File::open(&path).and_then(|file| played(&file));
        if ours && path.is_file() && !matches!(finished(), Ok(Some(_))) {
            torn.push(path);
        }
    }
    torn.sort_unstable_by(|a, b| b.cmp(a));
    Ok(Repair { torn })
}

/// The files to mend, oldest first.
#[derive(Debug)]
pub struct Repair {
    /// Newest first: the next one is taken from the end.
    torn: Vec<PathBuf>,
}

/// What became of one file.
#[derive(Debug)]
pub struct Repaired {
    /// The file.
    pub path: PathBuf,
    /// What was done.
    pub outcome: Outcome,
}

/// What a repair does.
#[derive(Debug)]
pub enum Outcome {
    /// It plays up to its last whole fragment, and seeks; this many bytes behind that were torn.
    Finished {
        /// Bytes cut off.
        cut: u64,
    },
    /// It held no whole fragment, and is gone.
    Removed,
    /// Another process writes it.
    InUse,
    /// It has the name of a recording but is none.
    Foreign,
    /// It stays as it is: it could not be read or written.
    Failed(io::Error),
}

impl Iterator for Repair {
    type Item = Repaired;

    fn next(&mut self) -> Option<Repaired> {
        let path = self.torn.pop()?;
        let outcome = mend(&path).unwrap_or_else(Outcome::Failed);
        Some(Repaired { path, outcome })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.torn.len(), Some(self.torn.len()))
    }
}

impl ExactSizeIterator for Repair {}

fn mend(path: &Path) -> io::Result<Outcome> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    if let Err(rustix::io::Errno::WOULDBLOCK) = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        return Ok(Outcome::InUse);
    }
    let len = file.metadata()?.len();
    match scan(&file, len)? {
        Scan::Finished => Ok(Outcome::Finished { cut: 0 }),
        Scan::Foreign => Ok(Outcome::Foreign),
        Scan::Empty => {
            std::fs::remove_file(path)?;
            Ok(Outcome::Removed)
        }
        Scan::Fragments(muxer) => {
            let finale = muxer.finish().map_err(io::Error::other)?;
            // The torn tail goes first: were the index shorter than it, the rest would stay behind.
            file.truncate(finale.at)?;
            file.write_at(finale.at, &mut [IoSlice::new(&finale.moov)])?;
            file.sync()?;
            file.write_at(0, &mut [IoSlice::new(&finale.head)])?;
            file.sync()?;
            Ok(Outcome::Finished { cut: len.saturating_sub(finale.at) })
        }
    }
}

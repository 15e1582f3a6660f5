//! Why something could not be written.

use std::{io, path::PathBuf};

use relay_mp4::MuxError;

/// A write that failed: what was being done to which file, and how the system put it.
#[derive(Debug, thiserror::Error)]
#[error("can't {action} {}: {source}", path.display())]
pub struct WriteError {
    /// What was tried: "create", "write", …
    pub action: &'static str,
    /// On which file or directory.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// What to do about a [`WriteError`]; in every case: pause, retry later, begin a new file at a key frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WriteErrorKind {
    /// The disk or a quota is full: retention may mend it, or a person.
    Full,
    /// The directory can't be written, or is not there: a person has to mend it.
    Unwritable,
    /// A sync failed: what of the file is on the disk is unknown since the last one that succeeded.
    Sync,
    /// Anything else.
    Io,
}

impl WriteErrorKind {
    /// A fixed word for counting.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "disk_full",
            Self::Unwritable => "unwritable",
            Self::Sync => "sync_failed",
            Self::Io => "io",
        }
    }
}

impl WriteError {
    pub(crate) fn new(action: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self { action, path: path.into(), source }
    }

    pub(crate) fn mux(path: impl Into<PathBuf>, error: MuxError) -> Self {
        Self::new("lay out", path, io::Error::other(error))
    }

    /// What to do about it.
    pub fn kind(&self) -> WriteErrorKind {
        use io::ErrorKind::{
            FileTooLarge, NotADirectory, NotFound, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull,
        };
        match self.source.kind() {
            StorageFull | QuotaExceeded | FileTooLarge => WriteErrorKind::Full,
            PermissionDenied | ReadOnlyFilesystem | NotFound | NotADirectory => WriteErrorKind::Unwritable,
            _ if self.action == SYNC => WriteErrorKind::Sync,
            _ => WriteErrorKind::Io,
        }
    }
}

/// The action of a failed sync.
pub(crate) const SYNC: &str = "sync";

//! What can go wrong.

use relay_media::BitstreamError;

/// Why something can't be written as MP4.
#[derive(Debug, thiserror::Error)]
pub enum MuxError {
    /// No track, more than [`TRACKS_MAX`](crate::TRACKS_MAX), or a run names one that the file doesn't have.
    #[error("a file has 1 to {} tracks and runs of those only", crate::TRACKS_MAX)]
    Tracks,
    /// A fragment without a sample, or with more than [`FRAGMENT_SAMPLES_MAX`](crate::FRAGMENT_SAMPLES_MAX) samples
    /// or [`FRAGMENT_BYTES_MAX`](crate::FRAGMENT_BYTES_MAX) bytes.
    #[error("a fragment of {samples} samples and {bytes} bytes")]
    FragmentSize {
        /// Its samples.
        samples: usize,
        /// Their bytes.
        bytes: usize,
    },
    /// The file holds [`SAMPLES_MAX`](crate::SAMPLES_MAX) samples.
    #[error("the file has {} samples and takes no more", crate::SAMPLES_MAX)]
    FileFull,
    /// The box library refused.
    #[error(transparent)]
    Box(#[from] mp4_atom::Error),
}

/// Why bytes can't be read as a recording of ours: what, and where in the file.
#[derive(Debug, thiserror::Error)]
#[error("{what} at byte {offset}")]
pub struct ReadError {
    /// Where in the file.
    pub offset: u64,
    /// What was wrong.
    pub what: String,
}

impl ReadError {
    pub(crate) fn new(offset: u64, what: impl Into<String>) -> Self {
        Self { offset, what: what.into() }
    }
}

impl From<BitstreamError> for ReadError {
    fn from(error: BitstreamError) -> Self {
        Self::new(0, error.to_string())
    }
}

impl From<mp4_atom::Error> for ReadError {
    fn from(error: mp4_atom::Error) -> Self {
        Self::new(0, error.to_string())
    }
}

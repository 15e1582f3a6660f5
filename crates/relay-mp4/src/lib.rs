//! Fragmented MP4 (ISO/IEC 14496-12): fragments while a recording runs, an ordinary seekable file once it is finished.
//!
//! The layout is hybrid. A running file is `ftyp`, a 16-byte `free`, a `moov` with `mvex`, then one `prft`, `moof` and
//! `mdat` per fragment; it plays up to its last whole fragment. To finish it, a full `moov` is appended, and once that
//! is on disk the first bytes are overwritten: the `free` becomes the header of one `mdat` that spans everything up to
//! the appended `moov`. A crash at any point leaves a file that plays.
//!
//! [`Muxer`] writes, [`Scanner`] reads a file box by box to repair it, [`read_samples`] reads one whole;
//! [`CmafReader`] reads other people's fragments as they come. Bytes in, values out: files are opened elsewhere.

mod cmaf;
mod entry;
mod error;
mod fragment;
mod movie;
mod muxer;
mod read;
mod scan;
mod table;
mod walk;

pub use cmaf::{CMAF_SAMPLES_MAX, CmafReader, CmafTrack, CmafUnit};
pub use error::{MuxError, ReadError};
pub use muxer::{Finale, Fragment, Muxer, Run, Sample, Start};
pub use read::{SampleInfo, TrackSamples, read_samples, read_start};
pub use scan::{Scan, Scanner};
pub use walk::{FINISHED_HEAD_BYTES, MOVIE_HEAD_BYTES, finished_moov_offset, movie_duration};

/// The most tracks of a file: one video and a few audio tracks are usual.
pub const TRACKS_MAX: usize = 8;

/// The most samples of a file, all tracks together, so that its tables have a bound: two hours of 25 fps video with
/// 48 kHz AAC are 518,400 samples. A sample costs at most 40 bytes here (size 4, duration run 8, offset run 16, key
/// frame 4, chunk 8), so 20 MiB; a minute of it costs 20 KiB.
pub const SAMPLES_MAX: usize = 1 << 19;

/// The most samples of a fragment: 10 s of 120 fps video with 20 ms audio frames fits twice.
pub const FRAGMENT_SAMPLES_MAX: usize = 4_096;

/// The most bytes of media in a fragment: 2 s at 128 Mbit/s. Far below what a 32-bit `mdat` can say.
pub const FRAGMENT_BYTES_MAX: usize = 32 << 20;

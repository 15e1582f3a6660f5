//! Live Matroska (RFC 9559 in EBML, RFC 8794), as Kinesis Video Streams takes it: bytes in, values out.
//!
//! A session is an EBML header and a Segment of unknown size: Info, Tracks, then clusters of SimpleBlocks, each
//! beginning with a key frame and telling an absolute time in milliseconds, and tags between them. [`Writer`] writes
//! one without copying a payload, [`Reader`] reads it from pieces of any size and refuses what is malformed, with the
//! byte at which it is.
//!
//! # Times
//!
//! A tick of a session is a millisecond. A cluster's own time is the caller's choice; a block's is its cluster's plus
//! its presentation time since [`ClusterStart::media`], rounded to the nearest millisecond: half a millisecond off at
//! most, while a tick of 90 kHz is 11 µs. Two packets of a track that are a millisecond or more apart therefore never
//! share a time and never change places. A packet less than that behind the latest of its track, as from a camera that
//! repeats its timestamps, is written one millisecond behind it; only one that is less than a millisecond off another
//! and shown in another order than it is decoded may share that one's time.
//!
//! A block tells its time in 16 bits behind its cluster's, so a cluster ends after [`CLUSTER_MS_MAX`]: the writer then
//! refuses the block with [`WriteError::ClusterFull`] and goes on with the next cluster. A block before its cluster's
//! start is refused too: Matroska knows negative times, but the service takes a fragment's time for that of its first
//! frame.

mod ebml;
mod element;
mod error;
mod header;
mod reader;
mod tag;
mod track;
mod writer;

pub use element::Element;
pub use error::{Fault, ReadError, WriteError};
pub use header::{Info, Session};
pub use reader::{Block, Event, Reader, Sessions, read_all};
pub use tag::{END_OF_FRAGMENT, Tag};
pub use track::{TrackEntry, TrackMedia};
pub use writer::{BLOCK_HEAD_BYTES, CLUSTER_HEAD_BYTES, ClusterStart, Start, Writer};

/// The most tracks of a session. The service takes three.
pub const TRACKS_MAX: usize = 8;

/// The most milliseconds from a cluster's start to a block in it: 16 bits with a sign (RFC 9559 §10.1).
pub const CLUSTER_MS_MAX: u64 = i16::MAX as u64;

/// The latest time of a cluster in milliseconds, in the year 2262: readers count nanoseconds in 64 bits with a sign.
pub const TIMECODE_MS_MAX: u64 = i64::MAX as u64 / 1_000_000 - CLUSTER_MS_MAX;

/// The most bytes of a block: a key frame of 2 s at 128 Mbit/s. The service takes 50 MB in a fragment.
pub const BLOCK_BYTES_MAX: usize = 32 << 20;

/// The most bytes of a track's CodecPrivate, as the service's own producer has it.
pub const CODEC_PRIVATE_BYTES_MAX: usize = 1 << 20;

/// The most tags written for a fragment, as the service takes them.
pub const TAGS_MAX: usize = 10;

/// The most bytes of a tag's name, as the service takes them.
pub const TAG_NAME_BYTES_MAX: usize = 128;

/// The most bytes of a tag's value, as the service takes them.
pub const TAG_VALUE_BYTES_MAX: usize = 256;

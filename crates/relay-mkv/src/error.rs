//! What can go wrong.

use relay_media::TrackId;

use crate::{BLOCK_BYTES_MAX, CLUSTER_MS_MAX, Element, TAG_NAME_BYTES_MAX, TAG_VALUE_BYTES_MAX, TAGS_MAX, TRACKS_MAX};

/// Why something can't be written as Matroska. The [`Writer`](crate::Writer) is as it was before the call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// No track, more than [`TRACKS_MAX`], or two with the same [`TrackId`].
    #[error("a session has 1 to {TRACKS_MAX} tracks, each once")]
    Tracks,
    /// The packet's track is none of the session's.
    #[error("track {} is not in the header", .0.0)]
    UnknownTrack(TrackId),
    /// The packet's track is not what the header says any more, such as after new parameter sets: that is a new
    /// session.
    #[error("track {} is not what the header says", .0.0)]
    TrackChanged(TrackId),
    /// A block outside of a cluster: none was begun, or tags closed it.
    #[error("no cluster is open")]
    NoCluster,
    /// The first picture of a cluster is not a key frame.
    #[error("a cluster begins with a key frame")]
    NotKey,
    /// A cluster's time is not after all blocks before it.
    #[error("a cluster at {timecode_ms} ms behind a block at {last_ms} ms")]
    NotRising {
        /// The time asked for.
        timecode_ms: u64,
        /// The latest block before.
        last_ms: u64,
    },
    /// A cluster's time is beyond [`TIMECODE_MS_MAX`](crate::TIMECODE_MS_MAX).
    #[error("{0} ms is beyond the time that can be told in nanoseconds")]
    Timecode(u64),
    /// A block before its cluster's start.
    #[error("a block {0} ms before its cluster")]
    BeforeCluster(u64),
    /// A block more than [`CLUSTER_MS_MAX`] behind its cluster's start: it needs a new cluster.
    #[error("a block {0} ms into its cluster, at most {CLUSTER_MS_MAX}")]
    ClusterFull(u64),
    /// A packet without a byte, or with more than [`BLOCK_BYTES_MAX`].
    #[error("a block of {0} bytes, of 1 to {BLOCK_BYTES_MAX}")]
    BlockSize(usize),
    /// No tag or more than [`TAGS_MAX`], a name of no byte or more than [`TAG_NAME_BYTES_MAX`], or a value of more
    /// than [`TAG_VALUE_BYTES_MAX`].
    #[error("1 to {TAGS_MAX} tags, names of 1 to {TAG_NAME_BYTES_MAX} bytes, values of at most {TAG_VALUE_BYTES_MAX}")]
    Tags,
}

/// Why bytes are not the Matroska that is read here: what, and where in the stream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{fault} at byte {offset}")]
pub struct ReadError {
    /// Where the faulty element or value begins, counted from the stream's first byte.
    pub offset: u64,
    /// What is wrong.
    pub fault: Fault,
}

/// What is wrong with bytes that should be Matroska.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// An element ID that begins with four zero bits, or is all zeros or all ones (RFC 8794 §5).
    #[error("no element ID")]
    Id,
    /// A size of more than eight bytes (RFC 8794 §6).
    #[error("a malformed size of {0}")]
    Size(Element),
    /// A size that is not told, where only a Segment and a Cluster need not tell theirs.
    #[error("{0} of unknown size")]
    UnknownSize(Element),
    /// An element larger than its limit here.
    #[error("{element} of {size} bytes, at most {max}")]
    TooLarge {
        /// The element.
        element: Element,
        /// Its size.
        size: u64,
        /// The limit.
        max: u64,
    },
    /// An element that ends behind the element it stands in.
    #[error("{0} ends behind its parent")]
    Overrun(Element),
    /// The end of an element cuts off the ID or size of another within it.
    #[error("half a head at the end of {0}")]
    Cut(Element),
    /// The stream does not begin with an EBML header.
    #[error("{0} where the EBML header should be")]
    NoHeader(Element),
    /// The DocType is not `matroska`.
    #[error("a document of type {0:?}, not matroska")]
    DocType(String),
    /// It takes a later reader than this one.
    #[error("{0} is {1}, beyond what is read here")]
    Version(Element, u64),
    /// An element where it may not be.
    #[error("{element} in {parent}")]
    Unexpected {
        /// The element.
        element: Element,
        /// Where it stands.
        parent: Element,
    },
    /// An element without one that it must have, or one that another must come before.
    #[error("no {element} in {parent}")]
    Missing {
        /// What is missing.
        element: Element,
        /// Where.
        parent: Element,
    },
    /// An element, or a track's number, for the second time.
    #[error("a second {0}")]
    Duplicate(Element),
    /// A value that its element can't have.
    #[error("{element} is {detail}")]
    Value {
        /// The element.
        element: Element,
        /// What about it.
        detail: &'static str,
    },
    /// A track that is neither video nor audio.
    #[error("track type {0}, neither video nor audio")]
    TrackType(u64),
    /// A block of a track that the header doesn't have.
    #[error("a block of track {0}, which the header doesn't have")]
    UnknownTrack(u64),
    /// Several frames in a block (RFC 9559 §10.3).
    #[error("a block with lacing")]
    Laced,
    /// Another EBML header, where only one session was allowed.
    #[error("a second session")]
    SecondSession,
    /// Something behind the end of a Segment that told its size.
    #[error("{0} behind the Segment's end")]
    Trailing(Element),
    /// The stream ended within an element, or before a Segment.
    #[error("the stream ends within {0}")]
    Truncated(Element),
}

impl Fault {
    pub(crate) fn at(self, offset: u64) -> ReadError {
        ReadError { offset, fault: self }
    }
}

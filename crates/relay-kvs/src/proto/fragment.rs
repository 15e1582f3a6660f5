//! A fragment: what the service acknowledges, and what is sent, kept and sent again as a whole.

use std::time::Instant;

use bytes::Bytes;

/// A closed fragment, ready for the wire: a cluster that begins with a key frame, and an end-of-fragment tag.
///
/// Its bytes are made once. Sent again they are the same, whatever the session.
#[derive(Clone, Debug)]
pub struct Fragment {
    /// The time of its first frame in milliseconds since 1970. No two fragments of a stream share one.
    pub timecode_ms: u64,
    /// The time of its last frame; the next fragment begins later.
    pub last_ms: u64,
    /// What a session must begin with to carry it: EBML header, Info and Tracks.
    pub header: Bytes,
    /// Its bytes, in pieces: the payloads are those of the packets, not copies.
    pub body: Vec<Bytes>,
    /// How many packets are in it.
    pub packets: u32,
    /// When its first frame arrived.
    pub first_arrival: Instant,
}

/// What a piece of a body costs beside its bytes: its handle, and a share of the buffer it points into.
const PIECE_BYTES: usize = 48;

impl Fragment {
    /// Bytes on the wire.
    pub fn wire_bytes(&self) -> usize {
        self.body.iter().map(Bytes::len).sum()
    }

    /// Bytes of memory that it takes.
    pub fn memory_bytes(&self) -> usize {
        self.wire_bytes() + self.body.len() * PIECE_BYTES
    }
}

/// Why packets were not handed to the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DropReason {
    /// A codec that the service does not take.
    Codec,
    /// A second video track, or more than three tracks.
    Tracks,
    /// An empty packet or one beyond any plausible size.
    PacketSize,
    /// It came before the first key frame, or new parameter sets came without one.
    NoKeyFrame,
    /// More than ten seconds behind the last key frame: no legal place to cut, and the service refuses longer ones.
    GopTooLong,
    /// A key frame's pictures are more than a fragment may hold.
    FragmentTooLarge,
    /// A sound track changed its parameters between two key frames.
    TrackChange,
    /// A time of day that can't be told in Matroska, or a packet that can't be written.
    Unwritable,
    /// The window was full, and there was no room on disk.
    Window,
    /// The spool was full.
    SpoolFull,
    /// The spool could not give it back.
    SpoolRead,
    /// The service refuses this fragment for good: it was set aside.
    Poison,
    /// The end came before the service took it, and there is no spool.
    Stopped,
}

impl DropReason {
    /// Every reason.
    pub const ALL: [Self; 13] = [
        Self::Codec,
        Self::Tracks,
        Self::PacketSize,
        Self::NoKeyFrame,
        Self::GopTooLong,
        Self::FragmentTooLarge,
        Self::TrackChange,
        Self::Unwritable,
        Self::Window,
        Self::SpoolFull,
        Self::SpoolRead,
        Self::Poison,
        Self::Stopped,
    ];

    /// The word for it in the API and the metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Codec => "codec",
            Self::Tracks => "tracks",
            Self::PacketSize => "packet_size",
            Self::NoKeyFrame => "no_key_frame",
            Self::GopTooLong => "gop_too_long",
            Self::FragmentTooLarge => "fragment_too_large",
            Self::TrackChange => "track_change",
            Self::Unwritable => "unwritable",
            Self::Window => "window",
            Self::SpoolFull => "spool_full",
            Self::SpoolRead => "spool_read",
            Self::Poison => "poison",
            Self::Stopped => "stopped",
        }
    }
}

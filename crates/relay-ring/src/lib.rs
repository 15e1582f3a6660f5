//! The leaky queue: one writer, any number of cursors, nothing ever blocks the writer.
//!
//! A [`Publisher`] appends packets, capped by bytes, media time and count, whichever comes first. Every [`Cursor`]
//! reads at its own pace, leaks alone by its own [`LeakPolicy`], and accounts for every packet. The ring is also the
//! GOP cache: a new cursor joins at the newest retained key frame.
//!
//! One lock, std only, no task, no clock: time is what the packets say. Not here: codecs, protocols, and archives (a
//! reader that must hold more than the ring does keeps `Arc<Packet>`s of its own).

use std::{fmt, sync::Arc, time::Duration};

mod cursor;
mod leak;
mod publisher;
mod reader;
mod state;
mod stats;
mod sync;
mod window;

pub use cursor::{Cursor, CursorMonitor, Ring, Start};
pub use leak::LeakPolicy;
pub use publisher::Publisher;
pub use stats::{CursorStats, Dropped, RingStats};

/// A new ring that never holds more than `limits` allow, and the right to write to it.
pub fn ring(limits: Limits) -> (Publisher, Ring) {
    let shared = Arc::new(state::Shared::new(limits));
    (Publisher::new(Arc::clone(&shared)), Ring::new(shared))
}

/// What a ring may hold; the oldest packets are evicted at whichever is reached first. It is used in full only while a
/// cursor lags: otherwise a ring holds its newest GOP and what is on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of payload. A packet larger than this is evicted as it is pushed.
    pub max_bytes: usize,
    /// Media time from the oldest packet to the newest. The newest GOP is kept whole even if it is longer.
    pub max_duration: Duration,
    /// Packets; bounds the ring's own memory (an entry, its `Packet` and shared counts: about 250 bytes each).
    pub max_packets: usize,
}

/// Why a ring was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The source came to its natural end.
    Ended,
    /// The stream was stopped.
    Stopped,
    /// The publisher was dropped without a word: its task failed or was aborted.
    Abandoned,
}

/// The ring is closed and drained; nothing will come any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed {
    /// Why it was closed.
    pub reason: CloseReason,
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.reason {
            CloseReason::Ended => "the stream came to its end",
            CloseReason::Stopped => "the stream was stopped",
            CloseReason::Abandoned => "the source was dropped without closing the stream",
        })
    }
}

impl std::error::Error for Closed {}

//! Snapshots of the counters.

use std::time::Duration;

/// What a ring holds and what went through it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingStats {
    /// Packets retained.
    pub packets: usize,
    /// Bytes of payload retained.
    pub bytes: usize,
    /// Media time from the oldest retained packet to the newest.
    pub span: Duration,
    /// Retained packets a cursor can join at.
    pub join_points: usize,
    /// Packets ever pushed.
    pub pushed_packets: u64,
    /// Bytes of payload ever pushed.
    pub pushed_bytes: u64,
    /// GOPs that outgrew the byte or the count cap, so that their key frame was evicted while they were still growing
    /// and no viewer could join.
    pub oversized_gops: u64,
    /// Key frames asked for ahead of time; requests before one comes count as one.
    pub key_frame_requests: u64,
}

/// What happened to the packets of one cursor: `received == delivered + dropped.total() + buffered`, at any moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CursorStats {
    /// Packets pushed since the place where the cursor started, that packet included.
    pub received: u64,
    /// Packets handed out.
    pub delivered: u64,
    /// Packets lost, by reason.
    pub dropped: Dropped,
    /// Packets that wait in the ring to be handed out.
    pub buffered: u64,
    /// Media time from the oldest packet not yet delivered to the newest of its kind (video or audio), zero if nothing
    /// is buffered. Time in which the source was away is not media time.
    pub lag: Duration,
}

/// Packets lost, by the reason they were lost for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// A `Live` cursor was late: shed, or jumped over.
    pub lag: u64,
    /// Not decodable: they came before the key frame the cursor waited for.
    pub no_key_frame: u64,
    /// Evicted at a cap of the ring before the cursor read them.
    pub cap: u64,
}

impl CursorStats {
    /// The account of two cursors as one: their packets together, and the longer lag.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            received: self.received + other.received,
            delivered: self.delivered + other.delivered,
            dropped: Dropped {
                lag: self.dropped.lag + other.dropped.lag,
                no_key_frame: self.dropped.no_key_frame + other.dropped.no_key_frame,
                cap: self.dropped.cap + other.dropped.cap,
            },
            buffered: self.buffered + other.buffered,
            lag: self.lag.max(other.lag),
        }
    }
}

impl Dropped {
    /// All of them.
    pub fn total(self) -> u64 {
        self.lag + self.no_key_frame + self.cap
    }
}

//! What can be seen of a producer.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use super::fragment::DropReason;

/// What the producer is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// There is nothing to send.
    #[default]
    Idle,
    /// A connection is being made.
    Connecting,
    /// Sending what is new.
    Live,
    /// Sending what an outage left.
    Backfill,
    /// Waiting for the next try.
    Backoff,
}

impl State {
    /// The word for it in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Connecting => "connecting",
            Self::Live => "live",
            Self::Backfill => "backfill",
            Self::Backoff => "backoff",
        }
    }
}

/// Counters since the start of this life, and what is held now.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// What it is doing.
    pub state: State,
    /// Why the last connection failed, in plain words; empty once a fragment was PERSISTED since.
    pub failure: String,
    /// Failures in a row.
    pub attempt: u32,
    /// Packets taken.
    pub packets_in: u64,
    /// Packets that an earlier life left on disk.
    pub packets_restored: u64,
    /// Packets PERSISTED.
    pub packets_persisted: u64,
    /// Packets dropped, by reason.
    pub packets_dropped: BTreeMap<DropReason, u64>,
    /// Packets held: in no fragment yet, in memory, on disk.
    /// `packets_in + packets_restored = packets_persisted + packets_dropped + packets_buffered`.
    pub packets_buffered: u64,
    /// Fragments not PERSISTED.
    pub fragments_buffered: u64,
    /// Bytes of memory in use for packets and fragments.
    pub memory_bytes: usize,
    /// Bytes on disk.
    pub disk_bytes: u64,
    /// From the first to the last frame not PERSISTED.
    pub buffered_ms: u64,
    /// Fragments PERSISTED.
    pub fragments_persisted: u64,
    /// Their bytes on the wire.
    pub bytes_persisted: u64,
    /// Fragments that had to be sent again.
    pub fragments_resent: u64,
    /// Acknowledgements by event.
    pub acks: BTreeMap<&'static str, u64>,
    /// Error acknowledgements by number.
    pub error_acks: BTreeMap<u32, u64>,
    /// Acknowledgements of no fragment that was sent there, or under another's number.
    pub acks_ignored: u64,
    /// Objects among the acknowledgements that are none.
    pub acks_malformed: u64,
    /// PutMedia calls begun.
    pub puts: u64,
    /// Connections ended, or not come to be, by cause.
    pub reconnects: BTreeMap<&'static str, u64>,
    /// Now minus the arrival of the first frame, of the fragment PERSISTED last.
    pub persisted_lag: Option<Duration>,
    /// From the last byte written to each acknowledgement, of the latest.
    pub ack_latency: BTreeMap<&'static str, Duration>,
    /// The latest fragments set aside; the counter is `packets_dropped[Poison]`.
    pub aside: VecDeque<Aside>,
    /// Times there was no key frame within ten seconds, or within what a fragment may hold.
    pub long_gops: u64,
    /// How far fragment times run ahead of the time of day, because that went back.
    pub ahead_ms: u64,
    /// Whether the service takes a second connection while the first is open, once that is known.
    pub takes_second_connection: Option<bool>,
}

impl Stats {
    /// What a person should know of, in plain words: nothing of it ends the stream.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if !self.failure.is_empty() {
            problems.push(self.failure.clone());
        }
        if self.long_gops > 0 {
            problems.push(format!(
                "{} times there was no key frame for 10 s, the longest fragment that the service takes, and what came \
                 after was dropped: set the camera's key frame interval to 2 s",
                self.long_gops
            ));
        }
        if self.ahead_ms > AHEAD_MAX_MS {
            problems.push(format!(
                "the time of day went back: fragments are {} s ahead of it, so that none shares its time with an \
                 earlier one",
                self.ahead_ms / 1_000
            ));
        }
        let dropped = |reason| self.packets_dropped.get(&reason).copied().unwrap_or(0);
        for (reason, what) in [
            (
                DropReason::Codec,
                "packets have a codec that the service does not take (H.264, H.265, AAC and G.711 it does); the other \
                 tracks go on",
            ),
            (
                DropReason::Tracks,
                "packets belong to a second picture or a fourth track, which the service does not take",
            ),
            (
                DropReason::Window,
                "packets were lost: the window was full; a longer one or a spool would have kept them",
            ),
            (DropReason::SpoolFull, "packets were lost: the spool was full"),
            (DropReason::SpoolRead, "packets were lost: the spool's disk did not give them back"),
            (DropReason::Poison, "packets are in fragments that the service refuses for good; they were set aside"),
        ] {
            if dropped(reason) > 0 {
                problems.push(format!("{} {what}", dropped(reason)));
            }
        }
        problems
    }
}

/// Fragments further ahead of the time of day than this are a problem to be told.
const AHEAD_MAX_MS: u64 = 5_000;

/// A fragment that the service refuses for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aside {
    /// Its time.
    pub timecode_ms: u64,
    /// Its packets.
    pub packets: u32,
    /// Its bytes.
    pub bytes: usize,
    /// The number of the error.
    pub error: u32,
}

//! What a scrape sees: plain values, read at one moment.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use relay_media::{Track, UtcTime};
use relay_ring::RingStats;

/// A stream: its source, its ring and its sinks.
#[derive(Clone, Debug)]
pub struct StreamSnapshot {
    /// Its name.
    pub name: String,
    /// Its source.
    pub source: SourceSnapshot,
    /// Its ring.
    pub ring: RingStats,
    /// Its sinks, in the order of the plan.
    pub sinks: Vec<SinkSnapshot>,
}

/// How a source is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceState {
    /// Setting up a connection, or connected and not yet healthy.
    Connecting,
    /// Video flows and a key frame was seen.
    Live,
    /// Connected, but nothing useful comes.
    Stalled,
    /// Waiting before the next try.
    Backoff,
}

impl SourceState {
    /// As the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Live => "live",
            Self::Stalled => "stalled",
            Self::Backoff => "backoff",
        }
    }
}

/// A source at one moment; counters since the process started.
#[derive(Clone, Debug)]
pub struct SourceSnapshot {
    /// `"rtsp"`, `"test"`, …
    pub kind: &'static str,
    /// Without credentials.
    pub url: String,
    /// How it is.
    pub state: SourceState,
    /// Since when it is so.
    pub since: UtcTime,
    /// Times a connection became live.
    pub connects: u64,
    /// Tries since it was last live; 0 while live.
    pub attempt: u32,
    /// The newest failure in plain words; kept while live.
    pub last_error: Option<String>,
    /// The wait before the next try, while in backoff.
    pub next_try: Option<Duration>,
    /// Failures by reason.
    pub failures: BTreeMap<&'static str, u64>,
    /// Oddities of the peer that were tolerated, by name, and units dropped at ingress, by cause.
    pub quirks: BTreeMap<&'static str, u64>,
    /// Breaks in the timeline.
    pub discontinuities: u64,
    /// Packets and bytes pushed, video then audio.
    pub video: Totals,
    /// Packets and bytes pushed, audio.
    pub audio: Totals,
    /// The tracks it carries.
    pub tracks: Vec<TrackSnapshot>,
}

/// Packets and bytes since the process started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Packets.
    pub packets: u64,
    /// Payload bytes.
    pub bytes: u64,
}

/// A track and how fast it flows.
#[derive(Clone, Debug)]
pub struct TrackSnapshot {
    /// The newest parameters.
    pub track: Arc<Track>,
    /// Packets per second over the last seconds (frames per second for video), in thousandths.
    pub packets_per_second_milli: u64,
    /// Bits per second over the last seconds.
    pub bitrate_bps: u64,
    /// Media time between the last two key frames; `None` before the second.
    pub key_frame_interval: Option<Duration>,
    /// Packets whose presentation order differed from their decode order were seen.
    pub reordered: bool,
}

/// How a sink is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkState {
    /// Nothing delivered yet.
    Starting,
    /// Delivering.
    Running,
    /// Waiting before it tries again.
    Backoff,
    /// Held up by something a person may have to mend (a full disk); tries again by itself.
    Paused,
    /// It failed and is about to be restarted.
    Failed,
}

impl SinkState {
    /// As the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Backoff => "backoff",
            Self::Paused => "paused",
            Self::Failed => "failed",
        }
    }
}

/// A sink at one moment: `packets_in = packets_out + Σ packets_dropped + packets_buffered`, always.
#[derive(Clone, Debug)]
pub struct SinkSnapshot {
    /// Its name.
    pub name: String,
    /// `"record"`, `"kvs"`, …
    pub kind: &'static str,
    /// How it is.
    pub state: SinkState,
    /// Since when it is so.
    pub since: UtcTime,
    /// Packets that its cursor was to carry, and those that an earlier life left on disk.
    pub packets_in: u64,
    /// Packets delivered: written, sent, or persisted.
    pub packets_out: u64,
    /// Packets lost, by reason.
    pub packets_dropped: BTreeMap<&'static str, u64>,
    /// Packets in the ring or inside the sink, not delivered yet.
    pub packets_buffered: u64,
    /// Bytes delivered.
    pub bytes_out: u64,
    /// Media time between the newest packet of the ring and the oldest one not handed to the sink.
    pub lag: Duration,
    /// The newest failure in plain words.
    pub last_error: Option<String>,
    /// Restarts after a panic or a failure.
    pub restarts: u64,
}

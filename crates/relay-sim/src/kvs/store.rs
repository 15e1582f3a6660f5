//! What the service keeps for reading back.

use super::ingest::Media;

/// A fragment that was received whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredFragment {
    /// The number of its PutMedia session.
    pub session: u64,
    /// The number it was given.
    pub number: String,
    /// Its time: milliseconds since 1970-01-01T00:00:00Z.
    pub timecode_ms: u64,
    /// The time of its last frame.
    pub end_ms: u64,
    /// The counters stamped on its pictures, in their order.
    pub counters: Vec<u64>,
    /// Its pictures, stamped or not.
    pub pictures: usize,
    /// Its frames of sound.
    pub sounds: usize,
    /// Its bytes as Matroska.
    pub bytes: u64,
    /// A hash of its frames and their times: the same for the same fragment.
    pub hash: u64,
    /// When its first stamped picture was made: nanoseconds since 1970-01-01T00:00:00Z.
    pub first_utc_nanos: Option<i64>,
    /// When its last byte came.
    pub received_utc_nanos: i64,
    /// When PERSISTED was sent; without that it counts as lost.
    pub persisted_utc_nanos: Option<i64>,
}

impl StoredFragment {
    pub(super) fn new(session: u64, number: String, media: Media, now: i64) -> Self {
        Self {
            session,
            number,
            timecode_ms: media.timecode_ms,
            end_ms: media.end_ms,
            counters: media.counters,
            pictures: media.pictures,
            sounds: media.sounds,
            bytes: media.bytes,
            hash: media.hash,
            first_utc_nanos: media.first_utc_nanos,
            received_utc_nanos: now,
            persisted_utc_nanos: None,
        }
    }

    /// From the moment its first picture was made to its PERSISTED, in milliseconds.
    pub fn persisted_lag_ms(&self) -> Option<i64> {
        Some((self.persisted_utc_nanos? - self.first_utc_nanos?) / 1_000_000)
    }
}

/// One PutMedia session that was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutLog {
    /// Its number, rising over all streams.
    pub id: u64,
    /// The access key that signed it.
    pub access_key: String,
    /// When it was accepted: nanoseconds since 1970-01-01T00:00:00Z.
    pub started_utc_nanos: i64,
    /// When it ended.
    pub ended_utc_nanos: Option<i64>,
    /// How; `None` while it lasts.
    pub end: Option<PutEnd>,
    /// Body bytes taken.
    pub bytes: u64,
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PutEnd {
    /// The body ended and everything was acknowledged.
    Finished,
    /// The client's connection was gone.
    Gone,
    /// The service closed it: idle, or its credentials had ended, or a newer one took its place.
    Closed,
    /// A fault reset it.
    Reset,
    /// An error acknowledgement, and why.
    Error(u32, String),
}

impl PutEnd {
    /// Whether acknowledgements may have been on their way when it ended.
    pub fn is_abrupt(&self) -> bool {
        matches!(self, Self::Gone | Self::Reset)
    }
}

/// A call that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// When: nanoseconds since 1970-01-01T00:00:00Z.
    pub utc_nanos: i64,
    /// What was called.
    pub path: String,
    /// The status.
    pub status: u16,
    /// The error's name.
    pub name: String,
    /// What was said.
    pub message: String,
}

/// What was uploaded plainly under one name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Upload {
    /// Bytes.
    pub bytes: u64,
    /// Stamped frames.
    pub frames: u64,
}

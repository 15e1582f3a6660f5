//! What the planner is told, and what it asks for and tells.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use relay_media::UtcTime;
use url::Url;

use super::{cause::Cause, master::Choice};

/// How to play.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which variant of a master playlist.
    pub variant: Choice,
    /// How far from the end of a live playlist to begin; as the server says, else three target durations.
    pub live_edge: Option<Duration>,
    /// When further behind the live edge than this, jump to it. Off by default: nothing is left out that can be had.
    pub max_behind: Option<Duration>,
    /// Use parts, blocking reloads, hints and delta updates where the server offers them.
    pub low_latency: bool,
    /// After so long without a change a live playlist is frozen; three target durations if `None`.
    pub stall_timeout: Option<Duration>,
    /// The bound of the first wait between tries; it doubles.
    pub wait_initial: Duration,
    /// The longest wait between tries, whatever the cause.
    pub wait_max: Duration,
    /// Seeds the jitter of waits.
    pub seed: u64,
}

impl Default for Options {
    /// The highest variant, the usual live edge, no jumps, low latency where it is offered, waits of 250 ms to 30 s.
    fn default() -> Self {
        Self {
            variant: Choice::Highest,
            live_edge: None,
            max_behind: None,
            low_latency: true,
            stall_timeout: None,
            wait_initial: Duration::from_millis(250),
            wait_max: Duration::from_secs(30),
            seed: 0,
        }
    }
}

/// Names a request until its answer is complete or cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FetchId(pub(crate) u64);

/// A request to make: a GET.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// Names it in answers.
    pub id: FetchId,
    /// From where; `http` or `https`.
    pub url: Url,
    /// The bytes wanted; all of them if `None`.
    pub range: Option<Range>,
    /// What is expected.
    pub what: What,
    /// The last connection to there was no good: make another one.
    pub fresh: bool,
}

/// The bytes of a `Range` header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first byte.
    pub start: u64,
    /// The last byte; to the end if `None`.
    pub last: Option<u64>,
}

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum What {
    /// A playlist: may be compressed on the way.
    Playlist,
    /// A decryption key.
    Key,
    /// An initialisation section.
    Map,
    /// A segment or part: never to be compressed, since it is resumed by byte ranges.
    Media,
}

/// What came for a request. After [`End`](Self::End) or [`Failed`](Self::Failed) nothing more comes.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Status and headers, redirects followed.
    Head(Head),
    /// The next bytes of the body.
    Body(Bytes),
    /// The body is complete.
    End,
    /// It broke.
    Failed(Cause),
}

/// Status and headers of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The status code.
    pub status: u16,
    /// Where redirects led.
    pub url: Option<Url>,
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// `Content-Length`, if the body is not compressed.
    pub length: Option<u64>,
    /// `Content-Range`: the first byte, and the length of the whole.
    pub range: Option<(u64, Option<u64>)>,
    /// `ETag`.
    pub etag: Option<String>,
}

/// What the planner wants done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Make this request.
    Fetch(Fetch),
    /// Give up this one.
    Cancel(FetchId),
    /// Tell the consumer.
    Event(Event),
}

/// Which of two coupled playlists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rendition {
    /// The variant: video, or everything.
    Main,
    /// Audio in a playlist of its own.
    Audio,
}

/// What happens to the media, in order for each rendition: `Begin`, `Bytes`…, `End`, with gaps between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A segment begins: its first bytes are there.
    Begin(Begin),
    /// The next bytes of the segment, decrypted. Each byte comes once, in order, however often the origin had to be
    /// asked.
    Bytes {
        /// Whose.
        rendition: Rendition,
        /// Never empty.
        bytes: Bytes,
    },
    /// The segment ends: whole, or cut short for good. A cut access unit at its end is to be dropped then.
    End {
        /// Whose.
        rendition: Rendition,
        /// All of its bytes were handed out.
        whole: bool,
    },
    /// Media is missing here: the segment cannot be had.
    Gap {
        /// Whose.
        rendition: Rendition,
        /// Why.
        cause: Cause,
        /// How long it would have played, as far as that is known.
        duration: Duration,
    },
    /// A try failed; another one follows.
    Failed(Failure),
    /// Requests succeed and nothing new comes.
    Stalled {
        /// Whose.
        rendition: Rendition,
        /// Why.
        cause: Cause,
    },
    /// Something that changes no state but should be counted and logged.
    Notice {
        /// Whose.
        rendition: Rendition,
        /// What.
        cause: Cause,
    },
    /// Everything was handed out, and the origin says that nothing will follow.
    Ended,
}

/// The beginning of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begin {
    /// Whose.
    pub rendition: Rendition,
    /// Its media sequence number.
    pub sequence: u64,
    /// How it joins what came before.
    pub joint: Joint,
    /// Its first part was handed out before, perhaps in another encoding: units at or before the last one's time are
    /// to be dropped.
    pub overlap: bool,
    /// The time of day of its first unit, as the origin says.
    pub wall: Option<UtcTime>,
    /// How long it plays, as the origin says.
    pub duration: Duration,
    /// Its initialisation section: the same `Arc` as long as it is the same.
    pub map: Option<Arc<Bytes>>,
    /// Counts the variants that were played: another number, another encoding.
    pub variant: u32,
}

/// How a segment joins what was handed out before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Joint {
    /// It goes on.
    Seamless,
    /// Media is missing between, on the same timeline.
    Loss,
    /// A new timeline begins: EXT-X-DISCONTINUITY, or the origin started anew.
    NewTimeline,
}

/// A failed try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Whose.
    pub rendition: Rendition,
    /// What was asked for.
    pub what: What,
    /// Why it failed.
    pub cause: Cause,
    /// Failures in a row.
    pub attempt: u32,
    /// When the next try is made.
    pub next_try: Instant,
}

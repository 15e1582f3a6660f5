//! A media playlist as it was read, and how a delta update is joined to what was known (RFC 8216bis §4.4.3 to §4.4.5).

use std::{sync::Arc, time::Duration};

use relay_media::UtcTime;
use url::Url;

/// The most bytes of a playlist: a day of two-second segments with signed URLs of 90 bytes fits.
pub const PLAYLIST_BYTES_MAX: usize = 4 << 20;
/// The most segments of a playlist: a day and a half of two-second segments. One takes some 200 bytes here, so 13 MiB.
pub const SEGMENTS_MAX: usize = 1 << 16;
/// The most parts of a playlist: they are listed for the last three target durations only (RFC 8216bis §4.4.4.9).
pub const PARTS_MAX: usize = 4_096;

/// A media playlist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaPlaylist {
    /// What its URIs are relative to.
    pub url: Url,
    /// `EXT-X-TARGETDURATION`; where it is missing or zero, the longest segment.
    pub target_duration: Duration,
    /// The media sequence number of the first segment.
    pub media_sequence: u64,
    /// The discontinuity sequence number of the first segment.
    pub discontinuity_sequence: u64,
    /// The whole segments.
    pub segments: Vec<Segment>,
    /// What stands after the last segment: the beginning of the next.
    pub pending: Pending,
    /// No segment will be added.
    pub ended: bool,
    /// `EXT-X-PLAYLIST-TYPE`.
    pub kind: Option<PlaylistKind>,
    /// `EXT-X-INDEPENDENT-SEGMENTS`.
    pub independent_segments: bool,
    /// `EXT-X-PART-INF`: the longest part.
    pub part_target: Option<Duration>,
    /// What the server can do.
    pub control: ServerControl,
    /// In a delta update, the segments that it leaves out at its beginning; zero otherwise.
    pub skipped: u64,
    /// In a delta update, how many segments stand before the first `EXT-X-KEY` and before the first `EXT-X-MAP`: those
    /// have what the skipped ones had.
    pub(crate) inherit: (usize, usize),
}

/// `EXT-X-PLAYLIST-TYPE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlaylistKind {
    /// Segments are only added.
    Event,
    /// Nothing changes.
    Vod,
}

/// `EXT-X-SERVER-CONTROL`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerControl {
    /// A request may wait for a playlist that holds a certain segment or part.
    pub can_block_reload: bool,
    /// Segments further back than this from the end may be left out on request.
    pub can_skip_until: Option<Duration>,
    /// How far from the end to begin.
    pub hold_back: Option<Duration>,
    /// How far from the end to begin with parts.
    pub part_hold_back: Option<Duration>,
}

/// Part of a resource, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    /// The first byte.
    pub offset: u64,
    /// How many.
    pub length: u64,
}

/// A media segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// As written, variables replaced.
    pub uri: String,
    /// `EXT-X-BYTERANGE`.
    pub span: Option<Span>,
    /// `EXTINF`; the target duration where it is missing.
    pub duration: Duration,
    /// `EXT-X-DISCONTINUITY` stands before it.
    pub discontinuity: bool,
    /// `EXT-X-GAP`: it cannot be had.
    pub gap: bool,
    /// The time of day of its beginning: `EXT-X-PROGRAM-DATE-TIME`, or counted on from an earlier segment's.
    pub wall: Option<UtcTime>,
    /// The key that decrypts it, where it is encrypted.
    pub key: Option<Arc<Key>>,
    /// Its initialisation section.
    pub map: Option<Arc<Map>>,
    /// The parts that it is made of, where they are listed.
    pub parts: Vec<Part>,
}

/// `EXT-X-PART`: a piece of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// As written, variables replaced.
    pub uri: String,
    /// `BYTERANGE`.
    pub span: Option<Span>,
    /// How long it plays.
    pub duration: Duration,
    /// It begins with a key frame.
    pub independent: bool,
    /// It cannot be had.
    pub gap: bool,
}

/// What is known of the segment after the last one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    /// `EXT-X-DISCONTINUITY` stands before it.
    pub discontinuity: bool,
    /// The time of day of its beginning.
    pub wall: Option<UtcTime>,
    /// As in [`Segment::key`].
    pub key: Option<Arc<Key>>,
    /// As in [`Segment::map`].
    pub map: Option<Arc<Map>>,
    /// Its parts so far.
    pub parts: Vec<Part>,
    /// `EXT-X-PRELOAD-HINT`: what will come next, and may be asked for now.
    pub hints: Vec<Hint>,
}

/// `EXT-X-PRELOAD-HINT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint {
    /// A part or an initialisation section.
    pub kind: HintKind,
    /// As written, variables replaced.
    pub uri: String,
    /// Where in the resource it begins.
    pub start: u64,
    /// How long it is, where that is known.
    pub length: Option<u64>,
}

/// What a hint is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HintKind {
    /// The next part.
    Part,
    /// The next initialisation section.
    Map,
}

/// `EXT-X-KEY`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// How the segment is encrypted.
    pub method: Method,
    /// Where the key is, as written.
    pub uri: String,
    /// The initialisation vector, where it is not the media sequence number.
    pub iv: Option<[u8; 16]>,
}

/// How a segment is encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Method {
    /// The whole segment with AES-128 in CBC mode, padded (RFC 8216 §4.3.2.4).
    Aes128,
    /// Any other way: SAMPLE-AES and its kin.
    Other(String),
}

/// `EXT-X-MAP`: an initialisation section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Map {
    /// As written, variables replaced.
    pub uri: String,
    /// `BYTERANGE`.
    pub span: Option<Span>,
    /// The key that decrypts it: the one in force where the tag stands.
    pub key: Option<Arc<Key>>,
}

/// Why bytes are no media playlist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlaylistError {
    /// More than [`PLAYLIST_BYTES_MAX`].
    #[error("the playlist is larger than {PLAYLIST_BYTES_MAX} bytes")]
    TooLarge,
    /// More than [`SEGMENTS_MAX`] segments or [`PARTS_MAX`] parts.
    #[error("the playlist lists more than {SEGMENTS_MAX} segments or {PARTS_MAX} parts")]
    TooLong,
    /// The first line is not `#EXTM3U` (RFC 8216 §4.3.1.1).
    #[error("no playlist: it begins with {0:?}")]
    NoHeader(String),
    /// Not UTF-8 (RFC 8216 §4).
    #[error("the playlist is not UTF-8")]
    NotText,
    /// A number that everything else hangs on cannot be read.
    #[error("line {line} of the playlist: {text:?}")]
    Number {
        /// Counted from 1.
        line: usize,
        /// What stands there.
        text: String,
    },
    /// It is a master playlist.
    #[error("a master playlist where a media playlist was expected")]
    Master,
    /// No segment, no part, no hint: nothing to play.
    #[error("the playlist is empty")]
    Empty,
}

/// Why a delta update cannot be joined to the playlist before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the delta playlist skips segments {from} to {to}, of which some are not known")]
pub struct MergeError {
    /// The first one skipped.
    pub from: u64,
    /// The one after the last.
    pub to: u64,
}

impl MediaPlaylist {
    /// The media sequence number after the last whole segment's.
    pub fn end(&self) -> u64 {
        self.media_sequence.saturating_add(self.skipped).saturating_add(self.segments.len() as u64)
    }

    /// The segment with this media sequence number.
    pub fn segment(&self, sequence: u64) -> Option<&Segment> {
        self.segments.get(usize::try_from(sequence.checked_sub(self.media_sequence)?).ok()?)
    }

    /// Where `uri` leads.
    pub fn resolve(&self, uri: &str) -> Option<Url> {
        resolve(&self.url, uri)
    }

    /// Joins a delta update to the playlist before it (RFC 8216bis §6.2.5.1); any other playlist stays as it is.
    ///
    /// # Errors
    /// `known` doesn't hold all the segments that were skipped.
    pub fn merge(mut self, known: Option<&Self>) -> Result<Self, MergeError> {
        if self.skipped == 0 {
            return Ok(self);
        }
        let (from, to) = (self.media_sequence, self.media_sequence.saturating_add(self.skipped));
        let skipped = known.and_then(|known| {
            let index = |sequence: u64| usize::try_from(sequence.checked_sub(known.media_sequence)?).ok();
            known.segments.get(index(from)?..index(to)?)
        });
        let Some((skipped, last)) = skipped.and_then(|skipped| Some((skipped, skipped.last()?))) else {
            return Err(MergeError { from, to });
        };
        let (without_key, without_map) = self.inherit;
        for segment in self.segments.iter_mut().take(without_key) {
            segment.key.clone_from(&last.key);
        }
        for segment in self.segments.iter_mut().take(without_map) {
            segment.map.clone_from(&last.map);
        }
        if without_key > self.segments.len() {
            self.pending.key.clone_from(&last.key);
        }
        if without_map > self.segments.len() {
            self.pending.map.clone_from(&last.map);
        }
        let mut wall = last.wall.map(|wall| plus(wall, last.duration));
        for segment in self.segments.iter_mut().take_while(|segment| segment.wall.is_none()) {
            segment.wall = wall;
            wall = wall.map(|wall| plus(wall, segment.duration));
        }
        if self.pending.wall.is_none() && self.segments.last().is_none_or(|last| last.wall.is_some()) {
            self.pending.wall = wall;
        }
        self.segments.splice(..0, skipped.iter().cloned().map(|segment| Segment { parts: Vec::new(), ..segment }));
        self.skipped = 0;
        self.inherit = (0, 0);
        Ok(self)
    }

    /// How long the segments from `sequence` on play together, with the parts after the last.
    pub fn duration_from(&self, sequence: u64) -> Duration {
        let skip = usize::try_from(sequence.saturating_sub(self.media_sequence)).unwrap_or(usize::MAX);
        let segments: Duration = self.segments.iter().skip(skip).map(|segment| segment.duration).sum();
        segments.saturating_add(self.pending.parts.iter().map(|part| part.duration).sum())
    }

    /// The last segment from whose beginning at least `distance` is listed; the oldest if there is not so much.
    pub fn back_from_end(&self, distance: Duration) -> u64 {
        let mut listed: Duration = self.pending.parts.iter().map(|part| part.duration).sum();
        for (index, segment) in self.segments.iter().enumerate().rev() {
            listed = listed.saturating_add(segment.duration);
            if listed >= distance {
                return self.media_sequence.saturating_add(index as u64);
            }
        }
        self.media_sequence
    }
}

/// Where `uri` leads from `base`, if that is HTTP.
pub(crate) fn resolve(base: &Url, uri: &str) -> Option<Url> {
    base.join(uri).ok().filter(|url| matches!(url.scheme(), "http" | "https"))
}

/// `duration` later.
pub(crate) fn plus(wall: UtcTime, duration: Duration) -> UtcTime {
    wall.plus_nanos(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX))
}

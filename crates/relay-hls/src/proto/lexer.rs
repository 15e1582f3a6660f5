//! The lexer of media playlists: one pass over the lines, the order of tags kept.

use std::{sync::Arc, time::Duration};

use relay_media::UtcTime;
use url::Url;

use super::{
    attributes::{self, Attributes},
    define::Variables,
    playlist::{
        Hint, HintKind, Key, Map, MediaPlaylist, Method, PARTS_MAX, PLAYLIST_BYTES_MAX, Part, Pending, PlaylistError,
        PlaylistKind, SEGMENTS_MAX, Segment, ServerControl, Span, plus,
    },
};

/// The most hints kept: one part and one map are usual.
const HINTS_MAX: usize = 8;

impl MediaPlaylist {
    /// Reads a media playlist that came from `url`.
    ///
    /// # Errors
    /// What makes the whole of it useless. A tag that cannot be read is passed over otherwise, and so is any that is
    /// not known (RFC 8216 §6.3.1).
    pub fn parse(bytes: &[u8], url: &Url) -> Result<Self, PlaylistError> {
        Self::parse_with(bytes, url, &Variables::default())
    }

    /// As [`parse`](Self::parse), with the variables of the master playlist.
    pub(crate) fn parse_with(bytes: &[u8], url: &Url, imported: &Variables) -> Result<Self, PlaylistError> {
        let mut lexer = Lexer::new(url, imported);
        for (index, line) in lines(bytes)?.enumerate().skip(1) {
            let line = line.trim();
            let expanded = lexer.variables.expand(line);
            match expanded.strip_prefix('#') {
                None if expanded.is_empty() => {}
                None => lexer.uri(&expanded)?,
                Some(tag) => {
                    let wrong = |_| PlaylistError::Number { line: index + 1, text: line.chars().take(80).collect() };
                    lexer.tag(tag).map_err(|error| error.map_or_else(wrong))?;
                }
            }
        }
        lexer.finish()
    }
}

/// The lines of a playlist, the first of which is `#EXTM3U`.
pub(crate) fn lines(bytes: &[u8]) -> Result<impl Iterator<Item = &str>, PlaylistError> {
    if bytes.len() > PLAYLIST_BYTES_MAX {
        return Err(PlaylistError::TooLarge);
    }
    // RFC 8216 §4 forbids a byte order mark; servers of Microsoft's send one.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = std::str::from_utf8(bytes).map_err(|_| PlaylistError::NotText)?.trim_start();
    let first = text.lines().next().unwrap_or_default();
    if first.trim_end() != "#EXTM3U" {
        return Err(PlaylistError::NoHeader(first.chars().take(40).collect()));
    }
    Ok(text.lines())
}

/// What a bad tag does: [`TagError::Number`] ends the reading.
enum TagError {
    Number,
    Playlist(PlaylistError),
}

impl TagError {
    fn map_or_else(self, number: impl FnOnce(()) -> PlaylistError) -> PlaylistError {
        match self {
            Self::Number => number(()),
            Self::Playlist(error) => error,
        }
    }
}

struct Lexer<'a> {
    url: &'a Url,
    imported: &'a Variables,
    variables: Variables,
    playlist: MediaPlaylist,
    target: Option<Duration>,
    /// `EXTINF` of the segment to come.
    duration: Option<Duration>,
    span: Option<(u64, Option<u64>)>,
    gap: bool,
    key: Option<Arc<Key>>,
    map: Option<Arc<Map>>,
    seen: (bool, bool),
    /// The time of day at which the segment to come begins.
    wall: Option<UtcTime>,
    discontinuity: bool,
    parts: Vec<Part>,
    parts_in_all: usize,
    /// The end of the last sub-range, and of which resource.
    last_span: (String, u64),
}

impl<'a> Lexer<'a> {
    fn new(url: &'a Url, imported: &'a Variables) -> Self {
        Self {
            url,
            imported,
            variables: Variables::default(),
            playlist: MediaPlaylist {
                url: url.clone(),
                target_duration: Duration::ZERO,
                media_sequence: 0,
                discontinuity_sequence: 0,
                segments: Vec::new(),
                pending: Pending::default(),
                ended: false,
                kind: None,
                independent_segments: false,
                part_target: None,
                control: ServerControl::default(),
                skipped: 0,
                inherit: (0, 0),
            },
            target: None,
            duration: None,
            span: None,
            gap: false,
            key: None,
            map: None,
            seen: (false, false),
            wall: None,
            discontinuity: false,
            parts: Vec::new(),
            parts_in_all: 0,
            last_span: (String::new(), 0),
        }
    }

    fn tag(&mut self, tag: &str) -> Result<(), TagError> {
        let (name, value) = tag.split_once(':').unwrap_or((tag, ""));
        let value = value.trim();
        let playlist = &mut self.playlist;
        match name {
            "EXTINF" => {
                self.duration = attributes::seconds(value.split(',').next().unwrap_or_default());
            }
            // A fraction is against RFC 8216 §4.3.3.1; encoders write it.
            "EXT-X-TARGETDURATION" => self.target = attributes::seconds(value),
            "EXT-X-MEDIA-SEQUENCE" => playlist.media_sequence = value.parse().map_err(|_| TagError::Number)?,
            "EXT-X-DISCONTINUITY-SEQUENCE" => playlist.discontinuity_sequence = value.parse().unwrap_or(0),
            "EXT-X-DISCONTINUITY" => self.discontinuity = true,
            "EXT-X-GAP" => self.gap = true,
            "EXT-X-ENDLIST" => playlist.ended = true,
            "EXT-X-INDEPENDENT-SEGMENTS" => playlist.independent_segments = true,
            "EXT-X-PLAYLIST-TYPE" => {
                playlist.kind = match value {
                    "VOD" => Some(PlaylistKind::Vod),
                    "EVENT" => Some(PlaylistKind::Event),
                    _ => None,
                };
            }
            "EXT-X-PROGRAM-DATE-TIME" => self.wall = attributes::date_time(value).or(self.wall),
            "EXT-X-BYTERANGE" => self.span = byte_range(value),
            "EXT-X-KEY" => self.key(value),
            "EXT-X-MAP" => self.map(value),
            "EXT-X-DEFINE" => self.variables.define(value, self.imported, self.url),
            "EXT-X-PART" => self.part(value)?,
            "EXT-X-PRELOAD-HINT" => self.hint(value),
            "EXT-X-PART-INF" => {
                playlist.part_target = Attributes::get(value, "PART-TARGET").and_then(attributes::seconds);
            }
            "EXT-X-SERVER-CONTROL" => playlist.control = server_control(value),
            "EXT-X-SKIP" if playlist.segments.is_empty() => {
                let skipped = Attributes::get(value, "SKIPPED-SEGMENTS").and_then(|number| number.parse().ok());
                playlist.skipped = skipped.ok_or(TagError::Number)?;
                if playlist.skipped > SEGMENTS_MAX as u64 {
                    return Err(TagError::Playlist(PlaylistError::TooLong));
                }
            }
            "EXT-X-STREAM-INF" => return Err(TagError::Playlist(PlaylistError::Master)),
            _ => {}
        }
        Ok(())
    }

    fn uri(&mut self, uri: &str) -> Result<(), PlaylistError> {
        if self.playlist.segments.len() >= SEGMENTS_MAX {
            return Err(PlaylistError::TooLong);
        }
        let span = self.span.take();
        let duration = self.duration.take().or(self.target).unwrap_or_default();
        let segment = Segment {
            span: span.and_then(|span| self.placed(uri, span)),
            uri: uri.to_owned(),
            duration,
            discontinuity: std::mem::take(&mut self.discontinuity),
            gap: std::mem::take(&mut self.gap),
            wall: self.wall,
            key: self.key.clone(),
            map: self.map.clone(),
            parts: std::mem::take(&mut self.parts),
        };
        self.wall = self.wall.map(|wall| plus(wall, duration));
        self.playlist.segments.push(segment);
        let count = self.playlist.segments.len();
        let (key, map) = self.seen;
        let inherit = &mut self.playlist.inherit;
        *inherit = (if key { inherit.0 } else { count }, if map { inherit.1 } else { count });
        Ok(())
    }

    /// The sub-range of `uri`: without an offset it begins where the last one ended (RFC 8216 §4.3.2.2).
    fn placed(&mut self, uri: &str, (length, offset): (u64, Option<u64>)) -> Option<Span> {
        let follows = || (self.last_span.0 == uri).then_some(self.last_span.1);
        let offset = offset.or_else(follows).unwrap_or(0);
        let end = offset.checked_add(length)?;
        if self.last_span.0 != uri {
            uri.clone_into(&mut self.last_span.0);
        }
        self.last_span.1 = end;
        Some(Span { offset, length })
    }

    fn key(&mut self, value: &str) {
        self.seen.0 = true;
        let get = |name| Attributes::get(value, name);
        let method = match get("METHOD") {
            Some("NONE") => {
                self.key = None;
                return;
            }
            Some("AES-128") => Method::Aes128,
            Some(other) => Method::Other(other.chars().take(40).collect()),
            None => return,
        };
        // Several keys for one segment are in several formats (RFC 8216 §4.3.2.4): the plain one is ours.
        let is_plain = get("KEYFORMAT").is_none_or(|format| format == "identity");
        if !is_plain && self.key.as_ref().is_some_and(|key| key.method == method) {
            return;
        }
        let method = if is_plain { method } else { Method::Other(get("KEYFORMAT").unwrap_or_default().to_owned()) };
        let iv = get("IV").and_then(attributes::hexadecimal);
        let key = Key { method, uri: get("URI").unwrap_or_default().to_owned(), iv };
        if self.key.as_deref() != Some(&key) {
            self.key = Some(Arc::new(key));
        }
    }

    fn map(&mut self, value: &str) {
        self.seen.1 = true;
        let Some(uri) = Attributes::get(value, "URI") else { return };
        let span = Attributes::get(value, "BYTERANGE").and_then(byte_range);
        let span = span.map(|(length, offset)| Span { offset: offset.unwrap_or(0), length });
        let map = Map { uri: uri.to_owned(), span, key: self.key.clone() };
        if self.map.as_deref() != Some(&map) {
            self.map = Some(Arc::new(map));
        }
    }

    fn part(&mut self, value: &str) -> Result<(), TagError> {
        let get = |name| Attributes::get(value, name);
        let Some(uri) = get("URI") else { return Ok(()) };
        self.parts_in_all += 1;
        if self.parts_in_all > PARTS_MAX {
            return Err(TagError::Playlist(PlaylistError::TooLong));
        }
        let span = get("BYTERANGE").and_then(byte_range).and_then(|span| self.placed(uri, span));
        self.parts.push(Part {
            uri: uri.to_owned(),
            span,
            duration: get("DURATION").and_then(attributes::seconds).unwrap_or_default(),
            independent: attributes::is_yes(get("INDEPENDENT")),
            gap: attributes::is_yes(get("GAP")),
        });
        Ok(())
    }

    fn hint(&mut self, value: &str) {
        let get = |name| Attributes::get(value, name);
        let number = |name| get(name).and_then(|number| number.parse::<u64>().ok());
        let kind = match get("TYPE") {
            Some("PART") => HintKind::Part,
            Some("MAP") => HintKind::Map,
            _ => return,
        };
        let (Some(uri), true) = (get("URI"), self.playlist.pending.hints.len() < HINTS_MAX) else { return };
        let (start, length) = (number("BYTERANGE-START").unwrap_or(0), number("BYTERANGE-LENGTH"));
        self.playlist.pending.hints.push(Hint { kind, uri: uri.to_owned(), start, length });
    }

    fn finish(self) -> Result<MediaPlaylist, PlaylistError> {
        let mut playlist = self.playlist;
        let longest = playlist.segments.iter().map(|segment| segment.duration).max();
        let target = self.target.filter(|target| !target.is_zero());
        playlist.target_duration = target.or(longest).unwrap_or_default();
        let (key, map) = self.seen;
        let beyond = playlist.segments.len() + 1;
        let (inherit_key, inherit_map) = playlist.inherit;
        playlist.inherit = (if key { inherit_key } else { beyond }, if map { inherit_map } else { beyond });
        let pending = &mut playlist.pending;
        (pending.discontinuity, pending.wall) = (self.discontinuity, self.wall);
        (pending.key, pending.map, pending.parts) = (self.key, self.map, self.parts);
        let is_empty = playlist.segments.is_empty() && pending.parts.is_empty() && pending.hints.is_empty();
        if is_empty && playlist.skipped == 0 && !playlist.ended {
            return Err(PlaylistError::Empty);
        }
        Ok(playlist)
    }
}

/// `<n>[@<o>]` (RFC 8216 §4.3.2.2).
fn byte_range(text: &str) -> Option<(u64, Option<u64>)> {
    match text.split_once('@') {
        Some((length, offset)) => Some((length.trim().parse().ok()?, Some(offset.trim().parse().ok()?))),
        None => Some((text.trim().parse().ok()?, None)),
    }
}

fn server_control(value: &str) -> ServerControl {
    let get = |name| Attributes::get(value, name);
    let duration = |name| get(name).and_then(attributes::seconds);
    ServerControl {
        can_block_reload: attributes::is_yes(get("CAN-BLOCK-RELOAD")),
        can_skip_until: duration("CAN-SKIP-UNTIL"),
        hold_back: duration("HOLD-BACK"),
        part_hold_back: duration("PART-HOLD-BACK"),
    }
}

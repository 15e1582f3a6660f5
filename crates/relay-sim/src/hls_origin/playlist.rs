//! Playlists as text (RFC 8216 §4, draft-pantos-hls-rfc8216bis §4.4 for parts).

use std::fmt::Write as _;

use super::{
    fmp4::codecs,
    media::{self, Container, Studio},
    programme::{Listing, Segment},
};

/// What a media playlist tells beside its segments.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    pub(crate) container: Container,
    /// EXT-X-PROGRAM-DATE-TIME.
    pub(crate) has_wall: bool,
    /// Segments are ranges of files of so many.
    pub(crate) file_segments: Option<u64>,
    /// The signature that URLs carry.
    pub(crate) signature: Option<u32>,
    pub(crate) part_frames: Option<u64>,
    pub(crate) fps: u64,
    pub(crate) segment_frames: u64,
}

impl Manner {
    fn extension(&self) -> &'static str {
        match self.container {
            Container::Ts => "ts",
            Container::Fmp4 => "m4s",
        }
    }

    fn query(&self) -> String {
        self.signature.map(|signature| format!("?t={signature}")).unwrap_or_default()
    }

    fn seconds(&self, frames: u64) -> String {
        let micros = frames * 1_000_000 / self.fps;
        format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
    }
}

/// A master playlist of these variants, by their numbers.
pub(crate) fn master<'a>(
    variants: impl Iterator<Item = (usize, &'a Studio)>,
    has_audio: bool,
    manner: &Manner,
) -> String {
    let mut text = String::from("#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-INDEPENDENT-SEGMENTS\n");
    for (number, studio) in variants {
        let spec = studio.clip.spec();
        let (bandwidth, codecs) = (studio.clip.bitrate_bps() * 11 / 10, codecs(&studio.clip, has_audio));
        let (width, height, fps, query) = (spec.width, spec.height, spec.fps, manner.query());
        let _ = write!(text, "#EXT-X-STREAM-INF:BANDWIDTH={bandwidth},RESOLUTION={width}x{height}");
        let _ = writeln!(text, ",FRAME-RATE={fps}.000,CODECS=\"{codecs}\"\nv{number}/index.m3u8{query}");
    }
    text
}

/// A media playlist; `sizes` tells where in its file a segment lies.
pub(crate) fn media(listing: &Listing, manner: &Manner, sizes: impl Fn(&Segment) -> (u64, u64)) -> String {
    let mut text = String::from("#EXTM3U\n#EXT-X-VERSION:9\n");
    let target = manner.segment_frames.div_ceil(manner.fps);
    let _ = writeln!(text, "#EXT-X-TARGETDURATION:{target}");
    let _ = writeln!(text, "#EXT-X-MEDIA-SEQUENCE:{}", listing.sequence);
    if listing.discontinuity_sequence > 0 {
        let _ = writeln!(text, "#EXT-X-DISCONTINUITY-SEQUENCE:{}", listing.discontinuity_sequence);
    }
    if let Some(frames) = manner.part_frames {
        let (part, hold) = (manner.seconds(frames), manner.seconds(frames * 3));
        let _ = writeln!(text, "#EXT-X-PART-INF:PART-TARGET={part}");
        let _ = writeln!(text, "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK={hold}");
    }
    if manner.container == Container::Fmp4 {
        let _ = writeln!(text, "#EXT-X-MAP:URI=\"init.mp4{}\"", manner.query());
    }
    let mut key = None;
    let with_parts = listing.segments.len().saturating_sub(2);
    for (at, segment) in listing.segments.iter().enumerate() {
        head(&mut text, segment, &mut key, manner);
        if at >= with_parts && !segment.gap {
            let parts = manner.part_frames.map_or(0, |frames| segment.frames.count / frames);
            (0..parts).for_each(|part| self::part(&mut text, segment, part, manner));
        }
        if segment.gap {
            text.push_str("#EXT-X-GAP\n");
        }
        let _ = writeln!(text, "#EXTINF:{},", manner.seconds(segment.frames.count));
        match manner.file_segments {
            Some(segments) => {
                let (offset, length) = sizes(segment);
                let _ = writeln!(text, "#EXT-X-BYTERANGE:{length}@{offset}");
                let (file, extension) = (segment.index / segments, manner.extension());
                let _ = writeln!(text, "file{file}.{extension}{}", manner.query());
            }
            None => {
                let _ = writeln!(text, "{}.{}{}", segment.name, manner.extension(), manner.query());
            }
        }
    }
    if let Some((open, parts)) = &listing.open {
        head(&mut text, open, &mut key, manner);
        (0..*parts).for_each(|part| self::part(&mut text, open, part, manner));
        let uri = part_uri(open, *parts, manner);
        let _ = writeln!(text, "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"{uri}\"");
    }
    text
}

/// What stands before a segment and its parts.
fn head(text: &mut String, segment: &Segment, key: &mut Option<[u8; 16]>, manner: &Manner) {
    if segment.discontinuity {
        text.push_str("#EXT-X-DISCONTINUITY\n");
    }
    if let Some(number) = segment.key {
        let iv = media::iv(segment);
        if *key != Some(iv) {
            let (query, iv_hex) = (manner.query(), u128::from_be_bytes(iv));
            let _ = writeln!(text, "#EXT-X-KEY:METHOD=AES-128,URI=\"key{number}{query}\",IV=0x{iv_hex:032x}");
            *key = Some(iv);
        }
    }
    if manner.has_wall {
        let _ = writeln!(text, "#EXT-X-PROGRAM-DATE-TIME:{}", rfc3339(segment.frames.utc_nanos));
    }
}

fn part(text: &mut String, segment: &Segment, part: u64, manner: &Manner) {
    let seconds = manner.seconds(manner.part_frames.unwrap_or(0));
    let independent = if part == 0 { ",INDEPENDENT=YES" } else { "" };
    let uri = part_uri(segment, part, manner);
    let _ = writeln!(text, "#EXT-X-PART:DURATION={seconds},URI=\"{uri}\"{independent}");
}

fn part_uri(segment: &Segment, part: u64, manner: &Manner) -> String {
    format!("{}.part{part}.{}{}", segment.name, manner.extension(), manner.query())
}

/// `2026-11-21T02:30:00.120Z` (RFC 3339 §5.6).
fn rfc3339(utc_nanos: i64) -> String {
    let time = jiff::Timestamp::from_nanosecond(utc_nanos.into()).unwrap_or_default();
    time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

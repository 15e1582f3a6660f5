//! What a source was seen to carry, for people and as JSON.

use std::{fmt, path::PathBuf};

use relay_graph::{StreamSnapshot, TrackSnapshot};
use relay_media::{Codec, Kind, WallOrigin};
use serde::Serialize;

use crate::{config::Record, http, nodes};

/// All that was seen.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    kind: &'static str,
    url: String,
    tracks: Vec<Track>,
    /// `"sender_report"`, `"program_date_time"`, `"generated"`, `"arrival"`.
    clock: Option<&'static str>,
    quirks: Vec<String>,
    fits: Vec<Fit>,
}

#[derive(Debug, Serialize)]
struct Track {
    #[serde(flatten)]
    track: http::Track,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_frame_interval_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    b_frames: Option<bool>,
}

/// Whether a kind of sink can carry it.
#[derive(Debug, Serialize)]
struct Fit {
    sink: &'static str,
    fits: bool,
    /// What speaks against it, or is left out.
    #[serde(skip_serializing_if = "String::is_empty")]
    note: String,
}

impl Report {
    pub(super) fn new(seen: &StreamSnapshot, clock: Option<WallOrigin>) -> Self {
        let tracks = &seen.source.tracks;
        Self {
            kind: seen.source.kind,
            url: seen.source.url.clone(),
            tracks: tracks.iter().map(Track::new).collect(),
            clock: clock.map(|origin| match origin {
                WallOrigin::Arrival => "arrival",
                WallOrigin::SenderReport => "sender_report",
                WallOrigin::ProgramDateTime => "program_date_time",
                WallOrigin::Generated => "generated",
            }),
            quirks: seen.source.quirks.iter().map(|(name, count)| format!("{name}: {count}")).collect(),
            fits: vec![fits_record(tracks), fits_webrtc(tracks), fits_kvs(tracks)],
        }
    }
}

impl Track {
    fn new(seen: &TrackSnapshot) -> Self {
        let video = seen.track.kind() == Kind::Video;
        let interval = seen.key_frame_interval.map(|interval| u64::try_from(interval.as_millis()).unwrap_or(u64::MAX));
        Self {
            track: http::Track::from(seen),
            key_frame_interval_ms: interval.filter(|_| video),
            b_frames: video.then_some(seen.reordered),
        }
    }
}

fn fits_record(tracks: &[TrackSnapshot]) -> Fit {
    let recorder = nodes::recorder(&Record::into_dir(PathBuf::from(".")), "probe");
    verdict("record", tracks, |track| match recorder.accepts(track.track.codec.name()) {
        true => Ok(()),
        false => Err("it is not recorded"),
    })
}

fn fits_webrtc(tracks: &[TrackSnapshot]) -> Fit {
    verdict("webrtc", tracks, |track| match &track.track.codec {
        Codec::H264(_) if track.reordered => Err("browsers don't play B-frames: turn them off in the camera"),
        Codec::H265(_) => Err("few browsers play it: set the camera to H.264"),
        Codec::Aac(_) => Err("browsers take Opus or G.711 only"),
        Codec::H264(_) | Codec::Opus(_) | Codec::G711(_) => Ok(()),
    })
}

/// What plays back from Kinesis Video Streams: H.264 or H.265, with AAC or G.711.
fn fits_kvs(tracks: &[TrackSnapshot]) -> Fit {
    verdict("kvs", tracks, |track| match &track.track.codec {
        Codec::Opus(_) => Err("it takes AAC or G.711 only"),
        _ => Ok(()),
    })
}

/// A sink fits if it carries the video, or all there is where there is none; audio that it can't carry is left out.
fn verdict(
    sink: &'static str,
    tracks: &[TrackSnapshot],
    carries: impl Fn(&TrackSnapshot) -> Result<(), &'static str>,
) -> Fit {
    let has_video = tracks.iter().any(|track| track.track.kind() == Kind::Video);
    let mut notes = Vec::new();
    let mut fits = !tracks.is_empty();
    for track in tracks {
        let Err(cause) = carries(track) else { continue };
        let needed = !has_video || track.track.kind() == Kind::Video;
        fits &= !needed;
        let left_out = if needed { "" } else { " is left out" };
        notes.push(format!("{}{left_out}: {cause}", track.track.codec.name()));
    }
    Fit { sink, fits, note: notes.join("; ") }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} ({})", self.url, self.kind)?;
        for track in &self.tracks {
            writeln!(f, "  {track}")?;
        }
        let clock = match self.clock {
            Some("sender_report") => "the camera's own, from RTCP sender reports",
            Some("program_date_time") => "the playlist's, EXT-X-PROGRAM-DATE-TIME",
            Some("generated") => "this machine's, when the picture was made",
            _ => "this machine's, when packets arrived",
        };
        writeln!(f, "  clock: {clock}")?;
        if !self.quirks.is_empty() {
            writeln!(f, "  oddities: {}", self.quirks.join(", "))?;
        }
        for (index, fit) in self.fits.iter().enumerate() {
            let (verdict, note) = (if fit.fits { "fits" } else { "does not fit" }, &fit.note);
            let note = if note.is_empty() { String::new() } else { format!(" ({note})") };
            write!(f, "{}  {}: {verdict}{note}", if index > 0 { "\n" } else { "" }, fit.sink)?;
        }
        Ok(())
    }
}

impl fmt::Display for Track {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.track)?;
        if let Some(interval) = self.key_frame_interval_ms {
            write!(f, ", key frame every {interval} ms")?;
        } else if self.b_frames.is_some() {
            write!(f, ", key frames further apart than was watched")?;
        }
        match self.b_frames {
            Some(true) => write!(f, ", with B-frames"),
            Some(false) => write!(f, ", no B-frames"),
            None => Ok(()),
        }
    }
}

//! `/api/v1/streams`: snapshots as JSON. Field names are a contract.

use std::{collections::BTreeMap, fmt};

use axum::{
    Json,
    extract::{Path, State},
    http::{HeaderName, header},
    response::IntoResponse,
};
use relay_graph::{SinkSnapshot, SourceSnapshot, StreamSnapshot, TrackSnapshot};
use relay_media::{Codec, UtcTime};
use relay_ring::RingStats;
use serde::Serialize;

use super::{
    App,
    kvs::{self, Kvs},
    problem::Problem,
};
use crate::nodes::KvsShown;

/// What changes from one moment to the next.
pub(super) const NO_STORE: [(HeaderName, &str); 1] = [(header::CACHE_CONTROL, "no-store")];

/// Every stream, in the order of the configuration.
pub(super) async fn streams(State(app): State<App>) -> impl IntoResponse {
    let told = |stream: &StreamSnapshot| Stream::new(stream, &app);
    let streams: Vec<Stream> = app.0.pipeline.snapshot().iter().map(told).collect();
    (NO_STORE, Json(streams))
}

/// One stream.
pub(super) async fn stream(State(app): State<App>, Path(name): Path<String>) -> Result<impl IntoResponse, Problem> {
    let snapshot = app.0.pipeline.stream(&name).ok_or_else(|| Problem::no_stream(&name))?;
    Ok((NO_STORE, Json(Stream::new(&snapshot, &app))))
}

/// A stream as told.
#[derive(Debug, Serialize)]
pub(crate) struct Stream {
    name: String,
    state: &'static str,
    since: String,
    source: Source,
    tracks: Vec<Track>,
    ring: Ring,
    sinks: Vec<Sink>,
    /// Over WHEP, those that are connecting included.
    viewers: usize,
}

#[derive(Debug, Serialize)]
struct Source {
    kind: &'static str,
    url: String,
    state: &'static str,
    connects: u64,
    attempt: u32,
    last_error: Option<String>,
    next_try_ms: Option<u64>,
}

/// A track as told; what its kind does not have is left out.
#[derive(Debug, Serialize)]
pub(crate) struct Track {
    id: u32,
    kind: &'static str,
    codec: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    level: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    width: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    height: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fps: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sample_rate: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    channels: Option<u8>,
    bitrate_bps: u64,
}

#[derive(Debug, Serialize)]
struct Ring {
    packets: usize,
    bytes: usize,
    span_ms: u64,
    join_points: usize,
}

#[derive(Debug, Serialize)]
struct Sink {
    name: String,
    #[serde(rename = "type")]
    kind: &'static str,
    state: &'static str,
    packets_in: u64,
    packets_out: u64,
    packets_dropped: BTreeMap<&'static str, u64>,
    packets_buffered: u64,
    lag_ms: u64,
    last_error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kvs: Option<Kvs>,
}

impl Stream {
    fn new(stream: &StreamSnapshot, app: &App) -> Self {
        Self {
            name: stream.name.clone(),
            state: stream.source.state.as_str(),
            since: rfc3339(stream.source.since),
            source: Source::from(&stream.source),
            tracks: stream.source.tracks.iter().map(Track::from).collect(),
            ring: Ring::from(&stream.ring),
            sinks: stream.sinks.iter().map(|sink| Sink::new(sink, kvs::find(app, &stream.name, &sink.name))).collect(),
            viewers: app.0.whep.count(&stream.name),
        }
    }
}

impl From<&SourceSnapshot> for Source {
    fn from(source: &SourceSnapshot) -> Self {
        Self {
            kind: source.kind,
            url: source.url.clone(),
            state: source.state.as_str(),
            connects: source.connects,
            attempt: source.attempt,
            last_error: source.last_error.clone(),
            next_try_ms: source.next_try.map(millis),
        }
    }
}

impl From<&TrackSnapshot> for Track {
    fn from(snapshot: &TrackSnapshot) -> Self {
        let track = &snapshot.track;
        let mut told = Self {
            id: track.id.0,
            kind: track.kind().as_str(),
            codec: track.codec.name(),
            profile: None,
            level: None,
            width: None,
            height: None,
            fps: None,
            sample_rate: None,
            channels: None,
            bitrate_bps: snapshot.bitrate_bps,
        };
        match &track.codec {
            Codec::H264(config) => {
                told.profile = Some(config.profile_name().to_owned());
                told.level = Some(config.level_name());
                (told.width, told.height) = (Some(config.width()), Some(config.height()));
                told.fps = Some(fps(snapshot));
            }
            Codec::H265(config) => {
                told.profile = Some(config.profile_name().to_owned());
                told.level = Some(config.level_name());
                (told.width, told.height) = (Some(config.width()), Some(config.height()));
                told.fps = Some(fps(snapshot));
            }
            Codec::Aac(config) => {
                told.profile = Some(config.profile_name().to_owned());
                (told.sample_rate, told.channels) = (Some(config.sample_rate()), Some(config.channels()));
            }
            Codec::Opus(config) => {
                (told.sample_rate, told.channels) = (Some(relay_media::opus::CLOCK_HZ), Some(config.channels));
            }
            Codec::G711(config) => {
                (told.sample_rate, told.channels) = (Some(config.sample_rate), Some(config.channels));
            }
        }
        told
    }
}

impl fmt::Display for Track {
    /// `video 1: h264 High 4.0, 1280x720, 25 fps, 2000 kbit/s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.kind, self.id, self.codec)?;
        for part in [&self.profile, &self.level].into_iter().flatten() {
            write!(f, " {part}")?;
        }
        if let (Some(width), Some(height), Some(fps)) = (self.width, self.height, self.fps) {
            write!(f, ", {width}x{height}, {fps} fps")?;
        }
        if let (Some(rate), Some(channels)) = (self.sample_rate, self.channels) {
            write!(f, ", {rate} Hz, {channels} channel{}", if channels == 1 { "" } else { "s" })?;
        }
        write!(f, ", {} kbit/s", self.bitrate_bps / 1_000)
    }
}

impl From<&RingStats> for Ring {
    fn from(ring: &RingStats) -> Self {
        Self { packets: ring.packets, bytes: ring.bytes, span_ms: millis(ring.span), join_points: ring.join_points }
    }
}

impl Sink {
    fn new(sink: &SinkSnapshot, kvs: Option<&KvsShown>) -> Self {
        let kvs = kvs.map(Kvs::new);
        Self {
            name: sink.name.clone(),
            kind: sink.kind,
            state: sink.state.as_str(),
            packets_in: sink.packets_in,
            packets_out: sink.packets_out,
            packets_dropped: sink.packets_dropped.clone(),
            packets_buffered: sink.packets_buffered,
            lag_ms: millis(sink.lag).max(kvs.as_ref().map_or(0, |kvs| kvs.buffered_ms)),
            last_error: sink.last_error.clone(),
            kvs,
        }
    }
}

/// Measured frames per second with one decimal, for people to read.
#[expect(clippy::cast_precision_loss, reason = "tenths of frames per second are small")]
fn fps(snapshot: &TrackSnapshot) -> f64 {
    ((snapshot.packets_per_second_milli + 50) / 100) as f64 / 10.0
}

pub(super) fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// `2026-11-21T02:30:00.123Z` (RFC 3339 §5.6).
pub(crate) fn rfc3339(time: UtcTime) -> String {
    let time = jiff::Timestamp::from_millisecond(time.unix_millis()).unwrap_or_default();
    time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

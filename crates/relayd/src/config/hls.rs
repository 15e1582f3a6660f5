//! The keys of `[streams.NAME.source]` that say something to an HLS source only.

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use schemars::JsonSchema;
use toml::de::DeValue;

use super::{
    reader::{Entry, FromValue, Table, Wrong, one_of},
    sink::time_within,
    units::{BitRate, Size, Time},
};

/// How an HLS playlist is pulled.
#[derive(Clone, PartialEq, Eq, JsonSchema)]
pub(crate) struct Hls {
    /// HLS: which variant of a master playlist: `"highest"`, `"lowest"`, or the highest within limits.
    #[schemars(with = "VariantForm", default = "default_variant")]
    pub(crate) variant: Variant,
    /// HLS: how far from the end of a live playlist to begin; as the server says, else three target durations.
    pub(crate) live_edge: Option<Time>,
    /// HLS: when further behind the live edge than this, jump to it. Without it nothing is left out that can be had.
    pub(crate) max_behind: Option<Time>,
    /// HLS: whether to ask for parts of segments where the server offers them (low-latency HLS).
    #[schemars(extend("default" = true))]
    pub(crate) low_latency: bool,
    /// HLS: how fast media that is there goes on: `"realtime"`, or `"fast"`, sixteen times as fast, for recordings.
    #[schemars(default)]
    pub(crate) pace: Pace,
    /// HLS: sent with every request.
    #[schemars(default, with = "BTreeMap<String, String>")]
    pub(crate) headers: Vec<(String, String)>,
    /// HLS: a file that holds a token and nothing else, sent as `Authorization: Bearer` to the playlist's own host.
    #[schemars(with = "Option<String>")]
    pub(crate) token_file: Option<PathBuf>,
    /// HLS: a file of certificates (PEM) to trust besides the system's.
    #[schemars(with = "Option<String>")]
    pub(crate) ca_file: Option<PathBuf>,
    /// HLS: how much may wait for its time.
    #[schemars(default)]
    pub(crate) buffer: Buffer,
}

impl Default for Hls {
    fn default() -> Self {
        Self {
            variant: Variant::Highest,
            live_edge: None,
            max_behind: None,
            low_latency: true,
            pace: Pace::default(),
            headers: Vec::new(),
            token_file: None,
            ca_file: None,
            buffer: Buffer::default(),
        }
    }
}

impl fmt::Debug for Hls {
    /// Without the values of headers, which may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { variant, live_edge, max_behind, low_latency, pace, headers, token_file, ca_file, buffer } = self;
        let names: Vec<_> = headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("Hls")
            .field("variant", variant)
            .field("live_edge", live_edge)
            .field("max_behind", max_behind)
            .field("low_latency", low_latency)
            .field("pace", pace)
            .field("headers", &names)
            .field("token_file", token_file)
            .field("ca_file", ca_file)
            .field("buffer", buffer)
            .finish()
    }
}

/// Below a second there is nothing to play; who wants an hour pulls a recording.
const LIVE_EDGE_RANGE: (Time, Time) = (Time::millis(500), Time::secs(3_600));
const MAX_BEHIND_RANGE: (Time, Time) = (Time::secs(1), Time::secs(86_400));

impl Hls {
    /// The keys that are read here.
    pub(super) const KEYS: [&'static str; 9] =
        ["variant", "live_edge", "max_behind", "low_latency", "pace", "headers", "token_file", "ca_file", "buffer"];

    pub(super) fn read(table: &mut Table<'_, '_>) -> Self {
        let live_edge = time_within(table, "live_edge", LIVE_EDGE_RANGE);
        let max_behind = time_within(table, "max_behind", MAX_BEHIND_RANGE);
        if let (Some(edge), Some(max)) = (live_edge, max_behind)
            && max <= edge
            && let Some(entry) = table.entry("max_behind")
        {
            table.wrong("max_behind", &entry.span, &format!("is not more than live_edge = \"{edge}\": write more"));
        }
        Self {
            variant: variant(table).unwrap_or_default(),
            live_edge,
            max_behind,
            low_latency: table.get_or("low_latency", true),
            pace: table.get_or("pace", Pace::default()),
            headers: headers(table),
            token_file: file(table, "token_file"),
            ca_file: file(table, "ca_file"),
            buffer: table.table("buffer").map(Buffer::read).unwrap_or_default(),
        }
    }

    /// What must never be told.
    pub(super) fn secrets(&self) -> impl Iterator<Item = String> {
        /// Shorter values are words that a log may hold.
        const SECRET_MIN: usize = 8;
        self.headers.iter().map(|(_, value)| value.clone()).filter(|value| value.len() >= SECRET_MIN)
    }
}

/// A file that is read when the stream starts; noted if it can't be read now.
fn file(table: &mut Table<'_, '_>, key: &'static str) -> Option<PathBuf> {
    let found = table.get::<PathBuf>(key)?;
    if let Err(error) = std::fs::metadata(&found.value) {
        let note = format!("{key} {}: {error}; the stream waits for it", found.value.display());
        table.mistakes.note(&found.span, note);
    }
    Some(found.value)
}

/// Which variant of a master playlist.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Variant {
    /// The one with the highest bandwidth.
    #[default]
    Highest,
    /// The one with the lowest.
    Lowest,
    /// The highest within limits, else the lowest.
    Within(Within),
}

/// What a variant may be written as.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "read by the schema only")]
enum VariantForm {
    /// By its place.
    Name(VariantName),
    /// By limits.
    Table(Within),
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
#[expect(dead_code, reason = "read by the schema only")]
enum VariantName {
    /// The one with the highest bandwidth.
    Highest,
    /// The one with the lowest bandwidth that has video.
    Lowest,
}

fn default_variant() -> &'static str {
    "highest"
}

/// The limits of a variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct Within {
    /// The most bits a second.
    pub(crate) max_bandwidth: Option<BitRate>,
    /// The most lines of a picture.
    pub(crate) max_height: Option<u16>,
}

fn variant(table: &mut Table<'_, '_>) -> Option<Variant> {
    let entry = table.entry("variant")?;
    if !entry.value.is_table() {
        return table.get::<Variant>("variant").map(|found| found.value);
    }
    let mut within = table.open("variant", &entry)?;
    let max_bandwidth = within.get::<BitRate>("max_bandwidth").map(|found| found.value);
    let max_height = within.get::<u16>("max_height").map(|found| found.value);
    within.close();
    Some(Variant::Within(Within { max_bandwidth, max_height }))
}

impl FromValue for Variant {
    fn from_value(value: &DeValue<'_>) -> Result<Self, Wrong> {
        if value.as_str().is_none() {
            let example = "\"highest\", \"lowest\" or { max_bandwidth = \"4M\", max_height = 720 }";
            return Err(Wrong::new(format!("names no variant: write {example}")));
        }
        one_of(value, &[("highest", Self::Highest), ("lowest", Self::Lowest)])
    }
}

/// How fast media that is there goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub(crate) enum Pace {
    /// As it plays; twice as fast to catch up with the live edge.
    #[default]
    Realtime,
    /// Sixteen times as fast.
    Fast,
}

impl FromValue for Pace {
    fn from_value(value: &DeValue<'_>) -> Result<Self, Wrong> {
        one_of(value, &[("realtime", Self::Realtime), ("fast", Self::Fast)])
    }
}

/// More headers than this are a mistake.
const HEADERS_MAX: usize = 32;
/// Headers that the HTTP client writes by itself.
const OWN_HEADERS: [&str; 7] =
    ["host", "range", "connection", "content-length", "transfer-encoding", "accept-encoding", "te"];

/// Reads names and values; no remark repeats a value, which may be secret.
fn headers(table: &mut Table<'_, '_>) -> Vec<(String, String)> {
    let Some(entry) = table.entry("headers") else { return Vec::new() };
    if !entry.value.is_table() {
        let message = "headers is no table: write headers = { NAME = \"VALUE\" }";
        table.mistakes.add(&entry.span, message);
        return Vec::new();
    }
    let Some(mut list) = table.open("headers", &entry) else { return Vec::new() };
    let names = list.names();
    if names.len() > HEADERS_MAX {
        list.mistakes.add(&entry.span, format!("headers has {} entries: at most {HEADERS_MAX}", names.len()));
    }
    let mut headers = Vec::new();
    for (name, entry) in names.into_iter().take(HEADERS_MAX) {
        match header(name, &entry) {
            Ok(value) => headers.push((name.to_owned(), value)),
            Err(wrong) => list.mistakes.add(&entry.span, format!("the header {name:?} {wrong}")),
        }
    }
    headers
}

fn header(name: &str, entry: &Entry<'_>) -> Result<String, &'static str> {
    // A token (RFC 9110 §5.6.2).
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    if name.is_empty() || !name.chars().all(is_token) {
        return Err("has no name that HTTP allows: use letters, digits and -");
    }
    if OWN_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
        return Err("is written by relayd itself: drop it");
    }
    let value = entry.value.as_str().ok_or("has no string for a value: write one in quotes")?;
    if !value.chars().all(|c| c == '\t' || c == ' ' || c.is_ascii_graphic()) {
        return Err("has a value with characters that HTTP does not allow: use printable ASCII");
    }
    Ok(value.to_owned())
}

/// How much media may wait for its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields, default)]
pub(crate) struct Buffer {
    /// With this much, no other segment is begun; three target durations unless said otherwise.
    pub(crate) max_time: Option<Time>,
    /// With so many bytes, nothing more is read.
    #[schemars(default = "default_max_bytes")]
    pub(crate) max_bytes: Size,
}

/// 18 s of 14 Mbit/s.
const BUFFER_BYTES: Size = Size(32 << 20);
const BUFFER_BYTES_RANGE: (Size, Size) = (Size(1 << 20), Size(4 << 30));
const BUFFER_TIME_RANGE: (Time, Time) = (Time::millis(500), Time(Duration::from_secs(600)));

fn default_max_bytes() -> String {
    format!("{}MiB", BUFFER_BYTES.0 >> 20)
}

impl Default for Buffer {
    fn default() -> Self {
        Self { max_time: None, max_bytes: BUFFER_BYTES }
    }
}

impl Buffer {
    fn read(mut table: Table<'_, '_>) -> Self {
        let max_time = time_within(&mut table, "max_time", BUFFER_TIME_RANGE);
        let max_bytes = table.get::<Size>("max_bytes");
        let (min, max) = BUFFER_BYTES_RANGE;
        if let Some(found) = max_bytes.as_ref().filter(|found| found.value < min || found.value > max) {
            table.wrong("max_bytes", &found.span, &format!("is out of range: write {min} to {max}"));
        }
        table.close();
        Self { max_time, max_bytes: max_bytes.map_or(BUFFER_BYTES, |found| found.value) }
    }
}

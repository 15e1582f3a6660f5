//! `[streams.NAME.sinks.NAME]`: where a stream's media goes.

use std::{ops::Range, path::PathBuf, time::Duration};

use schemars::JsonSchema;
use toml::de::DeValue;

use super::{
    kvs::Kvs,
    reader::{FromValue, Table, Wrong, one_of},
    units::{Size, Time},
};

/// A sink with its name.
#[derive(Clone, Debug)]
pub(crate) struct Sink {
    /// Its name, the key of its table; `record` for the short form.
    pub(crate) name: String,
    /// Where its name stands in the file, in bytes.
    pub(crate) key_span: Range<usize>,
    /// What it does.
    pub(crate) kind: SinkKind,
}

/// What a sink does, by its `type`.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(tag = "type", rename_all = "lowercase")]
pub(crate) enum SinkKind {
    /// Writes recordings.
    Record(Record),
    /// Sends to Kinesis Video Streams.
    Kvs(Kvs),
}

impl SinkKind {
    /// The most bytes that it keeps on disk until they are delivered, if it does.
    pub(crate) fn spool(&self) -> Option<u64> {
        match self {
            Self::Record(_) => None,
            Self::Kvs(kvs) => kvs.spool.as_ref().map(|spool| spool.max_bytes.0),
        }
    }
}

impl Sink {
    pub(super) fn read(name: &str, mut table: Table<'_, '_>) -> Option<Self> {
        let key_span = table.key_span();
        let kind = match table.required::<Type>("type", "\"record\"")?.value {
            Type::Record => SinkKind::Record(Record::read(table)?),
            Type::Kvs => SinkKind::Kvs(Kvs::read(table)?),
        };
        Some(Self { name: name.to_owned(), key_span, kind })
    }
}

#[derive(Clone, Copy)]
enum Type {
    Record,
    Kvs,
}

impl FromValue for Type {
    fn from_value(value: &DeValue<'_>) -> Result<Self, Wrong> {
        const NOT_BUILT: [&str; 3] = ["hls", "srt", "rtsp"];
        match value.as_str() {
            Some("webrtc") => {
                Err(Wrong::new("is no sink to name: every stream may be watched unless it says webrtc = false"))
            }
            Some(text) if NOT_BUILT.contains(&text) => {
                Err(Wrong::new(format!("is not built yet: {text} sinks are to come; write \"record\" or \"kvs\"")))
            }
            _ => one_of(value, &[("record", Self::Record), ("kvs", Self::Kvs)]),
        }
    }
}

/// `type = "record"`: fragmented MP4 files that finish as ordinary ones, in `DIR/STREAM/`, named by their UTC start.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct Record {
    /// The directory above the stream's own; created when needed.
    #[schemars(with = "String")]
    pub(crate) dir: PathBuf,
    /// A new file begins at the first key frame after this long.
    #[schemars(default = "default_segment")]
    pub(crate) segment: Time,
    /// What a crash may cost: media is written in pieces of a GOP or of this long, whichever is shorter.
    #[schemars(default = "default_fragment")]
    pub(crate) fragment: Time,
    /// When written media is forced to the disk: after each `"fragment"`, each `"segment"`, or by the system's own
    /// choice, `"none"`.
    #[schemars(default)]
    pub(crate) sync: Sync,
    /// What is deleted, oldest first; the running file never is. Without any of these all is kept.
    #[schemars(default)]
    pub(crate) keep: Keep,
    /// How far the recorder may lag behind, on a slow disk.
    #[schemars(default)]
    pub(crate) queue: Queue,
}

const SEGMENT: Time = Time::secs(60);
const FRAGMENT: Time = Time::secs(1);

fn default_segment() -> String {
    SEGMENT.to_string()
}

fn default_fragment() -> String {
    FRAGMENT.to_string()
}

/// A file has headers and an index: shorter ones are mostly those.
const SEGMENT_RANGE: (Time, Time) = (Time::secs(1), Time::secs(86_400));

/// Each fragment costs about 200 bytes and, with `sync = "fragment"`, a flush of the disk.
const FRAGMENT_RANGE: (Time, Time) = (Time::millis(100), Time::secs(60));

impl Record {
    /// Into `dir`, with the defaults.
    pub(crate) fn into_dir(dir: PathBuf) -> Self {
        Self {
            dir,
            segment: SEGMENT,
            fragment: FRAGMENT,
            sync: Sync::default(),
            keep: Keep::default(),
            queue: Queue::default(),
        }
    }

    fn read(mut table: Table<'_, '_>) -> Option<Self> {
        let dir = table.required::<PathBuf>("dir", "\"recordings\"");
        let segment = time_within(&mut table, "segment", SEGMENT_RANGE).unwrap_or(SEGMENT);
        let fragment = time_within(&mut table, "fragment", FRAGMENT_RANGE).unwrap_or(FRAGMENT);
        let sync = table.get_or("sync", Sync::default());
        let keep = table.table("keep").map(Keep::read).unwrap_or_default();
        let queue = table.table("queue").map(Queue::read).unwrap_or_default();
        table.close();
        Some(Self { dir: dir?.value, segment, fragment, sync, keep, queue })
    }
}

/// A duration that is noted as wrong if out of range.
pub(super) fn time_within(table: &mut Table<'_, '_>, key: &'static str, (min, max): (Time, Time)) -> Option<Time> {
    let found = table.get::<Time>(key)?;
    if found.value < min || found.value > max {
        table.wrong(key, &found.span, &format!("is out of range: write \"{min}\" to \"{max}\""));
    }
    Some(found.value)
}

/// When written media is forced to the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub(crate) enum Sync {
    /// After each fragment: a power cut costs at most one.
    #[default]
    Fragment,
    /// When a segment is finished.
    Segment,
    /// When the operating system sees fit.
    None,
}

impl FromValue for Sync {
    fn from_value(value: &DeValue<'_>) -> Result<Self, Wrong> {
        one_of(value, &[("fragment", Self::Fragment), ("segment", Self::Segment), ("none", Self::None)])
    }
}

/// How much of the past stays on the disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct Keep {
    /// Files that began longer ago are deleted.
    pub(crate) age: Option<Time>,
    /// The stream's files together may take this much.
    pub(crate) bytes: Option<Size>,
    /// This much of the disk stays free.
    pub(crate) free: Option<Size>,
}

impl Keep {
    fn read(mut table: Table<'_, '_>) -> Self {
        let age = table.get::<Time>("age");
        if let Some(found) = age.as_ref().filter(|found| found.value.0.is_zero()) {
            table.wrong("age", &found.span, "would keep nothing: write a longer time, or drop the key");
        }
        let bytes = table.get::<Size>("bytes");
        if let Some(found) = bytes.as_ref().filter(|found| found.value.0 == 0) {
            table.wrong("bytes", &found.span, "would keep nothing: write a larger size, or drop the key");
        }
        let free = table.get::<Size>("free");
        table.close();
        Self {
            age: age.map(|found| found.value),
            bytes: bytes.map(|found| found.value),
            free: free.map(|found| found.value),
        }
    }
}

/// How far a sink may lag behind its source before it loses media.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields, default)]
pub(crate) struct Queue {
    /// At most this much media waits.
    #[schemars(default = "default_max_time")]
    pub(crate) max_time: Time,
    /// At most this many bytes wait.
    #[schemars(default = "default_max_bytes")]
    pub(crate) max_bytes: Size,
    /// What is lost when more would wait: `"keep"` loses the oldest at the bound only; `"live"` jumps to the newest
    /// key frame.
    #[schemars(default)]
    pub(crate) leak: Leak,
}

/// The ring's own default: 12 s of a 10 Mbit/s camera, or 30 s of a slower one.
const QUEUE_TIME: Time = Time(relay_graph::RING_DEFAULT.max_duration);
const QUEUE_BYTES: Size = Size(relay_graph::RING_DEFAULT.max_bytes as u64);

fn default_max_time() -> String {
    QUEUE_TIME.to_string()
}

fn default_max_bytes() -> String {
    format!("{}MiB", QUEUE_BYTES.0 >> 20)
}

impl Default for Queue {
    fn default() -> Self {
        Self { max_time: QUEUE_TIME, max_bytes: QUEUE_BYTES, leak: Leak::Keep }
    }
}

/// A key frame of a 4K camera is a megabyte; a second holds one or two.
const QUEUE_BYTES_RANGE: (Size, Size) = (Size(1 << 20), Size(4 << 30));

/// One second is a short GOP, ten minutes of 10 Mbit/s are 750 MB.
const QUEUE_TIME_RANGE: (Time, Time) = (Time::secs(1), Time(Duration::from_secs(600)));

impl Queue {
    fn read(mut table: Table<'_, '_>) -> Self {
        let max_time = time_within(&mut table, "max_time", QUEUE_TIME_RANGE).unwrap_or(QUEUE_TIME);
        let max_bytes = table.get::<Size>("max_bytes");
        let (min, max) = QUEUE_BYTES_RANGE;
        if let Some(found) = max_bytes.as_ref().filter(|found| found.value < min || found.value > max) {
            table.wrong("max_bytes", &found.span, &format!("is out of range: write {min} to {max}"));
        }
        let leak = table.get_or("leak", Leak::Keep);
        table.close();
        Self { max_time, max_bytes: max_bytes.map_or(QUEUE_BYTES, |found| found.value), leak }
    }
}

/// What a sink loses when it lags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub(crate) enum Leak {
    /// Nothing before the bound, then the oldest.
    #[default]
    Keep,
    /// Past `max_time`, everything up to the newest key frame.
    Live,
}

impl FromValue for Leak {
    fn from_value(value: &DeValue<'_>) -> Result<Self, Wrong> {
        one_of(value, &[("keep", Self::Keep), ("live", Self::Live)])
    }
}

//! `type = "kvs"`: a Kinesis Video stream.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use relay_kvs::proto;
use schemars::JsonSchema;
use toml::de::DeValue;
use url::Url;

use super::{
    mistake::Mistakes,
    reader::{Found, FromValue, Table, Wrong, one_of},
    sink::{SinkKind, time_within},
    stream::Stream,
    units::{Size, Time},
};

/// `type = "kvs"`: into a Kinesis Video stream. Credentials come by AWS's standard chain: environment, profile, SSO,
/// web identity, container, instance role, process. `SSL_CERT_FILE` and `HTTPS_PROXY` are obeyed.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct Kvs {
    /// The Kinesis Video stream's name.
    #[schemars(regex(pattern = r"^[a-zA-Z0-9_-][a-zA-Z0-9_.-]{0,255}$"))]
    pub(crate) stream_name: String,
    /// Its region, such as `"eu-west-1"`; without, that of `AWS_REGION` or the profile.
    pub(crate) region: Option<String>,
    /// Another control plane than AWS's, for tests.
    #[schemars(with = "Option<String>")]
    pub(crate) endpoint: Option<Url>,
    /// What waits in memory: the fragments that are not PERSISTED yet.
    #[schemars(default)]
    pub(crate) queue: Window,
    /// A fragment ends at the first key frame after this long. The service takes 1 to 10 s.
    #[schemars(default = "default_fragment")]
    pub(crate) fragment: Time,
    /// Where on disk what outgrows `queue` waits, and what is not PERSISTED when relayd ends. Without, it is lost.
    pub(crate) spool: Option<Spool>,
    /// Make the stream if there is none: `true`, or a table that tells how.
    #[schemars(with = "Option<CreateForm>")]
    pub(crate) create: Option<Create>,
    /// How often a line of metrics for CloudWatch (embedded metric format) is written to standard output; without,
    /// never.
    pub(crate) emf: Option<Time>,
}

const FRAGMENT: Time = Time::secs(2);
/// "Fragment duration 1 to 10 seconds" (KVS limits).
const FRAGMENT_RANGE: (Time, Time) = (Time::secs(1), Time::secs(10));
/// CloudWatch keeps one-second points at best.
const EMF_RANGE: (Time, Time) = (Time::secs(1), Time::secs(3_600));

fn default_fragment() -> String {
    FRAGMENT.to_string()
}

/// The longest name of a stream (KVS API, CreateStream).
const NAME_MAX: usize = 256;

impl Kvs {
    pub(super) fn read(mut table: Table<'_, '_>) -> Option<Self> {
        let stream_name = table.required::<StreamName>("stream_name", "\"NAME\"");
        let region = table.get::<Region>("region").map(|found| found.value.0);
        let endpoint = table.get::<Endpoint>("endpoint").map(|found| found.value.0);
        let queue = table.table("queue").map(Window::read).unwrap_or_default();
        let fragment = time_within(&mut table, "fragment", FRAGMENT_RANGE).unwrap_or(FRAGMENT);
        let spool_key = table.entry("spool").map(|entry| entry.key_span);
        let spool = table.table("spool").and_then(Spool::read);
        if let Some(span) = spool_key.filter(|_| queue.leak == super::Leak::Live) {
            table.mistakes.add(&span, "a spool keeps what queue = { leak = \"live\" } gives up: drop one of them");
        }
        let create = Create::read(&mut table);
        let emf = time_within(&mut table, "emf", EMF_RANGE);
        table.close();
        let stream_name = stream_name?.value.0;
        Some(Self { stream_name, region, endpoint, queue, fragment, spool, create, emf })
    }
}

/// Two producers of one stream would take the only connection from each other.
pub(super) fn same_stream_twice(streams: &[Stream], mistakes: &mut Mistakes<'_>) {
    let sinks = || streams.iter().flat_map(|stream| stream.sinks.iter().map(move |sink| (&stream.name, sink)));
    for (index, (stream, sink)) in sinks().enumerate() {
        let SinkKind::Kvs(kvs) = &sink.kind else { continue };
        let is_same = |earlier: &Kvs| {
            (&earlier.stream_name, &earlier.region, &earlier.endpoint) == (&kvs.stream_name, &kvs.region, &kvs.endpoint)
        };
        let earlier = sinks()
            .take(index)
            .find(|(_, earlier)| matches!(&earlier.kind, SinkKind::Kvs(earlier) if is_same(earlier)));
        if let Some((other, earlier)) = earlier {
            let message = format!(
                "{stream}/{} and {other}/{} both send to {:?}, which takes one producer: give one another stream_name",
                sink.name, earlier.name, kvs.stream_name
            );
            mistakes.add(&sink.key_span, message);
        }
    }
}

struct StreamName(String);

impl FromValue for StreamName {
    fn from_value(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let name = String::from_value(value)?;
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let is_name = (1..=NAME_MAX).contains(&name.len()) && !name.starts_with('.') && name.chars().all(fits);
        match is_name {
            true => Ok(Self(name)),
            false if name.starts_with("arn:") => {
                Err(Wrong::new("is an ARN: write the name, which is the part between the first / and the second"))
            }
            false => Err(Wrong::new(format!(
                "can't be a stream's name: use 1 to {NAME_MAX} of A-Z a-z 0-9 - _ . and no leading dot"
            ))),
        }
    }
}

struct Region(String);

impl FromValue for Region {
    fn from_value(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let region = String::from_value(value)?;
        let parts: Vec<&str> = region.split('-').collect();
        let is_word = |part: &&str| !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase());
        let is_region = match parts.as_slice() {
            [words @ .., number] => {
                words.len() >= 2 && words.iter().all(is_word) && number.parse::<u8>().is_ok() && !number.contains('+')
            }
            [] => false,
        };
        match (is_region, region.strip_suffix(|c: char| c.is_ascii_lowercase())) {
            (true, _) => Ok(Self(region)),
            (false, Some(zoned)) if zoned.ends_with(|c: char| c.is_ascii_digit()) => {
                Err(Wrong::new(format!("is an availability zone: write its region, {zoned:?}")))
            }
            _ => Err(Wrong::new("is no AWS region: write one such as \"eu-west-1\"")),
        }
    }
}

struct Endpoint(Url);

impl FromValue for Endpoint {
    fn from_value(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let wrong = || Wrong::new("is no endpoint: write a URL such as \"http://127.0.0.1:4567\"");
        let url = Url::parse(&String::from_value(value)?).map_err(|_| wrong())?;
        let is_plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
        let is_http = matches!(url.scheme(), "http" | "https") && url.has_host() && is_plain;
        if is_http { Ok(Self(url)) } else { Err(wrong()) }
    }
}

/// What of the stream is held in memory until it is PERSISTED.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields, default)]
pub(crate) struct Window {
    /// A fragment waits no longer than this before it goes to the spool or, without one, is lost.
    #[schemars(default = "default_max_time")]
    pub(crate) max_time: Time,
    /// At most this many bytes wait; a fragment may take a quarter of it.
    #[schemars(default = "default_max_bytes")]
    pub(crate) max_bytes: Size,
    /// What is lost when more would wait and there is no spool: `"keep"` loses the oldest fragment, `"live"` all but
    /// the newest.
    #[schemars(default)]
    pub(crate) leak: super::Leak,
}

/// What AWS's own producer keeps.
const WINDOW_TIME: Time = Time::secs(120);
const WINDOW_BYTES: Size = Size(64 << 20);
/// A fragment has ten seconds at most, and takes a quarter at most.
const WINDOW_TIME_RANGE: (Time, Time) = (Time::secs(10), Time(Duration::from_secs(3_600)));
const WINDOW_BYTES_RANGE: (Size, Size) = (Size(4 << 20), Size(4 << 30));

fn default_max_time() -> String {
    WINDOW_TIME.to_string()
}

fn default_max_bytes() -> String {
    format!("{}MiB", WINDOW_BYTES.0 >> 20)
}

impl Default for Window {
    fn default() -> Self {
        Self { max_time: WINDOW_TIME, max_bytes: WINDOW_BYTES, leak: super::Leak::Keep }
    }
}

impl Window {
    fn read(mut table: Table<'_, '_>) -> Self {
        let max_time = time_within(&mut table, "max_time", WINDOW_TIME_RANGE).unwrap_or(WINDOW_TIME);
        let max_bytes = size_within(&mut table, "max_bytes", WINDOW_BYTES_RANGE).unwrap_or(WINDOW_BYTES);
        let leak = table.get_or("leak", super::Leak::Keep);
        table.close();
        Self { max_time, max_bytes, leak }
    }
}

fn size_within(table: &mut Table<'_, '_>, key: &'static str, (min, max): (Size, Size)) -> Option<Size> {
    let found: Found<Size> = table.get(key)?;
    if found.value < min || found.value > max {
        table.wrong(key, &found.span, &format!("is out of range: write {min} to {max}"));
    }
    Some(found.value)
}

/// A spool on disk.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct Spool {
    /// The directory above the stream's own, which is `DIR/REGION/STREAM_NAME`; created when needed.
    #[schemars(with = "String")]
    pub(crate) dir: PathBuf,
    /// The most bytes of this stream in it; more loses the oldest.
    #[schemars(default = "default_spool_bytes")]
    pub(crate) max_bytes: Size,
    /// `"overflow"`: what outgrows `queue`, and at the end what is not PERSISTED. `"always"`: each fragment, before it
    /// is sent, so that neither a crash nor a power cut loses one.
    #[schemars(default, with = "ModeForm")]
    pub(crate) mode: proto::SpoolMode,
}

/// Eight hours of 2 Mbit/s.
const SPOOL_BYTES: Size = Size(8 << 30);
/// A segment of the spool has 16 MiB.
const SPOOL_BYTES_RANGE: (Size, Size) = (Size(64 << 20), Size(16 << 40));

fn default_spool_bytes() -> String {
    format!("{}GiB", SPOOL_BYTES.0 >> 30)
}

/// What goes to disk.
#[derive(Default, JsonSchema)]
#[schemars(rename_all = "lowercase", inline)]
#[expect(dead_code, reason = "read by the schema only")]
enum ModeForm {
    /// What outgrows the window.
    #[default]
    Overflow,
    /// Everything.
    Always,
}

impl FromValue for proto::SpoolMode {
    fn from_value(value: &DeValue<'_>) -> Result<Self, Wrong> {
        one_of(value, &[("overflow", Self::Overflow), ("always", Self::Always)])
    }
}

impl Spool {
    fn read(mut table: Table<'_, '_>) -> Option<Self> {
        let dir = table.required::<PathBuf>("dir", "\"spool\"");
        if let Some(found) = dir.as_ref().filter(|found| found.value.exists() && !found.value.is_dir()) {
            table.wrong("dir", &found.span, "is no directory: name another");
        }
        let max_bytes = size_within(&mut table, "max_bytes", SPOOL_BYTES_RANGE).unwrap_or(SPOOL_BYTES);
        let mode = table.get_or("mode", proto::SpoolMode::Overflow);
        table.close();
        Some(Self { dir: dir?.value, max_bytes, mode })
    }
}

/// How a stream is made where there is none.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields, default)]
pub(crate) struct Create {
    /// How long the stream keeps its data, in whole hours; `"0h"` keeps nothing.
    #[schemars(default = "default_retention")]
    pub(crate) retention: Time,
    /// Its tags, at most 50.
    #[schemars(default)]
    pub(crate) tags: BTreeMap<String, String>,
    /// The KMS key it is encrypted with: an id, an ARN or an alias. Without, the service's own.
    pub(crate) kms_key: Option<String>,
}

/// Either way to write it.
#[derive(JsonSchema)]
#[schemars(untagged, inline)]
#[expect(dead_code, reason = "read by the schema only")]
enum CreateForm {
    /// With the defaults, or not at all.
    Whether(bool),
    /// With these.
    How(Create),
}

/// A day, as AWS's own producers do.
const RETENTION: Time = Time::secs(86_400);
/// "Maximum value of 87600" hours (KVS API, CreateStream).
const RETENTION_MAX: Time = Time::secs(87_600 * 3_600);
/// "A maximum of 50 tags", of 128 and 256 characters (KVS API, CreateStream).
const TAGS_MAX: usize = 50;
const TAG_NAME_MAX: usize = 128;
const TAG_VALUE_MAX: usize = 256;

fn default_retention() -> String {
    RETENTION.to_string()
}

impl Default for Create {
    fn default() -> Self {
        Self { retention: RETENTION, tags: BTreeMap::new(), kms_key: None }
    }
}

impl Create {
    fn read(above: &mut Table<'_, '_>) -> Option<Self> {
        let entry = above.entry("create")?;
        if let DeValue::Boolean(create) = entry.value {
            return create.then(Self::default);
        }
        let mut table = above.open("create", &entry)?;
        let retention = time_within(&mut table, "retention", (Time::secs(0), RETENTION_MAX)).unwrap_or(RETENTION);
        if !retention.0.as_secs().is_multiple_of(3_600)
            && let Some(entry) = table.entry("retention")
        {
            table.wrong("retention", &entry.span, "is not in whole hours: write hours, such as \"24h\"");
        }
        let tags = table.table("tags").map(tags).unwrap_or_default();
        let kms_key = table.get::<String>("kms_key").map(|found| found.value);
        table.close();
        Some(Self { retention, tags, kms_key })
    }
}

fn tags(mut table: Table<'_, '_>) -> BTreeMap<String, String> {
    let mut tags = BTreeMap::new();
    for (name, entry) in table.names() {
        match String::from_value(entry.value) {
            Ok(value) if name.len() <= TAG_NAME_MAX && value.len() <= TAG_VALUE_MAX && !name.is_empty() => {
                tags.insert(name.to_owned(), value);
            }
            Ok(_) => table.wrong(
                name,
                &entry.span,
                &format!("is too long a tag: at most {TAG_NAME_MAX} for its name, {TAG_VALUE_MAX} for its value"),
            ),
            Err(wrong) => table.wrong(name, &entry.span, &wrong.0),
        }
    }
    if tags.len() > TAGS_MAX {
        let span = table.key_span();
        table.mistakes.add(&span, format!("{} tags: a stream may have at most {TAGS_MAX}", tags.len()));
    }
    tags
}

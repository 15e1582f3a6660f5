//! `source`: where a stream's media comes from.

use std::{fmt, time::Duration};

use relay_media::Kind;
use schemars::JsonSchema;
use toml::de::DeValue;
use url::Url;

use super::{
    hls::Hls,
    mistake::{nearest, redact},
    reader::{Found, FromValue, Table, Wrong, one_of},
    units::Time,
};

/// `[streams.NAME.source]`: a URL and how to hold on to it.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct Source {
    /// `rtsp://[USER:PASSWORD@]HOST[:PORT]/PATH`, `http(s)://[USER:PASSWORD@]HOST[:PORT]/PATH.m3u8`, or the built-in
    /// camera `test://pattern?size=1280x720&fps=25&bitrate=2M&gop=2s&audio=opus`.
    #[schemars(with = "String")]
    pub(crate) url: SourceUrl,
    /// Where the URL stands in the file, in bytes.
    #[schemars(skip)]
    pub(crate) url_span: std::ops::Range<usize>,
    /// What the URL leads to, where its ending doesn't tell: `"hls"`.
    #[schemars(with = "Option<Type>", rename = "type")]
    #[expect(dead_code, reason = "read by the schema only")]
    kind: Short,
    /// Without media for this long, the source is stalled: an RTSP connection is made anew. 5 s, for HLS three target
    /// durations.
    pub(crate) stall_timeout: Option<Time>,
    /// How long to wait between tries.
    #[schemars(default)]
    pub(crate) reconnect: Reconnect,
    /// RTSP: how media travels: `"tcp"` inside the connection, `"udp"`, or `"auto"`: UDP, and TCP after 3 s of silence.
    #[schemars(default)]
    pub(crate) transport: Transport,
    /// Tracks whose silence counts as a stall, besides the video: `["audio"]`.
    #[schemars(default)]
    pub(crate) require_tracks: Vec<RequiredTrack>,
    /// What is for HLS only.
    #[schemars(flatten)]
    pub(crate) hls: Hls,
}

/// A key that only says something in the file.
#[derive(Clone, Copy, Debug)]
struct Short;

/// What a URL leads to.
#[derive(Clone, Copy, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum Type {
    /// An HLS playlist.
    Hls,
    /// A camera.
    Rtsp,
    /// The built-in camera.
    Test,
}

impl FromValue for Type {
    fn from_value(value: &DeValue<'_>) -> Result<Self, Wrong> {
        one_of(value, &[("hls", Self::Hls), ("rtsp", Self::Rtsp), ("test", Self::Test)])
    }
}

/// What a source may be written as.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "read by the schema only")]
pub(super) enum SourceForm {
    /// The URL alone.
    Url(String),
    /// The URL and more.
    Table(Box<Source>),
}

impl Source {
    /// Reads the `source` of a stream, in its short or long form.
    pub(super) fn read(stream: &mut Table<'_, '_>) -> Option<Self> {
        let Some(entry) = stream.entry("source") else {
            let _: Option<Found<String>> = stream.required("source", "\"rtsp://…\"");
            return None;
        };
        if !entry.value.is_table() {
            let url = stream.get::<SourceUrl>("source")?;
            if url.value.kind().is_none() {
                stream.wrong("source", &url.span, UNKNOWN_ENDING);
            }
            return Some(Self::new(url.value, url.span));
        }
        let mut table = stream.open("source", &entry)?;
        let url = table.required::<SourceUrl>("url", "\"rtsp://…\"");
        let kind = kind(&mut table, url.as_ref());
        let stall_timeout = table.get::<Time>("stall_timeout");
        let transport = table.get::<Transport>("transport");
        let require_tracks = table.get::<Vec<RequiredTrack>>("require_tracks");
        let reconnect = table.entry("reconnect");
        let hls = Hls::read(&mut table);
        let idle: &[&str] = match kind {
            Some(Type::Test) => &["stall_timeout", "transport", "require_tracks", "reconnect"],
            Some(Type::Hls) => &["transport"],
            Some(Type::Rtsp) | None => &[],
        };
        let idle_hls = Hls::KEYS.iter().filter(|_| matches!(kind, Some(Type::Test | Type::Rtsp)));
        for key in idle.iter().chain(idle_hls) {
            let (Some(entry), Some(url)) = (table.entry(key), &url) else { continue };
            if table.mistakes.told(&entry.span) {
                continue;
            }
            let advice = format!("says nothing to a {}:// source: drop it", url.value.scheme());
            // The values of headers may be secret.
            match *key {
                "headers" => table.mistakes.add(&entry.span, format!("headers {advice}")),
                key => table.wrong(key, &entry.span, &advice),
            }
        }
        if let Some(found) = stall_timeout.as_ref().filter(|found| found.value < STALL_TIMEOUT_MIN) {
            let advice = format!("is too short to tell a stall from a breath: at least \"{STALL_TIMEOUT_MIN}\"");
            table.wrong("stall_timeout", &found.span, &advice);
        }
        let reconnect = match reconnect {
            Some(entry) => table.open("reconnect", &entry).map(Reconnect::read).unwrap_or_default(),
            None => Reconnect::default(),
        };
        table.close();
        let url = url?;
        Some(Self {
            stall_timeout: stall_timeout.map(|found| found.value),
            reconnect,
            transport: transport.map_or(Transport::default(), |found| found.value),
            require_tracks: require_tracks.map_or(Vec::new(), |found| found.value),
            hls,
            ..Self::new(url.value, url.span)
        })
    }

    /// `url` with the defaults.
    pub(crate) fn new(url: SourceUrl, url_span: std::ops::Range<usize>) -> Self {
        Self {
            url,
            url_span,
            kind: Short,
            stall_timeout: None,
            reconnect: Reconnect::default(),
            transport: Transport::default(),
            require_tracks: Vec::new(),
            hls: Hls::default(),
        }
    }

    /// What must never be told.
    pub(crate) fn secrets(&self) -> Vec<String> {
        self.url.secrets().into_iter().chain(self.hls.secrets()).collect()
    }
}

/// What is wrong with a URL that does not say what it leads to.
const UNKNOWN_ENDING: &str =
    "does not end in .m3u8: if it leads to an HLS playlist, write source = { url = \"…\", type = \"hls\" }";

/// What the source is: by its `type`, else by its URL.
fn kind(table: &mut Table<'_, '_>, url: Option<&Found<SourceUrl>>) -> Option<Type> {
    let told = table.get::<Type>("type");
    let url = url?;
    let is_http = matches!(url.value.scheme(), "http" | "https");
    match (url.value.kind(), told) {
        (Some(kind), Some(told)) if kind != told.value => {
            let advice = format!("is not what {}:// leads to: drop it", url.value.scheme());
            table.wrong("type", &told.span, &advice);
            Some(kind)
        }
        (None, Some(told)) if told.value == Type::Hls && is_http => Some(Type::Hls),
        (None, _) => {
            table.wrong("url", &url.span, "does not end in .m3u8: if it leads to an HLS playlist, add type = \"hls\"");
            None
        }
        (kind, _) => kind,
    }
}

/// Slow cameras pause for this long between pictures.
const STALL_TIMEOUT_MIN: Time = Time::millis(500);

/// How long to wait between tries.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields, default)]
pub(crate) struct Reconnect {
    /// Before the second try; each wait is drawn at random from zero to its bound, and the bound doubles.
    #[schemars(default = "default_initial")]
    pub(crate) initial: Time,
    /// No wait is longer than this.
    #[schemars(default = "default_max")]
    pub(crate) max: Time,
}

const RECONNECT_INITIAL: Time = Time::millis(250);
const RECONNECT_MAX: Time = Time::secs(30);

fn default_initial() -> String {
    RECONNECT_INITIAL.to_string()
}

fn default_max() -> String {
    RECONNECT_MAX.to_string()
}

impl Default for Reconnect {
    fn default() -> Self {
        Self { initial: RECONNECT_INITIAL, max: RECONNECT_MAX }
    }
}

impl Reconnect {
    fn read(mut table: Table<'_, '_>) -> Self {
        let initial = table.get::<Time>("initial");
        let max = table.get::<Time>("max");
        let shortest = Time(Duration::from_millis(10));
        if let Some(found) = initial.as_ref().filter(|found| found.value < shortest) {
            table.wrong("initial", &found.span, &format!("would hammer the origin: at least \"{shortest}\""));
        }
        let initial = initial.map_or(RECONNECT_INITIAL, |found| found.value);
        if let Some(found) = max.as_ref().filter(|found| found.value < initial) {
            table.wrong("max", &found.span, &format!("is less than initial = \"{initial}\": write more"));
        }
        let max = max.map_or(RECONNECT_MAX.max(initial), |found| found.value);
        table.close();
        Self { initial, max }
    }
}

/// How RTSP media travels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub(crate) enum Transport {
    /// Interleaved in the RTSP connection.
    #[default]
    Tcp,
    /// Datagrams.
    Udp,
    /// Datagrams, and TCP after 3 s of silence.
    Auto,
}

impl FromValue for Transport {
    fn from_value(value: &DeValue<'_>) -> Result<Self, Wrong> {
        one_of(value, &[("tcp", Self::Tcp), ("udp", Self::Udp), ("auto", Self::Auto)])
    }
}

/// A track that must not fall silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub(crate) enum RequiredTrack {
    /// Pictures.
    Video,
    /// Sound.
    Audio,
}

impl RequiredTrack {
    /// As the graph calls it.
    pub(crate) fn kind(self) -> Kind {
        match self {
            Self::Video => Kind::Video,
            Self::Audio => Kind::Audio,
        }
    }
}

impl FromValue for RequiredTrack {
    fn from_value(value: &DeValue<'_>) -> Result<Self, Wrong> {
        one_of(value, &[("video", Self::Video), ("audio", Self::Audio)])
    }
}

/// A URL of a kind that is built. Prints without its secrets.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SourceUrl {
    text: String,
    url: Url,
}

/// What a stream may be pulled from, and whether it is built.
const SCHEMES: [(&str, bool); 7] = [
    ("rtsp", true),
    ("test", true),
    ("rtsps", false),
    ("srt", false),
    ("http", true),
    ("https", true),
    ("stream", false),
];

impl SourceUrl {
    pub(crate) fn parse(text: &str) -> Result<Self, Wrong> {
        let example = "write one such as \"rtsp://HOST/PATH\", \"https://HOST/PATH.m3u8\" or \"test://pattern\"";
        let scheme = text.split_once("://").map(|(scheme, _)| scheme);
        let scheme = scheme.or_else(|| text.starts_with("stream:").then_some("stream"));
        let Some(scheme) = scheme.filter(|scheme| scheme.bytes().all(|byte| byte.is_ascii_alphanumeric())) else {
            return Err(Wrong::new(format!("is not a URL: {example}")));
        };
        match SCHEMES.iter().find(|(known, _)| *known == scheme) {
            Some((_, true)) => {}
            Some((known, false)) => {
                return Err(Wrong::new(format!("is not built yet: {known}: sources are to come; {example}")));
            }
            None => {
                let near = nearest(scheme, SCHEMES.iter().map(|(known, _)| *known));
                let advice = near.map_or(example.to_owned(), |near| format!("did you mean \"{near}://\"?"));
                return Err(Wrong::new(format!("has the unknown scheme {scheme:?}: {advice}")));
            }
        }
        let url = Url::parse(text).map_err(|error| Wrong::new(format!("is not a URL ({error}): {example}")))?;
        Ok(Self { text: text.to_owned(), url })
    }

    /// As written, with its secrets.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// Parsed, with its secrets.
    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    /// `"rtsp"`, `"http"`, `"https"`, `"test"`.
    pub(crate) fn scheme(&self) -> &str {
        self.url.scheme()
    }

    /// What it leads to, if it tells.
    fn kind(&self) -> Option<Type> {
        let ending = self.url.path().to_ascii_lowercase();
        match self.scheme() {
            "rtsp" => Some(Type::Rtsp),
            "test" => Some(Type::Test),
            _ => [".m3u8", ".m3u"].iter().any(|known| ending.ends_with(known)).then_some(Type::Hls),
        }
    }

    /// The password, as written and percent-decoded.
    pub(crate) fn secrets(&self) -> Vec<String> {
        let Some(password) = self.url.password() else { return Vec::new() };
        let pair = format!("p={}", password.replace('+', "%2B"));
        let decoded = url::form_urlencoded::parse(pair.as_bytes()).map(|(_, value)| value.into_owned());
        let mut secrets: Vec<String> = decoded.chain([password.to_owned()]).collect();
        secrets.dedup();
        secrets
    }
}

impl fmt::Debug for SourceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for SourceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redact(&self.text))
    }
}

impl FromValue for SourceUrl {
    fn from_value(value: &DeValue<'_>) -> Result<Self, Wrong> {
        Self::parse(&String::from_value(value)?)
    }
}

//! `source`: where a stream's media comes from.

use std::{fmt, time::Duration};

use relay_media::Kind;
use schemars::JsonSchema;
use toml::de::DeValue;
use url::Url;

use super::{
    mistake::{nearest, redact},
    reader::{Found, FromValue, Table, Wrong, one_of},
    units::Time,
};

/// `[streams.NAME.source]`: a URL and how to hold on to it.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct Source {
    /// `rtsp://[USER:PASSWORD@]HOST[:PORT]/PATH`, or the built-in camera
    /// `test://pattern?size=1280x720&fps=25&bitrate=2M&gop=2s&audio=opus`.
    #[schemars(with = "String")]
    pub(crate) url: SourceUrl,
    /// Where the URL stands in the file, in bytes.
    #[schemars(skip)]
    pub(crate) url_span: std::ops::Range<usize>,
    /// RTSP: without media for this long, the connection is given up and made anew.
    #[schemars(default = "default_stall_timeout")]
    pub(crate) stall_timeout: Time,
    /// RTSP: how long to wait between tries.
    #[schemars(default)]
    pub(crate) reconnect: Reconnect,
    /// RTSP: how media travels: `"tcp"` inside the connection, `"udp"`, or `"auto"`: UDP, and TCP after 3 s of silence.
    #[schemars(default)]
    pub(crate) transport: Transport,
    /// RTSP: tracks whose silence counts as a stall, besides the video: `["audio"]`.
    #[schemars(default)]
    pub(crate) require_tracks: Vec<RequiredTrack>,
}

/// RTSP: a camera that sends nothing for this long has gone.
const STALL_TIMEOUT: Time = Time::secs(5);

fn default_stall_timeout() -> String {
    STALL_TIMEOUT.to_string()
}

/// What a source may be written as.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "read by the schema only")]
pub(super) enum SourceForm {
    /// The URL alone.
    Url(String),
    /// The URL and more.
    Table(Source),
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
            return Some(Self::new(url.value, url.span));
        }
        let mut table = stream.open("source", &entry)?;
        let url = table.required::<SourceUrl>("url", "\"rtsp://…\"");
        let stall_timeout = table.get::<Time>("stall_timeout");
        let transport = table.get::<Transport>("transport");
        let require_tracks = table.get::<Vec<RequiredTrack>>("require_tracks");
        let reconnect = table.entry("reconnect");
        if let Some(url) = url.as_ref().filter(|url| url.value.scheme() == "test") {
            let keys = [
                ("stall_timeout", stall_timeout.as_ref().map(|found| found.span.clone())),
                ("transport", transport.as_ref().map(|found| found.span.clone())),
                ("require_tracks", require_tracks.as_ref().map(|found| found.span.clone())),
                ("reconnect", reconnect.as_ref().map(|entry| entry.span.clone())),
            ];
            for (key, span) in keys.into_iter().filter_map(|(key, span)| span.map(|span| (key, span))) {
                table.wrong(key, &span, &format!("says nothing to a {}:// source: drop it", url.value.scheme()));
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
            stall_timeout: stall_timeout.map_or(STALL_TIMEOUT, |found| found.value),
            reconnect,
            transport: transport.map_or(Transport::default(), |found| found.value),
            require_tracks: require_tracks.map_or(Vec::new(), |found| found.value),
            ..Self::new(url.value, url.span)
        })
    }

    /// `url` with the defaults.
    pub(crate) fn new(url: SourceUrl, url_span: std::ops::Range<usize>) -> Self {
        Self {
            url,
            url_span,
            stall_timeout: STALL_TIMEOUT,
            reconnect: Reconnect::default(),
            transport: Transport::default(),
            require_tracks: Vec::new(),
        }
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
            table.wrong("initial", &found.span, &format!("would hammer the camera: at least \"{shortest}\""));
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
    ("http", false),
    ("https", false),
    ("stream", false),
];

impl SourceUrl {
    pub(crate) fn parse(text: &str) -> Result<Self, Wrong> {
        let example = "write one such as \"rtsp://HOST/PATH\" or \"test://pattern\"";
        let scheme = text.split_once("://").map(|(scheme, _)| scheme);
        let scheme = scheme.or_else(|| text.starts_with("stream:").then_some("stream"));
        let Some(scheme) = scheme.filter(|scheme| scheme.bytes().all(|byte| byte.is_ascii_alphanumeric())) else {
            return Err(Wrong::new(format!("is not a URL: {example}")));
        };
        match SCHEMES.iter().find(|(known, _)| *known == scheme) {
            Some((_, true)) => {}
            Some((known, false)) => {
                let what = if known.starts_with("http") { "HLS over " } else { "" };
                return Err(Wrong::new(format!("is not built yet: {what}{known}: sources are to come; {example}")));
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

    /// `"rtsp"`, `"test"`.
    pub(crate) fn scheme(&self) -> &str {
        self.url.scheme()
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

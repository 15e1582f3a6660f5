//! `[webrtc]`: the one port that viewers' media goes through, and what each stream allows.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use relay_webrtc::Advertise;
use schemars::JsonSchema;
use toml::de::DeValue;

use super::{
    ice::{IceServer, IceServerForm},
    mistake::redact,
    network::note_missing,
    reader::{FromValue, Table, Wrong},
    sink::time_within,
    units::Time,
};

/// `[webrtc]`: live viewing in browsers.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct WebRtc {
    /// ONE UDP and one TCP port for every viewer.
    #[schemars(with = "String", extend("default" = "0.0.0.0:8189"))]
    pub(crate) listen: SocketAddr,
    /// The addresses told to viewers where they differ from those of this machine: IP addresses, DNS names, each with
    /// a port where a NAT changes it; `"stun:HOST:PORT"`; `"ec2"`.
    #[schemars(default, with = "Vec<String>")]
    pub(crate) advertise: Vec<Advertise>,
    /// How far a viewer's picture may be behind before pictures are left out.
    #[schemars(default = "default_max_lag")]
    pub(crate) max_lag: Time,
    /// More viewers of all streams together are turned away.
    #[schemars(extend("default" = VIEWERS), range(min = 1))]
    pub(crate) max_viewers: u16,
    /// More viewers of one stream are turned away.
    #[schemars(extend("default" = VIEWERS_PER_STREAM), range(min = 1))]
    pub(crate) max_viewers_per_stream: u16,
    /// STUN and TURN servers for viewers behind strict networks, told to each.
    #[schemars(default, with = "Vec<IceServerForm>")]
    pub(crate) ice_servers: Vec<IceServer>,
    /// The origins (`"https://HOST[:PORT]"`) whose pages may play streams from here; `"*"` for all.
    #[schemars(with = "Vec<Origin>", extend("default" = ["*"]))]
    pub(crate) allow_origins: Vec<Origin>,
}

/// Where media listens unless told otherwise: everywhere, as viewers come from elsewhere.
pub(crate) const WEBRTC_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8189);

const MAX_LAG: Time = Time::secs(1);

fn default_max_lag() -> String {
    MAX_LAG.to_string()
}

/// Less than a few pictures and their travel is no lag; more than this is no live view.
const MAX_LAG_RANGE: (Time, Time) = (Time::millis(200), Time::secs(10));

/// 600 MB of viewers at 300 KiB each.
const VIEWERS: u16 = 2_000;
const VIEWERS_PER_STREAM: u16 = 1_000;

/// Each is looked up every minute and stands in every answer.
const ADVERTISE_MAX: usize = 8;

/// Browsers ask every one of them when they connect.
const ICE_SERVERS_MAX: usize = 8;

impl Default for WebRtc {
    fn default() -> Self {
        Self {
            listen: WEBRTC_LISTEN,
            advertise: Vec::new(),
            max_lag: MAX_LAG,
            max_viewers: VIEWERS,
            max_viewers_per_stream: VIEWERS_PER_STREAM,
            ice_servers: Vec::new(),
            allow_origins: vec![Origin::any()],
        }
    }
}

impl WebRtc {
    pub(super) fn read(mut table: Table<'_, '_>) -> Self {
        let listen = table.get_or("listen", WEBRTC_LISTEN);
        let advertise = table.get::<Vec<Advertise>>("advertise");
        if let Some(found) = advertise.as_ref().filter(|found| found.value.len() > ADVERTISE_MAX) {
            table.wrong("advertise", &found.span, &format!("has too many: at most {ADVERTISE_MAX}"));
        }
        let max_lag = time_within(&mut table, "max_lag", MAX_LAG_RANGE).unwrap_or(MAX_LAG);
        let max_viewers = viewers(&mut table, "max_viewers").unwrap_or(VIEWERS);
        let max_viewers_per_stream = viewers(&mut table, "max_viewers_per_stream").unwrap_or(VIEWERS_PER_STREAM);
        let allow_origins = table.get_or("allow_origins", vec![Origin::any()]);
        let ice_servers = table.tables("ice_servers", ICE_SERVERS_MAX, IceServer::read);
        table.close();
        Self {
            listen,
            advertise: advertise.map_or_else(Vec::new, |found| found.value),
            max_lag,
            max_viewers,
            max_viewers_per_stream,
            ice_servers,
            allow_origins,
        }
    }
}

fn viewers(table: &mut Table<'_, '_>, key: &'static str) -> Option<u16> {
    let found = table.get::<u16>(key)?;
    if found.value == 0 {
        table.wrong(key, &found.span, "would let nobody watch: write 1 or more, or webrtc = false with the stream");
    }
    Some(found.value)
}

impl FromValue for Advertise {
    fn from_value(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let text = String::from_value(value)?;
        text.parse().map_err(|_| {
            Wrong::new(format!(
                "holds {:?}, which can't be told to viewers: write an IP address (\"203.0.113.7\"), a DNS name, \
                 either with a port behind it, \"stun:HOST:PORT\" or \"ec2\"",
                redact(&text)
            ))
        })
    }
}

/// An origin (RFC 6454 §6.2) whose pages may use WHEP here, or `*`.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(transparent)]
pub(crate) struct Origin(String);

impl Origin {
    /// Every origin.
    pub(crate) fn any() -> Self {
        Self("*".to_owned())
    }

    /// Whether pages of `origin`, as a browser sends it, may come.
    pub(crate) fn admits(&self, origin: &str) -> bool {
        self.is_any() || self.0.eq_ignore_ascii_case(origin)
    }

    /// Whether it stands for every origin.
    pub(crate) fn is_any(&self) -> bool {
        self.0 == "*"
    }
}

impl FromValue for Origin {
    fn from_value(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let text = String::from_value(value)?;
        let parsed = url::Url::parse(&text).ok();
        let origin = parsed.filter(|url| matches!(url.scheme(), "http" | "https")).map(|url| url.origin());
        let is_origin = origin.is_some_and(|origin| origin.ascii_serialization().eq_ignore_ascii_case(&text));
        if text == "*" || is_origin {
            return Ok(Self(text));
        }
        let shown = redact(&text);
        Err(Wrong::new(format!("holds {shown:?}, which is no origin: write \"https://HOST[:PORT]\", or \"*\"")))
    }
}

/// What a stream allows that may be watched over WHEP.
#[derive(Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct Viewing {
    /// More viewers of this stream are turned away; else `max_viewers_per_stream` counts.
    #[schemars(range(min = 1))]
    pub(crate) max_viewers: Option<u16>,
    /// A file that holds the token for watching this stream, in place of the one of `[http]`.
    #[schemars(with = "Option<String>")]
    pub(crate) token_file: Option<PathBuf>,
}

/// What a stream's `webrtc` may be written as.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "read by the schema only")]
pub(super) enum ViewingForm {
    /// Whether it may be watched.
    Allowed(bool),
    /// It may, and how.
    Table(Viewing),
}

impl Viewing {
    /// Reads the `webrtc` of a stream; `None` if it may not be watched.
    pub(super) fn read(stream: &mut Table<'_, '_>) -> Option<Self> {
        let Some(entry) = stream.entry("webrtc") else { return Some(Self::default()) };
        if !entry.value.is_table() {
            let allowed = bool::from_value(entry.value);
            if allowed.is_err() {
                stream.wrong("webrtc", &entry.span, "is neither true nor false nor a table: write one of them");
            }
            return allowed.unwrap_or(true).then(Self::default);
        }
        let Some(mut table) = stream.open("webrtc", &entry) else { return Some(Self::default()) };
        let max_viewers = viewers(&mut table, "max_viewers");
        let token_file = table.get::<PathBuf>("token_file");
        note_missing(&mut table, "token_file", token_file.as_ref());
        table.close();
        Some(Self { max_viewers, token_file: token_file.map(|found| found.value) })
    }
}

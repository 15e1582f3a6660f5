//! `webrtc.ice_servers`: STUN and TURN servers that viewers are told of.

use std::{fmt, path::PathBuf};

use schemars::JsonSchema;
use toml::de::DeValue;

use super::{
    mistake::redact,
    network::note_missing,
    reader::{FromValue, Table, Wrong},
    sink::time_within,
    units::Time,
};

/// One server, under one or more URLs, and what viewers authenticate with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IceServer {
    /// Where it is.
    pub(crate) urls: Vec<IceUrl>,
    /// What it wants to be shown.
    pub(crate) login: Login,
}

/// What a TURN server wants to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Login {
    /// Nothing: STUN servers.
    None,
    /// The same name and password for everyone.
    Fixed {
        /// The name.
        username: String,
        /// The file with the password.
        credential_file: PathBuf,
    },
    /// A name that expires and its signature (draft-uberti-behave-turn-rest-00 §2.2).
    Rest {
        /// The file with the secret shared with the server.
        secret_file: PathBuf,
        /// For how long a login is good.
        ttl: Time,
    },
}

/// How an [`IceServer`] is written.
#[derive(JsonSchema)]
#[schemars(rename = "IceServer", deny_unknown_fields)]
#[expect(dead_code, reason = "read by the schema only")]
pub(super) struct IceServerForm {
    /// `"stun:HOST[:PORT]"`, `"turn:HOST[:PORT][?transport=udp|tcp]"`, or `stuns:` and `turns:` for TLS.
    urls: Vec<String>,
    /// TURN: the name, the same for everyone.
    username: Option<String>,
    /// TURN: a file with the password that goes with `username`.
    credential_file: Option<String>,
    /// TURN: a file with the secret shared with the server, for names and passwords that expire (coturn's
    /// `use-auth-secret`).
    secret_file: Option<String>,
    /// With `secret_file`: for how long a name is good.
    #[schemars(default = "default_ttl")]
    ttl: Option<Time>,
}

const TTL: Time = Time::secs(3_600);

fn default_ttl() -> String {
    TTL.to_string()
}

/// Clocks differ by seconds; a login that is good for a month is a password.
const TTL_RANGE: (Time, Time) = (Time::secs(60), Time::secs(7 * 86_400));

impl IceServer {
    pub(super) fn read(mut table: Table<'_, '_>) -> Option<Self> {
        let urls = table.required::<Vec<IceUrl>>("urls", "[\"turn:HOST:3478?transport=udp\"]");
        let username = table.get::<Username>("username");
        let credential_file = table.get::<PathBuf>("credential_file");
        let secret_file = table.get::<PathBuf>("secret_file");
        let ttl = time_within(&mut table, "ttl", TTL_RANGE);
        note_missing(&mut table, "credential_file", credential_file.as_ref());
        note_missing(&mut table, "secret_file", secret_file.as_ref());
        let relays = urls.as_ref().is_none_or(|urls| urls.value.iter().any(IceUrl::relays));
        let span = table.key_span();
        // What is written counts here, be it right or wrong: one mistake is told once.
        let written = ["username", "credential_file", "secret_file", "ttl"].map(|key| table.entry(key).is_some());
        let advice = match written {
            [false, false, false, false] if !relays => None,
            [_, _, _, _] if !relays => Some("a stun: server asks for no login: drop it"),
            [true, true, false, false] | [false, false, true, _] => None,
            [false, false, false, _] if urls.is_none() => None,
            [false, false, false, _] => {
                Some("a turn: server needs a username with its credential_file, or a secret_file")
            }
            [_, _, true, _] => Some("secret_file makes names and passwords: drop username and credential_file"),
            [true, true, false, true] => Some("ttl says nothing without secret_file: drop it"),
            _ => Some("username and credential_file belong together: write both"),
        };
        if let Some(advice) = advice {
            table.mistakes.add(&span, format!("webrtc.ice_servers: {advice}"));
        }
        let login = match (username, credential_file, secret_file) {
            (Some(username), Some(file), None) => {
                Login::Fixed { username: username.value.0, credential_file: file.value }
            }
            (None, None, Some(file)) => Login::Rest { secret_file: file.value, ttl: ttl.unwrap_or(TTL) },
            _ => Login::None,
        };
        if let Some(urls) = urls.as_ref().filter(|urls| !(1..=URLS_MAX).contains(&urls.value.len())) {
            table.wrong("urls", &urls.span, &format!("has {}: write 1 to {URLS_MAX}", urls.value.len()));
        }
        table.close();
        Some(Self { urls: urls?.value, login })
    }
}

/// UDP, TCP and TLS of one server, by two addresses.
const URLS_MAX: usize = 6;

/// `stun:`, `stuns:` (RFC 7064 §3.1), `turn:` or `turns:` (RFC 7065 §3.1), as written. Needs no escaping in a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IceUrl(String);

impl IceUrl {
    fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once(':')?;
        let (rest, transport) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
        let known = match scheme {
            "stun" | "stuns" => transport.is_none(),
            "turn" | "turns" => matches!(transport, None | Some("transport=udp" | "transport=tcp")),
            _ => false,
        };
        let (host, port) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((v6, port)) => (v6.parse::<std::net::Ipv6Addr>().is_ok(), port),
            None => {
                let (host, _) = rest.split_once(':').unwrap_or((rest, ""));
                let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
                ((1..=253).contains(&host.len()) && host.chars().all(fits), rest.get(host.len()..)?)
            }
        };
        let port = match port.strip_prefix(':') {
            Some(port) => port.parse::<u16>().is_ok_and(|port| port > 0),
            None => port.is_empty(),
        };
        (known && host && port).then(|| Self(text.to_owned()))
    }

    fn relays(&self) -> bool {
        self.0.starts_with("turn")
    }
}

impl fmt::Display for IceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromValue for IceUrl {
    fn from_value(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let text = String::from_value(value)?;
        Self::parse(&text).ok_or_else(|| {
            let shown = redact(&text);
            Wrong::new(format!(
                "holds {shown:?}, which is no STUN or TURN server: write \"stun:HOST:PORT\" or \
                 \"turn:HOST:PORT?transport=udp\""
            ))
        })
    }
}

/// A name that can stand in a header.
struct Username(String);

impl FromValue for Username {
    fn from_value(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let text = String::from_value(value)?;
        let fits = (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        if fits { Ok(Self(text)) } else { Err(Wrong::new("can't be a name: write 1 to 128 visible ASCII characters")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_urls_are_taken_as_their_rfcs_write_them() {
        for (text, relays) in [
            ("stun:stun.example.com", Some(false)),
            ("stuns:stun.example.com:5349", Some(false)),
            ("stun:[2001:db8::1]:3478", Some(false)),
            ("turn:turn.example.com", Some(true)),
            ("turn:192.0.2.1:3478?transport=udp", Some(true)),
            ("turns:turn.example.com:443?transport=tcp", Some(true)),
            ("turn:[2001:db8::1]", Some(true)),
            ("stun:stun.example.com?transport=udp", None),
            ("turn:turn.example.com?transport=tls", None),
            ("turn://turn.example.com", None),
            ("turn:user:secret@turn.example.com", None),
            ("turn:turn.example.com:0", None),
            ("turn:turn.example.com:x", None),
            ("turn:[2001:db8::1", None),
            ("turn:", None),
            ("turn:a>b", None),
            ("http://turn.example.com", None),
            ("", None),
        ] {
            assert_eq!(IceUrl::parse(text).map(|url| url.relays()), relays, "{text}");
        }
    }
}

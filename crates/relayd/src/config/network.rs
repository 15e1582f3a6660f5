//! `[http]`: what listens where, and who may come in.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use schemars::JsonSchema;
use toml::de::DeValue;

use super::reader::{Found, FromValue, Table, Wrong, one_of};

/// `[http]`: the page, the API, WHEP and the metrics.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct Http {
    /// The address and port to listen on. One that other machines can reach needs `token_file`, or `auth = "none"`.
    #[schemars(with = "String", extend("default" = "127.0.0.1:8080"))]
    pub(crate) listen: SocketAddr,
    /// A file that holds the bearer token, and nothing else. With one, every request but `/healthz` and `/readyz`
    /// must carry it.
    #[schemars(with = "Option<String>")]
    pub(crate) token_file: Option<PathBuf>,
    /// `"token"`, the default with a `token_file`; `"none"` lets everyone in who can reach `listen`.
    #[schemars(with = "Option<Auth>")]
    pub(crate) auth: Auth,
}

impl Default for Http {
    fn default() -> Self {
        Self { listen: HTTP_LISTEN, token_file: None, auth: Auth::None }
    }
}

/// Where HTTP listens unless told otherwise: this machine only.
pub(crate) const HTTP_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// Who may use the HTTP surface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub(crate) enum Auth {
    /// Whoever sends the token of `token_file`.
    Token,
    /// Everyone.
    None,
}

impl Http {
    pub(super) fn read(mut table: Table<'_, '_>) -> Self {
        let listen = table.get::<SocketAddr>("listen");
        let token_file = table.get::<PathBuf>("token_file");
        let auth = table.get::<Auth>("auth");
        match (&auth, &token_file) {
            (Some(found), None) if found.value == Auth::Token => {
                table.wrong("auth", &found.span, "needs a token_file = \"…\" that holds the token");
            }
            (Some(found), Some(_)) if found.value == Auth::None => {
                table.wrong("auth", &found.span, "lets everyone in, but there is a token_file: drop one of the two");
            }
            _ => {}
        }
        if let (Some(listen), None, None) = (&listen, &auth, &token_file)
            && !listen.value.ip().is_loopback()
        {
            let advice = "can be reached from other machines: add token_file = \"…\", or spell out auth = \"none\"";
            table.wrong("listen", &listen.span, advice);
        }
        note_missing(&mut table, "token_file", token_file.as_ref());
        table.close();
        let auth = if token_file.is_some() { Auth::Token } else { Auth::None };
        Self {
            listen: listen.map_or(HTTP_LISTEN, |found| found.value),
            token_file: token_file.map(|found| found.value),
            auth,
        }
    }
}

/// Notes a file that is needed at the start and can't be read now.
pub(super) fn note_missing(table: &mut Table<'_, '_>, key: &str, file: Option<&Found<PathBuf>>) {
    if let Some(found) = file
        && let Err(error) = std::fs::metadata(&found.value)
    {
        let note = format!("{key} {}: {error}; relayd will not start without it", found.value.display());
        table.mistakes.note(&found.span, note);
    }
}

impl FromValue for Auth {
    fn from_value(value: &DeValue<'_>) -> Result<Self, Wrong> {
        one_of(value, &[("token", Self::Token), ("none", Self::None)])
    }
}

impl FromValue for SocketAddr {
    fn from_value(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let text = String::from_value(value)?;
        text.parse().map_err(|_| Wrong::new("is not an address and port: write one such as \"127.0.0.1:8080\""))
    }
}

impl FromValue for PathBuf {
    fn from_value(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let text = String::from_value(value)?;
        if text.is_empty() { Err(Wrong::new("is empty: write a path")) } else { Ok(text.into()) }
    }
}

//! The STUN and TURN servers that a viewer is told of with its answer, and what it shows them.

use std::time::Duration;

use aws_lc_rs::hmac;
use axum::http::HeaderValue;
use base64::{Engine, prelude::BASE64_STANDARD};
use relay_media::UtcTime;

use crate::http::Token;

/// The servers, in the order in which viewers are told of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct IceServers(Vec<(Vec<String>, RelayLogin)>);

/// What a server wants to be shown.
#[derive(Clone, Debug)]
pub(crate) enum RelayLogin {
    /// Nothing.
    None,
    /// The same for everyone.
    Fixed {
        /// The name.
        username: String,
        /// The password.
        credential: Token,
    },
    /// A name that expires, and its signature.
    Rest {
        /// Shared with the server.
        secret: Token,
        /// For how long a login is good.
        ttl: Duration,
    },
}

impl IceServers {
    /// One more, reached under `urls`.
    pub(crate) fn add(&mut self, urls: Vec<String>, login: RelayLogin) {
        self.0.push((urls, login));
    }

    /// What must not be told to anyone but viewers; a shared secret not even to them.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = &Token> {
        self.0.iter().filter_map(|(_, login)| match login {
            RelayLogin::None => None,
            RelayLogin::Fixed { credential: secret, .. } | RelayLogin::Rest { secret, .. } => Some(secret),
        })
    }

    /// A `Link` header for each URL (RFC 9725 §4.6), logins being good from `now` on.
    pub(super) fn links(&self, now: UtcTime) -> impl Iterator<Item = HeaderValue> {
        self.0.iter().flat_map(move |(urls, login)| {
            let shown = login.shown(now);
            urls.iter().filter_map(move |url| {
                let mut link = format!("<{url}>; rel=\"ice-server\"");
                if let Some((username, credential)) = &shown {
                    let (username, credential) = (quoted(username), quoted(credential));
                    link += &format!("; username={username}; credential={credential}; credential-type=\"password\"");
                }
                // URLs, names and passwords are visible ASCII: see their types.
                let mut link = HeaderValue::try_from(link).ok()?;
                link.set_sensitive(shown.is_some());
                Some(link)
            })
        })
    }
}

impl RelayLogin {
    fn shown(&self, now: UtcTime) -> Option<(String, String)> {
        match self {
            Self::None => None,
            Self::Fixed { username, credential } => Some((username.clone(), credential.reveal().to_owned())),
            Self::Rest { secret, ttl } => {
                let expires = now.unix_millis() / 1_000 + i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX / 2);
                let username = format!("{expires}:relayd");
                let credential = sign(secret.reveal(), &username);
                Some((username, credential))
            }
        }
    }
}

/// draft-uberti-behave-turn-rest-00 §2.2: base64(HMAC-SHA1(secret, username)).
fn sign(secret: &str, username: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes());
    BASE64_STANDARD.encode(hmac::sign(&key, username.as_bytes()))
}

/// A quoted string (RFC 9110 §5.6.4).
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(text: &str) -> Token {
        Token::new(text).expect("a token")
    }

    #[test]
    fn each_url_gets_a_link_with_what_its_server_wants() {
        let mut servers = IceServers::default();
        servers.add(vec!["stun:stun.example.com:3478".into()], RelayLogin::None);
        let urls = vec!["turn:t.example.com?transport=udp".into(), "turns:t.example.com".into()];
        servers.add(urls, RelayLogin::Fixed { username: "a\"b".into(), credential: token("c\\d") });
        let rest = RelayLogin::Rest { secret: token("north"), ttl: Duration::from_secs(3_600) };
        servers.add(vec!["turn:r.example.com".into()], rest);
        let now = UtcTime::from_unix_nanos(1_700_000_000_000_000_000);
        let links: Vec<_> = servers.links(now).map(|link| link.to_str().expect("ASCII").to_owned()).collect();
        let login = "; username=\"a\\\"b\"; credential=\"c\\\\d\"; credential-type=\"password\"";
        assert_eq!(
            links,
            [
                "<stun:stun.example.com:3478>; rel=\"ice-server\"".to_owned(),
                format!("<turn:t.example.com?transport=udp>; rel=\"ice-server\"{login}"),
                format!("<turns:t.example.com>; rel=\"ice-server\"{login}"),
                format!(
                    "<turn:r.example.com>; rel=\"ice-server\"; username=\"1700003600:relayd\"; credential=\"{}\"; \
                     credential-type=\"password\"",
                    sign("north", "1700003600:relayd")
                ),
            ]
        );
        assert_eq!(servers.secrets().count(), 3 - 1);
        assert!(!format!("{servers:?}").contains("north"));
    }

    #[test]
    fn logins_are_signed_as_turn_servers_check_them() {
        // The first is RFC 2202 §3, test case 2; the others were made with
        // `printf NAME | openssl dgst -sha1 -hmac SECRET -binary | base64`.
        for (secret, username, credential) in [
            ("Jefe", "what do ya want for nothing?", "7/zfauXrL6LSdBbV8YTfnCWafHk="),
            ("north", "1700003600:relayd", "76Ix/5e56QOxxAVusKr/Bmo/ngs="),
            ("logen", "1433895918506:user", "tNYippwy21xcpWfYUwpWJl1TFdw="),
        ] {
            assert_eq!(sign(secret, username), credential, "{username}");
        }
    }
}

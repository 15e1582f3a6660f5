//! Who may watch: Basic and Digest (RFC 2617, RFC 7616 with MD5), as cameras ask for it.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use md5::{Digest as _, Md5};

/// How a camera asks for a password.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Auth {
    /// It asks for none.
    #[default]
    Open,
    /// In the clear.
    Basic(Credentials),
    /// By challenge, with MD5.
    Digest(Credentials),
}

/// A user and a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The user's name.
    pub user: String,
    /// The password.
    pub password: String,
}

const REALM: &str = "relay-sim";

impl Auth {
    /// The `WWW-Authenticate` value that asks; `None` if it asks for none.
    pub(crate) fn challenge(&self, nonce: &str) -> Option<String> {
        match self {
            Self::Open => None,
            Self::Basic(_) => Some(format!("Basic realm=\"{REALM}\"")),
            Self::Digest(_) => Some(format!("Digest realm=\"{REALM}\", nonce=\"{nonce}\"")),
        }
    }

    /// Whether `authorization` (the header's value) opens the door for `method`.
    pub(crate) fn admits(&self, method: &str, authorization: Option<&str>, nonce: &str) -> bool {
        match self {
            Self::Open => true,
            Self::Basic(Credentials { user, password }) => authorization
                .and_then(|value| strip_scheme(value, "basic"))
                .is_some_and(|given| given == STANDARD.encode(format!("{user}:{password}"))),
            Self::Digest(credentials) => authorization
                .and_then(|value| strip_scheme(value, "digest"))
                .is_some_and(|fields| digest_admits(credentials, method, fields, nonce)),
        }
    }
}

fn strip_scheme<'a>(value: &'a str, scheme: &str) -> Option<&'a str> {
    let (given, rest) = value.split_once(' ')?;
    given.eq_ignore_ascii_case(scheme).then_some(rest.trim())
}

fn digest_admits(credentials: &Credentials, method: &str, fields: &str, nonce: &str) -> bool {
    let field = |name| field(fields, name).unwrap_or_default();
    let known = hex(format!("{}:{REALM}:{}", credentials.user, credentials.password));
    // RFC 2617 §3.2.2.1 without qop, which is all that the challenge offers (cameras do so); the URI is the client's.
    let asked = hex(format!("{method}:{}", field("uri")));
    field("username") == credentials.user
        && field("nonce") == nonce
        && field("response").eq_ignore_ascii_case(&hex(format!("{known}:{nonce}:{asked}")))
}

/// The value of `name` in `name="value", name=value`.
fn field<'a>(fields: &'a str, name: &str) -> Option<&'a str> {
    fields.split(',').find_map(|field| {
        let (key, value) = field.trim().split_once('=')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim_matches('"'))
    })
}

fn hex(text: String) -> String {
    Md5::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_password_is_admitted() {
        let credentials = Credentials { user: "admin".into(), password: "pa:ss".into() };
        let answer =
            hex(format!("{}:n1:{}", hex(format!("admin:{REALM}:pa:ss")), hex("DESCRIBE:rtsp://x/cam0".into())));
        let digest = format!("Digest username=\"admin\", nonce=\"n1\", uri=\"rtsp://x/cam0\", response=\"{answer}\"");
        let basic = format!("Basic {}", STANDARD.encode("admin:pa:ss"));
        let rows = [
            (Auth::Open, None, true),
            (Auth::Basic(credentials.clone()), None, false),
            (Auth::Basic(credentials.clone()), Some(basic.clone()), true),
            (Auth::Basic(credentials.clone()), Some("Basic YWRtaW46".into()), false),
            (Auth::Digest(credentials.clone()), Some(digest.clone()), true),
            (Auth::Digest(credentials.clone()), Some(digest.replace("n1", "n0")), false),
            (Auth::Digest(credentials.clone()), Some(digest.replace("admin", "root")), false),
            (Auth::Digest(credentials), Some(basic), false),
        ];
        for (auth, given, expected) in rows {
            assert_eq!(auth.admits("DESCRIBE", given.as_deref(), "n1"), expected, "{auth:?} {given:?}");
        }
    }
}

//! RTSP requests as a camera reads them (RFC 2326 §6), and Digest (RFC 2617 §3.2.2).

use md5::{Digest, Md5};

/// One request; header names in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) uri: String,
    headers: Vec<(String, String)>,
}

/// The most bytes of a request.
pub(crate) const MAX_REQUEST: usize = 16_384;
const REALM: &str = "relay-sim";
const NONCE: &str = "5ca1ab1e0ddba11";

impl Request {
    /// The request at the head of `bytes` and its length; interleaved data (RFC 2326 §10.12) is passed over as an empty
    /// request. `None`: not all of it is there yet.
    pub(crate) fn parse(bytes: &[u8]) -> Option<(Self, usize)> {
        if let [b'$', _, high, low, ..] = bytes {
            let len = 4 + usize::from(u16::from_be_bytes([*high, *low]));
            return (bytes.len() >= len).then(|| (Self::default(), len));
        }
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        let text = String::from_utf8_lossy(bytes.get(..end)?);
        let mut lines = text.lines();
        let mut words = lines.next()?.split_whitespace();
        let (method, uri) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
        let headers = lines.filter_map(|line| line.split_once(':'));
        let headers: Vec<_> =
            headers.map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned())).collect();
        let request = Self { method, uri, headers };
        let body: usize = request.header("content-length").and_then(|len| len.parse().ok()).unwrap_or(0);
        (bytes.len() >= end + body).then_some((request, end + body))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Whether the request proves that it knows `user` and `password`.
    pub(crate) fn is_authorised(&self, user: &str, password: &str) -> bool {
        let Some(answer) = self.header("authorization").and_then(|value| value.strip_prefix("Digest ")) else {
            return false;
        };
        let field = |name: &str| {
            let mut fields = answer.split(',').filter_map(|field| field.trim().split_once('='));
            fields.find(|(known, _)| *known == name).map(|(_, value)| value.trim_matches('"').to_owned())
        };
        let uri = field("uri").unwrap_or_default();
        let secret = md5_hex(&format!("{user}:{REALM}:{password}"));
        let asked = md5_hex(&format!("{}:{uri}", self.method));
        field("username").as_deref() == Some(user)
            && field("response") == Some(md5_hex(&format!("{secret}:{NONCE}:{asked}")))
    }
}

/// The challenge that [`Request::is_authorised`] checks the answer to.
pub(crate) fn challenge() -> String {
    format!("WWW-Authenticate: Digest realm=\"{REALM}\", nonce=\"{NONCE}\"\r\n")
}

fn md5_hex(text: &str) -> String {
    Md5::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

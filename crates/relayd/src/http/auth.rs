//! Who may come in: whoever sends the token, as bearer or as the password of Basic authentication.
//!
//! Browsers can't be told a bearer token for a page or a `<video>`; they ask for a password, and the token is it.

use std::{fmt, path::Path};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use subtle::ConstantTimeEq;

use super::{App, problem::Problem};

/// The secret that lets one in. Prints as `***`.
#[derive(Clone)]
pub(crate) struct Token(String);

/// Why a token file can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    /// It can't be read.
    #[error("it can't be read: {0}")]
    Unreadable(#[from] std::io::Error),
    /// It holds no token.
    #[error("it must hold one token of 1 to {TOKEN_MAX} visible ASCII characters")]
    NotAToken,
}

/// Longer tokens would not fit into a request's headers beside all else.
const TOKEN_MAX: usize = 1_024;

impl Token {
    /// Reads the token that is the whole of the file at `path`, but for white space around it.
    ///
    /// # Errors
    /// If it can't be read or holds no token.
    pub(crate) fn from_file(path: &Path) -> Result<Self, TokenError> {
        Self::new(std::fs::read_to_string(path)?.trim()).ok_or(TokenError::NotAToken)
    }

    /// `text`, if it can be sent in a header.
    pub(crate) fn new(text: &str) -> Option<Self> {
        let fits = (1..=TOKEN_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        fits.then(|| Self(text.to_owned()))
    }

    /// The secret itself.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether `headers` carry it; takes the same time wherever a wrong one differs.
    pub(super) fn is_in(&self, headers: &HeaderMap) -> bool {
        let Some(value) = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()) else {
            return false;
        };
        // RFC 9110 §11.1: the scheme's case does not matter.
        let Some((scheme, credentials)) = value.split_once(' ') else { return false };
        let sent = if scheme.eq_ignore_ascii_case("bearer") {
            credentials.trim().as_bytes().to_vec()
        } else if scheme.eq_ignore_ascii_case("basic") {
            // RFC 7617 §2: base64 of user:password; any user will do.
            let decoded = BASE64_STANDARD.decode(credentials.trim()).unwrap_or_default();
            decoded.splitn(2, |byte| *byte == b':').nth(1).unwrap_or_default().to_vec()
        } else {
            return false;
        };
        sent.ct_eq(self.0.as_bytes()).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Lets a request through that carries the token, or any if there is none to carry.
pub(super) async fn guard(State(app): State<App>, request: Request, next: Next) -> Response {
    if app.0.token.as_ref().is_none_or(|token| token.is_in(request.headers())) {
        return next.run(request).await;
    }
    let detail = "send the token: Authorization: Bearer TOKEN, or Basic with the token as password";
    let mut response = Problem::new(StatusCode::UNAUTHORIZED, detail).into_response();
    for challenge in ["Bearer realm=\"relayd\"", "Basic realm=\"relayd (any user, the token as password)\""] {
        response.headers_mut().append(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    response
}

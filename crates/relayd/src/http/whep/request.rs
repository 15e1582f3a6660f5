//! What WHEP reads of a request: whom it is for, its media type, its body, its entity tag.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use axum::{
    extract::{FromRequestParts, Path, Request},
    http::{HeaderMap, StatusCode, header, request::Parts},
};

use super::{ACCEPT_PATCH, ACCEPT_POST, SDP};
use crate::http::{BODY_MAX, problem::Problem, too_large};

/// Whom a request is for; what is not named is empty, and no stream or session is.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) stream: String,
    pub(super) session: String,
}

impl<S: Send + Sync> FromRequestParts<S> for Target {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Infallible> {
        let named = Path::<BTreeMap<String, String>>::from_request_parts(parts, state).await;
        let mut named = named.map(|Path(named)| named).unwrap_or_default();
        let mut take = |name| named.remove(name).unwrap_or_default();
        Ok(Self { stream: take("stream"), session: take("session") })
    }
}

/// A body comes at once from an honest client.
const BODY_PATIENCE: Duration = Duration::from_secs(5);

/// The body of a request, which must be of `media_type`.
///
/// # Errors
/// 415 for another type, 413 when it is too large, 408 when it does not come, 400 when it is no text.
pub(super) async fn body(request: Request, media_type: &'static str) -> Result<String, Problem> {
    if !is_of(request.headers(), media_type) {
        let name = if media_type == SDP { ACCEPT_POST } else { ACCEPT_PATCH };
        let why = format!("send Content-Type: {media_type}");
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, why).header(name, media_type));
    }
    let limit = usize::try_from(BODY_MAX).unwrap_or(usize::MAX);
    let read = tokio::time::timeout(BODY_PATIENCE, axum::body::to_bytes(request.into_body(), limit)).await;
    let bytes = match read {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(_too_large_or_cut_off)) => return Err(too_large()),
        Err(_elapsed) => {
            return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time: send it at once"));
        }
    };
    // RFC 8866 §5: session descriptions are UTF-8.
    let text = String::from_utf8(bytes.into());
    text.map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "the body is not UTF-8, which session descriptions are"))
}

/// Whether the content is of `media_type`; case and parameters don't matter (RFC 9110 §8.3.1).
fn is_of(headers: &HeaderMap, media_type: &str) -> bool {
    let sent = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    essence(sent).eq_ignore_ascii_case(media_type)
}

fn essence(media_type: &str) -> &str {
    media_type.split(';').next().unwrap_or_default().trim()
}

/// Whether JSON is asked for by name.
pub(super) fn wants_json(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|range| essence(range).eq_ignore_ascii_case("application/json"))
}

/// The strong entity tag of a session's one ICE session: the same for as long as it lives, and another for each.
pub(super) fn etag(session: &str) -> String {
    let mut hasher = DefaultHasher::new();
    session.hash(&mut hasher);
    format!("\"{:016x}\"", hasher.finish())
}

/// Whether `If-Match` (RFC 9110 §13.1.1) names the session's entity tag or any; `None` without one.
pub(super) fn is_fresh(headers: &HeaderMap, session: &str) -> Option<bool> {
    let tag = etag(session);
    let mut sent = headers.get_all(header::IF_MATCH).iter().peekable();
    sent.peek()?;
    let tags = sent.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).map(str::trim);
    // The draft's own example quotes the asterisk.
    let mut tags = tags.map(|sent| sent == tag || matches!(sent, "*" | "\"*\""));
    Some(tags.any(|names| names))
}

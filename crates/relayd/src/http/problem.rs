//! Errors as `application/problem+json` (RFC 9457).

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

/// What went wrong with a request.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    detail: String,
}

#[derive(Serialize)]
struct Body<'a> {
    title: &'a str,
    detail: &'a str,
    status: u16,
}

impl Problem {
    /// `detail` tells what would be right.
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into() }
    }

    /// 404: there is no stream called `name`.
    pub(super) fn no_stream(name: &str) -> Self {
        let shown: String = name.chars().take(64).collect();
        Self::new(StatusCode::NOT_FOUND, format!("no stream is called {shown:?}: /api/v1/streams lists them"))
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let title = self.status.canonical_reason().unwrap_or("Error");
        let body = Body { title, detail: &self.detail, status: self.status.as_u16() };
        let json = serde_json::to_vec(&body).unwrap_or_default();
        let media_type = HeaderValue::from_static("application/problem+json");
        (self.status, [(header::CONTENT_TYPE, media_type)], json).into_response()
    }
}

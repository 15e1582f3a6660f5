//! Errors as `application/problem+json` (RFC 9457).

use std::{fmt, time::Duration};

use axum::{
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

/// What went wrong with a request.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    detail: String,
    headers: Vec<(HeaderName, HeaderValue)>,
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
        Self { status, detail: detail.into(), headers: Vec::new() }
    }

    /// Says when another try may fare better.
    pub(super) fn retry_after(mut self, wait: Duration) -> Self {
        // RFC 9110 §10.2.3 counts whole seconds: never too few.
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        self.headers.push((header::RETRY_AFTER, HeaderValue::from(seconds.max(1))));
        self
    }

    /// Says more in a header.
    pub(super) fn header(mut self, name: HeaderName, value: &'static str) -> Self {
        self.headers.push((name, HeaderValue::from_static(value)));
        self
    }

    /// Its status.
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// 404: there is no stream called `name`.
    pub(super) fn no_stream(name: &str) -> Self {
        let shown: String = name.chars().take(64).collect();
        Self::new(StatusCode::NOT_FOUND, format!("no stream is called {shown:?}: /api/v1/streams lists them"))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let title = self.status.canonical_reason().unwrap_or("Error");
        let body = Body { title, detail: &self.detail, status: self.status.as_u16() };
        let json = serde_json::to_vec(&body).unwrap_or_default();
        let media_type = HeaderValue::from_static("application/problem+json");
        let mut response = (self.status, [(header::CONTENT_TYPE, media_type)], json).into_response();
        response.headers_mut().extend(self.headers);
        response
    }
}

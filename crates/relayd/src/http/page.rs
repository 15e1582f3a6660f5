//! The page: one embedded document that polls the API. Nothing is fetched from elsewhere.

use axum::{
    http::header,
    response::{Html, IntoResponse},
};

/// The whole page; browsers are told to run nothing but what is in it.
pub(super) async fn page() -> impl IntoResponse {
    const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
        connect-src 'self'; media-src 'self' blob:; img-src data:; base-uri 'none'; form-action 'none'; \
        frame-ancestors 'none'";
    let headers = [(header::CONTENT_SECURITY_POLICY, POLICY), (header::CACHE_CONTROL, "no-cache")];
    (headers, Html(include_str!("../../assets/page.html")))
}

//! The page: one embedded document and its player. It polls the API; nothing is fetched from elsewhere.

use axum::{
    http::header,
    response::{Html, IntoResponse},
};

/// The whole page; browsers are told to run nothing but what is in it, and its player.
pub(super) async fn page() -> impl IntoResponse {
    const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'self' 'unsafe-inline'; \
        connect-src 'self'; media-src 'self' blob:; img-src data:; base-uri 'none'; form-action 'none'; \
        frame-ancestors 'none'";
    let headers = [(header::CONTENT_SECURITY_POLICY, POLICY), (header::CACHE_CONTROL, "no-cache")];
    (headers, Html(include_str!("../../assets/page.html")))
}

/// The live view.
pub(super) async fn player() -> impl IntoResponse {
    let headers = [(header::CONTENT_TYPE, "text/javascript; charset=utf-8"), (header::CACHE_CONTROL, "no-cache")];
    (headers, include_str!("../../assets/player.js"))
}

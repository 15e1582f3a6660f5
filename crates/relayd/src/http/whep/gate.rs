//! Who may speak WHEP: the pages of which origins, how often, and with which token.

use std::net::{IpAddr, Ipv4Addr};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::{Target, lock};
use crate::{
    config::Origin,
    http::{App, Peer, problem::Problem},
};

/// Counts each request, and lets the pages of allowed origins read its answer, whatever it is.
pub(super) async fn expose(State(app): State<App>, request: Request, next: Next) -> Response {
    let method = known(request.method());
    let origin = request.headers().get(header::ORIGIN).cloned();
    let mut response = next.run(request).await;
    let whep = &app.0.whep;
    *lock(&whep.requests).entry((method, response.status().as_u16())).or_default() += 1;
    admit(response.headers_mut(), &whep.settings.origins, origin);
    response
}

/// Methods by name, so that nobody can make up labels.
fn known(method: &Method) -> &'static str {
    let known = ["POST", "PATCH", "DELETE", "GET", "HEAD", "OPTIONS"];
    known.into_iter().find(|name| *name == method.as_str()).unwrap_or("other")
}

fn admit(headers: &mut HeaderMap, allowed: &[Origin], origin: Option<HeaderValue>) {
    // Meant for the page and the API, which no other origin has any business with.
    headers.remove(HeaderName::from_static("cross-origin-resource-policy"));
    const EXPOSED: HeaderValue = HeaderValue::from_static("Location, ETag, Link, Accept-Patch, Retry-After");
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    if allowed.iter().any(Origin::is_any) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        return;
    }
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    let admits = |origin: &HeaderValue| {
        let origin = origin.to_str().unwrap_or_default();
        allowed.iter().any(|allowed| allowed.admits(origin))
    };
    if let Some(origin) = origin.filter(admits) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    }
}

/// Lets through who does not ask too often and carries the token of the stream, or else of the house. Preflights come
/// without one and say nothing that is not in the manual.
pub(super) async fn guard(State(app): State<App>, target: Target, request: Request, next: Next) -> Response {
    let whep = &app.0.whep;
    if matches!(*request.method(), Method::POST | Method::PATCH | Method::DELETE) {
        let peer = request.extensions().get::<Peer>().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0);
        if let Err(wait) = lock(&whep.rate).take(peer, whep.clock.now()) {
            let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "too many requests from this address: slow down");
            return problem.retry_after(wait).into_response();
        }
    }
    let own = whep.doors.get(&target.stream).and_then(|door| door.token.as_ref());
    let token = own.or(app.0.token.as_ref());
    if request.method() == Method::OPTIONS || token.is_none_or(|token| token.is_in(request.headers())) {
        return next.run(request).await;
    }
    if own.is_some()
        && is_basic(request.headers())
        && app.0.token.as_ref().is_some_and(|it| it.is_in(request.headers()))
    {
        // A browser sends the token of the house with everything, and would forget it if it heard 401.
        let detail = "this stream has a token of its own: send that as Authorization: Bearer TOKEN";
        return Problem::new(StatusCode::FORBIDDEN, detail).into_response();
    }
    let problem = Problem::new(StatusCode::UNAUTHORIZED, "send the token: Authorization: Bearer TOKEN");
    // Not Basic too: browsers would ask their user for a password in the middle of a page.
    problem.header(header::WWW_AUTHENTICATE, "Bearer realm=\"relayd\"").into_response()
}

/// Whether the token came as the password of Basic authentication (RFC 7617 §2), which is a browser's way.
fn is_basic(headers: &HeaderMap) -> bool {
    let sent = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    sent.and_then(|sent| sent.split_once(' ')).is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"))
}

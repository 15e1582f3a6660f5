//! WHEP (draft-ietf-wish-whep-03): a player posts an offer and gets an answer, trickles candidates, and leaves.
//!
//! Here belongs what HTTP has to say: media types, tokens, rates, status codes. What is in an offer does not.

mod gate;
mod ice_servers;
mod rate;
mod request;
mod watch;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    extract::{Request, State},
    http::{HeaderMap, HeaderName, StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::{MethodRouter, delete, post},
};
use relay_graph::Clock;
use relay_webrtc::{Port, PortDrops};
use tracing::{debug, info};

pub(crate) use ice_servers::{IceServers, RelayLogin};
pub(crate) use watch::{OpenError, PatchError, Watch};

use super::{App, Token, api::NO_STORE, problem::Problem, viewers::Viewer};
use crate::config::Origin;
use rate::RateLimit;
use request::{Target, body, etag, is_fresh, wants_json};

/// What may be watched, by whom, and what has been asked for.
pub(crate) struct Whep {
    settings: Settings,
    doors: BTreeMap<String, Door>,
    clock: Clock,
    rate: Mutex<RateLimit>,
    requests: Mutex<BTreeMap<(&'static str, u16), u64>>,
    offers: Mutex<BTreeMap<(String, &'static str), u64>>,
}

/// What is the same for every stream.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    /// What viewers are told of.
    pub(crate) ice_servers: IceServers,
    /// Whose pages may come.
    pub(crate) origins: Vec<Origin>,
    /// What media goes through.
    pub(crate) port: Option<Port>,
}

/// The way to a stream.
pub(crate) struct Door {
    watch: Arc<dyn Watch>,
    token: Option<Token>,
    /// When a refusal was last logged.
    told: Mutex<Option<Instant>>,
}

impl Door {
    /// To the viewers of `watch`; with a `token`, that one opens it and no other does.
    pub(crate) fn new(watch: Arc<dyn Watch>, token: Option<Token>) -> Self {
        Self { watch, token, told: Mutex::default() }
    }
}

/// An offer that takes longer to answer than this is given up: answering one takes a millisecond.
const OPEN_PATIENCE: Duration = Duration::from_secs(5);

/// When to come back to a server that is full or about to stop.
const COME_BACK: Duration = Duration::from_secs(2);

/// Refusals of a stream are logged this far apart.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// RFC 9110 has no constants for these yet: the LDP recommendation's and RFC 5789 §3.1's.
const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");
const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");

const SDP: &str = "application/sdp";
const FRAGMENT: &str = "application/trickle-ice-sdpfrag";

impl Whep {
    /// Lets viewers through `doors`, each named as its stream.
    pub(crate) fn new(settings: Settings, doors: BTreeMap<String, Door>, clock: &Clock) -> Self {
        Self {
            settings,
            doors,
            clock: clock.clone(),
            rate: Mutex::default(),
            requests: Mutex::default(),
            offers: Mutex::default(),
        }
    }

    /// The viewers of `stream`, if it may be watched.
    pub(super) fn watch(&self, stream: &str) -> Option<&dyn Watch> {
        self.doors.get(stream).map(|door| door.watch.as_ref())
    }

    /// How many watch `stream` now, those that are connecting included.
    pub(super) fn count(&self, stream: &str) -> usize {
        self.watch(stream).map_or(0, Watch::count)
    }

    /// What came to the port and was for nobody, or could not be sent.
    pub(super) fn port_drops(&self) -> Option<PortDrops> {
        self.settings.port.as_ref().map(Port::drops)
    }

    /// Requests by method and status.
    pub(super) fn requests(&self) -> BTreeMap<(&'static str, u16), u64> {
        lock(&self.requests).clone()
    }

    /// Offers by stream and outcome.
    pub(super) fn offers(&self) -> BTreeMap<(String, &'static str), u64> {
        lock(&self.offers).clone()
    }

    fn door(&self, app: &App, stream: &str) -> Result<&Door, Problem> {
        match self.doors.get(stream) {
            Some(door) => Ok(door),
            None if app.0.pipeline.stream(stream).is_some() => {
                Err(Problem::new(StatusCode::NOT_FOUND, "this stream may not be watched: it says webrtc = false"))
            }
            None => Err(Problem::no_stream(stream)),
        }
    }

    /// Counts what became of an offer, and says why it was refused, if that was not said a moment ago.
    fn note(&self, stream: &str, door: &Door, answered: Result<(), &Problem>) {
        let outcome = answered.map_or_else(|problem| outcome(problem.status()), |()| "answered");
        *lock(&self.offers).entry((stream.to_owned(), outcome)).or_default() += 1;
        let Err(problem) = answered else { return };
        let now = self.clock.now();
        let mut told = lock(&door.told);
        if told.is_none_or(|told| now.saturating_duration_since(told) >= TELL_EVERY) {
            *told = Some(now);
            info!(stream, outcome, "a viewer was refused: {problem}");
        }
    }
}

/// What became of an offer, in one of a few words.
fn outcome(status: StatusCode) -> &'static str {
    match status {
        StatusCode::BAD_REQUEST => "malformed",
        StatusCode::REQUEST_TIMEOUT => "timeout",
        StatusCode::CONFLICT => "not_live",
        StatusCode::PAYLOAD_TOO_LARGE => "too_large",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "wrong_type",
        StatusCode::UNPROCESSABLE_ENTITY => "unservable",
        _ => "unavailable",
    }
}

fn unavailable(why: impl Into<String>, come_back: Duration) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, why).retry_after(come_back)
}

/// WHEP's routes, with their own rules of admission.
pub(super) fn router(app: &App) -> Router<App> {
    Router::new()
        .route("/whep/{stream}", anyone(post(open)))
        .route("/whep/{stream}/{session}", anyone(delete(close).patch(trickle)))
        .method_not_allowed_fallback(super::method_not_allowed)
        .layer(middleware::from_fn_with_state(app.clone(), gate::guard))
        .layer(middleware::from_fn(super::bounded))
        .layer(middleware::from_fn_with_state(app.clone(), gate::expose))
}

fn anyone(methods: MethodRouter<App>) -> MethodRouter<App> {
    methods.get(look).head(discover).options(preflight)
}

/// `POST`: an offer for an answer.
async fn open(State(app): State<App>, target: Target, request: Request) -> Result<Response, Problem> {
    let whep = &app.0.whep;
    let door = whep.door(&app, &target.stream)?;
    let opened = answer(&app, door, request).await;
    whep.note(&target.stream, door, opened.as_ref().map(|_| ()));
    let (id, answer) = opened?;
    debug!(stream = target.stream, "an offer was answered");
    let headers = [
        (header::CONTENT_TYPE, SDP.to_owned()),
        (header::LOCATION, format!("/whep/{}/{id}", target.stream)),
        (header::ETAG, etag(&id)),
        (ACCEPT_PATCH, FRAGMENT.to_owned()),
    ];
    let mut response = (StatusCode::CREATED, headers, answer).into_response();
    for link in whep.settings.ice_servers.links(whep.clock.utc()) {
        response.headers_mut().append(header::LINK, link);
    }
    Ok(response)
}

async fn answer(app: &App, door: &Door, request: Request) -> Result<(String, String), Problem> {
    const STOPPING: &str = "the server is about to stop";
    if app.is_draining() {
        return Err(unavailable(STOPPING, COME_BACK));
    }
    let offer = body(request, SDP).await?;
    let opened = tokio::time::timeout(OPEN_PATIENCE, door.watch.open(offer)).await;
    let refused = match opened {
        Ok(Ok(opened)) => return Ok(opened),
        Ok(Err(refused)) => refused,
        Err(_elapsed) => return Err(unavailable("the stream did not answer in time", COME_BACK)),
    };
    Err(match refused {
        OpenError::NotLive { retry_after, why } => Problem::new(StatusCode::CONFLICT, why).retry_after(retry_after),
        OpenError::Full { retry_after, why } => unavailable(why, retry_after),
        OpenError::Malformed(why) => Problem::new(StatusCode::BAD_REQUEST, why),
        OpenError::TooLarge(why) => Problem::new(StatusCode::PAYLOAD_TOO_LARGE, why),
        OpenError::Unservable(why) => Problem::new(StatusCode::UNPROCESSABLE_ENTITY, why),
        OpenError::Stopping => unavailable(STOPPING, COME_BACK),
    })
}

/// `PATCH`: more candidates. Draft §4.3.1: the entity tag names the ICE session, of which there is one; ICE restarts
/// are not built, so 422 answers them.
async fn trickle(State(app): State<App>, target: Target, request: Request) -> Result<Response, Problem> {
    let door = app.0.whep.door(&app, &target.stream)?;
    if door.watch.diagnose(&target.session).is_none() {
        return Err(no_session());
    }
    let fresh = is_fresh(request.headers(), &target.session);
    let fragment = body(request, FRAGMENT).await?;
    match fresh {
        Some(true) => {}
        Some(false) => {
            let why = "If-Match names another ICE session: send the ETag of the answer, or *";
            return Err(Problem::new(StatusCode::PRECONDITION_FAILED, why));
        }
        None => {
            let why = "send the ETag of the answer as If-Match";
            return Err(Problem::new(StatusCode::PRECONDITION_REQUIRED, why));
        }
    }
    match door.watch.trickle(&target.session, fragment).await {
        Ok(()) => Ok(StatusCode::NO_CONTENT.into_response()),
        Err(PatchError::Unknown) => Err(no_session()),
        Err(PatchError::Malformed(why)) => Err(Problem::new(StatusCode::BAD_REQUEST, why)),
        Err(PatchError::IceRestart) => {
            let why = "ICE restarts are not served: end the session with DELETE and post a new offer";
            Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, why))
        }
    }
}

/// `DELETE`: the viewer leaves. Draft §4.3.1: entity tags are ignored.
async fn close(State(app): State<App>, target: Target) -> Result<StatusCode, Problem> {
    let door = app.0.whep.door(&app, &target.stream)?;
    if door.watch.close(&target.session).await { Ok(StatusCode::OK) } else { Err(no_session()) }
}

/// `GET`: nothing, or for those who want JSON, how a session goes.
async fn look(State(app): State<App>, target: Target, headers: HeaderMap) -> Result<Response, Problem> {
    let door = app.0.whep.door(&app, &target.stream)?;
    if target.session.is_empty() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let viewer = door.watch.diagnose(&target.session).ok_or_else(no_session)?;
    if wants_json(&headers) {
        return Ok((NO_STORE, Json(Viewer::from(&viewer))).into_response());
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `HEAD`: that WHEP is spoken here.
async fn discover(State(app): State<App>, target: Target) -> Result<Response, Problem> {
    let door = app.0.whep.door(&app, &target.stream)?;
    if !target.session.is_empty() && door.watch.diagnose(&target.session).is_none() {
        return Err(no_session());
    }
    Ok([(header::CONTENT_TYPE, SDP)].into_response())
}

/// `OPTIONS`: what browsers ask before they let a page of another origin in; answered to everyone, as they send no
/// token with it.
async fn preflight() -> Response {
    let headers = [
        (ACCEPT_POST, SDP),
        (ACCEPT_PATCH, FRAGMENT),
        (header::ALLOW, METHODS),
        (header::ACCESS_CONTROL_ALLOW_METHODS, METHODS),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "Authorization, Content-Type, If-Match"),
        (header::ACCESS_CONTROL_MAX_AGE, "7200"),
    ];
    headers.into_response()
}

const METHODS: &str = "OPTIONS, GET, HEAD, POST, PATCH, DELETE";

fn no_session() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "there is no such session: it ended, or never was")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;

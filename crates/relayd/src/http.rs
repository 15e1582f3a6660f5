//! The HTTP surface: the page, the API, recordings, metrics and health.
//!
//! Here belongs what a request sees. It reads snapshots and files, and hands offers to viewers' sinks; it starts and
//! stops nothing else.

mod api;
mod auth;
mod kvs;
mod metrics;
mod page;
mod problem;
mod range;
mod recordings;
mod server;
mod viewers;
mod whep;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderName, HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use relay_graph::PipelineReader;

pub(crate) use api::Track;
pub(crate) use auth::Token;
pub(crate) use server::Server;
pub(crate) use whep::{Door, IceServers, RelayLogin, Settings, Whep};

use crate::{heartbeat::Heartbeat, nodes::KvsShown};
use problem::Problem;
use server::Peer;

/// What the surface shows.
#[derive(Clone)]
pub(crate) struct App(Arc<Inner>);

struct Inner {
    pipeline: PipelineReader,
    recorders: Vec<Recorder>,
    kvs: Vec<KvsShown>,
    token: Option<Token>,
    heartbeat: Heartbeat,
    scheduler: &'static str,
    whep: Whep,
    draining: AtomicBool,
    views: recordings::Views,
}

/// What is running.
pub(crate) struct Shown {
    /// All of it.
    pub(crate) pipeline: PipelineReader,
    /// What records.
    pub(crate) recorders: Vec<Recorder>,
    /// What sends to Kinesis Video Streams.
    pub(crate) kvs: Vec<KvsShown>,
}

/// A record sink: whose files are listed and played.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Recorder {
    /// Its stream.
    pub(crate) stream: String,
    /// Its own name.
    pub(crate) sink: String,
    /// The directory above the stream's.
    pub(crate) dir: PathBuf,
}

impl App {
    /// Shows what is `shown` to whoever has the `token`, if there is one, and lets viewers in through `whep`.
    /// `scheduler` is told at `/metrics`.
    pub(crate) fn new(
        shown: Shown,
        token: Option<Token>,
        heartbeat: Heartbeat,
        scheduler: &'static str,
        whep: Whep,
    ) -> Self {
        let draining = AtomicBool::new(false);
        let views = recordings::Views::default();
        let Shown { pipeline, recorders, kvs } = shown;
        Self(Arc::new(Inner { pipeline, recorders, kvs, token, heartbeat, scheduler, whep, draining, views }))
    }

    /// From now on `/readyz` says that nothing new should come here.
    pub(crate) fn drain(&self) {
        self.0.draining.store(true, Relaxed);
    }

    /// The routes.
    pub(crate) fn router(&self) -> Router {
        let open = Router::new().route("/healthz", get(healthz)).route("/readyz", get(readyz));
        let guarded = Router::new()
            .route("/", get(page::page))
            .route("/player.js", get(page::player))
            .route("/metrics", get(metrics::metrics))
            .route("/api/v1/streams", get(api::streams))
            .route("/api/v1/streams/{stream}", get(api::stream))
            .route("/api/v1/streams/{stream}/recordings", get(recordings::list))
            .route("/recordings/{stream}/{name}", get(recordings::play))
            .route("/api/v1/streams/{stream}/viewers", get(viewers::viewers))
            .fallback(async || Problem::new(StatusCode::NOT_FOUND, "nothing is served at this path"))
            .layer(middleware::from_fn_with_state(self.clone(), auth::guard));
        open.merge(guarded)
            .method_not_allowed_fallback(method_not_allowed)
            .layer(middleware::from_fn(bounded))
            .merge(whep::router(self))
            .with_state(self.clone())
    }

    fn is_draining(&self) -> bool {
        self.0.draining.load(Relaxed)
    }
}

/// The largest body that any request needs: a session description is a few KiB.
const BODY_MAX: u64 = 64 << 10;

/// Refuses large bodies before they are sent, and sets the headers that every answer has.
async fn bounded(request: Request, next: Next) -> Response {
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let length = length.and_then(|value| value.parse::<u64>().ok()).unwrap_or(0);
    let mut response = if length > BODY_MAX { too_large().into_response() } else { next.run(request).await };
    let headers = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in headers {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn too_large() -> Problem {
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("a body here has at most {BODY_MAX} bytes"))
}

async fn method_not_allowed() -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "the Allow header tells what this path takes")
}

/// 200 while every runtime that carries streams turns.
async fn healthz(State(app): State<App>) -> Result<&'static str, Problem> {
    match app.0.heartbeat.silent() {
        None => Ok("ok\n"),
        Some(silence) => {
            let detail = format!("a runtime has not turned for {} s", silence.as_secs());
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail))
        }
    }
}

/// 200 until the process is told to stop. Every listener is bound and the plan is running before it can answer.
async fn readyz(State(app): State<App>) -> Result<&'static str, Problem> {
    if app.is_draining() {
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "draining: the process was told to stop"));
    }
    Ok("ready\n")
}

#[cfg(test)]
mod tests;

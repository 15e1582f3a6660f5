//! `/api/v1/streams/{stream}/viewers`: who watches, and how it goes. Session names are secrets and are not told.

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::{Path, State},
    response::IntoResponse,
};
use relay_nodes::ViewerSnapshot;
use serde::Serialize;

use super::{
    App,
    api::{NO_STORE, millis, rfc3339},
    problem::Problem,
    whep::Watch,
};

/// A stream's viewers, and for a while those that ended.
pub(super) async fn viewers(State(app): State<App>, Path(stream): Path<String>) -> Result<impl IntoResponse, Problem> {
    if app.0.pipeline.stream(&stream).is_none() {
        return Err(Problem::no_stream(&stream));
    }
    let viewers = app.0.whep.watch(&stream).map_or_else(Vec::new, Watch::snapshot);
    let viewers: Vec<Viewer> = viewers.iter().map(Viewer::from).collect();
    Ok((NO_STORE, Json(viewers)))
}

/// A viewer as told.
#[derive(Debug, Serialize)]
pub(super) struct Viewer {
    viewer: String,
    state: &'static str,
    since: String,
    /// Why it failed, in plain words: the candidate pairs that were tried, what each side sent.
    cause: Option<String>,
    remote: Option<String>,
    protocol: Option<&'static str>,
    packets_out: u64,
    bytes_out: u64,
    packets_dropped: BTreeMap<&'static str, u64>,
    lag_ms: u64,
    rtt_ms: Option<u64>,
    estimate_bps: Option<u64>,
    lost_per_mille: u32,
    packets_retransmitted: u64,
    key_frame_requests: u64,
    /// How long each step of the join took, since the offer came in.
    join_ms: Join,
}

#[derive(Debug, Serialize)]
struct Join {
    answer: Option<u64>,
    ice: Option<u64>,
    connected: Option<u64>,
    first_key_frame: Option<u64>,
}

impl From<&ViewerSnapshot> for Viewer {
    fn from(viewer: &ViewerSnapshot) -> Self {
        Self {
            viewer: viewer.tag.clone(),
            state: viewer.state,
            since: rfc3339(viewer.since),
            cause: viewer.cause.clone(),
            remote: viewer.remote.clone(),
            protocol: viewer.protocol,
            packets_out: viewer.packets_out,
            bytes_out: viewer.bytes_out,
            packets_dropped: viewer.dropped.clone(),
            lag_ms: millis(viewer.lag),
            rtt_ms: viewer.rtt.map(millis),
            estimate_bps: viewer.estimate_bps,
            lost_per_mille: viewer.fraction_lost_milli,
            packets_retransmitted: viewer.retransmitted,
            key_frame_requests: viewer.key_frame_requests,
            join_ms: Join {
                answer: viewer.stages.answer.map(millis),
                ice: viewer.stages.ice.map(millis),
                connected: viewer.stages.connected.map(millis),
                first_key_frame: viewer.stages.first_key_frame.map(millis),
            },
        }
    }
}

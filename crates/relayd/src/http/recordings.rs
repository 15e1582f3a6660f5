//! Recordings: their list, and their bytes with `Range` so that browsers can seek.

use std::{
    io::{self, SeekFrom},
    path::PathBuf,
};

use axum::{
    Json,
    body::Body,
    extract::{Path, Query, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use relay_record::{Recording, start_of};
use serde::{Deserialize, Serialize};
use tokio::{
    fs::File,
    io::{AsyncReadExt, AsyncSeekExt},
};
use tokio_util::io::ReaderStream;
use tracing::warn;

use super::{App, Recorder, api::rfc3339, problem::Problem, range::Asked};

/// `?sink=NAME&limit=N`.
#[derive(Debug, Deserialize)]
pub(super) struct Choice {
    /// Only the recordings of this sink.
    sink: Option<String>,
    /// Only this many, the newest.
    limit: Option<usize>,
}

#[derive(Debug, Serialize)]
struct Listed {
    name: String,
    start: String,
    duration_ms: u64,
    bytes: u64,
    url: String,
}

/// A stream's finished and running segments, oldest first.
pub(super) async fn list(
    State(app): State<App>,
    Path(stream): Path<String>,
    Query(choice): Query<Choice>,
) -> Result<impl IntoResponse, Problem> {
    let recorders = recorders(&app, &stream, choice.sink.as_deref())?;
    let many = recorders.len() > 1;
    let mut found = Vec::new();
    for recorder in recorders {
        let sink = recorder.sink.clone();
        let recordings = read_list(recorder).await?;
        found.extend(recordings.into_iter().map(|recording| (recording, sink.clone())));
    }
    found.sort_by(|(a, _), (b, _)| (a.start, &a.name).cmp(&(b.start, &b.name)));
    let skipped = choice.limit.map_or(0, |limit| found.len().saturating_sub(limit));
    let listed: Vec<Listed> = found
        .into_iter()
        .skip(skipped)
        .map(|(recording, sink)| Listed {
            start: rfc3339(recording.start),
            duration_ms: u64::try_from(recording.duration.as_millis()).unwrap_or(u64::MAX),
            bytes: recording.bytes,
            // Stream, sink and file names need no escaping: see `config::stream::check_name` and `relay_record`.
            url: if many {
                format!("/recordings/{stream}/{}?sink={sink}", recording.name)
            } else {
                format!("/recordings/{stream}/{}", recording.name)
            },
            name: recording.name,
        })
        .collect();
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(listed)))
}

/// One recording, whole or in part.
pub(super) async fn play(
    State(app): State<App>,
    Path((stream, name)): Path<(String, String)>,
    Query(choice): Query<Choice>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let recorders = recorders(&app, &stream, choice.sink.as_deref())?;
    // The stream is one of the configuration's and the name is one that a recorder gives, character by character: no
    // other file can be reached.
    for recorder in recorders.iter().filter(|_| start_of(&name).is_some()) {
        match send(recorder.dir.join(&recorder.stream).join(&name), &headers).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            sent => return sent.map_err(|error| unreadable(&error)),
        }
    }
    Err(Problem::new(StatusCode::NOT_FOUND, "the stream has no recording of this name"))
}

fn recorders(app: &App, stream: &str, sink: Option<&str>) -> Result<Vec<Recorder>, Problem> {
    if app.0.pipeline.stream(stream).is_none() {
        return Err(Problem::no_stream(stream));
    }
    let fits = |recorder: &&Recorder| recorder.stream == stream && sink.is_none_or(|sink| sink == recorder.sink);
    Ok(app.0.recorders.iter().filter(fits).cloned().collect())
}

async fn read_list(recorder: Recorder) -> Result<Vec<Recording>, Problem> {
    let read = tokio::task::spawn_blocking(move || relay_record::list(&recorder.dir, &recorder.stream)).await;
    match read {
        Ok(Ok(recordings)) => Ok(recordings),
        Ok(Err(error)) => Err(unreadable(&error)),
        Err(error) => Err(unreadable(&io::Error::other(error))),
    }
}

fn unreadable(error: &io::Error) -> Problem {
    warn!("recordings can't be read: {error}");
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, format!("the recordings can't be read: {error}"))
}

/// Read and sent in pieces of this size.
const CHUNK: usize = 64 << 10;

async fn send(path: PathBuf, headers: &HeaderMap) -> io::Result<Response> {
    let mut file = File::open(path).await?;
    let metadata = file.metadata().await?;
    if !metadata.is_file() {
        return Err(io::ErrorKind::NotFound.into());
    }
    let len = metadata.len();
    let range = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    let (status, first, count) = match Asked::parse(range, len) {
        Asked::Whole => (StatusCode::OK, 0, len),
        Asked::Part { first, last } => (StatusCode::PARTIAL_CONTENT, first, last - first + 1),
        Asked::Nothing => (StatusCode::RANGE_NOT_SATISFIABLE, 0, 0),
    };
    file.seek(SeekFrom::Start(first)).await?;
    if status == StatusCode::RANGE_NOT_SATISFIABLE {
        let mut response = Problem::new(status, format!("the recording has {len} bytes")).into_response();
        response.headers_mut().insert(header::CONTENT_RANGE, number(format!("bytes */{len}")));
        return Ok(response);
    }
    let body = Body::from_stream(ReaderStream::with_capacity(file.take(count), CHUNK));
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("video/mp4"));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(count));
    if status == StatusCode::PARTIAL_CONTENT {
        headers.insert(header::CONTENT_RANGE, number(format!("bytes {first}-{}/{len}", first + count - 1)));
    }
    Ok(response)
}

fn number(text: String) -> HeaderValue {
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("bytes */*"))
}

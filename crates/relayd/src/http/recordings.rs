//! Recordings: their list, and their bytes with `Range` so that browsers can seek.
//!
//! A running recording grows, and is rearranged when it is finished; a player that comes back for another range must
//! not see that. So the list gives it with its size, `?bytes=N`, and whoever asks for that gets those bytes as an
//! ordinary file, the same for ever. Without it, a file is what it is on the disk at the moment.

mod views;

use std::{
    io::{self, Cursor, SeekFrom},
    ops::Range,
    path::Path as FilePath,
};

use axum::{
    Json,
    body::{Body, Bytes},
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

pub(super) use views::Views;

use super::{App, Recorder, api::rfc3339, problem::Problem, range::Asked};
use views::View;

/// `?sink=NAME&limit=N`.
#[derive(Debug, Deserialize)]
pub(super) struct Choice {
    /// Only the recordings of this sink.
    sink: Option<String>,
    /// Only this many, the newest.
    limit: Option<usize>,
}

/// `?sink=NAME&bytes=N`.
#[derive(Debug, Deserialize)]
pub(super) struct Playback {
    /// Only if it is this sink's.
    sink: Option<String>,
    /// Of a running recording only so much, as an ordinary file.
    bytes: Option<u64>,
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
            url: url(&stream, many.then_some(&sink), &recording),
            name: recording.name,
        })
        .collect();
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(listed)))
}

/// Stream, sink and file names need no escaping: see `config::stream::check_name` and `relay_record`.
fn url(stream: &str, sink: Option<&String>, recording: &Recording) -> String {
    let sink = sink.map(|sink| format!("sink={sink}"));
    let bytes = (!recording.finished).then(|| format!("bytes={}", recording.bytes));
    let query: Vec<_> = sink.into_iter().chain(bytes).collect();
    let mark = if query.is_empty() { "" } else { "?" };
    format!("/recordings/{stream}/{}{mark}{}", recording.name, query.join("&"))
}

/// One recording, whole or in part.
pub(super) async fn play(
    State(app): State<App>,
    Path((stream, name)): Path<(String, String)>,
    Query(playback): Query<Playback>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let recorders = recorders(&app, &stream, playback.sink.as_deref())?;
    // The stream is one of the configuration's and the name is one that a recorder gives, character by character: no
    // other file can be reached.
    for recorder in recorders.iter().filter(|_| start_of(&name).is_some()) {
        let path = recorder.dir.join(&recorder.stream).join(&name);
        match Content::open(&path, playback.bytes, &app.0.views).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(unreadable(&error)),
            Ok(content) => return send(content, &headers).await.map_err(|error| unreadable(&error)),
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

/// What is sent: `head`, the file's own bytes from there up to `until`, `tail`.
struct Content {
    file: File,
    view: View,
}

impl Content {
    async fn open(path: &FilePath, bytes: Option<u64>, views: &Views) -> io::Result<Self> {
        let file = File::open(path).await?;
        let metadata = file.metadata().await?;
        if !metadata.is_file() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let pinned = match bytes {
            Some(bytes) => views.of(path, bytes).await?,
            None => None,
        };
        let whole = || View { head: Bytes::new(), until: metadata.len(), tail: Bytes::new() };
        Ok(Self { file, view: pinned.unwrap_or_else(whole) })
    }

    fn len(&self) -> u64 {
        self.view.until + self.view.tail.len() as u64
    }

    /// `count` bytes from `first` on.
    async fn part(self, first: u64, count: u64) -> io::Result<Body> {
        let Self { mut file, view: View { head, until, tail } } = self;
        let end = first + count;
        let from = first.max(head.len() as u64);
        let own = end.min(until).saturating_sub(from);
        file.seek(SeekFrom::Start(from)).await?;
        let [head, tail] = [(head, 0), (tail, until)].map(|(bytes, at)| Cursor::new(cut(&bytes, at, first..end)));
        Ok(Body::from_stream(ReaderStream::with_capacity(head.chain(file.take(own)).chain(tail), CHUNK)))
    }
}

/// What of `bytes`, which stand at `at`, lies in `range`.
fn cut(bytes: &Bytes, at: u64, range: Range<u64>) -> Bytes {
    let place = |position: u64| {
        let place = usize::try_from(position.saturating_sub(at)).unwrap_or(usize::MAX);
        place.min(bytes.len())
    };
    let (first, end) = (place(range.start), place(range.end));
    bytes.slice(first..end.max(first))
}

async fn send(content: Content, headers: &HeaderMap) -> io::Result<Response> {
    let len = content.len();
    let range = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    let (status, first, count) = match Asked::parse(range, len) {
        Asked::Whole => (StatusCode::OK, 0, len),
        Asked::Part { first, last } => (StatusCode::PARTIAL_CONTENT, first, last - first + 1),
        Asked::Nothing => (StatusCode::RANGE_NOT_SATISFIABLE, 0, 0),
    };
    if status == StatusCode::RANGE_NOT_SATISFIABLE {
        let mut response = Problem::new(status, format!("the recording has {len} bytes")).into_response();
        response.headers_mut().insert(header::CONTENT_RANGE, number(format!("bytes */{len}")));
        return Ok(response);
    }
    let body = content.part(first, count).await?;
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

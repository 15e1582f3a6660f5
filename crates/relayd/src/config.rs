//! The configuration file: every key, its unit and its default. Parsed whole, so that all mistakes are told at once.
//!
//! Here belong the names of keys and what values they take. What a source or a sink does with them does not.

mod hls;
mod ice;
mod kvs;
mod mistake;
mod network;
mod reader;
mod runtime;
mod sink;
mod source;
mod stream;
mod units;
mod webrtc;

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use relay_graph::Plan;
use schemars::JsonSchema;
use toml::de::DeTable;

pub(crate) use hls::{Pace, Variant};
pub(crate) use ice::{IceServer, Login};
pub(crate) use kvs::Kvs;
pub(crate) use mistake::{Mistakes, Remark, redact};
pub(crate) use network::{Auth, HTTP_LISTEN, Http};
pub(crate) use runtime::{Runtime, Scheduler};
pub(crate) use sink::{Leak, Queue, Record, SinkKind, Sync};
pub(crate) use source::{Source, SourceUrl, Transport};
pub(crate) use stream::{Stream, VIEWERS};
pub(crate) use units::{Size, Time};
pub(crate) use webrtc::{Origin, Viewing, WEBRTC_LISTEN, WebRtc};

use reader::Table;

use crate::nodes;

/// The configuration of relayd: streams, each with a source and its sinks, and what serves them.
#[derive(Clone, Debug, Default, JsonSchema)]
#[schemars(title = "relayd.toml", deny_unknown_fields)]
pub(crate) struct Config {
    /// The page, the API, WHEP and the metrics.
    #[schemars(default)]
    pub(crate) http: Http,
    /// Live viewing in browsers: the port that media goes through, and who is let in.
    #[schemars(default)]
    pub(crate) webrtc: WebRtc,
    /// How the work is spread over the processor's cores.
    #[schemars(default)]
    pub(crate) runtime: Runtime,
    /// The streams by name: 1 to 64 of `A-Z a-z 0-9 - _ .`, no leading dot.
    #[schemars(default, with = "BTreeMap<String, Stream>")]
    pub(crate) streams: Vec<Stream>,
}

/// A valid file: what it says, what can be run of it, and what is worth knowing about it.
pub(crate) struct Loaded {
    /// What it says.
    pub(crate) config: Config,
    /// What can be run.
    pub(crate) plan: Plan,
    /// What stops nothing and is worth knowing.
    pub(crate) notes: Vec<Remark>,
}

/// Why a file can't be used.
#[derive(Debug)]
pub(crate) enum LoadError {
    /// None of the places where it is looked for has one.
    NotFound,
    /// It can't be read.
    Unreadable(PathBuf, std::io::Error),
    /// What is wrong with it, all of it, and what is worth knowing besides.
    Wrong(Vec<Remark>, Vec<Remark>),
}

/// Where the file is looked for when none is named.
pub(crate) const DEFAULT_PATHS: [&str; 2] = ["relayd.toml", "/etc/relayd/relayd.toml"];

/// More streams than this are refused: each keeps buffers and two tasks at least.
pub(crate) const STREAMS_MAX: usize = 1_000;

/// Reads the file at `path`, or the first of [`DEFAULT_PATHS`] that exists. Opens no socket.
///
/// # Errors
/// Everything that is wrong, at once.
pub(crate) fn load(path: Option<&Path>) -> Result<Loaded, LoadError> {
    let default = || DEFAULT_PATHS.into_iter().map(Path::new).find(|path| path.exists());
    let path = path.or_else(default).ok_or(LoadError::NotFound)?;
    let bytes = std::fs::read(path).map_err(|error| LoadError::Unreadable(path.to_owned(), error))?;
    let file = path.display().to_string();
    match std::str::from_utf8(&bytes) {
        Ok(text) => parse(text, &file),
        Err(error) => {
            let valid = bytes.get(..error.valid_up_to()).map(String::from_utf8_lossy).unwrap_or_default();
            let message = "this byte is not UTF-8: TOML files are".to_owned();
            Err(LoadError::Wrong(vec![Remark::new(&valid, &file, valid.len(), message)], Vec::new()))
        }
    }
}

/// Reads `text`, which is called `file` in remarks.
///
/// # Errors
/// Everything that is wrong, at once.
pub(crate) fn parse(text: &str, file: &str) -> Result<Loaded, LoadError> {
    let mut mistakes = Mistakes::new(text, file);
    let (root, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        mistakes.add(&error.span().unwrap_or(0..0), error.message());
    }
    let syntax = mistakes.count();
    let config = Config::read(Table::root(root.get_ref(), &mut mistakes));
    let plan = nodes::plan(&config, &mut mistakes);
    mistakes.forget_consequences(syntax);
    match (plan, mistakes.finish()) {
        (Some(plan), (mistakes, notes)) if mistakes.is_empty() => Ok(Loaded { config, plan, notes }),
        (_, (mistakes, notes)) => Err(LoadError::Wrong(mistakes, notes)),
    }
}

impl Config {
    /// Reads everything that is right; the rest is noted.
    fn read(mut root: Table<'_, '_>) -> Self {
        let http = root.table("http").map(Http::read).unwrap_or_default();
        let webrtc = root.table("webrtc").map(WebRtc::read).unwrap_or_default();
        let runtime = root.table("runtime").map(Runtime::read).unwrap_or_default();
        let mut streams = Vec::new();
        if let Some(mut table) = root.table("streams") {
            for (index, (name, entry)) in table.names().into_iter().enumerate() {
                if index == STREAMS_MAX {
                    let message = format!("{name:?} is stream {}: at most {STREAMS_MAX} may run", index + 1);
                    table.mistakes.add(&entry.key_span, message);
                }
                let named = stream::check_name(name, &entry.key_span, table.mistakes);
                let Some(stream) = table.open(name, &entry) else { continue };
                streams.extend(Stream::read(name, stream).filter(|_| named));
            }
        }
        kvs::same_stream_twice(&streams, root.mistakes);
        root.close();
        Self { http, webrtc, runtime, streams }
    }

    /// What must never be told: passwords and keys inside source URLs, as written and percent-decoded, and
    /// the values of headers.
    pub(crate) fn secrets(&self) -> Vec<String> {
        self.streams.iter().flat_map(|stream| stream.source.secrets()).collect()
    }
}

/// The JSON Schema of the file, for editors.
pub(crate) fn schema() -> schemars::Schema {
    schemars::schema_for!(Config)
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => {
                write!(f, "no configuration: there is neither {} nor {}", DEFAULT_PATHS[0], DEFAULT_PATHS[1])
            }
            Self::Unreadable(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Wrong(mistakes, _) => {
                for (index, mistake) in mistakes.iter().enumerate() {
                    write!(f, "{}{mistake}", if index > 0 { "\n" } else { "" })?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for LoadError {}

#[cfg(test)]
mod tests;

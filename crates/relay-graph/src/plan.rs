//! From what was asked for to what can be run: pure, and an invalid plan cannot be built.

use std::{collections::HashSet, fmt};

use relay_ring::Limits;

use crate::{Sink, Source, Transform};

/// What was asked for.
#[derive(Default)]
pub struct Spec {
    /// The streams, in the order in which they are listed and started.
    pub streams: Vec<StreamSpec>,
}

/// One stream: a source, its transforms, a ring, and its sinks.
pub struct StreamSpec {
    /// 1 to [`NAME_MAX`] letters, digits, `-`, `_` or `.`, not beginning with a dot.
    pub name: String,
    /// Where its packets come from.
    pub source: Box<dyn Source>,
    /// What happens to them before the ring, in order.
    pub transforms: Vec<Box<dyn Transform>>,
    /// How much the ring may hold.
    pub ring: Limits,
    /// Where they go.
    pub sinks: Vec<SinkSpec>,
}

impl StreamSpec {
    /// A stream named `name` from `source`, with the default ring and no sinks.
    pub fn new(name: impl Into<String>, source: Box<dyn Source>) -> Self {
        Self { name: name.into(), source, transforms: Vec::new(), ring: RING_DEFAULT, sinks: Vec::new() }
    }

    /// Adds a transform behind those added before.
    #[must_use]
    pub fn transform(mut self, transform: impl Transform) -> Self {
        self.transforms.push(Box::new(transform));
        self
    }

    /// Adds a sink.
    #[must_use]
    pub fn sink(mut self, name: impl Into<String>, sink: impl Sink) -> Self {
        self.sinks.push(SinkSpec { name: name.into(), sink: Box::new(sink) });
        self
    }
}

/// A sink with its name.
pub struct SinkSpec {
    /// As a stream's name.
    pub name: String,
    /// The sink.
    pub sink: Box<dyn Sink>,
}

/// The ring of a stream that says nothing else: 12 s of a 10 Mbit/s camera, or 30 s of a slower one.
pub const RING_DEFAULT: Limits =
    Limits { max_bytes: 16 << 20, max_duration: std::time::Duration::from_secs(30), max_packets: 8_192 };

/// The most characters of a stream's or sink's name.
pub const NAME_MAX: usize = 64;

/// A [`Spec`] that can be run.
pub struct Plan {
    streams: Vec<StreamSpec>,
}

impl Plan {
    /// Checks all of `spec`.
    ///
    /// # Errors
    /// Everything that is wrong with it, at once.
    pub fn try_new(spec: Spec) -> Result<Self, PlanErrors> {
        let mut errors = Vec::new();
        let mut names = HashSet::new();
        for stream in &spec.streams {
            check_name(&stream.name, &stream.name, &mut errors);
            if !names.insert(stream.name.as_str()) {
                errors.push(PlanError::new(&stream.name, "two streams have this name"));
            }
            check_stream(stream, &mut errors);
        }
        if errors.is_empty() { Ok(Self { streams: spec.streams }) } else { Err(PlanErrors(errors)) }
    }

    /// The most bytes of media that each stream may hold, in the order of the spec: its ring, and what its source,
    /// transforms and sinks hold outside it.
    pub fn memory(&self) -> impl Iterator<Item = (&str, usize)> {
        self.streams.iter().map(|stream| (stream.name.as_str(), stream_memory(stream)))
    }

    /// The most bytes of media that the pipeline may hold.
    pub fn memory_max_bytes(&self) -> usize {
        self.streams.iter().map(stream_memory).fold(0, usize::saturating_add)
    }

    pub(crate) fn into_streams(self) -> Vec<StreamSpec> {
        self.streams
    }
}

/// Why a spec can't be run: everything at once.
#[derive(Debug)]
pub struct PlanErrors(pub Vec<PlanError>);

impl fmt::Display for PlanErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            write!(f, "{}{error}", if index > 0 { "\n" } else { "" })?;
        }
        Ok(())
    }
}

impl std::error::Error for PlanErrors {}

/// One thing wrong with a spec.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stream {stream:?}: {detail}")]
pub struct PlanError {
    /// The stream it is about.
    pub stream: String,
    /// What is wrong and what would be right.
    pub detail: String,
}

impl PlanError {
    fn new(stream: &str, detail: impl Into<String>) -> Self {
        Self { stream: stream.to_owned(), detail: detail.into() }
    }
}

fn check_stream(stream: &StreamSpec, errors: &mut Vec<PlanError>) {
    let mut names = HashSet::new();
    let codecs = stream.source.describe().codecs;
    for sink in &stream.sinks {
        check_name(&stream.name, &sink.name, errors);
        if !names.insert(sink.name.as_str()) {
            errors.push(PlanError::new(&stream.name, format!("two sinks are named {:?}", sink.name)));
        }
        let refused = codecs.as_ref().filter(|codecs| !codecs.iter().any(|codec| sink.sink.accepts(codec)));
        if let Some(codecs) = refused {
            let (kind, codecs) = (sink.sink.describe().kind, codecs.join(", "));
            errors.push(PlanError::new(
                &stream.name,
                format!("sink {:?} ({kind}) carries none of the source's codecs: {codecs}", sink.name),
            ));
        }
    }
    let Limits { max_bytes, max_duration, max_packets } = stream.ring;
    if max_bytes == 0 || max_duration.is_zero() || max_packets == 0 {
        errors.push(PlanError::new(&stream.name, "its ring may hold nothing: every limit must be above zero"));
    }
}

fn check_name(stream: &str, name: &str, errors: &mut Vec<PlanError>) {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > NAME_MAX || name.starts_with('.') || !name.chars().all(fits) {
        errors.push(PlanError::new(
            stream,
            format!("{name:?} is not a name: use 1 to {NAME_MAX} of A-Z a-z 0-9 - _ . and no leading dot"),
        ));
    }
}

fn stream_memory(stream: &StreamSpec) -> usize {
    let transforms = stream.transforms.iter().map(|transform| transform.max_buffer_bytes());
    let sinks = stream.sinks.iter().map(|sink| sink.sink.describe().max_buffer_bytes);
    let outside = [stream.source.describe().max_buffer_bytes].into_iter().chain(transforms).chain(sinks);
    outside.fold(stream.ring.max_bytes, usize::saturating_add)
}

//! From the configuration to the nodes that it names, and to a plan.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use relay_graph::{
    BackoffLimits, NodeError, Plan, RING_DEFAULT, Sink, SinkContext, SinkDescription, SinkSpec, Source, Spec,
    StreamSpec,
};
use relay_nodes::{RecordOptions, RecordSink, RtspOptions, RtspSource, SourceUrlError, Transport, Viewers, WebRtcSink};
use relay_record::{Retention, SyncPolicy};
use relay_ring::{Cursor, LeakPolicy, Limits};

use crate::{
    config::{self, Config, Leak, Mistakes, Queue, Record, SinkKind, VIEWERS},
    http::Recorder,
    watching::Watching,
};

/// The plan of `config`; what can't be planned is noted in `mistakes`.
pub(crate) fn plan(config: &Config, mistakes: &mut Mistakes<'_>) -> Option<Plan> {
    let mut spec = Spec::default();
    for stream in &config.streams {
        match source(&stream.source) {
            Ok(source) => spec.streams.push(self::stream(stream, source)),
            Err(error) => {
                let span = &stream.source.url_span;
                let seen = mistakes.seen(span);
                mistakes.add(span, format!("streams.{}.source = {seen}: {error}", stream.name));
            }
        }
    }
    match Plan::try_new(spec) {
        Ok(plan) => Some(plan),
        Err(errors) => {
            for error in &errors.0 {
                let stream = config.streams.iter().find(|stream| stream.name == error.stream);
                let span = stream.map_or(0..0, |stream| stream.key_span.clone());
                // Names are told apart from all else by the reader already.
                mistakes.add(&span, format!("streams.{}: {}", error.stream, error.detail));
            }
            None
        }
    }
}

/// The plan of a `config` that was found to be right, with the viewers of its streams, by name, let in by `watching`.
///
/// # Errors
/// None, if it was.
pub(crate) fn watched(
    config: &Config,
    watching: Option<&Watching>,
) -> anyhow::Result<(Plan, BTreeMap<String, Viewers>)> {
    let (mut spec, mut watched) = (Spec::default(), BTreeMap::new());
    for stream in &config.streams {
        let mut planned = self::stream(stream, source(&stream.source)?);
        if let (Some(watching), Some(viewing)) = (watching, &stream.webrtc) {
            let (sink, viewers) = watching.sink(viewing);
            planned = planned.sink(VIEWERS, sink);
            watched.insert(stream.name.clone(), viewers);
        }
        spec.streams.push(planned);
    }
    Ok((Plan::try_new(spec)?, watched))
}

/// The most bytes that each stream of `plan`, which is `config`'s without its viewers, may hold with them, beside what
/// each viewer takes.
pub(crate) fn memory(config: &Config, plan: &Plan) -> Vec<usize> {
    let viewers = |stream: &config::Stream| stream.webrtc.as_ref().map_or(0, |_| WebRtcSink::MAX_BUFFER_BYTES);
    plan.memory().zip(&config.streams).map(|((_, memory), stream)| memory.saturating_add(viewers(stream))).collect()
}

/// The source that a stream's `source` names.
pub(crate) fn source(source: &config::Source) -> Result<Box<dyn Source>, SourceUrlError> {
    if source.url.scheme() != "rtsp" {
        return relay_nodes::source(source.url.as_str());
    }
    let options = RtspOptions {
        transport: match source.transport {
            config::Transport::Tcp => Transport::Tcp,
            config::Transport::Udp => Transport::Udp,
            config::Transport::Auto => Transport::Auto,
        },
        stall_timeout: source.stall_timeout.0,
        reconnect: BackoffLimits { initial: source.reconnect.initial.0, max: source.reconnect.max.0 },
        require_tracks: source.require_tracks.iter().map(|track| track.kind()).collect(),
        ..RtspOptions::new(source.url.url().clone())
    };
    Ok(Box::new(RtspSource::new(options)))
}

/// The record sinks of `config`, whose files the page lists and plays.
pub(crate) fn recorders(config: &Config) -> Vec<Recorder> {
    let of = |stream: &config::Stream| {
        let stream_name = stream.name.clone();
        stream.sinks.clone().into_iter().map(move |sink| {
            let SinkKind::Record(record) = sink.kind;
            Recorder { stream: stream_name.clone(), sink: sink.name, dir: record.dir }
        })
    };
    config.streams.iter().flat_map(of).collect()
}

fn stream(stream: &config::Stream, source: Box<dyn Source>) -> StreamSpec {
    let mut spec = StreamSpec { ring: ring(stream), ..StreamSpec::new(&stream.name, source) };
    for sink in &stream.sinks {
        let SinkKind::Record(record) = &sink.kind;
        let queued = Queued { sink: recorder(record, &stream.name), queue: record.queue.clone() };
        spec.sinks.push(SinkSpec { name: sink.name.clone(), sink: Box::new(queued) });
    }
    spec
}

/// The recorder that a record sink asks for.
pub(crate) fn recorder(record: &Record, stream: &str) -> Box<dyn Sink> {
    Box::new(RecordSink::new(RecordOptions {
        segment: record.segment.0,
        fragment: record.fragment.0,
        sync: match record.sync {
            config::Sync::Fragment => SyncPolicy::Fragment,
            config::Sync::Segment => SyncPolicy::Segment,
            config::Sync::None => SyncPolicy::None,
        },
        keep: Retention {
            age: record.keep.age.map(|age| age.0),
            bytes: record.keep.bytes.map(|bytes| bytes.0),
            free: record.keep.free.map(|free| free.0),
        },
        ..RecordOptions::new(&record.dir, stream)
    }))
}

/// The ring that lets every sink lag as far as its queue allows: the widest of their queues. Without sinks, the
/// default, for viewers to come.
pub(crate) fn ring(stream: &config::Stream) -> Limits {
    let queues = stream.sinks.iter().map(|sink| {
        let SinkKind::Record(record) = &sink.kind;
        (record.queue.max_time.0, usize::try_from(record.queue.max_bytes.0).unwrap_or(usize::MAX))
    });
    let widest =
        queues.reduce(|(time, bytes), (other_time, other_bytes)| (time.max(other_time), bytes.max(other_bytes)));
    let Some((max_duration, max_bytes)) = widest else { return RING_DEFAULT };
    Limits { max_bytes, max_duration, max_packets: packets_in(max_duration) }
}

/// As many packets as the default ring has room for in the same time, and never fewer than a short ring needs.
fn packets_in(duration: Duration) -> usize {
    let millis = duration.as_millis() * RING_DEFAULT.max_packets as u128 / RING_DEFAULT.max_duration.as_millis();
    usize::try_from(millis).unwrap_or(usize::MAX).max(1_024)
}

/// A sink that loses what its queue says.
struct Queued {
    sink: Box<dyn Sink>,
    queue: Queue,
}

#[async_trait]
impl Sink for Queued {
    fn describe(&self) -> SinkDescription {
        let policy = match self.queue.leak {
            Leak::Keep => LeakPolicy::Keep,
            Leak::Live => LeakPolicy::Live { max_lag: self.queue.max_time.0 },
        };
        SinkDescription { policy, ..self.sink.describe() }
    }

    fn accepts(&self, codec: &str) -> bool {
        self.sink.accepts(codec)
    }

    async fn run(&self, cursor: &mut Cursor, ctx: &SinkContext) -> Result<(), NodeError> {
        self.sink.run(cursor, ctx).await
    }
}

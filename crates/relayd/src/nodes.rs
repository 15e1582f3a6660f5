//! From the configuration to the nodes that it names, and to a plan.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use relay_graph::{
    BackoffLimits, NodeError, Plan, RING_DEFAULT, Sink, SinkContext, SinkDescription, Source, Spec, StreamSpec,
};
use relay_nodes::{
    HlsOptions, HlsSource, KvsClouds, Pace, RecordOptions, RecordSink, RtspOptions, RtspSource, SourceUrlError,
    Transport, Variant, Viewers, WebRtcSink,
};
use relay_record::{Retention, SyncPolicy};
use relay_ring::{Cursor, LeakPolicy, Limits};

mod kvs;

pub(crate) use kvs::KvsShown;

use crate::{
    config::{self, Config, Leak, Mistakes, Queue, Record, SinkKind, VIEWERS},
    http::Recorder,
    watching::Watching,
};

/// The plan of `config`; what can't be planned is noted in `mistakes`.
pub(crate) fn plan(config: &Config, mistakes: &mut Mistakes<'_>) -> Option<Plan> {
    let mut spec = Spec::default();
    let clouds = KvsClouds::default();
    for stream in &config.streams {
        match source(&stream.source) {
            Ok(source) => spec.streams.push(self::stream(stream, source, &clouds, &mut Vec::new())),
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

/// What is run, and what it is seen by.
pub(crate) struct Watched {
    /// What is run.
    pub(crate) plan: Plan,
    /// The viewers of its streams, by name.
    pub(crate) viewers: BTreeMap<String, Viewers>,
    /// Its Kinesis sinks.
    pub(crate) kvs: Vec<KvsShown>,
}

/// The plan of a `config` that was found to be right, with the viewers of its streams let in by `watching`.
///
/// # Errors
/// None, if it was.
pub(crate) fn watched(config: &Config, watching: Option<&Watching>) -> anyhow::Result<Watched> {
    let (mut spec, mut viewers, mut kvs) = (Spec::default(), BTreeMap::new(), Vec::new());
    let clouds = KvsClouds::default();
    for stream in &config.streams {
        let mut planned = self::stream(stream, source(&stream.source)?, &clouds, &mut kvs);
        if let (Some(watching), Some(viewing)) = (watching, &stream.webrtc) {
            let (sink, watchers) = watching.sink(viewing);
            planned = planned.sink(VIEWERS, sink);
            viewers.insert(stream.name.clone(), watchers);
        }
        spec.streams.push(planned);
    }
    Ok(Watched { plan: Plan::try_new(spec)?, viewers, kvs })
}

/// The most bytes that each stream of `plan`, which is `config`'s without its viewers, may hold with them, beside what
/// each viewer takes.
pub(crate) fn memory(config: &Config, plan: &Plan) -> Vec<usize> {
    let viewers = |stream: &config::Stream| stream.webrtc.as_ref().map_or(0, |_| WebRtcSink::MAX_BUFFER_BYTES);
    plan.memory().zip(&config.streams).map(|((_, memory), stream)| memory.saturating_add(viewers(stream))).collect()
}

/// The source that a stream's `source` names.
pub(crate) fn source(source: &config::Source) -> Result<Box<dyn Source>, SourceUrlError> {
    match source.url.scheme() {
        "rtsp" => {}
        "http" | "https" => return Ok(Box::new(hls(source))),
        _ => return relay_nodes::source(source.url.as_str()),
    }
    let options = RtspOptions {
        transport: match source.transport {
            config::Transport::Tcp => Transport::Tcp,
            config::Transport::Udp => Transport::Udp,
            config::Transport::Auto => Transport::Auto,
        },
        reconnect: reconnect(source),
        require_tracks: source.require_tracks.iter().map(|track| track.kind()).collect(),
        ..RtspOptions::new(source.url.url().clone())
    };
    let stall_timeout = source.stall_timeout.map_or(options.stall_timeout, |time| time.0);
    Ok(Box::new(RtspSource::new(RtspOptions { stall_timeout, ..options })))
}

fn reconnect(source: &config::Source) -> BackoffLimits {
    BackoffLimits { initial: source.reconnect.initial.0, max: source.reconnect.max.0 }
}

fn hls(source: &config::Source) -> HlsSource {
    let hls = &source.hls;
    let time = |time: &Option<config::Time>| time.map(|time| time.0);
    HlsSource::new(HlsOptions {
        headers: hls.headers.clone(),
        bearer_file: hls.token_file.clone(),
        ca_file: hls.ca_file.clone(),
        variant: match hls.variant {
            config::Variant::Highest => Variant::Highest,
            config::Variant::Lowest => Variant::Lowest,
            config::Variant::Within(within) => Variant::Within {
                max_bandwidth: within.max_bandwidth.map(|rate| rate.0),
                max_height: within.max_height.map(u64::from),
            },
        },
        live_edge: time(&hls.live_edge),
        max_behind: time(&hls.max_behind),
        low_latency: hls.low_latency,
        pace: match hls.pace {
            config::Pace::Realtime => Pace::Realtime,
            config::Pace::Fast => Pace::Fast,
        },
        buffer_time: time(&hls.buffer.max_time),
        buffer_bytes: usize::try_from(hls.buffer.max_bytes.0).unwrap_or(usize::MAX),
        stall_timeout: time(&source.stall_timeout),
        require_tracks: source.require_tracks.iter().map(|track| track.kind()).collect(),
        reconnect: reconnect(source),
        ..HlsOptions::new(source.url.url().clone())
    })
}

/// The record sinks of `config`, whose files the page lists and plays.
pub(crate) fn recorders(config: &Config) -> Vec<Recorder> {
    let of = |stream: &config::Stream| {
        let stream_name = stream.name.clone();
        stream.sinks.clone().into_iter().filter_map(move |sink| match sink.kind {
            SinkKind::Record(record) => {
                Some(Recorder { stream: stream_name.clone(), sink: sink.name, dir: record.dir })
            }
            SinkKind::Kvs(_) => None,
        })
    };
    config.streams.iter().flat_map(of).collect()
}

fn stream(
    stream: &config::Stream,
    source: Box<dyn Source>,
    clouds: &KvsClouds,
    shown: &mut Vec<KvsShown>,
) -> StreamSpec {
    let mut spec = StreamSpec { ring: ring(stream), ..StreamSpec::new(&stream.name, source) };
    for sink in &stream.sinks {
        spec = match &sink.kind {
            SinkKind::Record(record) => {
                let queued = Queued { sink: recorder(record, &stream.name), queue: record.queue.clone() };
                spec.sink(&sink.name, queued)
            }
            SinkKind::Kvs(kvs) => {
                let (node, show) = kvs::sink(kvs, &stream.name, &sink.name, clouds);
                shown.push(show);
                spec.sink(&sink.name, node)
            }
        };
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

/// The ring that lets every recorder lag as far as its queue allows: the widest of their queues. Without recorders, the
/// default: viewers are few packets behind, and a Kinesis sink has a window of its own.
pub(crate) fn ring(stream: &config::Stream) -> Limits {
    let queues = stream.sinks.iter().filter_map(|sink| match &sink.kind {
        SinkKind::Record(record) => {
            Some((record.queue.max_time.0, usize::try_from(record.queue.max_bytes.0).unwrap_or(usize::MAX)))
        }
        SinkKind::Kvs(_) => None,
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

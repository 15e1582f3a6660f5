//! The traits that a node implements.
//!
//! A node is its immutable configuration; all running state lives in the future that `run` returns. That is how the
//! supervisor restarts a node after a panic: it drops the future and calls `run` again.

use std::{error::Error, fmt, sync::Arc};

use async_trait::async_trait;
use relay_media::Packet;
use relay_ring::{Cursor, LeakPolicy, Start};
use tokio_util::sync::CancellationToken;

use crate::{Clock, Output, SinkMonitor, SourceMonitor};

/// Where packets come from. Owns its reconnect loop: connect, pump, classify the end, back off, connect again.
#[async_trait]
pub trait Source: Send + Sync + 'static {
    /// What it is, for the API and the plan.
    fn describe(&self) -> SourceDescription;

    /// Pushes packets into `out` until `ctx.shutdown` is cancelled or the media has come to its natural end.
    ///
    /// # Errors
    /// Only what reconnecting cannot mend. The supervisor logs it, counts it, waits, and calls `run` again.
    async fn run(&self, out: &mut Output, ctx: &SourceContext) -> Result<(), NodeError>;
}

/// What a source is.
#[derive(Clone, Debug)]
pub struct SourceDescription {
    /// `"rtsp"`, `"test"`, …
    pub kind: &'static str,
    /// Where it pulls from, without credentials.
    pub url: String,
    /// The codecs it will carry (names of [`relay_media::Codec::name`]), where they are known before connecting.
    pub codecs: Option<Vec<&'static str>>,
    /// The most bytes it holds outside the ring.
    pub max_buffer_bytes: usize,
}

/// What a source runs with.
#[derive(Clone, Debug)]
pub struct SourceContext {
    /// The clocks.
    pub clock: Clock,
    /// Cancelled when the source is to stop.
    pub shutdown: Shutdown,
    /// Where it reports its state and counts.
    pub monitor: Arc<SourceMonitor>,
}

/// Where packets go. Never torn down because its source is away: no packets come, that is all.
#[async_trait]
pub trait Sink: Send + Sync + 'static {
    /// What it is, for the API and the plan.
    fn describe(&self) -> SinkDescription;

    /// Whether it can carry a codec, by its [`relay_media::Codec::name`]. Packets of other codecs still arrive at
    /// the cursor: a sink passes them over and counts them as dropped for `"codec"`.
    fn accepts(&self, codec: &str) -> bool {
        let _ = codec;
        true
    }

    /// Drains `cursor` until the ring is closed and empty, then finishes what it has begun.
    ///
    /// # Errors
    /// What the sink cannot mend by itself. The supervisor logs it, counts it, waits, and calls `run` again with
    /// the same cursor.
    async fn run(&self, cursor: &mut Cursor, ctx: &SinkContext) -> Result<(), NodeError>;
}

/// What a sink is.
#[derive(Clone, Debug)]
pub struct SinkDescription {
    /// `"record"`, `"kvs"`, …
    pub kind: &'static str,
    /// What it loses when it lags.
    pub policy: LeakPolicy,
    /// Where it joins the ring.
    pub start: Start,
    /// The most bytes it holds outside the ring.
    pub max_buffer_bytes: usize,
}

/// What a sink runs with.
#[derive(Clone, Debug)]
pub struct SinkContext {
    /// The clocks.
    pub clock: Clock,
    /// Cancelled when the pipeline is stopping. A sink need not watch it (its ring closes in due course), but one
    /// that waits for something else (a retry, a full disk) gives up waiting.
    pub shutdown: Shutdown,
    /// Where it reports its state and counts.
    pub monitor: Arc<SinkMonitor>,
    /// What its stream's source has told of itself, for reading: how many tracks are to be expected.
    pub source: Arc<SourceMonitor>,
}

/// A change to packets between a source and its ring, run inline in the source's task.
pub trait Transform: Send + Sync + 'static {
    /// A fresh run of it; called again when the source is restarted after a failure.
    fn start(&self) -> Box<dyn Stage>;

    /// The most bytes it holds.
    fn max_buffer_bytes(&self) -> usize {
        0
    }
}

/// The running half of a [`Transform`]. It must not block.
pub trait Stage: Send {
    /// Takes one packet and appends what becomes of it, none or more, to `out`.
    fn transform(&mut self, packet: Packet, out: &mut Vec<Packet>);
}

/// Told once, heard by all clones.
pub type Shutdown = CancellationToken;

/// A failure that ended a node's run: a reason for counting, and what happened in plain words.
#[derive(Debug)]
pub struct NodeError {
    reason: &'static str,
    source: Box<dyn Error + Send + Sync>,
}

impl NodeError {
    /// `reason` is one of a few fixed words for metrics; `source` tells what happened and where.
    pub fn new(reason: &'static str, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { reason, source: source.into() }
    }

    /// One of a few fixed words for metrics.
    pub fn reason(&self) -> &'static str {
        self.reason
    }
}

impl fmt::Display for NodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

impl Error for NodeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.source()
    }
}

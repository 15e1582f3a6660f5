//! Sources, transforms and sinks, and the pipeline that runs them for ever.
//!
//! A pipeline is a tree of run-to-completion segments joined by rings: one task runs source → inline transforms →
//! ring, and one task runs each sink behind its own cursor. [`Spec`] is what was asked for, [`Plan`] is what can be
//! run (names unique, codec edges checked, memory summed), [`Pipeline`] is what runs. No protocol is known here.

mod backoff;
mod clock;
mod monitor;
mod node;
mod normalise;
mod output;
mod pipeline;
mod plan;
mod snapshot;
mod stall;
mod supervisor;
mod wall;

pub use backoff::*;
pub use clock::Clock;
pub use monitor::{ReaderKey, SinkMonitor, SourceMonitor};
pub use node::{
    NodeError, Shutdown, Sink, SinkContext, SinkDescription, Source, SourceContext, SourceDescription, Stage, Transform,
};
pub use normalise::{Jump, Normaliser, Placed, RawTime};
pub use output::Output;
pub use pipeline::{Pipeline, PipelineReader, StopReport};
pub use plan::{NAME_MAX, Plan, PlanError, PlanErrors, RING_DEFAULT, SinkSpec, Spec, StreamSpec};
pub use snapshot::{SinkSnapshot, SinkState, SourceSnapshot, SourceState, StreamSnapshot, Totals, TrackSnapshot};
pub use stall::*;
pub use supervisor::log_panics;
pub use wall::WallAnchor;

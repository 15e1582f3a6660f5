//! Kinesis Video Streams: a PutMedia producer that loses nothing.
//!
//! [`proto`] decides: where fragments begin, which connection carries them, what is kept until PERSISTED, what is
//! sent again. [`Spool`] keeps fragments on disk. Not here: the graph, the ring, configuration.

pub mod proto;
mod spool;

pub use spool::{Found, Spool, SpoolError, SpoolSync};

//! Kinesis Video Streams: a PutMedia producer that loses nothing.
//!
//! [`proto`] decides: where fragments begin, which connection carries them, what is kept until PERSISTED, what is
//! sent again. [`Spool`] keeps fragments on disk. [`Producer`] is the shell around both: HTTP, AWS's API, credentials.
//! Not here: the graph, the ring, configuration.

#[cfg(feature = "shell")]
mod cloud;
pub mod proto;
mod spool;
#[cfg(feature = "shell")]
mod tokio;

#[cfg(feature = "shell")]
pub use cloud::{Cloud, Create};
pub use spool::{Found, Spool, SpoolError, SpoolSync};
#[cfg(feature = "shell")]
pub use tokio::{Event, Network, Options, Producer, Seen, SpoolOptions, Time};

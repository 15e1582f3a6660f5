//! HTTP Live Streaming (RFC 8216 and its second edition, draft-pantos-hls-rfc8216bis), the client's side.
//!
//! [`proto`] decides what to fetch and when, and what to make of the answers: a state machine without sockets and
//! clocks, whose [`Planner`](proto::Planner) hands out the media in order, each byte once, whatever the origin does.
//! [`Fetcher`] is the thin shell that speaks HTTP for it, and a [`Demuxer`] makes units of the segments.

mod demux;
pub mod proto;
mod tokio;

pub use self::tokio::{Fetcher, FetcherError, HttpOptions};
pub use demux::{Demuxer, Unit};

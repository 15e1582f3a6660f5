//! The producer without I/O: what to send when, in which connection, and what to keep.
//!
//! Here: fragments, sessions, the window, acknowledgements, errors, the spool's format. Not here: sockets, files,
//! clocks. Time is an argument; [`Scheduler`] has the verbs `handle_input`, `handle_timeout` and `poll_output`.

mod ack;
mod ack_error;
mod cause;
mod cluster;
mod emf;
mod fragment;
mod fragmenter;
mod pace;
mod record;
#[cfg(feature = "shell")]
mod request;
mod scheduler;
mod session;
mod stats;
mod window;

pub use ack::{ACK_BYTES_MAX, Ack, AckEvent, AckParser};
pub use ack_error::{AckError, Fault, Retry};
pub use cause::{Cause, Failure, Refresh};
pub use emf::Emf;
pub use fragment::{DropReason, Fragment};
pub use fragmenter::{FRAGMENT_BYTES_MAX, FRAGMENT_MAX, FRAGMENT_MIN, Fragmenter, SESSION_TRACKS_MAX};
pub use record::{BODY_BYTES_MAX, Crc, HEAD_BYTES, RecordHead, RecordKind};
#[cfg(feature = "shell")]
pub use request::{ClockSkew, PutMedia, RequestError, system_time, utc};
pub use scheduler::{Input, Leak, Output, Scheduler, Settings, SpoolMode, SpoolSettings};
pub use session::{IDLE, Lane, OPEN_MAX, STALL, SessionId};
pub use stats::{Aside, State, Stats};
pub use window::Restored;

/// Whether the service takes a codec, by its [`relay_media::Codec::name`].
pub fn takes(codec: &str) -> bool {
    matches!(codec, "h264" | "h265" | "aac" | "pcma" | "pcmu")
}

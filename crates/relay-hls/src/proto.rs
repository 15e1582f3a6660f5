//! The client without its sockets: playlists, what to fetch when, and what to make of the answers.
//!
//! Time comes in as an argument, requests go out as values. Nothing here knows HTTP beyond statuses and a few headers,
//! and nothing knows what the media is.

mod attributes;
mod cause;
mod decrypt;
mod define;
mod desk;
mod event;
mod exchange;
mod follower;
mod larder;
mod lexer;
mod master;
mod parts;
mod place;
mod planner;
mod playlist;
mod redact;
mod reload;
mod sniff;
mod timing;
mod work;

pub use cause::{Cause, Class, reason};
pub use event::{Answer, Begin, Event, Failure, Fetch, FetchId, Head, Joint, Options, Output, Range, Rendition, What};
pub use master::Choice;
pub use planner::{Planner, Room};
pub use playlist::{
    Hint, HintKind, Key, Map, MediaPlaylist, MergeError, Method, PARTS_MAX, PLAYLIST_BYTES_MAX, Part, Pending,
    PlaylistError, PlaylistKind, SEGMENTS_MAX, Segment, ServerControl, Span,
};
pub use redact::redacted;

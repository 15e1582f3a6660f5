//! The ring seen from outside: named situations, a naive model, and what a leak does to the picture.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that trips over them has failed")]

mod model;
mod picture;
mod situations;
mod stream;
mod waking;

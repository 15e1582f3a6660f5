//! The ring seen from outside: named situations, a naive model, and what a leak does to the picture.
#![cfg(not(loom))]

mod model;
mod picture;
mod situations;
mod stream;
mod waking;

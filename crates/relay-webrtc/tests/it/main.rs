//! The protocol side of the crate against a second implementation: str0m as the viewer, relay-rtp as the reader, on
//! simulated time and a simulated network.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod camera;
mod link;
mod negotiation;
mod packetizer;
mod session;
mod simulation;
mod viewer;

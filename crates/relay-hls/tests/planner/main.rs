//! The planner against a faulty origin on simulated time: every whole segment that was listed long enough is taken
//! once and in order, and an origin that is well again is heard within a target duration and a second.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod faults;
mod hour;
mod low_latency;
mod origin;
mod world;

//! What the whole-system tests and the soaks share: running programs, asking relayd, reading recordings back.
//!
//! The soaks are here, not in `xtask`, so that `cargo test` runs the same code for a few seconds that
//! `cargo xtask soak NAME` runs for hours.
#![allow(clippy::print_stdout, reason = "tests say what they saw")]
#![allow(clippy::disallowed_methods, reason = "tests run programs, in real time")]
#![allow(clippy::indexing_slicing, reason = "what is missing in JSON reads as null")]

pub mod browser;
pub mod farm;
pub mod http;
pub mod kvs;
mod needs;
pub mod origin;
pub mod process;
pub mod recordings;
pub mod relayd;
pub mod soak;

pub use needs::needs;

use std::path::{Path, PathBuf};

/// The workspace's root: this package's folder, one up.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")).to_path_buf()
}

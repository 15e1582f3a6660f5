//! The one integration-test binary: one link, one process, a module a subject.
#![cfg(test)]

mod cli;
mod demo;
mod ffprobe;
mod page;
mod peers;
mod soak;
mod tidy;

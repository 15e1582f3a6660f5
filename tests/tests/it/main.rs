//! The one integration-test binary: one link, one process, a module a subject.
#![cfg(test)]

mod page;
mod soak;
mod tidy;

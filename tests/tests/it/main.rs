//! The one integration-test binary: one link, one process, a module a subject.
#![expect(clippy::disallowed_methods, reason = "these tests run programs, in real time")]

mod tidy;

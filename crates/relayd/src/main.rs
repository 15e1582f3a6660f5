//! The media relay daemon.
fn main() {}

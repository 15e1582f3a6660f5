//! The one integration-test binary: one link, one process, a module a subject.
#![cfg(test)]

mod cli;
mod demo;
mod ffprobe;
mod hls;
mod hls_peers;
mod kvs;
mod mkv;
mod page;
mod peers;
mod soak;
mod thin_links;
mod tidy;
mod ts;
mod udp;
mod watch;
mod whep_peers;

//! The media relay daemon: cameras in; recordings, browsers and clouds out.
//!
//! Here belong the command line, the configuration, the HTTP surface, signals and logs. Media does not.

mod allocator;
mod cli;
mod commands;
mod config;
mod daemon;
mod emf;
mod heartbeat;
mod http;
mod keys;
mod logging;
mod nodes;
mod process;
mod systemd;
mod watching;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    commands::execute(cli::Cli::parse())
}

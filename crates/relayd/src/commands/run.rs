//! `relayd run`: the daemon.

use std::{net::TcpListener, path::Path, process::ExitCode};

use anyhow::Context;
use tracing::warn;

use super::{BAD_CONFIG, load, say_error};
use crate::{
    config::Loaded,
    daemon,
    keys::Keys,
    logging::{self, Secrets},
};

pub(super) fn run(path: Option<&Path>, verbose: u8) -> anyhow::Result<ExitCode> {
    let loaded = match load(path) {
        Ok(loaded) => loaded,
        Err(code) => return Ok(code),
    };
    let keys = match Keys::read(&loaded.config) {
        Ok(keys) => keys,
        Err(error) => {
            say_error(format_args!("{error:#}"));
            return Ok(ExitCode::from(BAD_CONFIG));
        }
    };
    start(&loaded, keys, verbose, |_| Ok(()))
}

/// Binds, says so through `greet`, and runs until a signal.
pub(super) fn start(
    loaded: &Loaded,
    keys: Keys,
    verbose: u8,
    greet: impl FnOnce(&str) -> anyhow::Result<()>,
) -> anyhow::Result<ExitCode> {
    let Loaded { config, notes, .. } = loaded;
    logging::init(verbose, Secrets::new(config.secrets().into_iter().chain(keys.secrets())));
    relay_graph::log_panics();
    for note in notes {
        warn!("{note}");
    }
    let listen = config.http.listen;
    let listener = TcpListener::bind(listen).with_context(|| format!("can't listen on {listen} ([http] listen)"))?;
    daemon::run(config, listener, keys, greet)?;
    Ok(ExitCode::SUCCESS)
}

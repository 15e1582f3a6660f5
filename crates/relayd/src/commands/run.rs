//! `relayd run`: the daemon.

use std::{net::TcpListener, path::Path, process::ExitCode};

use anyhow::Context;
use tracing::warn;

use super::{BAD_CONFIG, load, say_error};
use crate::{
    config::{Auth, Config, Loaded},
    daemon,
    http::Token,
    logging::{self, Secrets},
};

pub(super) fn run(path: Option<&Path>, verbose: u8) -> anyhow::Result<ExitCode> {
    let loaded = match load(path) {
        Ok(loaded) => loaded,
        Err(code) => return Ok(code),
    };
    let token = match token(&loaded.config) {
        Ok(token) => token,
        Err(error) => {
            say_error(format_args!("{error:#}"));
            return Ok(ExitCode::from(BAD_CONFIG));
        }
    };
    start(loaded, token, verbose, |_| Ok(()))
}

/// Binds, says so through `greet`, and runs until a signal.
pub(super) fn start(
    loaded: Loaded,
    token: Option<Token>,
    verbose: u8,
    greet: impl FnOnce(&str) -> anyhow::Result<()>,
) -> anyhow::Result<ExitCode> {
    let Loaded { config, plan, notes } = loaded;
    let secrets = config.secrets().into_iter().chain(token.iter().map(|token| token.reveal().to_owned()));
    logging::init(verbose, Secrets::new(secrets));
    relay_graph::log_panics();
    for note in notes {
        warn!("{note}");
    }
    let listen = config.http.listen;
    let listener = TcpListener::bind(listen).with_context(|| format!("can't listen on {listen} ([http] listen)"))?;
    greet(&format!("http://{}", listener.local_addr()?))?;
    daemon::run(&config, plan, listener, token)?;
    Ok(ExitCode::SUCCESS)
}

fn token(config: &Config) -> anyhow::Result<Option<Token>> {
    match (&config.http.auth, &config.http.token_file) {
        (Auth::Token, Some(path)) => {
            let token = Token::from_file(path).with_context(|| format!("token_file {}", path.display()))?;
            Ok(Some(token))
        }
        _ => Ok(None),
    }
}

//! The secrets that the configuration names by file, read once, at the start.

use std::{collections::BTreeMap, path::Path};

use anyhow::Context;

use crate::{
    config::{Auth, Config, IceServer, Login},
    http::{IceServers, RelayLogin, Token},
};

/// Who may come in, and what viewers are told to show elsewhere.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    /// What opens everything that has no key of its own.
    pub(crate) token: Option<Token>,
    /// What opens watching a stream in its place, by the stream's name.
    pub(crate) streams: BTreeMap<String, Token>,
    /// The STUN and TURN servers, with what they want to be shown.
    pub(crate) ice_servers: IceServers,
}

impl Keys {
    /// Reads every file that `config` names.
    ///
    /// # Errors
    /// The first that can't be used, by the key that names it.
    pub(crate) fn read(config: &Config) -> anyhow::Result<Self> {
        let mut keys = Self::default();
        if let (Auth::Token, Some(path)) = (&config.http.auth, &config.http.token_file) {
            keys.token = Some(read(path, "token_file")?);
        }
        for stream in &config.streams {
            if let Some(path) = stream.webrtc.as_ref().and_then(|viewing| viewing.token_file.as_ref()) {
                keys.streams.insert(stream.name.clone(), read(path, "token_file")?);
            }
        }
        for IceServer { urls, login } in &config.webrtc.ice_servers {
            let login = match login {
                Login::None => RelayLogin::None,
                Login::Fixed { username, credential_file } => RelayLogin::Fixed {
                    username: username.clone(),
                    credential: read(credential_file, "credential_file")?,
                },
                Login::Rest { secret_file, ttl } => {
                    RelayLogin::Rest { secret: read(secret_file, "secret_file")?, ttl: ttl.0 }
                }
            };
            keys.ice_servers.add(urls.iter().map(ToString::to_string).collect(), login);
        }
        Ok(keys)
    }

    /// All of them, for the log to hide.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = String> {
        let tokens = self.token.iter().chain(self.streams.values()).chain(self.ice_servers.secrets());
        tokens.map(|token| token.reveal().to_owned())
    }
}

fn read(path: &Path, key: &str) -> anyhow::Result<Token> {
    Token::from_file(path).with_context(|| format!("{key} {}", path.display()))
}

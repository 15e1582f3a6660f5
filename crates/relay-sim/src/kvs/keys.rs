//! The credentials that the service knows: fixed ones, and those that its container endpoint gives out for a while.

use std::{collections::VecDeque, time::Duration};

use relay_media::UtcTime;
use serde_json::json;

use super::sign::Refusal;

/// Remembered; older ones are unknown, as they would be expired.
const GIVEN_MAX: usize = 256;

/// Credentials.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) access_key: String,
    pub(super) secret_key: String,
    /// The session token that goes with them, and when they end.
    session: Option<(String, UtcTime)>,
}

/// All credentials.
#[derive(Debug)]
pub(super) struct Keys {
    keys: VecDeque<Key>,
    given: u64,
}

impl Keys {
    /// Credentials that last.
    pub(super) fn fixed(access_key: &str, secret_key: &str) -> Self {
        let key = Key { access_key: access_key.into(), secret_key: secret_key.into(), session: None };
        Self { keys: [key].into(), given: 0 }
    }

    /// Gives out new credentials, as the JSON of a container's credentials endpoint.
    pub(super) fn give(&mut self, life: Duration, now: UtcTime) -> String {
        self.given += 1;
        let given = self.given;
        let end = now.plus_nanos(i64::try_from(life.as_nanos()).unwrap_or(i64::MAX));
        let (access_key, secret_key) = (format!("ASIASIM{given:04}"), format!("secret-{given}"));
        let token = format!("token-{given}");
        let said = json!({
            "AccessKeyId": access_key,
            "SecretAccessKey": secret_key,
            "Token": token,
            "Expiration": rfc3339(end),
            "RoleArn": "arn:aws:iam::123456789012:role/simulated",
        });
        self.keys.push_back(Key { access_key, secret_key, session: Some((token, end)) });
        if self.keys.len() > GIVEN_MAX {
            // The first are the fixed ones.
            self.keys.remove(1);
        }
        said.to_string()
    }

    /// How many were given out.
    pub(super) fn given(&self) -> u64 {
        self.given
    }

    /// Everything given out is unknown from now on.
    pub(super) fn forget(&mut self) {
        self.keys.truncate(1);
    }

    /// Everything given out ends now.
    pub(super) fn expire(&mut self, now: UtcTime) {
        for key in &mut self.keys {
            if let Some((_, end)) = &mut key.session {
                *end = now;
            }
        }
    }

    /// When credentials end; `None` if never.
    pub(super) fn end(&self, access_key: &str) -> Option<UtcTime> {
        self.keys.iter().find(|key| key.access_key == access_key)?.session.as_ref().map(|(_, end)| *end)
    }

    pub(super) fn find(&self, access_key: &str, token: Option<&str>, now: UtcTime) -> Result<&Key, Refusal> {
        let unknown = || {
            Refusal::new(403, "UnrecognizedClientException", "The security token included in the request is invalid.")
        };
        let key = self.keys.iter().find(|key| key.access_key == access_key).ok_or_else(unknown)?;
        match &key.session {
            Some((session, _)) if token != Some(session) => Err(unknown()),
            Some((_, end)) if end.nanos_since(now) <= 0 => {
                let message = "The security token included in the request is expired";
                Err(Refusal::new(403, "ExpiredTokenException", message))
            }
            _ => Ok(key),
        }
    }
}

/// `2026-11-21T10:43:38Z`.
fn rfc3339(time: UtcTime) -> String {
    let time = jiff::Timestamp::from_nanosecond(time.unix_nanos().into()).unwrap_or_default();
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

//! Why a connection ended or never came to be, what it means for the next try, and what a person can do.

use std::fmt;

use super::ack_error::{AckError, Fault};

/// Why a connection ended, or a step towards one failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What happened.
    pub cause: Cause,
    /// How, in the words of whatever failed; no secrets.
    pub detail: String,
}

/// What happened, as far as it decides about the next try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// The host has no address.
    Resolve,
    /// No connection: refused, unreachable, timed out.
    Connect,
    /// The TLS handshake failed; the certificate, mostly.
    Tls,
    /// An answer did not come in time.
    NoAnswer,
    /// The connection broke.
    Reset,
    /// The service ended the connection without a word.
    Ended,
    /// No acknowledgement for what was sent: nobody is there.
    Stalled,
    /// The credential chain gave none.
    Credentials,
    /// 401 or 403.
    Denied,
    /// 404, or an endpoint that is not this stream's.
    NotFound,
    /// The stream is being made.
    NotReady,
    /// Another connection has the stream: often one of ours that broke, and that the service still holds.
    ConnectionLimit,
    /// Too many calls.
    Throttled,
    /// Another 4xx.
    Invalid,
    /// 5xx.
    Unavailable,
    /// An acknowledgement with this error.
    Ack(u32),
}

/// How soon to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Soon, and for long: the network, the service.
    Cheap,
    /// About a second: our own last connection may still be known there, or the service is unwell.
    Steady,
    /// Later and later: a person has to act.
    Slow,
}

/// What must be fetched anew before the next try.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refresh {
    /// Credentials, whatever their expiry says.
    pub credentials: bool,
    /// The data endpoint.
    pub endpoint: bool,
}

impl Failure {
    /// A failure of this cause.
    pub fn new(cause: Cause, detail: impl Into<String>) -> Self {
        Self { cause, detail: detail.into() }
    }

    /// With the name of the call before the detail.
    #[must_use]
    pub fn during(self, call: &str) -> Self {
        let separator = if self.detail.is_empty() { "" } else { ": " };
        Self { detail: format!("{call}{separator}{}", self.detail), ..self }
    }

    /// A refusal over HTTP: the status, and the error's name from the header `x-amzn-ErrorType` or the body.
    pub fn refused(status: u16, error_type: &str, message: &str) -> Self {
        // "Name:http://…" and "prefix#Name" are both in use.
        let name = error_type.split(':').next().unwrap_or_default();
        let name = name.rsplit('#').next().unwrap_or_default();
        let cause = match (status, name) {
            (_, "ConnectionLimitExceededException") => Cause::ConnectionLimit,
            (_, "ClientLimitExceededException" | "ThrottlingException") | (429, _) => Cause::Throttled,
            (_, "InvalidEndpointException" | "ResourceNotFoundException") | (404, _) => Cause::NotFound,
            (401 | 403, _) => Cause::Denied,
            (500.., _) => Cause::Unavailable,
            _ => Cause::Invalid,
        };
        let text = |text: &str| text.chars().filter(|c| !c.is_control()).take(300).collect::<String>();
        let (name, message) = (text(name), text(message));
        Self::new(cause, format!("{status} {name} {message}").split_whitespace().collect::<Vec<_>>().join(" "))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.cause.plain())?;
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        match self.cause.advice() {
            Some(advice) => write!(f, " ({advice})"),
            None => Ok(()),
        }
    }
}

impl Cause {
    /// The word for it in the metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::NoAnswer => "no_answer",
            Self::Reset => "reset",
            Self::Ended => "ended",
            Self::Stalled => "stalled",
            Self::Credentials => "credentials",
            Self::Denied => "denied",
            Self::NotFound => "not_found",
            Self::NotReady => "not_ready",
            Self::ConnectionLimit => "connection_limit",
            Self::Throttled => "throttled",
            Self::Invalid => "invalid",
            Self::Unavailable => "unavailable",
            Self::Ack(_) => "error_ack",
        }
    }

    /// What happened, in plain words.
    pub fn plain(self) -> String {
        match self {
            Self::Resolve => "the service's name has no address".to_owned(),
            Self::Connect => "no connection to the service".to_owned(),
            Self::Tls => "no secure connection to the service".to_owned(),
            Self::NoAnswer => "the service does not answer".to_owned(),
            Self::Reset => "the connection broke".to_owned(),
            Self::Ended => "the service ended the connection".to_owned(),
            Self::Stalled => "the service acknowledges nothing".to_owned(),
            Self::Credentials => "no AWS credentials".to_owned(),
            Self::Denied => "the service does not allow it".to_owned(),
            Self::NotFound => "the service does not know the stream here".to_owned(),
            Self::NotReady => "the stream is being made".to_owned(),
            Self::ConnectionLimit => "another connection has the stream".to_owned(),
            Self::Throttled => "too many calls for the service".to_owned(),
            Self::Invalid => "the service takes the request for wrong".to_owned(),
            Self::Unavailable => "the service has a fault".to_owned(),
            Self::Ack(id) => format!("the service answered {id} {}", AckError::of(id).name),
        }
    }

    /// What a person can do about it.
    pub fn advice(self) -> Option<&'static str> {
        Some(match self {
            Self::Resolve => "check the region, the endpoint and the network's DNS",
            Self::Tls => "check the clock, the endpoint and the trusted certificates",
            Self::Credentials => "give some by environment, profile, web identity, container or instance role",
            Self::Denied => {
                "the role needs kinesisvideo:GetDataEndpoint, kinesisvideo:DescribeStream and kinesisvideo:PutMedia \
                 on this stream, and kinesisvideo:CreateStream and kinesisvideo:TagStream to create it"
            }
            Self::NotFound => "check the stream's name and region, or let it be created",
            Self::ConnectionLimit => "one producer per stream: look for another one if this lasts longer than a minute",
            Self::Ack(id) => match (id, AckError::of(id).fault) {
                (4500..=4506, _) => "look at the stream's KMS key and its policy",
                (_, Fault::Stream) => "the stream must exist and be active",
                _ => return None,
            },
            _ => return None,
        })
    }

    /// Whether it lasts until a person has mended something; tries go on all the same.
    pub fn needs_person(self) -> bool {
        !matches!(self, Self::Throttled) && self.class() == Class::Slow
    }

    pub(crate) fn class(self) -> Class {
        match self {
            Self::Resolve | Self::Connect | Self::NoAnswer | Self::Reset | Self::Ended | Self::Stalled => Class::Cheap,
            Self::NotReady | Self::ConnectionLimit | Self::Unavailable => Class::Steady,
            Self::Tls | Self::Credentials | Self::Denied | Self::NotFound | Self::Throttled | Self::Invalid => {
                Class::Slow
            }
            Self::Ack(id) if AckError::of(id).fault == Fault::Stream => Class::Slow,
            Self::Ack(_) => Class::Cheap,
        }
    }

    /// What must be fetched anew: credentials where they were refused, the endpoint after anything that may be its
    /// fault ("caching data endpoints is safe if the application reloads them on failure", KVS limits).
    pub fn refresh(self) -> Refresh {
        Refresh {
            credentials: matches!(self, Self::Denied | Self::Credentials),
            endpoint: !matches!(self, Self::Credentials | Self::ConnectionLimit | Self::Throttled | Self::Ack(4003)),
        }
    }
}

//! What broke, from the errors of reqwest, hyper, rustls and the system.

use std::{error::Error, io};

use reqwest::Url;

use crate::proto::{Cause, Class, reason, redacted};

/// When it broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Before the answer.
    Head,
    /// In the middle of it.
    Body,
}

/// Names an error.
pub(crate) fn cause(error: &reqwest::Error, url: &Url, phase: Phase) -> Cause {
    let reason = named(error, phase);
    let class = if reason == reason::CERTIFICATE { Class::Slow } else { Class::Cheap };
    let what = match reason {
        reason::DNS => "the name of the host cannot be resolved",
        reason::CONNECT => "no connection",
        reason::CONNECT_TIMEOUT => "no connection in time",
        reason::TLS => "the TLS handshake failed",
        reason::CERTIFICATE => "the certificate is refused",
        reason::REDIRECTS => "too many redirects, or one that leads nowhere",
        reason::RESET => "the connection broke",
        reason::TRUNCATED => "the answer ended too early",
        reason::REQUEST => "the request cannot be made",
        _ => "the answer is no HTTP",
    };
    // The chain holds no URL but the outermost error's, which is left out.
    Cause { reason, text: format!("{}: {what} ({})", redacted(url), chain_below(error)), class }
}

fn named(error: &reqwest::Error, phase: Phase) -> &'static str {
    if error.is_redirect() {
        return reason::REDIRECTS;
    }
    if let Some(tls) = tls(error) {
        return tls;
    }
    if error.is_dns() {
        return reason::DNS;
    }
    if error.is_connect() {
        return if error.is_timeout() { reason::CONNECT_TIMEOUT } else { reason::CONNECT };
    }
    if error.is_builder() {
        return reason::REQUEST;
    }
    let kind = sources(error).find_map(|error| error.downcast_ref::<io::Error>()).map(io::Error::kind);
    let hyper = sources(error).find_map(|error| error.downcast_ref::<hyper::Error>());
    match (phase, kind) {
        (Phase::Body, Some(io::ErrorKind::UnexpectedEof)) => reason::TRUNCATED,
        (_, Some(io::ErrorKind::InvalidData)) => reason::PROTOCOL,
        (_, Some(_)) => reason::RESET,
        (Phase::Body, None) if hyper.is_some_and(hyper::Error::is_incomplete_message) => reason::TRUNCATED,
        (_, None) if hyper.is_some_and(|error| error.is_parse() || error.is_user()) => reason::PROTOCOL,
        (Phase::Body, None) if error.is_decode() && hyper.is_none() => reason::PROTOCOL,
        (_, None) => reason::RESET,
    }
}

/// What TLS says, if it was that.
fn tls(error: &reqwest::Error) -> Option<&'static str> {
    let named = |error: &rustls::Error| match error {
        rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented => reason::CERTIFICATE,
        _ => reason::TLS,
    };
    sources(error).find_map(|error| error.downcast_ref::<rustls::Error>()).map(named)
}

/// An error and what it came from. An `io::Error` leaves out what it holds when asked for its source.
fn sources<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        let held = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = held.map(|held| held as _).or_else(|| error.source());
        Some(error)
    })
}

/// An error and all that it came from, in words.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut texts: Vec<_> = sources(error).map(ToString::to_string).collect();
    // An `io::Error` shows what it holds.
    texts.dedup();
    texts.join(": ")
}

fn chain_below(error: &reqwest::Error) -> String {
    error.source().map_or_else(|| "no details".to_owned(), chain)
}

//! Why a viewer can't be served, in words for the viewer.

use std::fmt;

/// Why an offer was not answered. Its text says what was wrong and what would help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    kind: RefusalKind,
    reason: String,
    advice: &'static str,
}

/// What sort of refusal it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RefusalKind {
    /// The text is no SDP offer (HTTP 400).
    Malformed,
    /// The offer is longer than what is read (HTTP 413).
    TooLarge,
    /// The offer is sound, but nothing of this stream can be sent to this viewer (HTTP 422).
    Unservable,
}

impl Refusal {
    pub(super) fn new(kind: RefusalKind, reason: impl Into<String>, advice: &'static str) -> Self {
        Self { kind, reason: reason.into(), advice }
    }

    pub(super) fn unservable(reason: impl Into<String>, advice: &'static str) -> Self {
        Self::new(RefusalKind::Unservable, reason, advice)
    }

    /// What sort of refusal it is.
    pub fn kind(&self) -> RefusalKind {
        self.kind
    }

    /// What was wrong, a sentence without its full stop.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// What would help, a sentence without its full stop.
    pub fn advice(&self) -> &str {
        self.advice
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.reason, self.advice)
    }
}

impl std::error::Error for Refusal {}

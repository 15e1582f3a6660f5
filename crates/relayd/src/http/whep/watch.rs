//! What WHEP wants of a stream's viewers, and the one place where it meets relay-nodes.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use relay_nodes::{SessionId, ViewerSnapshot, Viewers};
use relay_webrtc::{FragmentError, RefusalKind};

/// A stream that may be watched.
#[async_trait]
pub(crate) trait Watch: Send + Sync {
    /// Answers an offer: the new session's name and the answer.
    async fn open(&self, offer: String) -> Result<(String, String), OpenError>;
    /// Takes candidates (RFC 8840) of the session named `id`.
    async fn trickle(&self, id: &str, fragment: String) -> Result<(), PatchError>;
    /// Ends the session named `id`; `false` if there is none.
    async fn close(&self, id: &str) -> bool;
    /// Sessions now, those that are connecting included.
    fn count(&self) -> usize;
    /// Sessions that receive media now.
    fn connected(&self) -> usize;
    /// Every session, and for a while those that ended.
    fn snapshot(&self) -> Vec<ViewerSnapshot>;
    /// Sessions that have ended, by how.
    fn ends(&self) -> BTreeMap<&'static str, u64>;
    /// The session named `id`.
    fn diagnose(&self, id: &str) -> Option<ViewerSnapshot>;
}

/// Why an offer was not answered.
#[derive(Debug)]
pub(crate) enum OpenError {
    /// The source is away.
    NotLive { retry_after: Duration, why: String },
    /// The stream has all the viewers it may have.
    Full { retry_after: Duration, why: String },
    /// It is no offer.
    Malformed(String),
    /// It is longer than any offer needs to be.
    TooLarge(String),
    /// It is one that this stream can't serve: why, and what would help.
    Unservable(String),
    /// The stream is about to end.
    Stopping,
}

/// Why candidates were not taken.
#[derive(Debug)]
pub(crate) enum PatchError {
    /// There is no such session.
    Unknown,
    /// They are none.
    Malformed(String),
    /// They are of another ICE session.
    IceRestart,
}

#[async_trait]
impl Watch for Viewers {
    async fn open(&self, offer: String) -> Result<(String, String), OpenError> {
        let opened = Viewers::open(self, &offer).await.map_err(OpenError::from)?;
        Ok((opened.id.as_str().to_owned(), opened.answer))
    }

    async fn trickle(&self, id: &str, fragment: String) -> Result<(), PatchError> {
        let id = SessionId::parse(id).ok_or(PatchError::Unknown)?;
        Viewers::trickle(self, &id, fragment).await.map_err(PatchError::from)
    }

    async fn close(&self, id: &str) -> bool {
        match SessionId::parse(id) {
            Some(id) => Viewers::close(self, &id).await,
            None => false,
        }
    }

    fn count(&self) -> usize {
        Viewers::count(self)
    }

    fn connected(&self) -> usize {
        Viewers::connected(self)
    }

    fn ends(&self) -> BTreeMap<&'static str, u64> {
        Viewers::ends(self)
    }

    fn snapshot(&self) -> Vec<ViewerSnapshot> {
        Viewers::snapshot(self)
    }

    fn diagnose(&self, id: &str) -> Option<ViewerSnapshot> {
        Viewers::diagnose(self, &SessionId::parse(id)?)
    }
}

impl From<relay_nodes::OpenError> for OpenError {
    fn from(error: relay_nodes::OpenError) -> Self {
        use relay_nodes::OpenError as Theirs;
        let why = error.to_string();
        match error {
            Theirs::NotLive { retry_after, .. } => Self::NotLive { retry_after, why },
            Theirs::Full { retry_after, .. } => Self::Full { retry_after, why },
            Theirs::Refused(refusal) => match refusal.kind() {
                RefusalKind::Malformed => Self::Malformed(why),
                RefusalKind::TooLarge => Self::TooLarge(why),
                RefusalKind::Unservable => Self::Unservable(why),
            },
            Theirs::Stopping => Self::Stopping,
        }
    }
}

impl From<relay_nodes::PatchError> for PatchError {
    fn from(error: relay_nodes::PatchError) -> Self {
        use relay_nodes::PatchError as Theirs;
        match error {
            Theirs::Unknown => Self::Unknown,
            Theirs::Fragment(FragmentError::IceRestart) => Self::IceRestart,
            Theirs::Fragment(malformed @ FragmentError::Malformed(_)) => Self::Malformed(malformed.to_string()),
        }
    }
}

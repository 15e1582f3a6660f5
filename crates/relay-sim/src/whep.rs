//! A crowd of WebRTC viewers that check what they get without decoding it.
//!
//! All viewers live in one thread, each with a socket of its own, as real viewers have: a server tells them apart by
//! their addresses, and pays for a send to each. One `epoll` waits for all of them, one `recvmmsg` empties a socket
//! (segments that the server sent as one are read as one), and the kernel's receive timestamps say when packets came,
//! whatever the thread was busy with. A second thread does the signalling, one join after the other.

mod crowd;
mod http;
mod janus;
mod report;
mod signalling;
mod tally;
mod units;
mod viewer;

pub mod fanout;

#[cfg(test)]
mod tests;

use std::{io, net::IpAddr, num::NonZeroU32, time::Duration};

pub use crowd::Crowd;
pub use report::{CrowdReport, ViewerReport};
pub use signalling::Signalling;

/// A crowd: how many, how fast they come, and where from.
#[derive(Clone, Debug)]
pub struct CrowdConfig {
    /// Where they ask.
    pub signalling: Signalling,
    /// How many.
    pub viewers: usize,
    /// How many join in a second.
    pub joins_per_second: NonZeroU32,
    /// At random moments, with the same mean: so that joins meet every moment of a group of pictures.
    pub random: bool,
    /// The local address of their sockets; else the one from which the server is reached.
    pub bind: Option<IpAddr>,
}

impl CrowdConfig {
    /// `viewers` at 50 joins a second.
    pub fn new(signalling: Signalling, viewers: usize) -> Self {
        let joins_per_second = const { NonZeroU32::new(50).expect("50 is not zero") };
        Self { signalling, viewers, joins_per_second, random: false, bind: None }
    }

    /// How long they take to come.
    pub fn joining(&self) -> Duration {
        Duration::from_secs(1) / self.joins_per_second.get() * u32::try_from(self.viewers).unwrap_or(u32::MAX)
    }
}

/// Why a viewer did not get as far as an answer.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// Not `http://host:port/path`, or the host has no address.
    #[error("{0:?} is no http:// URL that can be reached")]
    Url(String),
    /// The request failed.
    #[error("{url}: {error}")]
    Http {
        /// What was asked.
        url: String,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// Another status than 201.
    #[error("refused with {status}: {body}")]
    Refused {
        /// The status.
        status: u16,
        /// The beginning of what it said.
        body: String,
        /// When to come again, if it said so.
        retry_after: Option<Duration>,
    },
    /// The session has no URL.
    #[error("201 without a Location")]
    NoLocation,
    /// Janus said something else than was hoped for.
    #[error("Janus said {0}")]
    Janus(String),
    /// The description can't be read.
    #[error("session description: {0}")]
    Sdp(String),
    /// There was nothing to offer: a bug.
    #[error("no offer was made")]
    NoOffer,
    /// The session doesn't accept the description.
    #[error(transparent)]
    Rtc(#[from] str0m::RtcError),
    /// There is no socket to be had.
    #[error("socket: {0}")]
    Socket(#[source] io::Error),
}

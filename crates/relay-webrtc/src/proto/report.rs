//! What is known of one viewer's connection.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::{candidate::Protocol, choice::H264Choice};

/// The most addresses that are remembered of those STUN came from.
pub(super) const ADDRESSES_MAX: usize = 8;

/// How far a session has come, and its counters. All counts are since the session was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionReport {
    /// How far it has come.
    pub state: SessionState,
    /// The viewer's candidates as it wrote them in its offer and trickled them, without `candidate:`; at most 64.
    pub remote_candidates: Vec<String>,
    /// Where STUN came from, in the order of the first datagram; at most 8.
    pub stun_from: Vec<(Protocol, SocketAddr)>,
    /// STUN datagrams received.
    pub stun_received: u64,
    /// DTLS datagrams received.
    pub dtls_received: u64,
    /// RTCP datagrams received.
    pub rtcp_received: u64,
    /// Datagrams received that were none of these, or that str0m refused.
    pub refused: u64,
    /// The payload type that carries H.264, and why that one.
    pub h264: Option<H264Choice>,
    /// The addresses in use.
    pub selected: Option<SelectedPair>,
    /// Round trip time, from RTCP.
    pub rtt: Option<Duration>,
    /// The estimate of what the path carries, in bits per second.
    pub estimate_bps: Option<u64>,
    /// RTP packets sent, without retransmissions and padding.
    pub packets_sent: u64,
    /// Bytes of all datagrams sent, without UDP and IP headers.
    pub bytes_sent: u64,
    /// RTP packets sent again, because the viewer asked for them or to probe the path.
    pub retransmitted: u64,
    /// NACK messages received; one may ask for several packets.
    pub nacks: u64,
    /// PLI and FIR messages received.
    pub plis: u64,
    /// Of 1 000 packets, how many the viewer's last receiver report missed.
    pub fraction_lost_milli: u32,
    /// Interarrival jitter of the pictures' packets (RFC 3550 §6.4.1).
    pub jitter: Option<Duration>,
    /// When the first valid STUN request had been answered, from the session's start on.
    pub ice_after: Option<Duration>,
    /// When DTLS was done, from the session's start on.
    pub connected_after: Option<Duration>,
    /// When the session was made.
    pub since: Option<Instant>,
}

/// How far a session has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SessionState {
    /// Nothing has been heard of the viewer.
    #[default]
    New,
    /// STUN arrives.
    Ice,
    /// STUN has been answered and DTLS arrives.
    Dtls,
    /// Media can be sent.
    Connected,
    /// It is over.
    Closed,
}

impl SessionState {
    /// `"new"`, `"ice"`, `"dtls"`, `"connected"` or `"closed"`, as the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Ice => "ice",
            Self::Dtls => "dtls",
            Self::Connected => "connected",
            Self::Closed => "closed",
        }
    }
}

/// The addresses that media travels between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SelectedPair {
    /// UDP or TCP.
    pub protocol: Protocol,
    /// The local socket's address.
    pub local: SocketAddr,
    /// Where the viewer is seen.
    pub remote: SocketAddr,
}

//! The addresses that viewers are told, and how they look in an answer.

use std::net::SocketAddr;

/// How datagrams travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// One datagram is one UDP datagram.
    Udp,
    /// Datagrams behind 16-bit lengths on a TCP connection that the viewer opens (RFC 4571, RFC 6544). The framing
    /// is the port's business.
    Tcp,
}

impl Protocol {
    /// `"udp"` or `"tcp"`, as SDP and the API spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }
}

impl From<Protocol> for str0m::net::Protocol {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Udp => Self::Udp,
            Protocol::Tcp => Self::Tcp,
        }
    }
}

/// A way to reach this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LocalCandidate {
    /// UDP, or TCP connections that the viewer opens.
    pub protocol: Protocol,
    /// The address that viewers are told.
    pub address: SocketAddr,
    /// The local address of the socket behind it: the same on a host with public addresses, another behind 1:1 NAT.
    pub base: SocketAddr,
}

/// The candidates of one answer.
#[derive(Clone, Debug)]
pub(super) struct Candidates(Vec<LocalCandidate>);

impl Candidates {
    pub(super) fn new(candidates: &[LocalCandidate]) -> Self {
        Self(candidates.to_vec())
    }

    /// The told address for a datagram that arrived at `local`: the one whose base that is, else the first that
    /// could be (the socket may be bound to all interfaces).
    pub(super) fn told(&self, protocol: Protocol, local: SocketAddr) -> Option<SocketAddr> {
        let of_protocol = || self.0.iter().filter(move |candidate| candidate.protocol == protocol);
        let exact = of_protocol().find(|candidate| candidate.base == local || candidate.address == local);
        let alike = || of_protocol().find(|candidate| candidate.base.is_ipv4() == local.is_ipv4());
        exact.or_else(alike).map(|candidate| candidate.address)
    }

    /// The local address to send from, for a told address.
    pub(super) fn base(&self, protocol: str0m::net::Protocol, told: SocketAddr) -> Option<LocalCandidate> {
        let is = |candidate: &&LocalCandidate| {
            candidate.address == told && str0m::net::Protocol::from(candidate.protocol) == protocol
        };
        self.0.iter().find(is).copied()
    }
}

impl LocalCandidate {
    /// The candidate for str0m: always of the type host, as 1:1 NAT is invisible to the viewer.
    pub(super) fn to_ice(self) -> Option<str0m::Candidate> {
        let builder = str0m::Candidate::builder();
        match self.protocol {
            Protocol::Udp => builder.udp().host(self.address).build().ok(),
            Protocol::Tcp => builder.tcp().host(self.address).tcptype(str0m::net::TcpType::Passive).build().ok(),
        }
    }
}

//! The addresses told to viewers: this machine's own, or those under which a NAT or a name makes it reachable.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use crate::{LocalCandidate, Protocol};

/// One way to tell viewers where to send; without a port, the port's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Advertise {
    /// This address: `203.0.113.7`, `203.0.113.7:40000`, `2001:db8::7`, `[2001:db8::7]:40000`.
    Address(IpAddr, Option<u16>),
    /// Whatever the name stands for, looked up again each minute: `relay.example.com`, `relay.example.com:40000`.
    Name(String, Option<u16>),
    /// What a STUN server sees of this port (RFC 8489 §3), asked again each minute: `stun:stun.example.com:3478`.
    Stun(String, u16),
    /// The public address that the EC2 instance metadata service (IMDSv2) tells: `ec2`.
    Ec2,
}

/// RFC 8489 §18.6.
const STUN_PORT: u16 = 3478;

/// What is no way to advertise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no address, name, \"stun:host:port\" or \"ec2\"")]
pub struct NotAdvertisable;

impl FromStr for Advertise {
    type Err = NotAdvertisable;

    fn from_str(text: &str) -> Result<Self, NotAdvertisable> {
        if text == "ec2" {
            return Ok(Self::Ec2);
        }
        if let Some(server) = text.strip_prefix("stun:") {
            let (host, port) = split_port(server)?;
            return Ok(Self::Stun(name(host)?, port.unwrap_or(STUN_PORT)));
        }
        if let Ok(ip) = text.parse::<IpAddr>() {
            return usable(ip, None);
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            return usable(address.ip(), Some(address.port()));
        }
        let (host, port) = split_port(text)?;
        Ok(Self::Name(name(host)?, port))
    }
}

fn usable(ip: IpAddr, port: Option<u16>) -> Result<Advertise, NotAdvertisable> {
    if ip.is_unspecified() || ip.is_multicast() || port == Some(0) {
        return Err(NotAdvertisable);
    }
    Ok(Advertise::Address(ip, port))
}

fn split_port(text: &str) -> Result<(&str, Option<u16>), NotAdvertisable> {
    match text.rsplit_once(':') {
        None => Ok((text, None)),
        Some((host, port)) => match port.parse() {
            Ok(0) | Err(_) => Err(NotAdvertisable),
            Ok(port) => Ok((host, Some(port))),
        },
    }
}

/// A host name as RFC 1123 §2.1 has it. All-digit names are addresses gone wrong.
fn name(host: &str) -> Result<String, NotAdvertisable> {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    let digits = host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let valid = host.len() <= 253 && host.split('.').all(label);
    if valid && (!digits || host.parse::<IpAddr>().is_ok()) { Ok(host.to_owned()) } else { Err(NotAdvertisable) }
}

impl fmt::Display for Advertise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(ip, None) => ip.fmt(f),
            Self::Address(ip, Some(port)) => SocketAddr::new(*ip, *port).fmt(f),
            Self::Name(name, None) => name.fmt(f),
            Self::Name(name, Some(port)) => write!(f, "{name}:{port}"),
            Self::Stun(server, port) => write!(f, "stun:{server}:{port}"),
            Self::Ec2 => f.write_str("ec2"),
        }
    }
}

/// The local addresses at which a port bound to `listen` can be reached: itself, or every interface's if it is bound
/// to all. Loopback is among them: a viewer on this machine needs no other.
pub(super) fn bases(listen: SocketAddr) -> io::Result<Vec<SocketAddr>> {
    if !listen.ip().is_unspecified() {
        return Ok(vec![listen]);
    }
    let mut addresses: Vec<IpAddr> = if_addrs::get_if_addrs()?
        .into_iter()
        .map(|interface| interface.ip())
        // One bound to 0.0.0.0 hears IPv4 only; one bound to [::] hears both.
        .filter(|ip| listen.is_ipv6() || ip.is_ipv4())
        // Link-local addresses need a zone, which candidates can't carry.
        .filter(|ip| !matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local()))
        .collect();
    // The likeliest first: viewers come from elsewhere.
    addresses.sort_by_key(|ip| (ip.is_loopback(), ip.is_ipv6()));
    addresses.dedup();
    addresses.truncate(BASES_MAX);
    Ok(addresses.into_iter().map(|ip| SocketAddr::new(ip, listen.port())).collect())
}

/// Each costs two lines in every answer and a pair to check for every candidate of the viewer.
const BASES_MAX: usize = 16;

/// A UDP and a TCP candidate for each of `told`; of `bases`, which it stands for.
pub(super) fn candidates(told: &[SocketAddr], bases: &[SocketAddr]) -> Vec<LocalCandidate> {
    let mut candidates = Vec::new();
    for protocol in [Protocol::Udp, Protocol::Tcp] {
        for address in told {
            let base = bases
                .iter()
                .find(|base| base.ip() == address.ip())
                .or_else(|| bases.iter().find(|base| base.is_ipv4() == address.is_ipv4()))
                .or(bases.first());
            candidates.extend(base.map(|base| LocalCandidate { protocol, address: *address, base: *base }));
        }
    }
    candidates
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_advertised_prints_as_it_is_written() {
        for text in [
            "203.0.113.7",
            "203.0.113.7:40000",
            "2001:db8::7",
            "[2001:db8::7]:40000",
            "relay.example.com",
            "relay.example.com:40000",
            "relay",
            "stun:stun.example.com:19302",
            "stun:192.0.2.1:3478",
            "ec2",
        ] {
            assert_eq!(text.parse::<Advertise>().map(|parsed| parsed.to_string()), Ok(text.to_owned()));
        }
        assert_eq!("stun:stun.example.com".parse(), Ok(Advertise::Stun("stun.example.com".into(), 3478)));
    }

    #[test]
    fn what_cant_is_refused() {
        for text in [
            "",
            "0.0.0.0",
            "203.0.113.999",
            "203.0.113.7:0",
            "203.0.113.7:x",
            "[::]:5",
            "-a.example",
            "a..b",
            "a b",
            "stun:",
            "stun:a:b",
            "224.0.0.1",
            "http://relay.example.com",
            "relay.example.com:",
        ] {
            assert_eq!(text.parse::<Advertise>(), Err(NotAdvertisable), "{text:?}");
        }
    }

    #[test]
    fn every_interface_is_a_base_and_the_one_bound_to_is() {
        let loopback: SocketAddr = "127.0.0.1:8189".parse().unwrap();
        assert_eq!(bases(loopback).unwrap(), [loopback]);
        let all = bases("0.0.0.0:8189".parse().unwrap()).unwrap();
        assert!(all.contains(&loopback) && all.iter().all(SocketAddr::is_ipv4), "{all:?}");
    }

    #[test]
    fn candidates_stand_for_a_base_of_their_family() {
        let bases: Vec<SocketAddr> = ["10.0.0.5:8189", "[fd00::5]:8189"].map(|base| base.parse().unwrap()).to_vec();
        let told: Vec<SocketAddr> =
            ["203.0.113.7:40000", "[2001:db8::7]:8189", "10.0.0.5:8189"].map(|told| told.parse().unwrap()).to_vec();
        let made = candidates(&told, &bases);
        let seen: Vec<_> = made.iter().map(|candidate| candidate.base).collect();
        assert_eq!(seen, [bases[0], bases[1], bases[0], bases[0], bases[1], bases[0]]);
        assert!(made[..3].iter().all(|candidate| candidate.protocol == Protocol::Udp));
    }
}

//! As much of STUN (RFC 8489) as the port itself needs: whose datagram is it, and what is our own address seen from
//! outside. Checking and answering is the session's affair.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// RFC 8489 §5.
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xA4, 0x42];
const HEADER: usize = 20;

const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;

const USERNAME: u16 = 0x0006;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;

/// The 96 bits that tie an answer to its question.
pub(super) type TransactionId = [u8; 12];

/// What a datagram is, by its first byte (RFC 7983 §7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Stun,
    Dtls,
    Rtp,
    Unknown,
}

impl Shape {
    pub(super) fn of(datagram: &[u8]) -> Self {
        match datagram.first() {
            Some(0..=3) if is_stun(datagram) => Self::Stun,
            Some(20..=63) => Self::Dtls,
            Some(128..=191) => Self::Rtp,
            _ => Self::Unknown,
        }
    }
}

fn is_stun(datagram: &[u8]) -> bool {
    let length = datagram.get(2..4).map(|bytes| usize::from(be16(bytes)));
    datagram.get(4..8) == Some(&MAGIC_COOKIE) && length.is_some_and(|length| HEADER + length == datagram.len())
}

/// Our half of a request's USERNAME, `ours:theirs` (RFC 8445 §7.2.2), without copying it.
pub(super) fn local_ufrag(stun: &[u8]) -> Option<&str> {
    let username = attribute(stun, USERNAME)?;
    let ours = username.split(|byte| *byte == b':').next()?;
    std::str::from_utf8(ours).ok()
}

/// Whether it is an answer that says so: a session that sends one knows its viewer's password.
pub(super) fn is_success(stun: &[u8]) -> bool {
    stun.get(..2).map(be16) == Some(BINDING_SUCCESS)
}

/// A request that asks for our address as the other side sees it (RFC 8489 §3).
pub(super) fn binding_request(id: TransactionId) -> [u8; HEADER] {
    let mut request = [0; HEADER];
    let parts: [&[u8]; 4] = [&BINDING_REQUEST.to_be_bytes(), &[0, 0], &MAGIC_COOKIE, &id];
    for (to, from) in request.iter_mut().zip(parts.into_iter().flatten()) {
        *to = *from;
    }
    request
}

/// The transaction and the address that a successful answer tells (RFC 8489 §14.2).
pub(super) fn mapped_address(stun: &[u8]) -> Option<(TransactionId, SocketAddr)> {
    if !is_success(stun) {
        return None;
    }
    let id: TransactionId = stun.get(8..HEADER)?.try_into().ok()?;
    let value = attribute(stun, XOR_MAPPED_ADDRESS)?;
    let (family, port, address) = (value.get(1)?, be16(value.get(2..4)?), value.get(4..)?);
    let port = port ^ be16(&MAGIC_COOKIE);
    let mask = MAGIC_COOKIE.iter().chain(&id);
    let ip: IpAddr = match family {
        1 => Ipv4Addr::from(unmask::<4>(address, mask)?).into(),
        2 => Ipv6Addr::from(unmask::<16>(address, mask)?).into(),
        _ => return None,
    };
    Some((id, SocketAddr::new(ip, port)))
}

fn unmask<'a, const N: usize>(address: &[u8], mask: impl Iterator<Item = &'a u8>) -> Option<[u8; N]> {
    let mut plain: [u8; N] = address.get(..N)?.try_into().ok()?;
    for (byte, mask) in plain.iter_mut().zip(mask) {
        *byte ^= mask;
    }
    Some(plain)
}

/// The first attribute of a type (RFC 8489 §14: type, length, value, padded to four bytes).
fn attribute(stun: &[u8], wanted: u16) -> Option<&[u8]> {
    let mut rest = stun.get(HEADER..)?;
    loop {
        let (kind, length) = (be16(rest.get(..2)?), usize::from(be16(rest.get(2..4)?)));
        if kind == wanted {
            return rest.get(4..4 + length);
        }
        rest = rest.get(4 + length.next_multiple_of(4)..)?;
    }
}

fn be16(bytes: &[u8]) -> u16 {
    bytes.iter().take(2).fold(0, |value, byte| value << 8 | u16::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = Vec::new();
        for (kind, value) in attributes {
            body.extend(kind.to_be_bytes());
            body.extend((value.len() as u16).to_be_bytes());
            body.extend(*value);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        let mut message = kind.to_be_bytes().to_vec();
        message.extend((body.len() as u16).to_be_bytes());
        message.extend(MAGIC_COOKIE);
        message.extend([7; 12]);
        message.extend(body);
        message
    }

    #[test]
    fn the_first_byte_and_the_cookie_tell_what_a_datagram_is() {
        let stun = message(BINDING_REQUEST, &[]);
        let mut cut = stun.clone();
        cut.push(0);
        for (datagram, shape) in [
            (&stun[..], Shape::Stun),
            (&cut[..], Shape::Unknown),
            (&[22, 254, 253][..], Shape::Dtls),
            (&[0x80, 96][..], Shape::Rtp),
            (&[0; 4][..], Shape::Unknown),
            (&[64][..], Shape::Unknown),
            (&[][..], Shape::Unknown),
        ] {
            assert_eq!(Shape::of(datagram), shape, "{datagram:?}");
        }
    }

    #[test]
    fn the_username_tells_whose_it_is() {
        for (attributes, expected) in [
            (&[(USERNAME, &b"ours:theirs"[..])][..], Some("ours")),
            (&[(0x8022, &b"abc"[..]), (USERNAME, b"abcd:x")][..], Some("abcd")),
            (&[(USERNAME, &b"nothing"[..])][..], Some("nothing")),
            (&[(USERNAME, &[0xff, b':'][..])][..], None),
            (&[][..], None),
        ] {
            assert_eq!(local_ufrag(&message(BINDING_REQUEST, attributes)), expected);
        }
    }

    #[test]
    fn an_answer_tells_our_address() {
        // RFC 5769 §2.2 and §2.3: the addresses of its sample responses.
        let id = [0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae];
        let v4: &[u8] = &[0, 1, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43];
        let v6: &[u8] = &[
            0, 2, 0xa1, 0x47, 0x01, 0x13, 0xa9, 0xfa, 0xa5, 0xd3, 0xf1, 0x79, 0xbc, 0x25, 0xf4, 0xb5, 0xbe, 0xd2, 0xb9,
            0xd9,
        ];
        for (value, expected) in [(v4, "192.0.2.1:32853"), (v6, "[2001:db8:1234:5678:11:2233:4455:6677]:32853")] {
            let mut answer = message(BINDING_SUCCESS, &[(XOR_MAPPED_ADDRESS, value)]);
            answer[8..20].copy_from_slice(&id);
            assert_eq!(mapped_address(&answer), Some((id, expected.parse().unwrap())));
        }
        assert_eq!(mapped_address(&message(BINDING_REQUEST, &[(XOR_MAPPED_ADDRESS, v4)])), None);
        assert_eq!(Shape::of(&binding_request(id)), Shape::Stun);
    }

    proptest::proptest! {
        #[test]
        fn no_datagram_panics(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let mut stun = message(BINDING_SUCCESS, &[]);
            stun.extend(&bytes);
            for datagram in [&bytes, &stun] {
                let _ = (Shape::of(datagram), local_ufrag(datagram), mapped_address(datagram));
            }
        }
    }
}

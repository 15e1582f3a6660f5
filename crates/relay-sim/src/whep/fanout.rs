//! The floor of every WebRTC server: the packets of a clip, encrypted for each viewer and sent to each on schedule, and
//! nothing else. No handshake, no feedback, no retransmission, no pacing.

use std::{
    collections::HashSet,
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    time::Duration,
};

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use quinn_udp::{Transmit, UdpSocketState};

use super::viewer::Inbox;
use crate::{Clip, clock, poller::Poller};

/// Payload of an RTP packet: what relayd sends.
const PAYLOAD: usize = 1_180;
/// The fixed header (RFC 3550 §5.1) and one of extensions with a transport-wide sequence number (RFC 8285 §4.2).
const HEADER: usize = 12 + 8;
/// The authentication tag (RFC 7714 §14.2).
const TAG: usize = 16;
/// What a datagram may have in all when it is segmented: 65,507 is IPv4's limit.
const GSO_BYTES: usize = 65_000;
/// A viewer says hello again after this.
const HELLO: Duration = Duration::from_millis(200);

/// Where to, how many and how.
#[derive(Clone, Copy, Debug)]
pub struct FanoutConfig {
    /// Viewers that are waited for.
    pub viewers: usize,
    /// How long.
    pub duration: Duration,
    /// Equal packets in one system call (UDP generic segmentation offload), else a call for each.
    pub segmented: bool,
}

/// What was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Packets, all viewers together.
    pub packets: u64,
    /// System calls.
    pub calls: u64,
    /// Packets that the kernel refused.
    pub refused: u64,
}

/// One viewer: its address and its key.
struct Target {
    address: SocketAddr,
    key: LessSafeKey,
    sent: u64,
}

/// Waits for the viewers, says `ready`, and sends.
///
/// # Errors
/// The socket fails, or the viewers don't come within 30 s.
pub fn send(socket: &UdpSocket, clip: &Clip, config: &FanoutConfig, ready: impl FnOnce()) -> io::Result<Sent> {
    let state = UdpSocketState::new(socket.into())?;
    let poller = Poller::new()?;
    poller.add(socket, 0)?;
    let mut targets = greet(socket, &state, &poller, config.viewers)?;
    // What they go on saying is not read any more, and must not wake anybody.
    poller.remove(socket)?;
    ready();
    let start = clock::now();
    let (frame, mut sent, mut readable) = (Duration::from_secs(1) / clip.spec().fps.get(), Sent::default(), Vec::new());
    let mut buffer = Vec::with_capacity(GSO_BYTES);
    for index in 0_u32.. {
        let due = start + frame * index;
        while let Some(wait) = due.checked_duration_since(clock::now()).filter(|wait| !wait.is_zero()) {
            poller.wait(wait, &mut readable)?;
        }
        if due.saturating_duration_since(start) >= config.duration {
            break;
        }
        let Some(unit) = clip.unit(u64::from(index)) else { break };
        for target in &mut targets {
            target.send(&unit.image, config.segmented, (socket, &state), &mut buffer, &mut sent)?;
        }
    }
    Ok(sent)
}

fn greet(socket: &UdpSocket, state: &UdpSocketState, poller: &Poller, viewers: usize) -> io::Result<Vec<Target>> {
    /// Viewers that take longer won't come.
    const PATIENCE: Duration = Duration::from_secs(30);
    let by = clock::now() + PATIENCE;
    let (mut inbox, mut seen, mut readable) = (Inbox::new(), HashSet::new(), Vec::new());
    while seen.len() < viewers {
        if clock::now() > by {
            return Err(io::Error::new(io::ErrorKind::TimedOut, format!("{} of {viewers} viewers came", seen.len())));
        }
        poller.wait(HELLO, &mut readable)?;
        let filled = inbox.fill(socket, state)?;
        seen.extend(inbox.metas().iter().take(filled).map(|meta| meta.addr));
    }
    let target = |address| {
        let key = UnboundKey::new(&AES_128_GCM, &[7; 16]).map_err(io::Error::other)?;
        Ok(Target { address, key: LessSafeKey::new(key), sent: 0 })
    };
    seen.into_iter().take(viewers).map(target).collect()
}

impl Target {
    /// Cuts a unit into equal payloads, encrypts and sends them.
    fn send(
        &mut self,
        unit: &[u8],
        segmented: bool,
        (socket, state): (&UdpSocket, &UdpSocketState),
        buffer: &mut Vec<u8>,
        sent: &mut Sent,
    ) -> io::Result<()> {
        let payload = unit.len().div_ceil(unit.len().div_ceil(PAYLOAD).max(1)).max(1);
        let size = HEADER + payload + TAG;
        let at_once = if segmented { (GSO_BYTES / size).min(state.max_gso_segments()).max(1) } else { 1 };
        for chunk in unit.chunks(payload * at_once) {
            buffer.clear();
            let mut packets = 0;
            for payload in chunk.chunks(payload) {
                self.seal(payload, buffer)?;
                packets += 1;
            }
            let segment_size = (packets > 1).then_some(size);
            let transmit =
                Transmit { destination: self.address, ecn: None, contents: buffer, segment_size, src_ip: None };
            sent.calls += 1;
            sent.packets += packets;
            if state.try_send(socket.into(), &transmit).is_err() {
                sent.refused += packets;
            }
        }
        Ok(())
    }

    /// Appends a packet: its header, the payload encrypted in place behind it, the tag.
    fn seal(&mut self, payload: &[u8], buffer: &mut Vec<u8>) -> io::Result<()> {
        self.sent += 1;
        let mut header = [0x90; HEADER];
        let count = self.sent.to_be_bytes();
        header.iter_mut().skip(4).zip(count).for_each(|(to, from)| *to = from);
        let mut nonce = [0; NONCE_LEN];
        nonce.iter_mut().zip(count).for_each(|(to, from)| *to = from);
        buffer.extend_from_slice(&header);
        let from = buffer.len();
        buffer.extend_from_slice(payload);
        let plain = buffer.get_mut(from..).unwrap_or_default();
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self.key.seal_in_place_separate_tag(nonce, Aad::from(header), plain).map_err(io::Error::other)?;
        buffer.extend_from_slice(tag.as_ref());
        Ok(())
    }
}

/// What arrived at the viewers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// Viewers that got anything.
    pub viewers: usize,
    /// Datagrams.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// The viewers of [`send`]: as many sockets, which say hello and read what comes, until nothing came for a second.
///
/// # Errors
/// A socket fails.
pub fn receive(server: SocketAddr, viewers: usize) -> io::Result<Received> {
    const SILENCE: Duration = Duration::from_secs(1);
    let any: IpAddr = if server.is_ipv4() { [0; 4].into() } else { [0_u16; 8].into() };
    let poller = Poller::new()?;
    let mut sockets = Vec::new();
    for key in 0..viewers {
        let socket = UdpSocket::bind((any, 0))?;
        let state = UdpSocketState::new((&socket).into())?;
        poller.add(&socket, key)?;
        sockets.push((socket, state, 0_u64));
    }
    let (mut received, mut inbox, mut readable) = (Received::default(), Inbox::new(), Vec::new());
    let mut last = clock::now();
    loop {
        poller.wait(HELLO, &mut readable)?;
        for &key in &readable {
            let Some((socket, state, bytes)) = sockets.get_mut(key) else { continue };
            let filled = inbox.fill(socket, state)?;
            for meta in inbox.metas().iter().take(filled) {
                *bytes += meta.len as u64;
                received.packets += meta.len.div_ceil(meta.stride.max(1)) as u64;
                received.bytes += meta.len as u64;
            }
            last = clock::now();
        }
        if received.packets == 0 {
            for (socket, ..) in &sockets {
                // Nobody may listen yet; it is said again.
                let _ = socket.send_to(b"hello", server);
            }
        }
        if clock::now().saturating_duration_since(last) > SILENCE && received.packets > 0 {
            received.viewers = sockets.iter().filter(|(.., bytes)| *bytes > 0).count();
            return Ok(received);
        }
    }
}

#[test]
fn every_viewer_gets_every_packet() {
    use crate::ClipSpec;
    let clip = Clip::make(ClipSpec { seconds: 1, ..ClipSpec::small() }).unwrap();
    for segmented in [true, false] {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let server = socket.local_addr().unwrap();
        let viewers = std::thread::spawn(move || receive(server, 3).unwrap());
        let config = FanoutConfig { viewers: 3, duration: Duration::from_millis(400), segmented };
        let sent = send(&socket, &clip, &config, || {}).unwrap();
        let received = viewers.join().unwrap();
        assert_eq!((received.viewers, received.packets, sent.refused), (3, sent.packets, 0));
        assert!(sent.packets >= 30 && (segmented || sent.calls == sent.packets), "{sent:?}");
    }
}

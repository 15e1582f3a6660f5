//! The UDP half: batches in (`recvmmsg`, GRO), batches out (GSO).

use std::{
    collections::VecDeque,
    io::{self, IoSliceMut},
    net::{IpAddr, SocketAddr},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use socket2::{Domain, Socket, Type};
use tokio::{io::Interest, net::UdpSocket};

use crate::Protocol;

use super::{Inner, Port, registry::Drops};

/// The socket that serves every viewer.
#[derive(Debug)]
pub(super) struct Udp {
    socket: UdpSocket,
    state: UdpSocketState,
    dual_stack: bool,
}

/// Room for a burst of feedback, and for the key frames of a few hundred viewers; the system may grant less.
const BUFFER: usize = 4 << 20;

impl Udp {
    pub(super) fn bind(listen: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(listen), Type::DGRAM, None)?;
        if listen.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        socket.bind(&listen.into())?;
        let state = UdpSocketState::new((&socket).into())?;
        // Less is granted where the system's limits are lower: fewer packets fit, none of it is fatal.
        let _ = state.set_send_buffer_size((&socket).into(), BUFFER);
        let _ = state.set_recv_buffer_size((&socket).into(), BUFFER);
        let socket = UdpSocket::from_std(socket.into())?;
        Ok(Self { socket, state, dual_stack: listen.is_ipv6() })
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Sends one datagram of our own (a question to a STUN server).
    pub(super) async fn send_one(&self, destination: SocketAddr, contents: &[u8]) -> io::Result<()> {
        self.socket.writable().await?;
        self.send(&Transmit {
            destination: self.mapped(destination),
            ecn: None,
            contents,
            segment_size: None,
            src_ip: None,
        })
    }

    fn send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.socket.try_io(Interest::WRITABLE, || self.state.try_send((&self.socket).into(), transmit))
    }

    /// A socket of both families knows IPv4 addresses as `::ffff:a.b.c.d` (RFC 4291 §2.5.5.2).
    fn mapped(&self, address: SocketAddr) -> SocketAddr {
        match address {
            SocketAddr::V4(v4) if self.dual_stack => SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port()),
            address => address,
        }
    }
}

/// Datagrams taken with one call, each up to [`SLOT`] bytes of GRO segments.
const SLOTS: usize = 16;

/// Feedback is small; a slot holds what one viewer can have coalesced.
const SLOT: usize = 16 << 10;

/// Receives for ever and hands what comes to the streams it is for.
pub(super) async fn receive(port: &Inner) -> io::Error {
    let udp = &port.udp;
    let mut storage = vec![0; SLOTS * SLOT];
    let mut meta = [RecvMeta::default(); SLOTS];
    loop {
        if let Err(error) = udp.socket.readable().await {
            return error;
        }
        let mut slots: Vec<IoSliceMut<'_>> = storage.chunks_mut(SLOT).map(IoSliceMut::new).collect();
        let received =
            udp.socket.try_io(Interest::READABLE, || udp.state.recv((&udp.socket).into(), &mut slots, &mut meta));
        let count = match received {
            Ok(count) => count,
            // An ICMP refusal of something sent earlier, or nothing there after all: neither is ours to end for.
            Err(_) => continue,
        };
        let datagrams = storage.chunks(SLOT).zip(&meta).take(count).flat_map(|(slot, meta)| {
            let (source, destination) = (canonical(meta.addr), port.base_of(meta.dst_ip.map(|ip| ip.to_canonical())));
            let bytes = slot.get(..meta.len).unwrap_or_default();
            bytes.chunks(meta.stride.max(1)).map(move |datagram| (source, destination, datagram))
        });
        let strangers = datagrams.filter(|(_, _, contents)| !port.questions.answered(contents));
        port.registry.deliver(Protocol::Udp, strangers);
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// What one task is about to send. Datagrams of one size to one viewer, one after the other, go out with one call.
#[derive(Debug)]
pub struct Outbox {
    port: Port,
    open: Batch,
    /// What the system did not take yet; bounded by [`STUCK_MAX`].
    stuck: VecDeque<Batch>,
}

#[derive(Debug, Default)]
struct Batch {
    source: Option<IpAddr>,
    destination: Option<SocketAddr>,
    segment: usize,
    count: usize,
    contents: Vec<u8>,
}

/// 64 batches of up to 64 KiB: 4 MiB, the size of the send buffer that is full when they are needed.
const STUCK_MAX: usize = 64;

/// The kernel's limit is 64 segments and one IP packet's length.
const BATCH_BYTES_MAX: usize = 60_000;

/// How long a full send buffer is waited for before what is stuck is dropped: the pictures go stale meanwhile.
const STUCK_PATIENCE: Duration = Duration::from_millis(50);

impl Outbox {
    /// An empty one.
    pub fn new(port: &Port) -> Self {
        Self { port: port.clone(), open: Batch::default(), stuck: VecDeque::new() }
    }

    /// Takes one datagram for `destination`, to be sent from the local address `source`.
    pub fn push(&mut self, protocol: Protocol, source: SocketAddr, destination: SocketAddr, contents: &[u8]) {
        if protocol == Protocol::Tcp {
            self.port.0.tcp.send(destination, contents, &self.port.0.registry.drops);
            return;
        }
        let segments_max = self.port.0.udp.state.max_gso_segments();
        if !self.open.takes(source, destination, contents.len(), segments_max) {
            self.seal();
            self.open.source = Some(source.ip()).filter(|ip| !ip.is_unspecified());
            self.open.destination = Some(destination);
            self.open.segment = contents.len();
        }
        self.open.count += 1;
        self.open.contents.extend_from_slice(contents);
    }

    /// Sends what was taken. Waits for room in the send buffer if it must, for 50 ms at most; then what is stuck is
    /// dropped and counted.
    pub async fn flush(&mut self) {
        self.seal();
        if self.stuck.is_empty() {
            return;
        }
        let port = self.port.clone();
        let deadline = tokio::time::sleep(STUCK_PATIENCE);
        tokio::pin!(deadline);
        while let Some(batch) = self.stuck.front() {
            let writable = tokio::select! {
                writable = port.0.udp.socket.writable() => writable.is_ok(),
                () = &mut deadline => false,
            };
            if !writable {
                let lost: usize = self.stuck.drain(..).map(|batch| batch.count).sum();
                port.0.registry.drops.send_buffer_full.fetch_add(lost as u64, Relaxed);
            } else if batch.send(&port.0.udp, &port.0.registry.drops) != Sent::Full {
                self.stuck.pop_front();
            }
        }
    }

    fn seal(&mut self) {
        if self.open.count == 0 {
            return;
        }
        let drops = &self.port.0.registry.drops;
        if self.stuck.is_empty() && self.open.send(&self.port.0.udp, drops) != Sent::Full {
            self.open.clear();
        } else if self.stuck.len() < STUCK_MAX {
            self.stuck.push_back(std::mem::take(&mut self.open));
        } else {
            drops.send_buffer_full.fetch_add(self.open.count as u64, Relaxed);
            self.open.clear();
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    Yes,
    Full,
    Refused,
}

impl Batch {
    /// Whether a further datagram can go out with this batch: to the same place, as long as the others; a shorter one
    /// is the last.
    fn takes(&self, source: SocketAddr, destination: SocketAddr, length: usize, segments_max: usize) -> bool {
        let source = Some(source.ip()).filter(|ip| !ip.is_unspecified());
        let whole = self.contents.len() == self.segment * self.count;
        self.destination == Some(destination)
            && self.source == source
            && whole
            && length <= self.segment
            && self.count < segments_max
            && self.contents.len() + length <= BATCH_BYTES_MAX
    }

    fn send(&self, udp: &Udp, drops: &Drops) -> Sent {
        let Some(destination) = self.destination else { return Sent::Refused };
        let transmit = Transmit {
            destination: udp.mapped(destination),
            ecn: None,
            contents: &self.contents,
            segment_size: (self.count > 1).then_some(self.segment),
            src_ip: self.source,
        };
        let mut sent = verdict(udp.send(&transmit));
        if sent == Sent::Refused && self.count > 1 && udp.state.max_gso_segments() == 1 {
            // The device turned out not to know GSO (quinn-udp has noticed): one by one, now and from now on.
            let singly = |contents| udp.send(&Transmit { contents, segment_size: None, ..transmit.clone() });
            sent = self.contents.chunks(self.segment).map(|one| verdict(singly(one))).fold(Sent::Yes, Sent::worse);
        }
        if sent == Sent::Refused {
            drops.unreachable.fetch_add(self.count as u64, Relaxed);
        }
        sent
    }

    fn clear(&mut self) {
        self.contents.clear();
        (self.destination, self.count) = (None, 0);
    }
}

impl Sent {
    fn worse(self, other: Self) -> Self {
        if self == Self::Yes { other } else { self }
    }
}

fn verdict(result: io::Result<()>) -> Sent {
    match result {
        Ok(()) => Sent::Yes,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Sent::Full,
        Err(_) => Sent::Refused,
    }
}

/// The port, shared by the outboxes of its streams.
pub(super) type Shared = Arc<Inner>;

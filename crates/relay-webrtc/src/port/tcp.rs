//! The TCP half, for viewers whose network lets no UDP through: RFC 6544 passive candidates, RFC 4571 framing.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError, atomic::Ordering::Relaxed},
    time::Duration,
};

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{StreamExt, stream::FuturesUnordered};
use socket2::{Domain, Socket, Type};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf},
    sync::mpsc::{self, error::TrySendError},
    time::timeout,
};

use crate::Protocol;

use super::{Inner, registry::Drops};

/// The connections by the address of their viewer.
#[derive(Debug, Default)]
pub(super) struct Connections {
    open: Mutex<HashMap<SocketAddr, mpsc::Sender<Bytes>>>,
}

/// More connections than this are closed as they come: as many as there may be viewers, and some that are leaving.
const CONNECTIONS_MAX: usize = 4_096;

/// Frames that wait to be written: half a second of a 6 Mbit/s stream. A viewer that reads slower loses packets, and
/// congestion control learns of it as it does over UDP.
const QUEUE: usize = 256;

/// What WebRTC sends fits an Ethernet frame; DTLS handshakes may be a little longer.
const FRAME_MAX: usize = 4 << 10;

/// A connection that has not said within this time which session it is for is closed.
const FIRST_FRAME: Duration = Duration::from_secs(10);

/// ICE checks come every few seconds (RFC 7675 §5.1: consent is asked for every 5 s).
const IDLE: Duration = Duration::from_secs(60);

/// A frame that can't be written for so long belongs to a viewer that is gone.
const WRITE: Duration = Duration::from_secs(10);

impl Connections {
    /// Sends `contents` as one frame to the viewer at `destination`, or counts it as dropped.
    pub(super) fn send(&self, destination: SocketAddr, contents: &[u8], drops: &Drops) {
        let Ok(length) = u16::try_from(contents.len()) else { return };
        let open = self.lock();
        let Some(queue) = open.get(&destination) else {
            drops.unreachable.fetch_add(1, Relaxed);
            return;
        };
        let mut frame = BytesMut::with_capacity(2 + contents.len());
        frame.put_u16(length);
        frame.put_slice(contents);
        match queue.try_send(frame.freeze()) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => drop(drops.send_buffer_full.fetch_add(1, Relaxed)),
            Err(TrySendError::Closed(_)) => drop(drops.unreachable.fetch_add(1, Relaxed)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SocketAddr, mpsc::Sender<Bytes>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn bind(listen: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(listen), Type::STREAM, None)?;
    if listen.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // A restart must not wait for the last run's connections to time out.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&listen.into())?;
    socket.listen(128)?;
    TcpListener::from_std(socket.into())
}

/// Accepts for ever and carries every connection, all in this one task.
pub(super) async fn serve(port: &Inner, listener: &TcpListener) -> io::Error {
    let mut connections = FuturesUnordered::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, remote)) if connections.len() < CONNECTIONS_MAX => {
                    connections.push(carry(port, stream, remote));
                }
                Ok(_) => {}
                // Out of descriptors, or a connection that was gone before it was accepted: not the end of the port.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            },
            Some(()) = connections.next(), if !connections.is_empty() => {}
        }
    }
}

/// One connection, from its first frame to its end.
async fn carry(port: &Inner, stream: TcpStream, remote: SocketAddr) {
    let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
    let Ok(local) = stream.local_addr() else { return };
    // Frames are packets: none should wait for the next.
    let _ = stream.set_nodelay(true);
    let local = port.base_of(Some(local.ip().to_canonical()));
    let (reading, mut writing) = stream.into_split();
    let mut reading = BufReader::with_capacity(FRAME_MAX, reading);
    let mut frame = Vec::new();
    let first = timeout(FIRST_FRAME, read_frame(&mut reading, &mut frame)).await;
    if !matches!(first, Ok(Ok(()))) || !port.registry.knows(&frame) {
        port.registry.drops.unknown_session.fetch_add(1, Relaxed);
        return;
    }
    let (queue, mut waiting) = mpsc::channel(QUEUE);
    let _open = Open::new(&port.tcp, remote, queue);
    let incoming = async {
        loop {
            port.registry.deliver(Protocol::Tcp, [(remote, local, &frame[..])].into_iter());
            match timeout(IDLE, read_frame(&mut reading, &mut frame)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
                    port.registry.drops.malformed.fetch_add(1, Relaxed);
                    return;
                }
                _ => return,
            }
        }
    };
    let outgoing = async {
        while let Some(frame) = waiting.recv().await {
            if !matches!(timeout(WRITE, writing.write_all(&frame)).await, Ok(Ok(()))) {
                return;
            }
        }
    };
    tokio::select! {
        () = incoming => {}
        () = outgoing => {}
    }
}

async fn read_frame(reading: &mut BufReader<OwnedReadHalf>, frame: &mut Vec<u8>) -> io::Result<()> {
    let length = usize::from(reading.read_u16().await?);
    if length > FRAME_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    frame.resize(length, 0);
    reading.read_exact(frame).await?;
    Ok(())
}

/// A connection that can be written to, until dropped.
struct Open<'a> {
    connections: &'a Connections,
    remote: SocketAddr,
}

impl<'a> Open<'a> {
    fn new(connections: &'a Connections, remote: SocketAddr, queue: mpsc::Sender<Bytes>) -> Self {
        connections.lock().insert(remote, queue);
        Self { connections, remote }
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.connections.lock().remove(&self.remote);
    }
}

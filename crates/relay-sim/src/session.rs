//! A viewer's connection: what is written to it at once, what waits, and when it is given up.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{
    net::{TcpStream, UdpSocket},
    sync::Notify,
};

use crate::{locked, truth::SentFrame};

/// What may wait for a reader behind the kernel's buffer: 4 s of 2 Mbit/s.
const MAX_QUEUED: usize = 1024 * 1024;

/// One TCP connection, written to by its own task (answers) and by its camera's (media).
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) stream: TcpStream,
    pub(crate) peer: SocketAddr,
    outbox: Mutex<Outbox>,
    over: AtomicBool,
    pub(crate) woken: Notify,
}

#[derive(Debug, Default)]
struct Outbox {
    /// Bytes that the kernel did not take yet, from `done` on.
    queued: Vec<u8>,
    done: usize,
    /// Bytes handed in since the beginning.
    total: u64,
    /// Where in the bytes handed in each frame ends.
    frames: VecDeque<(u64, SentFrame)>,
}

/// A session that takes no more bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    Closed,
    Slow,
}

impl Session {
    pub(crate) fn new(stream: TcpStream, peer: SocketAddr) -> Self {
        Self { stream, peer, outbox: Mutex::default(), over: AtomicBool::new(false), woken: Notify::new() }
    }

    /// Writes `bytes` or queues them behind what waits; `frame` ends with them.
    pub(crate) fn send(&self, bytes: &[u8], frame: Option<SentFrame>) -> Result<(), Broken> {
        let mut outbox = locked(&self.outbox);
        let outbox = &mut *outbox;
        self.drain(outbox)?;
        let mut taken = 0;
        if outbox.queued.is_empty() {
            while taken < bytes.len() {
                match self.stream.try_write(bytes.get(taken..).unwrap_or_default()) {
                    Ok(count) => taken += count,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(_) => return Err(Broken::Closed),
                }
            }
        }
        outbox.queued.extend_from_slice(bytes.get(taken..).unwrap_or_default());
        outbox.total += bytes.len() as u64;
        outbox.frames.extend(frame.map(|frame| (outbox.total, frame)));
        if outbox.queued.len() - outbox.done > MAX_QUEUED { Err(Broken::Slow) } else { Ok(()) }
    }

    /// Writes what waits, as far as the kernel takes it.
    pub(crate) fn flush(&self) -> Result<(), Broken> {
        self.drain(&mut locked(&self.outbox))
    }

    fn drain(&self, outbox: &mut Outbox) -> Result<(), Broken> {
        while outbox.done < outbox.queued.len() {
            match self.stream.try_write(outbox.queued.get(outbox.done..).unwrap_or_default()) {
                Ok(count) => outbox.done += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(_) => return Err(Broken::Closed),
            }
        }
        outbox.queued.clear();
        outbox.done = 0;
        Ok(())
    }

    /// The next frame whose last byte the kernel took.
    pub(crate) fn next_sent(&self) -> Option<SentFrame> {
        let mut outbox = locked(&self.outbox);
        let taken = outbox.total - (outbox.queued.len() - outbox.done) as u64;
        let (_, frame) = outbox.frames.pop_front_if(|(end, _)| *end <= taken)?;
        Some(frame)
    }

    pub(crate) fn has_queued(&self) -> bool {
        !locked(&self.outbox).queued.is_empty()
    }

    /// Ends the connection with a reset (RST), not a graceful close.
    pub(crate) fn reset(&self) {
        let _ = self.stream.set_zero_linger();
        self.end();
    }

    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
        self.woken.notify_one();
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

/// The farm's sockets for RTP and RTCP, shared by all its UDP viewers.
#[derive(Debug)]
pub(crate) struct UdpPair {
    pub(crate) rtp: UdpSocket,
    pub(crate) rtcp: UdpSocket,
}

impl UdpPair {
    /// An even port and the next (RFC 3550 §11).
    pub(crate) async fn bind(ip: std::net::IpAddr) -> io::Result<Self> {
        /// Half of all ports are even, and few are taken: 100 failures in a row do not happen.
        const TRIES: u32 = 100;
        for _ in 0..TRIES {
            let rtp = UdpSocket::bind((ip, 0)).await?;
            let port = rtp.local_addr()?.port();
            if port % 2 == 0
                && let Ok(rtcp) = UdpSocket::bind((ip, port + 1)).await
            {
                return Ok(Self { rtp, rtcp });
            }
        }
        Err(io::Error::new(io::ErrorKind::AddrInUse, "no pair of adjacent UDP ports is free"))
    }
}

//! One viewer: its socket, its session, and what it has counted.

use std::{
    io::{self, IoSliceMut},
    net::{SocketAddr, UdpSocket},
    os::fd::{AsFd, BorrowedFd},
    time::{Duration, Instant},
};

use quinn_udp::{RecvMeta, UdpSocketState};
use str0m::{
    Event, IceConnectionState, Input, Output, Rtc,
    media::{Frequency, KeyframeRequestKind, Mid},
    net::{Protocol, Receive},
};

use super::{
    signalling::{Joined, Leave},
    tally::{Tally, nanos},
    units::{Arrival, Released, Units, UtcNanos},
};
use crate::clock;

/// Buffers filled by one system call; a server that doesn't send in batches fills one a packet.
const BATCH: usize = 16;
/// The largest datagram, and the largest that segments are put together to.
const DATAGRAM: usize = 65_536;
/// What arrives while one thread serves a thousand others: half a second of 8 Mbit/s.
const RECEIVE_BUFFER: usize = 512 * 1024;
/// A key frame is asked for again after this.
const KEY_REQUEST_PAUSE: Duration = Duration::from_secs(1);

/// Both clocks at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) now: Instant,
    pub(crate) utc: UtcNanos,
}

impl Moment {
    pub(crate) fn now() -> Self {
        Self { now: clock::now(), utc: clock::utc().unix_nanos() }
    }

    /// The moment of a time of day near this one.
    fn at(self, utc: UtcNanos) -> Self {
        let ahead = utc - self.utc;
        let apart = Duration::from_nanos(ahead.unsigned_abs());
        let now = if ahead >= 0 { self.now.checked_add(apart) } else { self.now.checked_sub(apart) };
        Self { now: now.unwrap_or(self.now), utc }
    }
}

/// Memory for what one system call reads, shared by all viewers of a thread.
#[derive(Debug)]
pub(crate) struct Inbox {
    bytes: Vec<u8>,
    metas: [RecvMeta; BATCH],
    released: Vec<Released>,
}

impl Inbox {
    pub(crate) fn new() -> Self {
        let metas = std::array::from_fn(|_| RecvMeta::default());
        Self { bytes: vec![0; BATCH * DATAGRAM], metas, released: Vec::new() }
    }

    /// About the buffers that were filled last.
    pub(crate) fn metas(&self) -> &[RecvMeta] {
        &self.metas
    }

    /// Reads what there is, `BATCH` buffers at most; returns how many were filled.
    pub(crate) fn fill(&mut self, socket: &UdpSocket, state: &UdpSocketState) -> io::Result<usize> {
        let mut chunks = self.bytes.chunks_mut(DATAGRAM);
        let mut slices: [IoSliceMut<'_>; BATCH] =
            std::array::from_fn(|_| IoSliceMut::new(chunks.next().unwrap_or_default()));
        match state.recv(socket.into(), &mut slices, &mut self.metas) {
            Ok(count) => Ok(count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            // An ICMP error for something sent before: the session finds out by itself.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(0),
            Err(error) => Err(error),
        }
    }
}

/// A viewer.
#[derive(Debug)]
pub(crate) struct Viewer {
    rtc: Rtc,
    socket: UdpSocket,
    state: UdpSocketState,
    local: SocketAddr,
    units: Units,
    pub(crate) tally: Tally,
    pub(crate) began: UtcNanos,
    pub(crate) answered: UtcNanos,
    pub(crate) connected: Option<UtcNanos>,
    /// Why there is nothing more to come.
    pub(crate) ended: Option<String>,
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
    pub(crate) leave: Leave,
    mid: Option<Mid>,
    /// When the session wants to be woken.
    pub(crate) due: Instant,
    last_input: Instant,
    key_asked: Option<Instant>,
}

impl Viewer {
    pub(crate) fn new(joined: Joined) -> io::Result<Self> {
        let Joined { rtc, socket, local, began, answered, leave } = joined;
        let state = UdpSocketState::new((&socket).into())?;
        // A system that grants less loses more; that shows.
        let _ = state.set_recv_buffer_size((&socket).into(), RECEIVE_BUFFER);
        let now = clock::now();
        Ok(Self {
            rtc,
            socket,
            state,
            local,
            units: Units::default(),
            tally: Tally::new(began),
            began,
            answered,
            connected: None,
            ended: None,
            packets: 0,
            bytes: 0,
            leave,
            mid: None,
            due: now,
            last_input: now,
            key_asked: None,
        })
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Reads what came and answers it.
    pub(crate) fn receive(&mut self, inbox: &mut Inbox, moment: Moment) {
        loop {
            let filled = match inbox.fill(&self.socket, &self.state) {
                Ok(filled) => filled,
                Err(error) => return self.end(&error),
            };
            let Inbox { bytes, metas, released } = inbox;
            for (meta, buffer) in metas.iter().zip(bytes.chunks(DATAGRAM)).take(filled) {
                let utc = meta.timestamp.map_or(moment.utc, nanos);
                let moment = moment.at(utc);
                let datagrams = buffer.get(..meta.len).unwrap_or_default();
                for datagram in datagrams.chunks(meta.stride.max(1)) {
                    self.take(meta.addr, datagram, moment, released);
                }
            }
            if filled < BATCH {
                return self.settle(&mut inbox.released, moment);
            }
        }
    }

    /// The session's time has come.
    pub(crate) fn wake(&mut self, inbox: &mut Inbox, moment: Moment) {
        self.input(Input::Timeout(moment.now), moment, &mut inbox.released);
        self.settle(&mut inbox.released, moment);
    }

    fn take(&mut self, source: SocketAddr, datagram: &[u8], moment: Moment, released: &mut Vec<Released>) {
        // What is no STUN, DTLS or RTP is nothing to a viewer either.
        if let Ok(receive) = Receive::new(Protocol::Udp, source, self.local, datagram) {
            self.bytes += datagram.len() as u64;
            let at = moment.now.max(self.last_input);
            self.input(Input::Receive(at, receive), moment, released);
        }
    }

    fn input(&mut self, input: Input<'_>, moment: Moment, released: &mut Vec<Released>) {
        if self.ended.is_some() {
            return;
        }
        self.last_input = self.last_input.max(moment.now);
        if let Err(error) = self.rtc.handle_input(input) {
            return self.end(&error);
        }
        self.drain(moment.utc, released);
    }

    /// Does what the session wants done, until it only wants to be woken.
    fn drain(&mut self, utc: UtcNanos, released: &mut Vec<Released>) {
        loop {
            match self.rtc.poll_output() {
                Ok(Output::Timeout(due)) => return self.due = due,
                Ok(Output::Transmit(transmit)) => {
                    // What the kernel doesn't take is lost, as on any link.
                    let _ = self.socket.send_to(&transmit.contents, transmit.destination);
                }
                Ok(Output::Event(event)) => self.event(&event, utc, released),
                Err(error) => return self.end(&error),
            }
        }
    }

    fn event(&mut self, event: &Event, utc: UtcNanos, released: &mut Vec<Released>) {
        match event {
            Event::RtpPacket(packet) => {
                self.packets += 1;
                let time = packet.time.rebase(Frequency::NINETY_KHZ).numer();
                let arrival =
                    Arrival { seq: *packet.seq_no, time, marker: packet.header.marker, payload: &packet.payload, utc };
                self.units.push(&arrival, released);
            }
            Event::Connected => self.connected = Some(utc),
            Event::MediaAdded(added) => self.mid = Some(added.mid),
            Event::IceConnectionStateChange(IceConnectionState::Disconnected) => self.end(&"ICE disconnected"),
            Event::Closed => self.end(&"closed by the server"),
            _ => {}
        }
    }

    /// Counts what was completed, and asks for a key frame if one is needed.
    fn settle(&mut self, released: &mut Vec<Released>, moment: Moment) {
        self.units.expire(moment.utc, released);
        let mut wants_key = false;
        for one in released.drain(..) {
            wants_key = self.tally.add(&one);
        }
        let asked = self.key_asked.is_some_and(|asked| moment.now.saturating_duration_since(asked) < KEY_REQUEST_PAUSE);
        if !wants_key || asked || self.ended.is_some() {
            return;
        }
        self.key_asked = Some(moment.now);
        let mut api = self.rtc.direct_api();
        if let Some(stream) = self.mid.and_then(|mid| api.stream_rx_by_mid(mid, None)) {
            stream.request_keyframe(KeyframeRequestKind::Pli);
        }
        self.drain(moment.utc, released);
    }

    fn end(&mut self, why: &dyn std::fmt::Display) {
        self.ended.get_or_insert_with(|| why.to_string());
        // Nothing more to be woken for.
        self.due = self.last_input + Duration::from_secs(24 * 3600);
    }
}

//! One direction of a network path: delay, loss, and a bottleneck with a queue.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    time::{Duration, Instant},
};

/// How the path is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Path {
    pub(crate) delay: Duration,
    /// Each datagram is late by up to this; they may overtake each other.
    pub(crate) jitter: Duration,
    /// Lost of 1 000.
    pub(crate) loss_milli: u32,
    /// Bits per second.
    pub(crate) bottleneck: Option<u64>,
}

impl Path {
    pub(crate) const CLEAN: Self =
        Self { delay: Duration::from_millis(5), jitter: Duration::ZERO, loss_milli: 0, bottleneck: None };
}

/// A datagram on its way.
pub(crate) struct Flight {
    pub(crate) at: Instant,
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) bytes: Vec<u8>,
}

pub(crate) struct Link {
    path: Path,
    random: fastrand::Rng,
    busy_until: Option<Instant>,
    flights: VecDeque<Flight>,
    /// The longest that a datagram waited for the bottleneck since this was last set to zero.
    pub(crate) worst_wait: Duration,
    pub(crate) dropped: u64,
    pub(crate) bytes: u64,
}

/// What the bottleneck queues before it drops: a home router's second.
const QUEUE: Duration = Duration::from_secs(1);

impl Link {
    pub(crate) fn new(path: Path, seed: u64) -> Self {
        let random = fastrand::Rng::with_seed(seed);
        let (flights, worst_wait) = (VecDeque::new(), Duration::ZERO);
        Self { path, random, busy_until: None, flights, worst_wait, dropped: 0, bytes: 0 }
    }

    pub(crate) fn set_path(&mut self, path: Path) {
        self.path = path;
    }

    pub(crate) fn send(&mut self, now: Instant, source: SocketAddr, destination: SocketAddr, bytes: Vec<u8>) {
        self.bytes += bytes.len() as u64;
        let free = self.busy_until.unwrap_or(now).max(now);
        if self.random.u32(0..1_000) < self.path.loss_milli || free > now + QUEUE {
            self.dropped += 1;
            return;
        }
        let mut at = free;
        if let Some(bps) = self.path.bottleneck {
            at += Duration::from_nanos((bytes.len() as u64 + 28) * 8 * 1_000_000_000 / bps);
            self.busy_until = Some(at);
            self.worst_wait = self.worst_wait.max(at - now);
        }
        at += self.path.delay;
        if !self.path.jitter.is_zero() {
            at += self.path.jitter.mul_f64(self.random.f64());
        }
        let index = self.flights.partition_point(|flight| flight.at <= at);
        self.flights.insert(index, Flight { at, source, destination, bytes });
    }

    pub(crate) fn next_at(&self) -> Option<Instant> {
        self.flights.front().map(|flight| flight.at)
    }

    pub(crate) fn arrived(&mut self, now: Instant) -> Option<Flight> {
        self.flights.front().is_some_and(|flight| flight.at <= now).then(|| self.flights.pop_front()).flatten()
    }
}

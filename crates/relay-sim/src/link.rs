//! A bad link for UDP: a proxy that delays, loses and throttles, for kernels without netem.
//!
//! Each client that sends to it has a flow of its own, with a socket of its own towards the server and a bottleneck of
//! its own in each direction, as if it stood behind its own access line. Chance is seeded.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    io,
    net::{SocketAddr, UdpSocket},
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crate::{
    clock, locked,
    poller::{Poller, Waker},
};

/// Where the link is.
#[derive(Clone, Copy, Debug)]
pub struct LinkConfig {
    /// The near end, for clients; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The far end: the server.
    pub to: SocketAddr,
    /// What it does to datagrams.
    pub conditions: Conditions,
    /// Where chance begins.
    pub seed: u64,
}

/// What a link does to datagrams, in both directions alike.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Conditions {
    /// The share that gets lost, 0 to 1, each datagram by itself.
    pub loss: f64,
    /// One way.
    pub delay: Duration,
    /// Up to this is added to the delay, by chance. Order is kept unless `reorder`.
    pub jitter: Duration,
    /// Jitter may let datagrams overtake each other.
    pub reorder: bool,
    /// Bits per second of UDP payload through the bottleneck of a flow.
    pub rate_bps: Option<u64>,
    /// What may wait before the bottleneck; what comes then is dropped.
    pub queue: Duration,
}

/// What became of the datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// Sent on.
    pub forwarded: u64,
    /// Lost by chance.
    pub lost: u64,
    /// Dropped because the queue was full.
    pub overflowed: u64,
    /// Clients.
    pub flows: usize,
}

/// A running link; dropping it cuts it.
#[derive(Debug)]
pub struct Link {
    addr: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    conditions: Conditions,
    passed: Passed,
    stop: bool,
}

/// Clients at once; what others send is dropped.
const MAX_FLOWS: usize = 2_000;
/// Datagrams under way: 2 s of 100 Mbit/s at 1,200 bytes, some 25 MB.
const MAX_HELD: usize = 20_000;
/// The key of the near end; flows count up from the next.
const NEAR: usize = 0;

impl Link {
    /// Starts it.
    ///
    /// # Errors
    /// The near end can't be bound, or there is no thread to be had.
    pub fn start(config: LinkConfig) -> io::Result<Self> {
        let near = UdpSocket::bind(config.listen)?;
        near.set_nonblocking(true)?;
        let addr = near.local_addr()?;
        let poller = Poller::new()?;
        poller.add(&near, NEAR)?;
        let waker = poller.waker();
        let shared = Arc::new(Mutex::new(Shared { conditions: config.conditions, ..Shared::default() }));
        let running = Running {
            near,
            to: config.to,
            poller,
            shared: shared.clone(),
            chance: fastrand::Rng::with_seed(config.seed),
            flows: Vec::new(),
            by_client: HashMap::new(),
            held: BinaryHeap::new(),
            count: 0,
        };
        let thread = std::thread::Builder::new().name("link".into()).spawn(move || running.run())?;
        Ok(Self { addr, shared, waker, thread: Some(thread) })
    }

    /// The near end.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Changes what it does from now on; what is under way keeps its time.
    pub fn set(&self, conditions: Conditions) {
        locked(&self.shared).conditions = conditions;
    }

    /// What became of the datagrams so far.
    pub fn passed(&self) -> Passed {
        locked(&self.shared).passed
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        locked(&self.shared).stop = true;
        self.waker.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The link's thread.
struct Running {
    near: UdpSocket,
    to: SocketAddr,
    poller: Poller,
    shared: Arc<Mutex<Shared>>,
    chance: fastrand::Rng,
    flows: Vec<Flow>,
    by_client: HashMap<SocketAddr, usize>,
    held: BinaryHeap<Reverse<Held>>,
    count: u64,
}

struct Flow {
    client: SocketAddr,
    far: UdpSocket,
    /// Towards the server, and towards the client.
    pipes: [Pipe; 2],
}

/// One direction of a flow.
#[derive(Clone, Copy)]
struct Pipe {
    /// When the bottleneck has sent all that waits.
    free: Instant,
    /// When the last datagram comes out.
    last: Instant,
}

/// A datagram under way. The earliest due comes first, of those the oldest.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Held {
    due: Instant,
    count: u64,
    flow: usize,
    direction: Direction,
    bytes: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Direction {
    ToServer,
    ToClient,
}

/// What becomes of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Due(Instant),
    Lost,
    Overflow,
}

impl Running {
    fn run(mut self) {
        /// Without anything to do, it waits this long.
        const IDLE: Duration = Duration::from_secs(1);
        let (mut readable, mut buffer) = (Vec::new(), vec![0; 65_536]);
        loop {
            let next = self.held.peek().map_or(IDLE, |held| held.0.due.saturating_duration_since(clock::now()));
            if self.poller.wait(next.min(IDLE), &mut readable).is_err() || locked(&self.shared).stop {
                return;
            }
            for &key in &readable {
                match key.checked_sub(NEAR + 1) {
                    None => self.read_near(&mut buffer),
                    Some(flow) => self.read_far(flow, &mut buffer),
                }
            }
            self.send_due();
        }
    }

    fn read_near(&mut self, buffer: &mut [u8]) {
        while let Ok((length, client)) = self.near.recv_from(buffer) {
            let flow = match self.by_client.get(&client) {
                Some(&flow) => flow,
                None => match self.open(client) {
                    Some(flow) => flow,
                    None => continue,
                },
            };
            self.hold(flow, Direction::ToServer, buffer.get(..length).unwrap_or_default());
        }
    }

    fn read_far(&mut self, flow: usize, buffer: &mut [u8]) {
        while let Some(length) = self.flows.get(flow).and_then(|flow| flow.far.recv(buffer).ok()) {
            self.hold(flow, Direction::ToClient, buffer.get(..length).unwrap_or_default());
        }
    }

    fn open(&mut self, client: SocketAddr) -> Option<usize> {
        if self.flows.len() >= MAX_FLOWS {
            return None;
        }
        let far = UdpSocket::bind((self.near.local_addr().ok()?.ip(), 0)).ok()?;
        far.connect(self.to).ok()?;
        far.set_nonblocking(true).ok()?;
        let index = self.flows.len();
        self.poller.add(&far, NEAR + 1 + index).ok()?;
        let now = clock::now();
        self.flows.push(Flow { client, far, pipes: [Pipe { free: now, last: now }; 2] });
        self.by_client.insert(client, index);
        locked(&self.shared).passed.flows = self.flows.len();
        Some(index)
    }

    fn hold(&mut self, flow: usize, direction: Direction, bytes: &[u8]) {
        let mut shared = locked(&self.shared);
        let Some(pipe) = self.flows.get_mut(flow).and_then(|flow| flow.pipes.get_mut(direction as usize)) else {
            return;
        };
        let fate = match self.held.len() < MAX_HELD {
            true => pipe.admit(&shared.conditions, &mut self.chance, clock::now(), bytes.len()),
            false => Fate::Overflow,
        };
        match fate {
            Fate::Lost => shared.passed.lost += 1,
            Fate::Overflow => shared.passed.overflowed += 1,
            Fate::Due(due) => {
                self.count += 1;
                let bytes = bytes.to_vec();
                self.held.push(Reverse(Held { due, count: self.count, flow, direction, bytes }));
            }
        }
    }

    fn send_due(&mut self) {
        let now = clock::now();
        while self.held.peek().is_some_and(|held| held.0.due <= now) {
            let Some(Reverse(held)) = self.held.pop() else { return };
            let Some(flow) = self.flows.get(held.flow) else { continue };
            let sent = match held.direction {
                Direction::ToServer => flow.far.send(&held.bytes),
                Direction::ToClient => self.near.send_to(&held.bytes, flow.client),
            };
            // What the kernel refuses, because nobody listens there any more, is lost as on any link.
            locked(&self.shared).passed.forwarded += u64::from(sent.is_ok());
        }
    }
}

impl Pipe {
    fn admit(&mut self, conditions: &Conditions, chance: &mut fastrand::Rng, now: Instant, bytes: usize) -> Fate {
        if chance.f64() < conditions.loss {
            return Fate::Lost;
        }
        let mut out = now;
        if let Some(rate) = conditions.rate_bps {
            let start = self.free.max(now);
            if start.saturating_duration_since(now) > conditions.queue {
                return Fate::Overflow;
            }
            let nanos = (bytes as u64).saturating_mul(8 * 1_000_000_000) / rate.max(1);
            self.free = start + Duration::from_nanos(nanos);
            out = self.free;
        }
        let mut due = out + conditions.delay + conditions.jitter.mul_f64(chance.f64());
        if !conditions.reorder {
            due = due.max(self.last);
        }
        self.last = self.last.max(due);
        Fate::Due(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_bottleneck_delays_and_then_drops() {
        // 1,000 bytes take 8 ms at 1 Mbit/s; 20 ms may wait.
        let conditions =
            Conditions { rate_bps: Some(1_000_000), queue: 20 * MS, delay: 50 * MS, ..Conditions::default() };
        let now = clock::now();
        let mut pipe = Pipe { free: now, last: now };
        let fates: Vec<Fate> =
            (0..5).map(|_| pipe.admit(&conditions, &mut fastrand::Rng::with_seed(1), now, 1_000)).collect();
        let due = |ms: u32| Fate::Due(now + ms * MS);
        assert_eq!(fates, [due(58), due(66), due(74), Fate::Overflow, Fate::Overflow]);
        let later = now + 24 * MS;
        assert_eq!(pipe.admit(&conditions, &mut fastrand::Rng::with_seed(1), later, 1_000), due(24 + 58));
    }

    #[test]
    fn jitter_keeps_order_unless_told_otherwise() {
        for reorder in [false, true] {
            let conditions = Conditions { jitter: 50 * MS, reorder, ..Conditions::default() };
            let now = clock::now();
            let (mut pipe, mut chance) = (Pipe { free: now, last: now }, fastrand::Rng::with_seed(7));
            let fates: Vec<Fate> = (0..50).map(|_| pipe.admit(&conditions, &mut chance, now, 100)).collect();
            let is_sorted = fates.is_sorted_by_key(|fate| match fate {
                Fate::Due(due) => *due,
                _ => now,
            });
            assert_eq!(is_sorted, !reorder);
        }
    }

    #[test]
    fn datagrams_pass_both_ways_and_some_are_lost() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let conditions = Conditions { loss: 0.5, delay: 20 * MS, ..Conditions::default() };
        let listen = "127.0.0.1:0".parse().unwrap();
        let config = LinkConfig { listen, to: server.local_addr().unwrap(), conditions, seed: 3 };
        let link = Link::start(config).unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(link.addr()).unwrap();
        for socket in [&client, &server] {
            socket.set_read_timeout(Some(300 * MS)).unwrap();
        }
        let mut buffer = [0; 100];
        let began = clock::now();
        for byte in 0..200 {
            client.send(&[byte]).unwrap();
        }
        let mut arrived = 0;
        while let Ok((_, from)) = server.recv_from(&mut buffer) {
            assert!(began.elapsed() >= 20 * MS);
            server.send_to(b"answer", from).unwrap();
            arrived += 1;
        }
        assert!((60..140).contains(&arrived), "{arrived} of 200 passed a link that loses half");
        link.set(Conditions::default());
        let mut answers = 0;
        while client.recv(&mut buffer).is_ok() {
            answers += 1;
        }
        let passed = link.passed();
        assert_eq!((passed.forwarded, passed.flows), (arrived + answers, 1));
        assert_eq!(passed.lost, 200 - answers);
    }
}

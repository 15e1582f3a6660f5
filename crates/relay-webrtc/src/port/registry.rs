//! Who a datagram is for: sessions by their ICE name, and by the addresses they have answered.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::Protocol;

use super::stun::{self, Shape};

/// One datagram (or one frame of a TCP connection) for one session.
#[derive(Clone, Debug)]
pub struct Datagram {
    /// Whose it is.
    pub session: SessionKey,
    /// How it came.
    pub protocol: Protocol,
    /// Where it came from.
    pub source: SocketAddr,
    /// The local address it came to: the base of one of the port's candidates.
    pub destination: SocketAddr,
    /// Its bytes.
    pub contents: Bytes,
}

/// Names a session within this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionKey(u64);

/// What came to the port and was for nobody, or more than could be taken; since the process started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortDrops {
    /// STUN for a session that does not exist (any more).
    pub unknown_session: u64,
    /// DTLS, RTP or RTCP from an address that no session has answered.
    pub unknown_address: u64,
    /// Neither STUN nor DTLS nor RTP, or a TCP frame that is too long.
    pub malformed: u64,
    /// A session sent more than its share, or a stream's viewers more than its task could take.
    pub flood: u64,
    /// The system could not take more datagrams to send, or a viewer's TCP connection could not.
    pub send_buffer_full: u64,
    /// The system refused to send: no route, a firewall.
    pub unreachable: u64,
}

#[derive(Debug, Default)]
pub(super) struct Drops {
    pub(super) unknown_session: AtomicU64,
    pub(super) unknown_address: AtomicU64,
    pub(super) malformed: AtomicU64,
    pub(super) flood: AtomicU64,
    pub(super) send_buffer_full: AtomicU64,
    pub(super) unreachable: AtomicU64,
}

impl Drops {
    pub(super) fn read(&self) -> PortDrops {
        PortDrops {
            unknown_session: self.unknown_session.load(Relaxed),
            unknown_address: self.unknown_address.load(Relaxed),
            malformed: self.malformed.load(Relaxed),
            flood: self.flood.load(Relaxed),
            send_buffer_full: self.send_buffer_full.load(Relaxed),
            unreachable: self.unreachable.load(Relaxed),
        }
    }
}

/// An address and the transport it speaks: the same address may speak both.
type Remote = (Protocol, SocketAddr);

/// Sessions by name and by address.
#[derive(Debug, Default)]
pub(super) struct Registry {
    tables: Mutex<Tables>,
    next_key: AtomicU64,
    pub(super) drops: Drops,
}

#[derive(Debug, Default)]
struct Tables {
    by_ufrag: HashMap<String, Route>,
    by_address: HashMap<Remote, Route>,
}

#[derive(Clone, Debug)]
struct Route {
    lane: Arc<Inbox>,
    session: SessionKey,
}

/// What a stream's viewers have sent and its task has not yet taken.
#[derive(Debug, Default)]
struct Inbox {
    waiting: Mutex<Waiting>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    datagrams: VecDeque<Datagram>,
    by_session: HashMap<SessionKey, usize>,
}

/// A second of feedback from a thousand viewers (20 datagrams each would be 20,000; the task turns every few ms).
const INBOX_MAX: usize = 8_192;

/// A viewer sends some 20 to 100 datagrams a second; a task that is 100 ms late finds 10.
const SESSION_SHARE_MAX: usize = 256;

/// Addresses a session may use at once: two interfaces, two families, behind two NATs. The oldest is forgotten.
const ADDRESSES_MAX: usize = 8;

/// Letters and digits of a session's name on the wire: 24 × 5.95 bits = 142 bits (RFC 8445 §5.3 wants 24 bits).
const UFRAG_LEN: usize = 24;

/// Where the datagrams of one stream's viewers arrive.
#[derive(Clone, Debug)]
pub struct Lane {
    registry: Arc<Registry>,
    inbox: Arc<Inbox>,
}

impl Lane {
    pub(super) fn new(registry: Arc<Registry>) -> Self {
        Self { registry, inbox: Arc::default() }
    }

    /// A name for a new session, unguessable; datagrams for it come to this lane until the answer is dropped.
    pub fn register(&self) -> Registration {
        let ufrag: String = (0..UFRAG_LEN).map(|_| alphanumeric()).collect();
        let session = SessionKey(self.registry.next_key.fetch_add(1, Relaxed));
        let route = Route { lane: self.inbox.clone(), session };
        lock(&self.registry.tables).by_ufrag.insert(ufrag.clone(), route);
        Registration { lane: self.clone(), session, ufrag, addresses: VecDeque::new() }
    }

    /// Waits until something has arrived; nothing is lost if the future is dropped.
    pub async fn arrived(&self) {
        self.inbox.arrived.notified().await;
    }

    /// Moves what has arrived to the end of `batch`.
    pub fn drain(&self, batch: &mut Vec<Datagram>) {
        let mut waiting = lock(&self.inbox.waiting);
        waiting.by_session.clear();
        batch.extend(waiting.datagrams.drain(..));
    }
}

fn alphanumeric() -> char {
    // fastrand is no source of secrets; the system's random bytes are.
    const LETTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    loop {
        let mut byte = [0];
        if getrandom::fill(&mut byte).is_err() {
            // Without it there is no DTLS either: the session will fail and say so.
            return 'x';
        }
        // 248 = 4 × 62: the rest would make some letters likelier than others.
        if let [byte @ 0..248] = byte
            && let Some(letter) = LETTERS.get(usize::from(byte) % LETTERS.len())
        {
            return char::from(*letter);
        }
    }
}

/// A session's place in the demultiplexer, given up when dropped.
#[derive(Debug)]
pub struct Registration {
    lane: Lane,
    session: SessionKey,
    ufrag: String,
    addresses: VecDeque<Remote>,
}

impl Registration {
    /// The session's key on its datagrams.
    pub fn key(&self) -> SessionKey {
        self.session
    }

    /// Its ICE user name fragment (RFC 8445 §5.3).
    pub fn ufrag(&self) -> &str {
        &self.ufrag
    }

    /// Watches what the session sends: an address that it answers with a STUN success has proved to know its
    /// password, and what comes from there without a name (DTLS, RTCP) is for this session from now on.
    pub fn sent(&mut self, protocol: Protocol, destination: SocketAddr, contents: &[u8]) {
        if !matches!(contents.first(), Some(0..=3)) || !stun::is_success(contents) {
            return;
        }
        let remote = (protocol, destination);
        if self.addresses.contains(&remote) {
            return;
        }
        let mut tables = lock(&self.lane.registry.tables);
        if self.addresses.len() >= ADDRESSES_MAX
            && let Some(oldest) = self.addresses.pop_front()
        {
            tables.forget(oldest, self.session);
        }
        self.addresses.push_back(remote);
        tables.by_address.insert(remote, Route { lane: self.lane.inbox.clone(), session: self.session });
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut tables = lock(&self.lane.registry.tables);
        tables.by_ufrag.remove(&self.ufrag);
        for remote in self.addresses.drain(..) {
            tables.forget(remote, self.session);
        }
    }
}

impl Tables {
    /// An address may have been taken over by a later session of the same viewer.
    fn forget(&mut self, remote: Remote, session: SessionKey) {
        if self.by_address.get(&remote).is_some_and(|route| route.session == session) {
            self.by_address.remove(&remote);
        }
    }

    fn route(&self, protocol: Protocol, source: SocketAddr, contents: &[u8]) -> Result<&Route, Stray> {
        match Shape::of(contents) {
            // Requests carry the name; what else is STUN (indications) goes by address.
            Shape::Stun => match stun::local_ufrag(contents) {
                Some(ufrag) => self.by_ufrag.get(ufrag).ok_or(Stray::Session),
                None => self.by_address.get(&(protocol, source)).ok_or(Stray::Session),
            },
            Shape::Dtls | Shape::Rtp => self.by_address.get(&(protocol, source)).ok_or(Stray::Address),
            Shape::Unknown => Err(Stray::Malformed),
        }
    }
}

enum Stray {
    Session,
    Address,
    Malformed,
}

impl Registry {
    /// Hands `datagrams` (protocol, source, destination, bytes) to the lanes they are for: one lock, and one wake per
    /// lane. What is for nobody is counted before anything is allocated for it.
    pub(super) fn deliver<'a>(
        &self,
        protocol: Protocol,
        datagrams: impl Iterator<Item = (SocketAddr, SocketAddr, &'a [u8])>,
    ) {
        let mut woken: Vec<Arc<Inbox>> = Vec::new();
        let tables = lock(&self.tables);
        for (source, destination, contents) in datagrams {
            match tables.route(protocol, source, contents) {
                Ok(Route { lane, session }) => {
                    let contents = || Bytes::copy_from_slice(contents);
                    let taken = lane.push(*session, || Datagram {
                        session: *session,
                        protocol,
                        source,
                        destination,
                        contents: contents(),
                    });
                    if !taken {
                        self.drops.flood.fetch_add(1, Relaxed);
                    } else if !woken.iter().any(|inbox| Arc::ptr_eq(inbox, lane)) {
                        woken.push(lane.clone());
                    }
                }
                Err(Stray::Session) => drop(self.drops.unknown_session.fetch_add(1, Relaxed)),
                Err(Stray::Address) => drop(self.drops.unknown_address.fetch_add(1, Relaxed)),
                Err(Stray::Malformed) => drop(self.drops.malformed.fetch_add(1, Relaxed)),
            }
        }
        drop(tables);
        for inbox in woken {
            inbox.arrived.notify_one();
        }
    }

    /// Whether what a new TCP connection sends first is for a session.
    pub(super) fn knows(&self, first: &[u8]) -> bool {
        let ufrag = Some(first).filter(|first| Shape::of(first) == Shape::Stun).and_then(stun::local_ufrag);
        ufrag.is_some_and(|ufrag| lock(&self.tables).by_ufrag.contains_key(ufrag))
    }
}

impl Inbox {
    fn push(&self, session: SessionKey, datagram: impl FnOnce() -> Datagram) -> bool {
        let mut waiting = lock(&self.waiting);
        let waiting = &mut *waiting;
        let share = waiting.by_session.entry(session).or_default();
        if *share >= SESSION_SHARE_MAX || waiting.datagrams.len() >= INBOX_MAX {
            return false;
        }
        *share += 1;
        waiting.datagrams.push_back(datagram());
        true
    }
}

/// The tables are whole between any two statements: a panic elsewhere leaves them usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(ufrag: &str) -> Vec<u8> {
        let username = format!("{ufrag}:theirs");
        let padded = username.len().next_multiple_of(4);
        let mut message = vec![0, 1, 0, u8::try_from(4 + padded).unwrap(), 0x21, 0x12, 0xA4, 0x42];
        message.extend([9; 12]);
        message.extend([0, 6, 0, u8::try_from(username.len()).unwrap()]);
        message.extend(username.as_bytes());
        message.resize(20 + 4 + padded, 0);
        message
    }

    fn success() -> Vec<u8> {
        let mut message = vec![1, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42];
        message.extend([9; 12]);
        message
    }

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 7], port))
    }

    fn deliver(registry: &Registry, from: u16, contents: &[u8]) {
        registry.deliver(Protocol::Udp, [(address(from), address(8189), contents)].into_iter());
    }

    fn drained(lane: &Lane) -> Vec<(SessionKey, u16)> {
        let mut batch = Vec::new();
        lane.drain(&mut batch);
        batch.iter().map(|datagram| (datagram.session, datagram.source.port())).collect()
    }

    #[test]
    fn names_first_then_addresses_that_were_answered() {
        let registry = Arc::new(Registry::default());
        let (front, yard) = (Lane::new(registry.clone()), Lane::new(registry.clone()));
        let mut one = front.register();
        let two = yard.register();
        assert_ne!(one.ufrag(), two.ufrag());
        deliver(&registry, 1, &request(one.ufrag()));
        deliver(&registry, 2, &request(two.ufrag()));
        deliver(&registry, 3, &request("nobody"));
        deliver(&registry, 1, &[22, 1, 2]);
        assert_eq!(drained(&front), [(one.key(), 1)]);
        assert_eq!(drained(&yard), [(two.key(), 2)]);
        // Only what the session itself says makes an address known.
        one.sent(Protocol::Udp, address(1), &[0x80, 0, 0, 0]);
        deliver(&registry, 1, &[22, 1, 2]);
        one.sent(Protocol::Udp, address(1), &success());
        deliver(&registry, 1, &[22, 1, 2]);
        deliver(&registry, 1, &[0x80, 200]);
        deliver(&registry, 1, &[255]);
        assert_eq!(drained(&front), [(one.key(), 1), (one.key(), 1)]);
        let ufrag = one.ufrag().to_owned();
        drop(one);
        deliver(&registry, 1, &[22, 1, 2]);
        deliver(&registry, 1, &request(&ufrag));
        assert_eq!(drained(&front), []);
        let drops = registry.drops.read();
        assert_eq!((drops.unknown_session, drops.unknown_address, drops.malformed), (2, 3, 1));
        assert!(lock(&registry.tables).by_address.is_empty());
    }

    #[test]
    fn a_flood_takes_its_own_share_only() {
        let registry = Arc::new(Registry::default());
        let lane = Lane::new(registry.clone());
        let (one, two) = (lane.register(), lane.register());
        for _ in 0..SESSION_SHARE_MAX + 10 {
            deliver(&registry, 1, &request(one.ufrag()));
        }
        deliver(&registry, 2, &request(two.ufrag()));
        assert_eq!(registry.drops.read().flood, 10);
        assert_eq!(drained(&lane).last(), Some(&(two.key(), 2)));
    }

    #[test]
    fn old_addresses_are_forgotten() {
        let registry = Arc::new(Registry::default());
        let lane = Lane::new(registry.clone());
        let mut one = lane.register();
        for port in 0..20 {
            one.sent(Protocol::Udp, address(port), &success());
        }
        assert_eq!(lock(&registry.tables).by_address.len(), ADDRESSES_MAX);
        // Another session of the same viewer takes an address over; the first one's end does not take it away.
        let mut two = lane.register();
        two.sent(Protocol::Udp, address(19), &success());
        drop(one);
        deliver(&registry, 19, &[22]);
        assert_eq!(drained(&lane), [(two.key(), 19)]);
    }

    proptest::proptest! {
        #[test]
        fn nothing_strange_is_delivered(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..64)) {
            let registry = Arc::new(Registry::default());
            let lane = Lane::new(registry.clone());
            let _one = lane.register();
            deliver(&registry, 1, &bytes);
            proptest::prop_assert!(drained(&lane).is_empty());
        }
    }
}

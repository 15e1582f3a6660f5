//! The one UDP and TCP port of every viewer of every stream.
//!
//! Here belongs what touches sockets and decides whose a datagram is. What a datagram means is the session's affair.

mod advertise;
mod discover;
mod registry;
mod stun;
mod tcp;
mod udp;

use std::{
    collections::HashMap,
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use tokio::{net::TcpListener, sync::oneshot};
use tracing::{info, warn};

use crate::LocalCandidate;

pub use advertise::{Advertise, NotAdvertisable};
pub use registry::{Datagram, Lane, PortDrops, Registration, SessionKey};
pub use udp::Outbox;

use registry::Registry;
use stun::TransactionId;
use tcp::Connections;
use udp::Udp;

/// Where the port listens and what viewers are told.
#[derive(Clone, Debug)]
pub struct PortSettings {
    /// For UDP and TCP alike. With port 0 the system chooses one for both.
    pub listen: SocketAddr,
    /// Told instead of this machine's own addresses; empty: those.
    pub advertise: Vec<Advertise>,
}

/// The port. A handle: clones are the same port.
#[derive(Clone, Debug)]
pub struct Port(udp::Shared);

#[derive(Debug)]
pub(crate) struct Inner {
    listen: SocketAddr,
    bases: Vec<SocketAddr>,
    advertise: Vec<Advertise>,
    candidates: RwLock<Arc<[LocalCandidate]>>,
    udp: Udp,
    listener: TcpListener,
    tcp: Connections,
    registry: Arc<Registry>,
    questions: Questions,
}

/// Why a port can't be had.
#[derive(Debug, thiserror::Error)]
#[error("can't listen for viewers at {listen} ({transport}): {source}")]
pub struct BindError {
    /// What was asked for.
    pub listen: SocketAddr,
    /// `"UDP"` or `"TCP"`.
    pub transport: &'static str,
    /// What the system said.
    pub source: io::Error,
}

/// The system's choice for UDP may be taken for TCP: another is asked for, so often.
const FREE_PORT_TRIES: usize = 16;

/// Names, STUN servers and the metadata service are asked again this often.
const REFRESH: Duration = Duration::from_secs(60);

/// … and this often while one of them has not answered yet.
const REFRESH_SOON: Duration = Duration::from_secs(5);

impl Port {
    /// Listens. Addresses that have to be asked for come with [`run`](Self::run).
    ///
    /// # Errors
    /// When either port is taken or may not be had.
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O.
    pub fn bind(settings: PortSettings) -> Result<Self, BindError> {
        let error = |transport| move |source| BindError { listen: settings.listen, transport, source };
        let mut tries = 0;
        let (udp, listen, listener) = loop {
            let udp = Udp::bind(settings.listen).map_err(error("UDP"))?;
            let listen = udp.local_addr().map_err(error("UDP"))?;
            tries += 1;
            match tcp::bind(listen) {
                Ok(listener) => break (udp, listen, listener),
                Err(_) if settings.listen.port() == 0 && tries < FREE_PORT_TRIES => {}
                Err(source) => return Err(error("TCP")(source)),
            }
        };
        let bases = advertise::bases(listen).map_err(error("UDP"))?;
        let known: Vec<SocketAddr> = if settings.advertise.is_empty() {
            bases.clone()
        } else {
            let given = settings.advertise.iter().filter_map(|advertise| match advertise {
                Advertise::Address(ip, told) => Some(SocketAddr::new(*ip, told.unwrap_or(listen.port()))),
                _ => None,
            });
            given.collect()
        };
        let candidates = RwLock::new(advertise::candidates(&known, &bases).into());
        let (tcp, registry, questions) = (Connections::default(), Arc::default(), Questions::default());
        let advertise = settings.advertise;
        Ok(Self(Arc::new(Inner { listen, bases, advertise, candidates, udp, listener, tcp, registry, questions })))
    }

    /// Receives, and keeps what viewers are told up to date, until dropped.
    pub async fn run(&self) -> io::Error {
        tokio::select! {
            error = udp::receive(&self.0) => error,
            error = tcp::serve(&self.0, &self.0.listener) => error,
            error = self.keep_advertising() => error,
        }
    }

    /// The address listened at; with the port that the system chose, if it was to.
    pub fn listen(&self) -> SocketAddr {
        self.0.listen
    }

    /// What viewers are told now.
    pub fn candidates(&self) -> Arc<[LocalCandidate]> {
        self.0.candidates.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Where the datagrams of one stream's viewers arrive.
    pub fn lane(&self) -> Lane {
        Lane::new(self.0.registry.clone())
    }

    /// What came and was for nobody.
    pub fn drops(&self) -> PortDrops {
        self.0.registry.drops.read()
    }

    async fn keep_advertising(&self) -> io::Error {
        let mut troubles = HashMap::new();
        loop {
            let mut told: Vec<SocketAddr> = Vec::new();
            for advertise in &self.0.advertise {
                match discover::resolve(&self.0, advertise).await {
                    Ok(found) => {
                        told.extend(found.iter().filter(|address| !told.contains(address)).collect::<Vec<_>>());
                        if troubles.remove(&advertise.to_string()).is_some() {
                            info!(%advertise, "viewers can be told this address again");
                        }
                    }
                    Err(error) => {
                        let text = error.to_string();
                        let news = troubles.insert(advertise.to_string(), text.clone());
                        if news.as_ref() != Some(&text) {
                            warn!(%advertise, "viewers can't be told this address: {text}");
                        }
                    }
                }
            }
            // What was known stays when nothing can be found out: it was right a minute ago.
            if !self.0.advertise.is_empty() && !told.is_empty() {
                self.tell(&told);
            }
            let constant = |advertise: &Advertise| matches!(advertise, Advertise::Address(..));
            if self.0.advertise.iter().all(constant) {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(if troubles.is_empty() { REFRESH } else { REFRESH_SOON }).await;
        }
    }

    fn tell(&self, told: &[SocketAddr]) {
        let fresh: Arc<[LocalCandidate]> = advertise::candidates(told, &self.0.bases).into();
        let mut candidates = self.0.candidates.write().unwrap_or_else(PoisonError::into_inner);
        if *candidates != fresh {
            info!(addresses = %Listed(told), "viewers are told to send here");
            *candidates = fresh;
        }
    }
}

impl Inner {
    /// The base of a candidate that a datagram to `ip` came to. Where the system doesn't tell, or tells an address
    /// that came up after the start, it is the likeliest.
    fn base_of(&self, ip: Option<IpAddr>) -> SocketAddr {
        let exact = self.bases.iter().find(|base| Some(base.ip()) == ip);
        let family = || self.bases.iter().find(|base| ip.is_none_or(|ip| ip.is_ipv4() == base.is_ipv4()));
        exact.or_else(family).copied().unwrap_or(self.listen)
    }
}

/// Sends `datagram` through a demultiplexer that knows one session, as if it had come over the network, and says how
/// many datagrams arrived there. For fuzzing.
#[cfg(fuzzing)]
pub fn demultiplex(datagram: &[u8]) -> usize {
    let registry = Arc::new(Registry::default());
    let lane = Lane::new(registry.clone());
    let _session = lane.register();
    let address = SocketAddr::from(([127, 0, 0, 1], 9));
    let mut arrived = Vec::new();
    for protocol in [crate::Protocol::Udp, crate::Protocol::Tcp] {
        registry.deliver(protocol, [(address, address, datagram)].into_iter());
        registry.knows(datagram);
    }
    Questions::default().answered(datagram);
    lane.drain(&mut arrived);
    arrived.len()
}

struct Listed<'a>(&'a [SocketAddr]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, address) in self.0.iter().enumerate() {
            write!(f, "{}{address}", if index > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}

/// Our own questions to STUN servers, and who waits for the answers.
#[derive(Debug, Default)]
struct Questions {
    waiting: Mutex<HashMap<TransactionId, oneshot::Sender<SocketAddr>>>,
}

/// Asked one after the other: more than a few at once are questions that nobody waits for any more.
const QUESTIONS_MAX: usize = 16;

impl Questions {
    async fn ask(&self, id: TransactionId) -> Option<SocketAddr> {
        let (answer, answered) = oneshot::channel();
        {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.retain(|_, answer| !answer.is_closed());
            if waiting.len() < QUESTIONS_MAX {
                waiting.insert(id, answer);
            }
        }
        answered.await.ok()
    }

    /// Whether `datagram` is an answer to one of them; it is then taken.
    fn answered(&self, datagram: &[u8]) -> bool {
        if !stun::is_success(datagram) {
            return false;
        }
        let Some((id, address)) = stun::mapped_address(datagram) else { return false };
        let asker = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        // Who has given up waiting doesn't want it any more.
        asker.map(|answer| answer.send(address)).is_some()
    }
}

//! A stand-in for Kinesis Video Streams: GetDataEndpoint, DescribeStream, CreateStream, TagStream and PutMedia over
//! HTTP/1.1, strict about what the service documents, with faults on demand, and with everything kept for reading back.
//!
//! It also gives out credentials that end, as a container's credentials endpoint ([`Service::credentials_url`]), and
//! takes plain uploads at `/upload/NAME`, the floor that benches compare a producer with.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, mpsc},
    thread::JoinHandle,
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Notify, watch},
    task::JoinSet,
    time::Instant,
};
use tokio_rustls::TlsAcceptor;

mod control;
mod fault;
mod ingest;
mod keys;
mod put;
mod read_back;
mod sign;
mod store;
mod talk;
mod tls;
mod wire;
mod world;

pub use fault::{Answer, Event, Fault, Step, StepError, Trouble};
pub use read_back::ReadBack;
pub use store::{PutEnd, PutLog, Refused, StoredFragment, Upload};
pub use tls::Identity;

use crate::locked;
use world::World;

/// What a service is.
#[derive(Clone, Debug)]
pub struct ServiceConfig {
    /// Its address; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Streams that exist from the start; others are unknown until created.
    pub streams: Vec<String>,
    /// Its region.
    pub region: String,
    /// An access key and its secret that are always good.
    pub fixed_key: (String, String),
    /// Take PutMedia over TLS with this certificate, on a second port; the control plane stays as it is.
    pub identity: Option<Identity>,
    /// Its limits.
    pub limits: Limits,
    /// What will go wrong, and when.
    pub script: Vec<Step>,
    /// Keep a line of news for everything that happens.
    pub tells: bool,
}

impl ServiceConfig {
    /// A healthy service with these streams, on a free loopback port, without TLS.
    pub fn new<S: Into<String>>(streams: impl IntoIterator<Item = S>) -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            streams: streams.into_iter().map(Into::into).collect(),
            region: "eu-west-1".into(),
            fixed_key: ("AKIDSIMULATED".into(), "simulated-secret".into()),
            identity: None,
            limits: Limits::default(),
            script: Vec::new(),
            tells: false,
        }
    }
}

/// The service's limits and habits; the defaults are the documented ones.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From a fragment's RECEIVED to its PERSISTED. The service documents none.
    pub persist_delay: Duration,
    /// A connection on which nothing comes for so long is closed.
    pub idle: Duration,
    /// A connection that lasts so long is cut with 4003.
    pub connection_max: Duration,
    /// The longest fragment, else 4002.
    pub fragment_max: Duration,
    /// The most bytes of a fragment, else 4001.
    pub fragment_bytes_max: u64,
    /// What becomes of a second connection of a stream.
    pub second: Second,
    /// PutMedia and GetDataEndpoint calls of a stream within a second, each.
    pub calls_per_second: usize,
    /// The most bytes a second taken on a connection.
    pub bytes_per_second: u64,
    /// How many hours streams keep their data; 0 is not at all, and then nothing is ever PERSISTED.
    pub retention_hours: u32,
    /// How long credentials last that are given out. When they end, so do the connections begun with them.
    pub credentials_life: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            persist_delay: Duration::from_millis(300),
            idle: Duration::from_secs(30),
            connection_max: Duration::from_secs(45 * 60),
            fragment_max: Duration::from_secs(10),
            fragment_bytes_max: 50_000_000,
            second: Second::Refused,
            calls_per_second: 5,
            bytes_per_second: 12_500_000,
            retention_hours: 24,
            credentials_life: Duration::from_secs(3_600),
        }
    }
}

/// What becomes of a second connection of a stream; the documentation of different years tells different things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Second {
    /// It is refused with ConnectionLimitExceededException, as the newer text says.
    Refused,
    /// It is accepted beside the first, as seen.
    Accepted,
    /// It is accepted, and the first is closed, as the older text says.
    Replaces,
}

/// A running service. Dropping it resets all connections.
#[derive(Debug)]
pub struct Service {
    shared: Arc<Shared>,
    address: SocketAddr,
    stop: Arc<Notify>,
    thread: Option<JoinHandle<()>>,
}

/// What its thread and its handle share.
#[derive(Debug)]
pub(crate) struct Shared {
    world: Mutex<World>,
    /// Counts up when what is wrong changes.
    changes: watch::Sender<u64>,
}

impl Shared {
    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }
}

/// How often the script is looked at.
const TICK: Duration = Duration::from_millis(10);
/// A connection that comes while the fault `refuse` lasts is reset; so is one beyond these.
const CONNECTIONS_MAX: usize = 1_024;

impl Service {
    /// Starts it; its port is bound when this returns.
    ///
    /// # Errors
    /// The port cannot be bound, the certificate is unfit, or there is no thread to be had.
    pub fn start(config: ServiceConfig) -> io::Result<Self> {
        let stop = Arc::new(Notify::new());
        let (ready, bound) = mpsc::sync_channel(1);
        let stopped = stop.clone();
        let thread = std::thread::Builder::new().name("relay-sim kvs".into()).spawn(move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(ready.send(Err(error))),
            };
            runtime.block_on(async {
                match Plot::bind(config).await {
                    Ok(plot) => {
                        if ready.send(Ok((plot.shared.clone(), plot.address))).is_ok() {
                            plot.run(&stopped).await;
                        }
                    }
                    Err(error) => drop(ready.send(Err(error))),
                }
            });
        })?;
        let (shared, address) = bound.recv().map_err(io::Error::other)??;
        Ok(Self { shared, address, stop, thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The endpoint to configure: the control plane's.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The endpoint that GetDataEndpoint tells.
    pub fn data_url(&self) -> String {
        locked(&self.shared.world).data_url()
    }

    /// What `AWS_CONTAINER_CREDENTIALS_FULL_URI` may be set to: a port of its own, which no fault reaches, as containers
    /// and instances have it from their own host.
    pub fn credentials_url(&self) -> String {
        locked(&self.shared.world).credentials_url()
    }

    /// Makes `fault` so for a time, or with `None` until [`clear`](Self::clear) or [`end`](Self::end).
    pub fn inject(&self, fault: Fault, lasting: Option<Duration>) {
        self.happen(Trouble::Fault(fault, lasting));
    }

    /// Makes `event` happen now.
    pub fn trigger(&self, event: Event) {
        self.happen(Trouble::Event(event));
    }

    /// What a line of a script says, now.
    pub fn happen(&self, trouble: Trouble) {
        locked(&self.shared.world).happen(trouble, Instant::now());
        self.shared.changed();
    }

    /// Ends one fault, however often it was injected.
    pub fn end(&self, fault: &Fault) {
        locked(&self.shared.world).end_fault(fault);
        self.shared.changed();
    }

    /// Ends every fault.
    pub fn clear(&self) {
        self.trigger(Event::Clear);
    }

    /// The fragments of a stream in the order in which they were received.
    pub fn fragments(&self, stream: &str) -> Vec<StoredFragment> {
        locked(&self.shared.world).fragments(stream)
    }

    /// The PutMedia sessions of a stream, oldest first.
    pub fn sessions(&self, stream: &str) -> Vec<PutLog> {
        locked(&self.shared.world).sessions(stream)
    }

    /// What the stored fragments of a stream say.
    pub fn read_back(&self, stream: &str) -> ReadBack {
        let world = locked(&self.shared.world);
        ReadBack::of(&world.fragments(stream), &world.sessions(stream))
    }

    /// Calls refused, oldest first; the log is bounded.
    pub fn refused(&self) -> Vec<Refused> {
        locked(&self.shared.world).refused()
    }

    /// The time of day, as its fragments have it.
    pub fn utc(&self) -> relay_media::UtcTime {
        crate::clock::utc()
    }

    /// What happened since it was last asked, a line each.
    pub fn news(&self) -> Vec<String> {
        locked(&self.shared.world).take_news()
    }

    /// How many times credentials were given out.
    pub fn credentials_given(&self) -> u64 {
        locked(&self.shared.world).credentials_given()
    }

    /// Streams there are, those made since the start included.
    pub fn streams(&self) -> Vec<String> {
        locked(&self.shared.world).streams()
    }

    /// The CreateStream request, as JSON, that made a stream.
    pub fn creation(&self, stream: &str) -> Option<String> {
        locked(&self.shared.world).creation(stream)
    }

    /// Plain uploads by name.
    pub fn uploads(&self) -> Vec<(String, Upload)> {
        locked(&self.shared.world).uploads()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What the service's thread owns.
struct Plot {
    shared: Arc<Shared>,
    listener: TcpListener,
    address: SocketAddr,
    /// Credentials are had from the client's own host: no network is between.
    host: TcpListener,
    tls: Option<(TcpListener, TlsAcceptor)>,
}

impl Plot {
    async fn bind(config: ServiceConfig) -> io::Result<Self> {
        let listener = TcpListener::bind(config.listen).await?;
        let address = listener.local_addr()?;
        let (mut tls, mut data_url) = (None, format!("http://{address}"));
        if let Some(identity) = &config.identity {
            let listener = TcpListener::bind((address.ip(), 0)).await?;
            // The certificate is for that name.
            data_url = format!("https://localhost:{}", listener.local_addr()?.port());
            tls = Some((listener, identity.acceptor()?));
        }
        let host = TcpListener::bind((address.ip(), 0)).await?;
        let credentials_url = format!("http://{}/credentials", host.local_addr()?);
        let world = Mutex::new(World::new(config, [data_url, credentials_url], Instant::now()));
        let shared = Arc::new(Shared { world, changes: watch::Sender::new(0) });
        Ok(Self { shared, listener, address, host, tls })
    }

    async fn run(self, stop: &Notify) {
        let mut talks = JoinSet::new();
        let mut tick = tokio::time::interval(TICK);
        loop {
            let secure = async {
                match &self.tls {
                    Some((listener, tls)) => (listener.accept().await, tls.clone()),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.notified() => return,
                _ = tick.tick() => {
                    if locked(&self.shared.world).tick(Instant::now()) {
                        self.shared.changed();
                    }
                }
                accepted = self.listener.accept() => self.accepted(accepted, None, &mut talks),
                accepted = self.host.accept() => if let Ok((stream, _)) = accepted {
                    talks.spawn(talk::serve(stream, self.shared.clone(), true));
                },
                (accepted, tls) = secure => self.accepted(accepted, Some(tls), &mut talks),
                Some(_) = talks.join_next() => {}
            }
        }
    }

    fn accepted(
        &self,
        accepted: io::Result<(TcpStream, SocketAddr)>,
        tls: Option<TlsAcceptor>,
        talks: &mut JoinSet<()>,
    ) {
        let Ok((stream, _)) = accepted else { return };
        if locked(&self.shared.world).condition().refuse || talks.len() >= CONNECTIONS_MAX {
            return talk::reset(&stream);
        }
        let _ = stream.set_nodelay(true);
        let shared = self.shared.clone();
        talks.spawn(async move {
            match tls {
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        talk::serve(stream, shared, false).await;
                    }
                }
                None => talk::serve(stream, shared, false).await,
            }
        });
    }
}

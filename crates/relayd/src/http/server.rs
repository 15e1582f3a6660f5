//! Accepts connections and serves them, so many at a time and no longer than they are of use.

use std::{
    future::Future,
    net::{IpAddr, SocketAddr},
    pin::pin,
    time::Duration,
};

use axum::Router;
use hyper::{Request, body::Incoming, server::conn::http1, service::Service};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};
use tracing::{debug, warn};

/// More connections than this are turned away: each costs two buffers of [`BUFFER`] (32 MiB in all) and a descriptor,
/// and a page that is open in a browser keeps one.
const CONNECTIONS_MAX: usize = 1_000;

/// A request's line and headers fit into this, or are refused with 431.
const BUFFER: usize = 16 << 10;

/// Browsers send about 15.
const HEADERS_MAX: usize = 64;

/// Headers come in one piece from an honest client; an idle connection is closed after this, too.
const HEADER_TIMEOUT: Duration = Duration::from_secs(15);

/// How long answers in progress may go on once the process stops.
const GRACE: Duration = Duration::from_millis(300);

/// A server that runs as long as its future is polled.
pub(crate) struct Server {
    listener: TcpListener,
    router: Router,
    connections_max: usize,
}

impl Server {
    /// Serves `router` to whoever connects to `listener`.
    pub(crate) fn new(listener: TcpListener, router: Router) -> Self {
        Self { listener, router, connections_max: CONNECTIONS_MAX }
    }

    /// Turns away more connections than this.
    #[cfg(test)]
    pub(super) fn at_most(self, connections_max: usize) -> Self {
        Self { connections_max, ..self }
    }

    /// Serves until `stop` is ready, then lets answers in progress finish for a moment.
    pub(crate) async fn run(self, stop: impl Future<Output = ()>) {
        let (closing, closed) = watch::channel(());
        let mut connections = JoinSet::new();
        let mut stop = pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                Some(_) = connections.join_next() => {}
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) if connections.len() >= self.connections_max => turn_away(&stream),
                    Ok((stream, peer)) => {
                        connections.spawn(serve(stream, peer, self.router.clone(), closed.clone()));
                    }
                    Err(error) => {
                        // Out of descriptors: they come back when connections end.
                        warn!("a connection could not be accepted: {error}");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
            }
        }
        drop(closing);
        let all = async { while connections.join_next().await.is_some() {} };
        // Whoever is still being answered then is cut off as the set is dropped.
        let _ = tokio::time::timeout(GRACE, all).await;
    }
}

async fn serve(stream: TcpStream, peer: SocketAddr, router: Router, mut closed: watch::Receiver<()>) {
    let _ = stream.set_nodelay(true);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_headers(HEADERS_MAX).max_buf_size(BUFFER);
    let service = Routed { peer: Peer(peer.ip()), router: TowerToHyperService::new(router) };
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        ended = connection.as_mut() => return note(peer, ended),
        _ = closed.changed() => connection.as_mut().graceful_shutdown(),
    }
    note(peer, connection.await);
}

/// Where a request came from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) IpAddr);

/// Tells the routes where a connection's requests come from.
struct Routed {
    peer: Peer,
    router: TowerToHyperService<Router>,
}

impl Service<Request<Incoming>> for Routed {
    type Response = <TowerToHyperService<Router> as Service<Request<Incoming>>>::Response;
    type Error = <TowerToHyperService<Router> as Service<Request<Incoming>>>::Error;
    type Future = <TowerToHyperService<Router> as Service<Request<Incoming>>>::Future;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.peer);
        self.router.call(request)
    }
}

fn note(peer: SocketAddr, ended: Result<(), hyper::Error>) {
    if let Err(error) = ended {
        debug!(%peer, "a connection ended: {error}");
    }
}

/// A word in place of silence; if it does not fit into the socket's buffer at once, so be it.
fn turn_away(stream: &TcpStream) {
    const ANSWER: &[u8] =
        b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 1\r\nConnection: close\r\n\r\n";
    let _ = stream.try_write(ANSWER);
}

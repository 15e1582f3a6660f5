//! The origin's port: HTTP/1.1 by hand, since no server library can be talked into misbehaving.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::Notify,
    task::JoinSet,
    time::Instant,
};

use super::{
    Origin,
    ledger::Piece,
    reply::{Manner, Reply, Request},
};
use crate::locked;

/// How often the programme is looked at.
const TICK: Duration = Duration::from_millis(20);
/// A byte of a slow answer.
const DRIP: Duration = Duration::from_millis(100);
/// A request's head is never longer.
const HEAD_BYTES: usize = 16 << 10;
/// An endless answer ends after all: 64 MiB.
const ENDLESS_BYTES: usize = 64 << 20;
/// A client that asks for a playlist which isn't there yet gets it by then, or what there is.
const BLOCK_MAX: Duration = Duration::from_secs(10);
const BACKLOG: u32 = 128;

pub(super) fn listen(address: std::net::SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves until told to stop.
#[allow(
    clippy::disallowed_methods,
    reason = "the origin stands beside the graph and its supervisor; a JoinSet owns the tasks"
)]
pub(super) async fn run(origin: Arc<Origin>, listener: TcpListener, stop: &Notify) {
    let mut connections = JoinSet::new();
    let mut listener = Some(listener);
    let mut tick = tokio::time::interval(TICK);
    loop {
        let accepted = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.notified() => break,
            accepted = accepted => if let Ok((stream, _)) = accepted {
                connections.spawn(serve(origin.clone(), stream));
            },
            Some(_) = connections.join_next() => {}
            _ = tick.tick() => {
                if origin.advance(Instant::now()) {
                    // Those there are reset: a socket that is dropped with zero linger is.
                    listener = None;
                    connections.shutdown().await;
                } else if listener.is_none() {
                    listener = listen(origin.address).ok();
                }
            }
        }
    }
    connections.shutdown().await;
}

/// Counts a connection as long as it lives.
struct Open(Arc<Origin>);

impl Drop for Open {
    fn drop(&mut self) {
        locked(&self.0.state).connections -= 1;
    }
}

async fn serve(origin: Arc<Origin>, mut stream: TcpStream) {
    locked(&origin.state).connections += 1;
    let _open = Open(origin.clone());
    let _ = stream.set_nodelay(true);
    // Dropped anywhere but at an orderly end, it is reset.
    let _ = stream.set_zero_linger();
    let mut read = Vec::new();
    let mut pending: Vec<Piece> = Vec::new();
    loop {
        let head = match next_head(&mut stream, &mut read).await {
            Ok(Some(head)) => head,
            Ok(None) => {
                // The client closed in order: it has read what was sent.
                locked(&origin.state).ledger.served(&pending);
                return;
            }
            Err(_) => return,
        };
        locked(&origin.state).ledger.served(&std::mem::take(&mut pending));
        let Some(request) = Request::parse(&head) else { return };
        wait_for_news(&origin, &request).await;
        origin.advance(Instant::now());
        let reply = origin.reply(Instant::now(), &request);
        locked(&origin.state).requests += 1;
        if send(&mut stream, &reply).await.is_err() {
            return;
        }
        locked(&origin.state).ledger.spoil(&reply.spoils);
        pending = reply.pieces;
        if reply.closes {
            let _ = stream.shutdown().await;
        }
    }
}

/// The next request's head; `None` at the end of the connection.
async fn next_head(stream: &mut TcpStream, read: &mut Vec<u8>) -> io::Result<Option<String>> {
    loop {
        if let Some(end) = memchr::memmem::find(read, b"\r\n\r\n") {
            let rest = read.split_off(end + 4);
            let head = std::mem::replace(read, rest);
            return Ok(Some(String::from_utf8_lossy(head.get(..end).unwrap_or_default()).into_owned()));
        }
        // A TLS handshake (RFC 8446 §5.1) is told off, as web servers do.
        if read.first() == Some(&0x16) {
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n").await?;
            tokio::time::sleep(TICK).await;
        }
        if read.len() > HEAD_BYTES || read.first() == Some(&0x16) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if stream.read_buf(read).await? == 0 {
            return Ok(None);
        }
    }
}

/// A blocking reload waits for what it asks for (draft-pantos-hls-rfc8216bis §6.2.5.2).
async fn wait_for_news(origin: &Origin, request: &Request) {
    let Some(number) = request.number("_HLS_msn") else { return };
    let part = request.number("_HLS_part");
    let started = Instant::now();
    while started.elapsed() < BLOCK_MAX && !origin.has(Instant::now(), number, part) {
        tokio::time::sleep(TICK / 4).await;
        origin.advance(Instant::now());
    }
}

async fn send(stream: &mut TcpStream, reply: &Reply) -> io::Result<()> {
    let Reply { status, headers, body, .. } = reply;
    let length = match reply.manner {
        Manner::Endless => String::new(),
        _ => format!("Content-Length: {}\r\n", body.len()),
    };
    let head = format!("HTTP/1.1 {status} {}\r\n{headers}{length}\r\n", reason(*status));
    let half = body.slice(..body.len() / 2);
    match reply.manner {
        Manner::Whole => write(stream, &head, body).await,
        Manner::Cut => {
            write(stream, &head, &half).await?;
            // What was sent is to arrive before the reset overtakes it.
            tokio::time::sleep(TICK).await;
            Err(io::ErrorKind::ConnectionReset.into())
        }
        Manner::Truncated => {
            write(stream, &head, &half).await?;
            stream.shutdown().await?;
            drain(stream).await;
            Err(io::ErrorKind::UnexpectedEof.into())
        }
        Manner::Stalled => {
            write(stream, &head, &half).await?;
            drain(stream).await;
            Err(io::ErrorKind::TimedOut.into())
        }
        Manner::Slow => {
            stream.write_all(head.as_bytes()).await?;
            for byte in body.chunks(1) {
                stream.write_all(byte).await?;
                tokio::time::sleep(DRIP).await;
            }
            Ok(())
        }
        Manner::Endless => {
            stream.write_all(head.as_bytes()).await?;
            for _ in 0..ENDLESS_BYTES / body.len().max(1) {
                stream.write_all(body).await?;
            }
            Err(io::ErrorKind::FileTooLarge.into())
        }
    }
}

async fn write(stream: &mut TcpStream, head: &str, body: &Bytes) -> io::Result<()> {
    stream.write_all(&[head.as_bytes(), body].concat()).await
}

/// Waits for the client to give up.
async fn drain(stream: &mut TcpStream) {
    let mut passed_over = [0; 1_024];
    while stream.read(&mut passed_over).await.is_ok_and(|count| count > 0) {}
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        206 => "Partial Content",
        302 => "Found",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        410 => "Gone",
        416 => "Range Not Satisfiable",
        503 => "Service Unavailable",
        _ => "Something Else",
    }
}

//! One connection: requests in, answers out, and deafness when told so.

use std::{io, sync::Arc, time::Duration};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
    time::{Instant, sleep_until, timeout},
};
use tokio_rustls::server::TlsStream;

use super::{
    Shared, control, put,
    sign::Refusal,
    store::PutEnd,
    wire::{self, BODY_BYTES_MAX, Body, Head, Piece},
    world::Order,
};
use crate::{clock, locked, verify::stamps_in};

/// What is read at once.
const READ_BYTES: usize = 64 << 10;
/// After a refusal or the last word, what the client still sends is read for so long, so that no reset overtakes them.
const DRAIN: Duration = Duration::from_secs(3);
/// A client that takes no answer for so long is gone.
const WRITE_MAX: Duration = Duration::from_secs(10);

/// A connection that can be reset.
pub(super) trait Io: AsyncRead + AsyncWrite + Unpin + Send {
    /// The socket.
    fn socket(&self) -> &TcpStream;
}

impl Io for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

impl Io for TlsStream<TcpStream> {
    fn socket(&self) -> &TcpStream {
        self.get_ref().0
    }
}

/// Has the socket reset when it is dropped.
pub(super) fn reset(socket: &TcpStream) {
    let _ = socket.set_zero_linger();
}

/// Serves a connection to its end; one that is local is reached by no fault of the network.
pub(super) async fn serve<S: Io>(io: S, shared: Arc<Shared>, is_local: bool) {
    let id = locked(&shared.world).connected();
    let changes = shared.changes.subscribe();
    let buffer = BytesMut::new();
    let mut talk =
        Talk { io, buffer, shared: shared.clone(), changes, id, is_local, was_deaf: false, deaf_until: None };
    let _ = talk.run().await;
    locked(&shared.world).disconnected(id);
}

/// A connection.
pub(super) struct Talk<S> {
    io: S,
    pub(super) buffer: BytesMut,
    pub(super) shared: Arc<Shared>,
    changes: watch::Receiver<u64>,
    pub(super) id: u64,
    is_local: bool,
    was_deaf: bool,
    /// When a silence has just ended: what came meanwhile, such as the client's farewell, is read before anything is said.
    deaf_until: Option<Instant>,
}

/// Why waiting ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Woke {
    /// Bytes came.
    Bytes,
    /// The client will send no more.
    Eof,
    /// It is time.
    Due,
    /// The connection is to do something.
    Order(Order),
}

/// After a silence, what came meanwhile is read for so long.
const CATCH_UP: Duration = Duration::from_millis(200);

impl<S: Io> Talk<S> {
    async fn run(&mut self) -> io::Result<()> {
        loop {
            let Some(head) = self.head().await? else { return Ok(()) };
            if let Some(path) = head.path.strip_prefix("/upload/") {
                return self.upload(path.to_owned(), head).await;
            }
            if head.path == "/putMedia" {
                return self.put(&head).await;
            }
            let body = self.body(&head).await?;
            self.late().await;
            let answer = control::answer(&self.shared, &head, &body);
            let is_refused = answer.is_err();
            let bytes = match answer {
                Ok(json) => wire::answer(200, None, &json, &date(), false),
                Err(refusal) => self.refusal(&head.path, &refusal, false),
            };
            self.write(&bytes).await?;
            if is_refused && head.method != "POST" {
                return Ok(());
            }
        }
    }

    async fn head(&mut self) -> io::Result<Option<Head>> {
        loop {
            if let Some(head) = Head::take(&mut self.buffer).map_err(io::Error::other)? {
                return Ok(Some(head));
            }
            match self.wait(None, true).await? {
                Woke::Eof => return Ok(None),
                Woke::Order(Order::Reset) => return self.reset(),
                _ => {}
            }
        }
    }

    async fn body(&mut self, head: &Head) -> io::Result<Vec<u8>> {
        let mut framing = head.body().map_err(io::Error::other)?;
        let mut body = Vec::new();
        loop {
            match framing.take(&mut self.buffer).map_err(io::Error::other)? {
                Piece::Data(data) if body.len() + data.len() <= BODY_BYTES_MAX => body.extend_from_slice(&data),
                Piece::Data(_) => return Err(io::Error::other("the body is too long")),
                Piece::End => {
                    if matches!(framing, Body::Chunked { .. }) {
                        return Err(io::Error::other("a control call in chunks"));
                    }
                    return Ok(body);
                }
                Piece::Short => match self.wait(None, true).await? {
                    Woke::Eof => return Err(io::ErrorKind::UnexpectedEof.into()),
                    Woke::Order(Order::Reset) => return self.reset(),
                    _ => {}
                },
            }
        }
    }

    async fn put(&mut self, head: &Head) -> io::Result<()> {
        self.late().await;
        let opened = locked(&self.shared.world).put(head, self.id, Instant::now());
        let session = match opened {
            Ok(session) => session,
            Err(refusal) => {
                let bytes = self.refusal(&head.path, &refusal, true);
                self.write(&bytes).await?;
                self.drain().await;
                return Ok(());
            }
        };
        let mut body = put::Put::new(session.clone());
        let end = body.run(self, head).await;
        let end = end.unwrap_or(PutEnd::Gone);
        locked(&self.shared.world).ended(&session, self.id, end.clone(), body.bytes());
        match end {
            PutEnd::Reset => reset(self.io.socket()),
            PutEnd::Gone => {}
            _ => self.drain().await,
        }
        Ok(())
    }

    /// Reads an upload to its end; nothing of it is checked.
    async fn upload(&mut self, name: String, head: Head) -> io::Result<()> {
        let mut framing = head.body().map_err(io::Error::other)?;
        if head.get("expect").is_some() {
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        let mut tail: Vec<u8> = Vec::new();
        let one = relay_media::stamp::Stamp::NAL_LEN;
        loop {
            match framing.take(&mut self.buffer).map_err(io::Error::other)? {
                Piece::Data(data) => {
                    tail.extend_from_slice(&data);
                    let frames = stamps_in(&tail).count() as u64;
                    // A stamp may be cut: shorter than one it is not found twice.
                    tail.drain(..tail.len().saturating_sub(one - 2));
                    locked(&self.shared.world).uploaded(&name, data.len() as u64, frames);
                }
                Piece::End => return self.write(&wire::answer(200, None, "{}", &date(), true)).await,
                Piece::Short => match self.wait(None, true).await? {
                    Woke::Eof => return Ok(()),
                    Woke::Order(Order::Reset) => return self.reset(),
                    _ => {}
                },
            }
        }
    }

    /// The bytes of a refusal, which is noted.
    fn refusal(&self, path: &str, refusal: &Refusal, closes: bool) -> Vec<u8> {
        locked(&self.shared.world).refuse(path, refusal);
        let json = serde_json::json!({ "message": refusal.message }).to_string();
        let name = Some(refusal.name.as_str()).filter(|name| !name.is_empty());
        wire::answer(refusal.status, name, &json, &date(), closes)
    }

    fn reset<T>(&self) -> io::Result<T> {
        reset(self.io.socket());
        Err(io::ErrorKind::ConnectionReset.into())
    }

    /// Waits as the fault says before an answer.
    async fn late(&self) {
        let late = locked(&self.shared.world).condition().late;
        if !late.is_zero() {
            tokio::time::sleep(late).await;
        }
    }

    /// Waits for bytes, if they are wanted, for `due`, or for an order; through a blackhole, for nothing but its end.
    /// What a client sent into one and hung up after never arrived.
    pub(super) async fn wait(&mut self, due: Option<Instant>, is_reading: bool) -> io::Result<Woke> {
        let mut gathered = false;
        loop {
            let is_deaf = !self.is_local && locked(&self.shared.world).condition().blackhole;
            if self.was_deaf && !is_deaf {
                self.deaf_until = Some(Instant::now() + CATCH_UP);
            }
            self.was_deaf = is_deaf;
            if !is_deaf && let Some(order) = locked(&self.shared.world).take_order(self.id) {
                return Ok(Woke::Order(order));
            }
            self.deaf_until = self.deaf_until.filter(|until| Instant::now() < *until);
            if gathered && self.deaf_until.is_none() {
                return Ok(Woke::Bytes);
            }
            let due = due.map(|due| self.deaf_until.map_or(due, |until| due.max(until)));
            let wake = if gathered { self.deaf_until } else { due };
            let timer = async {
                match wake {
                    Some(wake) => sleep_until(wake).await,
                    None => std::future::pending().await,
                }
            };
            self.buffer.reserve(READ_BYTES);
            tokio::select! {
                biased;
                changed = self.changes.changed() => changed.map_err(io::Error::other)?,
                read = self.io.read_buf(&mut self.buffer), if !is_deaf && is_reading => {
                    match (read?, self.deaf_until) {
                        (0, None) => return Ok(Woke::Eof),
                        (0, Some(_)) => {
                            self.buffer.clear();
                            return Ok(Woke::Eof);
                        }
                        (_, None) => return Ok(Woke::Bytes),
                        (_, Some(_)) => gathered = true,
                    }
                }
                () = timer, if !is_deaf && !gathered => return Ok(Woke::Due),
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if gathered => {}
            }
        }
    }

    /// Whether what is due may be said.
    pub(super) fn may_speak(&self) -> bool {
        !self.was_deaf && self.deaf_until.is_none() && !locked(&self.shared.world).condition().blackhole
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let write = async {
            self.io.write_all(bytes).await?;
            self.io.flush().await
        };
        timeout(WRITE_MAX, write).await.map_err(io::Error::other)?
    }

    /// Reads on for a while and throws it away.
    async fn drain(&mut self) {
        let end = Instant::now() + DRAIN;
        let _ = self.io.shutdown().await;
        while let Ok(Woke::Bytes) = self.wait(Some(end), true).await {
            self.buffer.clear();
        }
    }
}

/// Now, as a `Date`.
pub(super) fn date() -> String {
    let now = jiff::Timestamp::from_nanosecond(clock::utc().unix_nanos().into()).unwrap_or_default();
    now.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

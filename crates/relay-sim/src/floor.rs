//! The floor of any RTSP recorder: handshake, read the bytes, write them to a file, nothing else.

use std::{
    fs::File,
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::Instant,
};

use crate::rtsp::{self, Item, Message};

/// What a floor reader did.
#[derive(Clone, Debug)]
pub struct Dump {
    /// The file.
    pub path: PathBuf,
    /// Bytes read after PLAY was answered.
    pub bytes: u64,
    /// Reads it took.
    pub reads: u64,
}

/// Why a camera was not read.
#[derive(Debug, thiserror::Error)]
pub enum FloorError {
    /// The URL is not `rtsp://host:port/path`.
    #[error("{0}: the floor program reads rtsp://HOST:PORT/PATH without credentials")]
    Url(String),
    /// The camera answered a request otherwise than with 200.
    #[error("{url}: {method} was answered with {status}")]
    Status {
        /// The camera.
        url: String,
        /// The request.
        method: &'static str,
        /// The answer's code.
        status: String,
    },
    /// The socket or the file failed.
    #[error("{url}: {error}")]
    Io {
        /// The camera.
        url: String,
        /// How.
        error: io::Error,
    },
}

/// What is read at a time: a key frame of 2 Mbit/s, so that one read per frame is enough.
const READ: usize = 128 * 1024;
/// Servers drop silent sessions after 60 s as a rule.
const KEEP_ALIVE: Duration = Duration::from_secs(25);

/// Reads the video of `url` over TCP into `file` until `end`.
///
/// # Errors
/// [`FloorError`]; a camera that closes the connection is one ([`io::ErrorKind::UnexpectedEof`]).
pub async fn dump(url: &str, file: &Path, end: Instant) -> Result<Dump, FloorError> {
    let io = |error| FloorError::Io { url: url.to_owned(), error };
    let mut client = Client::connect(url).await?;
    client.handshake().await?;
    let mut out = File::create(file).map_err(io)?;
    out.write_all(&client.bytes).map_err(io)?;
    let mut dump = Dump { path: file.to_owned(), bytes: client.bytes.len() as u64, reads: 0 };
    let mut buffer = vec![0; READ];
    let mut alarm = std::pin::pin!(tokio::time::sleep_until(end.min(Instant::now() + KEEP_ALIVE)));
    loop {
        tokio::select! {
            ready = client.stream.readable() => ready.map_err(io)?,
            () = &mut alarm => {
                if alarm.deadline() >= end {
                    return Ok(dump);
                }
                client.send("GET_PARAMETER", "", "").await?;
                alarm.as_mut().reset(end.min(Instant::now() + KEEP_ALIVE));
            }
        }
        match client.stream.try_read(&mut buffer) {
            Ok(0) => return Err(io(io::ErrorKind::UnexpectedEof.into())),
            Ok(count) => {
                dump.bytes += count as u64;
                dump.reads += 1;
                out.write_all(buffer.get(..count).unwrap_or_default()).map_err(io)?;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(io(error)),
        }
    }
}

/// A plain RTSP client.
pub(crate) struct Client {
    url: String,
    stream: TcpStream,
    bytes: Vec<u8>,
    requests: u32,
    session: String,
}

impl Client {
    pub(crate) async fn connect(url: &str) -> Result<Self, FloorError> {
        let wrong = || FloorError::Url(url.to_owned());
        let address = url.strip_prefix("rtsp://").and_then(|rest| rest.split('/').next()).ok_or_else(wrong)?;
        if address.contains('@') {
            return Err(wrong());
        }
        let stream =
            TcpStream::connect(address).await.map_err(|error| FloorError::Io { url: url.to_owned(), error })?;
        Ok(Self { url: url.to_owned(), stream, bytes: Vec::new(), requests: 0, session: String::new() })
    }

    pub(crate) async fn handshake(&mut self) -> Result<(), FloorError> {
        let description = self.ask("DESCRIBE", "", "Accept: application/sdp\r\n").await?;
        let base = description.header("Content-Base").unwrap_or(&self.url).trim_end_matches('/').to_owned();
        let sdp = String::from_utf8_lossy(&description.body);
        let control = sdp
            .split("m=video")
            .nth(1)
            .and_then(|media| media.lines().find_map(|line| line.strip_prefix("a=control:")))
            .unwrap_or_default()
            .trim();
        let track = if control.contains("://") { control.to_owned() } else { format!("{base}/{control}") };
        let granted = self.ask("SETUP", &track, "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n").await?;
        let session = granted.header("Session").and_then(|value| value.split(';').next()).unwrap_or_default();
        self.session = format!("Session: {session}\r\n");
        self.ask("PLAY", "", "Range: npt=0-\r\n").await?;
        Ok(())
    }

    /// As [`handshake`](Self::handshake), with the sound on channels 2 and 3.
    #[cfg(test)]
    pub(crate) async fn handshake_all(&mut self) -> Result<(), FloorError> {
        self.ask("DESCRIBE", "", "").await?;
        for (track, channels) in [("trackID=0", "0-1"), ("trackID=1", "2-3")] {
            let uri = format!("{}/{track}", self.url);
            let headers = format!("Transport: RTP/AVP/TCP;unicast;interleaved={channels}\r\n");
            self.ask("SETUP", &uri, &headers).await?;
        }
        self.ask("PLAY", "", "").await.map(drop)
    }

    /// Sends a request, for the camera's URL if `uri` is empty.
    async fn send(&mut self, method: &str, uri: &str, headers: &str) -> Result<(), FloorError> {
        self.requests += 1;
        let uri = if uri.is_empty() { &self.url } else { uri };
        let text = format!("{method} {uri} RTSP/1.0\r\nCSeq: {}\r\n{}{headers}\r\n", self.requests, self.session);
        self.stream.write_all(text.as_bytes()).await.map_err(|error| FloorError::Io { url: self.url.clone(), error })
    }

    pub(crate) async fn ask(&mut self, method: &'static str, uri: &str, headers: &str) -> Result<Message, FloorError> {
        self.send(method, uri, headers).await?;
        loop {
            if let (Item::Message(answer), _) = self.next().await? {
                // A response's first line has the version first, then the code.
                if answer.uri != "200" {
                    return Err(FloorError::Status { url: self.url.clone(), method, status: answer.uri });
                }
                return Ok(answer);
            }
        }
    }

    /// The next message or interleaved packet, with its bytes.
    pub(crate) async fn next(&mut self) -> Result<(Item, Vec<u8>), FloorError> {
        loop {
            let failed = |error| FloorError::Io { url: self.url.clone(), error };
            if let Some((item, length)) =
                rtsp::next_item(&self.bytes).map_err(|error| failed(io::Error::other(error)))?
            {
                return Ok((item, self.bytes.drain(..length).collect()));
            }
            if self.stream.read_buf(&mut self.bytes).await.map_err(failed)? == 0 {
                return Err(failed(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }
}

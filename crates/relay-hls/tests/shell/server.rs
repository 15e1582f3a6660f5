//! A small HTTP server of plain tokio, with habits.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// What is said to a request, byte for byte.
pub(crate) struct Reply {
    pub(crate) bytes: Vec<u8>,
    /// The connection stays open.
    pub(crate) keep: bool,
    /// The connection is left hanging after the bytes.
    pub(crate) hang: bool,
}

impl Reply {
    pub(crate) fn new(status: &str, headers: &str, body: &[u8]) -> Self {
        let length = body.len();
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{headers}\r\n");
        Self { bytes: [head.as_bytes(), body].concat(), keep: true, hang: false }
    }

    pub(crate) fn raw(bytes: &[u8]) -> Self {
        Self { bytes: bytes.to_vec(), keep: false, hang: false }
    }
}

/// A request's lines.
pub(crate) type Request = Vec<String>;

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub(crate) async fn start(answer: fn(&Request) -> Reply) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        #[expect(clippy::disallowed_methods, reason = "the server lives as long as the test")]
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                #[expect(clippy::disallowed_methods, reason = "the server lives as long as the test")]
                tokio::spawn(serve(stream, answer));
            }
        });
        Self { address, connections, task }
    }

    pub(crate) fn url(&self, path: &str) -> url::Url {
        format!("http://{}{path}", self.address).parse().unwrap()
    }
}

async fn serve(mut stream: TcpStream, answer: fn(&Request) -> Reply) {
    let mut read = Vec::new();
    loop {
        let mut buffer = [0; 4_096];
        let Ok(count) = stream.read(&mut buffer).await else { return };
        if count == 0 {
            return;
        }
        read.extend_from_slice(&buffer[..count]);
        if read.first() == Some(&0x16) {
            // A TLS handshake (RFC 8446 §5.1): this server speaks none.
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            return;
        }
        let text = String::from_utf8_lossy(&read).into_owned();
        let Some((head, _)) = text.split_once("\r\n\r\n") else { continue };
        read.clear();
        let reply = answer(&head.lines().map(str::to_owned).collect());
        if stream.write_all(&reply.bytes).await.is_err() {
            return;
        }
        if reply.hang {
            std::future::pending::<()>().await;
        }
        if !reply.keep {
            return;
        }
    }
}

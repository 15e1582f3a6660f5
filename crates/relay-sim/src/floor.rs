//! The floor of every recorder: the same TCP bytes read and written to a file, nothing else.

use std::{io, path::PathBuf};

use anyhow::{Context, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use url::Url;

/// Plays `url` over TCP and writes what comes to `file` until the connection ends.
///
/// # Errors
/// The camera cannot be played, or the file not written.
pub async fn copy(url: Url, file: PathBuf) -> anyhow::Result<()> {
    let address = (url.host_str().context("the URL has no host")?.to_owned(), url.port().unwrap_or(554));
    let mut stream = TcpStream::connect(address).await?;
    let requests = [
        format!("DESCRIBE {url} RTSP/1.0\r\nCSeq: 1\r\nAccept: application/sdp\r\n\r\n"),
        format!("SETUP {url}/trackID=0 RTSP/1.0\r\nCSeq: 2\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n\r\n"),
        format!("PLAY {url} RTSP/1.0\r\nCSeq: 3\r\nSession: 12345678\r\n\r\n"),
    ];
    let mut buffer = vec![0_u8; 64 << 10];
    for request in requests {
        stream.write_all(request.as_bytes()).await?;
        let read = stream.read(&mut buffer).await?;
        ensure!(buffer.get(..read).is_some_and(|answer| answer.starts_with(b"RTSP/1.0 200")), "{url}: not played");
    }
    let mut file = std::fs::File::create(file)?;
    loop {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        io::Write::write_all(&mut file, buffer.get(..read).unwrap_or_default())?;
    }
}

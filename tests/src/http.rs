//! A client for one HTTP/1.1 request at a time: enough for relayd's API and for a WebDriver, and nothing to install.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;

/// An answer, whole.
#[derive(Debug)]
pub struct Answer {
    /// Its status code.
    pub status: u16,
    /// Its body, unchunked.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as text; what is no UTF-8 is replaced.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// No answer that a test asks for takes longer; starting a browser session is the slowest.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks `address` for `path`; a `body` is sent as JSON.
///
/// # Errors
/// When it can't be reached, or what it answers is no HTTP.
pub fn request(address: SocketAddr, method: &str, path: &str, body: Option<&Value>) -> anyhow::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).with_context(|| format!("connect to {address}"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let body = body.map(Value::to_string).unwrap_or_default();
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
    let entity = format!("content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}");
    stream.write_all(format!("{head}{entity}").as_bytes())?;
    let mut bytes = Vec::new();
    // Some servers keep the connection open all the same: the length says when it is over.
    let mut chunk = [0; 16 << 10];
    while !is_whole(&bytes) {
        match stream.read(&mut chunk)? {
            0 => break,
            count => bytes.extend_from_slice(chunk.get(..count).unwrap_or_default()),
        }
    }
    parse(&bytes).with_context(|| format!("{method} {path} at {address}"))
}

fn head_and_body(bytes: &[u8]) -> Option<(String, &[u8])> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(bytes.get(..end)?).to_ascii_lowercase();
    Some((head, bytes.get(end + 4..)?))
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let line = head.lines().skip(1).find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.map(str::trim)
}

fn is_whole(bytes: &[u8]) -> bool {
    let Some((head, body)) = head_and_body(bytes) else { return false };
    let length = header(&head, "content-length").and_then(|length| length.parse::<usize>().ok());
    length.is_some_and(|length| body.len() >= length)
}

fn parse(bytes: &[u8]) -> anyhow::Result<Answer> {
    let (head, body) = head_and_body(bytes).context("the answer ends in its head")?;
    let status = head.split_whitespace().nth(1).and_then(|code| code.parse().ok()).context("no status")?;
    let chunked = header(&head, "transfer-encoding").is_some_and(|coding| coding.contains("chunked"));
    let body = if chunked { unchunk(body)? } else { body.to_vec() };
    Ok(Answer { status, body })
}

/// RFC 9112 §7.1, without extensions and trailers.
fn unchunk(mut rest: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n").context("a chunk without its size")?;
        let size = std::str::from_utf8(rest.get(..end).unwrap_or_default())?;
        let size = usize::from_str_radix(size.trim(), 16).context("a chunk's size")?;
        let data = rest.get(end + 2..).unwrap_or_default();
        match (size, data.get(..size)) {
            (0, _) => return Ok(body),
            (_, Some(chunk)) => body.extend_from_slice(chunk),
            (_, None) => bail!("the answer ends in a chunk"),
        }
        rest = data.get(size + 2..).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_taken_apart() {
        let rows = [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", Some((200, "hi"))),
            ("HTTP/1.1 404 Not Found\r\n\r\n", Some((404, ""))),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n1\r\n!\r\n0\r\n\r\n", Some((200, "hi!"))),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nhi", None),
            ("HTTP/1.1 200", None),
        ];
        for (bytes, wanted) in rows {
            let answer = parse(bytes.as_bytes()).ok();
            let seen = answer.as_ref().map(|answer| (answer.status, answer.text()));
            assert_eq!(seen, wanted.map(|(status, body)| (status, body.to_owned())), "{bytes:?}");
        }
    }
}

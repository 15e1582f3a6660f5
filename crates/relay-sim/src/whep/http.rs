//! A client for one HTTP/1.1 request at a time (RFC 9112): enough for WHEP and for Janus.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream, ToSocketAddrs as _},
    time::Duration,
};

use super::JoinError;

/// What a server at hand takes longer for will not come.
const PATIENCE: Duration = Duration::from_secs(10);
/// Session descriptions have a few kB.
const MAX_RESPONSE: u64 = 1 << 20;

/// `http://host:port/path`, taken apart.
#[derive(Clone, Debug)]
pub(crate) struct Url {
    authority: String,
    path: String,
    address: SocketAddr,
}

impl Url {
    pub(crate) fn parse(text: &str) -> Result<Self, JoinError> {
        let wrong = || JoinError::Url(text.to_owned());
        let rest = text.strip_prefix("http://").ok_or_else(wrong)?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let with_port = if authority.contains(':') { authority.to_owned() } else { format!("{authority}:80") };
        let address = with_port.to_socket_addrs().ok().and_then(|mut all| all.next()).ok_or_else(wrong)?;
        let path = if path.is_empty() { "/" } else { path };
        Ok(Self { authority: authority.to_owned(), path: path.to_owned(), address })
    }

    /// The same server's `reference`, which is a path or a whole URL (RFC 9110 §10.2.2).
    pub(crate) fn join(&self, reference: &str) -> Result<Self, JoinError> {
        if reference.starts_with('/') {
            return Ok(Self { path: reference.to_owned(), ..self.clone() });
        }
        Self::parse(reference)
    }

    /// A path below this one.
    pub(crate) fn below(&self, path: &str) -> Self {
        Self { path: format!("{}/{path}", self.path.trim_end_matches('/')), ..self.clone() }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

/// A response, whole.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Response {
    /// The first value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let pairs = self.head.lines().filter_map(|line| line.split_once(':'));
        pairs.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }
}

/// Sends one request and reads its response.
///
/// # Errors
/// The server can't be reached, or what it says is no HTTP.
pub(crate) fn request(method: &str, url: &Url, headers: &[(&str, &str)], body: &str) -> Result<Response, JoinError> {
    let failed = |error| JoinError::Http { url: format!("http://{}{}", url.authority, url.path), error };
    let exchange = || -> io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect_timeout(&url.address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let Url { path, authority, .. } = url;
        let mut text = format!("{method} {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n");
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        text += &format!("Content-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(text.as_bytes())?;
        let mut bytes = Vec::new();
        stream.take(MAX_RESPONSE).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = exchange().map_err(failed)?;
    parse(&String::from_utf8_lossy(&bytes)).ok_or_else(|| failed(io::ErrorKind::InvalidData.into()))
}

fn parse(text: &str) -> Option<Response> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    let mut response = Response { status, head: head.to_owned(), body: body.to_owned() };
    if response.header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
        response.body = unchunk(body)?;
    }
    Some(response)
}

/// RFC 9112 §7.1, without trailers.
fn unchunk(mut rest: &str) -> Option<String> {
    let mut body = String::new();
    loop {
        let (size, data) = rest.split_once("\r\n")?;
        let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        body += data.get(..size)?;
        rest = data.get(size..)?.strip_prefix("\r\n")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_responses_are_taken_apart() {
        let url = Url::parse("http://127.0.0.1:8080/whep/front").unwrap();
        for (url, wanted) in [
            (url.join("/whep/front/abc").unwrap(), "/whep/front/abc"),
            (url.join("http://127.0.0.1:1/x").unwrap(), "/x"),
            (url.below("7"), "/whep/front/7"),
            (Url::parse("http://127.0.0.1:1").unwrap(), "/"),
        ] {
            assert_eq!(url.path, wanted);
        }
        assert!(Url::parse("https://127.0.0.1/").is_err() && Url::parse("127.0.0.1").is_err());
        let response = parse("HTTP/1.1 201 Created\r\nlocation: /a\r\n\r\nv=0\r\n").unwrap();
        assert_eq!((response.status, response.header("Location"), &*response.body), (201, Some("/a"), "v=0\r\n"));
        assert!(parse("HTTP/1.1 201 Created\r\n").is_none());
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let rows = [("2\r\nhi\r\n1;x\r\n!\r\n0\r\n\r\n", Some("hi!")), ("9\r\nhi", None), ("x\r\n", None)];
        for (body, wanted) in rows {
            let response = parse(&format!("{head}{body}"));
            assert_eq!(response.as_ref().map(|response| &*response.body), wanted, "{body:?}");
        }
    }
}

//! HTTP/1.1 as far as the service speaks it (RFC 9112): heads of requests, bodies of either framing, answers.

use bytes::{Buf, Bytes, BytesMut};

/// The most bytes of a request's head.
const HEAD_BYTES_MAX: usize = 32 << 10;
/// The most bytes of a control call's body.
pub(super) const BODY_BYTES_MAX: usize = 64 << 10;
/// The most digits of a chunk's size, with its extensions.
const CHUNK_LINE_MAX: usize = 256;

/// What is no HTTP, or too much of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct WireError(pub(super) &'static str);

/// A request's head.
#[derive(Clone, Debug, Default)]
pub(super) struct Head {
    pub(super) method: String,
    /// Without its query.
    pub(super) path: String,
    pub(super) query: String,
    /// Names in small letters.
    pub(super) headers: Vec<(String, String)>,
}

impl Head {
    /// Takes a head from the front of `buffer`; `None` if it is not all there.
    pub(super) fn take(buffer: &mut BytesMut) -> Result<Option<Self>, WireError> {
        let Some(end) = memchr::memmem::find(buffer, b"\r\n\r\n") else {
            return if buffer.len() > HEAD_BYTES_MAX { Err(WireError("the head is too long")) } else { Ok(None) };
        };
        let bytes = buffer.split_to(end + 4);
        let text = std::str::from_utf8(&bytes).map_err(|_| WireError("the head is no text"))?;
        let mut lines = text.trim_end().split("\r\n");
        let mut words = lines.next().unwrap_or_default().split(' ');
        let (Some(method), Some(target), Some("HTTP/1.1")) = (words.next(), words.next(), words.next()) else {
            return Err(WireError("no request line of HTTP/1.1"));
        };
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let header = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_ascii_lowercase(), value.trim().to_owned()))
        };
        let headers = lines.map(header).collect::<Option<_>>().ok_or(WireError("a header without a colon"))?;
        Ok(Some(Self { method: method.into(), path: path.into(), query: query.into(), headers }))
    }

    /// The value of a header, by its name in small letters.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }

    /// How its body is framed.
    pub(super) fn body(&self) -> Result<Body, WireError> {
        if self.get("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
            return Ok(Body::Chunked { left: 0, is_first: true });
        }
        match self.get("content-length").map(str::parse) {
            Some(Ok(len)) => Ok(Body::Length(len)),
            Some(Err(_)) => Err(WireError("a content-length that is no number")),
            None => Ok(Body::Length(0)),
        }
    }
}

/// A body that is being read.
#[derive(Clone, Copy, Debug)]
pub(super) enum Body {
    Length(usize),
    Chunked { left: usize, is_first: bool },
}

/// What was read of a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Data(Bytes),
    End,
    /// There must come more first.
    Short,
}

impl Body {
    /// The next piece of the body at the front of `buffer`.
    pub(super) fn take(&mut self, buffer: &mut BytesMut) -> Result<Piece, WireError> {
        match self {
            Self::Length(0) => Ok(Piece::End),
            Self::Length(left) => Ok(take(left, buffer)),
            Self::Chunked { left, is_first } => {
                if *left > 0 {
                    return Ok(take(left, buffer));
                }
                // The end of the chunk before, and the head of the next one, or both are missing.
                let before = if *is_first { 0 } else { 2 };
                let Some(rest) = buffer.get(before..) else { return Ok(Piece::Short) };
                if !*is_first && !buffer.starts_with(b"\r\n") {
                    return Err(WireError("a chunk longer than it said"));
                }
                let Some(end) = memchr::memmem::find(rest, b"\r\n") else {
                    let is_long = rest.len() > CHUNK_LINE_MAX;
                    return if is_long { Err(WireError("a chunk without its size")) } else { Ok(Piece::Short) };
                };
                let line = rest.get(..end).unwrap_or_default();
                let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
                let size = std::str::from_utf8(digits).ok().and_then(|digits| usize::from_str_radix(digits, 16).ok());
                let size = size.ok_or(WireError("a chunk's size that is no number"))?;
                if size == 0 {
                    // Nobody sends trailers here.
                    let is_all = rest.len() >= end + 4;
                    return Ok(if is_all { Piece::End } else { Piece::Short });
                }
                buffer.advance(before + end + 2);
                (*left, *is_first) = (size, false);
                self.take(buffer)
            }
        }
    }
}

fn take(left: &mut usize, buffer: &mut BytesMut) -> Piece {
    if buffer.is_empty() {
        return Piece::Short;
    }
    let data = buffer.split_to(buffer.len().min(*left)).freeze();
    *left -= data.len();
    Piece::Data(data)
}

/// An answer's reason; clients don't read it.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Status",
    }
}

/// A whole answer with a JSON body; `name` is an error's.
pub(super) fn answer(status: u16, name: Option<&str>, json: &str, date: &str, closes: bool) -> Vec<u8> {
    let name = name.map_or(String::new(), |name| format!("x-amzn-ErrorType: {name}:http://internal.amazon.com/\r\n"));
    let connection = if closes { "Connection: close\r\n" } else { "" };
    let (reason, length) = (reason(status), json.len());
    format!(
        "HTTP/1.1 {status} {reason}\r\nDate: {date}\r\nx-amzn-RequestId: simulated\r\n{name}{connection}\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{json}"
    )
    .into_bytes()
}

/// The head of an answer whose body, acknowledgements, follows in chunks.
pub(super) fn streaming(date: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\nDate: {date}\r\nx-amzn-RequestId: simulated\r\nContent-Type: application/json\r\n\
         Transfer-Encoding: chunked\r\n\r\n"
    )
    .into_bytes()
}

/// A chunk.
pub(super) fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

/// What ends a body in chunks.
pub(super) const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_read_from_pieces_of_any_size() {
        let rows: [(&str, &str, Result<&str, WireError>); 6] = [
            ("content-length: 5", "hello and more", Ok("hello")),
            ("transfer-encoding: chunked", "3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n", Ok("hello")),
            ("transfer-encoding: chunked", "0\r\n\r\n", Ok("")),
            ("transfer-encoding: chunked", "x\r\n", Err(WireError("a chunk's size that is no number"))),
            ("transfer-encoding: chunked", "1\r\nhe\r\n", Err(WireError("a chunk longer than it said"))),
            ("content-length: many", "", Err(WireError("a content-length that is no number"))),
        ];
        for (header, body, wanted) in rows {
            for step in [1, 2, 100] {
                assert_eq!(read(header, body, step), wanted.map(str::to_owned), "{header} {body:?} by {step}");
            }
        }
    }

    fn read(header: &str, body: &str, step: usize) -> Result<String, WireError> {
        let mut buffer =
            BytesMut::from(format!("POST /putMedia?a=b HTTP/1.1\r\nHost: x\r\n{header}\r\n\r\n").as_bytes());
        let head = Head::take(&mut buffer)?.expect("it is all there");
        assert_eq!((head.path.as_str(), head.query.as_str(), head.get("host")), ("/putMedia", "a=b", Some("x")));
        let (mut framing, mut read) = (head.body()?, Vec::new());
        let mut pieces = body.as_bytes().chunks(step);
        loop {
            match framing.take(&mut buffer)? {
                Piece::Data(data) => read.extend_from_slice(&data),
                Piece::End => return Ok(String::from_utf8(read).expect("text")),
                Piece::Short => buffer.extend_from_slice(pieces.next().ok_or(WireError("it ends"))?),
            }
        }
    }

    #[test]
    fn heads_are_bounded() {
        let mut buffer = BytesMut::from(vec![b'a'; HEAD_BYTES_MAX + 1].as_slice());
        assert!(Head::take(&mut buffer).is_err());
        assert!(Head::take(&mut BytesMut::from("GET / HTTP/1.0\r\n\r\n")).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..600), head in "[a-zA-Z0-9 :/\r\n.?;-]{0,200}") {
            for bytes in [bytes.clone(), [head.as_bytes(), b"\r\n\r\n", &bytes].concat()] {
                let mut buffer = BytesMut::from(bytes.as_slice());
                let _ = Head::take(&mut buffer);
                let mut body = Body::Chunked { left: 0, is_first: true };
                while let Ok(Piece::Data(_)) = body.take(&mut buffer) {}
            }
        }
    }
}

//! The little of RTSP 1.0 (RFC 2326) that a camera and a plain reader need; sans-IO.

use std::fmt::Write as _;

/// The longest request head or body that is read: cameras' own are under 2 KiB.
const MAX_MESSAGE: usize = 64 * 1024;

/// A request, or a response with its status line split the same way (`method` = version, `uri` = code).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) method: String,
    pub(crate) uri: String,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// What stands at the beginning of a connection's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    Message(Message),
    /// Interleaved data (§10.12).
    Data {
        channel: u8,
    },
}

/// Bytes that are no RTSP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not RTSP, or a message longer than 64 KiB")]
pub(crate) struct NotRtsp;

/// The first item of `bytes` and its length; `None` if it isn't whole yet.
pub(crate) fn next_item(bytes: &[u8]) -> Result<Option<(Item, usize)>, NotRtsp> {
    if let [b'$', rest @ ..] = bytes {
        let [channel, high, low, ..] = rest else { return Ok(None) };
        let length = 4 + usize::from(u16::from_be_bytes([*high, *low]));
        return Ok((bytes.len() >= length).then_some((Item::Data { channel: *channel }, length)));
    }
    let Some(head_end) = bytes.windows(4).take(MAX_MESSAGE).position(|four| four == b"\r\n\r\n") else {
        return if bytes.len() > MAX_MESSAGE { Err(NotRtsp) } else { Ok(None) };
    };
    let head = bytes.get(..head_end).and_then(|head| std::str::from_utf8(head).ok()).ok_or(NotRtsp)?;
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(uri), Some(_)) = (words.next(), words.next(), words.next()) else { return Err(NotRtsp) };
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
        .collect();
    let mut message = Message { method: method.to_owned(), uri: uri.to_owned(), headers, body: Vec::new() };
    let length: usize = message.header("Content-Length").map_or(Ok(0), str::parse).map_err(|_| NotRtsp)?;
    if length > MAX_MESSAGE {
        return Err(NotRtsp);
    }
    let end = head_end + 4 + length;
    let Some(body) = bytes.get(head_end + 4..end) else { return Ok(None) };
    message.body = body.to_vec();
    Ok(Some((Item::Message(message), end)))
}

impl Message {
    /// The value of the first header of this name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The path of the URI, without slash, query and credentials: `cam0/trackID=0`.
    pub(crate) fn path(&self) -> &str {
        let after = self.uri.split_once("://").map_or(self.uri.as_str(), |(_, after)| after);
        let path = after.split_once('/').map_or("", |(_, path)| path);
        path.split('?').next().unwrap_or_default().trim_end_matches('/')
    }

    /// A response to this request.
    pub(crate) fn response(&self, status: u16, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
        let reason = match status {
            200 => "OK",
            401 => "Unauthorized",
            404 => "Not Found",
            454 => "Session Not Found",
            455 => "Method Not Valid In This State",
            461 => "Unsupported Transport",
            500 => "Internal Server Error",
            501 => "Not Implemented",
            503 => "Service Unavailable",
            _ => "Because",
        };
        let mut text = format!("RTSP/1.0 {status} {reason}\r\nCSeq: {}\r\n", self.header("CSeq").unwrap_or("0"));
        for (name, value) in headers {
            let _ = write!(text, "{name}: {value}\r\n");
        }
        if !body.is_empty() {
            let _ = write!(text, "Content-Length: {}\r\n", body.len());
        }
        text.push_str("\r\n");
        text.push_str(body);
        text.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn items_are_cut_from_a_stream() {
        let rows: [(&[u8], Option<usize>); 6] = [
            (b"OPTIONS rtsp://h/cam0 RTSP/1.0\r\nCSeq: 1\r\n\r\nmore", Some(43)),
            (b"OPTIONS rtsp://h/cam0 RTSP/1.0\r\nCSeq: 1\r\n", None),
            (b"SET_PARAMETER * RTSP/1.0\r\ncontent-length: 2\r\n\r\nab", Some(49)),
            (b"SET_PARAMETER * RTSP/1.0\r\ncontent-length: 2\r\n\r\na", None),
            (b"$\x01\0\x02ab", Some(6)),
            (b"$\x01\0\x02a", None),
        ];
        for (bytes, expected) in rows {
            assert_eq!(next_item(bytes).unwrap().map(|(_, length)| length), expected, "{}", bytes.escape_ascii());
        }
        assert_eq!(next_item(b"hello\r\n\r\n"), Err(NotRtsp));
        assert_eq!(next_item(&[b'a'; MAX_MESSAGE + 1]), Err(NotRtsp));
    }

    #[test]
    fn paths_are_read_from_uris() {
        for (uri, path) in [
            ("rtsp://h:554/cam0/trackID=1", "cam0/trackID=1"),
            ("rtsp://h/cam0/", "cam0"),
            ("rtsp://u:p@h/cam0?x=/y", "cam0"),
            ("*", ""),
        ] {
            let text = format!("SETUP {uri} RTSP/1.0\r\n\r\n");
            let Some((Item::Message(message), _)) = next_item(text.as_bytes()).unwrap() else { panic!("{uri}") };
            assert_eq!(message.path(), path);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(Some((_, length))) = next_item(&bytes) {
                prop_assert!(length <= bytes.len());
            }
        }
    }
}

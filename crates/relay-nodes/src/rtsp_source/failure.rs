//! Why a connection ended: a fixed word for counting, a class for the wait, and plain words for a person.

use std::{io, time::Duration};

use relay_graph::{FailureClass, Stall};
use tracing::debug;

/// The step of a connection that plays.
pub(super) const MEDIA: &str = "reading media";
/// The reason when a camera refuses UDP or TCP.
pub(super) const TRANSPORT_REFUSED: &str = "transport";

/// The end of a try or of a connection.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) reason: &'static str,
    pub(super) class: FailureClass,
    pub(super) text: String,
}

impl Failure {
    pub(super) fn new(reason: &'static str, class: FailureClass, text: impl Into<String>) -> Self {
        Self { reason, class, text: text.into() }
    }

    /// `step` took longer than `limit`.
    pub(super) fn timeout(step: &str, limit: Duration) -> Self {
        Self::new("timeout", FailureClass::Cheap, format!("no answer to {step} within {limit:?}"))
    }

    /// retina failed at `step`. Its errors are opaque but for the status and the source.
    pub(super) fn retina(step: &str, error: &retina::Error) -> Self {
        // Behind an empty line stand the addresses and the position, to find the place in a packet capture.
        let told = error.to_string();
        debug!("{step}: {}", one_line(&told));
        let told = one_line(told.split("\n\n").next().unwrap_or_default());
        match error.status_code() {
            Some(status) => Self::status(step, status, &told),
            None => Self::told(step, &told),
        }
    }

    /// By retina's words: what it wraps is out of reach, since its error hides the source.
    fn told(step: &str, told: &str) -> Self {
        let (reason, words) = match by_os_error(told) {
            Some(found) => found,
            None if told.contains("lookup address") => ("dns", "the camera's name cannot be resolved"),
            None if told.contains("EOF") => ("closed", "the camera closed the connection"),
            None => ("protocol", "the camera sent what cannot be understood"),
        };
        Self::new(reason, FailureClass::Cheap, format!("{words}: {step} failed ({told})"))
    }

    fn status(step: &str, status: u16, told: &str) -> Self {
        let (reason, class, words) = match status {
            // A nonce that has expired (RFC 2069 §2.1.1), which retina doesn't renew: the password is as good as before.
            401 if step == MEDIA => ("unauthorized", FailureClass::Cheap, "the camera asks for a new login"),
            401 | 403 => ("unauthorized", FailureClass::Slow, "the camera refuses the user or password"),
            404 | 454 => ("not_found", FailureClass::Slow, "the camera has no such stream: check the URL's path"),
            461 => {
                (TRANSPORT_REFUSED, FailureClass::Slow, "the camera refuses this transport: try another `transport`")
            }
            500..=599 => ("server_error", FailureClass::Cheap, "the camera reports an error of its own"),
            _ => ("protocol", FailureClass::Cheap, "the camera refuses the request"),
        };
        Self::new(reason, class, format!("{words}: {step} was answered {status} ({told})"))
    }
}

impl From<Stall> for Failure {
    fn from(stall: Stall) -> Self {
        Self::new(stall.reason(), FailureClass::Cheap, stall.to_string())
    }
}

/// The reason and the plain words of a failure that is told with the operating system's error.
fn by_os_error(told: &str) -> Option<(&'static str, &'static str)> {
    use io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable,
        TimedOut,
    };
    // std's words for it: "Connection refused (os error 111)".
    let (_, number) = told.rsplit_once("(os error ")?;
    let number = number.split_once(')')?.0.parse().ok()?;
    Some(match io::Error::from_raw_os_error(number).kind() {
        ConnectionRefused => ("refused", "nothing listens at the camera's address"),
        ConnectionReset | ConnectionAborted | BrokenPipe => ("reset", "the connection was reset"),
        TimedOut => ("timeout", "the network gave up waiting for the camera"),
        HostUnreachable | NetworkUnreachable => ("unreachable", "the camera's network cannot be reached"),
        _ => return None,
    })
}

/// retina's errors take several lines and may quote the peer.
fn one_line(text: &str) -> String {
    /// Enough for retina's context; a peer's words in it cannot fill the log.
    const MAX_CHARS: usize = 400;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let joined: String = lines.collect::<Vec<_>>().join("; ");
    joined.chars().filter(|c| !c.is_control()).take(MAX_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_told_apart() {
        for (status, reason, class) in [
            (401, "unauthorized", FailureClass::Slow),
            (403, "unauthorized", FailureClass::Slow),
            (404, "not_found", FailureClass::Slow),
            (453, "protocol", FailureClass::Cheap),
            (461, TRANSPORT_REFUSED, FailureClass::Slow),
            (503, "server_error", FailureClass::Cheap),
        ] {
            let failure = Failure::status("DESCRIBE", status, "told");
            assert_eq!((failure.reason, failure.class), (reason, class), "{status}");
            assert!(failure.text.contains(&status.to_string()));
        }
    }

    #[test]
    fn retinas_words_are_told_apart() {
        let connect = "Unable to connect to RTSP server";
        for (told, reason) in [
            (&*format!("{connect}: Connection refused (os error 111)"), "refused"),
            (&format!("{connect}: No route to host (os error 113)"), "unreachable"),
            (&format!("{connect}: Network is unreachable (os error 101)"), "unreachable"),
            (&format!("{connect}: failed to lookup address information: Name or service not known"), "dns"),
            ("Error reading from RTSP peer: Connection reset by peer (os error 104); conn: 1", "reset"),
            ("Error writing to RTSP peer: Broken pipe (os error 32); conn: 1", "reset"),
            ("Error reading from RTSP peer: EOF while expecting response to PLAY CSeq 3; conn: 1", "closed"),
            ("RTSP framing error: Invalid RTSP message", "protocol"),
            ("odd (os error x)", "protocol"),
        ] {
            let failure = Failure::told("DESCRIBE", told);
            assert_eq!((failure.reason, failure.class), (reason, FailureClass::Cheap), "{told}");
        }
        assert_eq!(Failure::status(MEDIA, 401, "told").class, FailureClass::Cheap);
    }

    #[test]
    fn what_a_peer_says_stays_on_one_bounded_line() {
        let told = one_line(&format!("first\n\nsecond\u{1b}[2J {}", "x".repeat(10_000)));
        assert!(told.starts_with("first; second[2J x") && told.chars().count() == 400, "{told}");
    }
}

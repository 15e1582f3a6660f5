//! Why a connection ended: a fixed word for counting, a class for the wait, and plain words for a person.

use std::{error::Error, io, time::Duration};

use relay_graph::{FailureClass, Stall};

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
        let told = one_line(&error.to_string());
        if let Some(status) = error.status_code() {
            return Self::status(step, status, &told);
        }
        let (reason, words) = match io_error(error) {
            Some(error) => (io_reason(error), io_words(error)),
            None if told.contains("EOF") || told.contains("closed") => {
                ("closed", String::from("the camera closed the connection"))
            }
            None => ("protocol", format!("{step} failed")),
        };
        Self::new(reason, FailureClass::Cheap, format!("{words} ({told})"))
    }

    fn status(step: &str, status: u16, told: &str) -> Self {
        let (reason, class, words) = match status {
            401 | 403 => ("unauthorized", FailureClass::Slow, "the camera refuses the user or password"),
            404 | 454 => ("not_found", FailureClass::Slow, "the camera has no such stream: check the URL's path"),
            461 => ("transport", FailureClass::Slow, "the camera refuses this transport: try another `transport`"),
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

fn io_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a io::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return Some(error);
        }
        next = error.source();
    }
    None
}

fn io_reason(error: &io::Error) -> &'static str {
    use io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable,
        TimedOut, UnexpectedEof,
    };
    match error.kind() {
        ConnectionRefused => "refused",
        ConnectionReset | ConnectionAborted | BrokenPipe => "reset",
        TimedOut => "timeout",
        HostUnreachable | NetworkUnreachable => "unreachable",
        UnexpectedEof => "closed",
        _ if error.to_string().contains("lookup") => "dns",
        _ => "io",
    }
}

fn io_words(error: &io::Error) -> String {
    match io_reason(error) {
        "refused" => "nothing listens at the camera's address".into(),
        "reset" => "the connection was reset".into(),
        "timeout" => "the network gave up waiting for the camera".into(),
        "unreachable" => "the camera's network cannot be reached".into(),
        "closed" => "the camera closed the connection".into(),
        "dns" => "the camera's name cannot be resolved".into(),
        _ => "reading or writing failed".into(),
    }
}

/// retina's errors take several lines and name addresses and positions: all of it is kept, on one line.
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
            (461, "transport", FailureClass::Slow),
            (503, "server_error", FailureClass::Cheap),
        ] {
            let failure = Failure::status("DESCRIBE", status, "told");
            assert_eq!((failure.reason, failure.class), (reason, class), "{status}");
            assert!(failure.text.contains(&status.to_string()));
        }
    }

    #[test]
    fn what_a_peer_says_stays_on_one_bounded_line() {
        let told = one_line(&format!("first\n\nsecond\u{1b}[2J {}", "x".repeat(10_000)));
        assert!(told.starts_with("first; second[2J x") && told.chars().count() == 400, "{told}");
    }
}

//! What went wrong with a connection, for a person: who sent what, and what never came.

use std::fmt::Write;

use relay_webrtc::{LocalCandidate, Protocol, SessionReport};

/// Candidates of either side that are named; a machine with more has the rest counted.
const NAMED_MAX: usize = 6;

/// Why a session never connected, as far as this side can tell.
pub(super) fn never_connected(report: &SessionReport, candidates: &[LocalCandidate]) -> String {
    let mut text = String::new();
    let ours = candidates.iter().map(|candidate| format!("{} {}", candidate.protocol.as_str(), candidate.address));
    let theirs = report.remote_candidates.iter().map(|candidate| short(candidate));
    let udp_came = report.stun_from.iter().any(|(protocol, _)| *protocol == Protocol::Udp);
    let tcp_came = report.stun_from.iter().any(|(protocol, _)| *protocol == Protocol::Tcp);
    // Writing to a string can't fail.
    let _ = write!(
        text,
        "no connection within 10 s: the viewer was told {}; it offered {}; ",
        listed(ours),
        listed(theirs)
    );
    if report.stun_from.is_empty() {
        let ports = candidates.first().map(|candidate| candidate.address.port()).unwrap_or_default();
        let _ = write!(
            text,
            "nothing came from it over UDP or TCP: is port {ports} open for both, and are the addresses told the ones \
             that it can reach (webrtc.advertise)?"
        );
        return text;
    }
    let came = report.stun_from.iter().map(|(protocol, address)| format!("{} {address}", protocol.as_str()));
    let _ = write!(text, "{} STUN checks came from {}", report.stun_received, listed(came));
    if !udp_came {
        text.push_str(", none of them over UDP");
    } else if !tcp_came {
        text.push_str(", all over UDP");
    }
    let _ = match (report.ice_after, report.dtls_received) {
        (None, _) => write!(text, ", but none with the right password: is something rewriting the answer on its way?"),
        (Some(_), 0) => write!(
            text,
            " and were answered, but no DTLS came after them: our answers do not reach the viewer, or it gave up"
        ),
        (Some(_), count) => write!(
            text,
            " and were answered; DTLS came ({count} datagrams) and was not finished: large datagrams are lost on the \
             way (a VPN with a small MTU?), or the viewer has an RSA certificate, as GStreamer's webrtcbin makes, where \
             ECDSA is wanted"
        ),
    };
    text
}

/// `udp 192.0.2.7:50000 host` of a candidate's attribute (RFC 8839 §5.1).
fn short(candidate: &str) -> String {
    let mut words = candidate.split_whitespace().skip(2);
    let protocol = words.next().unwrap_or("?").to_lowercase();
    let (address, port) = (words.nth(1).unwrap_or("?"), words.next().unwrap_or("?"));
    let kind = words.nth(1).unwrap_or("?");
    format!("{protocol} {address}:{port} {kind}")
}

fn listed(items: impl Iterator<Item = String>) -> String {
    let mut items: Vec<String> = items.collect();
    let more = items.len().saturating_sub(NAMED_MAX);
    items.truncate(NAMED_MAX);
    match (items.is_empty(), more) {
        (true, _) => "no candidates".into(),
        (false, 0) => items.join(", "),
        (false, more) => format!("{} and {more} more", items.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_text_names_who_sent_what() {
        let address = "203.0.113.7:8189".parse().unwrap();
        let told = [LocalCandidate { protocol: Protocol::Udp, address, base: address }];
        let remote = vec!["1 1 udp 2113937151 192.0.2.9 50000 typ host generation 0".to_owned()];
        let came = (Protocol::Udp, "192.0.2.9:50000".parse().unwrap());
        let silent = SessionReport { remote_candidates: remote, ..SessionReport::default() };
        let unanswered = SessionReport { stun_from: vec![came], stun_received: 3, ..silent.clone() };
        let ice = SessionReport { ice_after: Some(Duration::from_millis(5)), ..unanswered.clone() };
        let dtls = SessionReport { dtls_received: 2, ..ice.clone() };
        for (report, expected) in [
            (&silent, "nothing came from it over UDP or TCP: is port 8189 open"),
            (&silent, "was told udp 203.0.113.7:8189; it offered udp 192.0.2.9:50000 host"),
            (
                &unanswered,
                "3 STUN checks came from udp 192.0.2.9:50000, all over UDP, but none with the right password",
            ),
            (&ice, "no DTLS came after them"),
            (&dtls, "DTLS came (2 datagrams) and was not finished"),
        ] {
            let text = never_connected(report, &told);
            assert!(text.contains(expected), "{text}");
        }
        assert!(never_connected(&SessionReport::default(), &[]).contains("it offered no candidates"));
    }
}

//! The answer's SDP (RFC 8829 §5.3).

use std::fmt::Write as _;

use relay_media::Kind;

use super::{
    candidate::Protocol,
    choice::Choice,
    negotiation::{Plan, SessionSettings},
    offer::{CodecOffer, MediaOffer, Offer},
    session::{Session, Source},
};

/// The MediaStream that both tracks belong to: browsers play its tracks in step (RFC 8830).
const STREAM_ID: &str = "relay";

/// Writes the answer. Every m-line of the offer has one in the answer, in the same order (RFC 3264 §6).
pub(super) fn write(offer: &Offer, plan: &Plan, session: &mut Session, settings: &SessionSettings<'_>) -> String {
    let served = |index| plan.served(index);
    let held = held(offer, plan);
    let answered = |index| served(index).is_some() || held.is_some_and(|(at, _)| at == index);
    let first = (0..offer.media.len()).find(|&index| answered(index));
    let of_mid = |mid: &str| offer.media.iter().position(|line| line.mid.as_deref() == Some(mid));
    // The order of the offer, whose first one is the transport's (RFC 9143 §7.3.1).
    let bundle = offer.bundle.iter().map(String::as_str);
    let mids: Vec<&str> = bundle.filter(|mid| of_mid(mid).is_some_and(answered)).collect();
    let mut sdp = String::with_capacity(2_048);
    // RFC 8829 §5.2.1: a number below 2^63 as the session's id; the address is not used.
    let id = session.sdp_id();
    let _ = write!(sdp, "v=0\r\no=- {id} 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n");
    if !mids.is_empty() {
        let _ = write!(sdp, "a=group:BUNDLE {}\r\n", mids.join(" "));
    }
    sdp.push_str("a=ice-lite\r\na=extmap-allow-mixed\r\n");
    let _ = write!(sdp, "a=msid-semantic: WMS {STREAM_ID}\r\n");
    for (index, line) in offer.media.iter().enumerate() {
        match (served(index), held) {
            (Some((kind, served)), _) => media(&mut sdp, line, &served.choice, session.source(kind), kind),
            (None, Some((at, codec))) if at == index => inactive(&mut sdp, line, codec),
            (None, _) => rejected(&mut sdp, line),
        }
        if answered(index) {
            transport(&mut sdp, plan, session, settings);
        }
        if Some(index) == first {
            candidates(&mut sdp, settings);
        }
    }
    sdp
}

/// The m-line whose transport the BUNDLE group uses, if it can't be served: Chromium refuses an answer that rejects it
/// ("Failed to setup RTCP mux"). It is answered inactive, with one of its codecs.
fn held<'a>(offer: &'a Offer, plan: &Plan) -> Option<(usize, &'a CodecOffer)> {
    let tagged = offer.bundle.first()?;
    let (index, line) = offer.media.iter().enumerate().find(|(_, line)| line.mid.as_ref() == Some(tagged))?;
    let usable = plan.served(index).is_none() && line.rtcp_mux && line.profile.ends_with("RTP/SAVPF") && line.port != 0;
    let is_media = |codec: &&CodecOffer| {
        let helpers = ["rtx", "red", "ulpfec", "flexfec-03", "CN", "telephone-event"];
        !helpers.iter().any(|name| codec.name.eq_ignore_ascii_case(name))
    };
    line.codecs.iter().find(is_media).filter(|_| usable && line.kind().is_some()).map(|codec| (index, codec))
}

fn inactive(sdp: &mut String, line: &MediaOffer, codec: &CodecOffer) {
    let payload_type = codec.payload_type;
    let _ = write!(sdp, "m={} 9 {} {payload_type}\r\nc=IN IP4 0.0.0.0\r\n", line.word, line.profile);
    mid(sdp, line);
    sdp.push_str("a=inactive\r\na=rtcp-mux\r\n");
    mapping(sdp, codec);
    if !codec.fmtp.is_empty() {
        let _ = write!(sdp, "a=fmtp:{payload_type} {}\r\n", codec.fmtp);
    }
}

/// RFC 3264 §6: a rejected m-line has port 0 and still lists formats; it is outside of the BUNDLE group
/// (RFC 9143 §7.3.3). The mappings are there for viewers that want one for each dynamic payload type (RFC 8866 §6.6).
fn rejected(sdp: &mut String, line: &MediaOffer) {
    let _ = write!(sdp, "m={} 0 {} {}\r\nc=IN IP4 0.0.0.0\r\n", line.word, line.profile, line.formats.join(" "));
    mid(sdp, line);
    sdp.push_str("a=inactive\r\n");
    for codec in &line.codecs {
        mapping(sdp, codec);
    }
}

fn mapping(sdp: &mut String, codec: &CodecOffer) {
    let _ = write!(sdp, "a=rtpmap:{} {}/{}", codec.payload_type, codec.name, codec.clock_hz);
    if codec.channels > 1 {
        let _ = write!(sdp, "/{}", codec.channels);
    }
    sdp.push_str("\r\n");
}

fn mid(sdp: &mut String, line: &MediaOffer) {
    if let Some(mid) = &line.mid {
        let _ = write!(sdp, "a=mid:{mid}\r\n");
    }
}

fn media(sdp: &mut String, line: &MediaOffer, choice: &Choice, source: Option<&Source>, kind: Kind) {
    let payload_type = choice.codec.payload_type;
    // RFC 8829 §5.3.1: port 9 and the zero address stand for "see the candidates".
    let _ = write!(sdp, "m={} 9 {} {payload_type}", line.word, line.profile);
    if let Some(rtx) = choice.retransmission {
        let _ = write!(sdp, " {rtx}");
    }
    sdp.push_str("\r\nc=IN IP4 0.0.0.0\r\n");
    mid(sdp, line);
    for (number, uri) in source.map(|source| source.extensions.as_slice()).unwrap_or_default() {
        let _ = write!(sdp, "a=extmap:{number} {uri}\r\n");
    }
    let _ = write!(sdp, "a=sendonly\r\na=msid:{STREAM_ID} {}\r\n", kind.as_str());
    sdp.push_str("a=rtcp-mux\r\na=rtcp-rsize\r\n");
    formats(sdp, choice, kind);
    let Some(source) = source else { return };
    let (ssrc, cname) = (source.ssrc, &source.cname);
    if let Some(rtx) = source.retransmission_ssrc {
        let _ = write!(sdp, "a=ssrc-group:FID {ssrc} {rtx}\r\n");
        let _ = write!(sdp, "a=ssrc:{ssrc} cname:{cname}\r\na=ssrc:{rtx} cname:{cname}\r\n");
    } else {
        let _ = write!(sdp, "a=ssrc:{ssrc} cname:{cname}\r\n");
    }
}

/// The chosen payload type, with the feedback that both sides understand.
fn formats(sdp: &mut String, choice: &Choice, kind: Kind) {
    /// What a sender of pictures acts upon.
    const VIDEO_FEEDBACK: [&str; 4] = ["transport-cc", "ccm fir", "nack", "nack pli"];
    let codec = &choice.codec;
    let payload_type = codec.payload_type;
    mapping(sdp, codec);
    let known = match kind {
        Kind::Video => VIDEO_FEEDBACK.as_slice(),
        Kind::Audio => &["transport-cc"],
    };
    for feedback in known.iter().filter(|feedback| codec.has_feedback(feedback)) {
        // "nack" alone promises retransmissions, which need their own payload type here.
        if *feedback != "nack" || choice.retransmission.is_some() {
            let _ = write!(sdp, "a=rtcp-fb:{payload_type} {feedback}\r\n");
        }
    }
    // For H.264 the profile must be the offer's (RFC 6184 §8.2.2); echoing its parameters is right for each codec.
    if !codec.fmtp.is_empty() {
        let _ = write!(sdp, "a=fmtp:{payload_type} {}\r\n", codec.fmtp);
    }
    if let Some(rtx) = choice.retransmission {
        let _ = write!(sdp, "a=rtpmap:{rtx} rtx/{}\r\na=fmtp:{rtx} apt={payload_type}\r\n", codec.clock_hz);
    }
}

/// Each served m-line carries the transport's parameters (RFC 9143 §7.1.3 allows it, Firefox wants it).
fn transport(sdp: &mut String, plan: &Plan, session: &mut Session, settings: &SessionSettings<'_>) {
    let _ = write!(sdp, "a=ice-ufrag:{}\r\na=ice-pwd:{}\r\n", settings.ufrag, session.password());
    let _ = write!(sdp, "a=fingerprint:{}\r\n", session.fingerprint());
    let _ = write!(sdp, "a=setup:{}\r\n", if plan.dtls_active { "active" } else { "passive" });
}

/// Every candidate, then the word that there are no more (RFC 8840 §4.2); in the first served m-line only, the
/// others share its transport.
fn candidates(sdp: &mut String, settings: &SessionSettings<'_>) {
    for (index, candidate) in settings.candidates.iter().enumerate() {
        let (ip, port) = (candidate.address.ip(), candidate.address.port());
        // RFC 8445 §5.1.2.1: type preference 126 for host candidates, component 1; UDP before TCP, and in the
        // order given.
        let local = 65_535_u32.saturating_sub(u32::try_from(index).unwrap_or(u32::MAX).saturating_mul(16));
        let (protocol, local, suffix) = match candidate.protocol {
            Protocol::Udp => ("udp", local, ""),
            Protocol::Tcp => ("tcp", local / 4, " tcptype passive"),
        };
        let priority = (126_u32 << 24) + (local << 8) + 255;
        let _ = write!(sdp, "a=candidate:{} 1 {protocol} {priority} {ip} {port} typ host{suffix}\r\n", index + 1);
    }
    sdp.push_str("a=end-of-candidates\r\n");
}

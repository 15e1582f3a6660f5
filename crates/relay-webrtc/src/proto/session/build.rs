//! str0m's peer connection as the plan wants it. Its own SDP engine is passed over: it wants H.264 profiles to be
//! equal, and answers with payload types of its own.

use std::time::Instant;

use relay_media::Kind;
use str0m::{
    IceCreds, Rtc, RtcError,
    format::{Codec, FormatParams},
    media::{Frequency, MediaKind, Mid},
    rtp::{Extension, ExtensionMap},
};

use super::{
    dependency,
    playout::Playout,
    source::{Source, retransmission_cache},
    transport_number,
};
use crate::proto::{
    choice::Choice,
    negotiation::{Plan, Served, SessionSettings},
    offer::{MediaOffer, Offer},
};

/// The header extensions that are written where the viewer offers them (RFC 8285).
const EXTENSIONS: [(Extension, &str); 6] = [
    (Extension::RtpMid, "urn:ietf:params:rtp-hdrext:sdes:mid"),
    (Extension::TransportSequenceNumber, transport_number::URI),
    (Extension::AbsoluteSendTime, "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"),
    (Extension::PlayoutDelay, "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay"),
    (Extension::AbsoluteCaptureTime, "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time"),
    (dependency::STANDS_FOR, dependency::URI),
];

/// The longest MID that is put into packets; [`PAYLOAD_MAX`](crate::PAYLOAD_MAX) reckons with it. Browsers count.
const MID_MAX: usize = 4;

/// A peer connection and its senders.
pub(super) struct Built {
    pub(super) rtc: Rtc,
    pub(super) video: Option<Source>,
    pub(super) audio: Option<Source>,
    /// What the viewer calls transport-wide sequence numbers; it then reports what it gets.
    pub(super) transport_number: Option<u8>,
}

/// An ICE password: 144 random bits, 24 ice-chars (RFC 8839 §5.4 wants 128 and 22). str0m's own come from a
/// generator that is not made for secrets.
pub(super) fn password() -> Result<String, getrandom::Error> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut random = [0_u8; 24];
    getrandom::fill(&mut random)?;
    Ok(random.iter().filter_map(|byte| ALPHABET.get(usize::from(byte & 0x3f))).map(|&char| char::from(char)).collect())
}

/// Builds the peer connection. It is ICE-lite: it answers checks and makes none.
pub(super) fn build(
    offer: &Offer,
    plan: &Plan,
    settings: &SessionSettings<'_>,
    password: &str,
    now: Instant,
) -> Result<Built, RtcError> {
    let lines = [(Kind::Video, plan.video.as_ref()), (Kind::Audio, plan.audio.as_ref())].map(|(kind, served)| {
        let served = served?;
        Some((kind, served, offer.media.get(served.index)?))
    });
    let extensions = extension_map(lines.iter().flatten().map(|(_, served, line)| (*served, *line)));
    let mut config = Rtc::builder()
        .set_ice_lite(true)
        .set_rtp_mode(true)
        .clear_codecs()
        .set_crypto_provider(settings.certificate.crypto.clone())
        .set_dtls_cert(settings.certificate.certificate.clone())
        .set_local_ice_credentials(IceCreds { ufrag: settings.ufrag.to_owned(), pass: password.to_owned() })
        .set_extension_map(written(&extensions))
        .set_stats_interval(Some(super::observe::STATS_INTERVAL))
        // The feedback that the window is steered by is to be had in no other way.
        .enable_raw_packets(true);
    for (_, served, _) in lines.iter().flatten() {
        add_codec(&mut config, &served.choice);
    }
    let mut rtc = config.build(now);
    for candidate in settings.candidates {
        if let Some(candidate) = candidate.to_ice() {
            rtc.add_local_candidate(candidate);
        }
    }
    let mut api = rtc.direct_api();
    // RFC 8445 §6.1.1: the full agent controls.
    api.set_ice_controlling(false);
    if let Some(credentials) = plan.transport.credentials() {
        api.set_remote_ice_credentials(credentials);
    }
    if let Some(fingerprint) = plan.transport.fingerprint.clone() {
        api.set_remote_fingerprint(fingerprint);
    }
    api.start_dtls(plan.dtls_active)?;
    let [video, audio] =
        lines.map(|line| line.map(|(kind, served, line)| declare(&mut rtc, kind, served, line, &extensions)));
    let transport_number = extensions.id_of(Extension::TransportSequenceNumber);
    Ok(Built { rtc, video, audio, transport_number })
}

/// The extensions as str0m is to write them: some are ours.
fn written(extensions: &ExtensionMap) -> ExtensionMap {
    let mut written = extensions.clone();
    for (known, ours) in [
        (Extension::TransportSequenceNumber, transport_number::extension()),
        (dependency::STANDS_FOR, dependency::extension()),
    ] {
        if let Some(id) = extensions.id_of(known) {
            written.set(id, ours);
        }
    }
    written
}

/// The numbers that the viewer gave the extensions. In a BUNDLE group a number means the same everywhere
/// (RFC 8843 §15): of two meanings the first counts.
fn extension_map<'a>(lines: impl Iterator<Item = (&'a Served, &'a MediaOffer)>) -> ExtensionMap {
    let mut map = ExtensionMap::empty();
    for (served, line) in lines {
        for (number, uri) in &line.extensions {
            let known = EXTENSIONS.iter().find(|(_, known)| known == uri);
            let Some((extension, _)) = known.filter(|(extension, _)| is_wanted(extension, &served.choice, line)) else {
                continue;
            };
            let free = (1..=16).contains(number) && map.lookup(*number).is_none();
            if free && map.id_of(extension.clone()).is_none() {
                map.set(*number, extension.clone());
            }
        }
    }
    map
}

fn is_wanted(extension: &Extension, choice: &Choice, line: &MediaOffer) -> bool {
    match extension {
        // Sequence numbers that nobody reports on would hold the estimate where it started.
        Extension::TransportSequenceNumber => choice.codec.has_feedback("transport-cc"),
        Extension::RtpMid => line.mid.as_ref().is_some_and(|mid| {
            mid.len() <= MID_MAX && mid.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        }),
        _ => true,
    }
}

fn add_codec(config: &mut str0m::RtcConfig, choice: &Choice) {
    let offered = &choice.codec;
    let codec = match offered.name.to_ascii_lowercase().as_str() {
        "h264" => Codec::H264,
        "h265" => Codec::H265,
        "opus" => Codec::Opus,
        "pcma" => Codec::PCMA,
        _ => Codec::PCMU,
    };
    let clock = Frequency::new(offered.clock_hz).unwrap_or(Frequency::NINETY_KHZ);
    let channels = codec.is_audio().then_some(offered.channels);
    let retransmission = choice.retransmission.map(Into::into);
    let payload_type = offered.payload_type.into();
    config.codec_config().add_config(payload_type, retransmission, codec, clock, channels, FormatParams::default());
}

fn declare(rtc: &mut Rtc, kind: Kind, served: &Served, line: &MediaOffer, extensions: &ExtensionMap) -> Source {
    let choice = &served.choice;
    let mid = Mid::from(line.mid.as_deref().unwrap_or(kind.as_str()));
    let mut api = rtc.direct_api();
    let media = match kind {
        Kind::Video => MediaKind::Video,
        Kind::Audio => MediaKind::Audio,
    };
    let cname = api.declare_media(mid, media).cname().to_owned();
    let (ssrc, offset) = (api.new_ssrc(), *api.new_ssrc());
    let retransmission = choice.retransmission.map(|_| api.new_ssrc());
    let stream = api.declare_stream_tx(ssrc, retransmission, mid, None);
    retransmission_cache(stream, kind);
    let offered = |extension: &Extension| {
        let number = extensions.id_of(extension.clone());
        let (_, uri) = EXTENSIONS.iter().find(|(known, _)| known == extension)?;
        let number = number.filter(|number| line.extensions.iter().any(|(its, of)| its == number && of == uri))?;
        Some((number, (*uri).to_owned()))
    };
    Source {
        mid,
        ssrc: *ssrc,
        retransmission_ssrc: retransmission.map(|ssrc| *ssrc),
        payload_type: choice.codec.payload_type,
        clock_hz: choice.codec.clock_hz,
        timestamp_offset: offset,
        // RFC 3550 §5.1: random, and below 2^15, so that no receiver takes a first reordered packet for a rollover
        // (RFC 3711 §3.3.1).
        next_sequence: u64::from(offset.rotate_left(16) & 0x7fff),
        began: false,
        playout: offered(&Extension::PlayoutDelay).filter(|_| kind == Kind::Video).map(|_| Playout::new()),
        capture_time: offered(&Extension::AbsoluteCaptureTime).is_some(),
        dependencies: offered(&dependency::STANDS_FOR).is_some(),
        next_frame: 0,
        extensions: EXTENSIONS.iter().filter_map(|(extension, _)| offered(extension)).collect(),
        cname,
    }
}

//! From an offer to a session: which m-lines are served, and with what.

use std::{sync::Arc, time::Instant};

use relay_media::{Kind, Track};

use super::{
    candidate::LocalCandidate,
    certificate::Certificate,
    choice::{self, Choice},
    offer::{self, Direction, MediaOffer, OFFER_MAX, Offer, Setup, Transport},
    refusal::{Refusal, RefusalKind},
    session::Session,
};

/// What a stream has for its viewers.
#[derive(Clone, Debug, Default)]
pub struct Media {
    /// The pictures.
    pub video: Option<Arc<Track>>,
    /// The sound.
    pub audio: Option<Arc<Track>>,
    /// Pictures are shown in another order than they are sent (B-frames): presentation times differ from decode
    /// times, or the parameter sets say so. WebRTC can't carry that.
    pub reordered: bool,
}

/// What the server brings to one session.
#[derive(Clone, Copy, Debug)]
pub struct SessionSettings<'a> {
    /// The server's ICE user name fragment: the port's key for this session, 4 to 256 ice-chars that nobody can
    /// guess (RFC 8839 §5.4).
    pub ufrag: &'a str,
    /// Where the viewer can reach the server. All of them go into the answer.
    pub candidates: &'a [LocalCandidate],
    /// The process's certificate.
    pub certificate: &'a Certificate,
}

/// Answers an offer: a session that waits for the viewer's STUN, and the answer's SDP. The first m-lines that can
/// carry the stream's video and audio are served, all others are rejected.
///
/// # Errors
/// The offer is too long, no SDP, or nothing of the stream can be sent to this viewer.
pub fn answer(
    offer: &str,
    media: &Media,
    settings: &SessionSettings<'_>,
    now: Instant,
) -> Result<(Session, String), Refusal> {
    if offer.len() > OFFER_MAX {
        let reason = format!("the offer has {} bytes, and at most {OFFER_MAX} are read", offer.len());
        return Err(Refusal::new(RefusalKind::TooLarge, reason, "offer one video and one audio only"));
    }
    let offer = offer::parse(offer).map_err(|error| malformed(format!("the offer is no SDP: {error}")))?;
    let plan = plan(&offer, media)?;
    let mut session = Session::start(&offer, &plan, settings, now)?;
    let text = super::answer::write(&offer, &plan, &mut session, settings);
    Ok((session, text))
}

/// What is served, by index of the m-line, and over which transport.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) video: Option<Served>,
    pub(super) audio: Option<Served>,
    pub(super) transport: Transport,
    /// The server opens the DTLS connection (the viewer insists on waiting).
    pub(super) dtls_active: bool,
}

/// A served m-line.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) index: usize,
    pub(super) choice: Choice,
}

impl Plan {
    pub(super) fn served(&self, index: usize) -> Option<(Kind, &Served)> {
        let of = |kind, served: &Option<Served>| (kind, served.as_ref().is_some_and(|served| served.index == index));
        match [of(Kind::Video, &self.video), of(Kind::Audio, &self.audio)] {
            [(kind, true), _] => self.video.as_ref().map(|served| (kind, served)),
            [_, (kind, true)] => self.audio.as_ref().map(|served| (kind, served)),
            _ => None,
        }
    }
}

fn malformed(reason: impl Into<String>) -> Refusal {
    Refusal::new(RefusalKind::Malformed, reason, "send the SDP of an RTCPeerConnection's offer")
}

fn plan(offer: &Offer, media: &Media) -> Result<Plan, Refusal> {
    let video = match &media.video {
        Some(track) => serve(offer, media, track, None)?,
        None => None,
    };
    let audio = match &media.audio {
        // Without video, why there is no audio either is the reason to tell.
        Some(track) => match serve(offer, media, track, video.as_ref()) {
            Err(refusal) if video.is_none() => return Err(refusal),
            served => served.unwrap_or(None),
        },
        None => None,
    };
    let Some(first) = video.as_ref().or(audio.as_ref()) else { return Err(nothing(media)) };
    let line = offer.media.get(first.index).ok_or_else(|| malformed("the offer has no such m-line"))?;
    let transport = offer.transport(line);
    if transport.credentials().is_none() {
        return Err(malformed("the offer has no a=ice-ufrag and a=ice-pwd"));
    }
    if transport.fingerprint.is_none() {
        return Err(malformed("the offer has no a=fingerprint of SHA-256 or SHA-1"));
    }
    if offer.ice_lite {
        let advice = "connect with a full ICE agent, which browsers are";
        return Err(Refusal::unservable("the viewer is ICE-lite, and so is this server", advice));
    }
    let dtls_active = transport.setup == Some(Setup::Passive);
    Ok(Plan { video, audio, transport, dtls_active })
}

/// Nothing of the stream has a place in the offer.
fn nothing(media: &Media) -> Refusal {
    match (&media.video, &media.audio) {
        (None, None) => Refusal::unservable("the stream has neither video nor audio", "check the stream's source"),
        (Some(_), None) => Refusal::unservable(
            "the stream has video only, and the offer no m-line to receive it",
            "add a recvonly video transceiver before making the offer",
        ),
        (None, Some(_)) => Refusal::unservable(
            "the stream has audio only, and the offer no m-line to receive it",
            "add a recvonly audio transceiver before making the offer",
        ),
        (Some(_), Some(_)) => Refusal::unservable(
            "the offer has no m-line to receive video or audio",
            "add recvonly transceivers before making the offer",
        ),
    }
}

/// The first m-line that carries the track. `None`: the offer has none of its kind.
///
/// # Errors
/// There are m-lines of its kind, but none carries it: the reason of the first.
fn serve(offer: &Offer, media: &Media, track: &Track, with: Option<&Served>) -> Result<Option<Served>, Refusal> {
    let mut refusal = None;
    for (index, line) in offer.media.iter().enumerate().filter(|(_, line)| line.kind() == Some(track.kind())) {
        let choice = receivable(line)
            .and_then(|()| bundled(offer, line, with))
            .and_then(|()| if track.kind() == Kind::Video { in_order(media) } else { Ok(()) })
            .and_then(|()| choice::choose(line, &track.codec));
        match choice {
            Ok(choice) => return Ok(Some(Served { index, choice })),
            Err(first) => refusal = refusal.or(Some(first)),
        }
    }
    refusal.map_or(Ok(None), Err)
}

/// The m-line can be answered sendonly.
fn receivable(line: &MediaOffer) -> Result<(), Refusal> {
    let word = &line.word;
    if matches!(line.direction, Direction::SendOnly | Direction::Inactive) {
        return Err(Refusal::unservable(
            format!("the offer's {word} is sendonly or inactive, and this server only sends"),
            "offer recvonly (WHEP requires it)",
        ));
    }
    if line.port == 0 && !line.bundle_only {
        let reason = format!("the offer's {word} has port 0, which switches it off");
        return Err(Refusal::unservable(reason, "offer it with a port"));
    }
    if !line.profile.ends_with("RTP/SAVPF") {
        let reason = format!("the offer's {word} is {}, and WebRTC is UDP/TLS/RTP/SAVPF", line.profile);
        return Err(Refusal::unservable(reason, "offer UDP/TLS/RTP/SAVPF"));
    }
    if !line.rtcp_mux {
        let reason = format!("the offer's {word} has no a=rtcp-mux, and this server has one port for everything");
        return Err(Refusal::unservable(reason, "offer a=rtcp-mux"));
    }
    Ok(())
}

/// The m-line shares the transport of the one that is served already.
fn bundled(offer: &Offer, line: &MediaOffer, with: Option<&Served>) -> Result<(), Refusal> {
    let Some(other) = with.and_then(|served| offer.media.get(served.index)) else { return Ok(()) };
    let in_group = |line: &MediaOffer| line.mid.as_ref().is_some_and(|mid| offer.bundle.contains(mid));
    if in_group(line) && in_group(other) {
        return Ok(());
    }
    Err(Refusal::unservable("the offer's video and audio are not in one BUNDLE group", "offer bundlePolicy max-bundle"))
}

/// Pictures leave in the order in which they are shown.
fn in_order(media: &Media) -> Result<(), Refusal> {
    if media.reordered {
        return Err(Refusal::unservable(
            "the stream has B-frames, which WebRTC does not carry",
            "switch B-frames off at the source (x264: bframes=0; cameras: profile Baseline, or \"B-frames: 0\"), \
             or have the stream transcoded",
        ));
    }
    Ok(())
}

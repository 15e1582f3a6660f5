//! Offers of browsers, and what is answered.

use std::{net::SocketAddr, sync::Arc};

use relay_media::{Codec, Timebase, Track, TrackId, aac, g711, h264, h265};
use relay_webrtc::{
    Certificate, H264Reason, LocalCandidate, Media, Protocol, Refusal, RefusalKind, Session, SessionSettings, answer,
};

use super::{
    camera::{h264_track, hex, opus_track},
    simulation::epoch,
};

const CHROMIUM: &str = include_str!("../offers/chromium_156.sdp");
const FIREFOX: &str = include_str!("../offers/firefox.sdp");
const SAFARI: &str = include_str!("../offers/safari.sdp");

fn track(id: u32, codec: Codec) -> Option<Arc<Track>> {
    Some(Arc::new(Track { id: TrackId(id), codec, timebase: Timebase::VIDEO }))
}

/// 640x360 High at level 2.2, and 1920x1080 Main at level 4: what x264 writes.
fn high() -> Option<Arc<Track>> {
    let config =
        h264::Config::parse(&hex("67640016acb201405ff2e0220000030002000003003d1e2c5c90"), &hex("68ebc3cb22c0"));
    track(1, Codec::H264(config.unwrap()))
}

fn main_profile() -> Option<Arc<Track>> {
    let config = h264::Config::parse(&hex("674d4028eca03c0113f2e022000007d20001d4c01e30632c"), &hex("68ebe3cb20"));
    track(1, Codec::H264(config.unwrap()))
}

fn hevc() -> Option<Arc<Track>> {
    let config = h265::Config::parse(
        &hex("40010c01ffff01600000030090000003000003003f928090"),
        &hex("42010101600000030090000003000003003fa0050201696592a4932bc05a020000030002000003001e10"),
        &hex("4401c172b46240"),
    );
    track(1, Codec::H265(config.unwrap()))
}

fn law(law: g711::Law) -> Option<Arc<Track>> {
    track(2, Codec::G711(g711::Config { law, sample_rate: 8_000, channels: 1 }))
}

fn aac() -> Option<Arc<Track>> {
    track(2, Codec::Aac(aac::Config::new(aac::LOW_COMPLEXITY, 48_000, 2).unwrap()))
}

fn media(video: Option<Arc<Track>>, audio: Option<Arc<Track>>) -> Media {
    Media { video, audio, reordered: false }
}

fn ask(offer: &str, media: &Media) -> Result<(Session, String), Refusal> {
    let address = |text: &str| text.parse::<SocketAddr>().unwrap();
    let candidates = [
        LocalCandidate {
            protocol: Protocol::Udp,
            address: address("203.0.113.7:8555"),
            base: address("10.0.0.7:8555"),
        },
        LocalCandidate {
            protocol: Protocol::Udp,
            address: address("[2001:db8::7]:8555"),
            base: address("[2001:db8::7]:8555"),
        },
        LocalCandidate {
            protocol: Protocol::Tcp,
            address: address("203.0.113.7:8555"),
            base: address("10.0.0.7:8555"),
        },
    ];
    let certificate = Certificate::generate().unwrap();
    let settings = SessionSettings { ufrag: "server", candidates: &candidates, certificate: &certificate };
    answer(offer, media, &settings, epoch())
}

fn m_lines(answer: &str) -> Vec<&str> {
    answer.lines().filter(|line| line.starts_with("m=")).collect()
}

/// What is chosen of each browser's offer.
#[test]
fn browsers_offers_are_answered() {
    use H264Reason::{DecodesAnyway, SameProfile};
    let baseline = || Some(h264_track());
    let opus = || Some(opus_track());
    /// Name, offer, stream, video and audio m-line (with `_` for the profile, `...` for the formats), H.264.
    type Row = (&'static str, &'static str, Media, [&'static str; 2], Option<H264Reason>);
    let rows: [Row; 14] = [
        ("Chromium", CHROMIUM, media(baseline(), opus()), ["9 _ 108 109", "9 _ 111"], Some(SameProfile)),
        ("Chromium, Main", CHROMIUM, media(main_profile(), opus()), ["9 _ 116 117", "9 _ 111"], Some(SameProfile)),
        ("Chromium, High", CHROMIUM, media(high(), None), ["9 _ 116 117", "0 _ ..."], Some(DecodesAnyway)),
        ("Chromium, A-law", CHROMIUM, media(high(), law(g711::Law::A)), ["9 _ 116 117", "9 _ 8"], Some(DecodesAnyway)),
        ("Chromium, µ-law", CHROMIUM, media(high(), law(g711::Law::Mu)), ["9 _ 116 117", "9 _ 0"], Some(DecodesAnyway)),
        ("Chromium, AAC", CHROMIUM, media(baseline(), aac()), ["9 _ 108 109", "0 _ ..."], Some(SameProfile)),
        ("Chromium, sound", CHROMIUM, media(None, opus()), ["9 _ 96", "9 _ 111"], None),
        ("Firefox", FIREFOX, media(baseline(), opus()), ["9 _ 126 127", "9 _ 109"], Some(SameProfile)),
        ("Firefox, High", FIREFOX, media(high(), opus()), ["9 _ 126 127", "9 _ 109"], Some(DecodesAnyway)),
        ("Safari", SAFARI, media(baseline(), opus()), ["9 _ 98 99", "9 _ 111"], Some(SameProfile)),
        ("Safari, High", SAFARI, media(high(), opus()), ["9 _ 96 97", "9 _ 111"], Some(DecodesAnyway)),
        ("Safari, H.265", SAFARI, media(hevc(), opus()), ["9 _ 104 105", "9 _ 111"], None),
        ("Safari, AAC", SAFARI, media(baseline(), aac()), ["9 _ 98 99", "9 _ 111"], Some(SameProfile)),
        ("Safari, A-law", SAFARI, media(baseline(), law(g711::Law::A)), ["9 _ 98 99", "9 _ 8"], Some(SameProfile)),
    ];
    for (name, offer, media, expected, reason) in rows {
        let (session, answer) = ask(offer, &media).unwrap_or_else(|refusal| panic!("{name}: {refusal}"));
        let lines = m_lines(&answer);
        assert_eq!(lines.len(), m_lines(offer).len(), "{name}");
        for word in ["video", "audio"] {
            let line = lines.iter().find(|line| line.starts_with(&format!("m={word}"))).unwrap();
            let offered = m_lines(offer).into_iter().find(|line| line.starts_with(&format!("m={word}"))).unwrap();
            let profile = offered.split(' ').nth(2).unwrap();
            let want = expected[usize::from(word == "audio")].replace('_', profile);
            let want = want.replace("...", &offered.split(' ').skip(3).collect::<Vec<_>>().join(" "));
            assert_eq!(**line, format!("m={word} {want}"), "{name}");
        }
        assert_eq!(session.report().h264.map(|choice| choice.reason), reason, "{name}");
        check_sound(name, &answer);
    }
}

/// What every answer has.
fn check_sound(name: &str, answer: &str) {
    assert!(answer.lines().all(|line| line.as_bytes()[1] == b'='), "{name}");
    assert!(answer.split('\n').rev().skip(1).all(|line| line.ends_with('\r')), "{name}");
    let sections: Vec<&str> = answer.split("\r\nm=").skip(1).collect();
    let (served, rejected): (Vec<&str>, Vec<&str>) =
        sections.into_iter().partition(|section| section.split(' ').nth(1) == Some("9"));
    assert!(answer.contains("a=ice-lite\r\n"), "{name}");
    let group = answer.lines().find_map(|line| line.strip_prefix("a=group:BUNDLE ")).unwrap();
    assert_eq!(group.split(' ').count(), served.len(), "{name}");
    for section in served.iter().filter(|section| !section.contains("a=inactive")) {
        for line in
            ["a=sendonly", "a=rtcp-mux", "a=rtcp-rsize", "a=setup:passive", "a=ice-ufrag:server", "a=msid:relay "]
        {
            assert!(section.contains(line), "{name}: {line} in {section}");
        }
    }
    assert!(served.iter().all(|section| section.contains("a=fingerprint:sha-256 ")), "{name}");
    for section in rejected {
        assert!(section.contains("a=inactive"), "{name}");
        assert!(section.split("\r\n").next().unwrap().split(' ').count() > 3, "{name}: formats in {section}");
    }
    for line in [
        " 1 udp 2130706431 203.0.113.7 8555 typ host\r\n",
        " 2001:db8::7 8555 typ host\r\n",
        " 203.0.113.7 8555 typ host tcptype passive\r\na=end-of-candidates\r\n",
    ] {
        assert_eq!(answer.matches(line).count(), 1, "{name}: {line}");
    }
    str0m::change::SdpAnswer::from_sdp_string(answer).unwrap();
}

/// Offers that get none of the stream, and the words that say so.
#[test]
fn refusals_say_why_and_what_would_help() {
    let video = || media(Some(h264_track()), None);
    let replaced = |from: &str, to: &str| CHROMIUM.replace(from, to);
    let without_h264 = CHROMIUM.replace("H264/90000", "H263/90000");
    let audio_only = CHROMIUM.replace("m=video", "m=screen");
    let malformed = RefusalKind::Malformed;
    let unservable = RefusalKind::Unservable;
    let rows: [(String, Media, RefusalKind, &str, &str); 16] = [
        (String::new(), video(), malformed, "without an m-line", "RTCPeerConnection"),
        ("v=0\r\nhello".to_owned(), video(), malformed, "line 2", "RTCPeerConnection"),
        ("m=video 9 UDP/TLS/RTP/SAVPF 96\r\n".to_owned(), video(), malformed, "v=0", "RTCPeerConnection"),
        (replaced("a=ice-pwd", "a=ice-p"), video(), malformed, "ice-pwd", "RTCPeerConnection"),
        (replaced("a=fingerprint", "a=f"), video(), malformed, "fingerprint", "RTCPeerConnection"),
        ("v=0\r\n".to_owned() + &"a=x\r\n".repeat(20_000), video(), RefusalKind::TooLarge, "100005 bytes", "one video"),
        (CHROMIUM.to_owned(), media(hevc(), None), unservable, "H.265", "H.264"),
        (CHROMIUM.to_owned(), media(hevc(), Some(opus_track())), unservable, "H.265", "H.264"),
        (CHROMIUM.to_owned(), Media { reordered: true, ..video() }, unservable, "B-frames", "bframes=0"),
        (CHROMIUM.to_owned(), media(None, aac()), unservable, "AAC", "Opus"),
        (CHROMIUM.to_owned(), Media::default(), unservable, "neither video nor audio", "source"),
        (audio_only, video(), unservable, "video only", "recvonly video"),
        (without_h264, video(), unservable, "does not list", "H.264"),
        (
            replaced("packetization-mode=1", "packetization-mode=0"),
            video(),
            unservable,
            "mode 0",
            "packetization-mode=1",
        ),
        (replaced("a=recvonly", "a=sendonly"), video(), unservable, "sendonly", "recvonly"),
        (replaced("level-asymmetry-allowed=1;", ""), media(main_profile(), None), unservable, "level 4", "asymmetry"),
    ];
    for (offer, media, kind, reason, advice) in rows {
        let refusal = ask(&offer, &media).map(|(_, answer)| answer).unwrap_err();
        assert_eq!(refusal.kind(), kind, "{refusal}");
        assert!(refusal.reason().contains(reason) && refusal.advice().contains(advice), "{refusal}");
    }
}

/// Without level asymmetry a payload type that has the level is found.
#[test]
fn levels_must_fit_without_asymmetry() {
    let offer = CHROMIUM.replace("level-asymmetry-allowed=1;", "").replace("4d001f", "4d0028");
    let (session, answer) = ask(&offer, &media(main_profile(), None)).unwrap();
    assert_eq!(session.report().h264.unwrap().payload_type, 116);
    assert!(answer.contains("profile-level-id=4d0028"));
}

/// A viewer that insists on being the DTLS server gets a client.
#[test]
fn dtls_roles_follow_the_offer() {
    for (setup, expected) in [("actpass", "passive"), ("active", "passive"), ("passive", "active")] {
        let offer = CHROMIUM.replace("a=setup:actpass", &format!("a=setup:{setup}"));
        let (_, answer) = ask(&offer, &media(high(), None)).unwrap();
        assert!(answer.contains(&format!("a=setup:{expected}\r\n")), "{setup}");
    }
}

proptest::proptest! {
    /// Any change to a real offer is answered or refused.
    #[test]
    fn damaged_offers_do_no_harm(at in 0..CHROMIUM.len(), length in 0..80_usize, with in "[ -~\r\n]{0,40}") {
        let end = (at + length).min(CHROMIUM.len());
        let offer = format!("{}{with}{}", &CHROMIUM[..at], &CHROMIUM[end..]);
        if let Ok((_, answer)) = ask(&offer, &media(high(), Some(opus_track()))) {
            proptest::prop_assert!(answer.ends_with("\r\n"));
        }
    }
}

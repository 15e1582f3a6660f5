//! Which offered payload type carries a track: what the viewer offers and what the source is are kept apart.

use std::fmt;

use relay_media::{Codec, g711, h264, h265};

use super::{
    offer::{CodecOffer, MediaOffer},
    refusal::Refusal,
};

/// The payload type that carries H.264, and why that one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct H264Choice {
    /// The RTP payload type, as offered.
    pub payload_type: u8,
    /// `profile-level-id` as offered, its three bytes in the low 24 bits; `None` if the offer names none.
    pub offered: Option<u32>,
    /// The same three bytes of the source's SPS.
    pub source: u32,
    /// Why this payload type.
    pub reason: H264Reason,
}

/// Why a payload type was chosen for an H.264 stream; the first that applies to an offered one wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum H264Reason {
    /// The offer names the source's profile.
    SameProfile,
    /// The offer names a profile whose decoders decode the source's (H.264 §A.2): Main is good for Constrained
    /// Baseline, High for Main.
    Superset,
    /// The offer names no profile: RFC 6184 §8.1 reads this as Baseline at level 1, but who says nothing (GStreamer)
    /// takes anything.
    Unsaid,
    /// The offer names a lesser profile, but every browser's decoder decodes Main and High whatever it lists:
    /// Chromium's offer has no High at all, and most cameras send it.
    DecodesAnyway,
}

impl fmt::Display for H264Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SameProfile => "the offer names the source's profile",
            Self::Superset => "the offer names a profile that includes the source's",
            Self::Unsaid => "the offer names no profile",
            Self::DecodesAnyway => "the offer names a lesser profile; browsers decode the source's all the same",
        })
    }
}

/// What an m-line is served with.
#[derive(Clone, Debug)]
pub(super) struct Choice {
    pub(super) codec: CodecOffer,
    pub(super) retransmission: Option<u8>,
    pub(super) h264: Option<H264Choice>,
}

impl Choice {
    fn new(media: &MediaOffer, codec: &CodecOffer, h264: Option<H264Choice>) -> Self {
        // Without NACK nothing is ever asked for again.
        let retransmission = codec.has_feedback("nack").then(|| media.retransmission_of(codec.payload_type)).flatten();
        Self { codec: codec.clone(), retransmission, h264 }
    }
}

/// The payload type of `media` that carries `codec`.
///
/// # Errors
/// None does: why, and what would help.
pub(super) fn choose(media: &MediaOffer, codec: &Codec) -> Result<Choice, Refusal> {
    match codec {
        Codec::H264(config) => choose_h264(media, config),
        Codec::H265(config) => choose_h265(media, config),
        // RFC 7587 §7: always 48 kHz and two channels, whatever the packets contain.
        Codec::Opus(_) => named(media, "opus", 48_000, "Opus"),
        Codec::G711(config) if (config.sample_rate, config.channels) != (8_000, 1) => Err(Refusal::unservable(
            "WebRTC carries G.711 at 8 kHz with one channel only, and the stream has another form of it",
            "set the source to G.711 at 8 kHz mono, or to Opus",
        )),
        Codec::G711(config) => match config.law {
            g711::Law::A => named(media, "PCMA", 8_000, "G.711 A-law"),
            g711::Law::Mu => named(media, "PCMU", 8_000, "G.711 µ-law"),
        },
        Codec::Aac(_) => Err(Refusal::unservable(
            "the stream's audio is AAC, which WebRTC does not carry",
            "set the source to Opus or G.711",
        )),
    }
}

fn named(media: &MediaOffer, name: &str, clock_hz: u32, spoken: &'static str) -> Result<Choice, Refusal> {
    let is = |codec: &&CodecOffer| codec.name.eq_ignore_ascii_case(name) && codec.clock_hz == clock_hz;
    let Some(codec) = media.codecs.iter().find(is) else {
        let advice = "offer it: every browser does unless the page takes it out";
        return Err(Refusal::unservable(
            format!("the stream's audio is {spoken}, which the offer does not list"),
            advice,
        ));
    };
    Ok(Choice::new(media, codec, None))
}

fn choose_h264(media: &MediaOffer, config: &h264::Config) -> Result<Choice, Refusal> {
    let source = u32::from_be_bytes([0, config.profile_idc(), config.constraint_flags(), config.level_idc()]);
    let h264 = || media.codecs.iter().filter(|codec| codec.name.eq_ignore_ascii_case("H264"));
    // STAP-A and FU-A need packetization-mode 1 (RFC 6184 §6.3); 0 is what is not said.
    let usable = || h264().filter(|codec| codec.parameter("packetization-mode") == Some("1"));
    let best = usable().filter_map(|codec| Some((h264_choice(codec, source)?, codec))).min_by_key(|(choice, _)| {
        // Of equally good ones the first, which the viewer prefers.
        (choice.reason, choice.offered.map_or(0, |offered| stand_in_rank(Profile::of(offered))))
    });
    if let Some((choice, codec)) = best {
        return Ok(Choice::new(media, codec, Some(choice)));
    }
    Err(if h264().next().is_none() {
        Refusal::unservable("the stream is H.264, which the offer does not list", "use a browser that plays H.264")
    } else if usable().next().is_none() {
        let reason = "the offer lists H.264 with packetization-mode 0 only, which has no room for real pictures";
        Refusal::unservable(reason, "offer packetization-mode=1")
    } else if Profile::of(source) == Profile::Other {
        let advice = "set the source to 8-bit 4:2:0 (Baseline, Main or High), or have it transcoded";
        Refusal::unservable(format!("browsers do not decode H.264 {}", config.profile_name()), advice)
    } else {
        Refusal::unservable(
            format!(
                "the stream is H.264 level {}, and the offer neither lists it nor allows level asymmetry",
                config.level_name()
            ),
            "offer level-asymmetry-allowed=1 or a higher profile-level-id, or set the source to a smaller picture",
        )
    })
}

/// Whether a payload type can carry the source, and why.
fn h264_choice(codec: &CodecOffer, source: u32) -> Option<H264Choice> {
    let payload_type = codec.payload_type;
    let Some(text) = codec.parameter("profile-level-id") else {
        let reason = H264Reason::Unsaid;
        return (Profile::of(source) != Profile::Other).then_some(H264Choice {
            payload_type,
            offered: None,
            source,
            reason,
        });
    };
    let offered = u32::from_str_radix(text, 16).ok().filter(|_| text.len() == 6)?;
    // RFC 6184 §8.2.2: without level asymmetry both sides send at most the level of the offer.
    let asymmetric = codec.parameter("level-asymmetry-allowed") == Some("1");
    if !asymmetric && level(source) > level(offered) {
        return None;
    }
    let reason = h264_reason(Profile::of(source), Profile::of(offered), source >> 8 == offered >> 8)?;
    Some(H264Choice { payload_type, offered: Some(offered), source, reason })
}

fn h264_reason(source: Profile, offered: Profile, same_bytes: bool) -> Option<H264Reason> {
    use Profile::{Baseline, ConstrainedBaseline, ConstrainedHigh, High, High444, Main, Other};
    Some(match (source, offered) {
        _ if same_bytes => H264Reason::SameProfile,
        (Other, _) | (_, Other) => return None,
        (source, offered) if source == offered => H264Reason::SameProfile,
        // §A.2.1 to §A.2.11: which profiles' decoders must decode which streams.
        // High 4:4:4 includes High too, but is kept for the last: Chromium decodes it in software only.
        (ConstrainedBaseline, _) | (Main | ConstrainedHigh, High) => H264Reason::Superset,
        // Cameras that say Baseline without the constraint don't use what sets it apart (FMO, ASO).
        (Baseline | Main | ConstrainedHigh | High, _) => H264Reason::DecodesAnyway,
        (High444, _) => return None,
    })
}

/// Of several profiles that are equally good a reason, the one that tells the decoder most.
fn stand_in_rank(offered: Profile) -> u8 {
    match offered {
        Profile::High | Profile::ConstrainedHigh => 0,
        Profile::Main => 1,
        Profile::ConstrainedBaseline => 2,
        Profile::Baseline => 3,
        Profile::High444 | Profile::Other => 4,
    }
}

/// The profiles that WebRTC endpoints name (RFC 6184 Table 5, H.264 §A.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Profile {
    ConstrainedBaseline,
    Baseline,
    Main,
    ConstrainedHigh,
    High,
    High444,
    Other,
}

impl Profile {
    fn of(profile_level_id: u32) -> Self {
        let [_, idc, flags, _] = profile_level_id.to_be_bytes();
        let constraint = |set: u32| flags & (0x80 >> set) != 0;
        match idc {
            66 if constraint(1) => Self::ConstrainedBaseline,
            // Main or Extended restricted to what Baseline has (RFC 6184 Table 5).
            77 if constraint(0) => Self::ConstrainedBaseline,
            88 if constraint(0) && constraint(1) => Self::ConstrainedBaseline,
            66 => Self::Baseline,
            77 => Self::Main,
            100 if constraint(4) && constraint(5) => Self::ConstrainedHigh,
            100 => Self::High,
            244 => Self::High444,
            _ => Self::Other,
        }
    }
}

/// A level that can be compared: level 1b lies between 1 and 1.1 (H.264 §A.3.1).
fn level(profile_level_id: u32) -> u32 {
    let [_, idc, flags, level] = profile_level_id.to_be_bytes();
    match level {
        11 if matches!(idc, 66 | 77 | 88) && flags & 0x10 != 0 => 105,
        9 => 105,
        level => u32::from(level) * 10,
    }
}

fn choose_h265(media: &MediaOffer, config: &h265::Config) -> Result<Choice, Refusal> {
    const ADVICE: &str =
        "use a browser with an H.265 decoder in hardware (Safari, Chromium since 136), or set the source to H.264";
    let h265 = || media.codecs.iter().filter(|codec| codec.name.eq_ignore_ascii_case("H265"));
    if let Some(codec) = h265().find(|codec| takes_h265(codec, config)) {
        return Ok(Choice::new(media, codec, None));
    }
    let (profile, level) = (config.profile_name(), config.level_name());
    Err(match h265().next() {
        None => Refusal::unservable("the stream is H.265, which the offer does not list", ADVICE),
        Some(_) => Refusal::unservable(
            format!("the stream is H.265 {profile} level {level}, and the offer lists lesser profiles or levels only"),
            "set the source to a smaller picture or to H.264",
        ),
    })
}

/// RFC 7798 §7.1: profile 1, Main tier and level 3.1 are what is not said.
fn takes_h265(codec: &CodecOffer, config: &h265::Config) -> bool {
    let number = |name, unsaid: u8| codec.parameter(name).map_or(Some(unsaid), |text| text.parse().ok());
    let (Some(profile), Some(tier), Some(level)) =
        (number("profile-id", 1), number("tier-flag", 0), number("level-id", 93))
    else {
        return false;
    };
    // A Main 10 decoder decodes Main (H.265 §A.3.3).
    let fits = profile == config.profile_idc() || (profile, config.profile_idc()) == (2, 1);
    let single_stream = codec.parameter("tx-mode").is_none_or(|mode| mode.eq_ignore_ascii_case("SRST"));
    fits && single_stream && (tier >= 1 || !config.is_high_tier()) && level >= config.level_idc()
}

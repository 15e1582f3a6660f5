//! The viewer's offer (RFC 8866, RFC 8829), read leniently and as far as it matters here.

use relay_media::Kind;
use str0m::{IceCreds, config::Fingerprint};

/// The most bytes of an offer that are read. Chromium's offer for one video and one audio has 6 KiB.
pub(super) const OFFER_MAX: usize = 64 * 1_024;

/// The most m-lines that are read; a browser offers one for each transceiver.
const MEDIA_MAX: usize = 32;

/// The most formats of an m-line: payload types have seven bits (RFC 3550 §5.1).
const FORMATS_MAX: usize = 128;

/// The most `a=rtcp-fb` lines of a payload type that are kept; browsers send five.
const FEEDBACK_MAX: usize = 16;

/// The most `a=extmap` lines of an m-line that are kept; browsers send fourteen.
const EXTENSIONS_MAX: usize = 64;

/// The most candidates that are kept for the report: a machine has some interfaces with two addresses each.
pub(super) const CANDIDATES_MAX: usize = 64;

/// The longest candidate line that is kept.
pub(super) const CANDIDATE_LEN_MAX: usize = 256;

/// An offer, in the order of its m-lines.
#[derive(Debug, Default)]
pub(super) struct Offer {
    /// What stands before the first m-line: holds for each that doesn't say otherwise.
    pub(super) session: Transport,
    /// The mids of the first BUNDLE group (RFC 9143).
    pub(super) bundle: Vec<String>,
    pub(super) media: Vec<MediaOffer>,
    /// Candidates as the viewer wrote them, at most [`CANDIDATES_MAX`].
    pub(super) candidates: Vec<String>,
    pub(super) ice_lite: bool,
}

/// ICE and DTLS parameters.
#[derive(Clone, Debug, Default)]
pub(super) struct Transport {
    pub(super) ufrag: Option<String>,
    pub(super) password: Option<String>,
    /// The strongest fingerprint of those offered that str0m can check.
    pub(super) fingerprint: Option<Fingerprint>,
    pub(super) setup: Option<Setup>,
}

/// Who opens the DTLS connection (RFC 8842).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Setup {
    Active,
    Passive,
    ActPass,
}

/// One m-line with its attributes.
#[derive(Debug)]
pub(super) struct MediaOffer {
    /// The first word of the m-line, "video".
    pub(super) word: String,
    pub(super) port: u16,
    /// The third word of the m-line, "UDP/TLS/RTP/SAVPF".
    pub(super) profile: String,
    /// The rest of the m-line: payload types, or "webrtc-datachannel".
    pub(super) formats: Vec<String>,
    pub(super) mid: Option<String>,
    pub(super) direction: Direction,
    pub(super) rtcp_mux: bool,
    pub(super) bundle_only: bool,
    pub(super) transport: Transport,
    pub(super) codecs: Vec<CodecOffer>,
    /// Header extensions: number and URI (RFC 8285).
    pub(super) extensions: Vec<(u8, String)>,
}

/// The direction of an m-line as the viewer sees it (RFC 8866 §6.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    SendRecv,
    RecvOnly,
    SendOnly,
    Inactive,
}

/// One payload type.
#[derive(Clone, Debug)]
pub(super) struct CodecOffer {
    pub(super) payload_type: u8,
    /// The encoding's name, "H264", as the viewer spells it.
    pub(super) name: String,
    pub(super) clock_hz: u32,
    pub(super) channels: u8,
    pub(super) fmtp: String,
    /// `a=rtcp-fb` values, "nack pli".
    pub(super) feedback: Vec<String>,
}

/// Why a text is no offer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {detail}")]
pub(super) struct OfferError {
    pub(super) line: usize,
    pub(super) detail: &'static str,
}

impl MediaOffer {
    /// Video or audio; `None` for data channels and the rest.
    pub(super) fn kind(&self) -> Option<Kind> {
        match self.word.as_str() {
            "video" => Some(Kind::Video),
            "audio" => Some(Kind::Audio),
            _ => None,
        }
    }

    /// The payload type that retransmits `payload_type` (RFC 4588 §8.1).
    pub(super) fn retransmission_of(&self, payload_type: u8) -> Option<u8> {
        let repairs = |codec: &&CodecOffer| {
            codec.name.eq_ignore_ascii_case("rtx") && codec.parameter("apt") == Some(payload_type.to_string().as_str())
        };
        self.codecs.iter().find(repairs).map(|codec| codec.payload_type)
    }
}

impl CodecOffer {
    /// A format parameter by its name; names are compared without case (RFC 8866 §6.15 leaves it to the format,
    /// RFC 6838 §4.3 says so).
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.fmtp.split(';').filter_map(|pair| pair.split_once('=')).find_map(|(key, value)| {
            key.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_start_matches("(string)").trim_matches('"'))
        })
    }

    /// The viewer takes this feedback ("nack", "nack pli", "transport-cc").
    pub(super) fn has_feedback(&self, value: &str) -> bool {
        self.feedback.iter().any(|offered| offered.eq_ignore_ascii_case(value))
    }
}

/// Reads an offer of at most [`OFFER_MAX`] bytes.
///
/// # Errors
/// It doesn't start with `v=0`, has a line that is not `letter=value`, no m-line, a damaged one, or too many.
pub(super) fn parse(text: &str) -> Result<Offer, OfferError> {
    let mut offer = Offer::default();
    let mut version = false;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_end();
        if line.is_empty() {
            continue;
        }
        let fail = |detail| OfferError { line: index + 1, detail };
        let Some((kind, value)) = line.split_once('=') else { return Err(fail("not of the form letter=value")) };
        match kind {
            "v" if value == "0" => version = true,
            _ if !version => return Err(fail("an SDP starts with v=0")),
            "m" if offer.media.len() >= MEDIA_MAX => return Err(fail("more m-lines than any browser offers")),
            "m" => offer.media.push(media_line(value).ok_or_else(|| fail("a damaged m-line"))?),
            "a" => offer.attribute(value),
            kind if kind.len() == 1 => {}
            _ => return Err(fail("not of the form letter=value")),
        }
    }
    if offer.media.is_empty() {
        return Err(OfferError { line: text.lines().count(), detail: "it ends without an m-line" });
    }
    for media in &mut offer.media {
        media.finish();
    }
    Ok(offer)
}

/// `video 9 UDP/TLS/RTP/SAVPF 96 97` (RFC 8866 §5.14).
fn media_line(value: &str) -> Option<MediaOffer> {
    let mut words = value.split_ascii_whitespace();
    let (word, port, profile) = (words.next()?, words.next()?, words.next()?);
    let formats: Vec<String> = words.map(str::to_owned).collect();
    // "9/2" would be a range of ports; no browser writes it.
    let port = port.split('/').next()?.parse().ok()?;
    let plain = |text: &str| text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_graphic());
    let sound = (1..=FORMATS_MAX).contains(&formats.len())
        && formats.iter().all(|format| plain(format))
        && plain(word)
        && plain(profile);
    sound.then(|| MediaOffer {
        word: word.to_owned(),
        port,
        profile: profile.to_owned(),
        formats,
        mid: None,
        // "sendrecv" unless said otherwise (RFC 8866 §6.7).
        direction: Direction::SendRecv,
        rtcp_mux: false,
        bundle_only: false,
        transport: Transport::default(),
        codecs: Vec::new(),
        extensions: Vec::new(),
    })
}

impl Offer {
    /// `a=name:value` or `a=name`; what is unknown or damaged is passed over (RFC 8866 §5.13).
    fn attribute(&mut self, attribute: &str) {
        let (name, value) = attribute.split_once(':').unwrap_or((attribute, ""));
        let value = value.trim();
        match name {
            "candidate" => return keep_candidate(&mut self.candidates, value),
            "ice-lite" => self.ice_lite = true,
            "group" if self.bundle.is_empty() => {
                if let Some(mids) = value.strip_prefix("BUNDLE ") {
                    self.bundle = mids.split_ascii_whitespace().take(MEDIA_MAX).map(str::to_owned).collect();
                }
            }
            _ => {}
        }
        let transport = match self.media.last_mut() {
            Some(media) => {
                media.attribute(name, value);
                &mut media.transport
            }
            None => &mut self.session,
        };
        transport.attribute(name, value);
    }
}

/// Keeps a candidate line for the report, within bounds.
pub(super) fn keep_candidate(candidates: &mut Vec<String>, value: &str) {
    if candidates.len() < CANDIDATES_MAX && value.len() <= CANDIDATE_LEN_MAX && is_candidate(value) {
        candidates.push(value.to_owned());
    }
}

/// `foundation component transport priority address port typ type ...` (RFC 8839 §5.1). The address may be a name
/// (mDNS), which is never resolved here.
pub(super) fn is_candidate(value: &str) -> bool {
    let words: Vec<&str> = value.split_ascii_whitespace().take(9).collect();
    matches!(words.as_slice(), [_, component, _, priority, _, port, "typ", _, ..]
        if component.parse::<u16>().is_ok() && priority.parse::<u32>().is_ok() && port.parse::<u16>().is_ok())
}

impl Transport {
    fn attribute(&mut self, name: &str, value: &str) {
        /// The longest ufrag and password that RFC 8839 §5.4 allows.
        const CREDENTIAL_MAX: usize = 256;
        let credential = || (value.len() <= CREDENTIAL_MAX && value.is_ascii()).then(|| value.to_owned());
        match name {
            "ice-ufrag" => self.ufrag = credential(),
            "ice-pwd" => self.password = credential(),
            "fingerprint" => {
                // RFC 8122 §5: several may be given; SHA-256 is the one that everybody has.
                let better = self.fingerprint.as_ref().is_none_or(|had| had.hash_func != "sha-256");
                if let Some(fingerprint) = fingerprint(value).filter(|_| better) {
                    self.fingerprint = Some(fingerprint);
                }
            }
            "setup" => {
                self.setup = match value {
                    "active" => Some(Setup::Active),
                    "passive" => Some(Setup::Passive),
                    "actpass" => Some(Setup::ActPass),
                    _ => self.setup,
                }
            }
            _ => {}
        }
    }
}

/// `sha-256 AB:CD:…` (RFC 8122 §5); of the hashes only those that str0m computes.
fn fingerprint(value: &str) -> Option<Fingerprint> {
    let (hash, digits) = value.split_once(' ')?;
    let hash = hash.to_ascii_lowercase();
    let bytes: Vec<u8> =
        digits.trim().split(':').map(|pair| u8::from_str_radix(pair, 16)).collect::<Result<_, _>>().ok()?;
    let length = match hash.as_str() {
        "sha-256" => 32,
        "sha-1" => 20,
        _ => return None,
    };
    (bytes.len() == length).then_some(Fingerprint { hash_func: hash, bytes })
}

impl MediaOffer {
    fn attribute(&mut self, name: &str, value: &str) {
        match name {
            "mid" if value.len() <= 64 && value.bytes().all(|byte| byte.is_ascii_graphic()) => {
                self.mid = Some(value.to_owned());
            }
            "sendrecv" => self.direction = Direction::SendRecv,
            "recvonly" => self.direction = Direction::RecvOnly,
            "sendonly" => self.direction = Direction::SendOnly,
            "inactive" => self.direction = Direction::Inactive,
            "rtcp-mux" => self.rtcp_mux = true,
            "bundle-only" => self.bundle_only = true,
            "rtpmap" | "fmtp" | "rtcp-fb" => {
                if let Some((format, value)) = value.split_once(' ') {
                    self.format_attribute(name, format, value.trim());
                }
            }
            "extmap" if self.extensions.len() < EXTENSIONS_MAX => self.extensions.extend(extension(value)),
            _ => {}
        }
    }

    fn format_attribute(&mut self, name: &str, format: &str, value: &str) {
        if format == "*" && name == "rtcp-fb" {
            return self.codecs.iter_mut().for_each(|codec| codec.add_feedback(value));
        }
        // Payload types have seven bits; a line about one that the m-line doesn't list is passed over.
        let Some(payload_type) = format.parse().ok().filter(|&number: &u8| number < 128) else { return };
        if !self.formats.iter().any(|listed| listed == format) {
            return;
        }
        if !self.codecs.iter().any(|codec| codec.payload_type == payload_type) {
            self.codecs.push(CodecOffer::unnamed(payload_type));
        }
        let Some(codec) = self.codecs.iter_mut().find(|codec| codec.payload_type == payload_type) else { return };
        match name {
            "rtpmap" => codec.map(value),
            "fmtp" => value.clone_into(&mut codec.fmtp),
            _ => codec.add_feedback(value),
        }
    }

    /// Adds the payload types that need no `a=rtpmap` and puts all of them in the order of the m-line, which is the
    /// viewer's preference (RFC 8866 §5.14).
    fn finish(&mut self) {
        let mut ordered = Vec::new();
        for payload_type in self.formats.iter().filter_map(|format| format.parse::<u8>().ok()) {
            let at = self.codecs.iter().position(|codec| codec.payload_type == payload_type);
            let mut codec = match at {
                Some(at) => self.codecs.swap_remove(at),
                None => CodecOffer::unnamed(payload_type),
            };
            match (codec.name.as_str(), payload_type) {
                // RFC 3551 Table 4.
                ("", 0) => codec.map("PCMU/8000"),
                ("", 8) => codec.map("PCMA/8000"),
                _ => {}
            }
            if !codec.name.is_empty() {
                ordered.push(codec);
            }
        }
        self.codecs = ordered;
    }
}

/// `3/recvonly http://… attributes` (RFC 8285 §8).
fn extension(value: &str) -> Option<(u8, String)> {
    let mut words = value.split_ascii_whitespace();
    let number = words.next()?.split('/').next()?.parse().ok()?;
    Some((number, words.next()?.to_owned()))
}

impl CodecOffer {
    fn unnamed(payload_type: u8) -> Self {
        let (name, fmtp, feedback) = (String::new(), String::new(), Vec::new());
        Self { payload_type, name, clock_hz: 0, channels: 1, fmtp, feedback }
    }

    fn add_feedback(&mut self, value: &str) {
        if self.feedback.len() < FEEDBACK_MAX {
            self.feedback.push(value.to_owned());
        }
    }

    /// `opus/48000/2` (RFC 8866 §6.6).
    fn map(&mut self, value: &str) {
        let mut parts = value.split('/');
        parts.next().unwrap_or_default().clone_into(&mut self.name);
        self.clock_hz = parts.next().and_then(|hz| hz.trim().parse().ok()).unwrap_or_default();
        self.channels = parts.next().and_then(|channels| channels.trim().parse().ok()).unwrap_or(1);
    }
}

impl Offer {
    /// The transport of an m-line, completed by the session's attributes (RFC 8839 §5.4, RFC 8842 §5).
    pub(super) fn transport(&self, media: &MediaOffer) -> Transport {
        let (own, session) = (media.transport.clone(), &self.session);
        Transport {
            ufrag: own.ufrag.or_else(|| session.ufrag.clone()),
            password: own.password.or_else(|| session.password.clone()),
            fingerprint: own.fingerprint.or_else(|| session.fingerprint.clone()),
            setup: own.setup.or(session.setup),
        }
    }
}

impl Transport {
    /// The viewer's ICE credentials, if it gave both.
    pub(super) fn credentials(&self) -> Option<IceCreds> {
        Some(IceCreds { ufrag: self.ufrag.clone()?, pass: self.password.clone()? })
    }
}

//! The description a camera gives of itself (RFC 4566), with parameter sets as RFC 6184 §8.2 and RFC 7798 §7.1 say.

use std::fmt::Write as _;

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{audio::Audio, clip::Clip};

/// The control names of the tracks, appended to the mount's URL.
pub(crate) const VIDEO_CONTROL: &str = "trackID=0";
/// As [`VIDEO_CONTROL`].
pub(crate) const AUDIO_CONTROL: &str = "trackID=1";

/// Describes a camera that plays `clip` and `audio`, with or without the parameter sets.
pub(crate) fn describe(clip: &Clip, audio: Audio, with_sets: SetsInSdp) -> String {
    let mut sdp = String::from(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=relay-sim\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\na=control:*\r\na=range:npt=now-\r\n",
    );
    let name = if clip.spec().coding.is_h265() { "H265" } else { "H264" };
    let _ = write!(sdp, "m=video 0 RTP/AVP 96\r\na=rtpmap:96 {name}/90000\r\n");
    let sets: Vec<String> = clip.parameter_sets().iter().map(|set| STANDARD.encode(set)).collect();
    let fmtp = match (with_sets, sets.as_slice()) {
        (SetsInSdp::Present, [vps, sps, pps]) => format!("sprop-vps={vps};sprop-sps={sps};sprop-pps={pps}"),
        (SetsInSdp::Present, sets) => {
            let profile: String = clip
                .parameter_sets()
                .first()
                .map(|sps| sps.iter().skip(1).take(3).map(|byte| format!("{byte:02x}")).collect())
                .unwrap_or_default();
            format!("packetization-mode=1;profile-level-id={profile};sprop-parameter-sets={}", sets.join(","))
        }
        (SetsInSdp::Absent, [_, _, _]) => String::new(),
        (SetsInSdp::Absent, _) => "packetization-mode=1".to_owned(),
    };
    if !fmtp.is_empty() {
        let _ = write!(sdp, "a=fmtp:96 {fmtp}\r\n");
    }
    let _ = write!(sdp, "a=framerate:{}\r\na=control:{VIDEO_CONTROL}\r\n", clip.spec().fps);
    if audio != Audio::None {
        let _ = write!(sdp, "{}a=control:{AUDIO_CONTROL}\r\n", audio.sdp());
    }
    sdp
}

/// Whether the description carries parameter sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SetsInSdp {
    Present,
    Absent,
}

//! The format parameters of each media of a session description, for clients that don't tell them.

/// What an SDP says about one media (RFC 8866 §5.14).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SdpMedia<'a> {
    /// `"video"`, `"audio"`, …
    pub media: &'a str,
    /// The first payload type offered.
    pub payload_type: u8,
    /// The parameters of that payload type's `a=fmtp` line; empty without one.
    pub fmtp: &'a str,
}

/// The most medias looked at: cameras offer video, audio both ways and metadata.
const MAX_MEDIAS: usize = 32;

/// The medias of `sdp` in order. Lines that cannot be read are passed over; never fails.
pub fn sdp_medias(sdp: &[u8]) -> Vec<SdpMedia<'_>> {
    let mut medias: Vec<SdpMedia<'_>> = Vec::new();
    for line in sdp.split(|byte| *byte == b'\n' || *byte == b'\r') {
        let Ok(line) = std::str::from_utf8(line) else { continue };
        if let Some(media) = line.strip_prefix("m=") {
            if medias.len() == MAX_MEDIAS {
                break;
            }
            // m=<media> <port> <proto> <fmt> ...; one that cannot be read still ends the media before it.
            let mut words = media.split_ascii_whitespace();
            let media = words.next().unwrap_or_default();
            let payload_type = words.nth(2).and_then(|word| word.parse().ok()).unwrap_or(u8::MAX);
            medias.push(SdpMedia { media, payload_type, fmtp: "" });
        } else if let Some(fmtp) = line.strip_prefix("a=fmtp:")
            && let Some((payload_type, fmtp)) = fmtp.trim_start().split_once([' ', '\t'])
            && let Some(media) = medias.last_mut()
            && payload_type.parse() == Ok(media.payload_type)
        {
            media.fmtp = fmtp.trim();
        }
    }
    medias
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_media_has_the_parameters_of_its_first_payload_type() {
        let sdp = b"v=0\r\na=fmtp:96 of=nothing\r\nm=video 0 RTP/AVP 96 97\r\na=rtpmap:96 H264/90000\r\n\
            a=fmtp:97 other=1\r\na=fmtp:96 packetization-mode=1; sprop-parameter-sets=Z0IA,aM4= \r\n\
            m=audio 0 RTP/AVP 0\r\na=fmtp:0\r\nm=application\r\na=\xff\r\n";
        let media = |media, payload_type, fmtp| SdpMedia { media, payload_type, fmtp };
        assert_eq!(
            sdp_medias(sdp),
            [
                media("video", 96, "packetization-mode=1; sprop-parameter-sets=Z0IA,aM4="),
                media("audio", 0, ""),
                media("application", u8::MAX, ""),
            ]
        );
    }
}

//! Audio tracks of cameras: one canned frame each, sent over and over.

/// The audio track of a camera.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Audio {
    /// None.
    #[default]
    None,
    /// G.711 A-law, 8 kHz mono, a tone of 400 Hz in frames of 20 ms.
    Pcma,
    /// Opus, digital silence in frames of 20 ms.
    Opus,
    /// AAC-LC, 48 kHz mono, digital silence.
    Aac,
    /// Declared in the SDP as G.711 A-law, and never a packet sent.
    Silent,
}

/// What a track sends.
#[derive(Clone, Debug)]
pub(crate) struct AudioFormat {
    pub(crate) payload_type: u8,
    /// RTP clock.
    pub(crate) clock_hz: u32,
    /// Ticks of that clock per frame.
    pub(crate) frame_ticks: u32,
    /// RTP payload.
    pub(crate) frame: Vec<u8>,
}

impl Audio {
    /// `None` if it sends nothing.
    pub(crate) fn format(self) -> Option<AudioFormat> {
        match self {
            Self::None | Self::Silent => None,
            Self::Pcma => Some(AudioFormat { payload_type: 8, clock_hz: 8_000, frame_ticks: 160, frame: tone() }),
            // RFC 7587 §4.2: the clock is 48 kHz whatever the bandwidth. CELT full band, 20 ms, mono, silence.
            Self::Opus => Some(AudioFormat {
                payload_type: 97,
                clock_hz: 48_000,
                frame_ticks: 960,
                frame: vec![0xf8, 0xff, 0xfe],
            }),
            Self::Aac => Some(AudioFormat { payload_type: 97, clock_hz: 48_000, frame_ticks: 1024, frame: aac() }),
        }
    }

    /// The media section of the SDP, without its control line; empty for [`Audio::None`].
    pub(crate) fn sdp(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Pcma | Self::Silent => "m=audio 0 RTP/AVP 8\r\na=rtpmap:8 PCMA/8000\r\n",
            Self::Opus => "m=audio 0 RTP/AVP 97\r\na=rtpmap:97 opus/48000/2\r\n",
            // RFC 3640 §4.1; config is the AudioSpecificConfig of AAC-LC, 48 kHz, mono.
            Self::Aac => {
                "m=audio 0 RTP/AVP 97\r\na=rtpmap:97 MPEG4-GENERIC/48000/1\r\na=fmtp:97 streamtype=5;profile-level-id=1;\
                 mode=AAC-hbr;sizelength=13;indexlength=3;indexdeltalength=3;config=1188\r\n"
            }
        }
    }
}

/// 20 ms of 400 Hz at 8 kHz: eight whole periods, so that frames join without a click.
fn tone() -> Vec<u8> {
    const PERIOD: [i16; 20] = [
        0, 2472, 4702, 6472, 7608, 8000, 7608, 6472, 4702, 2472, 0, -2472, -4702, -6472, -7608, -8000, -7608, -6472,
        -4702, -2472,
    ];
    PERIOD.iter().cycle().take(160).map(|&sample| alaw(sample)).collect()
}

/// ITU-T G.711 table 1a: sign, three bits of segment, four bits within it, every other bit inverted.
fn alaw(sample: i16) -> u8 {
    let sign = if sample >= 0 { 0x80 } else { 0 };
    let magnitude = sample.unsigned_abs() >> 4;
    let code = match magnitude.checked_ilog2() {
        Some(top @ 4..) => ((top as u16 - 3) << 4) | ((magnitude >> (top - 4)) & 0x0f),
        _ => magnitude,
    };
    (code as u8 | sign) ^ 0x55
}

/// An AU header of 13 bits of size and 3 of index (RFC 3640 §3.3.6), then a silent mono frame.
fn aac() -> Vec<u8> {
    const SILENCE: [u8; 6] = [0x00, 0xc8, 0x00, 0x80, 0x23, 0x80];
    let header = ((SILENCE.len() as u16) << 3).to_be_bytes();
    [0x00, 0x10].into_iter().chain(header).chain(SILENCE).collect()
}

//! Access units into RTP payloads, once per stream: every viewer sends the same ones.

use std::{sync::Arc, time::Instant};

use relay_media::{Codec, Kind, Packet, Timestamp, Track, Wall, nal::split_length_prefixed};

use super::payload::{Syntax, payloads};

/// The most bytes of an RTP payload of pictures, so that no datagram is longer than 1 200 bytes, which pass
/// everywhere: less 12 of RTP header, 40 of header extensions (four of head, and transport-wide sequence number,
/// absolute send time, MID of at most four characters, playout delay, absolute capture time and the three bytes of a
/// dependency descriptor behind two-byte heads, padded; the descriptor's long form comes with parameter sets only),
/// 2 of the original sequence number in a retransmission and 16 of the SRTP tag.
pub const PAYLOAD_MAX: usize = 1_200 - 12 - 40 - 2 - 16;

/// The most bytes of an audio frame, which RTP can't cut: 1 500 of Ethernet, less 48 of IPv6 and UDP, and the 70 above
/// round 1 382. The largest Opus frame has 1 275 (RFC 6716 §3.4).
const AUDIO_MAX: usize = 1_382;

/// One access unit or audio frame, ready to be sent by any number of sessions.
#[derive(Clone, Debug)]
pub struct RtpUnit {
    /// Video or audio.
    pub kind: Kind,
    /// Presentation time in the track's timebase.
    pub pts: Timestamp,
    /// A decoder can start here.
    pub key: bool,
    /// The sum of the payloads' lengths.
    pub bytes: usize,
    /// The RTP payloads in sending order; never empty. Those of pictures have at most [`PAYLOAD_MAX`] bytes, and the
    /// fragments of one NAL unit all the same length but for the last. Those of a key frame begin with one that has
    /// parameter sets and SEI only.
    pub payloads: Vec<Arc<[u8]>>,
    /// When the packet's last byte was read, on the monotonic clock.
    pub arrival: Instant,
    /// The time of day of `pts`.
    pub wall: Wall,
}

/// Cuts a stream's access units into RTP payloads.
#[derive(Debug, Default)]
pub struct Packetizer {
    /// The track whose parameter sets have last been put in band.
    announced: Option<Arc<Track>>,
}

impl Packetizer {
    /// A packetizer at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether WebRTC has a payload format for `codec` that browsers take.
    pub fn carries(codec: &Codec) -> bool {
        matches!(codec, Codec::H264(_) | Codec::H265(_) | Codec::Opus(_) | Codec::G711(_))
    }

    /// The payloads of an access unit or audio frame; `None` for what WebRTC can't carry (AAC), for audio frames
    /// longer than an Ethernet frame, and for units with nothing in them.
    ///
    /// Parameter sets stand before each key frame, and before the first unit that needs new ones: browsers take them
    /// from nowhere else. They come from the track, unless the unit carries its own.
    pub fn packetize(&mut self, packet: &Packet) -> Option<RtpUnit> {
        let payloads = match &packet.track.codec {
            Codec::H264(config) => {
                let sets = self.announce(packet).then(|| [config.sps(), config.pps()].map(AsRef::as_ref));
                video(Syntax::H264, packet, sets.as_ref().map(<[&[u8]; 2]>::as_slice))
            }
            Codec::H265(config) => {
                let sets = self.announce(packet).then(|| [config.vps(), config.sps(), config.pps()].map(AsRef::as_ref));
                video(Syntax::H265, packet, sets.as_ref().map(<[&[u8]; 3]>::as_slice))
            }
            // RFC 7587 §4.2 and RFC 3551 §4.5.14: one packet is one frame or run of samples, as it is.
            Codec::Opus(_) | Codec::G711(_) if packet.payload.len() <= AUDIO_MAX && !packet.payload.is_empty() => {
                vec![Arc::from(packet.payload.as_ref())]
            }
            Codec::Opus(_) | Codec::G711(_) | Codec::Aac(_) => return None,
        };
        (!payloads.is_empty()).then(|| RtpUnit {
            kind: packet.track.kind(),
            pts: packet.pts,
            key: packet.is_key(),
            bytes: payloads.iter().map(|payload| payload.len()).sum(),
            payloads,
            arrival: packet.arrival,
            wall: packet.wall,
        })
    }

    /// The parameter sets belong before this unit.
    fn announce(&mut self, packet: &Packet) -> bool {
        let same = self
            .announced
            .as_ref()
            .is_some_and(|track| Arc::ptr_eq(track, &packet.track) || track.codec == packet.track.codec);
        if !same {
            self.announced = Some(packet.track.clone());
        }
        !same || packet.is_key()
    }
}

/// The payloads of a picture, `sets` before it where it has none of their type.
fn video(syntax: Syntax, packet: &Packet, sets: Option<&[&[u8]]>) -> Vec<Arc<[u8]>> {
    let own = || split_length_prefixed(&packet.payload).filter(|nal| syntax.is_sent(nal));
    if own().next().is_none() {
        return Vec::new();
    }
    let in_band = |set: &&&[u8]| own().any(|nal| syntax.kind(nal) == syntax.kind(set));
    let missing = sets.unwrap_or_default().iter().filter(|set| !in_band(set)).copied();
    payloads(syntax, missing.chain(own()), sets.is_some())
}

//! A viewer: str0m as the client, and what it got.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Instant};

use relay_rtp::{AfterLoss, Depacketizer, Format, RtpPacket};
use str0m::{
    Candidate, Event, Input, Output, Rtc,
    change::SdpAnswer,
    media::{Direction, KeyframeRequestKind, MediaKind, Mid},
    net::{Protocol, Receive, Transmit},
};

/// One received RTP packet.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    pub(crate) at: Instant,
    pub(crate) timestamp: u32,
    pub(crate) marker: bool,
    pub(crate) playout: Option<(u64, u64)>,
    pub(crate) payload: Arc<[u8]>,
}

pub(crate) struct Viewer {
    pub(crate) rtc: Rtc,
    pub(crate) connected: bool,
    pub(crate) closed: bool,
    pub(crate) timeout: Instant,
    video: Mid,
    audio: Option<Mid>,
    /// By extended sequence number.
    pub(crate) pictures: BTreeMap<u64, Got>,
    pub(crate) sounds: BTreeMap<u64, Got>,
    /// Sender reports: which medium, its time of day in nanoseconds and RTP time in ticks.
    pub(crate) reports: Vec<(Mid, std::time::SystemTime, u64)>,
}

impl Viewer {
    /// A viewer at `address`, and its offer.
    pub(crate) fn new(
        address: SocketAddr,
        sound: bool,
        now: Instant,
    ) -> (Self, String, str0m::change::SdpPendingOffer) {
        let mut rtc = Rtc::builder()
            .set_rtp_mode(true)
            .clear_extension_map()
            .set_extension(2, str0m::rtp::Extension::AbsoluteSendTime)
            .set_extension(3, str0m::rtp::Extension::TransportSequenceNumber)
            .set_extension(4, str0m::rtp::Extension::RtpMid)
            .set_extension(5, str0m::rtp::Extension::PlayoutDelay)
            .set_extension(6, str0m::rtp::Extension::AbsoluteCaptureTime)
            .build(now);
        rtc.add_local_candidate(Candidate::host(address, "udp").unwrap());
        let mut changes = rtc.sdp_api();
        let video = changes.add_media(MediaKind::Video, Direction::RecvOnly, None, None, None);
        let audio = sound.then(|| changes.add_media(MediaKind::Audio, Direction::RecvOnly, None, None, None));
        let (offer, pending) = changes.apply().unwrap();
        let viewer = Self {
            rtc,
            connected: false,
            closed: false,
            timeout: now,
            video,
            audio,
            pictures: BTreeMap::new(),
            sounds: BTreeMap::new(),
            reports: Vec::new(),
        };
        (viewer, offer.to_sdp_string(), pending)
    }

    pub(crate) fn accept(&mut self, pending: str0m::change::SdpPendingOffer, answer: &str) {
        self.rtc.sdp_api().accept_answer(pending, SdpAnswer::from_sdp_string(answer).unwrap()).unwrap();
    }

    pub(crate) fn receive(&mut self, now: Instant, source: SocketAddr, destination: SocketAddr, bytes: &[u8]) {
        let received = Receive::new(Protocol::Udp, source, destination, bytes).unwrap();
        self.rtc.handle_input(Input::Receive(now, received)).unwrap();
    }

    pub(crate) fn ask_for_key_frame(&mut self) {
        let mut api = self.rtc.direct_api();
        api.stream_rx_by_mid(self.video, None).unwrap().request_keyframe(KeyframeRequestKind::Pli);
    }

    /// What it sends, until it waits.
    pub(crate) fn drain(&mut self) -> Vec<Transmit> {
        let mut out = Vec::new();
        loop {
            match self.rtc.poll_output().unwrap() {
                Output::Timeout(at) => {
                    self.timeout = at;
                    return out;
                }
                Output::Transmit(transmit) => out.push(transmit),
                Output::Event(Event::Connected) => self.connected = true,
                Output::Event(Event::Closed) => self.closed = true,
                Output::Event(Event::RtpPacket(packet)) => self.take(packet),
                Output::Event(Event::SenderFeedback(feedback)) => {
                    let info = feedback.sender_info;
                    self.reports.push((feedback.mid, info.ntp_time, info.rtp_time.numer()));
                }
                Output::Event(_) => {}
            }
        }
    }

    fn take(&mut self, packet: str0m::rtp::RtpPacket) {
        let values = &packet.header.ext_vals;
        let hundredths = |time: str0m::media::MediaTime| time.rebase(str0m::media::Frequency::HUNDREDTHS).numer();
        let playout = values.play_delay_min.zip(values.play_delay_max);
        let got = Got {
            at: packet.timestamp,
            timestamp: packet.header.timestamp,
            marker: packet.header.marker,
            playout: playout.map(|(min, max)| (hundredths(min), hundredths(max))),
            payload: packet.payload,
        };
        let is_audio = packet.header.payload_type.to_string() == "111";
        let track = if is_audio { &mut self.sounds } else { &mut self.pictures };
        track.entry(*packet.seq_no).or_insert(got);
    }

    pub(crate) fn audio_mid(&self) -> Option<Mid> {
        self.audio
    }

    pub(crate) fn video_mid(&self) -> Mid {
        self.video
    }

    /// The pictures, whole and in order: the NAL units that relay-rtp reads, when the last packet came, and the RTP
    /// timestamp. The second value is the number of lost packets.
    pub(crate) fn whole_pictures(&self) -> (Vec<Picture>, u64) {
        let format = Format::parse("h264", 90_000, None, "packetization-mode=1").unwrap();
        let mut depacketizer = Depacketizer::new(&format, AfterLoss::PassOn);
        let (mut out, mut lost, mut expected) = (Vec::new(), 0, None);
        let mut playout = None;
        for (&sequence, got) in &self.pictures {
            let gap = expected.map_or(0, |expected: u64| sequence - expected);
            lost += gap;
            expected = Some(sequence + 1);
            playout = got.playout.or(playout);
            depacketizer.push(RtpPacket {
                payload: &got.payload,
                timestamp: i64::from(got.timestamp),
                marker: got.marker,
                lost_before: u32::try_from(gap).unwrap(),
                arrival: got.at,
            });
            while let Some(unit) = depacketizer.poll() {
                out.push(Picture {
                    at: got.at,
                    timestamp: got.timestamp,
                    playout,
                    key: unit.flags.contains(relay_media::Flags::KEY),
                    payload: unit.payload.to_vec(),
                });
            }
        }
        (out, lost)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Picture {
    pub(crate) at: Instant,
    pub(crate) timestamp: u32,
    pub(crate) playout: Option<(u64, u64)>,
    pub(crate) key: bool,
    /// NAL units behind lengths, without parameter sets.
    pub(crate) payload: Vec<u8>,
}

impl Picture {
    /// The camera's frame number.
    pub(crate) fn number(&self) -> u32 {
        u32::from_str_radix(std::str::from_utf8(&self.payload[7..15]).unwrap(), 16).unwrap()
    }
}

//! What goes through a session, counted and remembered for its report.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use str0m::{
    Event as RtcEvent,
    rtp::{
        RawPacket,
        rtcp::{Rtcp, Twcc},
    },
    stats::MediaEgressStats,
};

use super::{
    ADDRESSES_MAX, CloseCause, Event, Protocol, SETTLE, SelectedPair, Session, SessionState, Transmit,
    playout::Playout, transport_number,
};

/// How often str0m sums up what RTCP said.
pub(super) const STATS_INTERVAL: Duration = Duration::from_secs(1);

/// What a datagram is, by its first bytes (RFC 7983 §7, RFC 5761 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wire {
    Stun,
    Dtls,
    Rtcp,
    Rtp,
    Unknown,
}

impl Wire {
    fn of(bytes: &[u8]) -> Self {
        match bytes {
            [0..=3, ..] => Self::Stun,
            [20..=63, ..] => Self::Dtls,
            [128..=191, second, ..] if matches!(second & 0x7f, 64..=95) => Self::Rtcp,
            [128..=191, ..] => Self::Rtp,
            _ => Self::Unknown,
        }
    }
}

impl Session {
    /// Counts a received datagram, and takes it as a sign of life where it comes from the viewer's selected address.
    pub(super) fn count_received(&mut self, now: Instant, protocol: Protocol, source: SocketAddr, bytes: &[u8]) {
        let report = &mut self.report;
        match Wire::of(bytes) {
            Wire::Stun => {
                report.stun_received += 1;
                if report.stun_from.len() < ADDRESSES_MAX && !report.stun_from.contains(&(protocol, source)) {
                    report.stun_from.push((protocol, source));
                }
                if report.state == SessionState::New {
                    report.state = SessionState::Ice;
                }
                // Whether it is valid shows when str0m answers it.
                return;
            }
            Wire::Dtls => {
                report.dtls_received += 1;
                if report.state == SessionState::Ice && report.ice_after.is_some() {
                    report.state = SessionState::Dtls;
                }
            }
            Wire::Rtcp => report.rtcp_received += 1,
            Wire::Rtp | Wire::Unknown => return,
        }
        if report.selected.is_some_and(|pair| pair.remote == source) {
            self.heard = now;
        }
    }

    /// Counts a datagram of str0m's and addresses it. `None`: it has no candidate to leave from.
    pub(super) fn count_sent(&mut self, now: Instant, transmit: str0m::net::Transmit) -> Option<Transmit> {
        let local = self.candidates.base(transmit.proto, transmit.source)?;
        let contents: Vec<u8> = transmit.contents.into();
        let wire = Wire::of(&contents);
        match (wire, contents.as_slice()) {
            // A Binding success response (RFC 8489 §5): the check had the right password.
            (Wire::Stun, [1, 1, ..]) => {
                self.heard = now;
                self.report.ice_after.get_or_insert(now.saturating_duration_since(self.started));
            }
            (Wire::Rtp, bytes) => self.count_rtp(now, bytes),
            _ => {}
        }
        if wire != Wire::Stun {
            let pair = SelectedPair { protocol: local.protocol, local: local.base, remote: transmit.destination };
            self.report.selected = Some(pair);
        }
        self.report.bytes_sent += u64::try_from(contents.len()).unwrap_or_default();
        Some(Transmit { protocol: local.protocol, source: local.base, destination: transmit.destination, contents })
    }

    /// RTP headers are not encrypted: the SSRC tells media from retransmissions and padding.
    fn count_rtp(&mut self, now: Instant, bytes: &[u8]) {
        let Some(ssrc) = bytes.get(8..12).and_then(|bytes| bytes.first_chunk()).copied().map(u32::from_be_bytes) else {
            return;
        };
        if [&self.video, &self.audio].into_iter().flatten().any(|source| source.ssrc == ssrc) {
            self.report.packets_sent += 1;
        } else {
            self.report.retransmitted += 1;
            if let Some(playout) = self.playout() {
                playout.repaired(now);
            }
        }
    }

    /// Sees packets before they are encrypted, and RTCP after.
    fn observe_packet(&mut self, now: Instant, packet: RawPacket) {
        match packet {
            RawPacket::RtpTx(header, bytes) => {
                let number = self.transport_number.and_then(|id| transport_number::of(&bytes, id));
                let payload = bytes.len().saturating_sub(header.header_len);
                let is_video = self.video.as_ref().is_some_and(|video| video.ssrc == *header.ssrc);
                self.congestion.left(now, number, payload, is_video);
            }
            RawPacket::RtcpRx(Rtcp::Twcc(feedback)) => self.observe_feedback(now, feedback),
            _ => {}
        }
    }

    fn observe_feedback(&mut self, now: Instant, feedback: Twcc) {
        let told = feedback.into_iter(self.started, 0.into());
        self.congestion.report(now, told.map(|(number, _, at)| (*number as u16, at)));
        if self.queue.is_empty() && self.timeline.is_live() && self.congestion.all_arrived() {
            self.settle();
        }
        let (bps, told) = (self.congestion.estimate_bps(), self.report.estimate_bps);
        if let Some(bps) = bps.filter(|bps| told.is_none_or(|told| bps.abs_diff(told) > told / 10)) {
            self.report.estimate_bps = Some(bps);
            self.events.push_back(Event::EstimateChanged(bps));
        }
    }

    /// Takes note of an event of str0m's.
    pub(super) fn observe(&mut self, now: Instant, event: RtcEvent) {
        match event {
            RtcEvent::Connected => {
                self.report.state = SessionState::Connected;
                self.report.connected_after = Some(now.saturating_duration_since(self.started));
                self.heard = now;
                self.settle_at = Some(now + SETTLE);
                self.events.push_back(Event::Connected);
            }
            RtcEvent::KeyframeRequest(_) => self.events.push_back(Event::KeyFrameWanted),
            RtcEvent::RawPacket(packet) => self.observe_packet(now, *packet),
            RtcEvent::MediaEgressStats(stats) => self.observe_egress(now, &stats),
            RtcEvent::Closed => {
                self.ending.get_or_insert(CloseCause::ByViewer);
            }
            _ => {}
        }
    }

    fn observe_egress(&mut self, now: Instant, stats: &MediaEgressStats) {
        let Some(video) = self.video.as_ref().or(self.audio.as_ref()) else { return };
        if stats.mid != video.mid {
            return;
        }
        let report = &mut self.report;
        report.nacks = stats.nacks;
        report.plis = stats.plis.saturating_add(stats.firs);
        report.rtt = stats.rtt.or(self.congestion.round_trip()).or(report.rtt);
        if let Some(loss) = stats.loss {
            report.fraction_lost_milli = (loss * 1_000.0).clamp(0.0, 1_000.0) as u32;
        }
        if let Some(remote) = &stats.remote {
            report.jitter =
                relay_media::Timebase::new(video.clock_hz).map(|clock| clock.duration(i64::from(remote.jitter)));
        }
        let round_trip = report.rtt;
        if let Some(playout) = self.playout() {
            playout.adapt(now, round_trip);
        }
    }

    fn playout(&mut self) -> Option<&mut Playout> {
        self.video.as_mut().and_then(|video| video.playout.as_mut())
    }
}

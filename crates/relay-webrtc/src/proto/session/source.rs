//! One track on its way to one viewer.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, SystemTime},
};

use relay_media::{Kind, UtcTime};
use str0m::{
    Rtc,
    media::{MediaTime, Mid},
    rtp::{AbsCaptureTime, ExtensionValues, RtpWrite, StreamTx},
};

use super::{
    dependency,
    playout::{self, Playout},
};
use crate::proto::{packetizer::RtpUnit, timeline::Place};

/// Packets that can be sent again: 350 KB, which is every usual key frame. The cache doubles from ten as it grows, so
/// this is one of the sizes that it takes.
const CACHE_PACKETS: usize = 320;

/// How long they can be while a joiner is fed, and on the live edge: there a third repair over 150 ms of round trip.
/// The cache grows with what it holds, some 400 bytes a packet, and shrinks only by being made anew.
const CACHE_AGE_JOINING: Duration = Duration::from_secs(1);
const CACHE_AGE_LIVE: Duration = Duration::from_millis(550);

/// Of all bytes, how many may be retransmissions; what is asked for above it is not sent again.
const RETRANSMISSION_SHARE: f32 = 0.25;

/// A sender of one track, as the answer announces it.
#[derive(Debug)]
pub(in crate::proto) struct Source {
    pub(super) mid: Mid,
    pub(in crate::proto) ssrc: u32,
    pub(in crate::proto) retransmission_ssrc: Option<u32>,
    pub(super) payload_type: u8,
    pub(in crate::proto) clock_hz: u32,
    pub(in crate::proto) timestamp_offset: u32,
    pub(super) next_sequence: u64,
    /// Something has been sent.
    pub(super) began: bool,
    /// How long pictures should be held back, where the viewer can be told.
    pub(super) playout: Option<Playout>,
    pub(super) capture_time: bool,
    /// The viewer is told which picture needs which.
    pub(super) dependencies: bool,
    /// The number of the next picture.
    pub(super) next_frame: u16,
    /// Header extensions of this m-line: number and URI.
    pub(in crate::proto) extensions: Vec<(u8, String)>,
    /// The canonical name that RTCP carries (RFC 3550 §6.5.1).
    pub(in crate::proto) cname: String,
}

/// Bounds what str0m keeps for retransmissions. The payloads are shared with all viewers, a packet costs its header.
pub(super) fn retransmission_cache(stream: &mut StreamTx, kind: Kind) {
    match kind {
        Kind::Video => stream.set_rtx_cache(CACHE_PACKETS, CACHE_AGE_JOINING, Some(RETRANSMISSION_SHARE)),
        Kind::Audio => stream.set_rtx_cache(1, CACHE_AGE_JOINING, None),
    }
}

/// A payload on its way to str0m.
#[derive(Clone, Debug)]
pub(super) struct Queued {
    pub(super) payload: Arc<[u8]>,
    place: Place,
    marker: bool,
    hints: Hints,
    dependency: Option<dependency::Place>,
}

/// What header extensions tell of a unit; the same for all of its packets, so that they have the same length.
#[derive(Clone, Copy, Debug, Default)]
struct Hints {
    /// Minimum and maximum playout delay in hundredths of a second.
    playout: Option<playout::Delay>,
    captured: Option<UtcTime>,
}

impl Source {
    /// Queues a unit's payloads.
    pub(super) fn queue(&mut self, unit: &RtpUnit, place: Place, queue: &mut VecDeque<Queued>) {
        let hints = self.hints(unit, place);
        let last = unit.payloads.len().saturating_sub(1);
        // The very first packet is the one whose loss nobody notices and asks for: parameter sets go out twice then.
        let twice = !self.began && unit.key && last > 0;
        self.began = true;
        let first = unit.payloads.first().filter(|_| twice).into_iter();
        for (index, payload) in first.map(|payload| (0, payload)).chain(unit.payloads.iter().enumerate()) {
            // RFC 6184 §5.1: the marker says that the picture is complete; in audio (RFC 3551 §4.1) it would be the
            // start of a talkspurt, which live sound has none of.
            let marker = unit.kind == Kind::Video && index == last;
            let (frame, key) = (self.next_frame, unit.key);
            let dependency = dependency::Place { frame, key, first: index == 0, last: index == last };
            let dependency = Some(dependency).filter(|_| self.dependencies);
            queue.push_back(Queued { payload: payload.clone(), place, marker, hints, dependency });
        }
        self.next_frame = self.next_frame.wrapping_add(1);
    }

    /// Remembers nothing of what was sent for retransmissions, and less from now on.
    pub(super) fn settle(&mut self, rtc: &mut Rtc) {
        if let Some(stream) = rtc.direct_api().stream_tx_by_mid(self.mid, None) {
            stream.set_rtx_cache(CACHE_PACKETS, CACHE_AGE_LIVE, Some(RETRANSMISSION_SHARE));
        }
    }

    /// Hands a unit's payloads to str0m at once.
    pub(super) fn write_all(&mut self, rtc: &mut Rtc, unit: &RtpUnit, place: Place) {
        let hints = self.hints(unit, place);
        for payload in &unit.payloads {
            self.write(rtc, Queued { payload: payload.clone(), place, marker: false, hints, dependency: None });
        }
    }

    /// Hands a payload to str0m.
    pub(super) fn write(&mut self, rtc: &mut Rtc, queued: Queued) {
        let Queued { payload, place, marker, hints, dependency } = queued;
        let mut values = ExtensionValues::from(hints);
        if let Some(dependency) = dependency {
            dependency.put(&mut values);
        }
        let mut api = rtc.direct_api();
        let Some(stream) = api.stream_tx_by_mid(self.mid, None) else { return };
        let sequence = self.next_sequence.into();
        self.next_sequence += 1;
        let write = RtpWrite::new(self.payload_type.into(), sequence, place.rtp, place.instant, payload)
            .marker(marker)
            .nackable(self.retransmission_ssrc.is_some())
            .ext_vals(values);
        stream.write_rtp(write);
    }

    fn hints(&mut self, unit: &RtpUnit, place: Place) -> Hints {
        let tell = |playout: &mut Playout| match place.catching_up {
            true => Some(playout::CATCHING_UP),
            false => playout.tell(unit.key),
        };
        Hints {
            playout: self.playout.as_mut().and_then(tell),
            captured: (self.capture_time && unit.key).then_some(unit.wall.utc),
        }
    }
}

impl From<Hints> for ExtensionValues {
    fn from(hints: Hints) -> Self {
        let mut values = Self::default();
        if let Some((min, max)) = hints.playout {
            values.play_delay_min = Some(MediaTime::from_hundredths(min));
            values.play_delay_max = Some(MediaTime::from_hundredths(max));
        }
        values.abs_capture_time =
            hints.captured.map(|utc| AbsCaptureTime { capture_time: system_time(utc), clock_offset: None });
        values
    }
}

fn system_time(utc: UtcTime) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(u64::try_from(utc.unix_nanos()).unwrap_or_default())
}

//! Tells a connection that is up from one that is useful; time is an argument.

use std::{
    fmt,
    time::{Duration, Instant},
};

use relay_media::{Kind, Packet, Timestamp};

/// How long is too long.
#[derive(Clone, Debug)]
pub struct StallLimits {
    /// Without packets, without video, or without progress of its timestamps.
    pub timeout: Duration,
    /// With video but without a key frame: cameras with a GOP of 10 s are common.
    pub key_frame_timeout: Duration,
    /// The connection carries video, so that audio alone is not enough.
    pub expects_video: bool,
    /// Tracks of these kinds must not fall silent either.
    pub required: Vec<Kind>,
}

/// Why a connection that is up is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stall {
    /// No packet at all.
    Silent(Duration),
    /// Audio flows, video does not.
    VideoDead(Duration),
    /// Video flows, and nobody can decode it.
    NoKeyFrame(Duration),
    /// Video flows, and its clock stands still.
    TimestampsFrozen(Duration),
    /// A required track fell silent.
    TrackSilent(Kind, Duration),
}

impl Stall {
    /// A fixed word for counting.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Silent(_) => "stalled",
            Self::VideoDead(_) => "video_dead",
            Self::NoKeyFrame(_) => "no_key_frame",
            Self::TimestampsFrozen(_) => "timestamps_frozen",
            Self::TrackSilent(..) => "track_silent",
        }
    }
}

impl fmt::Display for Stall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent(time) => write!(f, "connected, but nothing came for {time:.1?}"),
            Self::VideoDead(time) => write!(f, "audio flows, but no video came for {time:.1?}"),
            Self::NoKeyFrame(time) => write!(f, "video flows, but no key frame came for {time:.1?}"),
            Self::TimestampsFrozen(time) => {
                write!(f, "video flows, but its timestamps stood still for {time:.1?}")
            }
            Self::TrackSilent(kind, time) => {
                write!(f, "the required {} track was silent for {time:.1?}", kind.as_str())
            }
        }
    }
}

/// Watches one connection.
#[derive(Clone, Debug)]
pub struct StallDetector {
    limits: StallLimits,
    any: Instant,
    video: Instant,
    audio: Instant,
    key_frame: Option<Instant>,
    started: Instant,
    /// The newest video timestamp, when it last really advanced, and when the newest picture came.
    progress: Option<Progress>,
}

#[derive(Clone, Copy, Debug)]
struct Progress {
    dts: Timestamp,
    advanced: Instant,
    seen: Instant,
}

impl StallDetector {
    /// A connection that was set up at `now`.
    pub fn new(limits: StallLimits, now: Instant) -> Self {
        Self { limits, any: now, video: now, audio: now, key_frame: None, started: now, progress: None }
    }

    /// A packet came.
    pub fn on_packet(&mut self, packet: &Packet) {
        /// A normaliser lifts frozen timestamps by a tick a packet; real ones advance by more than this per packet.
        const FROZEN_STEP: Duration = Duration::from_micros(500);
        let now = packet.arrival;
        self.any = now;
        if packet.track.kind() == Kind::Audio {
            self.audio = now;
            return;
        }
        self.video = now;
        if packet.is_key() {
            self.key_frame = Some(now);
        }
        let frozen = self.progress.filter(|last| packet.dts.since(last.dts) <= FROZEN_STEP);
        self.progress =
            Some(Progress { dts: packet.dts, advanced: frozen.map_or(now, |last| last.advanced), seen: now });
    }

    /// Something of a track came that makes no packet (yet): pictures that wait for a key frame or for parameter sets.
    pub fn on_activity(&mut self, kind: Kind, now: Instant) {
        self.any = now;
        match kind {
            Kind::Video => self.video = now,
            Kind::Audio => self.audio = now,
        }
    }

    /// A key frame was seen, or there is no video to wait for and packets came.
    pub fn healthy(&self) -> bool {
        if self.limits.expects_video { self.key_frame.is_some() } else { self.any > self.started }
    }

    /// What is wrong at `now`, if anything.
    pub fn check(&self, now: Instant) -> Option<Stall> {
        let timeout = self.limits.timeout;
        let over = |since: Instant, limit: Duration| {
            Some(now.saturating_duration_since(since)).filter(|silence| *silence >= limit)
        };
        if let Some(silence) = over(self.any, timeout) {
            return Some(Stall::Silent(silence));
        }
        if self.limits.expects_video {
            if let Some(silence) = over(self.video, timeout) {
                return Some(if self.audio > self.video { Stall::VideoDead(silence) } else { Stall::Silent(silence) });
            }
            if self.key_frame.is_none()
                && let Some(silence) = over(self.started, self.limits.key_frame_timeout)
            {
                return Some(Stall::NoKeyFrame(silence));
            }
            let frozen = self.progress.map(|last| last.seen.saturating_duration_since(last.advanced));
            if let Some(frozen) = frozen.filter(|frozen| *frozen >= timeout) {
                return Some(Stall::TimestampsFrozen(frozen));
            }
        }
        let silent = |kind: &Kind| match kind {
            Kind::Video => None,
            Kind::Audio => over(self.audio, timeout).map(|silence| Stall::TrackSilent(*kind, silence)),
        };
        self.limits.required.iter().find_map(silent)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use relay_media::{Codec, Flags, Timebase, Track, TrackId, UtcTime, Wall, WallOrigin, g711, h264};

    use super::*;

    /// What a row feeds, each at a second.
    #[derive(Clone, Copy)]
    enum Fed {
        Key(u64),
        Picture(u64),
        Frozen(u64),
        Audio(u64),
        Unassembled(u64),
    }

    fn check(expects_video: bool, required: &[Kind], fed: &[Fed], at: u64) -> Option<&'static str> {
        #[expect(clippy::disallowed_methods, reason = "any instant does")]
        let start = Instant::now();
        let limits = StallLimits {
            timeout: Duration::from_secs(5),
            key_frame_timeout: Duration::from_secs(20),
            expects_video,
            required: required.to_vec(),
        };
        let mut detector = StallDetector::new(limits, start);
        for fed in fed {
            let (second, kind, flags, dts) = match *fed {
                Fed::Key(second) => (second, Kind::Video, Flags::KEY, second * 90_000),
                Fed::Picture(second) => (second, Kind::Video, Flags::empty(), second * 90_000),
                Fed::Frozen(second) => (second, Kind::Video, Flags::empty(), second),
                Fed::Audio(second) => (second, Kind::Audio, Flags::empty(), second * 90_000),
                Fed::Unassembled(second) => {
                    detector.on_activity(Kind::Video, start + Duration::from_secs(second));
                    continue;
                }
            };
            detector.on_packet(&packet(kind, flags, dts as i64, start + Duration::from_secs(second)));
        }
        detector.check(start + Duration::from_secs(at)).map(Stall::reason)
    }

    fn h264() -> h264::Config {
        let sps = [0x67, 0x42, 0xc0, 0x0a, 0xda, 0x79];
        h264::Config::parse(&sps, &[0x68, 0xce, 0x3c, 0x80]).expect("a QCIF baseline SPS")
    }

    fn packet(kind: Kind, flags: Flags, dts: i64, arrival: Instant) -> Packet {
        let codec = match kind {
            Kind::Video => Codec::H264(h264()),
            Kind::Audio => Codec::G711(g711::Config { law: g711::Law::A, sample_rate: 8_000, channels: 1 }),
        };
        let time = Timestamp::new(dts, Timebase::VIDEO);
        Packet {
            track: Arc::new(Track { id: TrackId(1), codec, timebase: Timebase::VIDEO }),
            dts: time,
            pts: time,
            duration: None,
            arrival,
            wall: Wall { utc: UtcTime::from_unix_nanos(0), origin: WallOrigin::Arrival },
            flags,
            payload: Bytes::new(),
        }
    }

    #[test]
    fn each_stall_has_its_name() {
        use Fed::*;
        for (expects_video, required, fed, at, expected) in [
            (true, &[][..], &[][..], 4, None),
            (true, &[], &[], 5, Some("stalled")),
            (true, &[], &[Key(1), Picture(2)], 6, None),
            (true, &[], &[Key(1), Picture(2)], 7, Some("stalled")),
            (true, &[], &[Key(1), Audio(2), Audio(5)], 6, Some("video_dead")),
            (true, &[], &[Audio(2), Audio(5)], 6, Some("video_dead")),
            (true, &[], &[Picture(2), Unassembled(8), Unassembled(16)], 19, None),
            (true, &[], &[Unassembled(8), Unassembled(16)], 20, Some("no_key_frame")),
            (true, &[], &[Key(1), Frozen(2), Frozen(3), Frozen(4), Frozen(6)], 7, Some("timestamps_frozen")),
            (false, &[], &[Audio(2), Audio(5)], 9, None),
            (true, &[], &[Key(1), Audio(1), Picture(4), Picture(7)], 8, None),
            (true, &[Kind::Audio], &[Key(1), Audio(1), Picture(4), Picture(7)], 8, Some("track_silent")),
        ] {
            assert_eq!(check(expects_video, required, fed, at), expected, "at {at} s");
        }
    }
}

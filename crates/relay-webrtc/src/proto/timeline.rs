//! When each unit is to be shown, and the RTP timestamp that says so.
//!
//! One line maps monotonic time to RTP time for the whole session, per track with its own clock and offset; sender
//! reports tell it to the viewer. What varies is the instant that a unit is put at:
//!
//! - While a joiner is fed its backlog, a unit's instant is the moment in which it is sent. A browser paces pictures
//!   by their timestamps: it plays the backlog as fast as it arrives, ten seconds of it in one, and is live then.
//! - From the live edge on, the instant advances with media time, from an anchor that is set once: no jitter of the
//!   source or of this server gets in, and a gap in what is sent (a jump to a key frame) is a gap on the line.

use std::time::{Duration, Instant};

use relay_media::{Kind, Timestamp};

use super::packetizer::RtpUnit;

/// A backlog up to this is the live edge: one or two frames that wait while the joiner is fed.
const LIVE_EDGE: Duration = Duration::from_millis(100);

/// Media time that goes back by more than this begins anew.
const BACK: Duration = Duration::from_secs(1);

/// Where a unit belongs on the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// RTP timestamp.
    pub(super) rtp: u32,
    /// The instant that the line maps to this timestamp; never after the moment of sending.
    pub(super) instant: Instant,
    /// The unit belongs to a joiner's backlog.
    pub(super) catching_up: bool,
}

/// The timestamps of one session.
#[derive(Debug)]
pub(super) struct Timeline {
    /// The instant of each track's timestamp zero plus offset.
    origin: Instant,
    /// The media time that the tracks' anchors stand for, once the session has caught up.
    anchor: Option<Timestamp>,
    video: Track,
    audio: Track,
}

#[derive(Debug)]
struct Track {
    clock_hz: u32,
    /// RTP timestamp of the origin: random (RFC 3550 §5.1).
    offset: u32,
    /// Ticks since the origin, of the last unit.
    last: Option<i64>,
    /// Its presentation time.
    last_pts: Option<Timestamp>,
    /// Ticks since the origin, of the anchor.
    anchor: i64,
}

impl Timeline {
    /// A line that starts at `origin`. `video` and `audio` are the tracks' RTP clocks and offsets.
    pub(super) fn new(origin: Instant, video: (u32, u32), audio: (u32, u32)) -> Self {
        let track = |(clock_hz, offset)| Track { clock_hz, offset, last: None, last_pts: None, anchor: 0 };
        Self { origin, anchor: None, video: track(video), audio: track(audio) }
    }

    /// The viewer has caught up: what it is sent has the times of the media.
    pub(super) fn is_live(&self) -> bool {
        self.anchor.is_some()
    }

    /// The place of a unit that is sent at `now`, `backlog` of media time behind the live edge. `None`: audio of the
    /// backlog, which is not sent, as no browser plays sound faster.
    pub(super) fn place(&mut self, unit: &RtpUnit, backlog: Duration, now: Instant) -> Option<Place> {
        let went_back = |last: Timestamp| last.nanos_since(unit.pts) > BACK.as_nanos() as i64;
        if self.track(unit.kind).last_pts.replace(unit.pts).is_some_and(went_back) {
            // The source began anew, or the viewer does.
            self.anchor = None;
        }
        if self.anchor.is_none() {
            self.try_anchor(unit, backlog, now);
        }
        let catching_up = !self.is_live();
        if catching_up && unit.kind == Kind::Audio {
            return None;
        }
        let ticks = self.ticks(unit, now);
        let track = self.track(unit.kind);
        // Strictly increasing: pictures of the same timestamp would be one picture.
        let ticks = track.last.map_or(ticks, |last| ticks.max(last + 1));
        track.last = Some(ticks);
        // Modulo 2^32 (RFC 3550 §5.1).
        let rtp = track.offset.wrapping_add(ticks as u32);
        let instant = self.origin + duration(ticks, self.track(unit.kind).clock_hz);
        Some(Place { rtp, instant: self.not_after(instant, now), catching_up })
    }

    /// The RTP time of the unit, in ticks since the origin.
    fn ticks(&mut self, unit: &RtpUnit, now: Instant) -> i64 {
        let since_origin = now.saturating_duration_since(self.origin);
        let anchor = self.anchor;
        let track = self.track(unit.kind);
        let sent = ticks(nanos(since_origin), track.clock_hz);
        let Some(anchor) = anchor else { return sent };
        track.anchor + ticks(unit.pts.nanos_since(anchor), track.clock_hz)
    }

    /// Goes over to media time, once the line can do so without going back.
    fn try_anchor(&mut self, unit: &RtpUnit, backlog: Duration, now: Instant) {
        let live = now.checked_sub(backlog).unwrap_or(self.origin).max(self.origin);
        let last = self.video.last.map(|last| self.origin + duration(last, self.video.clock_hz));
        if backlog <= LIVE_EDGE && last.is_none_or(|last| last < live) {
            self.set_anchor(unit.pts, live);
        }
    }

    fn set_anchor(&mut self, pts: Timestamp, instant: Instant) {
        let since_origin = nanos(instant.saturating_duration_since(self.origin));
        for track in [&mut self.video, &mut self.audio] {
            track.anchor = ticks(since_origin, track.clock_hz);
        }
        self.anchor = Some(pts);
    }

    /// The instant for the sender report. str0m sends none for a time to come, and a source whose clock runs fast
    /// gets ahead of ours: then the line is moved for both tracks alike, which keeps them in step.
    fn not_after(&mut self, instant: Instant, now: Instant) -> Instant {
        let ahead = instant.saturating_duration_since(now);
        if !ahead.is_zero() {
            // Timestamps stay, their instants move: later ones are computed from the moved origin.
            self.origin = self.origin.checked_sub(ahead).unwrap_or(self.origin);
        }
        instant.min(now)
    }

    fn track(&mut self, kind: Kind) -> &mut Track {
        match kind {
            Kind::Video => &mut self.video,
            Kind::Audio => &mut self.audio,
        }
    }
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// Nanoseconds in ticks of a clock, to the nearest.
fn ticks(nanos: i64, clock_hz: u32) -> i64 {
    const SECOND: i128 = 1_000_000_000;
    let ticks = (i128::from(nanos) * i128::from(clock_hz) + SECOND / 2).div_euclid(SECOND);
    i64::try_from(ticks).unwrap_or(i64::MAX)
}

/// Ticks of a clock as a duration; negative ones give zero.
fn duration(ticks: i64, clock_hz: u32) -> Duration {
    relay_media::Timebase::new(clock_hz).map_or(Duration::ZERO, |clock| clock.duration(ticks))
}

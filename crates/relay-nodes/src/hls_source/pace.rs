//! Holds what was downloaded at full speed until its time comes: the ring is fed by media time.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use relay_media::{Flags, Kind, Packet};

/// How fast a backlog is caught up with.
const CATCH_UP: u32 = 2;
/// What is due so soon is let out together with what is due now: a wake per picture, not one per audio frame too.
const TOGETHER: Duration = Duration::from_millis(15);
/// A break in media time that is longer than this is not waited for.
const GAP: Duration = Duration::from_millis(500);
/// What is left of such a break: about a picture.
const GAP_LEFT: Duration = Duration::from_millis(20);

/// How fast media is let out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pace {
    /// As it plays, and up to twice as fast to catch up with the live edge.
    #[default]
    Realtime,
    /// Sixteen times as fast, which recorders keep up with.
    Fast,
}

impl Pace {
    const FAST: u32 = 16;
}

/// Packets with the time at which each is to be let out.
///
/// It has a time of its own, the play time: media time without its gaps. A playhead moves along it and stands still
/// while there is nothing to play.
#[derive(Debug)]
pub(super) struct PaceBuffer {
    pace: Pace,
    max_bytes: usize,
    /// Of video and of audio, each in order.
    queues: [VecDeque<Held>; 2],
    bytes: usize,
    /// The gaps closed so far, in nanoseconds of media time.
    closed: i64,
    /// The latest play time that was pushed.
    newest: Option<i64>,
    playhead: Option<Playhead>,
}

#[derive(Debug)]
struct Held {
    packet: Packet,
    /// Nanoseconds.
    play: i64,
}

/// It was at `play` at `at`, and moves `rate` times as fast as time.
#[derive(Clone, Copy, Debug)]
struct Playhead {
    at: Instant,
    play: i64,
    rate: u32,
}

impl Playhead {
    fn position(&self, now: Instant) -> i64 {
        let passed = nanos(now.saturating_duration_since(self.at));
        self.play.saturating_add(passed.saturating_mul(i64::from(self.rate)))
    }

    fn when(&self, play: i64) -> Instant {
        let ahead = play.saturating_sub(self.play).max(0) / i64::from(self.rate.max(1));
        self.at + Duration::from_nanos(ahead.unsigned_abs())
    }
}

impl PaceBuffer {
    /// An empty one that calls itself full at `max_bytes`.
    pub(super) fn new(pace: Pace, max_bytes: usize) -> Self {
        Self {
            pace,
            max_bytes,
            queues: [VecDeque::new(), VecDeque::new()],
            bytes: 0,
            closed: 0,
            newest: None,
            playhead: None,
        }
    }

    /// Takes a packet that came `now`. Packets of one kind come in order.
    pub(super) fn push(&mut self, packet: Packet, now: Instant) {
        let mut play = packet.dts.nanos().saturating_sub(self.closed);
        if let Some(newest) = self.newest {
            let gap = play.saturating_sub(newest);
            if packet.flags.contains(Flags::DISCONTINUITY) && gap > nanos(GAP) {
                let shut = gap.saturating_sub(nanos(GAP_LEFT));
                self.closed = self.closed.saturating_add(shut);
                play = play.saturating_sub(shut);
            }
        }
        self.newest = Some(self.newest.map_or(play, |newest| newest.max(play)));
        let starved = self.is_empty() && self.playhead.is_none_or(|playhead| playhead.position(now) > play);
        if starved {
            self.playhead = Some(Playhead { at: now, play, rate: self.usual_rate() });
        }
        self.bytes = self.bytes.saturating_add(packet.payload.len());
        let [video, audio] = &mut self.queues;
        let queue = if packet.track.kind() == Kind::Video { video } else { audio };
        queue.push_back(Held { packet, play });
    }

    /// The next packet, if its time has come.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Packet> {
        let (position, play) = (self.playhead?.position(now), self.next_play()?);
        let lead = nanos(TOGETHER).saturating_mul(i64::from(self.playhead?.rate));
        (play <= position.saturating_add(lead)).then(|| self.take())?
    }

    /// When the next packet's time comes.
    pub(super) fn due(&self) -> Option<Instant> {
        Some(self.playhead?.when(self.next_play()?))
    }

    /// Whatever its time is.
    pub(super) fn take(&mut self) -> Option<Packet> {
        let [video, audio] = &mut self.queues;
        let is_video = match (video.front(), audio.front()) {
            (Some(video), Some(audio)) => video.play <= audio.play,
            (video, _) => video.is_some(),
        };
        let held = if is_video { video.pop_front() } else { audio.pop_front() }?;
        self.bytes = self.bytes.saturating_sub(held.packet.payload.len());
        Some(held.packet)
    }

    /// Sets the speed: `is_behind` the live edge or not.
    pub(super) fn set_behind(&mut self, now: Instant, is_behind: bool) {
        let rate = if is_behind { self.usual_rate().max(CATCH_UP) } else { self.usual_rate() };
        if let Some(playhead) = &mut self.playhead
            && playhead.rate != rate
        {
            *playhead = Playhead { at: now.max(playhead.at), play: playhead.position(now), rate };
        }
    }

    /// How much media it holds.
    pub(super) fn depth(&self, now: Instant) -> Duration {
        let (Some(newest), Some(playhead)) = (self.newest, self.playhead) else { return Duration::ZERO };
        Duration::from_nanos(u64::try_from(newest.saturating_sub(playhead.position(now))).unwrap_or(0))
    }

    /// The most bytes are held.
    pub(super) fn is_heavy(&self) -> bool {
        self.bytes >= self.max_bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queues.iter().all(VecDeque::is_empty)
    }

    fn next_play(&self) -> Option<i64> {
        self.queues.iter().filter_map(VecDeque::front).map(|held| held.play).min()
    }

    fn usual_rate(&self) -> u32 {
        match self.pace {
            Pace::Realtime => 1,
            Pace::Fast => Pace::FAST,
        }
    }
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use relay_media::{Codec, Timebase, Timestamp, Track, TrackId, UtcTime, Wall, WallOrigin, g711};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const FRAME: Duration = Duration::from_millis(40);

    #[expect(clippy::disallowed_methods, reason = "any instant does")]
    fn start() -> Instant {
        Instant::now()
    }

    fn packet(at: Duration, flags: Flags) -> Packet {
        let codec = Codec::G711(g711::Config { law: g711::Law::A, sample_rate: 8_000, channels: 1 });
        let dts = Timestamp::new(Timebase::VIDEO.ticks(at), Timebase::VIDEO);
        Packet {
            track: Arc::new(Track { id: TrackId(1), codec, timebase: Timebase::VIDEO }),
            dts,
            pts: dts,
            duration: None,
            arrival: start(),
            wall: Wall { utc: UtcTime::from_unix_nanos(0), origin: WallOrigin::Arrival },
            flags,
            payload: Bytes::from_static(&[0; 1_000]),
        }
    }

    /// Pushes `seconds` of media that begins `from`, all at `now`.
    fn burst(buffer: &mut PaceBuffer, from: Duration, seconds: u32, flags: Flags, now: Instant) {
        for index in 0..seconds * 25 {
            buffer.push(packet(from + FRAME * index, if index == 0 { flags } else { Flags::empty() }), now);
        }
    }

    /// Lets out what is due in `length`, waking when told to; the most media in any second, and the last time.
    fn run(buffer: &mut PaceBuffer, start: Instant, length: Duration, is_behind: bool) -> (usize, Duration) {
        let mut out: Vec<(Instant, Duration)> = Vec::new();
        let mut now = start;
        while now < start + length {
            buffer.set_behind(now, is_behind);
            while let Some(packet) = buffer.pop(now) {
                out.push((now, Duration::from_nanos(packet.dts.nanos().unsigned_abs())));
            }
            now = buffer.due().unwrap_or(start + length).max(now + Duration::from_millis(1));
        }
        let within = |at: Instant| out.iter().filter(|(other, _)| (at..at + SECOND).contains(other)).count();
        let most = out.iter().map(|(at, _)| within(*at)).max().unwrap_or(0);
        (most, out.last().map_or(Duration::ZERO, |(_, dts)| *dts))
    }

    #[test]
    fn a_burst_goes_on_as_it_plays_and_a_backlog_twice_as_fast() {
        // What is due at the same moment, and the 15 ms that go with it, may make one more.
        for (pace, is_behind, most, after_4s) in
            [(Pace::Realtime, false, 26, 4), (Pace::Realtime, true, 51, 8), (Pace::Fast, false, 26 * 16, 17)]
        {
            let (mut buffer, now) = (PaceBuffer::new(pace, 1 << 20), start());
            burst(&mut buffer, Duration::from_secs(5), 18, Flags::empty(), now);
            let (seen, last) = run(&mut buffer, now, 4 * SECOND, is_behind);
            assert!(seen <= most, "{pace:?} {is_behind}: {seen} in a second");
            let played = last.saturating_sub(5 * SECOND);
            assert!(played + SECOND / 4 >= after_4s * SECOND, "{pace:?} {is_behind}: {played:?} after 4 s");
        }
    }

    #[test]
    fn what_comes_after_a_pause_is_let_out_at_once_and_gaps_are_not_waited_for() {
        let (mut buffer, now) = (PaceBuffer::new(Pace::Realtime, 1 << 20), start());
        burst(&mut buffer, Duration::ZERO, 2, Flags::empty(), now);
        assert_eq!(run(&mut buffer, now, 10 * SECOND, false).1, 2 * SECOND - FRAME);
        // Eight seconds late, on the same timeline: the picture is due at once, the next one in its time.
        let late = now + 10 * SECOND;
        burst(&mut buffer, 2 * SECOND, 2, Flags::empty(), late);
        assert_eq!(run(&mut buffer, late, SECOND / 2, false).1, 2 * SECOND + FRAME * 12);
        // Then a minute is missing.
        burst(&mut buffer, 64 * SECOND, 2, Flags::DISCONTINUITY, late + SECOND / 2);
        assert!(buffer.depth(late + SECOND / 2) < 4 * SECOND);
        assert_eq!(run(&mut buffer, late + SECOND / 2, 4 * SECOND, false).1, 66 * SECOND - FRAME);
        assert!(buffer.is_empty() && buffer.bytes == 0);
    }

    #[test]
    fn depth_and_bytes_are_told_and_what_is_left_can_be_had() {
        let (mut buffer, now) = (PaceBuffer::new(Pace::Realtime, 50_000), start());
        burst(&mut buffer, Duration::ZERO, 1, Flags::empty(), now);
        assert!(!buffer.is_heavy() && buffer.depth(now) == SECOND - FRAME);
        burst(&mut buffer, SECOND, 1, Flags::empty(), now);
        assert!(buffer.is_heavy() && buffer.depth(now) == 2 * SECOND - FRAME);
        assert!(run(&mut buffer, now, SECOND, false).0 <= 26 && !buffer.is_heavy());
        let left: Vec<_> = std::iter::from_fn(|| buffer.take()).collect();
        assert!((24..=26).contains(&left.len()) && left.is_sorted_by_key(|packet| packet.dts.ticks()));
    }
}

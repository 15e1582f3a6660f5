//! How much may be on its way: a window in bytes and a pace, steered by transport-wide feedback
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01).
//!
//! str0m brings Google's congestion control, made for encoders that follow its estimate. A relayed camera doesn't: it
//! sends what it sends, in bursts, and most of the time less than the path carries. Measured over simulated paths
//! that estimate let 19 Mbit into a 1 Mbit/s link before it noticed, then stayed below a third of it, and fell to
//! 2 % of the path under 50 ms of jitter. A window does better with less: it starts with a key frame's worth, doubles
//! each round trip while no queue builds up, and where one does, returns to what the path was seen to deliver. Jitter
//! and random loss hardly move it, as it looks at the quickest packet of a report, and at what arrived.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::extreme::Extreme;

/// What a joiner may be sent before its first feedback: half of a usual key frame, 0.4 s of a 1 Mbit/s link.
const WINDOW_START: usize = 48 * 1_024;

/// Below this a window holds back single frames: eight packets.
const WINDOW_MIN: usize = 8 * 1_200;

/// 100 Mbit/s at 160 ms: more is not needed for anything, and [`SENT_MAX`] must hold its packets.
const WINDOW_MAX: usize = 2 * 1_024 * 1_024;

/// Packets whose fate is awaited: the largest window in packets of 1 000 bytes.
const SENT_MAX: usize = 2_048;

/// Room for packets awaited that a session keeps on the live edge: 2 Mbit/s for half a second.
const SENT_LIVE: usize = 128;

/// The queue that the window may build up on the path.
const QUEUE_TARGET: Duration = Duration::from_millis(60);

/// Loss above this share (of 256) is taken for a queue that is too short to show in the delays.
const LOSS_SHARE: usize = 32;

/// The shortest delay and the highest rate are forgotten after one to two of these.
const DELAY_MEMORY: Duration = Duration::from_secs(10);
const RATE_MEMORY: Duration = Duration::from_secs(1);

/// What is released at once at least: most frames go out whole, in one system call. And at most: a key frame goes out
/// in several turns, so that its first packets reach every viewer before its last ones reach any.
const BURST_MIN: usize = 12 * 1_024;
const BURST_MAX: usize = 18 * 1_024;
const BURST_TIME: Duration = Duration::from_millis(10);

/// The pace over what the window allows: 1.25, so that it is the window that limits.
const PACE: (u64, u64) = (5, 4);

/// The pace of a joiner on a path without limits: a 10 s GOP at 6 Mbit/s within a second.
const PACE_MAX_BPS: u64 = 60_000_000;

/// Round trip and interval of feedback that are assumed before the first.
const GUESS: Duration = Duration::from_millis(50);

/// A packet without feedback for so long, and twice the round trip, is taken for lost.
const LOST_AFTER: Duration = Duration::from_millis(200);
const LOST_AFTER_MAX: Duration = Duration::from_millis(1_500);

/// The pace where the viewer gives no feedback, in bits per second.
const BLIND_BPS: u64 = 10_000_000;

/// The window of one session.
#[derive(Debug)]
pub(super) struct Congestion {
    /// The viewer reports what it gets.
    feedback: bool,
    sent: VecDeque<Sent>,
    in_flight: usize,
    /// Handed to str0m, but not yet seen leaving.
    handed: usize,
    window: usize,
    starting: bool,
    /// The window held something back since the last report.
    limited: bool,
    delivered: u64,
    delivered_at: Instant,
    epoch: Instant,
    /// Nanoseconds of one-way delay between two clocks that are not in step: only differences count.
    base: Extreme<i64>,
    round_trip: Extreme<i64>,
    /// Negated bytes per second.
    rate: Extreme<i64>,
    interval: Duration,
    reported_at: Option<Instant>,
    cut_at: Option<Instant>,
    lost: usize,
    /// Of some packets it will never be known whether they arrived.
    unreported: bool,
    arrived: usize,
    tokens: i64,
    filled_at: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    number: u16,
    bytes: u16,
    fate: Fate,
    at: Instant,
    /// What had been delivered when it left, and when that was known.
    delivered: u64,
    delivered_at: Instant,
}

/// What is known of a packet. A report that got lost says nothing about its packets, and none after it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// No report has been about it.
    Awaited,
    /// A report said that it had not come; it may have been overtaken.
    Missed,
    Arrived,
    /// It doesn't count as being on its way any more.
    GivenUp,
}

impl Congestion {
    pub(super) fn new(feedback: bool, now: Instant) -> Self {
        Self {
            feedback,
            sent: VecDeque::new(),
            in_flight: 0,
            handed: 0,
            window: WINDOW_START,
            starting: true,
            limited: false,
            delivered: 0,
            delivered_at: now,
            epoch: now,
            base: Extreme::new(DELAY_MEMORY),
            round_trip: Extreme::new(DELAY_MEMORY),
            rate: Extreme::new(RATE_MEMORY),
            interval: GUESS,
            reported_at: None,
            cut_at: None,
            lost: 0,
            unreported: false,
            arrived: 0,
            tokens: 0,
            filled_at: now,
        }
    }

    /// What the window lets through, in bits per second.
    pub(super) fn estimate_bps(&self) -> Option<u64> {
        self.reported_at.map(|_| self.window_bps())
    }

    /// The shortest time from a packet's departure to the report about it, of the last seconds.
    pub(super) fn round_trip(&self) -> Option<Duration> {
        self.round_trip.get().map(|nanos| Duration::from_nanos(nanos.unsigned_abs()))
    }

    /// Reports have been about everything that left, and nothing was lost lately: nobody will ask for any of it again.
    pub(super) fn all_arrived(&self) -> bool {
        let is_known = self.reported_at.is_some() && !self.unreported && self.lost == 0;
        is_known && self.handed == 0 && self.sent.is_empty()
    }

    /// A packet of `bytes` may leave now. If not, [`retry_at`](Self::retry_at) tells when to ask again.
    pub(super) fn may_send(&mut self, now: Instant) -> bool {
        self.expire(now);
        self.fill(now);
        if self.feedback && self.in_flight + self.handed >= self.window {
            self.limited = true;
            return false;
        }
        self.tokens >= 0
    }

    /// A packet was handed to str0m.
    pub(super) fn handed(&mut self, bytes: usize) {
        self.handed += bytes;
        self.tokens -= i64::try_from(bytes).unwrap_or_default();
    }

    /// When the pace lets the next packet through, or a packet's fate is given up. Feedback may come before.
    pub(super) fn retry_at(&self) -> Instant {
        if self.feedback && self.in_flight + self.handed >= self.window {
            return self.sent.front().map_or(self.filled_at, |first| first.at) + self.lost_after();
        }
        let debt = u64::try_from(-self.tokens).unwrap_or_default();
        self.filled_at + Duration::from_nanos(debt.saturating_mul(8_000_000_000) / self.pace_bps().max(1))
    }

    /// A packet has left: media, retransmission or other. `number` is its transport-wide sequence number.
    pub(super) fn left(&mut self, now: Instant, number: Option<u16>, bytes: usize, media: bool) {
        if media {
            self.handed = self.handed.saturating_sub(bytes);
        }
        let Some(number) = number.filter(|_| self.feedback) else { return };
        let follows = self.sent.back().is_none_or(|last| last.number.wrapping_add(1) == number);
        if !follows || self.sent.len() >= SENT_MAX {
            self.forget();
        }
        if self.in_flight == 0 {
            self.delivered_at = now;
        }
        self.in_flight += bytes;
        let (delivered, delivered_at) = (self.delivered, self.delivered_at);
        let bytes = u16::try_from(bytes).unwrap_or(u16::MAX);
        let fate = Fate::Awaited;
        self.sent.push_back(Sent { number, bytes, fate, at: now, delivered, delivered_at });
    }

    /// A report: transport-wide sequence numbers without gaps, and when they arrived by the viewer's clock, on the
    /// line of `epoch`, if they did.
    pub(super) fn report(&mut self, now: Instant, told: impl Iterator<Item = (u16, Option<Instant>)>) {
        let (mut bytes, mut least, mut newest): (usize, Option<i64>, Option<Sent>) = (0, None, None);
        let mut first = None;
        for (number, arrived_at) in told {
            first.get_or_insert(number);
            let epoch = self.epoch;
            let Some(sent) = self.find(number).filter(|sent| sent.fate != Fate::Arrived) else { continue };
            let Some(arrived_at) = arrived_at else {
                if sent.fate == Fate::Awaited {
                    sent.fate = Fate::Missed;
                }
                continue;
            };
            let fate = std::mem::replace(&mut sent.fate, Fate::Arrived);
            let sent = *sent;
            if fate != Fate::GivenUp {
                self.in_flight = self.in_flight.saturating_sub(usize::from(sent.bytes));
            }
            bytes += usize::from(sent.bytes);
            let delay = signed(arrived_at, epoch) - signed(sent.at, epoch);
            least = Some(least.map_or(delay, |least| least.min(delay)));
            newest = newest.filter(|newest| newest.at >= sent.at).or(Some(sent));
        }
        if let Some(first) = first {
            self.give_up_before(first);
        }
        let (Some(least), Some(newest)) = (least, newest) else { return };
        self.arrived += bytes;
        self.delivered += u64::try_from(bytes).unwrap_or_default();
        self.delivered_at = now;
        self.measure(now, least, &newest);
        let queue = Duration::from_nanos(u64::try_from(least - self.base.get().unwrap_or(least)).unwrap_or_default());
        self.steer(now, queue, bytes);
        self.expire(now);
    }

    /// A report begins after all that there was to say about earlier packets: those that were missed then are lost,
    /// and what happened to those that no report was about will never be known.
    fn give_up_before(&mut self, number: u16) {
        let Some(front) = self.sent.front().map(|front| front.number) else { return };
        let before = number.wrapping_sub(front);
        // Half of the numbers lie behind (as in RFC 3550 §A.1).
        if before >= 1 << 15 {
            return;
        }
        for sent in self.sent.iter_mut().take(usize::from(before)) {
            if matches!(sent.fate, Fate::Awaited | Fate::Missed) {
                self.in_flight = self.in_flight.saturating_sub(usize::from(sent.bytes));
                self.lost += if sent.fate == Fate::Missed { usize::from(sent.bytes) } else { 0 };
                self.unreported |= sent.fate == Fate::Awaited;
                sent.fate = Fate::GivenUp;
            }
        }
    }

    fn measure(&mut self, now: Instant, delay: i64, newest: &Sent) {
        self.base.put(now, delay);
        self.round_trip.put(now, signed(now, newest.at));
        if let Some(last) = self.reported_at {
            let gap = now.saturating_duration_since(last).min(Duration::from_millis(250));
            self.interval = (self.interval * 7 + gap) / 8;
        }
        self.reported_at = Some(now);
        let elapsed = now.saturating_duration_since(newest.delivered_at).max(Duration::from_millis(1));
        let bytes = u128::from(self.delivered - newest.delivered);
        let rate = i64::try_from(bytes * 1_000_000_000 / elapsed.as_nanos()).unwrap_or(i64::MAX);
        self.rate.put(now, -rate);
    }

    /// Grows, keeps or cuts the window.
    fn steer(&mut self, now: Instant, queue: Duration, bytes: usize) {
        let lossy = self.lost * 256 > (self.lost + self.arrived) * LOSS_SHARE;
        if queue > QUEUE_TARGET || lossy {
            self.starting = false;
            let round = self.round();
            if self.cut_at.is_none_or(|cut| now.saturating_duration_since(cut) >= round) {
                self.cut_at = Some(now);
                // A long queue needs more than the rate's worth taken away; a short one that drops, its whole depth.
                let allowed = if lossy { Duration::ZERO } else { QUEUE_TARGET };
                let floor = self.bytes_in(round) * 3 / 4;
                let wanted = self.bytes_in(round + allowed).min(self.window * 7 / 8);
                self.window = wanted.max(floor).clamp(WINDOW_MIN, WINDOW_MAX);
                (self.lost, self.arrived) = (0, 0);
            }
        } else if self.limited {
            let growth = if self.starting { bytes } else { bytes / 4 };
            self.window = (self.window + growth).min(WINDOW_MAX);
        }
        self.limited = false;
        if self.arrived > 4 * WINDOW_START {
            (self.lost, self.arrived) = (self.lost / 2, self.arrived / 2);
        }
    }

    /// From a packet's departure to the report about it.
    fn round(&self) -> Duration {
        let round_trip = self.round_trip.get().map_or(GUESS, |nanos| Duration::from_nanos(nanos.unsigned_abs()));
        round_trip + self.interval
    }

    fn bytes_in(&self, time: Duration) -> usize {
        let rate = self.rate.get().map_or(0, i64::unsigned_abs);
        usize::try_from(u128::from(rate) * time.as_nanos() / 1_000_000_000).unwrap_or(usize::MAX)
    }

    fn window_bps(&self) -> u64 {
        let bits = u128::try_from(self.window).unwrap_or_default() * 8;
        u64::try_from(bits * 1_000_000_000 / self.round().as_nanos().max(1)).unwrap_or(u64::MAX)
    }

    fn pace_bps(&self) -> u64 {
        if self.feedback { (self.window_bps() * PACE.0 / PACE.1).min(PACE_MAX_BPS) } else { BLIND_BPS }
    }

    fn fill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.filled_at);
        self.filled_at = self.filled_at.max(now);
        let bytes = |time: Duration| u128::from(self.pace_bps() / 8) * time.as_nanos() / 1_000_000_000;
        let burst = i64::try_from(bytes(BURST_TIME)).unwrap_or(i64::MAX).clamp(BURST_MIN as i64, BURST_MAX as i64);
        self.tokens = self.tokens.saturating_add(i64::try_from(bytes(elapsed)).unwrap_or(i64::MAX)).min(burst);
    }

    /// The numbers in `sent` have no gaps.
    fn find(&mut self, number: u16) -> Option<&mut Sent> {
        let first = self.sent.front()?.number;
        self.sent.get_mut(usize::from(number.wrapping_sub(first)))
    }

    fn lost_after(&self) -> Duration {
        (LOST_AFTER + self.round() * 2).min(LOST_AFTER_MAX)
    }

    /// Gives up what should have been reported by now.
    fn expire(&mut self, now: Instant) {
        let lost_after = self.lost_after();
        while let Some(first) = self.sent.front() {
            if matches!(first.fate, Fate::Awaited | Fate::Missed) {
                if now.saturating_duration_since(first.at) < lost_after {
                    break;
                }
                self.in_flight = self.in_flight.saturating_sub(usize::from(first.bytes));
                self.lost += usize::from(first.bytes);
            }
            self.sent.pop_front();
        }
        // What a joiner's backlog needed is given back.
        if self.sent.capacity() > 4 * SENT_LIVE {
            self.sent.shrink_to(SENT_LIVE);
        }
    }

    fn forget(&mut self) {
        self.unreported |= !self.sent.is_empty();
        self.sent.clear();
        self.in_flight = 0;
    }
}

fn signed(at: Instant, from: Instant) -> i64 {
    let nanos = |duration: Duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
    match at.checked_duration_since(from) {
        Some(after) => nanos(after),
        None => -nanos(from.saturating_duration_since(at)),
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant will do")]
mod tests {
    use super::*;

    #[test]
    fn all_has_arrived_once_reports_say_so() {
        let start = Instant::now();
        let at = |millis: u64| start + Duration::from_millis(millis);
        let mut congestion = Congestion::new(true, start);
        assert!(!congestion.all_arrived(), "nothing is known");
        for (number, sent_at) in [(65_534, 0), (65_535, 40), (0, 80)] {
            congestion.handed(1_000);
            congestion.left(at(sent_at), Some(number), 1_000, true);
        }
        congestion.report(at(90), [(65_534, Some(at(10))), (65_535, None)].into_iter());
        assert!(!congestion.all_arrived(), "one was missed, and one is on its way");
        congestion.report(at(100), [(65_535, Some(at(95))), (0, Some(at(90)))].into_iter());
        assert!(congestion.all_arrived());
        congestion.handed(1_000);
        assert!(!congestion.all_arrived(), "one is about to leave");
    }

    #[test]
    fn what_is_lost_or_perhaps_lost_may_still_be_asked_for() {
        let start = Instant::now();
        let at = |millis: u64| start + Duration::from_millis(millis);
        for first in [Some((1, None)), None] {
            let mut congestion = Congestion::new(true, start);
            congestion.left(at(0), Some(1), 1_000, true);
            congestion.left(at(0), Some(2), 1_000, true);
            congestion.report(at(10), first.into_iter().chain([(2, Some(at(5)))]));
            congestion.report(at(3_000), [(2, Some(at(5)))].into_iter());
            congestion.expire(at(3_000));
            assert!(congestion.sent.is_empty() && !congestion.all_arrived(), "{first:?}");
        }
    }
}

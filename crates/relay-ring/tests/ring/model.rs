//! The ring against a naive model: the whole history in a vector, the fate of every packet written down per cursor,
//! everything looked up by scanning.

use std::{sync::Arc, time::Duration};

use proptest::prelude::*;
use relay_media::{Flags, Packet};
use relay_ring::{Cursor, CursorMonitor, CursorStats, Dropped, LeakPolicy, Limits, Publisher, Ring, Start, ring};

use crate::stream::{Unit, assert_balanced, key, picture, seq, sound};

const MAX_CURSORS: usize = 5;

#[derive(Clone, Copy, Debug)]
enum Op {
    Push(Unit),
    Open { live_ms: Option<u64>, start: Start },
    Read { cursor: usize, max: usize },
    Look { cursor: usize },
    Leave { cursor: usize },
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_ring_does_what_the_model_does(limits in limits(), steps in ops(), looks in any::<Looks>()) {
        Run::new(limits).all(steps, looks);
    }
}

/// Whether every account is read after every step, or only now and then (reading it books losses, so that the lazy
/// paths would never be taken).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Looks {
    Always,
    Sometimes,
}

impl Arbitrary for Looks {
    type Parameters = ();
    type Strategy = BoxedStrategy<Self>;

    fn arbitrary_with((): ()) -> Self::Strategy {
        prop_oneof![Just(Self::Always), Just(Self::Sometimes)].boxed()
    }
}

fn limits() -> impl Strategy<Value = Limits> {
    (0_usize..400, 0_u64..1_500, 0_usize..40).prop_map(|(max_bytes, ms, max_packets)| Limits {
        max_bytes,
        max_duration: Duration::from_millis(ms),
        max_packets,
    })
}

/// Steps with times that mostly go on, as a frame rate would.
fn ops() -> impl Strategy<Value = Vec<Op>> {
    let unit = (0_u8..20, 0_i64..90, 0_usize..60).prop_map(|(what, step_ms, bytes)| {
        let flags = match what {
            0..4 => Flags::DISPOSABLE,
            4 => Flags::DISCONTINUITY,
            5 => Flags::KEY | Flags::DISCONTINUITY,
            _ => Flags::empty(),
        };
        let unit = match what {
            6..8 => key(step_ms),
            8..11 => sound(step_ms / 2),
            _ => picture(step_ms),
        };
        Unit { flags: unit.flags | flags, bytes, ..unit }
    });
    let start = prop_oneof![3 => Just(Start::JoinPoint), 1 => Just(Start::Next)];
    let op = prop_oneof![
        14 => unit.prop_map(Op::Push),
        1 => (proptest::option::of(0_u64..900), start).prop_map(|(live_ms, start)| Op::Open { live_ms, start }),
        5 => (0..MAX_CURSORS, 0_usize..12).prop_map(|(cursor, max)| Op::Read { cursor, max }),
        1 => (0..MAX_CURSORS).prop_map(|cursor| Op::Look { cursor }),
        1 => (0..MAX_CURSORS * 4).prop_map(|cursor| Op::Leave { cursor }),
    ];
    (proptest::collection::vec(op, 1..250), 0_usize..250).prop_map(|(mut ops, sound_only)| {
        let mut now = 0;
        for (i, op) in ops.iter_mut().enumerate() {
            if let Op::Push(unit) = op {
                // Some streams begin with sound alone.
                if sound_only > 150 && i < sound_only - 150 {
                    unit.video = false;
                    unit.flags &= Flags::DISCONTINUITY;
                }
                now += unit.ms + if unit.flags.contains(Flags::DISCONTINUITY) { 5_000 } else { 0 };
                unit.ms = now;
            }
        }
        ops
    })
}

struct Run {
    publisher: Publisher,
    ring: Ring,
    history: History,
    cursors: Vec<(Cursor, Expected, Witness)>,
    left: Vec<(CursorMonitor, CursorStats)>,
}

impl Run {
    fn new(limits: Limits) -> Self {
        let (publisher, ring) = ring(limits);
        let history = History { limits, packets: Vec::new(), first: 0, closed_up: 0, oversized: 0 };
        Self { publisher, ring, history, cursors: Vec::new(), left: Vec::new() }
    }

    fn all(mut self, ops: Vec<Op>, looks: Looks) {
        for op in ops {
            self.step(op);
            self.check_ring();
            if looks == Looks::Always {
                (0..self.cursors.len()).for_each(|cursor| self.look(cursor));
            }
        }
        (0..self.cursors.len()).for_each(|cursor| self.look(cursor));
        drop(self.publisher);
        for (cursor, expected, witness) in &mut self.cursors {
            let mut batch = Vec::new();
            while cursor.try_batch(&mut batch, 3).is_ok() {}
            witness.saw(expected, &self.history, &batch);
            let stats = cursor.stats();
            assert_balanced(stats);
            assert_eq!(stats.buffered, 0, "drained");
        }
    }

    fn step(&mut self, op: Op) {
        match op {
            Op::Push(unit) => {
                self.publisher.push(unit.packet(self.history.packets.len() as u64));
                self.history.append(unit);
                // Whoever waits for a join point gets this one, even if it is evicted at once.
                if unit.flags.contains(Flags::KEY) {
                    self.cursors.iter_mut().for_each(|(_, expected, _)| expected.join_pushed(&self.history));
                    let unread = self.cursors.iter().map(|(_, expected, _)| expected.next()).min();
                    // The newest key frame is the one just pushed.
                    let keep = unread.unwrap_or(usize::MAX).min(self.history.head() - 1);
                    self.history.first = self.history.first.max(keep);
                }
                self.history.evict();
                if self.history.audio_only() {
                    self.cursors.iter_mut().for_each(|(_, expected, _)| expected.join_pushed(&self.history));
                }
            }
            Op::Open { live_ms, start } if self.cursors.len() < MAX_CURSORS => {
                let max_lag = live_ms.map(Duration::from_millis);
                let policy = max_lag.map_or(LeakPolicy::Keep, |max_lag| LeakPolicy::Live { max_lag });
                let expected = Expected::new(live_ms, start, &self.history);
                self.cursors.push((self.ring.cursor(policy, start), expected, Witness::new(start)));
            }
            Op::Read { cursor, max } => {
                if let Some((cursor, expected, witness)) = self.cursors.get_mut(cursor) {
                    let mut batch = Vec::new();
                    assert_eq!(cursor.try_batch(&mut batch, max), Ok(batch.len()));
                    let seqs: Vec<usize> = batch.iter().map(|packet| seq(packet) as usize).collect();
                    assert_eq!(seqs, expected.read(&self.history, max));
                    witness.saw(expected, &self.history, &batch);
                }
            }
            Op::Look { cursor } if cursor < self.cursors.len() => self.look(cursor),
            Op::Leave { cursor } if cursor < self.cursors.len() => {
                self.look(cursor);
                let (cursor, ..) = self.cursors.swap_remove(cursor);
                self.left.push((cursor.monitor(), cursor.stats()));
            }
            Op::Open { .. } | Op::Look { .. } | Op::Leave { .. } => {}
        }
    }

    fn look(&mut self, cursor: usize) {
        let (cursor, expected, _) = &mut self.cursors[cursor];
        let stats = cursor.stats();
        assert_balanced(stats);
        assert_eq!(stats, expected.stats(&self.history));
    }

    fn check_ring(&self) {
        let (stats, history) = (self.ring.stats(), &self.history);
        let retained = &history.packets[history.first..];
        assert_eq!(stats.packets, retained.len());
        assert_eq!(stats.bytes, retained.iter().map(|packet| packet.unit.bytes).sum::<usize>());
        assert!(stats.packets <= history.limits.max_packets && stats.bytes <= history.limits.max_bytes);
        assert_eq!(stats.join_points, (history.first..history.head()).filter(|seq| history.is_join(*seq)).count());
        assert_eq!(stats.pushed_packets, history.head() as u64);
        assert_eq!(stats.oversized_gops, history.oversized);
        for (monitor, last) in &self.left {
            assert_eq!(monitor.stats(), *last);
        }
    }
}

/// Every packet ever pushed.
struct History {
    limits: Limits,
    packets: Vec<Pushed>,
    /// The oldest retained one.
    first: usize,
    closed_up: i64,
    oversized: u64,
}

struct Pushed {
    unit: Unit,
    /// Milliseconds with the breaks closed up.
    at: i64,
}

impl History {
    fn append(&mut self, unit: Unit) {
        if unit.flags.contains(Flags::DISCONTINUITY)
            && let Some(latest) = self.latest()
        {
            self.closed_up = unit.ms - latest;
        }
        self.packets.push(Pushed { unit, at: unit.ms - self.closed_up });
    }

    fn evict(&mut self) {
        while self.first < self.head() {
            let retained = &self.packets[self.first..];
            let bytes: usize = retained.iter().map(|packet| packet.unit.bytes).sum();
            let hard = retained.len() > self.limits.max_packets || bytes > self.limits.max_bytes;
            let span = self.latest().unwrap() - retained[0].at;
            let long = u128::try_from(span).unwrap_or(0) > self.limits.max_duration.as_millis();
            let newest_gop = self.joins_from(self.first).last().is_some_and(|newest| newest <= self.first);
            if !hard && (!long || newest_gop) {
                break;
            }
            let newest_key = (self.first..self.head()).rfind(|seq| self.is_key(*seq));
            self.oversized += u64::from(newest_key == Some(self.first));
            self.first += 1;
        }
    }

    fn head(&self) -> usize {
        self.packets.len()
    }

    fn is_key(&self, seq: usize) -> bool {
        self.packets[seq].unit.flags.contains(Flags::KEY)
    }

    fn audio_only(&self) -> bool {
        self.packets[self.first..].iter().all(|packet| !packet.unit.video)
    }

    fn is_join(&self, seq: usize) -> bool {
        self.is_key(seq) || self.audio_only()
    }

    fn joins_from(&self, seq: usize) -> impl Iterator<Item = usize> {
        (seq.max(self.first)..self.head()).filter(|seq| self.is_join(*seq))
    }

    /// The later one of the newest picture and the newest sound.
    fn latest(&self) -> Option<i64> {
        self.newest(true).max(self.newest(false))
    }

    fn newest(&self, video: bool) -> Option<i64> {
        self.packets.iter().rfind(|packet| packet.unit.video == video).map(|packet| packet.at)
    }

    fn lag(&self, seq: usize) -> i64 {
        self.packets.get(seq).map_or(0, |packet| (self.newest(packet.unit.video).unwrap() - packet.at).max(0))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Buffered,
    Delivered,
    Lag,
    NoKeyFrame,
    Cap,
}

/// What should become of one cursor's packets.
struct Expected {
    live_ms: Option<i64>,
    start: usize,
    /// Of each packet since `start`.
    fates: Vec<Fate>,
    /// The next packet delivered must be a join point.
    broken: bool,
    /// No join point was there since.
    waiting: bool,
    landing: i64,
}

impl Expected {
    fn new(live_ms: Option<u64>, start: Start, history: &History) -> Self {
        let join = history.joins_from(0).last();
        let begin = if start == Start::JoinPoint { join.unwrap_or(history.head()) } else { history.head() };
        let waiting = start == Start::JoinPoint && join.is_none();
        let landing = history.lag(begin);
        let live_ms = live_ms.map(|ms| i64::try_from(ms).unwrap());
        Self { live_ms, start: begin, fates: Vec::new(), broken: start == Start::JoinPoint, waiting, landing }
    }

    fn next(&self) -> usize {
        self.start + self.fates.iter().position(|fate| *fate == Fate::Buffered).unwrap_or(self.fates.len())
    }

    fn receive(&mut self, history: &History) {
        self.fates.resize(history.head() - self.start, Fate::Buffered);
    }

    /// Everything buffered before `seq` meets its `fate`.
    fn lose(&mut self, seq: usize, fate: Fate) {
        let end = seq - self.start;
        self.fates[..end].iter_mut().filter(|packet| **packet == Fate::Buffered).for_each(|packet| *packet = fate);
    }

    fn join_pushed(&mut self, history: &History) {
        if self.waiting {
            self.settle(history);
        }
    }

    fn settle(&mut self, history: &History) {
        self.receive(history);
        if self.next() < history.first {
            self.lose(history.first, if self.waiting { Fate::NoKeyFrame } else { Fate::Cap });
            self.broken = true;
            if let (false, Some(_), Some(newest)) = (self.waiting, self.live_ms, history.joins_from(0).last()) {
                self.jump(newest, Fate::Lag, history);
            }
        }
        let at_join = history.joins_from(0).any(|join| join == self.next());
        if self.broken && (self.waiting || !at_join) {
            match history.joins_from(self.next()).next() {
                Some(join) => self.jump(join, Fate::NoKeyFrame, history),
                None if self.next() < history.head() || self.waiting => {
                    self.lose(history.head(), Fate::NoKeyFrame);
                    self.waiting = true;
                }
                // At the very end of the packets. With pictures retained that is a wait, among sound alone it is not.
                None => self.waiting = !history.audio_only(),
            }
        }
    }

    fn jump(&mut self, join: usize, fate: Fate, history: &History) {
        self.lose(join, fate);
        self.landing = history.lag(join);
        (self.broken, self.waiting) = (true, false);
    }

    fn read(&mut self, history: &History, max: usize) -> Vec<usize> {
        self.settle(history);
        let mut shedding = false;
        if let Some(max_lag) = self.live_ms {
            self.forgive(history, max_lag);
            let lag = history.lag(self.next());
            let ahead = history.joins_from(self.next() + 1).last();
            shedding = lag * 2 > max_lag;
            if lag > max_lag {
                match ahead {
                    Some(join) => {
                        self.jump(join, Fate::Lag, history);
                        shedding = self.landing * 2 > max_lag;
                    }
                    None if self.landing > 0 && lag <= self.landing + max_lag => {}
                    None => {
                        self.lose(history.head(), Fate::NoKeyFrame);
                        (self.broken, self.waiting) = (true, true);
                    }
                }
            }
        }
        let mut read = Vec::new();
        while read.len() < max && self.next() < history.head() {
            let seq = self.next();
            let flags = history.packets[seq].unit.flags;
            let shed = shedding && flags.contains(Flags::DISPOSABLE) && !flags.contains(Flags::KEY);
            self.fates[seq - self.start] = if shed { Fate::Lag } else { Fate::Delivered };
            read.extend(Some(seq).filter(|_| !shed));
        }
        if !read.is_empty() && !history.audio_only() {
            self.broken = false;
        }
        if let Some(max_lag) = self.live_ms {
            self.forgive(history, max_lag);
        }
        read
    }

    fn forgive(&mut self, history: &History, max_lag: i64) {
        if history.lag(self.next()) * 2 <= max_lag {
            self.landing = 0;
        }
    }

    fn stats(&mut self, history: &History) -> CursorStats {
        self.settle(history);
        let count = |fate| self.fates.iter().filter(|packet| **packet == fate).count() as u64;
        CursorStats {
            received: self.fates.len() as u64,
            delivered: count(Fate::Delivered),
            dropped: Dropped { lag: count(Fate::Lag), no_key_frame: count(Fate::NoKeyFrame), cap: count(Fate::Cap) },
            buffered: count(Fate::Buffered),
            lag: Duration::from_millis(history.lag(self.next()).try_into().unwrap()),
        }
    }
}

/// What must hold of the packets a reader sees, whatever the model says: the order never goes back, and after a loss
/// that is more than shed pictures no picture comes before a key frame.
struct Witness {
    last: Option<usize>,
    decodable: bool,
}

impl Witness {
    fn new(start: Start) -> Self {
        Self { last: None, decodable: start == Start::Next }
    }

    fn saw(&mut self, expected: &Expected, history: &History, batch: &[Arc<Packet>]) {
        for packet in batch {
            let seq = seq(packet) as usize;
            assert!(self.last.is_none_or(|last| last < seq), "{:?} then {seq}", self.last);
            let missing = self.last.map_or(expected.start, |last| last + 1)..seq;
            let lost = |seq: usize| {
                let unit = history.packets[seq].unit;
                unit.video && !unit.flags.contains(Flags::DISPOSABLE)
            };
            self.decodable = (self.decodable && !missing.clone().any(lost)) || packet.is_key();
            assert!(!history.packets[seq].unit.video || self.decodable, "{seq} after {missing:?} were lost");
            self.last = Some(seq);
        }
    }
}

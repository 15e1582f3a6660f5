//! Access units put together again from RTP packets, without decoding: which arrived whole, which were shown.
//!
//! What is shown is what a decoder could show: whole units, in order, from a key frame on without a gap. A source that
//! has disposable frames, and a server that sheds them, would look worse here than on a screen: the cameras of
//! relay-sim and the built-in one have none.

use std::collections::VecDeque;

use relay_media::stamp::Stamp;

/// Nanoseconds since 1970-01-01T00:00:00Z.
pub(crate) type UtcNanos = i64;

/// What the assembly needs of an RTP packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival<'a> {
    /// Sequence number, extended.
    pub(crate) seq: u64,
    /// RTP timestamp, extended, at 90 kHz.
    pub(crate) time: u64,
    pub(crate) marker: bool,
    pub(crate) payload: &'a [u8],
    pub(crate) utc: UtcNanos,
}

/// An access unit with all its packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Whole {
    pub(crate) time: u64,
    pub(crate) key: bool,
    pub(crate) stamp: Option<Stamp>,
    /// When its first packet came.
    pub(crate) first: UtcNanos,
    /// When its last packet came.
    pub(crate) last: UtcNanos,
    /// When the packet with the stamp came.
    pub(crate) stamped: UtcNanos,
    /// When it and all before it were there, or given up: the earliest time that it can be shown.
    pub(crate) released: UtcNanos,
}

/// What comes out, in the order of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Released {
    Whole(Whole),
    /// Packets of it are missing, and were waited for long enough.
    Incomplete,
}

/// Puts units together.
#[derive(Debug, Default)]
pub(crate) struct Units {
    open: VecDeque<Open>,
    /// The sequence number before which nothing is expected any more.
    next: Option<u64>,
    seen: Seen,
}

/// A unit of which packets may be missing.
#[derive(Debug)]
struct Open {
    time: u64,
    lowest: u64,
    highest: u64,
    packets: u64,
    /// The packet with the marker came: `highest` is its last.
    ended: bool,
    key: bool,
    stamp: Option<Stamp>,
    first: UtcNanos,
    last: UtcNanos,
    stamped: UtcNanos,
}

/// A missing packet is waited for this long after the newest of its unit's neighbours: some retransmissions at 100 ms
/// round trip, and about as long as browsers wait.
const PATIENCE: i64 = 500_000_000;
/// Units that may wait for a missing packet: what a group of 10 s at 60 fps has, so that a burst cannot overtake it.
const MAX_OPEN: usize = 600;

impl Units {
    /// Takes a packet, and hands out what it completes.
    pub(crate) fn push(&mut self, arrival: &Arrival<'_>, out: &mut Vec<Released>) {
        if self.next.is_some_and(|next| arrival.seq < next) || !self.seen.insert(arrival.seq) {
            return;
        }
        let at = self.position(arrival);
        let is_key = match self.open.get_mut(at) {
            Some(open) => open.add(arrival),
            None => false,
        };
        if is_key {
            self.skip_to_key(at, arrival.utc, out);
        }
        self.release(arrival.utc, out);
    }

    /// Gives up what was waited for long enough. The newest unit is not given up: its rest may not have been sent yet.
    pub(crate) fn expire(&mut self, now: UtcNanos, out: &mut Vec<Released>) {
        let is_old = |front: &Open| now - front.last > PATIENCE;
        while self.open.len() > MAX_OPEN || (self.open.len() > 1 && self.open.front().is_some_and(is_old)) {
            self.give_up(out);
            self.release(now, out);
        }
    }

    /// Where the packet's unit is, made if it is new.
    fn position(&mut self, arrival: &Arrival<'_>) -> usize {
        let behind = self.open.iter().rposition(|open| open.time == arrival.time || open.lowest < arrival.seq);
        match behind {
            Some(at) if self.open.get(at).is_some_and(|open| open.time == arrival.time) => at,
            _ => {
                // A packet may come before one of the same unit that was sent earlier.
                let at = behind.map_or(0, |at| at + 1);
                if self.open.get(at).is_some_and(|open| open.time == arrival.time) {
                    return at;
                }
                self.open.insert(at, Open::new(arrival));
                at
            }
        }
    }

    /// A whole key frame makes what lies incomplete before it needless: a browser goes on from there at once.
    fn skip_to_key(&mut self, at: usize, now: UtcNanos, out: &mut Vec<Released>) {
        let before = at.checked_sub(1).and_then(|before| self.open.get(before));
        let start = before.filter(|open| open.ended).map(|open| open.highest + 1);
        let is_whole = self.open.get(at).zip(start).is_some_and(|(open, start)| open.key && open.is_whole(start));
        while is_whole && self.open.front().is_some_and(|front| front.highest < start.unwrap_or(0)) {
            self.release(now, out);
            if self.open.front().is_some_and(|front| front.highest < start.unwrap_or(0)) {
                self.give_up(out);
            }
        }
    }

    fn release(&mut self, now: UtcNanos, out: &mut Vec<Released>) {
        while let Some(front) = self.open.front() {
            // Of the very first unit the beginning is taken for granted: what was lost before it has no stamp.
            if !front.is_whole(self.next.unwrap_or(front.lowest)) {
                return;
            }
            self.next = Some(front.highest + 1);
            out.extend(self.open.pop_front().map(|open| Released::Whole(open.whole(now))));
        }
    }

    fn give_up(&mut self, out: &mut Vec<Released>) {
        let Some(given_up) = self.open.pop_front() else { return };
        out.push(Released::Incomplete);
        self.next = Some(given_up.highest + 1);
        // Its end is not known; but the stamp is at a unit's beginning, so that it tells where the next one begins.
        if !given_up.ended
            && let Some(next) = self.open.front().filter(|next| next.stamp.is_some())
        {
            self.next = Some(next.lowest);
        }
    }
}

impl Open {
    fn new(arrival: &Arrival<'_>) -> Self {
        Self {
            time: arrival.time,
            lowest: arrival.seq,
            highest: arrival.seq,
            packets: 0,
            ended: false,
            key: false,
            stamp: None,
            first: arrival.utc,
            last: arrival.utc,
            stamped: arrival.utc,
        }
    }

    /// Takes a packet; true if the unit is known to be a key frame.
    fn add(&mut self, arrival: &Arrival<'_>) -> bool {
        self.lowest = self.lowest.min(arrival.seq);
        self.highest = self.highest.max(arrival.seq);
        self.packets += 1;
        self.ended |= arrival.marker;
        self.last = arrival.utc;
        if let Some(stamp) = look(arrival.payload, &mut self.key)
            && self.stamp.is_none()
        {
            self.stamp = Some(stamp);
            self.stamped = arrival.utc;
        }
        self.key
    }

    fn is_whole(&self, start: u64) -> bool {
        self.ended && self.lowest == start && self.packets == self.highest - self.lowest + 1
    }

    fn whole(&self, released: UtcNanos) -> Whole {
        let Self { time, key, stamp, first, last, stamped, .. } = *self;
        Whole { time, key, stamp, first, last, stamped, released }
    }
}

/// Looks through an H.264 payload (RFC 6184 §5.2) for a stamp, and for a slice of a key frame.
fn look(payload: &[u8], key: &mut bool) -> Option<Stamp> {
    let (&indicator, rest) = payload.split_first()?;
    match indicator & 0x1f {
        // STAP-A (§5.7.1): units behind 16-bit lengths.
        24 => {
            let mut rest = rest;
            let mut found = None;
            while let Some((length, behind)) = rest.split_first_chunk::<2>() {
                let (nal, behind) = behind.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
                *key |= nal.first().is_some_and(|header| header & 0x1f == 5);
                found = found.or_else(|| Stamp::from_nal(nal));
                rest = behind;
            }
            found
        }
        // FU-A (§5.8): the type is in the second byte.
        28 => {
            *key |= rest.first().is_some_and(|header| header & 0x1f == 5);
            None
        }
        kind => {
            *key |= kind == 5;
            Stamp::from_nal(payload)
        }
    }
}

/// Which of the latest sequence numbers came: a retransmission may bring one that came after all.
#[derive(Debug)]
struct Seen(Vec<u64>);

/// 4 s of 4 Mbit/s in packets of 1,200 bytes: 1,667, rounded up.
const WINDOW: usize = 2_048;

impl Default for Seen {
    fn default() -> Self {
        Self(vec![u64::MAX; WINDOW])
    }
}

impl Seen {
    fn insert(&mut self, seq: u64) -> bool {
        let slot = self.0.get_mut(seq as usize % WINDOW);
        slot.is_some_and(|slot| std::mem::replace(slot, seq) != seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;

    fn key(counter: u64) -> Vec<u8> {
        let sei = Stamp { counter, utc_nanos: 7 }.to_nal();
        [&[24][..], &u16::try_from(sei.len()).unwrap().to_be_bytes(), &sei, &[0, 2, 0x65, 0x88]].concat()
    }

    /// `(sequence number, time, marker, key, ms)`, and what comes out: `w` whole, `k` whole key frame, `-` incomplete.
    #[test]
    fn units_are_whole_or_not() {
        type Row<'a> = (&'a str, &'a [(u64, u64, bool, bool, i64)], &'a str);
        let rows: [Row<'_>; 7] = [
            ("in order", &[(5, 0, false, true, 0), (6, 0, true, false, 0), (7, 9, true, false, 40)], "kw"),
            ("reordered", &[(5, 0, false, true, 0), (7, 9, true, false, 1), (6, 0, true, false, 2)], "kw"),
            ("twice", &[(5, 0, false, true, 0), (5, 0, false, true, 0), (6, 0, true, false, 2)], "k"),
            ("repaired", &[(5, 0, true, true, 0), (7, 9, true, false, 40), (6, 9, false, false, 90)], "kw"),
            (
                "lost",
                &[(5, 0, true, true, 0), (7, 9, true, false, 40), (8, 18, true, false, 80), (9, 27, true, false, 700)],
                "k-ww",
            ),
            ("a whole unit lost", &[(5, 0, true, true, 0), (7, 18, true, false, 40), (8, 27, true, false, 700)], "k-w"),
            (
                "on at the next key frame",
                &[(5, 0, true, true, 0), (7, 9, true, false, 40), (8, 18, true, true, 80)],
                "k-k",
            ),
        ];
        for (name, arrivals, wanted) in rows {
            let (mut units, mut out) = (Units::default(), Vec::new());
            for &(seq, time, marker, is_key, ms) in arrivals {
                let payload = if is_key { key(seq) } else { vec![0x41, 0x9a] };
                let utc = ms * MS;
                units.push(&Arrival { seq, time, marker, payload: &payload, utc }, &mut out);
                units.expire(utc, &mut out);
            }
            let seen: String = out
                .iter()
                .map(|released| match released {
                    Released::Whole(whole) if whole.key => 'k',
                    Released::Whole(_) => 'w',
                    Released::Incomplete => '-',
                })
                .collect();
            assert_eq!(seen, wanted, "{name}");
        }
    }

    #[test]
    fn stamps_are_found_in_aggregates_and_alone() {
        let stamp = Stamp { counter: 3, utc_nanos: 7 };
        for (payload, wanted, is_key) in [
            (key(3), Some(stamp), true),
            (stamp.to_nal().to_vec(), Some(stamp), false),
            (vec![28, 0x85, 1], None, true),
            (vec![28, 0x05, 1], None, true),
            (vec![24, 0, 9, 1], None, false),
            (vec![], None, false),
        ] {
            let mut seen = false;
            assert_eq!((look(&payload, &mut seen), seen), (wanted, is_key), "{payload:02x?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_packets_are_taken(packets in proptest::collection::vec(
            (0..40_u64, 0..8_u64, proptest::bool::ANY, proptest::collection::vec(proptest::num::u8::ANY, 0..60), 0..900_i64),
            0..200,
        )) {
            let (mut units, mut out) = (Units::default(), Vec::new());
            for (seq, time, marker, payload, ms) in &packets {
                let arrival = Arrival { seq: *seq, time: *time, marker: *marker, payload, utc: ms * MS };
                units.push(&arrival, &mut out);
                units.expire(ms * MS, &mut out);
            }
            proptest::prop_assert!(out.len() <= packets.len());
        }
    }
}

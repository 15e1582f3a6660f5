//! Where packets begin: the sync byte's pattern, kept over pieces of any size.

use memchr::memchr_iter;

use crate::{
    Quirk, QuirkCounters,
    packet::{PACKET_BYTES, SYNC},
};

/// Bytes from one packet to the next: bare; behind a 4-byte arrival time (M2TS, AVCHD); before 16 bytes of Reed-Solomon
/// parity (DVB, §2.4.3.2 knows none of it).
const STRIDES: [usize; 3] = [PACKET_BYTES, 192, 204];

/// Packets that must follow at one stride before the first is believed: a false one among random bytes needs three of
/// 0x47 by chance, 1 in 5 million for each stride, and is noticed at the next packet.
const PROOFS: usize = 3;

/// What must be seen to decide about the first 188 positions: so many of the longest strides more.
const WINDOW: usize = PACKET_BYTES + PROOFS * 204 + 4;

/// Cuts bytes into packets.
#[derive(Debug)]
pub(crate) struct Framer {
    /// Bytes that are less than a packet, or than what deciding takes: at most [`WINDOW`].
    carry: Vec<u8>,
    /// The distance of packets; `None` while it is searched for.
    stride: Option<usize>,
    /// Bytes to be passed over before the next packet.
    gap: usize,
    /// A packet that came in two pieces.
    whole: [u8; PACKET_BYTES],
}

impl Default for Framer {
    fn default() -> Self {
        Self { carry: Vec::with_capacity(WINDOW), stride: None, gap: 0, whole: [0; PACKET_BYTES] }
    }
}

impl Framer {
    /// The next packet, from what was kept and from the front of `input`, of which it is taken.
    pub(crate) fn next<'packet, 'input: 'packet>(
        &'packet mut self,
        input: &mut &'input [u8],
        quirks: &mut QuirkCounters,
    ) -> Option<&'packet [u8; PACKET_BYTES]> {
        loop {
            let Some(stride) = self.stride else {
                self.top_up(WINDOW, input);
                if self.carry.len() < WINDOW {
                    return None;
                }
                self.search(PACKET_BYTES, quirks);
                continue;
            };
            if !self.carry.is_empty() || input.len() < self.gap + PACKET_BYTES {
                self.top_up(self.gap + PACKET_BYTES, input);
                let packet = self.carry.get(self.gap..).and_then(|bytes| bytes.first_chunk())?;
                self.whole = *packet;
                if self.whole.first() == Some(&SYNC) {
                    self.carry.drain(..self.gap + PACKET_BYTES);
                    self.gap = stride - PACKET_BYTES;
                    return Some(&self.whole);
                }
                self.carry.drain(..self.gap);
            } else {
                *input = input.get(self.gap..).unwrap_or_default();
                if let Some((packet, rest)) = input.split_first_chunk()
                    && packet.first() == Some(&SYNC)
                {
                    self.gap = stride - PACKET_BYTES;
                    *input = rest;
                    return Some(packet);
                }
            }
            quirks.count(Quirk::SyncLost);
            (self.stride, self.gap) = (None, 0);
        }
    }

    /// No bytes will come any more: decides about those that waited for more. [`next`](Self::next) gives the packets.
    pub(crate) fn finish(&mut self, quirks: &mut QuirkCounters) {
        if self.stride.is_none() && !self.carry.is_empty() {
            self.search(self.carry.len(), quirks);
        }
    }

    /// A packet has begun and has not ended.
    pub(crate) fn is_in_packet(&self) -> bool {
        self.stride.is_some() && self.carry.len() > self.gap
    }

    /// Forgets everything.
    pub(crate) fn reset(&mut self) {
        self.carry.clear();
        (self.stride, self.gap) = (None, 0);
    }

    fn top_up(&mut self, wanted: usize, input: &mut &[u8]) {
        let missing = wanted.saturating_sub(self.carry.len());
        let (taken, rest) = input.split_at(missing.min(input.len()));
        self.carry.extend_from_slice(taken);
        *input = rest;
    }

    /// Looks for a packet's start in the first `positions` kept bytes; drops what stands before it, or all of them.
    fn search(&mut self, positions: usize, quirks: &mut QuirkCounters) {
        let bytes = &self.carry;
        // adaptation_field_control is never 0 (Table 2-5): runs of 0x47 are no packets.
        let is_packet = |at: usize| match bytes.get(at..).unwrap_or_default() {
            [sync, _, _, control, ..] => *sync == SYNC && control & 0x30 != 0,
            [sync, ..] => *sync == SYNC,
            [] => true,
        };
        // At the end there are fewer proofs: packets must fill what is left.
        let ended = positions == bytes.len();
        let fits = |at: usize, stride: usize| {
            let over = (bytes.len() - at) % stride;
            !ended || over == 0 || over == PACKET_BYTES
        };
        let proven = |at: usize, stride: usize| (0..=PROOFS).all(|proof| is_packet(at + proof * stride));
        let found = memchr_iter(SYNC, bytes.get(..positions).unwrap_or(bytes))
            .take_while(|at| at + PACKET_BYTES <= bytes.len())
            .find_map(|at| Some((at, STRIDES.into_iter().find(|stride| proven(at, *stride) && fits(at, *stride))?)));
        let (skipped, stride) = found.map_or((positions, None), |(at, stride)| (at, Some(stride)));
        self.stride = stride;
        self.carry.drain(..skipped.min(self.carry.len()));
        quirks.add(Quirk::BytesSkipped, skipped as u64);
    }
}

//! Where pictures begin and end, which of them are whole, and which can be decoded: common to H.264 and H.265.
//!
//! A picture ends at the marker bit (RFC 6184 §5.1, RFC 7798 §4.1) or when the timestamp changes. Cameras set the
//! marker where it doesn't belong, so it is believed only after it has been right for the first few pictures, each
//! of which waits for its successor.

use std::time::Instant;

use bytes::Bytes;
use relay_media::{
    Flags,
    access_unit::{AccessUnit, AccessUnitBuilder, Boundary, Role, Syntax, Unfit},
};

use crate::{AfterLoss, Quirk, RtpPacket, depacketizer::Units};

/// Pictures whose marker must have been right before it is believed: one group of slices is seen at least, and the
/// wait is over before anyone watches.
const MARKER_TRIAL: u8 = 3;

/// Assembles the pictures of one RTP stream.
#[derive(Debug)]
pub(crate) struct Pictures {
    builder: AccessUnitBuilder,
    after_loss: AfterLoss,
    timestamp: Option<i64>,
    /// When the newest packet of that timestamp was read.
    arrival: Option<Instant>,
    state: State,
    marker: Marker,
    /// Waiting for a key frame.
    gated: bool,
    /// Decoding began at an open random access point, whose skipped leading pictures cannot be decoded.
    skip_leading: bool,
    fragment_header: [u8; 2],
    start_codes_seen: u64,
}

/// The picture of the newest timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing of it has come.
    Empty,
    /// Parts of it have come.
    Collecting,
    /// The marker said that it is whole; its successor has to agree.
    Ended,
    /// It was handed out at its marker.
    Done,
    /// A part is missing; the rest is passed over.
    Damaged,
}

/// How far the marker bit is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Marker {
    Trial(u8),
    Believed,
    Lies,
}

impl Pictures {
    pub(crate) fn new(syntax: Syntax, parameter_sets: &[Bytes], after_loss: AfterLoss) -> Self {
        let mut builder = AccessUnitBuilder::new(syntax);
        parameter_sets.iter().for_each(|sets| builder.learn(sets));
        Self {
            builder,
            after_loss,
            timestamp: None,
            arrival: None,
            state: State::Empty,
            marker: Marker::Trial(0),
            gated: true,
            skip_leading: false,
            fragment_header: [0; 2],
            start_codes_seen: 0,
        }
    }

    /// A packet has come: ends the picture before it if its timestamp is another.
    pub(crate) fn arrive(&mut self, packet: &RtpPacket<'_>, output: &mut Units) {
        self.turn(packet, output);
        self.arrival = Some(packet.arrival);
    }

    fn turn(&mut self, packet: &RtpPacket<'_>, output: &mut Units) {
        let same = self.timestamp == Some(packet.timestamp);
        if packet.lost_before > 0 {
            // All that is lost lies inside a picture that no other refers to: nothing else is hurt.
            let harmless = same && self.state == State::Collecting && self.builder.is_disposable();
            self.abandon(output);
            if !harmless {
                self.close_gate();
            }
        }
        if same {
            return;
        }
        if let State::Collecting | State::Ended = self.state {
            if self.state == State::Ended {
                self.marker_was_right();
            }
            self.complete(output);
        }
        self.timestamp = Some(packet.timestamp);
        self.state = State::Empty;
    }

    /// A whole NAL unit.
    pub(crate) fn nal(&mut self, nal: &[u8], output: &mut Units) {
        if self.enter(nal, output) {
            self.builder.push(nal);
        }
    }

    /// A fragment of the NAL unit with `header`, as rebuilt from the fragment's own headers.
    pub(crate) fn fragment(&mut self, fragment: Fragment<'_>, output: &mut Units) {
        let Fragment { header, body, start, end } = fragment;
        if body.is_empty() {
            output.count(Quirk::EmptyFragment);
        }
        let key = match *header {
            [first, second, ..] => [first, second],
            [first] => [first, 0],
            [] => [0; 2],
        };
        if start {
            let mut head = [0; 8];
            head.iter_mut().zip(header.iter().chain(body)).for_each(|(to, from)| *to = *from);
            if !self.enter(head.get(..header.len() + body.len()).unwrap_or(&head), output) {
                return;
            }
            self.builder.begin(header);
            self.fragment_header = key;
        } else if self.state == State::Damaged {
            return;
        } else if !self.builder.is_nal_open() {
            output.count(Quirk::FragmentStartMissing);
            self.damage(output);
            return;
        } else if key != self.fragment_header {
            // Tiandy cameras change the type within a unit; the first fragment tells the truth.
            output.count(Quirk::FragmentTypeChanged);
        }
        self.builder.extend(body);
        if end {
            self.builder.end();
        }
    }

    /// The packet's marker bit is set.
    pub(crate) fn marker(&mut self, output: &mut Units) {
        match self.state {
            State::Damaged if self.marker != Marker::Lies => self.state = State::Done,
            State::Collecting if self.builder.has_slice() => {
                self.end_open_fragment(output);
                match self.marker {
                    Marker::Trial(_) => self.state = State::Ended,
                    Marker::Believed => {
                        self.complete(output);
                        self.state = State::Done;
                    }
                    Marker::Lies => {}
                }
            }
            State::Empty | State::Collecting => output.count(Quirk::MarkerWithoutPicture),
            State::Ended | State::Done | State::Damaged => {}
        }
    }

    /// A part of the current picture is unusable: drops it whole.
    pub(crate) fn damage(&mut self, output: &mut Units) {
        self.abandon(output);
        self.close_gate();
    }

    /// No packet will come any more.
    pub(crate) fn finish(&mut self, output: &mut Units) {
        if self.state == State::Ended {
            self.complete(output);
            self.state = State::Done;
        }
    }

    /// A NAL unit that begins with `head` comes: true if it is to be collected.
    fn enter(&mut self, head: &[u8], output: &mut Units) -> bool {
        match (self.state, self.builder.boundary(head)) {
            (State::Damaged, _) | (State::Done, Boundary::Trails) => return false,
            (State::Ended, Boundary::Opens) => {
                self.marker_was_right();
                self.complete(output);
                self.state = State::Collecting;
            }
            (State::Ended, Boundary::Trails) => {}
            (State::Ended, Boundary::Continues) => {
                output.count(Quirk::MarkerInsidePicture);
                self.marker = Marker::Lies;
                self.state = State::Collecting;
            }
            (State::Done, Boundary::Continues) => {
                // Its head has been handed out as if it were whole; nothing after it is sure to decode.
                output.count(Quirk::MarkerInsidePicture);
                self.marker = Marker::Lies;
                self.damage(output);
                return false;
            }
            (State::Empty | State::Collecting | State::Done, _) => {
                self.end_open_fragment(output);
                self.state = State::Collecting;
            }
        }
        true
    }

    fn end_open_fragment(&mut self, output: &mut Units) {
        if self.builder.is_nal_open() {
            // No packet is missing, so all of it has come: only the end bit was forgotten.
            output.count(Quirk::FragmentEndMissing);
            self.builder.end();
        }
    }

    fn marker_was_right(&mut self) {
        self.marker = match self.marker {
            Marker::Trial(right) if right + 1 < MARKER_TRIAL => Marker::Trial(right + 1),
            Marker::Trial(_) | Marker::Believed => Marker::Believed,
            Marker::Lies => Marker::Lies,
        };
    }

    /// Drops what was collected and passes over what will come of the same picture.
    fn abandon(&mut self, output: &mut Units) {
        if let State::Collecting | State::Ended = self.state {
            output.count(Quirk::UnitDamaged);
        }
        self.builder.discard();
        self.state = State::Damaged;
    }

    fn close_gate(&mut self) {
        if self.after_loss == AfterLoss::WaitForKey {
            self.gated = true;
        }
    }

    /// Ends the collected picture and hands it out if it can be decoded.
    fn complete(&mut self, output: &mut Units) {
        self.end_open_fragment(output);
        let finished = self.builder.finish();
        let start_codes = self.builder.start_codes_seen();
        output.quirks.add(Quirk::AnnexBInPayload, start_codes - self.start_codes_seen);
        self.start_codes_seen = start_codes;
        let failure = match finished {
            Ok(unit) => return self.hand_out(unit, output),
            // Parameter sets or SEI under a timestamp of their own.
            Err(Unfit::NoSlice) => return,
            Err(Unfit::NoFirstSlice) => Quirk::UnitDamaged,
            Err(Unfit::TooLarge) => Quirk::UnitTooLarge,
            Err(Unfit::NoParameterSets) => Quirk::UnitWithoutParameters,
            Err(Unfit::BadParameterSets(_)) => Quirk::BadParameterSets,
        };
        output.count(failure);
        self.close_gate();
    }

    fn hand_out(&mut self, unit: AccessUnit, output: &mut Units) {
        if let Some(codec) = unit.codec {
            output.codec = Some(codec);
        }
        match unit.role {
            Role::Closed => self.skip_leading = false,
            Role::Open => self.skip_leading = self.gated,
            Role::SkippedLeading if self.skip_leading => return output.count(Quirk::LeadingSkipped),
            Role::SkippedLeading | Role::Dependent if self.gated => return output.count(Quirk::UnitBeforeKey),
            Role::SkippedLeading | Role::Dependent => {}
        }
        self.gated &= !unit.flags.contains(Flags::KEY);
        if let (Some(timestamp), Some(arrival)) = (self.timestamp, self.arrival) {
            output.emit(timestamp, arrival, unit.payload, unit.flags);
        }
    }
}

/// A part of a fragmented NAL unit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fragment<'a> {
    /// The unit's header, rebuilt: one byte in H.264, two in H.265.
    pub(crate) header: &'a [u8],
    pub(crate) body: &'a [u8],
    pub(crate) start: bool,
    pub(crate) end: bool,
}

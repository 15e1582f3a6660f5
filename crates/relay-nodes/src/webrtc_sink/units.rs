//! Packets made ready for RTP once, for all viewers of a stream.

use std::{collections::VecDeque, sync::Arc};

use relay_media::Packet;
use relay_webrtc::{Packetizer, RtpUnit};

/// The newest units that were made, found again by the packet they were made of.
#[derive(Debug, Default)]
pub(super) struct Units {
    packetizer: Packetizer,
    made: VecDeque<(Arc<Packet>, Option<Arc<RtpUnit>>)>,
    bytes: usize,
}

/// Viewers that keep up ask for the same few packets; those that join together, for what one of them takes in a turn.
/// Who joins alone has a GOP made for itself.
const UNITS_MAX: usize = 24;

/// The most bytes of payload that are kept ready: two key frames of a 20 Mbit/s camera.
pub(super) const BYTES_MAX: usize = 4 << 20;

impl Units {
    /// The unit of `packet`; `None` if its codec can't be carried.
    pub(super) fn of(&mut self, packet: &Arc<Packet>) -> Option<Arc<RtpUnit>> {
        // The newest are asked for most: from the back.
        if let Some((_, unit)) = self.made.iter().rev().find(|(made, _)| Arc::ptr_eq(made, packet)) {
            return unit.clone();
        }
        let unit = self.packetizer.packetize(packet).map(Arc::new);
        self.bytes += packet.payload.len();
        self.made.push_back((packet.clone(), unit.clone()));
        while self.made.len() > UNITS_MAX || (self.bytes > BYTES_MAX && self.made.len() > 1) {
            let Some((oldest, _)) = self.made.pop_front() else { break };
            self.bytes -= oldest.payload.len();
        }
        unit
    }

    /// Forgets all of them: nobody watches.
    pub(super) fn clear(&mut self) {
        self.made.clear();
        self.bytes = 0;
    }
}

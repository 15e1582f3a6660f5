//! Sections of the programme's tables, put together from packets (§2.4.4).

use crate::{
    Quirk, QuirkCounters,
    packet::{Continuity, Follows, TsPacket},
};

/// The most bytes of a PAT or PMT section: a length of 1 021 and the three bytes before it (§2.4.4.4, §2.4.4.9).
const MAX_SECTION_BYTES: usize = 1_024;

/// Assembles the sections of one packet identifier.
#[derive(Debug, Default)]
pub(crate) struct Sections {
    /// The section that is being collected: at most [`MAX_SECTION_BYTES`] and a packet.
    buffer: Vec<u8>,
    is_collecting: bool,
    continuity: Continuity,
    /// The newest packet's payload.
    newest: Vec<u8>,
}

impl Sections {
    /// Takes one packet, and hands each section that it completes to `each`, from its `table_id` to its CRC.
    pub(crate) fn push(&mut self, packet: &TsPacket<'_>, quirks: &mut QuirkCounters, mut each: impl FnMut(&[u8])) {
        match self.continuity.check(packet) {
            Follows::Next => {}
            Follows::Repeats if packet.payload == self.newest => return quirks.count(Quirk::PacketRepeated),
            // Where sections end in stuffing, packets that differ have the same tail.
            Follows::Repeats | Follows::Gap | Follows::Announced => self.drop_partial(),
        }
        let payload = packet.payload;
        self.newest.clear();
        self.newest.extend_from_slice(payload);
        if !packet.starts_unit {
            return self.extend(payload, quirks, &mut each);
        }
        // pointer_field: bytes of the section before (§2.4.4.2).
        let Some((pointer, rest)) = payload.split_first() else { return };
        let Some((before, rest)) = rest.split_at_checked(usize::from(*pointer)) else {
            self.drop_partial();
            return quirks.count(Quirk::SectionInvalid);
        };
        self.extend(before, quirks, &mut each);
        self.buffer.clear();
        self.is_collecting = true;
        self.extend(rest, quirks, &mut each);
    }

    /// What comes next may be counted anew.
    pub(crate) fn break_off(&mut self) {
        self.drop_partial();
        self.continuity.forget();
    }

    fn drop_partial(&mut self) {
        self.buffer.clear();
        self.is_collecting = false;
    }

    fn extend(&mut self, bytes: &[u8], quirks: &mut QuirkCounters, each: &mut impl FnMut(&[u8])) {
        if !self.is_collecting {
            return;
        }
        self.buffer.extend_from_slice(bytes);
        while let [table_id, high, low, ..] = *self.buffer.as_slice() {
            // §2.4.4.1: 0xff where a table_id would stand is stuffing to the end of the packet.
            if table_id == 0xff {
                return self.drop_partial();
            }
            let length = 3 + usize::from(u16::from_be_bytes([high & 0x0f, low]));
            if length > MAX_SECTION_BYTES {
                self.drop_partial();
                return quirks.count(Quirk::SectionInvalid);
            }
            let Some(section) = self.buffer.get(..length) else { return };
            each(section);
            self.buffer.drain(..length);
        }
        if self.buffer.first() == Some(&0xff) {
            self.drop_partial();
        }
    }
}

/// The CRC of a whole section, its own CRC included, is 0 (Annex A). Bit by bit: tables that repeat are not summed.
///
/// While fuzzing, every section is sound: chance doesn't find a CRC.
pub(crate) fn is_sound(section: &[u8]) -> bool {
    const POLYNOMIAL: u32 = 0x04c1_1db7;
    let crc = section.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte) << 24, |crc, _| crc << 1 ^ if crc >> 31 == 1 { POLYNOMIAL } else { 0 })
    });
    crc == 0 || cfg!(fuzzing)
}

//! One programme: its tables, and which packets belong to which of its streams.

use crate::{
    AfterLoss, Content, Quirk,
    clock::Clock,
    demuxer::{Elementary, Units},
    packet::{NULL_PID, PACKET_BYTES, PIDS, TsPacket},
    section::{self, Sections},
    stream::Stream,
    tables::{self, Map},
};

/// Elementary streams of one programme: pictures, a few languages of sound, subtitles and data. Television has 20.
const MAX_STREAMS: usize = 32;

/// Streams of pictures among them, each of which may hold 16 MiB. One as a rule; a second angle.
const MAX_PICTURE_STREAMS: usize = 2;

/// Where the programme association table is (Table 2-3).
const PAT_PID: u16 = 0;

#[derive(Debug)]
pub(crate) struct Programme {
    pub(crate) units: Units,
    after_loss: AfterLoss,
    /// What to do with a packet, by its identifier.
    slots: Vec<Slot>,
    pat: Sections,
    pmt: Sections,
    /// The sections in force, to know repetitions by.
    pat_section: Vec<u8>,
    pmt_section: Vec<u8>,
    /// The programme's number and the identifier of its map.
    chosen: Option<(u16, u16)>,
    pcr_pid: u16,
    clock: Clock,
    streams: Vec<Stream>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    Ignored,
    Pat,
    Pmt,
    Stream(u8),
}

impl Programme {
    pub(crate) fn new(after_loss: AfterLoss) -> Self {
        let mut programme = Self {
            units: Units::default(),
            after_loss,
            slots: vec![Slot::Ignored; usize::from(PIDS)],
            pat: Sections::default(),
            pmt: Sections::default(),
            pat_section: Vec::new(),
            pmt_section: Vec::new(),
            chosen: None,
            pcr_pid: NULL_PID,
            clock: Clock::default(),
            streams: Vec::new(),
        };
        programme.set_slot(PAT_PID, Slot::Pat);
        programme
    }

    pub(crate) fn packet(&mut self, bytes: &[u8; PACKET_BYTES]) {
        let Some(packet) = TsPacket::read(bytes) else { return self.units.quirks.count(Quirk::PacketInvalid) };
        if packet.is_damaged {
            return self.units.quirks.count(Quirk::TransportError);
        }
        if packet.pid == self.pcr_pid {
            self.reference(&packet);
        }
        match self.slots.get(usize::from(packet.pid)) {
            Some(Slot::Stream(index)) => {
                if let Some(stream) = self.streams.get_mut(usize::from(*index)) {
                    stream.packet(&packet, &mut self.clock, &mut self.units);
                }
            }
            Some(Slot::Pat) => self.association(&packet),
            Some(Slot::Pmt) => self.map(&packet),
            Some(Slot::Ignored) | None => {}
        }
    }

    pub(crate) fn is_doubtful(&self) -> bool {
        self.streams.iter().any(Stream::is_doubtful)
    }

    pub(crate) fn finish(&mut self) {
        self.streams.iter_mut().for_each(|stream| stream.finish(&mut self.units));
        self.pat.break_off();
        self.pmt.break_off();
    }

    pub(crate) fn discontinue(&mut self) {
        self.streams.iter_mut().for_each(|stream| stream.discontinue(&mut self.units));
        self.pat.break_off();
        self.pmt.break_off();
        self.clock.forget();
    }

    pub(crate) fn elementaries(&self) -> impl Iterator<Item = Elementary<'_>> {
        self.streams.iter().map(Stream::elementary)
    }

    pub(crate) fn pcr(&self) -> Option<i64> {
        self.clock.pcr()
    }

    fn reference(&mut self, packet: &TsPacket<'_>) {
        if let Some(pcr) = packet.pcr {
            self.clock.set_pcr(pcr);
        }
        if packet.discontinuity {
            // §2.4.3.5: the time base of the whole programme is another from here on.
            self.streams.iter_mut().for_each(Stream::announce_discontinuity);
        }
    }

    fn association(&mut self, packet: &TsPacket<'_>) {
        let (mut accepted, quirks) = (false, &mut self.units.quirks);
        let known = &mut self.pat_section;
        self.pat.push(packet, quirks, |section| accepted |= replace(known, section));
        if !accepted {
            return;
        }
        if !section::is_sound(&self.pat_section) {
            self.pat_section.clear();
            return quirks.count(Quirk::SectionCrc);
        }
        let Some(programmes) = tables::programmes(&self.pat_section) else { return };
        let (mut first, mut same) = (None, None);
        for (index, entry) in programmes.enumerate() {
            first = first.or(Some(entry));
            same = same.or(Some(entry).filter(|(number, _)| self.chosen.is_some_and(|(chosen, _)| chosen == *number)));
            if index > 0 {
                quirks.count(Quirk::ProgrammeIgnored);
            }
        }
        // A table may come in several sections (§2.4.4.5): without ours among several, it is in another.
        let is_only = matches!(self.pat_section.get(6..8), Some([0, 0]));
        let chosen = same.or(first.filter(|_| is_only || self.chosen.is_none()));
        if chosen.is_some() && chosen != self.chosen {
            self.choose(chosen);
        }
    }

    fn choose(&mut self, chosen: Option<(u16, u16)>) {
        if let Some((_, pid)) = self.chosen {
            self.set_slot(pid, Slot::Ignored);
        }
        self.chosen = chosen;
        self.pmt = Sections::default();
        self.pmt_section.clear();
        self.assign_slots();
    }

    fn map(&mut self, packet: &TsPacket<'_>) {
        let Some((number, _)) = self.chosen else { return };
        let (mut accepted, mut crc_wrong, known) = (false, 0, &mut self.pmt_section);
        self.pmt.push(packet, &mut self.units.quirks, |section| {
            // Maps of several programmes may share an identifier, and other tables may stand beside them.
            let is_ours = Map::read(section).is_some_and(|map| map.programme == number);
            if is_ours && known != section {
                let sound = section::is_sound(section);
                crc_wrong += u64::from(!sound);
                accepted |= sound && replace(known, section);
            }
        });
        self.units.quirks.add(Quirk::SectionCrc, crc_wrong);
        if accepted {
            self.apply_map();
        }
    }

    /// Follows the streams that the map lists: those that were there before go on, the others end.
    fn apply_map(&mut self) {
        let section = std::mem::take(&mut self.pmt_section);
        let Some(map) = Map::read(&section) else { return };
        let mut before = std::mem::take(&mut self.streams);
        self.clear_slots(&before);
        self.pcr_pid = map.pcr_pid;
        for (pid, content) in map.entries() {
            let is_taken = matches!(pid, PAT_PID | NULL_PID) || self.chosen.is_some_and(|(_, map)| map == pid);
            let is_picture = |content: Content| matches!(content, Content::H264 | Content::H265);
            let pictures = self.streams.iter().filter(|stream| is_picture(stream.content())).count();
            let is_too_many =
                self.streams.len() >= MAX_STREAMS || is_picture(content) && pictures >= MAX_PICTURE_STREAMS;
            if is_taken || is_too_many || self.streams.iter().any(|stream| stream.pid() == pid) {
                self.units.quirks.count(Quirk::StreamIgnored);
                continue;
            }
            let same = before.iter().position(|stream| stream.pid() == pid && stream.content() == content);
            let stream = same.map(|index| before.swap_remove(index));
            self.streams.push(stream.unwrap_or_else(|| Stream::new(pid, content, self.after_loss)));
        }
        before.iter_mut().for_each(|stream| stream.finish(&mut self.units));
        self.pmt_section = section;
        self.assign_slots();
    }

    fn clear_slots(&mut self, streams: &[Stream]) {
        for stream in streams {
            self.set_slot(stream.pid(), Slot::Ignored);
        }
    }

    fn assign_slots(&mut self) {
        for index in 0..self.streams.len() {
            if let Some((pid, slot)) = self.streams.get(index).filter(|stream| stream.is_followed()).map(|stream| {
                let index = u8::try_from(index).unwrap_or(u8::MAX);
                (stream.pid(), Slot::Stream(index))
            }) {
                self.set_slot(pid, slot);
            }
        }
        if let Some((_, pid)) = self.chosen {
            self.set_slot(pid, Slot::Pmt);
        }
        self.set_slot(PAT_PID, Slot::Pat);
    }

    fn set_slot(&mut self, pid: u16, slot: Slot) {
        if let Some(place) = self.slots.get_mut(usize::from(pid)) {
            *place = slot;
        }
    }
}

/// Takes `section` as the one in force; false if it is already.
fn replace(known: &mut Vec<u8>, section: &[u8]) -> bool {
    let is_new = known != section;
    if is_new {
        known.clear();
        known.extend_from_slice(section);
    }
    is_new
}

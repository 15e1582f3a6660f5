//! A transport stream writer, as small as tests and the bench need it.

use std::collections::BTreeMap;

/// Where the programme's map is.
pub(crate) const PMT_PID: u16 = 0x1000;

/// Whether a PES packet tells its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    Told,
    Open,
}

/// Collects packets.
#[derive(Clone, Debug, Default)]
pub(crate) struct Writer {
    pub(crate) out: Vec<u8>,
    counters: BTreeMap<u16, u8>,
}

impl Writer {
    /// A stream that begins with tables: one programme of these stream types, identifiers and descriptors.
    pub(crate) fn new(streams: &[(u8, u16, &[u8])]) -> Self {
        let mut writer = Self::default();
        writer.tables(0, streams);
        writer
    }

    /// PAT and PMT.
    pub(crate) fn tables(&mut self, version: u8, streams: &[(u8, u16, &[u8])]) {
        self.packets(0, &[&[0], &*pat(version, &[(1, PMT_PID)])].concat());
        self.packets(PMT_PID, &[&[0], &*pmt(version, streams)].concat());
    }

    /// A PES packet with PTS and DTS of 90 kHz, or without.
    pub(crate) fn pes(&mut self, pid: u16, times: Option<(u64, u64)>, length: Length, payload: &[u8]) {
        let bytes = pes(times, length, payload);
        self.packets(pid, &bytes);
    }

    /// Packets of one PES packet or section, the last of them stuffed: sections behind, PES in the adaptation field.
    pub(crate) fn packets(&mut self, pid: u16, mut bytes: &[u8]) {
        let is_section = pid == 0 || pid == PMT_PID;
        let mut first = 0x40;
        while !bytes.is_empty() {
            let take = bytes.len().min(184);
            let counter = self.counters.entry(pid).or_default();
            let [high, low] = pid.to_be_bytes();
            let stuffing = 184 - take;
            let control = if stuffing > 0 && !is_section { 0x30 } else { 0x10 };
            self.out.extend_from_slice(&[0x47, first | high, low, control | *counter]);
            *counter = (*counter + 1) & 0x0f;
            if control == 0x30 {
                self.out.push(u8::try_from(stuffing - 1).unwrap());
                self.out.extend([0].iter().chain(&[0xff; 182]).take(stuffing - 1));
            }
            self.out.extend_from_slice(&bytes[..take]);
            if is_section {
                self.out.extend(std::iter::repeat_n(0xff, stuffing));
            }
            (first, bytes) = (0, &bytes[take..]);
        }
    }
}

/// A PES packet (§2.4.3.6).
pub(crate) fn pes(times: Option<(u64, u64)>, length: Length, payload: &[u8]) -> Vec<u8> {
    let mut header = vec![0x80, 0, 0];
    if let Some((pts, dts)) = times {
        header[1..].copy_from_slice(&[0xc0, 10]);
        header.extend(time(3, pts).into_iter().chain(time(1, dts)));
    }
    let length = if length == Length::Told { u16::try_from(header.len() + payload.len()).unwrap() } else { 0 };
    [&[0, 0, 1, 0xe0][..], &length.to_be_bytes(), &header, payload].concat()
}

fn time(prefix: u8, ticks: u64) -> [u8; 5] {
    let [high, middle, low] = [30, 15, 0].map(|shift| (ticks >> shift & 0x7fff) << 1 | 1);
    let ([_, _, _, _, _, _, a, b], [_, _, _, _, _, _, c, d]) = (middle.to_be_bytes(), low.to_be_bytes());
    [prefix << 4 | (high & 0x0f) as u8, a, b, c, d]
}

/// A PAT section of these programmes and the identifiers of their maps.
pub(crate) fn pat(version: u8, programmes: &[(u16, u16)]) -> Vec<u8> {
    let entries = programmes.iter().flat_map(|(number, pid)| [number.to_be_bytes(), (0xe000 | pid).to_be_bytes()]);
    section(0, 1, version, &entries.flatten().collect::<Vec<_>>())
}

/// The PMT section of programme 1, whose first stream carries the clock.
pub(crate) fn pmt(version: u8, streams: &[(u8, u16, &[u8])]) -> Vec<u8> {
    let pcr = 0xe000 | streams.first().map_or(0x1fff, |(_, pid, _)| *pid);
    let mut body = [pcr.to_be_bytes(), [0xf0, 0]].concat();
    for (stream_type, pid, descriptors) in streams {
        body.push(*stream_type);
        body.extend((0xe000 | pid).to_be_bytes());
        body.extend((0xf000 | u16::try_from(descriptors.len()).unwrap()).to_be_bytes());
        body.extend_from_slice(descriptors);
    }
    section(2, 1, version, &body)
}

fn section(table: u8, id: u16, version: u8, body: &[u8]) -> Vec<u8> {
    let length = 0xb000 | u16::try_from(5 + body.len() + 4).unwrap();
    let ([a, b], [c, d]) = (length.to_be_bytes(), id.to_be_bytes());
    let mut section = [&[table, a, b, c, d, 0xc1 | version << 1, 0, 0], body].concat();
    let crc = section.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte) << 24, |crc, _| (crc << 1) ^ ((crc >> 31) * 0x04c1_1db7))
    });
    section.extend(crc.to_be_bytes());
    section
}

/// One ADTS frame of AAC-LC, 48 kHz, stereo.
pub(crate) fn adts(frame: &[u8]) -> Vec<u8> {
    let length = u32::try_from(7 + frame.len()).unwrap();
    let [_, a, b, c] = (length << 5 | 0x1f).to_be_bytes();
    [&[0xff, 0xf1, 0x4c, 0x80 | a, b, c, 0xfc], frame].concat()
}

/// NAL units behind start codes, the first of four bytes.
pub(crate) fn annex_b(nals: &[&[u8]]) -> Vec<u8> {
    let mut bytes = vec![0];
    nals.iter().for_each(|nal| bytes.extend([&[0, 0, 1], *nal].concat()));
    bytes
}

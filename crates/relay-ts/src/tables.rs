//! The programme association table and the programme map table (§2.4.4), and what stream types mean (Table 2-34).

/// What an elementary stream carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Content {
    /// ITU-T H.264 in Annex B.
    H264,
    /// ITU-T H.265 in Annex B.
    H265,
    /// AAC in ADTS (ISO/IEC 13818-7).
    Aac,
    /// Opus, this many channels (ETSI TS 103 491, "Opus in MPEG-2 TS").
    Opus {
        /// 1 or 2.
        channels: u8,
    },
    /// Recognised, and passed over: its name. Sound and pictures in codecs that are not carried (`"mp3"`, `"ac3"`),
    /// timed metadata (`"id3"`), splice commands (`"scte35"`), what is encrypted (`"sample_aes"`), the rest
    /// (`"private"`, `"unknown"`).
    PassedOver(&'static str),
}

impl Content {
    /// Its name in logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::H264 => "h264",
            Self::H265 => "h265",
            Self::Aac => "aac",
            Self::Opus { .. } => "opus",
            Self::PassedOver(name) => name,
        }
    }

    /// What a stream type and the descriptors after it mean (Table 2-34; ATSC A/53 and SCTE 35 for 0x80 and above;
    /// Apple's "MPEG-2 Stream Encryption Format for HTTP Live Streaming" for the encrypted ones).
    fn read(stream_type: u8, descriptors: &[u8]) -> Self {
        Self::PassedOver(match stream_type {
            0x1b => return Self::H264,
            0x24 => return Self::H265,
            0x0f => return Self::Aac,
            0x06 => return Self::read_private(descriptors),
            0x01 | 0x02 => "mpeg2_video",
            0x03 | 0x04 => "mp3",
            0x05 => "private",
            0x10 => "mpeg4_video",
            0x11 => "aac_latm",
            0x15 => "id3",
            0x33 => "h266",
            0x81 => "ac3",
            0x82 | 0x85 | 0x8a => "dts",
            0x86 => "scte35",
            0x87 => "eac3",
            0xc1 | 0xc2 | 0xcf | 0xdb => "sample_aes",
            _ => "unknown",
        })
    }

    /// `stream_type` 6: private data in PES, told by its descriptors (§2.6; ETSI EN 300 468 §6 for the tags above 0x40).
    fn read_private(descriptors: &[u8]) -> Self {
        let mut is_opus = false;
        for (tag, body) in Descriptors(descriptors) {
            match (tag, body) {
                // registration_descriptor (§2.6.8).
                (0x05, [b'O', b'p', b'u', b's', ..]) => is_opus = true,
                (0x05, [b'H', b'E', b'V', b'C', ..]) => return Self::H265,
                (0x05, [b'A', b'C', b'-', b'3', ..]) | (0x6a, _) => return Self::PassedOver("ac3"),
                (0x05, [b'E', b'A', b'C', b'3', ..]) | (0x7a, _) => return Self::PassedOver("eac3"),
                (0x05, [b'I', b'D', b'3', b' ', ..]) => return Self::PassedOver("id3"),
                (0x05, [b'D', b'T', b'S', _, ..]) | (0x7b, _) => return Self::PassedOver("dts"),
                (0x56, _) => return Self::PassedOver("teletext"),
                (0x59, _) => return Self::PassedOver("subtitles"),
                // Extension descriptor of Opus: channel_config_code is the number of channels for mono and stereo.
                (0x7f, [0x80, channels @ 1..=2, ..]) if is_opus => return Self::Opus { channels: *channels },
                _ => {}
            }
        }
        Self::PassedOver(if is_opus { "opus_multichannel" } else { "private" })
    }
}

/// Tags and bodies of a descriptor loop (§2.6); ends at the first that runs past the end.
struct Descriptors<'a>(&'a [u8]);

impl<'a> Iterator for Descriptors<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let ([tag, length], rest) = self.0.split_first_chunk()?;
        let (body, rest) = rest.split_at_checked(usize::from(*length))?;
        self.0 = rest;
        Some((*tag, body))
    }
}

/// What stands between a section's header and its CRC, if it is of this table and in force (§2.4.4.4, §2.4.4.9).
fn body(section: &[u8], table: u8) -> Option<(u16, &[u8])> {
    let ([table_id, syntax, _, id_high, id_low, version, ..], rest) = section.split_first_chunk::<8>()?;
    // section_syntax_indicator; current_next_indicator: tables for later are sent again when their time has come.
    if *table_id != table || syntax & 0x80 == 0 || version & 1 == 0 {
        return None;
    }
    Some((u16::from_be_bytes([*id_high, *id_low]), rest.split_last_chunk::<4>()?.0))
}

/// The programmes of a PAT section with the identifiers of their maps, the network's left out (§2.4.4.4); `None` if it
/// is none in force.
pub(crate) fn programmes(section: &[u8]) -> Option<impl Iterator<Item = (u16, u16)>> {
    let (_, entries) = body(section, 0)?;
    let entries = entries.chunks_exact(4).filter_map(|entry| match entry {
        [a, b, c, d] => Some((u16::from_be_bytes([*a, *b]), u16::from_be_bytes([c & 0x1f, *d]))),
        _ => None,
    });
    Some(entries.filter(|(number, _)| *number != 0))
}

/// A programme map section.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Map<'a> {
    pub(crate) programme: u16,
    pub(crate) pcr_pid: u16,
    entries: &'a [u8],
}

impl<'a> Map<'a> {
    /// Reads a PMT section (§2.4.4.9); `None` if it is none in force.
    pub(crate) fn read(section: &'a [u8]) -> Option<Self> {
        let (programme, rest) = body(section, 2)?;
        let ([pcr_high, pcr_low, info_high, info_low], rest) = rest.split_first_chunk()?;
        let info = usize::from(u16::from_be_bytes([info_high & 0x0f, *info_low]));
        let pcr_pid = u16::from_be_bytes([pcr_high & 0x1f, *pcr_low]);
        Some(Self { programme, pcr_pid, entries: rest.get(info..)? })
    }

    /// Identifiers and contents, in the table's order.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (u16, Content)> + use<'a> {
        let mut rest = self.entries;
        std::iter::from_fn(move || {
            let ([stream_type, high, low, info_high, info_low], after) = rest.split_first_chunk()?;
            let info = usize::from(u16::from_be_bytes([info_high & 0x0f, *info_low]));
            let (descriptors, after) = after.split_at_checked(info)?;
            rest = after;
            Some((u16::from_be_bytes([high & 0x1f, *low]), Content::read(*stream_type, descriptors)))
        })
    }
}

//! The header of a PES packet (§2.4.3.6–2.4.3.7).

/// The longest header: 9 bytes and 255 more.
pub(crate) const MAX_HEADER_BYTES: usize = 9 + 255;

/// What stands at the start of a PES packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PesStart<'a> {
    /// More bytes are needed.
    Incomplete,
    /// It is no PES packet.
    Invalid,
    /// Its payload is scrambled.
    Scrambled,
    /// Padding and other kinds that have no media in them.
    NoMedia,
    /// Media.
    Media(PesHeader<'a>),
}

/// The header of a PES packet with media.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PesHeader<'a> {
    /// 33 bits.
    pub(crate) pts: Option<u64>,
    /// 33 bits; nothing if it is the PTS.
    pub(crate) dts: Option<u64>,
    /// Bytes of payload, where the packet says how many.
    pub(crate) length: Option<usize>,
    /// The payload that has come already.
    pub(crate) payload: &'a [u8],
}

impl<'a> PesStart<'a> {
    /// Reads what begins with `bytes`.
    pub(crate) fn read(bytes: &'a [u8]) -> Self {
        let Some(([zero, nought, one, stream_id, high, low], rest)) = bytes.split_first_chunk() else {
            return Self::Incomplete;
        };
        if [*zero, *nought, *one] != [0, 0, 1] {
            return Self::Invalid;
        }
        // §2.4.3.7: program_stream_map, padding, private_stream_2, ECM, EMM, DSM-CC, H.222.1 type E, directory.
        if matches!(stream_id, 0xbc | 0xbe | 0xbf | 0xf0..=0xf2 | 0xf8 | 0xff) {
            return Self::NoMedia;
        }
        let Some(([first, flags, header_length], rest)) = rest.split_first_chunk() else { return Self::Incomplete };
        if first & 0xc0 != 0x80 {
            return Self::Invalid;
        }
        if first & 0x30 != 0 {
            return Self::Scrambled;
        }
        let header_length = usize::from(*header_length);
        let Some((fields, payload)) = rest.split_at_checked(header_length) else { return Self::Incomplete };
        let length = match usize::from(u16::from_be_bytes([*high, *low])) {
            // "Allowed only in PES packets whose payload is a video elementary stream."
            0 => None,
            length => match length.checked_sub(3 + header_length) {
                Some(length) => Some(length),
                None => return Self::Invalid,
            },
        };
        let pts = if flags & 0x80 != 0 { time(fields) } else { None };
        let dts = if flags & 0xc0 == 0xc0 { fields.get(5..).and_then(time) } else { None };
        Self::Media(PesHeader { pts, dts, length, payload })
    }
}

/// 33 bits in five bytes between marker bits, whose value is not looked at: encoders get them wrong.
fn time(fields: &[u8]) -> Option<u64> {
    let [a, b, c, d, e] = *fields.first_chunk::<5>()?;
    let high = u64::from(a >> 1 & 7);
    let middle = u64::from(u16::from_be_bytes([b, c]) >> 1);
    let low = u64::from(u16::from_be_bytes([d, e]) >> 1);
    Some(high << 30 | middle << 15 | low)
}

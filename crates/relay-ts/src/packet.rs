//! The transport packet's header and adaptation field (§2.4.3.2–2.4.3.5).

/// Bytes of a transport packet (§2.4.3.2).
pub(crate) const PACKET_BYTES: usize = 188;
/// The first of them (§2.4.3.3).
pub(crate) const SYNC: u8 = 0x47;
/// Packet identifiers have 13 bits.
pub(crate) const PIDS: u16 = 1 << 13;
/// Stuffing.
pub(crate) const NULL_PID: u16 = PIDS - 1;

/// The last bytes of a packet, by which a repeated one is told from another with the same counter.
const TAIL_BYTES: usize = 32;

/// One packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TsPacket<'a> {
    pub(crate) pid: u16,
    /// `transport_error_indicator`: at least one bit is wrong.
    pub(crate) is_damaged: bool,
    /// `payload_unit_start_indicator`: a PES packet or a section begins in it.
    pub(crate) starts_unit: bool,
    pub(crate) is_scrambled: bool,
    counter: u8,
    /// `discontinuity_indicator`.
    pub(crate) discontinuity: bool,
    /// In ticks of 27 MHz.
    pub(crate) pcr: Option<u64>,
    /// Nothing if there is only an adaptation field.
    pub(crate) payload: &'a [u8],
    tail: &'a [u8; TAIL_BYTES],
}

impl<'a> TsPacket<'a> {
    /// Reads a packet; `None` if its fields don't fit each other.
    #[inline]
    pub(crate) fn read(bytes: &'a [u8; PACKET_BYTES]) -> Option<Self> {
        let [_, first, second, third, ..] = *bytes;
        let mut packet = Self {
            pid: u16::from_be_bytes([first & 0x1f, second]),
            is_damaged: first & 0x80 != 0,
            starts_unit: first & 0x40 != 0,
            is_scrambled: third & 0xc0 != 0,
            counter: third & 0x0f,
            discontinuity: false,
            pcr: None,
            payload: bytes.get(4..)?,
            tail: bytes.last_chunk()?,
        };
        match third >> 4 & 3 {
            1 => {}
            // Reserved: "decoders shall discard" (Table 2-5).
            0 => return None,
            control => {
                let (length, rest) = packet.payload.split_first()?;
                let (field, payload) = rest.split_at_checked(usize::from(*length))?;
                packet.adaptation(field);
                // §2.4.3.5: 0 to 182 bytes before a payload.
                packet.payload = if control == 3 { payload } else { &[] };
                if control == 3 && payload.is_empty() {
                    return None;
                }
            }
        }
        Some(packet)
    }

    fn adaptation(&mut self, field: &[u8]) {
        let Some((flags, rest)) = field.split_first() else { return };
        self.discontinuity = flags & 0x80 != 0;
        if flags & 0x10 != 0
            && let Some([base @ .., high, low]) = rest.first_chunk::<6>()
        {
            // 33 bits of base, 6 reserved, 9 of extension (§2.4.3.5).
            let [a, b, c, d] = *base;
            let base = u64::from(u32::from_be_bytes([a, b, c, d])) << 1 | u64::from(high >> 7);
            let extension = u64::from(high & 1) << 8 | u64::from(*low);
            self.pcr = Some(base * 300 + extension.min(299));
        }
    }
}

/// How a packet stands to the one before it with the same identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Follows {
    /// It is the next one, or nothing is known.
    Next,
    /// It is the same again (§2.4.3.3).
    Repeats,
    /// Packets are missing.
    Gap,
    /// The counter jumps, and the stream announced that (§2.4.3.5).
    Announced,
}

/// The continuity counter of one identifier (§2.4.3.3): four bits, so that 16 packets lost in a row, or a multiple of
/// it, pass unnoticed; 15 of them show by the packet not being a repetition.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Continuity {
    last: Option<(u8, [u8; TAIL_BYTES])>,
    announced: bool,
}

impl Continuity {
    #[inline]
    pub(crate) fn check(&mut self, packet: &TsPacket<'_>) -> Follows {
        self.announced |= packet.discontinuity;
        if packet.payload.is_empty() {
            // The counter stands still.
            return Follows::Next;
        }
        let announced = std::mem::take(&mut self.announced);
        let follows = match &self.last {
            None => Follows::Next,
            Some((last, _)) if (last + 1) & 0x0f == packet.counter => Follows::Next,
            Some((last, tail)) if *last == packet.counter && tail == packet.tail => return Follows::Repeats,
            Some(_) if announced => Follows::Announced,
            Some(_) => Follows::Gap,
        };
        self.last = Some((packet.counter, *packet.tail));
        follows
    }

    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }
}

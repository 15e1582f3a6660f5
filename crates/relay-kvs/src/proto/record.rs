//! The spool's format: records of a fixed head and a body.
//!
//! A segment file holds [`RecordKind::Header`] and [`RecordKind::Fragment`] records: a fragment's session header is
//! the last one before it. The journal holds [`RecordKind::Done`] and [`RecordKind::Mark`], which have no body. A head
//! has a checksum of its own, so that a file can be walked without reading its bodies; the first head that is not
//! whole is the torn tail, and everything from it on is cut off.

/// Bytes of a head.
pub const HEAD_BYTES: usize = 48;
/// The longest body: a fragment of 50 MB with room.
pub const BODY_BYTES_MAX: u32 = 64 << 20;

const MAGIC: u32 = u32::from_be_bytes(*b"RKV1");

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordKind {
    /// EBML header, Info and Tracks of the fragments behind it.
    Header,
    /// A cluster and its end.
    Fragment,
    /// The fragment of this time is done with.
    Done,
    /// Frame times have come so far.
    Mark,
}

/// The head of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHead {
    /// What it is.
    pub kind: RecordKind,
    /// The fragment's time in milliseconds; 0 for a header; how far times have come for a mark.
    pub timecode_ms: u64,
    /// The fragment's last time.
    pub last_ms: u64,
    /// The fragment's packets.
    pub packets: u32,
    /// Bytes behind the head.
    pub body_bytes: u32,
    /// The body's checksum.
    pub body_crc: u32,
}

impl RecordHead {
    /// A record without a body.
    pub fn bare(kind: RecordKind, timecode_ms: u64) -> Self {
        Self { kind, timecode_ms, last_ms: 0, packets: 0, body_bytes: 0, body_crc: 0 }
    }

    /// Its bytes.
    pub fn encode(&self) -> [u8; HEAD_BYTES] {
        let kind: u32 = match self.kind {
            RecordKind::Header => 1,
            RecordKind::Fragment => 2,
            RecordKind::Done => 3,
            RecordKind::Mark => 4,
        };
        let mut bytes = [0; HEAD_BYTES];
        let words = [MAGIC, kind, self.packets, self.body_bytes, self.body_crc, 0];
        let longs = [self.timecode_ms, self.last_ms];
        let fields =
            words.iter().flat_map(|word| word.to_be_bytes()).chain(longs.iter().flat_map(|long| long.to_be_bytes()));
        bytes.iter_mut().zip(fields).for_each(|(place, byte)| *place = byte);
        let (covered, crc) = bytes.split_at_mut(HEAD_BYTES - 8);
        let sum = Crc::new().update(covered).finish();
        crc.iter_mut().zip(sum.to_be_bytes()).for_each(|(place, byte)| *place = byte);
        bytes
    }

    /// Reads a head; `None` if it is not whole.
    pub fn decode(bytes: &[u8; HEAD_BYTES]) -> Option<Self> {
        let word = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let long = |at: usize| Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let covered = bytes.get(..HEAD_BYTES - 8)?;
        if word(0)? != MAGIC || word(HEAD_BYTES - 8)? != Crc::new().update(covered).finish() {
            return None;
        }
        let kind = match word(4)? {
            1 => RecordKind::Header,
            2 => RecordKind::Fragment,
            3 => RecordKind::Done,
            4 => RecordKind::Mark,
            _ => return None,
        };
        let head = Self {
            kind,
            timecode_ms: long(24)?,
            last_ms: long(32)?,
            packets: word(8)?,
            body_bytes: word(12)?,
            body_crc: word(16)?,
        };
        (head.body_bytes <= BODY_BYTES_MAX).then_some(head)
    }
}

/// CRC-32 as in IEEE 802.3, over pieces.
#[derive(Clone, Copy, Debug)]
pub struct Crc(u32);

impl Default for Crc {
    fn default() -> Self {
        Self::new()
    }
}

impl Crc {
    const TABLE: [u32; 256] = table();

    /// Of nothing yet.
    pub const fn new() -> Self {
        Self(!0)
    }

    /// With these bytes.
    #[must_use]
    pub fn update(self, bytes: &[u8]) -> Self {
        let step = |crc: u32, byte: &u8| {
            let index = usize::from(crc.to_le_bytes()[0] ^ byte);
            (crc >> 8) ^ Self::TABLE.get(index).copied().unwrap_or_default()
        };
        Self(bytes.iter().fold(self.0, step))
    }

    /// The sum.
    pub const fn finish(self) -> u32 {
        !self.0
    }
}

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, where it would fail")]
const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let (mut crc, mut bit) = (index as u32, 0);
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
}

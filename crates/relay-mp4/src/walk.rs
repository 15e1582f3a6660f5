//! Box headers (ISO/IEC 14496-12 §4.2), read from any bytes without trusting them.

use std::time::Duration;

use mp4_atom::{Atom as _, Mvhd};

/// A box's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) letters: [u8; 4],
    /// Bytes of the header itself: 8, or 16 with a 64-bit size.
    pub(crate) len: u64,
    /// Bytes of the box with its header.
    pub(crate) size: u64,
}

impl Header {
    /// The most bytes a header takes.
    pub(crate) const MAX_LEN: usize = 16;

    /// Reads the header that `bytes` begin with; `None` if it is cut short or lies about its size. A box that reaches
    /// "to the end of the file" (size 0) is none that we write: zeros are what a torn file ends with.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let size = u32::from_be_bytes(*bytes.first_chunk()?);
        let letters = *bytes.get(4..)?.first_chunk()?;
        let (len, size) = match size {
            1 => (16, u64::from_be_bytes(*bytes.get(8..)?.first_chunk()?)),
            _ => (8, size.into()),
        };
        (size >= len).then_some(Self { letters, len, size })
    }
}

/// The boxes inside a container's body, up to the first one that is cut short.
pub(crate) fn children(mut bytes: &[u8]) -> impl Iterator<Item = ([u8; 4], &[u8])> {
    std::iter::from_fn(move || {
        let header = Header::parse(bytes)?;
        let (whole, rest) = bytes.split_at_checked(usize::try_from(header.size).ok()?)?;
        bytes = rest;
        Some((header.letters, whole.get(usize::try_from(header.len).ok()?..)?))
    })
}

/// The first child with these letters.
pub(crate) fn find(bytes: &[u8], letters: [u8; 4]) -> Option<&[u8]> {
    children(bytes).find(|(found, _)| *found == letters).map(|(_, body)| body)
}

/// How many of a file's first bytes [`finished_moov_offset`] needs.
pub const FINISHED_HEAD_BYTES: usize = 64;

/// Where the `moov` of a finished recording begins, from the first [`FINISHED_HEAD_BYTES`] of the file; `None` for a
/// file that is still running, or was torn.
pub fn finished_moov_offset(head: &[u8]) -> Option<u64> {
    let ftyp = Header::parse(head).filter(|header| header.letters == *b"ftyp")?;
    let mdat = Header::parse(head.get(usize::try_from(ftyp.size).ok()?..)?)?;
    (mdat.letters == *b"mdat").then(|| ftyp.size.checked_add(mdat.size)).flatten()
}

/// How many bytes from the beginning of a `moov` [`movie_duration`] needs.
pub const MOVIE_HEAD_BYTES: usize = 8 + 8 + 112;

/// How long a finished recording plays, from the first [`MOVIE_HEAD_BYTES`] of its `moov`.
pub fn movie_duration(moov: &[u8]) -> Option<Duration> {
    let header = Header::parse(moov).filter(|header| header.letters == *b"moov")?;
    let mvhd = find(moov.get(usize::try_from(header.len).ok()?..)?, *b"mvhd")?;
    let mvhd = Mvhd::decode_body(&mut &*mvhd).ok()?;
    let nanos = u128::from(mvhd.duration) * 1_000_000_000 / u128::from(mvhd.timescale.max(1));
    u64::try_from(nanos).ok().map(Duration::from_nanos)
}

//! Reading a spool that an earlier life left.

use std::{
    collections::HashSet,
    fs::{self, File, OpenOptions},
    io::{self, Read},
    path::Path,
};

use bytes::Bytes;

use super::{Found, Headers, SpoolError, error, read_head};
use crate::proto::{Crc, HEAD_BYTES, RecordHead, RecordKind};

/// The longest session header read: CodecPrivate of a megabyte for each of three tracks, and room.
const HEADER_BYTES_MAX: u32 = 4 << 20;

/// What the journal says.
#[derive(Default)]
pub(super) struct Journal {
    pub(super) done: HashSet<u64>,
    pub(super) lines: usize,
}

pub(super) fn journal(path: &Path, found: &mut Found) -> Result<Journal, SpoolError> {
    let mut journal = Journal::default();
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(journal),
        Err(source) => return Err(error(path, source)),
    };
    for line in bytes.as_chunks::<HEAD_BYTES>().0 {
        match RecordHead::decode(line) {
            Some(RecordHead { kind: RecordKind::Done, timecode_ms, .. }) => drop(journal.done.insert(timecode_ms)),
            Some(RecordHead { kind: RecordKind::Mark, timecode_ms, .. }) => {
                found.high_water_ms = found.high_water_ms.max(timecode_ms);
            }
            _ => break,
        }
        journal.lines += 1;
    }
    found.cut_bytes += cut(path, (journal.lines * HEAD_BYTES) as u64)?;
    Ok(journal)
}

/// The numbers of the segments, in order.
pub(super) fn segments(dir: &Path) -> Result<Vec<u64>, SpoolError> {
    let entries = fs::read_dir(dir).map_err(|source| error(dir, source))?;
    let number = |entry: io::Result<fs::DirEntry>| {
        let name = entry.ok()?.file_name();
        name.to_str()?.strip_suffix(".fragments")?.parse().ok()
    };
    let mut ids: Vec<u64> = entries.filter_map(number).collect();
    ids.sort_unstable();
    Ok(ids)
}

/// Where each fragment is, with the header of its sessions.
pub(super) type Fragments = Vec<(u64, RecordHead, Bytes)>;

/// The fragments of a segment, and how many bytes of a torn tail were cut off.
pub(super) fn segment(path: &Path) -> Result<(Fragments, u64), SpoolError> {
    let (fragments, end) = walk(path).map_err(|source| error(path, source))?;
    Ok((fragments, cut(path, end)?))
}

fn walk(path: &Path) -> io::Result<(Fragments, u64)> {
    let mut file = File::open(path)?;
    let len = file.metadata()?.len();
    let (mut offset, mut header, mut headers, mut fragments) = (0, None, Headers::default(), Vec::new());
    while let Some(head) = read_head(&mut file, offset)? {
        let end = offset + HEAD_BYTES as u64 + u64::from(head.body_bytes);
        if end > len {
            break;
        }
        match (head.kind, &header) {
            (RecordKind::Header, _) if head.body_bytes <= HEADER_BYTES_MAX => {
                let body = body(&mut file, &head)?;
                if Crc::new().update(&body).finish() != head.body_crc {
                    break;
                }
                header = Some(headers.share(body.into()));
            }
            // The last of a file is the one that power loss may have hurt.
            (RecordKind::Fragment, Some(_)) if end == len && !is_whole(&mut file, &head)? => break,
            (RecordKind::Fragment, Some(header)) => fragments.push((offset, head, header.clone())),
            _ => break,
        }
        offset = end;
    }
    Ok((fragments, offset))
}

fn is_whole(file: &mut File, head: &RecordHead) -> io::Result<bool> {
    Ok(Crc::new().update(&body(file, head)?).finish() == head.body_crc)
}

/// The body behind the head that was just read.
fn body(file: &mut File, head: &RecordHead) -> io::Result<Vec<u8>> {
    let mut body = vec![0; head.body_bytes as usize];
    file.read_exact(&mut body)?;
    Ok(body)
}

/// Cuts a file to what is whole of it. Returns how much was not.
fn cut(path: &Path, end: u64) -> Result<u64, SpoolError> {
    let len = fs::metadata(path).map_err(|source| error(path, source))?.len();
    if len > end {
        let file = OpenOptions::new().write(true).open(path).map_err(|source| error(path, source))?;
        file.set_len(end).map_err(|source| error(path, source))?;
    }
    Ok(len.saturating_sub(end))
}

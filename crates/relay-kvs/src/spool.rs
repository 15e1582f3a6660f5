//! Fragments on disk: the files around [`proto::RecordHead`](crate::proto::RecordHead). Blocking.
//!
//! A directory holds segments of fragments, appended to and deleted whole, and a journal of which are done with. It is
//! locked: one process at a time. A fragment that was stored survives the process's death at any moment. Power loss:
//! under [`SpoolSync::EachFragment`] too; under [`SpoolSync::Segments`] what was not synced yet may be missing, and is
//! found so by its checksum. The journal is never synced: a line that is lost means that a fragment is sent twice, not
//! that one is missing.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use bytes::Bytes;

use crate::proto::{Crc, Fragment, HEAD_BYTES, RecordHead, RecordKind, Restored};

mod scan;

/// A segment is closed when it is this long.
const SEGMENT_BYTES: u64 = 16 << 20;
/// An open segment of which nothing is needed any more is deleted from this length on.
const DEAD_BYTES: u64 = 1 << 20;
/// The journal is written anew when it has this many lines, and twice as many as are needed.
const JOURNAL_LINES: usize = 4_096;
/// The most fragments set aside that are kept: with more, the oldest file goes.
const ASIDE_MAX: usize = 32;

/// When fragments are made durable against power loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SpoolSync {
    /// Before each is called stored.
    EachFragment,
    /// When a segment is closed, and at the end.
    #[default]
    Segments,
}

/// What failed at which file.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
pub struct SpoolError {
    /// The file.
    pub path: PathBuf,
    /// What failed.
    pub source: io::Error,
}

/// What an earlier life left.
#[derive(Debug, Default)]
pub struct Found {
    /// Its fragments that are not done with.
    pub fragments: Vec<Restored>,
    /// How far its frame times had come.
    pub high_water_ms: u64,
    /// Bytes of torn tails that were cut off.
    pub cut_bytes: u64,
}

/// The spool of one stream.
#[derive(Debug)]
pub struct Spool {
    dir: PathBuf,
    sync: SpoolSync,
    places: BTreeMap<u64, Place>,
    segments: BTreeMap<u64, Segment>,
    open: Option<Open>,
    journal: File,
    journal_lines: usize,
    mark_ms: u64,
    /// Holds the directory's lock.
    _lock: File,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    segment: u64,
    offset: u64,
    head: RecordHead,
}

#[derive(Debug, Default)]
struct Segment {
    needed: usize,
    done: BTreeSet<u64>,
}

/// The segment that is written.
#[derive(Debug)]
struct Open {
    id: u64,
    file: File,
    len: u64,
    header: Option<Bytes>,
}

impl Spool {
    /// Opens or makes the spool in `dir`, cuts torn tails, and tells what it holds.
    ///
    /// # Errors
    /// The directory can't be made, read or locked: another process has it.
    pub fn open(dir: impl Into<PathBuf>, sync: SpoolSync) -> Result<(Self, Found), SpoolError> {
        let dir = dir.into();
        fs::create_dir_all(&dir).map_err(|source| error(&dir, source))?;
        let lock_path = dir.join("lock");
        let lock = writable(&lock_path, false)?;
        lock.try_lock().map_err(|refused| match refused {
            TryLockError::Error(source) => error(&lock_path, source),
            TryLockError::WouldBlock => error(&lock_path, io::Error::other("another process has this spool")),
        })?;
        let journal_path = dir.join("journal");
        let mut found = Found::default();
        let journal = scan::journal(&journal_path, &mut found)?;
        let (mut places, mut segments) = (BTreeMap::new(), BTreeMap::new());
        for id in scan::segments(&dir)? {
            let path = segment_path(&dir, id);
            let (fragments, cut) = scan::segment(&path)?;
            found.cut_bytes += cut;
            let mut segment = Segment::default();
            for (offset, head, header) in fragments {
                if journal.done.contains(&head.timecode_ms) || places.contains_key(&head.timecode_ms) {
                    segment.done.insert(head.timecode_ms);
                    continue;
                }
                segment.needed += 1;
                places.insert(head.timecode_ms, Place { segment: id, offset, head });
                found.fragments.push(Restored {
                    timecode_ms: head.timecode_ms,
                    last_ms: head.last_ms,
                    header,
                    wire_bytes: head.body_bytes as usize,
                    packets: head.packets,
                });
            }
            segments.insert(id, segment);
        }
        let file = writable(&journal_path, true)?;
        let (lines, mark_ms) = (journal.lines, found.high_water_ms);
        let mut spool =
            Self { dir, sync, places, segments, open: None, journal: file, journal_lines: lines, mark_ms, _lock: lock };
        spool.sweep();
        Ok((spool, found))
    }

    /// Stores a fragment.
    ///
    /// # Errors
    /// The disk is full or failed; the spool is as it was.
    pub fn store(&mut self, fragment: &Fragment) -> Result<(), SpoolError> {
        if self.places.contains_key(&fragment.timecode_ms) {
            return Ok(());
        }
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.next_segment()?,
        };
        let path = segment_path(&self.dir, open.id);
        let before = open.len;
        match self.append(&mut open, fragment) {
            Ok((offset, head)) => {
                self.places.insert(fragment.timecode_ms, Place { segment: open.id, offset, head });
                self.segments.entry(open.id).or_default().needed += 1;
                if open.len < SEGMENT_BYTES {
                    self.open = Some(open);
                    return Ok(());
                }
                open.file.sync_data().map_err(|source| error(&path, source))
            }
            Err(source) => {
                // Nothing of it stays; the next one goes to another file, should this one be hurt.
                let _ = open.file.set_len(before);
                self.sweep();
                Err(error(&path, source))
            }
        }
    }

    /// The bytes of a fragment, as they were.
    ///
    /// # Errors
    /// It is not here, or is not what was stored.
    pub fn read(&self, timecode_ms: u64) -> Result<Bytes, SpoolError> {
        let Some(place) = self.places.get(&timecode_ms) else {
            return Err(error(&self.dir, io::Error::new(io::ErrorKind::NotFound, "no such fragment")));
        };
        let path = segment_path(&self.dir, place.segment);
        let read = || {
            let mut body = vec![0; place.head.body_bytes as usize];
            File::open(&path)?.read_exact_at(&mut body, place.offset + HEAD_BYTES as u64)?;
            if Crc::new().update(&body).finish() != place.head.body_crc {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a fragment's checksum is wrong"));
            }
            Ok(body.into())
        };
        read().map_err(|source| error(&path, source))
    }

    /// The fragment is done with. Where all of a segment are, it is deleted.
    ///
    /// # Errors
    /// The journal can't be written: after a restart the fragment would be sent again.
    pub fn forget(&mut self, timecode_ms: u64) -> Result<(), SpoolError> {
        let Some(place) = self.places.remove(&timecode_ms) else { return Ok(()) };
        if let Some(segment) = self.segments.get_mut(&place.segment) {
            segment.needed -= 1;
            segment.done.insert(timecode_ms);
        }
        let noted = self.note(RecordHead::bare(RecordKind::Done, timecode_ms));
        self.sweep();
        noted
    }

    /// Frame times have come so far.
    ///
    /// # Errors
    /// The journal can't be written.
    pub fn mark(&mut self, high_water_ms: u64) -> Result<(), SpoolError> {
        self.mark_ms = self.mark_ms.max(high_water_ms);
        self.note(RecordHead::bare(RecordKind::Mark, self.mark_ms))
    }

    /// Keeps a fragment as a file to be looked at, and forgets it. `header` and `body` are its bytes where they are
    /// not here. Returns where it is.
    ///
    /// # Errors
    /// It can't be read or written; it is forgotten nevertheless.
    pub fn set_aside(&mut self, timecode_ms: u64, fragment: Option<&Fragment>) -> Result<PathBuf, SpoolError> {
        let kept = self.keep(timecode_ms, fragment);
        self.forget(timecode_ms)?;
        kept
    }

    /// Makes durable what is not yet.
    ///
    /// # Errors
    /// The disk failed.
    pub fn sync(&mut self) -> Result<(), SpoolError> {
        let Some(open) = &self.open else { return Ok(()) };
        let path = segment_path(&self.dir, open.id);
        open.file.sync_data().and_then(|()| self.journal.sync_data()).map_err(|source| error(&path, source))
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn append(&self, open: &mut Open, fragment: &Fragment) -> io::Result<(u64, RecordHead)> {
        if open.header.as_ref() != Some(&fragment.header) {
            let header = std::slice::from_ref(&fragment.header);
            let head = RecordHead { body_crc: crc(header), ..RecordHead::bare(RecordKind::Header, 0) };
            write(open, RecordHead { body_bytes: size(header)?, ..head }, header)?;
            open.header = Some(fragment.header.clone());
        }
        let offset = open.len;
        let head = RecordHead {
            kind: RecordKind::Fragment,
            timecode_ms: fragment.timecode_ms,
            last_ms: fragment.last_ms,
            packets: fragment.packets,
            body_bytes: size(&fragment.body)?,
            body_crc: crc(&fragment.body),
        };
        write(open, head, &fragment.body)?;
        if self.sync == SpoolSync::EachFragment {
            open.file.sync_data()?;
        }
        Ok((offset, head))
    }

    fn next_segment(&mut self) -> Result<Open, SpoolError> {
        let id = self.segments.keys().next_back().map_or(0, |last| last + 1);
        let path = segment_path(&self.dir, id);
        let file = writable(&path, true)?;
        let synced = File::open(&self.dir).and_then(|dir| dir.sync_all());
        if self.sync == SpoolSync::EachFragment {
            synced.map_err(|source| error(&self.dir, source))?;
        }
        self.segments.insert(id, Segment::default());
        Ok(Open { id, file, len: 0, header: None })
    }

    /// Deletes segments of which nothing is needed.
    fn sweep(&mut self) {
        if let Some(open) = self.open.take_if(|open| open.len >= DEAD_BYTES)
            && self.segments.get(&open.id).is_some_and(|segment| segment.needed > 0)
        {
            self.open = Some(open);
        }
        let open = self.open.as_ref().map(|open| open.id);
        let dir = &self.dir;
        self.segments.retain(|id, segment| {
            let is_dead = segment.needed == 0 && Some(*id) != open;
            !is_dead
                || fs::remove_file(segment_path(dir, *id)).is_err_and(|error| error.kind() != io::ErrorKind::NotFound)
        });
    }

    fn note(&mut self, line: RecordHead) -> Result<(), SpoolError> {
        let path = self.dir.join("journal");
        let needed: usize = self.segments.values().map(|segment| segment.done.len()).sum();
        if self.journal_lines >= JOURNAL_LINES.max(2 * needed) {
            self.rewrite_journal().map_err(|source| error(&path, source))?;
        }
        self.journal.write_all(&line.encode()).map_err(|source| error(&path, source))?;
        self.journal_lines += 1;
        Ok(())
    }

    fn rewrite_journal(&mut self) -> io::Result<()> {
        let (path, next) = (self.dir.join("journal"), self.dir.join("journal.new"));
        let done = self.segments.values().flat_map(|segment| &segment.done);
        let done = done.map(|timecode_ms| RecordHead::bare(RecordKind::Done, *timecode_ms));
        let lines: Vec<_> = done.chain([RecordHead::bare(RecordKind::Mark, self.mark_ms)]).collect();
        let bytes: Vec<u8> = lines.iter().flat_map(RecordHead::encode).collect();
        fs::write(&next, bytes)?;
        fs::rename(&next, &path)?;
        self.journal = OpenOptions::new().append(true).open(&path)?;
        self.journal_lines = lines.len();
        Ok(())
    }

    fn keep(&self, timecode_ms: u64, fragment: Option<&Fragment>) -> Result<PathBuf, SpoolError> {
        let dir = self.dir.join("aside");
        let path = dir.join(format!("{timecode_ms}.mkv"));
        let mut bytes = match fragment {
            Some(fragment) => fragment.header.to_vec(),
            None => self.header_of(timecode_ms).unwrap_or_default().to_vec(),
        };
        match fragment {
            Some(fragment) => fragment.body.iter().for_each(|piece| bytes.extend_from_slice(piece)),
            None => bytes.extend_from_slice(&self.read(timecode_ms)?),
        }
        let write = || {
            fs::create_dir_all(&dir)?;
            let mut files: Vec<_> = fs::read_dir(&dir)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
            files.sort();
            let excess = (files.len() + 1).saturating_sub(ASIDE_MAX);
            files.iter().take(excess).try_for_each(fs::remove_file)?;
            fs::write(&path, &bytes)
        };
        write().map_err(|source| error(&path, source))?;
        Ok(path)
    }

    fn header_of(&self, timecode_ms: u64) -> Option<Bytes> {
        let place = self.places.get(&timecode_ms)?;
        let (fragments, _) = scan::segment(&segment_path(&self.dir, place.segment)).ok()?;
        fragments.into_iter().find(|(offset, _, _)| *offset == place.offset).map(|(_, _, header)| header)
    }
}

fn write(open: &mut Open, head: RecordHead, body: &[Bytes]) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(HEAD_BYTES + head.body_bytes as usize);
    bytes.extend_from_slice(&head.encode());
    body.iter().for_each(|piece| bytes.extend_from_slice(piece));
    open.file.write_all(&bytes)?;
    open.len += bytes.len() as u64;
    Ok(())
}

fn crc(pieces: &[Bytes]) -> u32 {
    pieces.iter().fold(Crc::new(), |crc, piece| crc.update(piece)).finish()
}

fn size(pieces: &[Bytes]) -> io::Result<u32> {
    let bytes: usize = pieces.iter().map(Bytes::len).sum();
    let size = u32::try_from(bytes).ok().filter(|size| *size <= crate::proto::BODY_BYTES_MAX);
    size.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "too large a fragment"))
}

fn segment_path(dir: &Path, id: u64) -> PathBuf {
    dir.join(format!("{id:012}.fragments"))
}

fn writable(path: &Path, append: bool) -> Result<File, SpoolError> {
    let mut options = OpenOptions::new();
    options.create(true).append(append).write(true);
    options.open(path).map_err(|source| error(path, source))
}

fn error(path: &Path, source: io::Error) -> SpoolError {
    SpoolError { path: path.to_owned(), source }
}

/// Headers that many fragments share, once.
#[derive(Default)]
struct Headers(HashMap<Bytes, Bytes>);

impl Headers {
    fn share(&mut self, header: Bytes) -> Bytes {
        self.0.entry(header.clone()).or_insert(header).clone()
    }
}

fn read_head(file: &mut File, offset: u64) -> io::Result<Option<RecordHead>> {
    let mut bytes = [0; HEAD_BYTES];
    file.seek(SeekFrom::Start(offset))?;
    match file.read_exact(&mut bytes) {
        Ok(()) => Ok(RecordHead::decode(&bytes)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

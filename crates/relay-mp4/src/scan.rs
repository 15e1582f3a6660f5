//! Reads a file box by box: what is whole, what is torn, and what it takes to finish it.

use std::ops::Range;

use crate::{
    FRAGMENT_SAMPLES_MAX, Muxer, ReadError, SAMPLES_MAX, TRACKS_MAX,
    fragment::{self, ReadRun},
    movie::{self, Movie},
    table::SampleTable,
    walk::Header,
};

/// The most bytes of a running file's `moov`: 8 tracks with parameter sets of at most 64 KiB each, and room.
const MOOV_MAX: u64 = 1 << 20;
/// The most bytes of a `moof`: 16 a sample, 88 a track, and room.
const MOOF_MAX: u64 = (FRAGMENT_SAMPLES_MAX as u64 * 16 + TRACKS_MAX as u64 * 88) * 2;
/// The most boxes looked at between two fragments; ours has one, the `prft`.
const STRAYS_MAX: u32 = 64;

/// Reads a recording without ever holding more than one small box of it.
///
/// Ask [`wants`](Self::wants) which bytes to read, hand them to [`supply`](Self::supply), and at the end ask
/// [`finish`](Self::finish) what was found. Takes any bytes: whatever does not parse is where the whole part ends.
#[derive(Debug)]
pub struct Scanner {
    len: u64,
    position: u64,
    state: State,
    movie: Option<Movie>,
    tables: Vec<SampleTable>,
    samples: usize,
    sequence: u32,
    /// Where the last whole fragment ends.
    end: u64,
    strays: u32,
    /// The first box is none that a recording begins with.
    foreign: bool,
}

#[derive(Debug)]
enum State {
    /// At a box of the file.
    Header,
    /// In the body of the `moov` or a `moof` with this header.
    Body(Header),
    /// Behind a `moof` at this place: its `mdat` comes next.
    Media {
        moof: u64,
        sequence: u32,
        runs: Vec<ReadRun>,
    },
    /// Behind the `mdat` of a file that looks finished; the boxes it ran with begin at `running`.
    Index {
        running: u64,
    },
    Done(End),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Here the whole part ends.
    Torn,
    /// The `moov` of a finished file is where it should be.
    Finished,
}

/// What a file is.
#[derive(Debug)]
pub enum Scan {
    /// Closed cleanly.
    Finished,
    /// Running or torn: everything up to [`Muxer::position`] is whole, and the muxer can finish it there.
    Fragments(Muxer),
    /// The beginning of a recording without one whole fragment, or nothing at all.
    Empty,
    /// No recording of ours.
    Foreign,
}

impl Scanner {
    /// A scanner for a file of `len` bytes.
    pub fn new(len: u64) -> Self {
        Self {
            len,
            position: 0,
            state: State::Header,
            movie: None,
            tables: Vec::new(),
            samples: 0,
            sequence: 0,
            end: 0,
            strays: 0,
            foreign: false,
        }
    }

    /// The bytes of the file to read next, at most 1 MiB of them; `None` when it has seen enough.
    pub fn wants(&self) -> Option<Range<u64>> {
        let wanted = match &self.state {
            State::Done(_) => return None,
            State::Header | State::Media { .. } | State::Index { .. } => Header::MAX_LEN as u64,
            State::Body(header) => header.size - header.len,
        };
        let end = self.position.saturating_add(wanted).min(self.len);
        (self.position < self.len).then_some(self.position..end)
    }

    /// Takes the bytes that [`wants`](Self::wants) named.
    pub fn supply(&mut self, bytes: &[u8]) {
        let state = std::mem::replace(&mut self.state, State::Done(End::Torn));
        self.state = match state {
            State::Body(header) => self.body(header, bytes),
            State::Done(end) => State::Done(end),
            State::Index { running } => match Header::parse(bytes) {
                Some(header) if header.letters == *b"moov" && self.holds(header) => State::Done(End::Finished),
                _ => {
                    self.position = running;
                    State::Header
                }
            },
            state => match Header::parse(bytes) {
                Some(header) => self.header(state, header),
                None => {
                    // Zeros, or a header cut short, are what a crash leaves; anything else as a first box is not ours.
                    self.foreign = self.position == 0 && bytes.len() >= 8 && bytes.iter().any(|&byte| byte != 0);
                    State::Done(End::Torn)
                }
            },
        };
    }

    fn header(&mut self, state: State, header: Header) -> State {
        let whole = self.holds(header);
        let first = self.position == 0;
        match (state, &header.letters) {
            (State::Header, b"ftyp") if first => self.skip(header),
            (State::Header, _) if first => {
                self.foreign = true;
                State::Done(End::Torn)
            }
            (State::Header, b"mdat") if self.movie.is_none() && self.strays == 1 => self.finished_head(header),
            (State::Header, b"moov") if self.movie.is_none() && whole && header.size <= MOOV_MAX => self.enter(header),
            (State::Header, b"moof") if self.movie.is_some() && whole && header.size <= MOOF_MAX => self.enter(header),
            // A full moov whose file was never flipped; it is written again.
            (State::Header, b"moov" | b"moof" | b"mdat") => State::Done(End::Torn),
            (State::Header, _) if whole => self.skip(header),
            (State::Media { moof, sequence, runs }, b"mdat") if whole => self.fragment(moof, sequence, runs, header),
            _ => State::Done(End::Torn),
        }
    }

    /// Only a finished file has an `mdat` before any `moov`. Its index lies behind it; if it was cut off since, the
    /// boxes that the file ran with are still inside.
    fn finished_head(&mut self, mdat: Header) -> State {
        self.strays += 1;
        let running = self.position + mdat.len;
        if mdat.size < self.len.saturating_sub(self.position) {
            self.position += mdat.size;
            return State::Index { running };
        }
        self.position = running;
        State::Header
    }

    /// The box at the position is whole.
    fn holds(&self, header: Header) -> bool {
        header.size <= self.len.saturating_sub(self.position)
    }

    fn skip(&mut self, header: Header) -> State {
        self.strays += 1;
        if self.strays > STRAYS_MAX || !self.holds(header) {
            return State::Done(End::Torn);
        }
        self.position += header.size;
        State::Header
    }

    fn enter(&mut self, header: Header) -> State {
        if header.size == header.len {
            return State::Done(End::Torn);
        }
        self.position += header.len;
        State::Body(header)
    }

    fn body(&mut self, header: Header, bytes: &[u8]) -> State {
        let start = self.position - header.len;
        self.position += bytes.len() as u64;
        if header.letters == *b"moov" {
            return match movie::read(bytes) {
                Ok((movie, _)) => {
                    self.tables = vec![SampleTable::default(); movie.tracks.len()];
                    self.movie = Some(movie);
                    State::Header
                }
                Err(_) => State::Done(End::Torn),
            };
        }
        match fragment::read(bytes, self.tables.len()) {
            Ok((sequence, runs)) => State::Media { moof: start, sequence, runs },
            Err(_) => State::Done(End::Torn),
        }
    }

    fn fragment(&mut self, moof: u64, sequence: u32, runs: Vec<ReadRun>, mdat: Header) -> State {
        let media = self.position + mdat.len..self.position + mdat.size;
        let samples: usize = runs.iter().map(|run| run.entries.len()).sum();
        let inside = runs.iter().all(|run| {
            let start = moof.saturating_add(run.offset);
            let bytes: u64 = run.entries.iter().map(|entry| u64::from(entry.size)).sum();
            media.start <= start && start.saturating_add(bytes) <= media.end
        });
        if samples == 0 || self.samples + samples > SAMPLES_MAX || !inside {
            return State::Done(End::Torn);
        }
        for run in runs {
            if let Some(table) = self.tables.get_mut(run.index) {
                table.push_chunk(moof + run.offset, run.entries.into_iter());
            }
        }
        self.samples += samples;
        self.sequence = sequence;
        self.strays = 0;
        (self.position, self.end) = (media.end, media.end);
        State::Header
    }

    /// What the file is.
    pub fn finish(self) -> Scan {
        match (self.state, self.movie) {
            (State::Done(End::Finished), _) => Scan::Finished,
            (_, Some(movie)) if self.end > 0 => {
                Scan::Fragments(Muxer::resume(movie, self.tables, self.sequence, self.end))
            }
            _ if self.foreign => Scan::Foreign,
            _ => Scan::Empty,
        }
    }

    /// Scans a file that is in memory.
    pub(crate) fn scan(file: &[u8]) -> Scan {
        let mut scanner = Self::new(file.len() as u64);
        while let Some(range) = scanner.wants() {
            scanner.supply(slice(file, &range).unwrap_or_default());
        }
        scanner.finish()
    }
}

pub(crate) fn slice<'a>(file: &'a [u8], range: &Range<u64>) -> Option<&'a [u8]> {
    file.get(usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?)
}

/// Reads the `moov` of a finished file that is in memory.
pub(crate) fn finished(file: &[u8]) -> Result<(Movie, Vec<SampleTable>), ReadError> {
    let at = crate::finished_moov_offset(file).ok_or_else(|| ReadError::new(0, "no finished recording"))?;
    let moov = usize::try_from(at).ok().and_then(|at| file.get(at..));
    let body = moov.and_then(|moov| crate::walk::find(moov, *b"moov"));
    movie::read(body.ok_or_else(|| ReadError::new(at, "no moov"))?)
}

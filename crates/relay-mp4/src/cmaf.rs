//! Reads other people's fragmented MP4 as it comes: CMAF (ISO/IEC 23000-19) and the fMP4 of HLS (RFC 8216 §3.3).
//!
//! [`Scanner`](crate::Scanner) is for files of our own, which it must be able to finish; here nothing is known but the
//! standard, bytes come in pieces of any size, and whatever isn't needed is passed over.

mod fragment;
mod init;
mod sample;

use bytes::Bytes;
use relay_media::{Codec, Flags, Kind, Timebase, Timestamp};

use crate::{ReadError, walk::Header};
use fragment::{Fragment, Placed};
use sample::Assembler;

/// The most bytes of a `moov`: as in a file of ours.
const MOOV_MAX: u64 = 1 << 20;
/// The most bytes of a `moof`: 16 for each of [`CMAF_SAMPLES_MAX`] samples, and room for sample groups and encryption
/// data that are passed over.
const MOOF_MAX: u64 = 2 << 20;
/// The most samples of a fragment: a minute of 60 fps video with two tracks of 48 kHz AAC is 9,225. One takes 48
/// bytes here, so 1.5 MiB.
pub const CMAF_SAMPLES_MAX: usize = 1 << 15;

/// A track of an initialisation segment.
#[derive(Clone, Debug)]
pub struct CmafTrack {
    /// `track_ID`.
    pub id: u32,
    /// Video or audio; `None` for text, metadata and others, whose samples are passed over.
    pub kind: Option<Kind>,
    /// The four letters of its sample entry: `avc1`, `mp4a`, `encv`…
    pub entry: String,
    /// The codec, where it is one that is carried and its parameters are there; those of `avc3` and `hev1` come with
    /// the samples.
    pub codec: Option<Codec>,
    /// The clock of its times.
    pub timebase: Timebase,
}

/// An access unit or audio frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CmafUnit {
    /// Its track's place in [`CmafReader::tracks`].
    pub track: usize,
    /// Decode time, the edit list applied: it may be negative. Nothing is promised about its order.
    pub dts: Timestamp,
    /// Presentation time, likewise.
    pub pts: Timestamp,
    /// Ticks to the next unit, as the fragment says; zero if it doesn't.
    pub duration: u32,
    /// As in [`relay_media::Packet::payload`].
    pub payload: Bytes,
    /// `KEY` and `DISPOSABLE`, as the bitstream says.
    pub flags: Flags,
    /// The codec, when it is first used or has changed.
    pub codec: Option<Codec>,
}

/// Takes fragmented MP4 apart: initialisation segment first, then segments, in pieces of any size.
///
/// What it holds is bounded: one `moov` or `moof` of at most 2 MiB, the places of [`CMAF_SAMPLES_MAX`] samples, one
/// sample of at most [`MAX_ACCESS_UNIT_BYTES`](relay_media::access_unit::MAX_ACCESS_UNIT_BYTES), and units that were
/// not polled.
#[derive(Debug, Default)]
pub struct CmafReader {
    state: State,
    /// Bytes of a header or box that came in part.
    carry: Vec<u8>,
    /// Where the next byte stands, from the first byte of the last `moof`.
    position: u64,
    init: init::Init,
    /// The last fragment's samples that are still to come, the last first.
    pending: Vec<Placed>,
    assembler: Assembler,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    /// At a box.
    #[default]
    Header,
    /// In the body of a `moov` or `moof` with this header.
    Body(Header),
    /// In a box that is passed over: so many bytes are left.
    Skip(u64),
    /// In an `mdat`.
    Media(u64),
    /// It made no sense: nothing more is read of this segment.
    Lost,
}

impl CmafReader {
    /// A reader that knows no track.
    pub fn new() -> Self {
        Self::default()
    }

    /// The tracks of the last initialisation segment.
    pub fn tracks(&self) -> &[CmafTrack] {
        &self.init.tracks
    }

    /// Takes the next bytes. The units that they complete are had by [`poll`](Self::poll), which should be asked
    /// after each push.
    ///
    /// # Errors
    /// The bytes make no sense; the rest of the segment is passed over, up to [`finish`](Self::finish).
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), ReadError> {
        let mut rest = bytes;
        let result = self.read(&mut rest);
        if result.is_err() {
            self.state = State::Lost;
        }
        result
    }

    /// The segment ends here. `true` if it was whole; otherwise the unit that was cut is dropped.
    pub fn finish(&mut self) -> bool {
        let at_box = matches!(self.state, State::Header if self.carry.is_empty()) || self.is_open_ended();
        let is_whole = at_box && self.pending.is_empty();
        self.state = State::Header;
        self.carry.clear();
        self.pending.clear();
        self.assembler.cut();
        is_whole
    }

    /// The next finished unit, in the order of the bytes.
    pub fn poll(&mut self) -> Option<CmafUnit> {
        self.assembler.ready.pop_front()
    }

    /// Samples that could not be had so far: outside the media, too large, or not decodable for lack of parameter sets.
    pub fn dropped(&self) -> u64 {
        self.assembler.dropped
    }

    /// In an `mdat` that reaches to the end of the file (ISO/IEC 14496-12 §4.2.2).
    fn is_open_ended(&self) -> bool {
        matches!(self.state, State::Media(u64::MAX))
    }

    fn read(&mut self, rest: &mut &[u8]) -> Result<(), ReadError> {
        while !rest.is_empty() {
            self.state = match self.state {
                State::Lost => return Ok(()),
                State::Header => {
                    let Some(header) = self.header(rest)? else { return Ok(()) };
                    self.enter(header)?
                }
                State::Body(header) => {
                    let Some(body) = self.collect(header.size - header.len, rest) else { return Ok(()) };
                    self.body(header, &body)?;
                    State::Header
                }
                State::Skip(left) => match self.advance(left, rest) {
                    0 => State::Header,
                    left => State::Skip(left),
                },
                State::Media(left) => match self.media(left, rest) {
                    0 => State::Header,
                    left => State::Media(left),
                },
            };
        }
        Ok(())
    }

    /// A box header, once it is whole.
    fn header(&mut self, rest: &mut &[u8]) -> Result<Option<Header>, ReadError> {
        let wanted = if self.carry.starts_with(&[0, 0, 0, 1]) { Header::MAX_LEN } else { 8 };
        let missing = wanted.saturating_sub(self.carry.len()).min(rest.len());
        let (front, back) = rest.split_at(missing);
        self.carry.extend_from_slice(front);
        *rest = back;
        self.position = self.position.saturating_add(front.len() as u64);
        let is_long = self.carry.starts_with(&[0, 0, 0, 1]);
        if self.carry.len() < 8 || (is_long && self.carry.len() < Header::MAX_LEN) {
            // A long header whose second half is still to come is asked for again.
            return if is_long && !rest.is_empty() { self.header(rest) } else { Ok(None) };
        }
        let bytes = std::mem::take(&mut self.carry);
        let is_open_ended = bytes.starts_with(&[0; 4]) && bytes.get(4..8) == Some(b"mdat");
        if is_open_ended {
            return Ok(Some(Header { letters: *b"mdat", len: 8, size: 0 }));
        }
        Header::parse(&bytes).map(Some).ok_or_else(|| ReadError::new(self.position, "no box header"))
    }

    fn enter(&mut self, header: Header) -> Result<State, ReadError> {
        if header.size == 0 {
            return Ok(State::Media(u64::MAX));
        }
        let left = header.size - header.len;
        let limit = match &header.letters {
            b"moov" => MOOV_MAX,
            b"moof" => MOOF_MAX,
            b"mdat" if left == 0 => return Ok(State::Header),
            b"mdat" => return Ok(State::Media(left)),
            letters => {
                // Letters are ASCII: anything else is no box, but something that isn't MP4.
                if letters.iter().any(|letter| !(b' '..=b'~').contains(letter) && *letter != 0xa9) {
                    return Err(ReadError::new(self.position, "no box"));
                }
                return Ok(if left == 0 { State::Header } else { State::Skip(left) });
            }
        };
        if header.letters == *b"moof" {
            // Offsets count from its first byte (ISO/IEC 14496-12 §8.8.7).
            self.position = header.len;
        }
        match left {
            0 => Err(ReadError::new(self.position, "an empty moov or moof")),
            left if left > limit => Err(ReadError::new(self.position, format!("a moov or moof of {left} bytes"))),
            _ => Ok(State::Body(header)),
        }
    }

    /// The whole body of a box, once it is there.
    fn collect(&mut self, wanted: u64, rest: &mut &[u8]) -> Option<Vec<u8>> {
        let wanted = usize::try_from(wanted).ok()?;
        let (front, back) = rest.split_at(wanted.saturating_sub(self.carry.len()).min(rest.len()));
        self.carry.extend_from_slice(front);
        self.position = self.position.saturating_add(front.len() as u64);
        *rest = back;
        (self.carry.len() == wanted).then(|| std::mem::take(&mut self.carry))
    }

    fn body(&mut self, header: Header, body: &[u8]) -> Result<(), ReadError> {
        if header.letters == *b"moov" {
            self.init = init::read(body)?;
            self.assembler.begin(&self.init);
            return Ok(());
        }
        let Fragment { mut placed, next } = fragment::read(body, &self.init)?;
        // Stable: samples without bytes keep their order.
        placed.sort_by_key(|placed| placed.start);
        placed.reverse();
        self.assembler.dropped += self.pending.len() as u64;
        self.pending = placed;
        for (track, next) in self.init.clocks.iter_mut().zip(next) {
            track.next_dts = next;
        }
        Ok(())
    }

    /// Passes over bytes; says how many are left to be passed over.
    fn advance(&mut self, left: u64, rest: &mut &[u8]) -> u64 {
        let taken = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
        *rest = rest.get(taken..).unwrap_or_default();
        self.position = self.position.saturating_add(taken as u64);
        left - taken as u64
    }

    /// Takes media; says how much of it is left.
    fn media(&mut self, left: u64, rest: &mut &[u8]) -> u64 {
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
        let (media, back) = rest.split_at(length);
        *rest = back;
        let end = self.position.saturating_add(media.len() as u64);
        // Where the next sample may begin: samples that share bytes would make much of little.
        let mut floor = self.position;
        while let Some(placed) = self.pending.last().copied() {
            let stop = placed.start.saturating_add(placed.size.into());
            if placed.start >= end && stop > end {
                break;
            }
            let begun = floor == self.position && placed.start < floor;
            if placed.start < floor && !(begun && self.assembler.holds_front(floor - placed.start)) {
                // It began before this box, or inside the sample before it.
                self.assembler.drop_sample();
                self.pending.pop();
                continue;
            }
            let at = |offset: u64| usize::try_from(offset.saturating_sub(self.position)).unwrap_or(usize::MAX);
            let piece = media.get(at(placed.start)..at(stop.min(end))).unwrap_or_default();
            if stop > end {
                self.assembler.keep(placed.size, piece);
                break;
            }
            self.assembler.complete(&placed, piece, &self.init);
            self.pending.pop();
            floor = stop;
        }
        self.position = end;
        if left == u64::MAX { left } else { left - length as u64 }
    }
}

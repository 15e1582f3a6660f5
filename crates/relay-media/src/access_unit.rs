//! One picture: NAL units in, one length-prefixed access unit out, with what its headers say.
//!
//! Used wherever pictures come as loose NAL units: RTP, MPEG-TS, encoders. The bytes are copied once, into a buffer
//! allocated at the size of the previous picture of the same kind. Parameter sets are learnt and left out (they
//! belong to the track), as are delimiters and filler. Where pictures begin and end is the caller's knowledge.

use bytes::Bytes;
use memchr::memmem;

use crate::{
    BitstreamError, Codec, Flags, h264, h265,
    nal::{LENGTH_BYTES, split_annex_b, split_length_prefixed, trim_trailing_zeros},
};

mod parameter_sets;
mod slice;

use parameter_sets::ParameterSets;
use slice::Slice;

/// The most bytes of one access unit. An 8K camera of 100 Mbit/s at 25 fps has 0.5 MB per picture on average and
/// ten times that in a key frame: 5 MB, and 8 MiB is the next power of two.
pub const MAX_ACCESS_UNIT_BYTES: usize = 8 << 20;

/// Which standard the NAL units follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syntax {
    /// ITU-T H.264.
    H264,
    /// ITU-T H.265.
    H265,
}

/// A finished picture.
#[derive(Clone, Debug)]
pub struct AccessUnit {
    /// Its NAL units in order, each behind its 4-byte length.
    pub payload: Bytes,
    /// `KEY` and `DISPOSABLE`.
    pub flags: Flags,
    /// How it depends on others.
    pub role: Role,
    /// The codec, when this picture is the first that uses these parameter sets.
    pub codec: Option<Codec>,
}

/// How a picture depends on others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Decodes alone, and so does all that follows: IDR, or a recovery point of count 0 made of I slices only.
    Closed,
    /// Decodes alone, but leading pictures that follow it may refer to what came before: H.265 CRA and BLA.
    Open,
    /// A leading picture that cannot be decoded when decoding began at its `Open` picture: H.265 RASL.
    SkippedLeading,
    /// Needs pictures before it.
    Dependent,
}

/// Why the collected NAL units make no picture. They are gone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// There was no slice among them.
    #[error("no slice")]
    NoSlice,
    /// The first slice of the picture was not among them.
    #[error("the first slice is missing")]
    NoFirstSlice,
    /// More than [`MAX_ACCESS_UNIT_BYTES`].
    #[error("larger than {MAX_ACCESS_UNIT_BYTES} bytes")]
    TooLarge,
    /// The parameter sets that it refers to have not been seen.
    #[error("its parameter sets are missing")]
    NoParameterSets,
    /// The parameter sets that it refers to cannot be read.
    #[error(transparent)]
    BadParameterSets(#[from] BitstreamError),
}

/// What a NAL unit says about the end of the picture before it (H.264 §7.4.1.2.3, H.265 §7.4.2.4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boundary {
    /// It belongs to a new picture.
    Opens,
    /// It is a further slice of the same picture.
    Continues,
    /// It may follow a picture's last slice: suffix SEI, end of sequence, filler.
    Trails,
}

/// Collects the NAL units of one picture after another.
#[derive(Debug)]
pub struct AccessUnitBuilder {
    syntax: Syntax,
    buffer: Vec<u8>,
    /// Where the length of the NAL unit that is being extended stands in `buffer`.
    open: Option<usize>,
    picture: Picture,
    sets: ParameterSets,
    key_bytes: usize,
    other_bytes: usize,
    /// The picture's size was told.
    is_sized: bool,
    start_codes_seen: u64,
    start_code: memmem::Finder<'static>,
}

/// What the slices collected so far say.
#[derive(Clone, Copy, Debug, Default)]
struct Picture {
    first: Option<Slice>,
    slices: u32,
    has_first_slice: bool,
    all_intra: bool,
    too_large: bool,
}

impl AccessUnitBuilder {
    /// A builder that knows no parameter sets.
    pub fn new(syntax: Syntax) -> Self {
        Self {
            syntax,
            buffer: Vec::new(),
            open: None,
            picture: Picture::default(),
            sets: ParameterSets::default(),
            key_bytes: 0,
            other_bytes: 0,
            is_sized: false,
            start_codes_seen: 0,
            start_code: memmem::Finder::new(&[0, 0, 1]),
        }
    }

    /// Takes note of parameter sets from outside the stream (SDP, a container), one or more NAL units with start
    /// codes between them (V380); other NAL units among them are passed over.
    pub fn learn(&mut self, parameter_sets: &[u8]) {
        for nal in split_annex_b(parameter_sets) {
            self.sets.learn(self.syntax, nal);
        }
    }

    /// The next picture has `bytes` bytes with its lengths, or few less: allocates them at once instead of guessing.
    pub fn expect(&mut self, bytes: usize) {
        self.is_sized = true;
        self.buffer.reserve_exact(bytes.min(MAX_ACCESS_UNIT_BYTES));
    }

    /// Adds one whole NAL unit, from its header byte on.
    pub fn push(&mut self, nal: &[u8]) {
        self.begin(nal);
        self.end();
    }

    /// Begins a NAL unit of which more will come, with its first bytes, at least its header.
    pub fn begin(&mut self, head: &[u8]) {
        self.end();
        self.reserve(head);
        self.open = Some(self.buffer.len());
        self.buffer.extend_from_slice(&[0; LENGTH_BYTES]);
        self.extend(head);
    }

    /// Adds bytes to the NAL unit that was begun.
    pub fn extend(&mut self, bytes: &[u8]) {
        if self.open.is_none() {
            return;
        }
        if self.buffer.len() + bytes.len() > MAX_ACCESS_UNIT_BYTES {
            self.picture.too_large = true;
            return;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Ends the NAL unit that was begun, if any.
    pub fn end(&mut self) {
        let Some(start) = self.open.take() else { return };
        let nal = self.buffer.get(start + LENGTH_BYTES..).unwrap_or_default();
        if self.start_code.find(nal).is_some() {
            // V380: Annex B where one bare NAL unit belongs. A start code cannot occur inside one (§7.4.1).
            self.start_codes_seen += 1;
            let annex_b = nal.to_vec();
            self.buffer.truncate(start);
            for nal in split_annex_b(&annex_b) {
                let start = self.buffer.len();
                self.buffer.extend_from_slice(&[0; LENGTH_BYTES]);
                self.buffer.extend_from_slice(nal);
                self.close(start);
            }
        } else {
            let trimmed = trim_trailing_zeros(nal).len();
            self.buffer.truncate(start + LENGTH_BYTES + trimmed);
            self.close(start);
        }
    }

    /// A NAL unit has been begun and not ended.
    pub fn is_nal_open(&self) -> bool {
        self.open.is_some()
    }

    /// A slice has been collected or begun.
    pub fn has_slice(&self) -> bool {
        let open = self.open.and_then(|start| self.buffer.get(start + LENGTH_BYTES..)).unwrap_or_default();
        self.picture.slices > 0 || slice::is_slice(self.syntax, open)
    }

    /// Every slice collected so far, at least one, belongs to a picture that no other refers to.
    pub fn is_disposable(&self) -> bool {
        self.picture.first.is_some_and(|slice| self.disposable(slice))
    }

    /// How the NAL unit that begins with `head` stands to the picture before it.
    pub fn boundary(&self, head: &[u8]) -> Boundary {
        slice::boundary(self.syntax, head)
    }

    /// NAL units that turned out to be several with start codes between them.
    pub fn start_codes_seen(&self) -> u64 {
        self.start_codes_seen
    }

    /// Takes what was collected as a finished picture.
    ///
    /// # Errors
    /// It is not whole, or not decodable for lack of parameter sets; what was collected is gone.
    pub fn finish(&mut self) -> Result<AccessUnit, Unfit> {
        self.end();
        self.is_sized = false;
        let picture = std::mem::take(&mut self.picture);
        let mut buffer = std::mem::take(&mut self.buffer);
        let slice = picture.first.ok_or(Unfit::NoSlice)?;
        if picture.too_large {
            return Err(Unfit::TooLarge);
        }
        if !picture.has_first_slice {
            return Err(Unfit::NoFirstSlice);
        }
        let role = match slice.role {
            Role::Dependent if picture.all_intra && recovers_at_once(self.syntax, &buffer) => Role::Closed,
            role => role,
        };
        let key = matches!(role, Role::Closed | Role::Open);
        *(if key { &mut self.key_bytes } else { &mut self.other_bytes }) = buffer.len();
        let codec = self.sets.activate(self.syntax, slice.pps_id)?;
        self.sets.prepend_others(self.syntax, key, &mut buffer);
        // More than a quarter unused would cost the ring memory that it doesn't count.
        if buffer.capacity() > buffer.len() / 4 * 5 + 256 {
            buffer.shrink_to_fit();
        }
        let mut flags = Flags::empty();
        flags.set(Flags::KEY, key);
        flags.set(Flags::DISPOSABLE, !key && self.disposable(slice));
        Ok(AccessUnit { payload: Bytes::from(buffer), flags, role, codec })
    }

    /// Forgets what was collected, but not the parameter sets.
    pub fn discard(&mut self) {
        (self.open, self.is_sized) = (None, false);
        self.buffer.clear();
        self.picture = Picture::default();
    }

    fn disposable(&self, slice: Slice) -> bool {
        slice.temporal_id.map_or(slice.non_reference, |id| slice.non_reference && id + 1 >= self.sets.sub_layers())
    }

    /// Makes room for the whole picture when its first NAL unit, or its first slice, shows its kind.
    fn reserve(&mut self, head: &[u8]) {
        let opens_slices = self.picture.slices == 0 && slice::is_slice(self.syntax, head);
        if self.is_sized || !(self.buffer.is_empty() || opens_slices) {
            return;
        }
        let expected = if slice::announces_key(self.syntax, head) { self.key_bytes } else { self.other_bytes };
        let wanted = (expected + expected / 8 + head.len() + LENGTH_BYTES).min(MAX_ACCESS_UNIT_BYTES);
        self.buffer.reserve(wanted.saturating_sub(self.buffer.len()));
    }

    /// Looks at the NAL unit whose length stands at `start`: keeps it and writes the length, or takes it out.
    fn close(&mut self, start: usize) {
        let Some((length, nal)) =
            self.buffer.get_mut(start..).and_then(|bytes| bytes.split_first_chunk_mut::<LENGTH_BYTES>())
        else {
            return;
        };
        let keep = if let Some(slice) = Slice::read(self.syntax, nal) {
            self.picture.slices += 1;
            self.picture.has_first_slice |= slice.is_first;
            self.picture.all_intra = slice.intra && (self.picture.first.is_none() || self.picture.all_intra);
            self.picture.first.get_or_insert(slice);
            true
        } else {
            !self.sets.learn(self.syntax, nal) && slice::is_kept(self.syntax, nal)
        };
        *length = u32::try_from(nal.len()).unwrap_or(u32::MAX).to_be_bytes();
        if !keep {
            self.buffer.truncate(start);
        }
    }
}

/// A recovery point SEI of count 0 is in the picture: decoding may start here (H.264 §D.2.8).
fn recovers_at_once(syntax: Syntax, payload: &[u8]) -> bool {
    // H.265 marks random access by NAL unit types; its recovery points are for gradual refresh (§D.3.8).
    syntax == Syntax::H264 && split_length_prefixed(payload).any(|nal| h264::recovery_point(nal) == Some(0))
}

#[cfg(test)]
mod tests;

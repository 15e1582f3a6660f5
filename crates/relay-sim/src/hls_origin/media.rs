//! The bytes of segments, parts, initialisation sections and keys, made when they are asked for.

use std::{collections::VecDeque, io, sync::Arc};

use aws_lc_rs::{
    cipher::{AES_128, EncryptionContext, PaddedBlockEncryptingKey, UnboundCipherKey},
    iv::FixedLength,
};
use bytes::Bytes;

use super::{
    fmp4::Fmp4Writer,
    programme::Segment,
    ts::{Frames, TsWriter},
};
use crate::{clip::Clip, locked};

/// What segments are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    /// MPEG-TS.
    Ts,
    /// Fragmented MP4 with an initialisation section.
    Fmp4,
}

/// Makes the segments of one variant.
#[derive(Debug)]
pub(crate) struct Studio {
    pub(crate) clip: Arc<Clip>,
    writer: Writer,
    part_frames: Option<u64>,
    /// The last ones made: they are asked for again for byte ranges, and for their lengths.
    shelf: std::sync::Mutex<VecDeque<(u64, Bytes)>>,
}

#[derive(Debug)]
enum Writer {
    Ts(TsWriter),
    Fmp4(Fmp4Writer),
}

/// Segments kept made: those of a playlist and of the file that its first one lies in.
const SHELF: usize = 32;

impl Studio {
    /// A studio for `clip`.
    ///
    /// # Errors
    /// The clip's parameter sets are not understood.
    pub(crate) fn new(
        clip: Arc<Clip>,
        container: Container,
        has_audio: bool,
        part_frames: Option<u64>,
    ) -> io::Result<Self> {
        let writer = match container {
            Container::Ts => Writer::Ts(TsWriter::new(&clip, has_audio)),
            Container::Fmp4 => Writer::Fmp4(Fmp4Writer::new(&clip, has_audio)?),
        };
        Ok(Self { clip, writer, part_frames, shelf: std::sync::Mutex::default() })
    }

    /// The initialisation section; empty for MPEG-TS.
    pub(crate) fn init(&self) -> io::Result<Bytes> {
        match &self.writer {
            Writer::Ts(_) => Ok(Bytes::new()),
            Writer::Fmp4(writer) => Ok(writer.init()?.into()),
        }
    }

    /// A whole segment, encrypted if it has a key.
    pub(crate) fn segment(&self, segment: &Segment) -> io::Result<Bytes> {
        let mut shelf = locked(&self.shelf);
        if let Some((_, bytes)) = shelf.iter().find(|(index, _)| *index == segment.index) {
            return Ok(bytes.clone());
        }
        let mut bytes = Vec::new();
        for part in 0..self.parts(segment) {
            bytes.extend_from_slice(&self.part(segment, part)?);
        }
        if let Some(number) = segment.key {
            bytes = encrypt(&key(number), iv(segment), bytes)?;
        }
        let bytes = Bytes::from(bytes);
        shelf.push_back((segment.index, bytes.clone()));
        if shelf.len() > SHELF {
            shelf.pop_front();
        }
        Ok(bytes)
    }

    /// How many parts a segment has.
    pub(crate) fn parts(&self, segment: &Segment) -> u64 {
        segment.frames.count / self.part_frames.unwrap_or(segment.frames.count).max(1)
    }

    /// A part of a segment, in the clear.
    pub(crate) fn part(&self, segment: &Segment, part: u64) -> io::Result<Vec<u8>> {
        let count = self.part_frames.unwrap_or(segment.frames.count);
        let (nth, whole) = (part * count, segment.frames);
        let frames = Frames {
            first: whole.first + nth,
            count,
            ticks: whole.ticks_of(&self.clip, nth),
            utc_nanos: whole.stamp(&self.clip, nth).utc_nanos,
        };
        match &self.writer {
            Writer::Ts(writer) => Ok(writer.write(&self.clip, segment.index, &frames, part == 0)),
            Writer::Fmp4(writer) => writer.write(&self.clip, &frames),
        }
    }
}

/// The key of this number: nobody has to guess it.
pub(crate) fn key(number: u32) -> [u8; 16] {
    let mut key = *b"relay-sim key 00";
    for (to, from) in key.iter_mut().skip(12).zip(number.to_be_bytes()) {
        *to = from;
    }
    key
}

/// The initialisation vector of a segment, which the playlist tells.
pub(crate) fn iv(segment: &Segment) -> [u8; 16] {
    u128::from(segment.index ^ 0x5eed).to_be_bytes()
}

/// AES-128 in CBC mode with PKCS #7 padding (RFC 8216 §4.3.2.4).
fn encrypt(key: &[u8; 16], iv: [u8; 16], mut bytes: Vec<u8>) -> io::Result<Vec<u8>> {
    let refused = |_| io::Error::other("AES refused");
    let key = UnboundCipherKey::new(&AES_128, key).map_err(refused)?;
    let key = PaddedBlockEncryptingKey::cbc_pkcs7(key).map_err(refused)?;
    key.less_safe_encrypt(&mut bytes, EncryptionContext::Iv128(FixedLength::from(iv))).map_err(refused)?;
    Ok(bytes)
}

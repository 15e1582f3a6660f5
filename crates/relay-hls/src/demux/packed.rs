//! Packed audio (RFC 8216 §3.4): ADTS frames behind an ID3 tag that tells the time of the first.

use std::collections::VecDeque;

use bytes::Bytes;
use relay_media::{Codec, Timebase, Timestamp, aac};

use crate::proto::{Cause, Class, reason};

/// The most bytes of an ID3 tag: pictures of a station fit.
const TAG_MAX: usize = 1 << 20;
/// Bytes of an ADTS header without its CRC.
const HEADER: usize = 7;
/// Who owns the frame that tells the time.
const OWNER: &[u8] = b"com.apple.streaming.transportStreamTimestamp\0";

/// Takes packed AAC apart.
#[derive(Debug, Default)]
pub(super) struct PackedAudio {
    buffer: Vec<u8>,
    /// The time of the segment's first frame in ticks of 90 kHz, and the samples since.
    base: Option<i64>,
    samples: i64,
    config: Option<aac::Config>,
    ready: VecDeque<(Timestamp, Bytes, Option<Codec>)>,
    is_refused: bool,
}

impl PackedAudio {
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), Cause> {
        if self.is_refused {
            return Ok(());
        }
        self.buffer.extend_from_slice(bytes);
        let mut done = 0;
        let result = loop {
            let rest = self.buffer.get(done..).unwrap_or_default();
            match rest {
                [b'I', b'D', b'3', ..] => match tag_bytes(rest) {
                    Some(length) if length > TAG_MAX => break Err(refuse("an ID3 tag of more than 1 MiB")),
                    Some(length) if length <= rest.len() => {
                        if let Some(time) = rest.get(..length).and_then(time) {
                            (self.base, self.samples) = (Some(time), 0);
                        }
                        done += length;
                    }
                    _ => break Ok(()),
                },
                [0xff, second, ..] if second & 0xf6 == 0xf0 => match self.frame(done) {
                    Some(length) => done += length,
                    None => break Ok(()),
                },
                [0xff, second, ..] if second & 0xe0 == 0xe0 => break Err(refuse("packed MP3 is not carried")),
                [0x0b, 0x77, ..] => break Err(refuse("packed AC-3 is not carried")),
                [] | [_] | [b'I', b'D'] => break Ok(()),
                // Out of step: look for the next frame.
                _ => done += 1,
            }
        };
        self.buffer.drain(..done);
        if result.is_err() {
            self.is_refused = true;
            self.buffer.clear();
        }
        result
    }

    /// Takes the frame that begins `at`; says how long it is, once it is whole.
    fn frame(&mut self, at: usize) -> Option<usize> {
        let bytes = self.buffer.get(at..)?;
        let [_, first, second, third, fourth, fifth, sixth] = *bytes.first_chunk::<HEADER>()?;
        let length = usize::from(third & 3) << 11 | usize::from(fourth) << 3 | usize::from(fifth >> 5);
        let header = if first & 1 == 1 { HEADER } else { HEADER + 2 };
        if length <= header || sixth & 3 != 0 {
            // No frame, or several blocks in one, which nobody writes.
            return Some(1);
        }
        let payload = Bytes::copy_from_slice(bytes.get(header..length)?);
        let (object, rate, channels) = ((second >> 6) + 1, second >> 2 & 0x0f, (second & 1) << 2 | third >> 6);
        let Ok(config) = aac::Config::parse(&[object << 3 | rate >> 1, rate << 7 | channels << 3]) else {
            return Some(1);
        };
        let hz = i64::from(config.sample_rate().max(1));
        let time = self.base.unwrap_or(0).saturating_add(self.samples.saturating_mul(90_000) / hz);
        self.samples = self.samples.saturating_add(config.frame_samples().into());
        let is_new = self.config.as_ref() != Some(&config);
        self.config = Some(config.clone());
        self.ready.push_back((Timestamp::new(time, Timebase::VIDEO), payload, is_new.then_some(Codec::Aac(config))));
        Some(length)
    }

    pub(super) fn poll(&mut self) -> Option<(Timestamp, Bytes, Option<Codec>)> {
        self.ready.pop_front()
    }

    /// The segment ends here: a frame that was cut is dropped. Without a tag the next one goes on.
    pub(super) fn finish(&mut self) {
        self.buffer.clear();
        self.is_refused = false;
    }
}

/// How long an ID3 tag is with its header (ID3v2.4 §3.1): seven bits in each of four bytes.
fn tag_bytes(bytes: &[u8]) -> Option<usize> {
    let size = bytes.get(6..10)?.iter().fold(0_usize, |size, byte| size << 7 | usize::from(byte & 0x7f));
    Some(size + 10)
}

/// The time that a tag tells: 33 bits of 90 kHz.
fn time(tag: &[u8]) -> Option<i64> {
    let at = tag.windows(OWNER.len()).position(|window| window == OWNER)?;
    let ticks = tag.get(at + OWNER.len()..)?.first_chunk().map(|ticks| u64::from_be_bytes(*ticks))?;
    Some((ticks & 0x1_ffff_ffff).cast_signed())
}

fn refuse(text: &str) -> Cause {
    Cause { reason: reason::BAD_MEDIA, text: text.to_owned(), class: Class::Slow }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(ticks: u64) -> Vec<u8> {
        let body = [&b"PRIV\0\0\0\x35\0\0"[..], OWNER, &ticks.to_be_bytes()].concat();
        [&b"ID3\x04\0\0\0\0\0"[..], &[u8::try_from(body.len()).unwrap()], &body].concat()
    }

    /// AAC-LC, 48 kHz, stereo.
    fn frame(payload: &[u8]) -> Vec<u8> {
        let length = payload.len() + HEADER;
        let low = u8::try_from(length & 7).unwrap() << 5 | 0x1f;
        [&[0xff, 0xf1, 0x4c, 0x80, u8::try_from(length >> 3).unwrap(), low, 0xfc][..], payload].concat()
    }

    #[test]
    fn frames_follow_the_tags_time_in_pieces_of_any_size() {
        let segment = [tag(90_000), frame(b"one"), frame(b"two!")].concat();
        for piece in 1..segment.len() {
            let (mut audio, mut found) = (PackedAudio::default(), Vec::new());
            for bytes in [&segment[..], &segment[..segment.len() - 1]].iter().flat_map(|bytes| bytes.chunks(piece)) {
                audio.push(bytes).unwrap();
            }
            audio.finish();
            while let Some((time, payload, codec)) = audio.poll() {
                found.push((time.ticks(), payload, codec.is_some()));
            }
            let expected: [(i64, &[u8], bool); 3] =
                [(90_000, b"one", true), (91_920, b"two!", false), (90_000, b"one", false)];
            assert_eq!(found.len(), 3, "{piece}");
            for ((time, payload, is_new), expected) in found.iter().zip(expected) {
                assert_eq!((*time, &payload[..], *is_new), expected, "{piece}");
            }
        }
        assert!(PackedAudio::default().push(&[0xff, 0xfb, 0x90, 0x64]).is_err());
        assert!(PackedAudio::default().push(&[0x0b, 0x77, 0, 0]).is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200), piece in 1_usize..50) {
            let mut audio = PackedAudio::default();
            for bytes in bytes.chunks(piece) {
                let _ = audio.push(bytes);
                while audio.poll().is_some() {}
            }
            audio.finish();
        }
    }
}

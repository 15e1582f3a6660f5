//! The sound of an origin: silent AAC-LC, 48 kHz mono, a frame every 1,024 samples of the programme's time.

use super::ts;
use crate::clip::Clip;

/// A silent frame.
pub(crate) const SILENCE: [u8; 6] = [0x00, 0xc8, 0x00, 0x80, 0x23, 0x80];
/// The AudioSpecificConfig (ISO/IEC 14496-3 §1.6.2.1): AAC-LC, 48 kHz, mono.
pub(crate) const CONFIG: [u8; 2] = [0x11, 0x88];
/// Of 48 kHz, and of 90 kHz: 1,024 samples.
pub(crate) const FRAME_SAMPLES: u64 = 1_024;
pub(crate) const FRAME_TICKS: u64 = FRAME_SAMPLES * 90_000 / 48_000;

/// The audio frames that begin within a run of video frames: the number of each since the programme began, and its
/// time in ticks of 90 kHz.
pub(crate) struct Frames {
    next: u64,
    until: u64,
    /// What the run's first tick is more than its time in the programme.
    offset: u64,
}

impl Frames {
    pub(crate) fn within(frames: &ts::Frames, clip: &Clip) -> Self {
        let ticks_at = |frame: u64| frame * 90_000 / u64::from(clip.spec().fps.get());
        let begins = ticks_at(frames.first);
        let ends = ticks_at(frames.first + frames.count);
        Self {
            next: begins.div_ceil(FRAME_TICKS),
            until: ends.div_ceil(FRAME_TICKS),
            offset: frames.ticks.wrapping_sub(begins),
        }
    }
}

impl Iterator for Frames {
    type Item = (u64, u64);

    fn next(&mut self) -> Option<Self::Item> {
        let number = self.next;
        self.next += 1;
        (number < self.until).then(|| (number, (number * FRAME_TICKS).wrapping_add(self.offset)))
    }
}

/// A frame with its ADTS header (ISO/IEC 13818-7 §6.2).
pub(crate) fn adts() -> Vec<u8> {
    let length = 7 + SILENCE.len() as u32;
    // Profile LC, sampling frequency index 3, channel configuration 1, buffer fullness "variable".
    let [a, b, c, d] = (length << 13 | 0x7ff << 2).to_be_bytes();
    let header = [0xff, 0xf1, 0x4c, 0x40 | a, b, c, d];
    header.into_iter().chain(SILENCE).collect()
}

//! The sound of the built-in camera: a soft tone with a pip at the start of every UTC second.

use std::f32::consts::TAU;

use bytes::Bytes;
use opus_rs::{Application, OpusEncoder};
use relay_media::{
    Codec, Timebase, UtcTime,
    g711::{self, Law},
    opus,
};

/// Makes audio frames of 20 ms, mono.
pub struct Tone {
    coder: Coder,
    /// Samples per second.
    rate: u32,
    hum: Oscillator,
    pip: Oscillator,
}

/// How the tone is coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToneCodec {
    /// Opus at 48 kHz and 48 kbit/s, CELT only.
    Opus,
    /// G.711 at 8 kHz.
    G711(Law),
}

enum Coder {
    Opus(Box<OpusEncoder>),
    G711(Law),
}

/// The Opus encoder refused, in its own words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Opus encoder: {0}")]
pub struct ToneError(&'static str);

/// Frames per second: 20 ms is the usual packet of both codecs (RFC 3551 §4.2, RFC 7587 §4.2).
const FRAMES_PER_SECOND: u32 = 50;
/// The pip lasts this long.
const PIP_NANOS: i64 = 80_000_000;
const HUM_HZ: u32 = 440;
const PIP_HZ: u32 = 1_000;
const HUM_LEVEL: f32 = 0.06;
const PIP_LEVEL: f32 = 0.3;

impl Tone {
    /// A tone in `codec`.
    ///
    /// # Errors
    /// The Opus encoder cannot be set up.
    pub fn new(codec: ToneCodec) -> Result<Self, ToneError> {
        let (rate, coder) = match codec {
            ToneCodec::Opus => {
                const RATE: u32 = opus::CLOCK_HZ;
                let encoder = OpusEncoder::new(RATE as i32, 1, Application::RestrictedLowDelay);
                let mut encoder = Box::new(encoder.map_err(ToneError)?);
                encoder.bitrate_bps = 48_000;
                encoder.complexity = 5;
                (RATE, Coder::Opus(encoder))
            }
            ToneCodec::G711(law) => (8_000, Coder::G711(law)),
        };
        Ok(Self { coder, rate, hum: Oscillator::new(HUM_HZ, rate), pip: Oscillator::new(PIP_HZ, rate) })
    }

    /// What it makes, for the track.
    pub fn codec(&self) -> Codec {
        match self.coder {
            Coder::Opus(_) => Codec::Opus(opus::Config { channels: 1 }),
            Coder::G711(law) => Codec::G711(g711::Config { law, sample_rate: self.rate, channels: 1 }),
        }
    }

    /// The clock of its samples.
    pub fn timebase(&self) -> Timebase {
        Timebase::new(self.rate).unwrap_or(Timebase::VIDEO)
    }

    /// Samples, and so ticks of [`timebase`](Self::timebase), in a frame.
    pub fn frame_ticks(&self) -> u32 {
        self.rate / FRAMES_PER_SECOND
    }

    /// The next 20 ms, which begin at `utc`.
    ///
    /// # Errors
    /// The Opus encoder fails.
    pub fn next_frame(&mut self, utc: UtcTime) -> Result<Bytes, ToneError> {
        /// The most bytes of one Opus frame (RFC 6716 §3.2.1).
        const MAX_OPUS_FRAME: usize = 1_276;
        let count = self.frame_ticks();
        let samples: Vec<f32> = (0..count).map(|index| self.sample(utc, index)).collect();
        match &mut self.coder {
            Coder::Opus(encoder) => {
                let mut packet = vec![0; MAX_OPUS_FRAME];
                let length = encoder.encode(&samples, count as usize, &mut packet).map_err(ToneError)?;
                packet.truncate(length);
                Ok(Bytes::from(packet))
            }
            Coder::G711(law) => Ok(samples.iter().map(|sample| compress(*law, (sample * 32_767.0) as i16)).collect()),
        }
    }

    fn sample(&mut self, utc: UtcTime, index: u32) -> f32 {
        let since_frame = i64::from(index) * 1_000_000_000 / i64::from(self.rate);
        let in_second = utc.plus_nanos(since_frame).unix_nanos().rem_euclid(1_000_000_000);
        let (hum, pip) = (self.hum.next(), self.pip.next());
        if in_second < PIP_NANOS { pip * PIP_LEVEL } else { hum * HUM_LEVEL }
    }
}

impl std::fmt::Debug for Tone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tone").field("codec", &self.codec()).finish_non_exhaustive()
    }
}

/// A sine whose phase is a whole number of 2^-32 turns, so that it never drifts.
#[derive(Clone, Copy, Debug)]
struct Oscillator {
    phase: u32,
    step: u32,
}

impl Oscillator {
    fn new(hz: u32, rate: u32) -> Self {
        Self { phase: 0, step: ((u64::from(hz) << 32) / u64::from(rate)) as u32 }
    }

    fn next(&mut self) -> f32 {
        self.phase = self.phase.wrapping_add(self.step);
        // 24 bits of phase are all that an f32 holds.
        ((self.phase >> 8) as f32 / (1 << 24) as f32 * TAU).sin()
    }
}

/// One 16-bit sample in 8 bits (ITU-T G.711 tables 1a to 2b).
fn compress(law: Law, sample: i16) -> u8 {
    match law {
        Law::Mu => mu_law(sample),
        Law::A => a_law(sample),
    }
}

/// 14 bits of magnitude and sign: biased, then 3 bits of exponent and 4 of mantissa, all inverted (§3.2).
fn mu_law(sample: i16) -> u8 {
    const BIAS: u16 = 33;
    const CLIP: u16 = 8_158;
    let magnitude = (sample.unsigned_abs() >> 2).min(CLIP) + BIAS;
    // The bias makes bit 5 the lowest that can lead.
    let exponent = magnitude.ilog2().saturating_sub(5);
    let mantissa = (magnitude >> (exponent + 1)) & 0x0f;
    let sign = if sample < 0 { 0x80 } else { 0 };
    !(sign | (exponent as u8) << 4 | mantissa as u8)
}

/// 13 bits of magnitude and sign, the lowest two segments linear, even bits inverted (§3.1).
fn a_law(sample: i16) -> u8 {
    // A negative sample falls on the lower side of its step: -1 belongs to the first one below zero.
    let (sign, magnitude) = if sample < 0 { (0, !sample as u16 >> 4) } else { (0x80, sample as u16 >> 4) };
    let code = match magnitude.checked_ilog2() {
        Some(top @ 4..) => ((top - 3) << 4) as u16 | (magnitude >> (top - 4)) & 0x0f,
        _ => magnitude,
    };
    (sign | code as u8) ^ 0x55
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: UtcTime = UtcTime::from_unix_nanos(1_795_228_207_000_000_000);

    /// Expansions by ITU-T G.711 tables 1a, 1b, 2a and 2b: the decoder output value of each code, scaled to 16 bits.
    #[test]
    fn companded_samples_are_those_of_the_tables() {
        for (law, sample, code) in [
            (Law::Mu, 0, 0xff),
            (Law::Mu, 32_767, 0x80),
            (Law::Mu, -32_768, 0x00),
            (Law::Mu, 8, 0xfe),
            (Law::Mu, -8, 0x7e),
            (Law::Mu, 1_000, 0xce),
            (Law::Mu, -1_000, 0x4e),
            (Law::Mu, 5_000, 0xab),
            (Law::Mu, -12_345, 0x17),
            (Law::A, 0, 0xd5),
            (Law::A, -1, 0x55),
            (Law::A, 32_767, 0xaa),
            (Law::A, -32_768, 0x2a),
            (Law::A, 16, 0xd4),
            (Law::A, 1_000, 0xfa),
            (Law::A, -1_000, 0x7a),
            (Law::A, 5_000, 0x86),
            (Law::A, -12_345, 0x3d),
        ] {
            assert_eq!(compress(law, sample), code, "{law:?} {sample}: {:02x}", compress(law, sample));
        }
    }

    #[test]
    fn every_frame_is_20_ms_of_its_codec() {
        for (codec, ticks) in [(ToneCodec::Opus, 960), (ToneCodec::G711(Law::A), 160), (ToneCodec::G711(Law::Mu), 160)]
        {
            let mut tone = Tone::new(codec).unwrap();
            assert_eq!((tone.frame_ticks(), tone.timebase().hz()), (ticks, ticks * 50));
            for frame in 0..100 {
                let payload = tone.next_frame(START.plus_nanos(frame * 20_000_000)).unwrap();
                match tone.codec() {
                    Codec::Opus(_) => assert_eq!(opus::packet_ticks(&payload), Some(ticks)),
                    _ => assert_eq!(payload.len(), ticks as usize),
                }
            }
        }
    }

    #[test]
    fn a_decoder_hears_the_tone_and_the_pip() {
        let mut tone = Tone::new(ToneCodec::Opus).unwrap();
        let mut decoder = opus_rs::OpusDecoder::new(48_000, 1).unwrap();
        let mut heard = Vec::new();
        for frame in 0..100 {
            let payload = tone.next_frame(START.plus_nanos(frame * 20_000_000)).unwrap();
            let mut samples = vec![0.0; 960];
            assert_eq!(decoder.decode(&payload, 960, &mut samples).unwrap(), 960);
            heard.push((power(&samples, HUM_HZ), power(&samples, PIP_HZ)));
        }
        for (frame, expected) in [(1, PIP_LEVEL), (2, PIP_LEVEL), (51, PIP_LEVEL), (30, 0.0), (80, 0.0)] {
            let (hum, pip) = heard[frame];
            assert!((pip - expected).abs() < 0.03, "pip of frame {frame}: {pip}");
            assert!(expected > 0.0 || (hum - HUM_LEVEL).abs() < 0.02, "hum of frame {frame}: {hum}");
        }
    }

    /// The amplitude of one frequency.
    fn power(samples: &[f32], hz: u32) -> f32 {
        let (mut re, mut im) = (0.0, 0.0);
        for (index, sample) in samples.iter().enumerate() {
            let (sin, cos) = (index as f32 * hz as f32 / 48_000.0 * TAU).sin_cos();
            re += sample * cos;
            im += sample * sin;
        }
        2.0 * f32::hypot(re, im) / samples.len() as f32
    }
}

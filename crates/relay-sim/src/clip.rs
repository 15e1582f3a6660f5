//! A pre-encoded loop of pictures, packetised once: what a camera shows over and over.

use bytes::Bytes;
use relay_encode::{Encoder, EncoderConfig, Frame, FrameKind, Pattern, Size};
use relay_media::{UtcTime, h264, nal::split_length_prefixed, stamp::Stamp};

/// What a [`Clip`] shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClipOptions {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Frames per second.
    pub fps: u32,
    /// Bits per second.
    pub bitrate_bps: u32,
    /// Frames from one key frame to the next.
    pub gop_frames: u32,
    /// Groups of pictures in the loop.
    pub gops: u32,
}

impl Default for ClipOptions {
    /// 720p25, 2 Mbit/s, a key frame every 2 s, 4 s long.
    fn default() -> Self {
        Self { width: 1_280, height: 720, fps: 25, bitrate_bps: 2_000_000, gop_frames: 50, gops: 2 }
    }
}

/// An endless loop of access units.
#[derive(Clone, Debug)]
pub struct Clip {
    /// What it shows.
    pub options: ClipOptions,
    /// Its parameter sets.
    pub config: h264::Config,
    units: Vec<Unit>,
}

/// One picture.
#[derive(Clone, Debug)]
pub struct Unit {
    /// It begins a group of pictures.
    pub key: bool,
    /// Its NAL units behind 4-byte lengths, without the stamp.
    pub payload: Bytes,
    /// RTP payloads (RFC 6184 §5.6, §5.8), the stamp's first, its text still to be written.
    pub rtp: Vec<Bytes>,
}

/// RTP payload bytes per packet: what fits an Ethernet frame with room for headers.
const MAX_PAYLOAD: usize = 1_400;

impl Clip {
    /// Draws and encodes the loop; takes about the time of the loop's length.
    ///
    /// # Errors
    /// The encoder refuses the options.
    pub fn encode(options: ClipOptions) -> anyhow::Result<Self> {
        let ClipOptions { width, height, fps, bitrate_bps, gop_frames, gops } = options;
        let size = Size::new(width, height)?;
        let mut encoder = Encoder::new(EncoderConfig { width, height, fps, bitrate_bps, gop_frames })?;
        let (pattern, mut frame) = (Pattern::new(size), Frame::new(size));
        let (mut units, mut config) = (Vec::new(), None);
        for number in 0..gop_frames.saturating_mul(gops) {
            pattern.draw(&mut frame, u64::from(number), UtcTime::from_unix_nanos(0));
            let kind = if number % gop_frames == 0 { FrameKind::Key } else { FrameKind::Any };
            let Some(encoded) = encoder.encode(&frame, kind, &[])? else { continue };
            let known = config.get_or_insert_with(|| encoded.config.clone());
            units.push(Unit::new(encoded.key, encoded.payload, known));
        }
        let config = config.ok_or_else(|| anyhow::anyhow!("the encoder made no picture"))?;
        Ok(Self { options, config, units })
    }

    /// The unit that a camera shows as its `counter`-th picture.
    pub fn unit(&self, counter: u64) -> Option<&Unit> {
        self.units.get(usize::try_from(counter % self.units.len().max(1) as u64).unwrap_or(0))
    }
}

impl Clip {
    /// The loop once as an Annex B stream, parameter sets and stamps in it.
    pub fn to_annex_b(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (counter, unit) in self.units.iter().enumerate() {
            let stamp = Stamp { counter: counter as u64, utc_nanos: 0 }.to_nal();
            let sets = [self.config.sps().as_ref(), self.config.pps().as_ref()];
            let sets = sets.into_iter().filter(|_| unit.key);
            for nal in sets.chain([&stamp[..]]).chain(split_length_prefixed(&unit.payload)) {
                bytes.extend_from_slice(&[0, 0, 0, 1]);
                bytes.extend_from_slice(nal);
            }
        }
        bytes
    }
}

impl Unit {
    fn new(key: bool, payload: Bytes, config: &h264::Config) -> Self {
        let blank = Stamp { counter: 0, utc_nanos: 0 }.to_nal();
        let mut rtp = vec![Bytes::copy_from_slice(&blank)];
        if key {
            rtp.extend([config.sps().clone(), config.pps().clone()]);
        }
        for nal in split_length_prefixed(&payload) {
            packetise(nal, &mut rtp);
        }
        Self { key, payload, rtp }
    }
}

/// A NAL unit as one RTP payload, or as fragments (FU-A, RFC 6184 §5.8).
fn packetise(nal: &[u8], rtp: &mut Vec<Bytes>) {
    let Some((header, body)) = nal.split_first() else { return };
    if nal.len() <= MAX_PAYLOAD {
        rtp.push(Bytes::copy_from_slice(nal));
        return;
    }
    let pieces: Vec<&[u8]> = body.chunks(MAX_PAYLOAD - 2).collect();
    for (index, piece) in pieces.iter().enumerate() {
        let start = if index == 0 { 0x80 } else { 0 };
        let end = if index + 1 == pieces.len() { 0x40 } else { 0 };
        let mut payload = vec![header & 0xe0 | 28, start | end | header & 0x1f];
        payload.extend_from_slice(piece);
        rtp.push(payload.into());
    }
}

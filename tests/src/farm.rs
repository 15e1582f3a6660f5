//! What the simulated cameras of tests and soaks show.

use std::sync::Arc;
use std::time::SystemTime;

use relay_sim::{Clip, ClipSpec};

/// A picture's size and rate; 25 frames a second.
#[derive(Clone, Copy, Debug)]
pub struct Picture {
    /// Pixels a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Bits a second.
    pub bitrate_bps: u32,
    /// Frames from one key frame to the next.
    pub gop_frames: u32,
}

impl Picture {
    /// What the benches use: 720p at 2 Mbit/s, a key frame every 2 s.
    pub const HD: Self = Self { width: 1_280, height: 720, bitrate_bps: 2_000_000, gop_frames: 50 };
    /// Small and cheap, a key frame every second: what matters is the number of cameras or connections.
    pub const SMALL: Self = Self { width: 320, height: 180, bitrate_bps: 300_000, gop_frames: 25 };

    /// The same in another size.
    #[must_use]
    pub fn resized(self) -> Self {
        Self { width: self.width / 2, height: self.height / 2, ..self }
    }
}

/// A loop of two groups of pictures, encoded now.
///
/// # Errors
/// When the encoder refuses the picture.
pub fn clip(picture: Picture) -> anyhow::Result<Arc<Clip>> {
    let Picture { width, height, bitrate_bps, gop_frames } = picture;
    let spec = ClipSpec { width, height, bitrate_bps, gop_frames, ..ClipSpec::default() };
    Ok(Clip::make(spec)?)
}

/// Nanoseconds since 1970-01-01T00:00:00Z, of the clock that the simulated cameras read.
#[must_use]
pub fn utc_nanos() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

//! Clips by the built-in encoder.

use relay_encode::{EncodeError, Encoder, EncoderConfig, Frame, FrameKind, Pattern};
use relay_media::{UtcTime, nal};

use super::ClipSpec;

/// Access units in Annex B framing with parameter sets at key frames, each with its composition offset, which is 0.
pub(super) fn units(spec: &ClipSpec) -> Result<Vec<(Vec<u8>, u32)>, EncodeError> {
    let ClipSpec { width, height, gop_frames, bitrate_bps, .. } = *spec;
    let fps = spec.fps.get();
    let mut encoder = Encoder::new(EncoderConfig { width, height, fps, bitrate_bps, gop_frames })?;
    let (pattern, mut frame) = (Pattern::new(encoder.size()), Frame::new(encoder.size()));
    let mut units = Vec::new();
    for number in 0..spec.frames() {
        pattern.draw(&mut frame, u64::from(number), UtcTime::from_unix_nanos(0));
        let kind = if number % gop_frames.max(1) == 0 { FrameKind::Key } else { FrameKind::Any };
        // A picture that the rate control leaves out makes the clip a frame shorter.
        let Some(encoded) = encoder.encode(&frame, kind, &[])? else { continue };
        let mut bytes = Vec::new();
        if encoded.key {
            for set in [encoded.config.sps(), encoded.config.pps()] {
                bytes.extend_from_slice(&nal::START_CODE);
                bytes.extend_from_slice(set);
            }
        }
        bytes.extend_from_slice(&nal::to_annex_b(&encoded.payload));
        units.push((bytes, 0));
    }
    Ok(units)
}

//! Pictures and sound: frames, scaling, the test pattern and tone, H.264 through openh264; blocking.
//!
//! Nothing here reads a clock or runs by itself: a caller hands in what to draw or encode, on a thread that may block.

mod decoder;
mod encoder;
mod frame;
pub mod pattern;
mod scaler;
mod tone;

pub use decoder::{DecodeError, Decoder};
pub use encoder::{EncodeError, EncodedFrame, Encoder, EncoderConfig, FrameKind};
pub use frame::{Frame, Plane, Size, SizeError};
pub use pattern::Pattern;
pub use scaler::Scaler;
pub use tone::{Tone, ToneCodec, ToneError};

/// openh264 was built with its assembly, which more than doubles its speed. Its build leaves it out silently when
/// nasm is missing, so a program that encodes says so at its start.
pub const ASSEMBLY: bool = cfg!(openh264_assembly);

#[cfg(test)]
mod tests {
    #[test]
    fn ci_builds_openh264_with_its_assembly() {
        let assembly = super::ASSEMBLY;
        assert!(
            assembly || std::env::var_os("CI").is_none(),
            "install nasm, then `cargo clean -p openh264-sys2 -p relay-encode`"
        );
    }
}

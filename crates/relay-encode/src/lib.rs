//! Pictures: frames, scaling, the test pattern, H.264 through openh264; blocking.

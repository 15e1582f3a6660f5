//! Any AudioSpecificConfig is refused or names a rate and channels.
#![no_main]

use libfuzzer_sys::fuzz_target;
use relay_media::aac::Config;

fuzz_target!(|input: &[u8]| {
    if let Ok(config) = Config::parse(input) {
        assert!(config.sample_rate() > 0 && config.channels() > 0 && config.frame_samples() > 0);
        assert_eq!(Config::parse(config.audio_specific_config()), Ok(config));
    }
});

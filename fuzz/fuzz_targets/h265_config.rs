//! Any VPS, SPS and PPS, or `hvcC`, is refused or survives the round trip through `hvcC`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use relay_media::h265::Config;

fuzz_target!(|input: &[u8]| {
    for config in [Config::parse(input, input, input), Config::from_hvcc(input)].into_iter().flatten() {
        assert_eq!(Config::from_hvcc(&config.hvcc()).as_ref(), Ok(&config));
        let _spoken = (config.profile_name(), config.level_name(), config.profile_tier_level());
    }
});

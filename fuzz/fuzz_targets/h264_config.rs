//! Any SPS and PPS, or `avcC`, is refused or survives the round trip through `avcC`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use relay_media::{h264, nal, stamp::Stamp};

fuzz_target!(|input: &[u8]| {
    for config in [h264::Config::parse(input, input), h264::Config::from_avcc(input)].into_iter().flatten() {
        assert_eq!(h264::Config::from_avcc(&config.avcc()).as_ref(), Ok(&config));
        let _spoken = (config.profile_name(), config.level_name(), config.profile_level_id());
    }
    for nal in nal::split_annex_b(input).chain(nal::split_length_prefixed(input)) {
        h264::recovery_point(nal);
    }
    Stamp::find(input);
});

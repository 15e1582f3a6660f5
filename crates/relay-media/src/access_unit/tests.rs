//! Access units from NAL units of real encoders and of none.

use proptest::prelude::*;

use super::*;
use crate::nal::tests::hex;

/// x264's parameter sets as in the tests of [`h264`]: 1280x720 Constrained Baseline, and 640x352 High.
const SPS: &str = "6742c01fd9005005bb011000000300100000030320f1832480";
const PPS: &str = "68cb83cb20";
const OTHER_SPS: &str = "67640016acb201405ff2e0220000030002000003003d1e2c5c90";
const OTHER_PPS: &str = "68ebc3cb22c0";
/// PPS 1 of SPS 0.
const PPS_1: &str = "685080";
/// Slices: first_mb 0, type 7 (I) or 5 (P), PPS 0; and a later slice (first_mb 6).
const IDR: &str = "6588804f";
const IDR_LATER: &str = "651c4444";
const P: &str = "419a804f";
const P_NON_REFERENCE: &str = "019a804f";
/// The same with PPS 1.
const P_OF_PPS_1: &str = "4199104f";
const I_NOT_IDR: &str = "4188804f";
/// A recovery point of count 0 (type 6, size 1, `1` and the stop bit), and of count 1.
const RECOVERY: &str = "060601c080";
const GRADUAL_RECOVERY: &str = "0606014880";

fn builder() -> AccessUnitBuilder {
    let mut builder = AccessUnitBuilder::new(Syntax::H264);
    builder.learn(&hex(SPS));
    builder.learn(&hex(PPS));
    builder
}

fn finish(builder: &mut AccessUnitBuilder, nals: &[&str]) -> Result<(Vec<Vec<u8>>, AccessUnit), Unfit> {
    nals.iter().for_each(|nal| builder.push(&hex(nal)));
    let unit = builder.finish()?;
    Ok((split_length_prefixed(&unit.payload).map(<[u8]>::to_vec).collect(), unit))
}

#[test]
fn a_picture_of_known_size_is_allocated_once() {
    let mut builder = builder();
    let slice = [hex(P), vec![0x5a; 9_000]].concat();
    for told in [slice.len() + LENGTH_BYTES, usize::MAX] {
        builder.expect(told);
        let before = builder.buffer.as_ptr();
        builder.push(&slice);
        assert_eq!(builder.buffer.capacity(), told.min(MAX_ACCESS_UNIT_BYTES));
        assert_eq!(builder.buffer.as_ptr(), before);
        assert_eq!(builder.finish().unwrap().payload.len(), slice.len() + LENGTH_BYTES);
    }
    // The next one's size is guessed again.
    assert!(!builder.is_sized);
}

#[test]
fn a_picture_keeps_what_belongs_to_it_and_tells_its_kind() {
    use Role::*;
    let (none, key, disposable) = (Flags::empty(), Flags::KEY, Flags::DISPOSABLE);
    for (nals, kept, role, flags) in [
        (&["0910", SPS, PPS, IDR][..], &[IDR][..], Closed, key),
        (&[IDR, IDR_LATER], &[IDR, IDR_LATER], Closed, key),
        (&["06050101", P], &["06050101", P], Dependent, none),
        (&[P, "0cffff80", "0a", "0b"], &[P], Dependent, none),
        (&[P_NON_REFERENCE], &[P_NON_REFERENCE], Dependent, disposable),
        (&[I_NOT_IDR], &[I_NOT_IDR], Dependent, none),
        (&[RECOVERY, I_NOT_IDR], &[RECOVERY, I_NOT_IDR], Closed, key),
        (&[GRADUAL_RECOVERY, I_NOT_IDR], &[GRADUAL_RECOVERY, I_NOT_IDR], Dependent, none),
        (&[RECOVERY, P], &[RECOVERY, P], Dependent, none),
        (&["7c85", "00", "1e", P], &[P], Dependent, none),
    ] {
        let (actual, unit) = finish(&mut builder(), nals).unwrap();
        assert_eq!(actual, kept.iter().map(|nal| hex(nal)).collect::<Vec<_>>(), "{nals:?}");
        assert_eq!((unit.role, unit.flags), (role, flags), "{nals:?}");
    }
}

#[test]
fn what_is_no_whole_picture_is_refused() {
    let mut unread = AccessUnitBuilder::new(Syntax::H264);
    unread.push(&hex("6742c0"));
    for (mut builder, nals, expected) in [
        (builder(), &["06050101"][..], Unfit::NoSlice),
        (builder(), &[], Unfit::NoSlice),
        (builder(), &[IDR_LATER], Unfit::NoFirstSlice),
        (builder(), &[P_OF_PPS_1], Unfit::NoParameterSets),
        (AccessUnitBuilder::new(Syntax::H264), &[IDR], Unfit::NoParameterSets),
        (unread, &[PPS, IDR], Unfit::NoParameterSets),
    ] {
        assert_eq!(finish(&mut builder, nals).unwrap_err(), expected, "{nals:?}");
        let (nals, _) = finish(&mut builder, &[SPS, PPS, IDR]).unwrap();
        assert_eq!(nals.len(), 1, "the next picture is not touched");
    }
    let mut builder = builder();
    builder.begin(&hex(IDR));
    for _ in 0..9 {
        builder.extend(&vec![0xaa; 1 << 20]);
    }
    assert_eq!(builder.finish().unwrap_err(), Unfit::TooLarge);
}

#[test]
fn the_codec_is_told_when_it_is_first_known_and_when_it_changes() {
    let mut builder = AccessUnitBuilder::new(Syntax::H264);
    for (nals, expected) in [
        (&[SPS, PPS, IDR][..], Some(1_280)),
        (&[P], None),
        (&[SPS, PPS, IDR], None),
        (&[OTHER_SPS, OTHER_PPS, IDR], Some(640)),
        (&[P], None),
        (&[SPS, PPS, IDR], Some(1_280)),
    ] {
        let (_, unit) = finish(&mut builder, nals).unwrap();
        let width = unit.codec.map(|codec| match codec {
            Codec::H264(config) => config.width(),
            _ => unreachable!(),
        });
        assert_eq!(width, expected, "{nals:?}");
    }
}

#[test]
fn a_second_pps_travels_in_the_key_frames() {
    let mut builder = builder();
    for (nals, kept) in [
        (&[PPS_1, IDR][..], &[PPS_1, IDR][..]),
        (&[P_OF_PPS_1], &[P_OF_PPS_1]),
        (&[P], &[P]),
        (&[IDR], &[PPS_1, IDR]),
        (&["685090", P], &["685090", P]),
        (&[P], &[P]),
        (&[SPS, PPS, "685090", IDR], &["685090", IDR]),
    ] {
        let (actual, unit) = finish(&mut builder, nals).unwrap();
        assert_eq!(actual, kept.iter().map(|nal| hex(nal)).collect::<Vec<_>>(), "{nals:?}");
        assert_eq!(unit.codec.is_some(), nals[0] == PPS_1, "{nals:?}");
    }
}

/// V380: a whole byte stream where one NAL unit belongs, also cut into fragments through a start code.
#[test]
fn annex_b_inside_a_nal_unit_is_taken_apart() {
    let stream = hex(&[SPS, "00000001", PPS, "000001", IDR, "00"].concat());
    for cut in 1..stream.len() {
        let mut builder = AccessUnitBuilder::new(Syntax::H264);
        builder.begin(&stream[..cut]);
        builder.extend(&stream[cut..]);
        let (nals, unit) = finish(&mut builder, &[]).unwrap();
        assert_eq!(nals, [hex(IDR)], "cut at {cut}");
        assert!(unit.codec.is_some() && builder.start_codes_seen() == 1, "cut at {cut}");
    }
}

/// x265's parameter sets as in the tests of [`h265`].
const H265_SETS: [&str; 3] = [
    "40010c01ffff016000000300900000030000030078959809",
    "420101016000000300900000030000030078a003c08010e596566924caf0168080000003008000000c84",
    "4401c172b46240",
];

#[test]
fn h265_pictures_tell_their_kind() {
    use Role::*;
    let (none, key, disposable) = (Flags::empty(), Flags::KEY, Flags::DISPOSABLE);
    for (nals, kept, role, flags) in [
        (&["460110", "2801af0880"][..], &["2801af0880"][..], Closed, key),
        (&["2a01af0880", "2a012f0880"], &["2a01af0880", "2a012f0880"], Open, key),
        (&["2001af0880"], &["2001af0880"], Open, key),
        (&["0201d00880"], &["0201d00880"], Dependent, none),
        (&["0001d00880"], &["0001d00880"], Dependent, disposable),
        (&["1001d00880"], &["1001d00880"], SkippedLeading, disposable),
        (&["4e01058080", "0201d00880", "500105", "4c01ff80"], &["4e01058080", "0201d00880", "500105"], Dependent, none),
        // Another layer's slice is not part of the picture.
        (&["0201d00880", "0209d00880"], &["0201d00880"], Dependent, none),
    ] {
        let mut builder = AccessUnitBuilder::new(Syntax::H265);
        H265_SETS.iter().for_each(|nal| builder.push(&hex(nal)));
        let (actual, unit) = finish(&mut builder, nals).unwrap();
        assert_eq!(actual, kept.iter().map(|nal| hex(nal)).collect::<Vec<_>>(), "{nals:?}");
        assert_eq!((unit.role, unit.flags), (role, flags), "{nals:?}");
        assert!(matches!(unit.codec, Some(Codec::H265(config)) if config.width() == 1_920), "{nals:?}");
    }
}

#[test]
fn boundaries_follow_the_standards() {
    use Boundary::*;
    for (syntax, nal, expected) in [
        (Syntax::H264, IDR, Opens),
        (Syntax::H264, IDR_LATER, Continues),
        (Syntax::H264, SPS, Opens),
        (Syntax::H264, "0910", Opens),
        (Syntax::H264, "060501", Opens),
        (Syntax::H264, "0cff80", Trails),
        (Syntax::H264, "", Trails),
        (Syntax::H265, "2801af08", Opens),
        (Syntax::H265, "28012f08", Continues),
        (Syntax::H265, "4e0105", Opens),
        (Syntax::H265, "500105", Trails),
    ] {
        assert_eq!(AccessUnitBuilder::new(syntax).boundary(&hex(nal)), expected, "{nal}");
    }
}

#[test]
fn buffers_fit_their_pictures() {
    let mut builder = builder();
    for size in [60_000_usize, 2_000, 2_100, 64_000, 900] {
        builder.begin(&hex(if size > 50_000 { IDR } else { P }));
        builder.extend(&vec![0x55; size]);
        let unit = builder.finish().unwrap();
        let spare = unit.payload.len() / 4 + 256;
        let capacity = unit.payload.try_into_mut().unwrap().capacity();
        assert!(capacity <= size + 8 + spare, "{capacity} for {size}");
    }
}

proptest! {
    #[test]
    fn any_bytes_make_whole_pictures_or_none(
        h265 in any::<bool>(),
        steps in prop::collection::vec((0_u8..5, prop::collection::vec(any::<u8>(), 0..24)), 0..60),
    ) {
        let mut builder = AccessUnitBuilder::new(if h265 { Syntax::H265 } else { Syntax::H264 });
        builder.learn(&hex(&[SPS, "000001", PPS, "000001", &H265_SETS.join("000001")].concat()));
        for (step, bytes) in steps {
            match step {
                0 => builder.begin(&bytes),
                1 => builder.extend(&bytes),
                2 => builder.push(&bytes),
                3 => builder.discard(),
                _ => if let Ok(unit) = builder.finish() {
                    let nals: usize = split_length_prefixed(&unit.payload).map(|nal| LENGTH_BYTES + nal.len()).sum();
                    prop_assert_eq!(nals, unit.payload.len());
                },
            }
        }
    }
}

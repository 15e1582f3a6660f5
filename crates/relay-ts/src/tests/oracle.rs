//! Pictures put together here are those of relay-media's access unit builder, which RTP goes through.

use proptest::prelude::*;
use relay_media::access_unit::{AccessUnitBuilder, Syntax, Unfit};

use super::*;

/// x264's parameter sets: 640x352 High as SPS 0, with PPS 0; PPS 1 of SPS 0; slices that refer to them; SEI.
const NALS: [&[u8]; 16] = [
    SPS,
    PPS,
    b"\x67\x64\x00\x16\xac\xb2\x01\x40\x5f\xf2\xe0\x22\x00\x00\x03\x00\x02\x00\x00\x03\x00\x3d\x1e\x2c\x5c\x90",
    b"\x68\xeb\xc3\xcb\x22\xc0",
    // PPS 1 and PPS 2.
    b"\x68\x50\x80",
    b"\x68\x70\x80",
    // IDR with PPS 0, a later slice of it, and with PPS 1.
    b"\x65\x88\x80\x4f",
    b"\x65\x1c\x44\x44",
    b"\x65\x88\x50\x4f",
    // P, not referred to, with PPS 1, with PPS 2 and no bytes behind.
    b"\x41\x9a\x80\x4f",
    b"\x01\x9a\x80\x4f",
    b"\x41\x99\x10\x4f",
    // I but not IDR, and recovery points of count 0 and 1.
    b"\x41\x88\x80\x4f",
    b"\x06\x06\x01\xc0\x80",
    b"\x06\x06\x01\x48\x80",
    // Filler.
    b"\x0c\xff\xff\x80",
];

/// H.265: x265's sets of 1080p, with others of another size; slices of the kinds that matter.
const NALS_H265: [&[u8]; 12] = [
    b"\x40\x01\x0c\x01\xff\xff\x01\x60\x00\x00\x03\x00\x90\x00\x00\x03\x00\x00\x03\x00\x78\x95\x98\x09",
    b"\x42\x01\x01\x01\x60\x00\x00\x03\x00\x90\x00\x00\x03\x00\x00\x03\x00\x78\xa0\x03\xc0\x80\x10\xe5\x96\x56\x69\x24\xca\xf0\x16\x80\x80\x00\x00\x03\x00\x80\x00\x00\x0c\x84",
    b"\x44\x01\xc1\x72\xb4\x62\x40",
    b"\x44\x01\xc1\x73\xd1\x89",
    // PPS 1.
    b"\x44\x01\x50\x72\xb4",
    // IDR_W_RADL, CRA, RASL_N, TRAIL_R, TRAIL_N of sub-layer 0, a later segment, suffix SEI.
    b"\x26\x01\xaf\x11",
    b"\x2a\x01\xaf\x11",
    b"\x10\x01\xd0\x11",
    b"\x02\x01\xd0\x11",
    b"\x00\x01\xd0\x11",
    b"\x02\x01\x50\x11",
    b"\x50\x01\x84\x01\x80",
];

/// Each picture alone in a PES packet, behind a delimiter.
fn check(syntax: Syntax, stream_type: u8, delimiter: &[u8], pictures: &[Vec<&[u8]>]) {
    let mut writer = Writer::new(&[(stream_type, VIDEO, &[])]);
    let mut builder = AccessUnitBuilder::new(syntax);
    let mut expected = Vec::new();
    let mut codec = None;
    for (index, nals) in (0..).zip(pictures) {
        let nals: Vec<_> = [delimiter].into_iter().chain(nals.iter().copied()).collect();
        writer.pes(VIDEO, Some((9_000 * index, 9_000 * index)), Length::Open, &annex_b(&nals));
        nals.iter().for_each(|nal| builder.push(nal));
        match builder.finish() {
            Ok(unit) => {
                let is_new = unit.codec.is_some() && unit.codec != codec;
                codec = unit.codec.or(codec);
                expected.push((
                    9_000 * index as i64,
                    unit.payload,
                    unit.flags,
                    is_new.then(|| codec.clone()).flatten(),
                ));
            }
            Err(Unfit::NoSlice) => {}
            Err(_) => {}
        }
    }
    let (units, _) = demux(&writer.out, AfterLoss::PassOn);
    let got: Vec<_> = units.into_iter().map(|unit| (unit.dts, unit.payload, unit.flags, unit.codec)).collect();
    assert_eq!(got, expected, "{pictures:02x?}");
}

/// NAL units of one picture: sets and SEI, then slices.
fn picture(nals: &'static [&'static [u8]]) -> impl Strategy<Value = Vec<&'static [u8]>> {
    prop::collection::vec(prop::sample::select(nals), 1..6).prop_map(|mut nals| {
        // One first slice at most, before later ones: else they would be two pictures.
        let place = |nal: &&[u8]| match *nal {
            later if later == NALS[7] || later == NALS_H265[10] || later == NALS_H265[11] => 2,
            slice if slice.len() == 4 && slice[0] != 0x0c => 1,
            _ => 0,
        };
        nals.sort_by_key(place);
        // Nor two sets of the same number.
        let twins = [[NALS[0], NALS[2]], [NALS[1], NALS[3]], [NALS_H265[2], NALS_H265[3]]];
        for [one, other] in twins {
            if nals.contains(&one) {
                nals.retain(|nal| *nal != other);
            }
        }
        let mut seen = 0;
        nals.retain(|nal| {
            seen += u8::from(place(nal) == 1);
            place(nal) != 1 || seen == 1
        });
        nals
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn h264_is_what_the_builder_makes(pictures in prop::collection::vec(picture(&NALS), 1..12)) {
        let mut pictures = pictures;
        pictures.insert(0, vec![SPS, PPS, NALS[6]]);
        check(Syntax::H264, H264, AUD, &pictures);
    }

    #[test]
    fn h265_is_what_the_builder_makes(pictures in prop::collection::vec(picture(&NALS_H265), 1..12)) {
        let mut pictures = pictures;
        pictures.insert(0, NALS_H265[..3].iter().chain(&NALS_H265[5..6]).copied().collect());
        check(Syntax::H265, 0x24, b"\x46\x01\x50", &pictures);
    }
}

//! What cameras do, packet by packet, and round trips through a packetiser under loss.

use std::time::Instant;

use bytes::Bytes;
use proptest::prelude::*;
use relay_media::{Codec, Flags, aac, nal::split_length_prefixed};

use super::*;

/// x264's parameter sets, 1280x720 and 640x352.
const SPS: &str = "6742c01fd9005005bb011000000300100000030320f1832480";
const PPS: &str = "68cb83cb20";
const OTHER_SPS: &str = "67640016acb201405ff2e0220000030002000003003d1e2c5c90";
const OTHER_PPS: &str = "68ebc3cb22c0";
const SEI: &str = "06050101";
const IDR: &str = "6588804f11223344";
const IDR_LATER: &str = "651c444455667788";
const P: &str = "419a804f99aabbcc";
const P_LATER: &str = "411c4444ddeeff10";
const B: &str = "019a804f12345678";
/// x265's, 1920x1080.
const VPS5: &str = "40010c01ffff016000000300900000030000030078959809";
const SPS5: &str = "420101016000000300900000030000030078a003c08010e596566924caf0168080000003008000000c84";
const PPS5: &str = "4401c172b46240";
const IDR5: &str = "2801af0880112233";
const CRA5: &str = "2a01af0880112233";
const RASL5: &str = "1001d00880112233";
const TRAIL5: &str = "0201d00880112233";

fn hex(digits: &str) -> Vec<u8> {
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

/// A packet as a test row writes it: timestamp, payload in hex, flags (`M` marker, a digit: packets lost before it).
type Row<'a> = (i64, &'a str, &'a str);

fn h264() -> Depacketizer {
    Depacketizer::new(&Format::H264 { parameter_sets: vec![] }, AfterLoss::WaitForKey)
}

fn h265() -> Depacketizer {
    Depacketizer::new(&Format::H265 { parameter_sets: vec![] }, AfterLoss::WaitForKey)
}

#[expect(clippy::disallowed_methods, reason = "any instant does")]
fn now() -> Instant {
    Instant::now()
}

fn run(depacketizer: &mut Depacketizer, rows: &[Row<'_>]) -> Vec<Unit> {
    for &(timestamp, payload, flags) in rows {
        depacketizer.push(RtpPacket {
            payload: &hex(payload),
            timestamp,
            marker: flags.contains('M'),
            lost_before: flags.trim_matches('M').parse().unwrap_or(0),
            arrival: now(),
        });
    }
    depacketizer.finish();
    std::iter::from_fn(|| depacketizer.poll()).collect()
}

/// Each unit as its timestamp and the NAL units in hex, blank separated.
fn describe(units: &[Unit]) -> Vec<(i64, String)> {
    let nal = |nal: &[u8]| nal.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let nals = |unit: &Unit| split_length_prefixed(&unit.payload).map(nal).collect::<Vec<_>>().join(" ");
    units.iter().map(|unit| (unit.timestamp, nals(unit))).collect()
}

#[track_caller]
fn check(mut depacketizer: Depacketizer, rows: &[Row<'_>], units: &[(i64, &str)], quirks: &[(Quirk, u64)]) {
    let actual = describe(&run(&mut depacketizer, rows));
    assert_eq!(actual, units.iter().map(|(at, nals)| (*at, (*nals).to_owned())).collect::<Vec<_>>());
    assert_eq!(depacketizer.quirks().iter().collect::<Vec<_>>(), quirks);
}

/// STAP-A of `nals`.
fn stap(nals: &[&str]) -> String {
    nals.iter().fold("18".to_owned(), |packet, nal| format!("{packet}{:04x}{nal}", nal.len() / 2))
}

/// AP of `nals`.
fn ap(nals: &[&str]) -> String {
    nals.iter().fold("6001".to_owned(), |packet, nal| format!("{packet}{:04x}{nal}", nal.len() / 2))
}

fn sets() -> String {
    stap(&[SPS, PPS])
}

#[test]
fn every_payload_structure_of_h264_is_read() {
    let sets = sets();
    let all = stap(&[SPS, PPS, SEI, IDR]);
    let sei_idr = [SEI, IDR].join(" ");
    for (rows, units) in [
        // Single NAL units.
        (vec![(0, SPS, ""), (0, PPS, ""), (0, IDR, "M"), (9, P, "M")], vec![(0, IDR), (9, P)]),
        // All in one STAP-A.
        (vec![(0, &*all, "M"), (9, P, "M")], vec![(0, &*sei_idr), (9, P)]),
        // FU-A in three parts: indicator 7c, types 85, 05, 45.
        (vec![(0, &*sets, ""), (0, "7c8588804f", ""), (0, "7c051122", ""), (0, "7c453344", "M")], vec![(0, IDR)]),
        // Two slices, and no marker at all.
        (
            vec![(0, &*sets, ""), (0, IDR, ""), (0, IDR_LATER, ""), (9, P, ""), (18, P, "M")],
            vec![(0, "both"), (9, P), (18, P)],
        ),
    ] {
        let both = format!("{IDR} {IDR_LATER}");
        let units: Vec<_> = units.into_iter().map(|(at, nal)| (at, if nal == "both" { &*both } else { nal })).collect();
        check(h264(), &rows, &units, &[]);
    }
}

#[test]
fn refused_and_invalid_payloads_cost_their_picture_only_when_it_is_torn() {
    use Quirk::*;
    let sets = sets();
    for (payload, quirk, kept) in [
        ("1900000000", InterleavingRefused, false),
        ("1a0000", InterleavingRefused, false),
        ("5d850000", InterleavingRefused, false),
        ("1e00", PayloadInvalid, true),
        ("00", PayloadInvalid, true),
        ("7c", PayloadInvalid, true),
        ("", EmptyFragment, true),
        ("180000", EmptyFragment, true),
        ("18ffff00", AggregateCut, false),
        // A byte too many behind a whole unit.
        ("1800040605010100", AggregateCut, true),
        ("7c0511", FragmentStartMissing, false),
    ] {
        let mut depacketizer = h264();
        let rows = [(0, &*sets, ""), (0, IDR, ""), (0, payload, "M"), (9, P, "M")];
        let units = run(&mut depacketizer, &rows);
        assert_eq!(units.len(), if kept { 2 } else { 0 }, "{payload}");
        assert!(depacketizer.quirks().get(quirk) == 1, "{payload}: {:?}", depacketizer.quirks());
    }
}

#[test]
fn lv_ip22ir40dvbl_sets_the_marker_on_sei() {
    let sets = sets();
    let unit = format!("{SEI} {IDR}");
    check(
        h264(),
        &[(0, &sets, "M"), (0, SEI, "M"), (0, IDR, "M"), (9, SEI, "M"), (9, P, "M"), (18, P, "M")],
        &[(0, &unit), (9, &format!("{SEI} {P}")), (18, P)],
        &[(Quirk::MarkerWithoutPicture, 3)],
    );
}

#[test]
fn a_camera_that_marks_every_slice_is_seen_through_before_a_picture_is_torn() {
    let sets = sets();
    check(
        h264(),
        &[(0, &sets, ""), (0, IDR, "M"), (0, IDR_LATER, "M"), (9, P, "M"), (9, P_LATER, "M"), (18, P, "M")],
        &[(0, &format!("{IDR} {IDR_LATER}")), (9, &format!("{P} {P_LATER}"))],
        &[(Quirk::MarkerInsidePicture, 1)],
    );
}

#[test]
fn a_camera_that_begins_to_mark_slices_loses_the_torn_picture_and_what_refers_to_it() {
    let sets = sets();
    let honest = [(0, &*sets, ""), (0, IDR, "M"), (1, P, "M"), (2, P, "M"), (3, P, "M")];
    let lying = [(4, P, "M"), (4, P_LATER, "M"), (5, P, "M"), (6, IDR, "M"), (7, P, "")];
    check(
        h264(),
        &[&honest[..], &lying[..]].concat(),
        // The head of picture 4 was out before the lie was seen.
        &[(0, IDR), (1, P), (2, P), (3, P), (4, P), (6, IDR)],
        &[(Quirk::UnitBeforeKey, 1), (Quirk::MarkerInsidePicture, 1)],
    );
}

#[test]
fn v380_puts_annex_b_into_payloads() {
    let whole = ["00000001", SPS, "00000001", PPS, "00000001", IDR].concat();
    let fragmented = [SPS, "00000001", PPS, "000001", IDR].concat();
    let (start, end) = fragmented.split_at(60);
    let (start, end) = (format!("7c87{}", &start[2..]), format!("7c47{end}"));
    for rows in [vec![(0, &*whole, "M")], vec![(0, &*start, ""), (0, &*end, "M")]] {
        let mut depacketizer = h264();
        assert_eq!(describe(&run(&mut depacketizer, &rows)), [(0, IDR.to_owned())]);
        assert!(depacketizer.quirks().get(Quirk::AnnexBInPayload) > 0);
    }
    let sprop = Format::H264 { parameter_sets: vec![Bytes::from(hex(&[SPS, "00000001", PPS].concat()))] };
    check(Depacketizer::new(&sprop, AfterLoss::WaitForKey), &[(0, IDR, "M")], &[(0, IDR)], &[]);
}

#[test]
fn tiandy_changes_the_type_inside_a_fragmented_unit() {
    let sets = sets();
    check(
        h264(),
        &[(0, &sets, ""), (0, "7c8588804f", ""), (0, "7c011122", ""), (0, "7c413344", "M")],
        &[(0, IDR)],
        &[(Quirk::FragmentTypeChanged, 2)],
    );
}

#[test]
fn fragments_with_reserved_bits_without_bytes_or_without_an_end_are_tolerated() {
    let sets = sets();
    for (fragments, quirk) in [
        ([(0, "7ca588804f1122", ""), (0, "7c453344", "M")], Quirk::FragmentReservedBit),
        ([(0, "7c8588804f11223344", ""), (0, "7c45", "M")], Quirk::EmptyFragment),
        ([(0, "7c8588804f1122", ""), (0, "7c053344", "M")], Quirk::FragmentEndMissing),
    ] {
        check(h264(), &[&[(0, &*sets, "")], &fragments[..]].concat(), &[(0, IDR)], &[(quirk, 1)]);
    }
}

#[test]
fn parameter_sets_are_learnt_in_band_and_pictures_before_them_dropped() {
    let (first, second) = (sets(), stap(&[OTHER_SPS, OTHER_PPS]));
    let mut depacketizer = h264();
    let rows =
        [(0, IDR, "M"), (1, &*first, ""), (1, IDR, "M"), (2, P, "M"), (3, &*second, ""), (3, IDR, "M"), (4, P, "M")];
    let units = run(&mut depacketizer, &rows);
    let width = |unit: &Unit| match &unit.codec {
        Some(Codec::H264(config)) => config.width(),
        _ => 0,
    };
    assert_eq!(units.iter().map(width).collect::<Vec<_>>(), [1_280, 0, 640, 0]);
    assert_eq!(depacketizer.quirks().iter().collect::<Vec<_>>(), [(Quirk::UnitWithoutParameters, 1)]);
}

#[test]
fn loss_costs_the_torn_picture_and_all_that_refer_to_it() {
    use Quirk::*;
    let sets = sets();
    let head = [(0, &*sets, ""), (0, IDR, "M"), (1, P, "M"), (2, P, "M"), (3, P, "M")];
    let tail = [(8, IDR, "M"), (9, P, "M")];
    for (middle, kept, quirks) in [
        // Between pictures; inside one; at its end; of the start of a fragmented unit.
        (&[(5, P, "1M"), (6, P, "M")][..], &[][..], &[(PacketLost, 1), (UnitBeforeKey, 2)][..]),
        (&[(5, P, ""), (5, P_LATER, "2M"), (6, P, "M")], &[], &[(PacketLost, 2), (UnitDamaged, 1), (UnitBeforeKey, 1)]),
        (&[(5, P, ""), (6, P, "1M"), (7, P, "M")], &[], &[(PacketLost, 1), (UnitDamaged, 1), (UnitBeforeKey, 2)]),
        (&[(5, "5c411122", "1M")], &[], &[(PacketLost, 1), (FragmentStartMissing, 1)]),
        (&[(5, P_LATER, "1M")], &[], &[(PacketLost, 1), (UnitDamaged, 1)]),
        // Inside a picture that no other refers to.
        (&[(5, B, ""), (5, "011c4444", "1M"), (6, P, "M")], &[6], &[(PacketLost, 1), (UnitDamaged, 1)]),
    ] {
        let rows = [&head[..], middle, &tail[..]].concat();
        let mut depacketizer = h264();
        let units = run(&mut depacketizer, &rows);
        let stamps: Vec<_> = units.iter().map(|unit| unit.timestamp).collect();
        assert_eq!(stamps, [&[0, 1, 2, 3][..], kept, &[8, 9]].concat(), "{middle:?}");
        assert_eq!(depacketizer.quirks().iter().collect::<Vec<_>>(), quirks, "{middle:?}");
        let lost: u32 = units.iter().map(|unit| unit.loss).sum();
        assert_eq!(u64::from(lost), depacketizer.quirks().get(PacketLost), "{middle:?}");
        assert!(units[4].loss > 0, "the first unit after the loss tells it");
    }
    let mut pass_on = Depacketizer::new(&Format::H264 { parameter_sets: vec![] }, AfterLoss::PassOn);
    let rows = [&head[..], &[(5, P, ""), (5, P_LATER, "2M"), (6, P, "M")], &tail].concat();
    let stamps: Vec<_> = run(&mut pass_on, &rows).iter().map(|unit| (unit.timestamp, unit.loss)).collect();
    assert_eq!(stamps, [(0, 0), (1, 0), (2, 0), (3, 0), (6, 2), (8, 0), (9, 0)]);
}

#[test]
fn h265_is_read_and_leading_pictures_of_a_late_start_are_dropped() {
    let sets = ap(&[VPS5, SPS5, PPS5]);
    // FU: payload header 62 01, types 94 (start, IDR), 14, 54.
    let fragmented =
        [(0, &*sets, ""), (0, "620194af08", ""), (0, "6201148011", ""), (0, "6201542233", "M"), (1, TRAIL5, "M")];
    check(h265(), &fragmented, &[(0, IDR5), (1, TRAIL5)], &[]);
    let late = [(0, &*sets, ""), (0, TRAIL5, "M"), (1, CRA5, "M"), (2, RASL5, "M"), (3, CRA5, "M"), (4, RASL5, "M")];
    check(h265(), &late, &[(1, CRA5), (3, CRA5), (4, RASL5)], &[(Quirk::UnitBeforeKey, 1), (Quirk::LeadingSkipped, 1)]);
    check(
        h265(),
        &[(0, "64010000", ""), (0, "660100", "")],
        &[],
        &[(Quirk::InterleavingRefused, 1), (Quirk::PayloadInvalid, 1)],
    );
}

fn aac() -> Depacketizer {
    let config = aac::Config::new(2, 44_100, 2).unwrap();
    let layout = AacLayout { size_bits: 13, index_bits: 3, index_delta_bits: 3 };
    Depacketizer::new(&Format::Aac { config, layout, clock_hz: 44_100 }, AfterLoss::WaitForKey)
}

#[test]
fn aac_frames_come_alone_together_or_in_fragments() {
    use Quirk::*;
    for (rows, units, quirks) in [
        (&[(0, "00100018aabbcc", "M")][..], &[(0, "aabbcc")][..], &[][..]),
        // Three in one packet: 1024 ticks apart.
        (&[(0, "0030001000080010aabbccddee", "M")], &[(0, "aabb"), (1_024, "cc"), (2_048, "ddee")], &[]),
        // One of five bytes in three fragments, each telling the whole size.
        (&[(0, "00100028aabb", ""), (0, "00100028cc", ""), (0, "00100028ddee", "M")], &[(0, "aabbccddee")], &[]),
        (
            &[(0, "00100028aabb", ""), (0, "00100028ddee", "1M"), (9, "00100008ff", "M")],
            &[(9, "ff")],
            &[(PacketLost, 1), (UnitDamaged, 1)],
        ),
        (&[(0, "00100028ddee", "1M"), (9, "00100008ff", "M")], &[(9, "ff")], &[(PacketLost, 1), (UnitDamaged, 1)]),
        (&[(0, "00100028aabb", ""), (9, "00100008ff", "M")], &[(9, "ff")], &[(UnitDamaged, 1)]),
        (&[(0, "00100028aabb", "M")], &[], &[(UnitDamaged, 1)]),
        (&[(0, "00100009aa", "M")], &[], &[(InterleavingRefused, 1)]),
        (&[(0, "0020000800ffaabb", "M")], &[(0, "aa")], &[(InterleavingRefused, 1)]),
        (&[(0, "0020000800f8aabb", "M")], &[(0, "aa")], &[(AggregateCut, 1)]),
        (
            &[(0, "00100000", "M"), (0, "", ""), (0, "00", ""), (0, "ffff00", "")],
            &[],
            &[(EmptyFragment, 2), (PayloadInvalid, 2)],
        ),
    ] {
        let mut depacketizer = aac();
        let actual: Vec<_> =
            run(&mut depacketizer, rows).into_iter().map(|unit| (unit.timestamp, unit.payload)).collect();
        let units: Vec<_> = units.iter().map(|(at, frame)| (*at, Bytes::from(hex(frame)))).collect();
        assert_eq!(actual, units, "{rows:?}");
        assert_eq!(depacketizer.quirks().iter().collect::<Vec<_>>(), quirks, "{rows:?}");
    }
}

#[test]
fn opus_and_g711_packets_are_frames() {
    let new = |encoding, clock_hz| {
        Depacketizer::new(&Format::parse(encoding, clock_hz, None, "").unwrap(), AfterLoss::WaitForKey)
    };
    for (mut depacketizer, rows, units) in [
        (new("opus", 48_000), &[(0, "fc0102", "M"), (960, "", ""), (960, "ff", "")][..], 1),
        (new("pcma", 8_000), &[(0, "d5d5", "M"), (160, "d5", "2"), (320, "", "")], 2),
    ] {
        let actual = run(&mut depacketizer, rows);
        assert_eq!(actual.len(), units, "{rows:?}");
        assert!(actual[0].codec.is_some() && actual[0].flags == Flags::empty());
    }
}

/// What a sender makes of a NAL unit: alone if it fits into `mtu`, else FU-A.
fn packetise(nal: &[u8], mtu: usize) -> Vec<Vec<u8>> {
    if nal.len() <= mtu {
        return vec![nal.to_vec()];
    }
    let chunks: Vec<_> = nal[1..].chunks(mtu).collect();
    let last = chunks.len() - 1;
    let bits = |index| if index == 0 { 0x80 } else { 0 } | if index == last { 0x40 } else { 0 };
    let header = |index| [nal[0] & 0xe0 | 28, nal[0] & 0x1f | bits(index)];
    chunks.iter().enumerate().map(|(index, chunk)| [&header(index)[..], chunk].concat()).collect()
}

/// Pictures of one or two slices, numbered in their bytes; every tenth is a key frame with its parameter sets.
fn pictures(count: usize, sizes: &[usize]) -> Vec<Vec<Vec<u8>>> {
    let slice = |head: &str, number: usize, size: usize| {
        let mut nal = hex(head);
        nal.extend(std::iter::repeat_n(number as u8 | 0x81, 1 + size));
        nal
    };
    (0..count)
        .map(|number| {
            let size = sizes[number % sizes.len()];
            let (first, later) = if number % 10 == 0 { ("658880", "651c44") } else { ("419a80", "411c44") };
            let mut nals = vec![slice(first, number, size)];
            if size.is_multiple_of(2) {
                nals.push(slice(later, number, size / 2));
            }
            nals
        })
        .collect()
}

#[test]
fn a_picture_arrives_with_its_last_packet_though_it_waits_for_its_successor() {
    let mut depacketizer = h264();
    let start = now();
    let at = |ms| start + std::time::Duration::from_millis(ms);
    for (ms, timestamp, payload, marker) in
        [(0, 0, &*sets(), false), (1, 0, IDR, true), (40, 1, P, false), (41, 1, P_LATER, false), (80, 2, P, true)]
    {
        let arrival = at(ms);
        depacketizer.push(RtpPacket { payload: &hex(payload), timestamp, marker, lost_before: 0, arrival });
    }
    let arrivals: Vec<_> = std::iter::from_fn(|| depacketizer.poll()).map(|unit| unit.arrival).collect();
    assert_eq!(arrivals, [at(1), at(41)]);
}

proptest! {
    #[test]
    fn what_is_packetised_comes_back_whole_or_not_at_all(
        sizes in prop::collection::vec(1_usize..4_000, 1..8),
        mtu in 10_usize..1_500,
        loss in 0_u32..20,
        seed in any::<u64>(),
    ) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut depacketizer = h264();
        let pictures = pictures(40, &sizes);
        let (mut lost, mut broken, mut expected) = (0, true, vec![]);
        for (number, nals) in pictures.iter().enumerate() {
            let mut packets: Vec<_> = nals.iter().flat_map(|nal| packetise(nal, mtu)).collect();
            if number % 10 == 0 {
                packets.splice(0..0, [hex(SPS), hex(PPS)]);
            }
            let mut intact = true;
            let last = packets.len() - 1;
            for (index, payload) in packets.iter().enumerate() {
                if rng.u32(0..100) < loss {
                    lost += 1;
                    // Parameter sets before the first slice are no part of the picture.
                    intact &= number % 10 == 0 && index < 2;
                    broken |= number % 10 != 0 || index >= 2;
                    continue;
                }
                let marker = index == last;
                depacketizer.push(RtpPacket { payload, timestamp: number as i64, marker, lost_before: lost, arrival: now() });
                lost = 0;
            }
            // A key frame mends the chain, a loss breaks it.
            broken &= !(intact && number % 10 == 0);
            if !broken {
                expected.push(number as i64);
            }
        }
        depacketizer.finish();
        let mut seen = vec![];
        while let Some(unit) = depacketizer.poll() {
            let nals: Vec<_> = split_length_prefixed(&unit.payload).map(<[u8]>::to_vec).collect();
            prop_assert_eq!(&nals, &pictures[unit.timestamp as usize], "picture {}", unit.timestamp);
            prop_assert_eq!(unit.flags.contains(Flags::KEY), unit.timestamp % 10 == 0);
            seen.push(unit.timestamp);
        }
        prop_assert!(seen.iter().all(|at| expected.contains(at)), "{:?} of {:?}", seen, expected);
        if loss == 0 {
            prop_assert_eq!(seen.len(), 40);
        }
    }

    #[test]
    fn any_packets_are_survived(
        format in 0_usize..5,
        packets in prop::collection::vec(
            (prop::collection::vec(any::<u8>(), 0..40), 0_i64..4, any::<bool>(), 0_u32..3, any::<u8>()), 0..60),
    ) {
        let encodings = [("h264", 90_000), ("h265", 90_000), ("mpeg4-generic", 44_100), ("opus", 48_000), ("pcmu", 8_000)];
        let (encoding, clock_hz) = encodings[format];
        let fmtp = "sprop-parameter-sets=Z0LAH9kAUAW7ARAAAAMAEAAAAwMg8YMkgA==,aMuDyyA=";
        let mut depacketizer = Depacketizer::new(
            &Format::parse(encoding, clock_hz, Some(2), fmtp).unwrap(), AfterLoss::PassOn);
        for (mut payload, timestamp, marker, lost, header) in packets {
            // Half of them look like a payload structure.
            if let (Some(first), true) = (payload.first_mut(), header & 1 == 1) {
                *first = [0x65, 0x41, 0x18, 0x7c, 0x26, 0x02, 0x60, 0x62][usize::from(header >> 1) % 8];
            }
            depacketizer.push(RtpPacket { payload: &payload, timestamp, marker, lost_before: lost / 2, arrival: now() });
            while let Some(unit) = depacketizer.poll() {
                prop_assert!(!unit.payload.is_empty());
            }
        }
    }

    #[test]
    fn any_sdp_text_is_survived(
        encoding in prop::sample::select(&["h264", "h265", "mpeg4-generic", "opus", "pcmu", "x"][..]),
        fmtp in r"(sprop-[a-z-]{0,16}|config|sizelength|[a-z]{1,12})?(=[A-Za-z0-9+/=,]{0,20})?(; ?config=[0-9a-f]{0,12})?",
        clock_hz in any::<u32>(),
        channels in any::<Option<u16>>(),
        sdp in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        if let Ok(format) = Format::parse(encoding, clock_hz, channels, &fmtp) {
            let _ = format.codec();
            Depacketizer::new(&format, AfterLoss::WaitForKey).finish();
        }
        sdp_medias(&[b"m=video 0 RTP/AVP 96\n", &*sdp, b"\na=fmtp:96 ", fmtp.as_bytes()].concat());
    }
}

//! Lost, repeated, cut and arbitrary bytes.

use proptest::prelude::*;

use super::*;

/// The packets of a stream that are kept.
fn without(bytes: &[u8], lost: impl Fn(usize) -> bool) -> Vec<u8> {
    bytes.chunks(188).enumerate().filter(|(index, _)| !lost(*index)).flat_map(|(_, packet)| packet).copied().collect()
}

/// All that came out is in `whole`, bit by bit; the same without what only says what was lost.
fn check_subset(units: &[Unit], whole: &[Unit]) {
    let plain = |unit: &Unit| Unit { discontinuity: false, codec: None, ..unit.clone() };
    let whole: Vec<_> = whole.iter().map(plain).collect();
    for unit in units {
        assert!(whole.contains(&plain(unit)), "{} {} is not of the film: {:02x?}", unit.pid, unit.dts, unit.payload);
    }
}

/// The last packet of each stream, whose loss leaves no trace.
fn last_packets(bytes: &[u8]) -> Vec<usize> {
    let packets = bytes.chunks(188).map(|packet| u16::from_be_bytes([packet[1] & 0x1f, packet[2]]));
    let pids: Vec<_> = packets.collect();
    [VIDEO, AUDIO].iter().filter_map(|pid| pids.iter().rposition(|other| other == pid)).collect()
}

#[test]
fn one_lost_packet_costs_its_unit_and_no_other() {
    let film = film();
    let (whole, last) = (units(&film), last_packets(&film));
    // The tables; the first packets, before which nothing is known to be missing; the last, which nothing follows.
    let first = 2 + film[2 * 188..].chunks(188).position(|packet| packet[2] == 1).unwrap();
    for index in (3..film.len() / 188).filter(|index| !last.contains(index) && *index != first) {
        let (units, quirks) = demux(&without(&film, |other| other == index), AfterLoss::PassOn);
        check_subset(&units, &whole);
        // One picture, or the three sounds of a PES packet. A lost start also hides where the unit before it ended.
        assert!((1..=6).contains(&(whole.len() - units.len())), "{index}: {} {:?}", units.len(), counted(quirks));
        // The next one of the stream says so, if there is one.
        let next = units.iter().filter(|unit| unit.discontinuity).count();
        assert!(next == 1 || index > last[0] - 15 && next == 0, "{index}");
        assert_eq!(quirks.get(Quirk::ContinuityGap), 1, "{index}");
    }
}

#[test]
fn after_a_loss_pictures_wait_for_a_key_frame() {
    let film = film();
    let whole = units(&film);
    // In the first picture.
    let hurt = without(&film, |index| index == 3);
    let times = |units: &[Unit]| -> Vec<_> {
        units.iter().filter(|unit| unit.pid == VIDEO).map(|unit| (unit.dts - 126_000) / 3_600).collect()
    };
    let (waited, quirks) = demux(&hurt, AfterLoss::WaitForKey);
    check_subset(&waited, &whole);
    assert_eq!(times(&waited), [5, 6, 7, 8, 9]);
    // The parameter sets were in the lost picture.
    assert_eq!(quirks.get(Quirk::UnitWithoutParameters), 4);
}

#[test]
fn every_packet_may_come_twice() {
    let film = film();
    let twice: Vec<_> = film.chunks(188).flat_map(|packet| [packet, packet].concat()).collect();
    let (units, quirks) = demux(&twice, AfterLoss::WaitForKey);
    assert_eq!(units, super::units(&film));
    assert_eq!(counted(quirks), [(Quirk::PacketRepeated, film.len() as u64 / 188)]);
}

#[test]
fn fifteen_lost_packets_are_no_repetition() {
    let mut writer = Writer::new(STREAMS);
    let random = |id: usize| -> Vec<u8> { (0..6_000).map(|at| 4 + ((at * 7 + id) % 241) as u8).collect() };
    for index in 0..2 {
        let picture = annex_b(&[AUD, SPS, PPS, &[&[0x65, 0x88, 0x80], &*random(index)].concat()]);
        writer.pes(VIDEO, Some((3_600 * index as u64, 3_600 * index as u64)), Length::Open, &picture);
    }
    let (units, quirks) = demux(&without(&writer.out, |index| (5..20).contains(&index)), AfterLoss::WaitForKey);
    assert_eq!((units.len(), quirks.get(Quirk::UnitDamaged)), (1, 1));
    assert_eq!(units[0].dts, 3_600);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn pieces_do_not_matter(
        sizes in prop::collection::vec(1_usize..1_500, 1..40),
        // What was done to the film: bytes overwritten, and bytes put in between.
        wrong in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        between in prop::collection::vec((any::<prop::sample::Index>(), prop::collection::vec(any::<u8>(), 0..700)), 0..3),
    ) {
        let mut bytes = film();
        for (at, byte) in wrong {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        for (at, more) in between {
            let at = at.index(bytes.len());
            bytes.splice(at..at, more);
        }
        let (whole, quirks) = demux(&bytes, AfterLoss::PassOn);
        let mut demuxer = Demuxer::new(AfterLoss::PassOn);
        let mut units = Vec::new();
        let (mut rest, mut sizes) = (&*bytes, sizes.iter().cycle());
        while !rest.is_empty() {
            let (piece, after) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
            demuxer.push(piece);
            units.extend(std::iter::from_fn(|| demuxer.poll()));
            rest = after;
        }
        demuxer.finish();
        units.extend(std::iter::from_fn(|| demuxer.poll()));
        prop_assert_eq!(units, whole);
        prop_assert_eq!(demuxer.quirks(), quirks);
    }

    #[test]
    fn losses_never_yield_a_damaged_unit(lost in prop::collection::vec(prop::bool::weighted(0.1), 200)) {
        let film = film();
        let (whole, last) = (units(&film), last_packets(&film));
        let lost = |index: usize| !last.contains(&index) && lost.get(index) == Some(&true);
        for after_loss in [AfterLoss::PassOn, AfterLoss::WaitForKey] {
            let (units, _) = demux(&without(&film, lost), after_loss);
            check_subset(&units, &whole);
        }
    }

    #[test]
    fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..3_000), in_packets: bool) {
        let packets: Vec<_> = bytes.chunks(187).filter(|chunk| chunk.len() == 187).flat_map(|chunk| [&[0x47], chunk].concat()).collect();
        // A programme whose streams the packets may hit: identifiers are made of few bits.
        let mut writer = Writer::new(&[(H264, 0, &[]), (H264, 1, &[]), (0x24, 2, &[]), (AAC, 3, &[])]);
        for packet in packets.chunks(188) {
            let mut packet = packet.to_vec();
            (packet[1], packet[2]) = (packet[1] & 0x40, packet[2] & 3);
            writer.out.extend(packet);
        }
        let (units, _) = demux(if in_packets { &writer.out } else { &bytes }, AfterLoss::PassOn);
        prop_assert!(units.iter().all(|unit| !unit.payload.is_empty()));
    }

    #[test]
    fn any_payload_is_read(
        kind in prop::sample::select(vec![H264, 0x24, AAC, 0x06]),
        payloads in prop::collection::vec((prop::collection::vec(prop_oneof![0_u8..4, any::<u8>()], 0..900), any::<bool>()), 1..8),
    ) {
        let descriptors: &[u8] = if kind == 6 { &[0x05, 4, b'O', b'p', b'u', b's', 0x7f, 2, 0x80, 2] } else { &[] };
        let mut writer = Writer::new(&[(kind, VIDEO, descriptors)]);
        for (time, (payload, told)) in (0..).zip(&payloads) {
            let length = if *told { Length::Told } else { Length::Open };
            writer.pes(VIDEO, Some((time, time)), length, payload);
        }
        let (units, _) = demux(&writer.out, AfterLoss::PassOn);
        prop_assert!(units.iter().all(|unit| !unit.payload.is_empty()));
    }
}

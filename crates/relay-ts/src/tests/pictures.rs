//! Where pictures begin and end, and when.

use relay_media::{Codec, Flags};

use super::*;

#[test]
fn a_film_comes_out_whole() {
    let units = units(&film());
    let pictures: Vec<_> = units.iter().filter(|unit| unit.pid == VIDEO).collect();
    assert_eq!(pictures.len(), 10);
    for (index, unit) in (0_i64..).zip(&pictures) {
        let dts = 126_000 + 3_600 * index;
        assert_eq!((unit.dts, unit.pts, unit.discontinuity), (dts, dts + 3_600, false));
        assert_eq!(unit.flags, if index % 5 == 0 { Flags::KEY } else { Flags::empty() });
        assert_eq!(unit.codec.as_ref().map(Codec::name), (index == 0).then_some("h264"));
        let bytes = 50 + 300 * (index as usize % 3);
        let sizes: Vec<_> = split_length_prefixed(&unit.payload).map(<[u8]>::len).collect();
        assert_eq!(sizes, [3 + bytes, 3 + 2 * bytes]);
    }
}

#[test]
fn pictures_and_pes_packets_need_not_agree() {
    let (key, other) = (key_frame(1, 400), other_frame(2, 30));
    let two = [&*key, &other].concat();
    let no_delimiter = annex_b(&[&slice(false, 3, 20)]);
    let later = annex_b(&[&later_slice(true, 1, 100)]);
    let time = |time| Some((time, time));
    type Row<'a> = (&'a str, Vec<(Option<(u64, u64)>, Length, &'a [u8])>, Vec<(i64, Vec<usize>)>, u64);
    let (open, told) = (Length::Open, Length::Told);
    let rows: Vec<Row<'_>> = vec![
        (
            "one each",
            vec![(time(0), told, &key), (time(3_600), told, &other)],
            vec![(0, vec![400]), (3_600, vec![30])],
            0,
        ),
        ("two in one", vec![(time(0), open, &two)], vec![(0, vec![400]), (3_600, vec![30])], 1),
        (
            "without delimiters",
            vec![(time(0), open, &key), (time(9_000), open, &no_delimiter), (time(18_000), open, &no_delimiter)],
            vec![(0, vec![400]), (9_000, vec![20]), (18_000, vec![20])],
            0,
        ),
        (
            "a slice in a packet of its own",
            vec![(time(0), told, &key), (None, told, &later), (time(3_600), told, &other)],
            vec![(0, vec![400, 100]), (3_600, vec![30])],
            0,
        ),
        (
            "cut within a slice, and within a start code",
            vec![
                (time(0), open, &two[..100]),
                (None, open, &two[100..two.len() - 37]),
                (time(9_000), open, &two[two.len() - 37..]),
            ],
            vec![(0, vec![400]), (9_000, vec![30])],
            0,
        ),
        (
            "parameter sets in a packet of their own",
            vec![
                (time(0), open, &key[..key.len() - 407]),
                (None, open, &key[key.len() - 407..]),
                (time(3_600), open, &other),
            ],
            vec![(0, vec![400]), (3_600, vec![30])],
            0,
        ),
    ];
    for (what, packets, expected, without_time) in rows {
        let mut writer = Writer::new(STREAMS);
        packets.iter().for_each(|(times, length, payload)| writer.pes(VIDEO, *times, *length, payload));
        let (units, quirks) = demux(&writer.out, AfterLoss::WaitForKey);
        let expected: Vec<_> = expected.into_iter().map(|(time, sizes)| (time, time, sizes)).collect();
        assert_eq!(summary(&units, VIDEO), expected, "{what}");
        let odd = if without_time > 0 { vec![(Quirk::TimestampMissing, without_time)] } else { vec![] };
        assert_eq!(counted(quirks), odd, "{what}");
    }
}

#[test]
fn two_fields_in_a_packet_are_one_unit() {
    // 1920x1080, coded interlaced; its PPS.
    let sps =
        b"\x67\x64\x00\x28\xac\xd9\x40\x78\x04\x4f\xde\x02\x20\x00\x00\x03\x00\x20\x00\x00\x06\x43\xe2\xc5\xb2\xc0";
    let pps = b"\x68\xfb\xa3\xcb\x22\xc0";
    let [top, bottom] = [slice(true, 1, 50), slice(false, 2, 40)];
    let mut writer = Writer::new(STREAMS);
    // The first picture brings the parameter sets; then both fields in one packet, then each in its own.
    writer.pes(VIDEO, Some((0, 0)), Length::Open, &annex_b(&[AUD, sps, pps, &top]));
    writer.pes(VIDEO, Some((3_600, 3_600)), Length::Open, &annex_b(&[AUD, &top, AUD, &bottom]));
    writer.pes(VIDEO, Some((7_200, 7_200)), Length::Open, &annex_b(&[AUD, &top]));
    writer.pes(VIDEO, Some((9_000, 9_000)), Length::Open, &annex_b(&[AUD, &bottom]));
    let expected = [(0, vec![50]), (3_600, vec![50, 40]), (7_200, vec![50]), (9_000, vec![40])];
    assert_eq!(summary(&units(&writer.out), VIDEO), expected.map(|(time, sizes)| (time, time, sizes)));
}

#[test]
fn lengths_that_lie_are_noticed() {
    // The lower 16 bits of the true length: more comes than was told, and nothing is lost.
    let (mut long, mut short) = (Writer::new(STREAMS), Writer::new(STREAMS));
    let mut pes = writer::pes(Some((0, 0)), Length::Open, &key_frame(1, 70_000));
    let length = (pes.len() - 6) as u16;
    pes[4..6].copy_from_slice(&length.to_be_bytes());
    long.packets(VIDEO, &pes);
    long.pes(VIDEO, Some((3_600, 3_600)), Length::Told, &other_frame(2, 10));
    let (units, quirks) = demux(&long.out, AfterLoss::WaitForKey);
    assert_eq!(summary(&units, VIDEO), [(0, 0, vec![70_000]), (3_600, 3_600, vec![10])]);
    assert_eq!(counted(quirks), [(Quirk::PesLengthWrong, 1)]);
    // Less than was told: a part is missing.
    let mut pes = writer::pes(Some((0, 0)), Length::Told, &key_frame(1, 700));
    pes.truncate(pes.len() - 100);
    short.packets(VIDEO, &pes);
    short.pes(VIDEO, Some((3_600, 3_600)), Length::Told, &key_frame(2, 10));
    let (units, quirks) = demux(&short.out, AfterLoss::WaitForKey);
    assert_eq!(summary(&units, VIDEO), [(3_600, 3_600, vec![10])]);
    assert_eq!(counted(quirks), [(Quirk::PesCut, 1), (Quirk::UnitDamaged, 1)]);
}

#[test]
fn times_go_on_over_the_wrap() {
    let mut writer = Writer::new(STREAMS);
    let start = (1 << 33) - 7_200;
    for index in 0..5 {
        let wrapped = |time: u64| time % (1 << 33);
        let dts = start + 3_600 * u64::from(index);
        let picture = if index == 0 { key_frame(index, 10) } else { other_frame(index, 10) };
        writer.pes(VIDEO, Some((wrapped(dts + 7_200), wrapped(dts))), Length::Open, &picture);
        writer.pes(AUDIO, Some((wrapped(dts), wrapped(dts))), Length::Told, &adts(&[7; 10]));
    }
    let units = units(&writer.out);
    let times: Vec<_> = units.iter().filter(|unit| unit.pid == VIDEO).map(|unit| (unit.pts, unit.dts)).collect();
    let expected: Vec<_> = (0..5).map(|index| start as i64 + 3_600 * index).map(|dts| (dts + 7_200, dts)).collect();
    assert_eq!(times, expected);
    assert!(
        units.iter().filter(|unit| unit.pid == AUDIO).map(|unit| unit.dts).eq(expected.iter().map(|(_, dts)| *dts))
    );
}

#[test]
fn headers_may_come_in_pieces() {
    let mut writer = Writer::new(STREAMS);
    let pes = writer::pes(Some((0, 0)), Length::Open, &key_frame(1, 100));
    // Each piece in a packet of its own.
    for (counter, piece) in (0..).zip([&pes[..4], &pes[4..10], &pes[10..19], &pes[19..21], &pes[21..]]) {
        let start = if counter == 0 { 0x40 } else { 0 };
        let stuffing = 183 - piece.len();
        let head = [0x47, start | 1, 0, 0x30 | counter, stuffing as u8, 0];
        writer.out.extend([&head[..], &vec![0xff; stuffing - 1], piece].concat());
    }
    assert_eq!(summary(&units(&writer.out), VIDEO), [(0, 0, vec![100])]);
}

#[test]
fn segments_go_on_and_discontinuities_start_anew() {
    let film = film();
    let mut demuxer = Demuxer::new(AfterLoss::WaitForKey);
    let all = |demuxer: &mut Demuxer| -> Vec<Unit> { std::iter::from_fn(|| demuxer.poll()).collect() };
    demuxer.push(&film);
    demuxer.finish();
    let first = all(&mut demuxer);
    // Counters begin anew in each segment; that is no gap.
    demuxer.push(&film);
    demuxer.finish();
    let second = all(&mut demuxer);
    assert!(second.iter().all(|unit| !unit.discontinuity && unit.codec.is_none()));
    assert_eq!((second.len(), counted(demuxer.quirks())), (first.len(), vec![]));
    // A segment that breaks off: its last picture is dropped, and the next one's first units say so.
    demuxer.push(&film[..film.len() - 10 * 188]);
    let cut = all(&mut demuxer);
    demuxer.discontinue();
    assert_eq!(all(&mut demuxer), []);
    assert!(cut.iter().all(|unit| second.contains(unit)) && cut.len() < second.len());
    demuxer.push(&film);
    demuxer.finish();
    let third = all(&mut demuxer);
    let marked: Vec<_> = third.iter().filter(|unit| unit.discontinuity).map(|unit| (unit.pid, unit.dts)).collect();
    assert_eq!(marked, [(VIDEO, 126_000), (AUDIO, 126_000)].into_iter().rev().collect::<Vec<_>>());
    assert_eq!(third.len(), first.len());
}

#[test]
fn an_announced_discontinuity_is_no_loss() {
    let film = film();
    // The second film begins with counters of its own, and says so in packets without payload.
    let announce = |pid: u16| {
        let [high, low] = pid.to_be_bytes();
        [&[0x47, high, low, 0x20, 183, 0x80][..], &[0xff; 182]].concat()
    };
    let again = [announce(VIDEO), announce(AUDIO), film.clone()].concat();
    let (units, quirks) = demux(&[film, again].concat(), AfterLoss::WaitForKey);
    assert_eq!(units.len(), 80);
    let marked: Vec<_> = units.iter().filter(|unit| unit.discontinuity).map(|unit| unit.dts).collect();
    assert_eq!(marked, [126_000, 126_000]);
    assert_eq!(quirks.get(Quirk::UnitDamaged) + quirks.get(Quirk::ContinuityGap), 0, "{:?}", counted(quirks));
}

#[test]
fn what_is_too_large_is_dropped() {
    let mut writer = Writer::new(STREAMS);
    writer.pes(VIDEO, Some((0, 0)), Length::Open, &key_frame(1, 20 << 20));
    writer.pes(VIDEO, Some((3_600, 3_600)), Length::Open, &key_frame(2, 9 << 20));
    let nals = annex_b(&vec![&[6, 5, 1][..]; 5_000]);
    writer.pes(VIDEO, Some((7_200, 7_200)), Length::Open, &nals);
    writer.pes(VIDEO, Some((10_800, 10_800)), Length::Open, &key_frame(3, 10));
    let (units, quirks) = demux(&writer.out, AfterLoss::WaitForKey);
    assert_eq!(summary(&units, VIDEO), [(10_800, 10_800, vec![10])]);
    assert!(units[0].discontinuity);
    assert_eq!(quirks.get(Quirk::UnitTooLarge), 3, "{:?}", counted(quirks));
}

#[test]
fn the_clock_reference_is_read() {
    let mut demuxer = Demuxer::new(AfterLoss::WaitForKey);
    let mut writer = Writer::new(STREAMS);
    let mut packet = vec![0x47, 1, 0, 0x20, 183, 0x10];
    // Base 5, extension 7.
    packet.extend([0, 0, 0, 2, 0xfe, 7]);
    packet.resize(188, 0xff);
    writer.out.extend(packet);
    demuxer.push(&writer.out);
    demuxer.finish();
    assert_eq!(demuxer.pcr(), Some(5 * 300 + 7));
}

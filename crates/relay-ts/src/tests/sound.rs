//! AAC and Opus frames, and PES packets that don't agree with them.

use relay_media::Codec;

use super::*;

fn frame(id: u8, bytes: usize) -> Vec<u8> {
    adts(&vec![id; bytes])
}

/// Time, first byte and size of each unit.
fn heard(units: &[Unit]) -> Vec<(i64, u8, usize)> {
    units.iter().map(|unit| (unit.pts, unit.payload[0], unit.payload.len())).collect()
}

#[test]
fn aac_frames_and_pes_packets_need_not_agree() {
    let all: Vec<_> = (1..=5).flat_map(|id| frame(id, 100)).collect();
    let frames: Vec<_> = (0..5_u8).map(|index| (1_920 * i64::from(index), index + 1, 100)).collect();
    for cuts in [vec![], vec![107], vec![107, 214, 321, 428], vec![50], vec![3, 60, 110], vec![300, 530], vec![533]] {
        let mut writer = Writer::new(STREAMS);
        let ends: Vec<_> = cuts.iter().copied().chain([all.len()]).collect();
        let mut start = 0;
        for end in ends {
            // The time is that of the first frame that begins in the packet.
            let index = (start as u64).div_ceil(107);
            let time = (index < 5 && 107 * index < end as u64).then_some((1_920 * index, 1_920 * index));
            writer.pes(AUDIO, time, Length::Told, &all[start..end]);
            start = end;
        }
        let units = units(&writer.out);
        assert_eq!(heard(&units), frames, "{cuts:?}");
        let codec = units[0].codec.as_ref().map(Codec::rfc6381);
        assert_eq!(codec.as_deref(), Some("mp4a.40.2"));
    }
}

#[test]
fn frames_go_on_in_the_next_segment() {
    let tables = Writer::new(STREAMS).out;
    let segment = |time, payload: &[u8]| {
        let mut writer = Writer::new(STREAMS);
        writer.pes(AUDIO, time, Length::Told, payload);
        writer.out
    };
    let [one, two, three] = [1, 2, 3].map(|id| frame(id, 100));
    let at = |time| Some((time, time));
    let rest = [&two[60..], &three].concat();
    let (end, lost) = ([&*one, &two[..60]].concat(), vec![(Quirk::UnitDamaged, 1)]);
    for (what, first, second, expected, quirks) in [
        ("whole", one.clone(), segment(at(1_920), &two), vec![1, 2], vec![]),
        ("the rest", end.clone(), segment(at(3_840), &rest), vec![1, 2, 3], vec![]),
        ("another", end.clone(), segment(at(3_840), &three), vec![1, 3], lost),
        ("nothing", end, tables, vec![1], vec![]),
    ] {
        let mut demuxer = Demuxer::new(AfterLoss::WaitForKey);
        // Two frames before, so that headers are believed.
        demuxer.push(&segment(at(0), &[frame(9, 10), frame(9, 10), first].concat()));
        demuxer.finish();
        demuxer.push(&second);
        demuxer.finish();
        let units: Vec<_> = std::iter::from_fn(|| demuxer.poll()).skip(2).collect();
        assert_eq!(units.iter().map(|unit| unit.payload[0]).collect::<Vec<_>>(), expected, "{what}");
        assert_eq!(counted(demuxer.quirks()), quirks, "{what}");
    }
}

#[test]
fn what_is_no_adts_is_passed_over_or_refused() {
    let [one, two] = [1, 2].map(|id| frame(id, 100));
    let with = |at: usize, bits: u8| {
        let mut header = one.clone();
        header[at] ^= bits;
        header
    };
    // Protected by a CRC of two bytes.
    let crc = [&with(1, 1)[..7], &[0; 2], &one[9..]].concat();
    for (what, payload, expected, quirk) in [
        (
            "garbage between",
            [&*one, &one, b"garbage", &two, &two].concat(),
            vec![1, 1, 2, 2],
            Some(Quirk::AdtsSyncLost),
        ),
        ("garbage before", [b"\xff\xf1garbage", &*one, &two].concat(), vec![1, 2], None),
        ("several blocks", [with(6, 1), two.clone(), two.clone()].concat(), vec![2, 2], Some(Quirk::AdtsRefused)),
        ("channels in-band", [with(3, 0x80), with(3, 0x80)].concat(), vec![], Some(Quirk::AdtsRefused)),
        ("reserved rate", [with(2, 0x38), with(2, 0x38)].concat(), vec![], Some(Quirk::AdtsRefused)),
        ("with CRC", [crc.clone(), crc].concat(), vec![1, 1], None),
    ] {
        let mut writer = Writer::new(STREAMS);
        writer.pes(AUDIO, Some((0, 0)), Length::Told, &payload);
        let (units, quirks) = demux(&writer.out, AfterLoss::WaitForKey);
        assert_eq!(units.iter().map(|unit| unit.payload[0]).collect::<Vec<_>>(), expected, "{what}");
        let seen: Vec<_> = counted(quirks).into_iter().map(|(quirk, _)| quirk).collect();
        assert_eq!(seen, Vec::from_iter(quirk), "{what}");
    }
}

#[test]
fn opus_comes_behind_control_headers() {
    let descriptors = &[0x05, 4, b'O', b'p', b'u', b's', 0x7f, 2, 0x80, 2];
    // 20 ms each: plain, long, with trims and an extension.
    let long = [&[0xfc][..], &[2; 599]].concat();
    let payload = [
        &[0x7f, 0xe0, 3, 0xfc, 1, 1][..],
        &[&[0x7f, 0xe0, 255, 255, 90], &*long].concat(),
        &[0x7f, 0xfc, 2, 0, 9, 0, 9, 1, 0, 0xfc, 3],
    ];
    let mut writer = Writer::new(&[(0x06, AUDIO, descriptors)]);
    writer.pes(AUDIO, Some((900, 900)), Length::Told, &payload.concat());
    writer.pes(AUDIO, Some((9_000, 9_000)), Length::Told, &[0x7f, 0xe0, 3, 0xfc, 1]);
    writer.pes(AUDIO, Some((18_000, 18_000)), Length::Told, &[0x12, 0xe0, 3, 0xfc, 1, 1]);
    writer.pes(AUDIO, Some((27_000, 27_000)), Length::Told, payload[0]);
    let (units, quirks) = demux(&writer.out, AfterLoss::WaitForKey);
    assert_eq!(heard(&units), [(900, 0xfc, 3), (2_700, 0xfc, 600), (4_500, 0xfc, 2), (27_000, 0xfc, 3)]);
    assert_eq!(units.iter().map(|unit| unit.discontinuity).collect::<Vec<_>>(), [false, false, false, true]);
    assert_eq!(counted(quirks), [(Quirk::UnitDamaged, 1), (Quirk::OpusInvalid, 1)]);
    assert_eq!(units[0].codec.as_ref().map(Codec::name), Some("opus"));
}

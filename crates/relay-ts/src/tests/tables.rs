//! PAT and PMT: repeated, moved, split, changed, broken; what stream types mean; packets' framing.

use super::{writer::PMT_PID, *};
use crate::Content;

#[test]
fn stream_types_have_names() {
    let rows: [(u8, &[u8], &str); 20] = [
        (0x1b, &[], "h264"),
        (0x24, &[], "h265"),
        (0x0f, &[], "aac"),
        (0x11, &[], "aac_latm"),
        (0x03, &[], "mp3"),
        (0x04, &[], "mp3"),
        (0x81, &[], "ac3"),
        (0x87, &[], "eac3"),
        (0x15, &[], "id3"),
        (0x86, &[], "scte35"),
        (0xdb, &[], "sample_aes"),
        (0x02, &[], "mpeg2_video"),
        (0x42, &[], "unknown"),
        (0x06, &[], "private"),
        (0x06, &[0x6a, 1, 0], "ac3"),
        (0x06, &[0x0a, 4, 0, 0, 0, 0, 0x05, 4, b'E', b'A', b'C', b'3'], "eac3"),
        (0x06, &[0x05, 4, b'O', b'p', b'u', b's', 0x7f, 2, 0x80, 2], "opus"),
        (0x06, &[0x05, 4, b'O', b'p', b'u', b's', 0x7f, 2, 0x80, 6], "opus_multichannel"),
        (0x06, &[0x05, 4, b'H', b'E', b'V', b'C'], "h265"),
        // A descriptor that runs past the end.
        (0x06, &[0x05, 40, b'H'], "private"),
    ];
    for (stream_type, descriptors, name) in rows {
        let mut demuxer = Demuxer::new(AfterLoss::WaitForKey);
        demuxer.push(&Writer::new(&[(stream_type, VIDEO, descriptors)]).out);
        demuxer.finish();
        let names: Vec<_> = demuxer.streams().map(|stream| (stream.pid, stream.content.name())).collect();
        assert_eq!(names, [(VIDEO, name)], "{stream_type:#x} {descriptors:x?}");
    }
}

#[test]
fn tables_may_repeat_move_and_change() {
    let mut writer = Writer::new(STREAMS);
    writer.pes(VIDEO, Some((0, 0)), Length::Open, &key_frame(1, 500));
    // The same again, in the middle of things; another version of the same.
    writer.tables(0, STREAMS);
    writer.tables(1, STREAMS);
    writer.pes(VIDEO, Some((3_600, 3_600)), Length::Open, &other_frame(2, 500));
    // The map moves, and with it the sound; the pictures stay and nothing of them is lost.
    let moved = 0x300;
    writer.packets(0, &[&[0][..], &writer::pat(2, &[(1, moved)])].concat());
    // Behind a pointer, and over several packets.
    let long = [&[0x0a, 250][..], &[7; 250]].concat();
    let map = writer::pmt(3, &[(H264, VIDEO, &[]), (AAC, 0x200, &long), (0x15, 0x201, &[])]);
    writer.packets(moved, &[&[2, 9, 9], &*map].concat());
    writer.pes(VIDEO, Some((7_200, 7_200)), Length::Open, &other_frame(3, 500));
    writer.pes(0x200, Some((7_200, 7_200)), Length::Told, &adts(&[5; 50]));
    let mut demuxer = Demuxer::new(AfterLoss::WaitForKey);
    demuxer.push(&writer.out);
    demuxer.finish();
    let units: Vec<_> = std::iter::from_fn(|| demuxer.poll()).collect();
    assert_eq!(counted(demuxer.quirks()), []);
    assert_eq!(summary(&units, VIDEO), [0, 3_600, 7_200].map(|time| (time, time, vec![500])));
    assert_eq!(units.iter().filter(|unit| unit.pid == 0x200).count(), 1);
    let contents: Vec<_> = demuxer.streams().map(|stream| (stream.pid, stream.content)).collect();
    let id3 = Content::PassedOver("id3");
    assert_eq!(contents, [(VIDEO, Content::H264), (0x200, Content::Aac), (0x201, id3)]);
    assert_eq!(units.iter().filter(|unit| unit.codec.is_some()).count(), 2);
}

#[test]
fn broken_tables_are_not_believed() {
    let picture = |writer: &mut Writer| writer.pes(VIDEO, Some((0, 0)), Length::Open, &key_frame(1, 5));
    // A bit of the map is wrong; the next copy counts.
    let mut writer = Writer::new(STREAMS);
    *writer.out.get_mut(188 + 20).unwrap() ^= 1;
    writer.tables(0, STREAMS);
    picture(&mut writer);
    let (units, quirks) = demux(&writer.out, AfterLoss::WaitForKey);
    assert_eq!((units.len(), counted(quirks)), (1, vec![(Quirk::SectionCrc, 1)]));
    // Two programmes: the first is followed, wherever the other's map is.
    let mut writer = Writer::default();
    writer.packets(0, &[&[0][..], &writer::pat(0, &[(0, 0x10), (1, PMT_PID), (2, 0x400)])].concat());
    writer.tables(1, STREAMS);
    picture(&mut writer);
    let (units, quirks) = demux(&writer.out, AfterLoss::WaitForKey);
    assert_eq!((units.len(), counted(quirks)), (1, vec![(Quirk::ProgrammeIgnored, 1)]));
    // A section longer than any may be, and one whose pointer points outside.
    for (section, quirk) in [(&[0, 0, 0xbf, 0xff][..], Quirk::SectionInvalid), (&[200, 0, 0], Quirk::SectionInvalid)] {
        let mut writer = Writer::default();
        writer.packets(0, section);
        writer.tables(0, STREAMS);
        picture(&mut writer);
        let (units, quirks) = demux(&writer.out, AfterLoss::WaitForKey);
        assert_eq!((units.len(), counted(quirks)), (1, vec![(quirk, 1)]), "{section:?}");
    }
    // An identifier that the tables use themselves, and more streams than are followed.
    let many: Vec<_> = (0..40).map(|index| (AAC, 0x40 + index, &[][..])).chain([(AAC, 0, &[][..])]).collect();
    let (_, quirks) = demux(&Writer::new(&many).out, AfterLoss::WaitForKey);
    assert_eq!(counted(quirks), [(Quirk::StreamIgnored, 9)]);
}

#[test]
fn packets_are_found_in_other_framings_and_between_garbage() {
    let film = film();
    let expected = units(&film);
    assert_eq!(expected.len(), 40);
    let framed = |before: &[u8], after: &[u8]| -> Vec<u8> {
        film.chunks(188).flat_map(|packet| [before, packet, after].concat()).collect()
    };
    let garbage = b"<html>GGGG".repeat(50);
    let middle = film.len() / 376 * 188;
    let cut = [&film[..middle], &garbage[..], &film[middle..]].concat();
    for (what, bytes, skipped, lost) in [
        ("M2TS", framed(&[1, 2, 3, 4], &[]), 4, 0),
        ("204 bytes", framed(&[], &[9; 16]), 0, 0),
        ("garbage before", [&garbage, &*film].concat(), 500, 0),
        ("garbage between", cut, 500, 1),
    ] {
        let (units, quirks) = demux(&bytes, AfterLoss::WaitForKey);
        assert!(units == expected, "{what}: {} units, {:?}", units.len(), counted(quirks));
        assert_eq!(quirks.get(Quirk::BytesSkipped), skipped, "{what}");
        assert_eq!(quirks.get(Quirk::SyncLost), lost, "{what}");
    }
    let (units, quirks) = demux(&garbage, AfterLoss::PassOn);
    assert!(units.is_empty() && quirks.get(Quirk::BytesSkipped) > 0);
}

#[test]
fn damaged_and_scrambled_packets_are_refused_by_name() {
    // The map comes second, then pictures; the fifth packet is in the middle of the first one.
    let mut writer = Writer::new(STREAMS);
    writer.pes(VIDEO, Some((0, 0)), Length::Open, &key_frame(1, 1_000));
    writer.pes(VIDEO, Some((3_600, 3_600)), Length::Open, &key_frame(2, 1_000));
    let at = 4 * 188;
    for (what, byte, bits, quirks) in [
        (
            "transport error",
            1,
            0x80,
            vec![(Quirk::TransportError, 1), (Quirk::ContinuityGap, 1), (Quirk::UnitDamaged, 1)],
        ),
        ("scrambled", 3, 0x80, vec![(Quirk::Scrambled, 1), (Quirk::UnitDamaged, 1)]),
        (
            "no payload and no field",
            3,
            0x10,
            vec![(Quirk::PacketInvalid, 1), (Quirk::ContinuityGap, 1), (Quirk::UnitDamaged, 1)],
        ),
    ] {
        let mut bytes = writer.out.clone();
        bytes[at + byte] ^= bits;
        let (units, seen) = demux(&bytes, AfterLoss::WaitForKey);
        assert_eq!(counted(seen), quirks, "{what}");
        assert_eq!(summary(&units, VIDEO), [(3_600, 3_600, vec![1_000])], "{what}");
        assert!(units[0].discontinuity, "{what}");
    }
}

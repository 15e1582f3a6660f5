//! What a reader refuses, by name and place, and what it takes from other writers.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use film::hex;
use relay_mkv::{Block, Event, Fault, ReadError, Reader, Sessions, TrackMedia, read_all};

mod film;

/// An EBML header of a `matroska` document.
const EBML: &str = "1A45DFA38B 4282886D6174726F736B61";
/// A Segment of unknown size.
const SEGMENT: &str = "18538067FF";
const INFO: &str = "1549A96688 4D808161 57418162";
/// Track 1 is a picture of 16 by 9 in no codec, track 2 is sound.
const TRACKS: &str =
    "1654AE6BA8 AE95 D78101 73C58101 838101 868156 E086 B08110BA8109 AE8F D78102 73C58102 838102 868141 E180";
/// A cluster of unknown size at 5.
const CLUSTER: &str = "1F43B675FF E78105";
const BLOCK: &str = "A385 81 0001 80 AA";

fn head() -> String {
    [EBML, SEGMENT, INFO, TRACKS].join(" ")
}

fn block(track: u64, timecode: i64) -> Event {
    let payload = vec![0xaa].into();
    let (is_key, is_discardable, is_invisible) = (true, false, false);
    Event::Block(Block { track, timecode, is_key, is_discardable, is_invisible, payload })
}

/// Where the fault is and what, whatever the pieces; the offset is counted from the end of `before`.
fn check(before: &str, rest: &str, offset: i64, fault: &str) {
    let (before, bytes) = (hex(before), hex(&format!("{before} {rest}")));
    let error = read_all(&bytes, Sessions::One).expect_err(fault);
    assert_eq!(
        (error.offset as i64 - before.len() as i64, error.fault.to_string().as_str()),
        (offset, fault),
        "{rest}"
    );
    let mut reader = Reader::new(Sessions::One);
    let by_byte = bytes.iter().find_map(|byte| {
        reader.push(&[*byte]);
        std::iter::from_fn(|| reader.poll().transpose()).find_map(Result::err)
    });
    assert_eq!(by_byte.unwrap_or_else(|| reader.finish().unwrap_err()), error, "{rest}");
}

#[test]
fn headers_that_are_none() {
    for (rest, offset, fault) in [
        ("", 0, "the stream ends within EBML"),
        ("1A45", 0, "the stream ends within EBML"),
        ("00", 0, "no element ID"),
        ("18538067FF", 0, "Segment where the EBML header should be"),
        ("1A45DFA300", 0, "a malformed size of EBML"),
        ("1A45DFA3FF", 0, "EBML of unknown size"),
        ("1A45DFA3 4800", 0, "EBML of 2048 bytes, at most 1024"),
        ("1A45DFA380", 0, "no DocType in EBML"),
        ("1A45DFA387 428284 7765626D", 0, "a document of type \"webm\", not matroska"),
        ("1A45DFA38F 42F78102 4282886D6174726F736B61", 5, "EBMLReadVersion is 2, beyond what is read here"),
        ("1A45DFA38F 4282886D6174726F736B61 42858105", 16, "DocTypeReadVersion is 5, beyond what is read here"),
        ("1A45DFA384 42828141", 0, "a document of type \"A\", not matroska"),
        ("1A45DFA384 428281FF", 5, "DocType is text that is not UTF-8"),
        ("1A45DFA384 42828241", 5, "DocType ends behind its parent"),
        ("1A45DFA382 4282", 5, "half a head at the end of EBML"),
        ("1A45DFA388 42828141 42828141", 9, "a second DocType"),
    ] {
        check("", rest, offset, fault);
    }
    check(EBML, "", 0, "the stream ends within Segment");
    check(EBML, "EC80", 0, "no Segment in EBML");
    check(EBML, "18538067 82 EC81", 5, "Void ends behind its parent");
}

#[test]
fn segments_that_are_none() {
    let segment = [EBML, SEGMENT].join(" ");
    for (rest, offset, fault) in [
        (CLUSTER, 0, "no Info in Segment"),
        ("A380", 0, "SimpleBlock in Segment"),
        ("1A9A", 0, "the stream ends within Segment"),
        ("7373 80", 0, "Tag in Segment"),
        ("1549A96680", 0, "no MuxingApp in Info"),
        ("1549A966FF", 0, "Info of unknown size"),
        ("1549A966 8F 4D808161 57418162 2AD7B1830000 00", 13, "TimestampScale is 0"),
        ("1549A966 88 2AD7B18500000000", 5, "TimestampScale ends behind its parent"),
        ("1549A966 8C 4D808161 73A482 1111 570000", 9, "SegmentUID is not of 16 bytes"),
        ("1654AE6B80", 0, "no TrackEntry in Tracks"),
        ("1654AE6B82 AE80", 5, "no TrackType in TrackEntry"),
        ("1654AE6B85 AE83 838111", 5, "track type 17, neither video nor audio"),
        ("1654AE6B85 AE83 D78100", 7, "TrackNumber is 0"),
        ("1654AE6B85 AE83 838101", 5, "no Video in TrackEntry"),
        ("1654AE6B8A AE88 838101 E083B08110", 10, "no PixelHeight in Video"),
        ("1654AE6B8B AE89 D789 00000000000000", 7, "TrackNumber ends behind its parent"),
        ("1654AE6B8D AE8B D789 000000000000000001", 7, "TrackNumber is an integer of more than 8 bytes"),
        ("1654AE6B8B AE89 E187 B5 84 7FC0000000", 9, "SamplingFrequency is no rate"),
        ("1654AE6B85 AE83 6D8080", 7, "ContentEncodings in TrackEntry"),
        ("1654AE6B 10A00000", 0, "Tracks of 10485760 bytes, at most 9437184"),
        ("1254C36789 7373 86 67C883 448780", 8, "no TagName in SimpleTag"),
        ("1254C367 210000", 0, "the stream ends within Tags"),
        ("1254C367 210001", 0, "Tags of 65537 bytes, at most 65536"),
    ] {
        check(&segment, rest, offset, fault);
    }
    let double = TRACKS.replace("D78102", "D78101");
    check(&segment, &double, 28, "a second TrackNumber");
    check(&[EBML, SEGMENT, INFO].join(" "), INFO, 0, "a second Info");
    check(&[EBML, SEGMENT, INFO].join(" "), CLUSTER, 0, "no Tracks in Segment");
    check(&head(), TRACKS, 0, "a second Tracks");
    check(&head(), EBML, 0, "a second session");
    check(&head(), SEGMENT, 0, "Segment in Segment");
}

#[test]
fn clusters_that_are_none() {
    for (rest, offset, fault) in [
        ("1F43B675FF", 5, "the stream ends within Cluster"),
        ("1F43B675FF A385 81 0001 80 AA", 0, "no Timestamp in Cluster"),
        ("1F43B67580", 0, "no Timestamp in Cluster"),
        ("1F43B675FF 1F43B675FF", 0, "no Timestamp in Cluster"),
        ("1F43B675FF E788 8000000000000000", 5, "Timestamp is beyond 63 bits"),
        ("1F43B675FF E789", 5, "Timestamp of 9 bytes, at most 8"),
        ("1F43B67584 E78105 D780", 8, "TrackNumber ends behind its parent"),
        ("1F43B67585 E78105 D780", 8, "TrackNumber in Cluster"),
        ("1F43B67588 E78105 1254C36780", 8, "Tags in Cluster"),
        ("1F43B67588 E78105", 8, "the stream ends within Cluster"),
    ] {
        check(&head(), rest, offset, fault);
    }
    let cluster = [&head(), CLUSTER].join(" ");
    for (rest, offset, fault) in [
        ("E78106", 0, "a second Timestamp"),
        ("A3FF", 0, "SimpleBlock of unknown size"),
        ("A3 12000400", 0, "the stream ends within SimpleBlock"),
        ("A3 13000000", 0, "SimpleBlock of 50331648 bytes, at most 33555456"),
        ("A3 01FFFFFFFFFFFFFE", 0, "SimpleBlock of 72057594037927934 bytes, at most 33555456"),
        ("A380", 0, "SimpleBlock is without a track number"),
        ("A38481000180", 0, "SimpleBlock is without a frame, or with one that is too large"),
        ("A383810001", 0, "SimpleBlock is too short"),
        ("A38583 0001 80 AA", 0, "a block of track 3, which the header doesn't have"),
        ("A38581 0001 82 AA", 0, "a block with lacing"),
        ("A080", 0, "no Block in BlockGroup"),
        ("A087 A185 81 0001 04 AA", 2, "a block with lacing"),
        ("A08E A1858100010 0AA A1858100010 0AA", 9, "a second Block"),
        ("A385 81 0001 80", 0, "the stream ends within SimpleBlock"),
        ("A7FF", 0, "Position of unknown size"),
        ("A782 00", 3, "the stream ends within Position"),
        ("1654AE6B80", 0, "a second Tracks"),
        (EBML, 0, "a second session"),
        (SEGMENT, 0, "Segment in Cluster"),
        ("0F", 0, "no element ID"),
    ] {
        check(&cluster, rest, offset, fault);
    }
    let latest = [&head(), "1F43B675FF E788 7FFFFFFFFFFFFFFF"].join(" ");
    check(&latest, BLOCK, 0, "SimpleBlock is beyond 63 bits");
}

#[test]
fn sessions_follow_each_other_if_that_is_allowed() {
    let session = [&head(), CLUSTER, BLOCK].join(" ");
    let sized = hex(&[SEGMENT, INFO, TRACKS, CLUSTER, BLOCK].join(" ")).len() - 5;
    let sized = session.replace(SEGMENT, &format!("18538067 40{sized:02X}"));
    for (first, second, end) in [(&session, &session, "a second session"), (&sized, &session, "a second session")] {
        let both = hex(&[first.as_str(), second.as_str()].join(" "));
        let events = read_all(&both, Sessions::Concatenated).unwrap();
        assert_eq!(events.len(), 10);
        assert_eq!(events[..5], events[5..]);
        assert_eq!(events[4], block(1, 6));
        check(first, second, 0, end);
    }
    check(&sized, CLUSTER, 0, "Cluster behind the Segment's end");
    check(&[EBML, "18538067 FE", INFO].join(" "), "", 0, "the stream ends within Segment");
}

#[test]
fn what_other_writers_do_is_read() {
    // As ffmpeg and mkvmerge: sizes told, in eight bytes; SeekHead, Void, CRC-32, Cues; block groups; unknown details.
    let group = "A08A A185 82 FFFF 00 AA 9B8114";
    let cluster = format!("1F43B675 0100000000000023 BF8400000000 E78105 AB8122 {BLOCK} {group} EC 4001 00");
    let stream =
        [EBML, "18538067 01FFFFFFFFFFFFFF", "114D9B7482AABB EC8100", INFO, TRACKS, &cluster, "1C53BB6B80"].join(" ");
    let mut reader = Reader::new(Sessions::One);
    reader.push(&hex(&stream));
    let mut events = Vec::new();
    while let Some(event) = reader.poll().unwrap_or_else(|error| panic!("{error}")) {
        events.push(event);
    }
    reader.finish().unwrap();
    let [(0, Event::Session(session)), (_, Event::Info(info)), (_, Event::Tracks(tracks)), rest @ ..] = &events[..]
    else {
        panic!("{events:?}")
    };
    assert_eq!((session.doc_type_version, session.doc_type_read_version), (1, 1));
    assert_eq!((info.timecode_scale_ns, info.muxing_app.as_str(), info.uid), (1_000_000, "a", None));
    let media = [
        TrackMedia::Video { width: 16, height: 9 },
        TrackMedia::Audio { sample_rate: 8_000, channels: 1, bit_depth: None },
    ];
    assert_eq!(tracks.iter().map(|track| track.media).collect::<Vec<_>>(), media);
    assert!(tracks[0].codec().is_err(), "V is no codec");
    let offset =
        hex(&[EBML, "18538067 01FFFFFFFFFFFFFF", "114D9B7482AABB EC8100", INFO, TRACKS].join(" ")).len() as u64;
    let at = |behind: u64, event: Event| (offset + behind, event);
    assert_eq!(rest, [at(0, Event::Cluster { timecode: 5 }), at(24, block(1, 6)), at(31, block(2, 4))]);
}

#[test]
fn a_fault_is_for_good() {
    let mut reader = Reader::new(Sessions::One);
    reader.push(&[0]);
    let error = ReadError { offset: 0, fault: Fault::Id };
    assert_eq!(reader.poll(), Err(error.clone()));
    reader.push(&hex(EBML));
    assert_eq!(reader.poll(), Err(error.clone()));
    assert_eq!(reader.finish(), Err(error));
}

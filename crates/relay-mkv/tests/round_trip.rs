//! Whatever is written is read back; whatever is read never panics and does not depend on the pieces it comes in.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use std::{collections::BTreeMap, sync::Arc};

use film::{codecs, packet, track};
use proptest::prelude::*;
use relay_media::{Flags, Kind, Packet, Timestamp, Track};
use relay_mkv::{Block, ClusterStart, Event, ReadError, Reader, Sessions, Start, Tag, WriteError, Writer, read_all};

mod film;

/// One thing to write.
#[derive(Clone, Debug)]
enum Step {
    /// A packet of the nth track, some milliseconds in media and wall time after the one before, some ticks more.
    Packet {
        track: prop::sample::Index,
        ms: u64,
        ticks: i64,
        flags: u8,
        payload: Vec<u8>,
    },
    Tags(Vec<(String, String)>),
    EndFragment,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let payload = prop::collection::vec(any::<u8>(), 0..40);
    let packet = (any::<prop::sample::Index>(), 0..4_000_u64, -200..200_i64, 0..8_u8, payload);
    let packet =
        packet.prop_map(|(track, ms, ticks, flags, payload)| Step::Packet { track, ms, ticks, flags, payload });
    let tags = prop::collection::vec((any::<String>(), any::<String>()), 0..3).prop_map(Step::Tags);
    prop::collection::vec(prop_oneof![8 => packet, 1 => tags, 1 => Just(Step::EndFragment)], 0..60)
}

/// A session of these steps, and what its events must be, with the nanoseconds of clusters and blocks. A cluster is begun at key frames and when the last is full.
fn write(tracks: &[Arc<Track>], epoch_ms: u64, steps: &[Step]) -> (Vec<u8>, Vec<(Event, i64)>) {
    let (mut writer, head) = Writer::new(Start { uid: [7; 16], tracks: tracks.to_vec() }).unwrap();
    let (mut stream, mut expected, mut now_ms) = (head.to_vec(), Vec::new(), 0);
    for step in steps {
        match step {
            Step::Packet { track, ms, ticks, flags, payload } => {
                let index = track.index(tracks.len());
                let track = &tracks[index];
                now_ms += ms;
                let at = i64::try_from(now_ms).unwrap() * i64::from(track.timebase.hz()) / 1_000 + ticks;
                let packet = packet(track, at, Flags::from_bits_truncate(*flags), payload.clone());
                let start = ClusterStart { timecode_ms: epoch_ms + now_ms, media: packet.pts };
                if packet.is_key() {
                    begin(&mut writer, start, &mut stream, &mut expected);
                }
                let written = match writer.block(&packet) {
                    Err(WriteError::ClusterFull(_) | WriteError::NoCluster) => {
                        begin(&mut writer, start, &mut stream, &mut expected);
                        writer.block(&packet)
                    }
                    written => written,
                };
                if let Ok(parts) = written {
                    stream.extend(parts.concat());
                    expected.push((Event::Block(block(index, &packet)), packet.pts.nanos()));
                }
            }
            Step::Tags(pairs) => {
                let tags: Vec<_> = pairs.iter().map(|(name, value)| Tag::new(name, value.replace('\0', ""))).collect();
                if let Ok(bytes) = writer.tags(&tags) {
                    stream.extend(bytes);
                    expected.push((Event::Tags(tags), 0));
                }
            }
            Step::EndFragment => {
                stream.extend(writer.end_fragment());
                expected.push((Event::Tags(vec![Tag::new(relay_mkv::END_OF_FRAGMENT, "")]), 0));
            }
        }
    }
    (stream, expected)
}

fn begin(writer: &mut Writer, start: ClusterStart, stream: &mut Vec<u8>, expected: &mut Vec<(Event, i64)>) {
    let rising = writer.last_ms().map_or(0, |last| last + 1);
    let start = ClusterStart { timecode_ms: start.timecode_ms.max(rising), ..start };
    stream.extend(writer.begin_cluster(start).unwrap());
    expected.push((Event::Cluster { timecode: start.timecode_ms }, start.media.nanos()));
}

/// The packet as a block, without its time.
fn block(index: usize, packet: &Packet) -> Block {
    Block {
        track: index as u64 + 1,
        timecode: 0,
        is_key: packet.is_key() || packet.track.kind() == Kind::Audio,
        is_discardable: packet.flags.contains(Flags::DISPOSABLE),
        is_invisible: false,
        payload: packet.payload.clone(),
    }
}

/// Every event of `stream` in pieces of these sizes, over and over, and how it ended.
fn read_in(pieces: &[usize], stream: &[u8]) -> (Vec<(u64, Event)>, Result<(), ReadError>) {
    let (mut reader, mut events, mut rest) = (Reader::new(Sessions::Concatenated), Vec::new(), stream);
    for size in pieces.iter().cycle() {
        let (piece, after) = rest.split_at((*size).min(rest.len()));
        reader.push(piece);
        loop {
            match reader.poll() {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(error) => return (events, Err(error)),
            }
        }
        rest = after;
        if rest.is_empty() {
            break;
        }
    }
    (events, reader.finish())
}

/// Blocks are the packets, in their order: half a millisecond off their time at most, or one behind the latest of
/// their track in the cluster.
fn holds(events: &[Event], expected: &[(Event, i64)]) {
    assert_eq!(events.len(), expected.len());
    let (mut start, mut latest) = ((0, 0), BTreeMap::new());
    for (event, (expected, nanos)) in events.iter().zip(expected) {
        match (event, expected) {
            (Event::Block(block), Event::Block(packet)) => {
                assert_eq!(Block { timecode: 0, ..block.clone() }, *packet);
                let off = (block.timecode - start.0) * 1_000_000 - (nanos - start.1);
                let (last_nanos, last) = *latest.get(&block.track).unwrap_or(&(i64::MIN, i64::MIN));
                let is_pushed = *nanos >= last_nanos && block.timecode == last + 1;
                assert!(off.abs() <= 500_000 || is_pushed && off > 0, "{off} ns off, {last} before");
                if *nanos >= last_nanos {
                    assert!(block.timecode > last);
                    latest.insert(block.track, (*nanos, block.timecode));
                }
            }
            (Event::Cluster { timecode }, _) => {
                assert_eq!(event, expected);
                start = (i64::try_from(*timecode).unwrap(), *nanos);
                latest.clear();
            }
            _ => assert_eq!(event, expected),
        }
    }
}

fn tracks(picks: &[prop::sample::Index]) -> Vec<Arc<Track>> {
    let all = codecs();
    let pick = |(id, pick): (u32, &prop::sample::Index)| track(id, all[pick.index(all.len())].clone());
    (1..).zip(picks).map(pick).collect()
}

fn session() -> Vec<u8> {
    let tracks: Vec<_> = (1..).zip(codecs()).map(|(id, codec)| track(id, codec)).collect();
    let (mut writer, head) = Writer::new(Start { uid: [7; 16], tracks: tracks.clone() }).unwrap();
    let mut stream = head.to_vec();
    for second in 0..3_i64 {
        let media = Timestamp::new(second * 90_000, tracks[0].timebase);
        let timecode_ms = 1_000_000 + second as u64 * 1_000;
        stream.extend(writer.begin_cluster(ClusterStart { timecode_ms, media }).unwrap());
        for track in &tracks {
            let at = second * i64::from(track.timebase.hz());
            stream.extend(writer.block(&packet(track, at, Flags::KEY, vec![3; 9])).unwrap().concat());
        }
        stream.extend(writer.tags(&[Tag::new("name", "value")]).unwrap());
    }
    stream
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        picks in prop::collection::vec(any::<prop::sample::Index>(), 1..4),
        epoch_ms in 0..2_000_000_000_000_u64,
        steps in steps(),
        pieces in prop::collection::vec(1..200_usize, 1..9),
    ) {
        let tracks = tracks(&picks);
        let (stream, expected) = write(&tracks, epoch_ms, &steps);
        let events = read_all(&stream, Sessions::One).unwrap_or_else(|error| panic!("{error}"));
        let Event::Tracks(entries) = &events[2] else { panic!("{events:?}") };
        let read: Vec<_> = entries.iter().map(|entry| entry.codec().unwrap()).collect();
        prop_assert_eq!(read, tracks.iter().map(|track| track.codec.clone()).collect::<Vec<_>>());
        holds(&events[3..], &expected);

        let (in_pieces, end) = read_in(&pieces, &stream);
        prop_assert_eq!(end, Ok(()));
        prop_assert_eq!(in_pieces.into_iter().map(|(_, event)| event).collect::<Vec<_>>(), events);
    }

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300), pieces in prop::collection::vec(1..9_usize, 1..9)) {
        prop_assert_eq!(read_in(&pieces, &bytes), read_in(&[bytes.len().max(1)], &bytes));
    }

    #[test]
    fn any_change_of_a_session(
        twice: bool,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut: prop::sample::Index,
        pieces in prop::collection::vec(1..99_usize, 1..9),
    ) {
        let mut stream = session().repeat(if twice { 2 } else { 1 });
        for (at, byte) in changes {
            let at = at.index(stream.len());
            stream[at] = byte;
        }
        for stream in [&stream[..], &stream[..cut.index(stream.len())]] {
            prop_assert_eq!(read_in(&pieces, stream), read_in(&[stream.len().max(1)], stream));
        }
    }
}

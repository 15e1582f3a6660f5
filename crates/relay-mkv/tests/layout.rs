//! The bytes of a session, element by element, as the service's own producer lays them out.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use film::{h264, hex, packet, track};
use relay_media::{Codec, Flags, Timebase, Timestamp, g711};
use relay_mkv::{BLOCK_HEAD_BYTES, CLUSTER_HEAD_BYTES, ClusterStart, Event, Sessions, Start, Tag, Writer, read_all};

mod film;

#[test]
fn a_session_is_laid_out_as_the_service_knows_it() {
    let alaw = Codec::G711(g711::Config { law: g711::Law::A, sample_rate: 8_000, channels: 1 });
    let (video, audio) = (track(1, h264()), track(2, alaw));
    let start = Start { uid: *b"0123456789abcdef", tracks: vec![video.clone(), audio.clone()] };
    let (mut writer, head) = Writer::new(start).unwrap();

    let (ebml, rest) = head.split_at(40);
    assert_eq!(ebml, hex("1A45DFA3A3 42868101 42F78101 42F28104 42F38108 4282886D6174726F736B61 42878102 42858102"));
    let (segment, rest) = rest.split_at(5);
    assert_eq!(segment, hex("18538067 FF"));
    let app = format!("{:x}", Hex(b"relay-mkv"));
    let info =
        hex(&format!("1549A966B2 73A490 30313233343536373839616263646566 2AD7B1830F4240 4D8089{app} 574189{app}"));
    let (read, rest) = rest.split_at(info.len());
    assert_eq!(read, info);
    let avcc = "0142c01fffe10019 6742c01fd9005005bb011000000300100000030320f1832480 0100 05 68cb83cb20";
    let tracks = hex(&format!(
        "1654AE6B409F
         AE D8 D78101 73C588 0000000000000001 838101 868F565F4D504547342F49534F2F415643 63A2A9 {avcc}
            E088 B0820500 BA8202D0
         AE C3 D78102 73C588 0000000000000002 838102 8688415F4D532F41434D
            63A292 0600 0100 401F0000 401F0000 0100 0800 0000 E191 B588 40BF400000000000 9F8101 62648108"
    ));
    assert_eq!(rest, tracks);

    let timecode_ms = 1_795_228_200_123;
    let media = Timestamp::new(3_600, Timebase::VIDEO);
    let cluster = writer.begin_cluster(ClusterStart { timecode_ms, media }).unwrap();
    assert_eq!(cluster, hex("1F43B675 FF E788 000001A1FBF06CBB A78100"));
    assert_eq!(cluster.len(), CLUSTER_HEAD_BYTES);

    let picture = packet(&video, 3_600, Flags::KEY, vec![7; 300]);
    let sound = packet(&audio, 320 + 160, Flags::empty(), vec![8; 160]);
    let inter = packet(&video, 7_200, Flags::DISPOSABLE, vec![9; 5]);
    let mut stream = [&head[..], &cluster].concat();
    for (packet, expected) in [
        (&picture, "A3 0100000000000130 81 0000 80"),
        (&sound, "A3 01000000000000A4 82 0014 80"),
        (&inter, "A3 0100000000000009 81 0028 01"),
    ] {
        let [head, payload] = writer.block(packet).unwrap();
        assert_eq!(head, hex(expected));
        assert_eq!(head.len(), BLOCK_HEAD_BYTES);
        assert_eq!(payload.as_ptr(), packet.payload.as_ptr(), "the payload is not copied");
        stream.extend_from_slice(&head);
        stream.extend_from_slice(&payload);
    }
    assert_eq!(writer.last_ms(), Some(timecode_ms + 40));
    let tags = writer.tags(&[Tag::new("place", "gate")]).unwrap();
    assert_eq!(tags, hex("1254C36795 737392 67C88F 45A385706C616365 44878467617465"));
    let name = format!("{:x}", Hex(b"AWS_KINESISVIDEO_END_OF_FRAGMENT"));
    let end = writer.end_fragment();
    assert_eq!(end, hex(&format!("1254C367AC 7373A9 67C8A6 45A3A0{name} 448780")));
    stream.extend_from_slice(&tags);
    stream.extend_from_slice(&end);

    let events = read_all(&stream, Sessions::One).unwrap();
    let Event::Tracks(entries) = &events[2] else { panic!("{events:?}") };
    let read: Vec<_> = entries.iter().map(|entry| entry.codec().unwrap()).collect();
    assert_eq!(read, [video.codec.clone(), audio.codec.clone()]);
    let Some(Event::Tags(last)) = events.last() else { panic!("{events:?}") };
    assert!(last[0].is_end_of_fragment() && last[0].value.is_empty());
}

struct Hex<'a>(&'a [u8]);

impl std::fmt::LowerHex for Hex<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

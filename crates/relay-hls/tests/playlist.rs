//! The lexer: what m3u8-rs reads it reads alike, what m3u8-rs loses it keeps, and any bytes are read without a panic.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::prelude::*;
use relay_hls::proto::{
    Answer, Cause, Class, Event, FetchId, Head, HintKind, MediaPlaylist, Method, Options, Output, Planner,
    PlaylistError, Room, SEGMENTS_MAX, Span, reason,
};
use url::Url;

fn url() -> Url {
    Url::parse("http://origin/a/live.m3u8?token=1").unwrap()
}

fn parse(text: &str) -> MediaPlaylist {
    MediaPlaylist::parse(text.as_bytes(), &url()).unwrap()
}

const LOW_LATENCY: &str = "\
#EXTM3U
#EXT-X-TARGETDURATION:4
#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=1.0,CAN-SKIP-UNTIL=24.0,HOLD-BACK=12
#EXT-X-PART-INF:PART-TARGET=0.334
#EXT-X-MEDIA-SEQUENCE:266
#EXT-X-MAP:URI=\"init.mp4\"
#EXT-X-KEY:METHOD=AES-128,URI=\"1.key\",IV=0x10
#EXT-X-PROGRAM-DATE-TIME:2026-11-21T02:30:00Z
#EXTINF:4.5,first
266.mp4
#EXT-X-KEY:METHOD=NONE
#EXT-X-PART:DURATION=0.334,URI=\"267.mp4\",BYTERANGE=\"20@0\",INDEPENDENT=YES
#EXT-X-PART:DURATION=0.334,URI=\"267.mp4\",BYTERANGE=30
#EXTINF:4,
267.mp4
#EXT-X-DISCONTINUITY
#EXT-X-PART:DURATION=0.3,URI=\"268.0.mp4\",GAP=YES
#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"268.1.mp4\",BYTERANGE-START=7
#EXT-X-PRELOAD-HINT:TYPE=MAP,URI=\"next.mp4\"
#EXT-X-RENDITION-REPORT:URI=\"../b/live.m3u8\",LAST-MSN=267
";

#[test]
fn low_latency_tags_stay_where_they_are() {
    let list = parse(LOW_LATENCY);
    assert_eq!((list.media_sequence, list.end(), list.target_duration), (266, 268, Duration::from_secs(4)));
    assert!(list.control.can_block_reload);
    assert_eq!(list.control.can_skip_until, Some(Duration::from_secs(24)));
    assert_eq!(list.part_target, Some(Duration::from_millis(334)));
    let [first, second] = &list.segments[..] else { unreachable!() };
    assert_eq!(first.key.as_ref().unwrap().method, Method::Aes128);
    assert_eq!(first.key.as_ref().unwrap().iv.unwrap()[15], 0x10);
    assert!(second.key.is_none() && second.map == first.map && !second.discontinuity);
    assert_eq!(second.wall.unwrap().nanos_since(first.wall.unwrap()), 4_500_000_000);
    let spans: Vec<_> = second.parts.iter().map(|part| part.span.unwrap()).collect();
    assert_eq!(spans, [Span { offset: 0, length: 20 }, Span { offset: 20, length: 30 }]);
    let pending = &list.pending;
    assert!(pending.discontinuity && pending.parts[0].gap && pending.map.is_some());
    let hints: Vec<_> = pending.hints.iter().map(|hint| (hint.kind, hint.start)).collect();
    assert_eq!(hints, [(HintKind::Part, 7), (HintKind::Map, 0)]);
}

#[test]
fn delta_updates_are_joined() {
    let known = parse(LOW_LATENCY);
    let delta = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:266\n#EXT-X-SKIP:SKIPPED-SEGMENTS=2\n";
    let more = format!("{delta}#EXTINF:4,\n268.mp4\n#EXT-X-MAP:URI=\"other.mp4\"\n#EXTINF:4,\n269.mp4\n");
    let joined = parse(&more).merge(Some(&known)).unwrap();
    assert_eq!((joined.segments.len(), joined.skipped, joined.end()), (4, 0, 270));
    assert_eq!(joined.segments[2].map, known.segments[1].map);
    assert_eq!(joined.segments[3].map.as_ref().unwrap().uri, "other.mp4");
    assert_eq!(joined.segments[2].wall.unwrap().nanos_since(known.segments[1].wall.unwrap()), 4_000_000_000);
    assert!(parse(&more).merge(None).is_err());
    let late = more.replace("SEQUENCE:266", "SEQUENCE:260");
    assert!(parse(&late).merge(Some(&known)).is_err());
    assert_eq!(known.clone().merge(None).unwrap(), known);
}

#[test]
fn odd_playlists() {
    let list = |text: &str| MediaPlaylist::parse(text.as_bytes(), &url());
    let body = "#EXTINF:4,\na.ts\n";
    for (text, expected) in [
        (format!("#EXTM3U\n#EXT-X-TARGETDURATION:4\n{body}"), Ok(1)),
        (format!("\u{feff}#EXTM3U \r\n#EXT-X-TARGETDURATION:4.5\r\n{}", body.replace('\n', "\r\n")), Ok(1)),
        (format!("#EXTM3U\n{body}a.ts\n# a comment\n\n#EXT-X-UNHEARD-OF:1\n{body}"), Ok(3)),
        ("#EXTM3U\n#EXT-X-ENDLIST\n".to_owned(), Ok(0)),
        ("#EXTM3U\n".to_owned(), Err("the playlist is empty")),
        ("<html>".to_owned(), Err("no playlist: it begins with \"<html>\"")),
        (
            format!("#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:x\n{body}"),
            Err("line 2 of the playlist: \"#EXT-X-MEDIA-SEQUENCE:x\""),
        ),
        (
            format!("#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:99999999999999999999\n{body}"),
            Err("line 2 of the playlist: \"#EXT-X-MEDIA-SEQUENCE:99999999999999999999\""),
        ),
        (
            "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\na\n".to_owned(),
            Err("a master playlist where a media playlist was expected"),
        ),
        (
            format!("#EXTM3U\n{}", body.repeat(SEGMENTS_MAX + 1)),
            Err("the playlist lists more than 65536 segments or 4096 parts"),
        ),
    ] {
        let found = list(&text).map(|list| list.segments.len()).map_err(|error| error.to_string());
        assert_eq!(found, expected.map_err(str::to_owned), "{:.200}", text);
    }
    let large = "#EXTM3U\n".to_owned() + &"#".repeat(5 << 20);
    assert_eq!(list(&large), Err(PlaylistError::TooLarge));
    let defined = "#EXTM3U\n#EXT-X-DEFINE:QUERYPARAM=\"token\"\n#EXTINF:4,\na.ts?t={$token}\n";
    assert_eq!(list(defined).unwrap().segments[0].uri, "a.ts?t=1");
    // 28 digits of a date, a key in two formats, an IV that is none: each is as if it were not there.
    let strange =
        "#EXTM3U\n#EXT-X-PROGRAM-DATE-TIME:never\n#EXT-X-KEY:METHOD=SAMPLE-AES,URI=\"k\",IV=0xZZ\n#EXTINF:4,\na\n";
    let strange = list(strange).unwrap();
    assert_eq!(strange.segments[0].wall, None);
    assert_eq!(strange.segments[0].key.as_ref().unwrap().method, Method::Other("SAMPLE-AES".into()));
}

/// One segment of a made-up playlist.
#[derive(Clone, Debug)]
struct Made {
    tenths: u64,
    name: u8,
    discontinuity: bool,
    gap: bool,
    range: Option<(u16, u16)>,
    key: Option<u8>,
}

fn made() -> impl Strategy<Value = Made> {
    let range = prop::option::of((1_u16.., any::<u16>()));
    (1_u64..100, any::<u8>(), any::<bool>(), any::<bool>(), range, prop::option::of(any::<u8>())).prop_map(
        |(tenths, name, discontinuity, gap, range, key)| Made { tenths, name, discontinuity, gap, range, key },
    )
}

fn text_of(sequence: u64, segments: &[Made], ends: bool, line_end: &str) -> String {
    let mut text = format!("#EXTM3U\n#EXT-X-VERSION:4\n#EXT-X-TARGETDURATION:10\n#EXT-X-MEDIA-SEQUENCE:{sequence}\n");
    for segment in segments {
        let tags = [
            segment.discontinuity.then(|| "#EXT-X-DISCONTINUITY\n".to_owned()),
            segment.gap.then(|| "#EXT-X-GAP\n".to_owned()),
            segment.key.map(|key| format!("#EXT-X-KEY:METHOD=AES-128,URI=\"{key}.key\"\n")),
            segment.range.map(|(length, offset)| format!("#EXT-X-BYTERANGE:{length}@{offset}\n")),
        ];
        text.extend(tags.into_iter().flatten());
        text += &format!("#EXTINF:{}.{},a title\n{}.ts\n", segment.tenths / 10, segment.tenths % 10, segment.name);
    }
    text += if ends { "#EXT-X-ENDLIST\n" } else { "" };
    text.replace('\n', line_end)
}

proptest! {
    #[test]
    fn plain_playlists_read_as_m3u8_rs_reads_them(
        sequence in 0_u64..1 << 60,
        segments in prop::collection::vec(made(), 1..20),
        ends: bool,
        dos: bool,
    ) {
        let text = text_of(sequence, &segments, ends, if dos { "\r\n" } else { "\n" });
        let ours = parse(&text);
        let theirs = m3u8_rs::parse_media_playlist_res(text.as_bytes()).unwrap();
        prop_assert_eq!(ours.media_sequence, theirs.media_sequence);
        prop_assert_eq!(ours.ended, theirs.end_list);
        prop_assert_eq!(ours.target_duration.as_secs(), theirs.target_duration);
        prop_assert_eq!(ours.segments.len(), theirs.segments.len());
        let mut key = None;
        for (our, their) in ours.segments.iter().zip(&theirs.segments) {
            prop_assert_eq!(&our.uri, &their.uri);
            prop_assert_eq!(our.discontinuity, their.discontinuity);
            prop_assert!((our.duration.as_secs_f32() - their.duration).abs() < 0.001);
            let span = their.byte_range.as_ref().map(|range| (range.length, range.offset.unwrap()));
            prop_assert_eq!(our.span.map(|span| (span.length, span.offset)), span);
            prop_assert_eq!(our.gap, their.unknown_tags.iter().any(|tag| tag.tag == "X-GAP"));
            // There, only the segment with the tag tells.
            key = their.key.as_ref().and_then(|key| key.uri.clone()).or(key);
            prop_assert_eq!(our.key.as_ref().map(|key| &key.uri), key.as_ref());
        }
    }

    #[test]
    fn any_bytes_and_any_tags_are_read(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        lines in prop::collection::vec(0_usize..LOW_LATENCY.len(), 0..40),
        cut in 0_usize..60,
    ) {
        let _ = MediaPlaylist::parse(&bytes, &url());
        let all: Vec<_> = LOW_LATENCY.lines().collect();
        let mut text = "#EXTM3U\n".to_owned();
        for line in lines {
            let line = all[line % all.len()];
            text += line.get(..cut).unwrap_or(line);
            text += "\n";
        }
        if let Ok(list) = MediaPlaylist::parse(text.as_bytes(), &url()) {
            let _ = list.merge(Some(&parse(LOW_LATENCY)));
        }
    }

    /// Whatever comes: no panic, no request without an end, time passes, and what is held stays small.
    #[test]
    fn any_answers(
        steps in prop::collection::vec((0_u8..12, 0_u64..5_000, prop::collection::vec(any::<u8>(), 0..40)), 1..120),
        seed: u64,
    ) {
        #[expect(clippy::disallowed_methods, reason = "any instant does")]
        let mut now = Instant::now();
        let mut planner = Planner::new(now, url(), Options { seed, ..Options::default() });
        let mut open: Vec<FetchId> = Vec::new();
        for (kind, wait, bytes) in steps {
            let mut outputs = 0;
            while let Some(output) = planner.poll_output() {
                outputs += 1;
                match output {
                    Output::Fetch(fetch) => open.push(fetch.id),
                    Output::Cancel(id) => open.retain(|known| *known != id),
                    Output::Event(Event::Bytes { bytes, .. }) => prop_assert!(!bytes.is_empty()),
                    Output::Event(_) => {}
                }
            }
            prop_assert!(outputs < 1_000 && open.len() <= 4, "{} outputs, {} open", outputs, open.len());
            let due = planner.poll_timeout();
            prop_assert!(due.is_none_or(|due| due > now) || !open.is_empty() || outputs > 0, "nothing waits for anything");
            now += Duration::from_millis(wait);
            let text = LOW_LATENCY.replace("266", &(u64::from(kind) * 7 + wait / 100).to_string());
            let vod = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\na\n#EXT-X-GAP\n#EXTINF:1,\nb\n#EXT-X-ENDLIST\n";
            let master = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nx.m3u8\n#EXT-X-STREAM-INF:BANDWIDTH=2\nlive.m3u8\n";
            let body = match kind {
                0..=3 => text.into_bytes(),
                4 => vod.into(),
                5 => master.into(),
                6 => [&[0x47], &bytes[..]].concat(),
                _ => bytes,
            };
            let status = [200, 200, 200, 206, 403, 404, 503][usize::from(kind) % 7];
            match (open.pop(), kind) {
                (Some(id), 11) => {
                    let cause = Cause { reason: reason::RESET, text: String::new(), class: Class::Cheap };
                    planner.handle_input(now, id, Answer::Failed(cause));
                }
                (Some(id), _) => {
                    let head = Head { status, range: Some((wait, None)).filter(|_| kind == 9), ..Head::default() };
                    planner.handle_input(now, id, Answer::Head(head));
                    planner.handle_input(now, id, Answer::Body(Bytes::from(body)));
                    planner.handle_input(now, id, Answer::End);
                }
                (None, _) => planner.handle_timeout(now),
            }
            planner.set_room(now, if kind == 8 { Room::Full } else { Room::Free });
        }
    }
}

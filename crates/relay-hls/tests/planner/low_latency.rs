//! Low-latency HLS: parts, blocking reloads, hints, delta updates.

use std::time::Duration;

use bytes::Bytes;
use relay_hls::proto::{Answer, Fetch, Head, Joint, Options, What, reason};

use crate::{
    origin::{Millis, Origin, plain},
    world::play,
};

const TARGET: Millis = 2_000;
const PART: Millis = 500;
const PARTS: u64 = TARGET / PART;
const LATENCY: Millis = 20;
const PART_BYTES: usize = 188 * 10;
const FIRST: u64 = 100;
const WINDOW: u64 = 8;

/// An origin of four parts a segment.
#[derive(Clone, Copy, Debug, Default)]
struct Parts {
    /// Parts get 404 between these times.
    lost: (Millis, Millis),
    /// Every fourth playlist is a segment and a half old.
    is_stale: bool,
    /// Blocking requests are answered at once.
    does_not_block: bool,
}

impl Parts {
    /// How many parts there are at a time, since the first segment.
    fn made_at(now: Millis) -> u64 {
        WINDOW * PARTS + now / PART
    }

    fn ready_at(part: u64) -> Millis {
        part.saturating_sub(WINDOW * PARTS) * PART
    }

    fn media(part: u64) -> Vec<u8> {
        let mut bytes = vec![0x47];
        bytes.extend_from_slice(&0_u64.to_be_bytes());
        bytes.extend_from_slice(&(part / PARTS + FIRST).to_be_bytes());
        bytes.extend_from_slice(&part.to_be_bytes());
        bytes.resize(PART_BYTES, part as u8);
        bytes
    }

    fn playlist(made: u64, skips: bool) -> String {
        let (whole, more) = (made / PARTS, made % PARTS);
        let first = whole - WINDOW;
        let skipped = if skips { WINDOW - 4 } else { 0 };
        let mut text = format!(
            "#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-TARGETDURATION:2\n#EXT-X-PART-INF:PART-TARGET=0.5\n\
             #EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=1.5,CAN-SKIP-UNTIL=12\n\
             #EXT-X-MEDIA-SEQUENCE:{}\n",
            first + FIRST
        );
        if skips {
            text += &format!("#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}\n");
        }
        let part = |part: u64| format!("#EXT-X-PART:DURATION=0.5,URI=\"{part}.part\"\n");
        for segment in first + skipped..whole {
            if segment + 3 >= whole {
                text.extend((segment * PARTS..(segment + 1) * PARTS).map(part));
            }
            text += &format!("#EXTINF:2,\n{}.ts\n", segment + FIRST);
        }
        text.extend((made - more..made).map(part));
        text + &format!("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"{made}.part\"\n")
    }
}

impl Origin for Parts {
    fn answer(&self, now: Millis, fetch: &Fetch, asked: usize) -> Vec<(Millis, Answer)> {
        let at = now + LATENCY;
        let number = |key: &str| fetch.url.query_pairs().find(|(found, _)| found == key)?.1.parse::<u64>().ok();
        let name = fetch.url.path().trim_start_matches('/').to_owned();
        let (stem, kind) = name.rsplit_once('.').unwrap();
        let media = |at: Millis, bytes: &[u8]| {
            let head = Head { status: 200, length: Some(bytes.len() as u64), ..Head::default() };
            vec![(at, Answer::Head(head)), (at + 1, Answer::Body(Bytes::copy_from_slice(bytes))), (at + 2, Answer::End)]
        };
        match (fetch.what, kind) {
            (What::Playlist, _) => {
                let wanted = number("_HLS_msn").map(|msn| (msn - FIRST) * PARTS + number("_HLS_part").unwrap_or(0) + 1);
                let at = wanted.filter(|_| !self.does_not_block).map_or(at, |made| at.max(Self::ready_at(made)));
                let skips = fetch.url.query().is_some_and(|query| query.contains("_HLS_skip=YES"));
                let old = if self.is_stale && asked % 4 == 3 && at > 4_000 { PARTS * 3 / 2 } else { 0 };
                plain(at, 200, "text/plain", Self::playlist(Self::made_at(at) - old, skips).as_bytes())
            }
            (_, "part") if (self.lost.0..self.lost.1).contains(&at) => plain(at, 404, "text/html", b"<html>"),
            (_, "part") => {
                let part: u64 = stem.parse().unwrap();
                media(at.max(Self::ready_at(part + 1)), &Self::media(part))
            }
            _ => {
                let segment = stem.parse::<u64>().unwrap() - FIRST;
                let bytes: Vec<u8> = (segment * PARTS..(segment + 1) * PARTS).flat_map(Self::media).collect();
                media(at, &bytes)
            }
        }
    }
}

#[test]
fn parts_come_as_they_are_made() {
    for (name, origin) in [
        ("nothing is wrong", Parts::default()),
        ("reloads don't block", Parts { does_not_block: true, ..Parts::default() }),
        ("old copies from a cache", Parts { is_stale: true, ..Parts::default() }),
        ("parts are lost", Parts { lost: (10_000, 15_000), ..Parts::default() }),
    ] {
        let story = play(&origin, "http://origin/live.m3u8", Options::default(), 60_000);
        let context = format!("{name}: {:?}", story.reasons.iter().take(20).collect::<Vec<_>>());
        assert!(story.requests < 1_500, "{context}: {} requests", story.requests);
        let mut last: Option<u64> = None;
        for taken in story.taken.iter().filter(|taken| taken.whole) {
            let index = taken.id().index;
            let first = (index - FIRST) * PARTS;
            let expected: Vec<u8> = (first..first + PARTS).flat_map(Parts::media).collect();
            assert!(taken.bytes == expected, "{context}: the bytes of {index}");
            assert!(last.is_none_or(|last| last + 1 == index), "{context}: {index} after {last:?}");
            last = Some(index);
            if name == "nothing is wrong" && index > FIRST + WINDOW {
                let made = Parts::ready_at(first + 1);
                assert!(taken.at <= made + 200, "{context}: {index} made at {made}, here at {}", taken.at);
            }
        }
        assert!(last.unwrap() >= FIRST + WINDOW + 27, "{context}: {last:?}");
        if name == "parts are lost" {
            assert!(story.reasons.iter().any(|(_, found)| *found == reason::HTTP_404), "{context}");
            assert!(story.taken.iter().all(|taken| taken.begin.joint == Joint::Seamless), "{context}");
        }
    }
    let plain = play(
        &Parts::default(),
        "http://origin/live.m3u8",
        Options { low_latency: false, live_edge: Some(Duration::from_secs(6)), ..Options::default() },
        60_000,
    );
    assert!(plain.requests < 80, "{} requests", plain.requests);
}

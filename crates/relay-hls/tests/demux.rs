//! Segments that ffmpeg wrote, as the planner hands them out: every unit once, whatever is cut and comes again.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::{path::PathBuf, process::Command, sync::Arc, time::Duration};

use bytes::Bytes;
use relay_hls::{
    Demuxer, Unit,
    proto::{Begin, Event, Joint, MediaPlaylist, Rendition},
};
use relay_media::{Flags, Kind, UtcTime};
use url::Url;

/// Six seconds in two-second segments: 25 pictures a second, a key frame each second, B-frames.
const PICTURES: usize = 150;

struct Clip {
    dir: PathBuf,
    map: Option<Arc<Bytes>>,
    segments: Vec<Bytes>,
}

impl Drop for Clip {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

impl Clip {
    fn new(name: &str, codec: &str, arguments: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("relay-hls-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let all = format!(
            "-v error -f lavfi -i testsrc2=size=160x120:rate=25 -f lavfi -i sine=440:sample_rate=48000 -t 6 {codec} \
             -pix_fmt yuv420p -g 25 -bf 2 -c:a aac -f hls -hls_time 2 -hls_playlist_type vod {arguments} -y a.m3u8"
        );
        let status = Command::new("ffmpeg").args(all.split_whitespace()).current_dir(&dir).status().unwrap();
        assert!(status.success(), "ffmpeg {all}");
        let read = |name: &str| Bytes::from(std::fs::read(dir.join(name)).unwrap());
        let list = MediaPlaylist::parse(&read("a.m3u8"), &Url::parse("http://a/a.m3u8").unwrap()).unwrap();
        let map = list.segments[0].map.as_ref().map(|map| Arc::new(read(&map.uri)));
        let segments = list.segments.iter().map(|segment| read(&segment.uri)).collect();
        Self { dir, map, segments }
    }

    fn begin(&self, sequence: u64, joint: Joint) -> Begin {
        Begin {
            rendition: Rendition::Main,
            sequence,
            joint,
            overlap: false,
            wall: Some(UtcTime::from_unix_nanos(sequence.cast_signed() * 2_000_000_000)),
            duration: Duration::from_secs(2),
            map: self.map.clone(),
            variant: 0,
        }
    }
}

fn feed(demuxer: &mut Demuxer, begin: Begin, bytes: &Bytes, whole: bool) -> Vec<Unit> {
    let rendition = Rendition::Main;
    demuxer.handle(&Event::Begin(begin)).unwrap();
    let mut units = Vec::new();
    for at in (0..bytes.len()).step_by(1_111) {
        let bytes = bytes.slice(at..(at + 1_111).min(bytes.len()));
        demuxer.handle(&Event::Bytes { rendition, bytes }).unwrap();
        units.extend(std::iter::from_fn(|| demuxer.poll()));
    }
    demuxer.handle(&Event::End { rendition, whole }).unwrap();
    units.extend(std::iter::from_fn(|| demuxer.poll()));
    units
}

fn pictures(units: &[Unit]) -> Vec<&Unit> {
    units.iter().filter(|unit| unit.kind == Kind::Video).collect()
}

fn check_rising(name: &str, units: &[Unit]) {
    for kind in [Kind::Video, Kind::Audio] {
        let times: Vec<_> = units.iter().filter(|unit| unit.kind == kind).map(|unit| unit.dts.nanos()).collect();
        assert!(times.is_sorted_by(|one, other| one < other), "{name}: {kind:?}");
    }
}

#[test]
fn every_unit_comes_once() {
    for (name, codec, arguments) in [
        ("ts", "-c:v libx264", ""),
        ("fmp4", "-c:v libx264", "-hls_segment_type fmp4"),
        ("ts-h265", "-c:v libx265 -x265-params log-level=error:open-gop=0", ""),
        ("fmp4-h265", "-c:v libx265 -x265-params log-level=error:open-gop=0 -tag:v hvc1", "-hls_segment_type fmp4"),
    ] {
        let clip = Clip::new(name, codec, arguments);
        let all = |demuxer: &mut Demuxer| -> Vec<Unit> {
            let segments = clip.segments.iter().zip(0..);
            segments.flat_map(|(bytes, n)| feed(demuxer, clip.begin(n, Joint::Seamless), bytes, true)).collect()
        };
        let whole = all(&mut Demuxer::default());
        assert_eq!(pictures(&whole).len(), PICTURES, "{name}");
        check_rising(name, &whole);
        let joints = whole.iter().filter(|unit| unit.joint > Joint::Seamless).count();
        assert_eq!(joints, 2, "{name}: the first of each stream");
        assert_eq!(whole.iter().filter(|unit| unit.codec.is_some()).count(), 2, "{name}");
        for unit in &whole {
            let since = i128::from(unit.wall.unwrap().unix_nanos());
            assert!((0..6_300_000_000).contains(&since) || since > -100_000_000, "{name}: {since}");
        }

        // The second segment breaks off, and comes again from its beginning.
        let mut demuxer = Demuxer::default();
        let mut units = feed(&mut demuxer, clip.begin(0, Joint::Seamless), &clip.segments[0], true);
        let cut = clip.segments[1].slice(..clip.segments[1].len() * 3 / 5);
        units.extend(feed(&mut demuxer, clip.begin(1, Joint::Seamless), &cut, false));
        let before = pictures(&units).len();
        assert!((51..100).contains(&before), "{name}: {before}");
        let again = Begin { overlap: true, ..clip.begin(1, Joint::Seamless) };
        units.extend(feed(&mut demuxer, again, &clip.segments[1], true));
        units.extend(feed(&mut demuxer, clip.begin(2, Joint::Seamless), &clip.segments[2], true));
        check_rising(name, &units);
        assert_eq!(pictures(&units).len(), PICTURES, "{name}: what was known is not told again");

        // The second segment is short, and the origin takes it for whole: nothing cut comes out of it.
        let known: Vec<&Bytes> = pictures(&whole).iter().map(|unit| &unit.payload).collect();
        let begins = clip.segments[1].len() * 3 / 5 / 188 * 188;
        for length in (begins..begins + 188 * 20).step_by(94) {
            let mut demuxer = Demuxer::default();
            feed(&mut demuxer, clip.begin(0, Joint::Seamless), &clip.segments[0], true);
            let rendition = Rendition::Main;
            demuxer.handle(&Event::Begin(clip.begin(1, Joint::Seamless))).unwrap();
            demuxer.handle(&Event::Bytes { rendition, bytes: clip.segments[1].slice(..length) }).unwrap();
            let is_proper = demuxer.handle(&Event::End { rendition, whole: true }).is_ok();
            assert!(!is_proper || name.starts_with("ts") && length % 188 == 0, "{name}: {length}");
            let units: Vec<Unit> = std::iter::from_fn(|| demuxer.poll()).collect();
            let found = pictures(&units);
            assert!((10..=50).contains(&found.len()), "{name}: {}", found.len());
            for unit in found {
                assert!(known.contains(&&unit.payload), "{name}: a cut unit after {length} bytes");
            }
        }

        // The second segment is lost.
        let mut demuxer = Demuxer::default();
        let mut units = feed(&mut demuxer, clip.begin(0, Joint::Seamless), &clip.segments[0], true);
        units.extend(feed(&mut demuxer, clip.begin(2, Joint::Loss), &clip.segments[2], true));
        let found = pictures(&units);
        assert_eq!(found.len(), PICTURES - 50, "{name}");
        assert!(found[50].joint == Joint::Loss && found[50].flags.contains(Flags::KEY), "{name}");

        // Another variant takes over in the middle: it begins with a key frame.
        let mut demuxer = Demuxer::default();
        let mut units = feed(&mut demuxer, clip.begin(0, Joint::Seamless), &clip.segments[0], true);
        units.extend(feed(&mut demuxer, clip.begin(1, Joint::Seamless), &cut, false));
        let known = pictures(&units).len();
        let other = Begin { overlap: true, variant: 1, ..clip.begin(1, Joint::Seamless) };
        units.extend(feed(&mut demuxer, other, &clip.segments[1], true));
        check_rising(name, &units);
        let found = pictures(&units);
        assert!(found.get(known).is_none_or(|unit| unit.flags.contains(Flags::KEY)), "{name}");
    }
}

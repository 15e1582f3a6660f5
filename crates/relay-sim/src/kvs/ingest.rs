//! The body of a PutMedia call by the documented rules: bytes in, fragments and errors out.
//!
//! Error numbers are those of the service's documentation; where that is silent about a breach, it is 4006.

use std::{
    collections::{BTreeMap, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
};

use relay_media::stamp::Stamp;
use relay_mkv::{Block, Event, Reader, Sessions, Tag, TrackEntry, TrackMedia};

use super::Limits;

/// Tracks of a session ("more than allowed tracks found").
const TRACKS_MAX: usize = 3;
/// Tags of a fragment that count: ten, with names of at most 128 bytes and values of at most 256.
const TAGS_MAX: usize = 10;
const TAG_NAME_MAX: usize = 128;
const TAG_VALUE_MAX: usize = 256;
/// Tags that have the service's prefix and may be sent all the same.
const OWN_TAGS: [&str; 3] =
    ["AWS_KINESISVIDEO_IMAGE_GENERATION", "AWS_KINESISVIDEO_IMAGE_PREFIX", "AWS_KINESISVIDEO_NOTIFICATION"];

/// What the bytes came to.
#[derive(Debug)]
pub(super) enum Said {
    /// A fragment begins.
    Began { timecode_ms: u64 },
    /// It is all there.
    Whole(Box<Media>),
    /// It is wrong, and so is all that follows.
    Wrong { id: u32, why: String },
}

/// What is in a fragment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Media {
    pub(super) timecode_ms: u64,
    /// Of its last frame.
    pub(super) end_ms: u64,
    /// The counters of its pictures, those that are stamped.
    pub(super) counters: Vec<u64>,
    pub(super) pictures: usize,
    pub(super) sounds: usize,
    pub(super) bytes: u64,
    pub(super) hash: u64,
    /// When its first stamped picture was made.
    pub(super) first_utc_nanos: Option<i64>,
}

/// One body.
#[derive(Debug)]
pub(super) struct Ingest {
    reader: Reader,
    limits: Limits,
    scale_ns: u64,
    tracks: BTreeMap<u64, bool>,
    open: Option<Open>,
    /// The latest frame of the fragments before.
    last_ms: Option<u64>,
    tags: usize,
    fed: u64,
    is_over: bool,
}

#[derive(Debug)]
struct Open {
    offset: u64,
    media: Media,
    hash: DefaultHasher,
    /// Frames of each track.
    seen: BTreeMap<u64, usize>,
}

/// A breach: its number and what it is.
type Breach = (u32, String);

impl Ingest {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            reader: Reader::new(Sessions::One),
            limits,
            scale_ns: 1_000_000,
            tracks: BTreeMap::new(),
            open: None,
            last_ms: None,
            tags: 0,
            fed: 0,
            is_over: false,
        }
    }

    /// Takes the next bytes. After something wrong it takes no more.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<Said> {
        let mut said = Vec::new();
        if self.is_over {
            return said;
        }
        self.fed += bytes.len() as u64;
        self.reader.push(bytes);
        loop {
            let turn = match self.reader.poll() {
                Ok(Some((offset, event))) => self.event(offset, event, &mut said),
                Ok(None) => break,
                Err(error) => Err((of(&error), error.to_string())),
            };
            if let Err(breach) = turn {
                said.push(self.wrong(breach));
                return said;
            }
        }
        let size = self.open.as_ref().map_or(0, |open| self.fed - open.offset);
        if size > self.limits.fragment_bytes_max {
            said.push(self.wrong((4001, format!("a fragment of {size} bytes"))));
        }
        said
    }

    /// The body has ended as it should.
    pub(super) fn finish(&mut self) -> Vec<Said> {
        let mut said = Vec::new();
        if !self.is_over {
            let reader = std::mem::replace(&mut self.reader, Reader::new(Sessions::One));
            let ended = match reader.finish() {
                Ok(()) => self.close(self.fed, &mut said),
                // Nothing at all was sent.
                Err(_) if self.fed == 0 => Ok(()),
                Err(error) => Err((of(&error), error.to_string())),
            };
            if let Err(breach) = ended {
                said.push(self.wrong(breach));
            }
            self.is_over = true;
        }
        said
    }

    /// The time of the fragment under way, or of the one before.
    pub(super) fn timecode_ms(&self) -> u64 {
        self.open.as_ref().map(|open| open.media.timecode_ms).or(self.last_ms).unwrap_or(0)
    }

    fn wrong(&mut self, (id, why): Breach) -> Said {
        self.is_over = true;
        Said::Wrong { id, why }
    }

    fn event(&mut self, offset: u64, event: Event, said: &mut Vec<Said>) -> Result<(), Breach> {
        match event {
            Event::Session(_) => {}
            Event::Info(info) => self.scale_ns = info.timecode_scale_ns,
            Event::Tracks(tracks) => self.tracks(&tracks)?,
            Event::Cluster { timecode } => {
                self.close(offset, said)?;
                let timecode_ms = self.ms(timecode);
                if self.last_ms.is_some_and(|last| timecode_ms <= last) {
                    let last = self.last_ms.unwrap_or(0);
                    return Err((4004, format!("a fragment at {timecode_ms} ms behind a frame at {last} ms")));
                }
                let media = Media { timecode_ms, end_ms: timecode_ms, ..Media::default() };
                self.open = Some(Open { offset, media, hash: DefaultHasher::new(), seen: BTreeMap::new() });
                self.tags = 0;
                said.push(Said::Began { timecode_ms });
            }
            Event::Block(block) => self.block(&block)?,
            Event::Tags(tags) => {
                self.close(offset, said)?;
                tags.iter().filter(|tag| !tag.is_end_of_fragment()).try_for_each(|tag| self.tag(tag))?;
            }
        }
        Ok(())
    }

    fn ms(&self, ticks: u64) -> u64 {
        let ms = u128::from(ticks) * u128::from(self.scale_ns) / 1_000_000;
        u64::try_from(ms).unwrap_or(u64::MAX)
    }

    fn tracks(&mut self, tracks: &[TrackEntry]) -> Result<(), Breach> {
        if tracks.len() > TRACKS_MAX {
            return Err((4012, format!("{} tracks", tracks.len())));
        }
        let is_video = |track: &TrackEntry| matches!(track.media, TrackMedia::Video { .. });
        self.tracks = tracks.iter().map(|track| (track.number, is_video(track))).collect();
        Ok(())
    }

    fn tag(&mut self, tag: &Tag) -> Result<(), Breach> {
        self.tags += 1;
        let is_foreign = tag.name.starts_with("AWS") && !OWN_TAGS.contains(&tag.name.as_str());
        if self.tags > TAGS_MAX || tag.name.len() > TAG_NAME_MAX || tag.value.len() > TAG_VALUE_MAX || is_foreign {
            return Err((4009, format!("tag {} is {:?}", self.tags, tag.name)));
        }
        Ok(())
    }

    fn block(&mut self, block: &Block) -> Result<(), Breach> {
        let ms = u64::try_from(block.timecode).map_err(|_| (4006, "a time before 1970".to_owned()))?;
        let ms = self.ms(ms);
        let Some(open) = &mut self.open else { return Err((4006, "a frame outside of a fragment".into())) };
        let is_video = self.tracks.get(&block.track).copied().unwrap_or(false);
        let Some(into) = ms.checked_sub(open.media.timecode_ms) else {
            return Err((4006, "a frame before its fragment".into()));
        };
        if u128::from(into) > self.limits.fragment_max.as_millis() {
            return Err((4002, format!("a frame {into} ms into its fragment")));
        }
        let seen = open.seen.entry(block.track).or_default();
        if is_video && *seen == 0 && !block.is_key {
            return Err((4006, "a fragment whose first picture is no key frame".into()));
        }
        *seen += 1;
        open.media.end_ms = open.media.end_ms.max(ms);
        (block.track, ms).hash(&mut open.hash);
        block.payload.hash(&mut open.hash);
        if !is_video {
            open.media.sounds += 1;
            return Ok(());
        }
        open.media.pictures += 1;
        if let Some(stamp) = Stamp::find(&block.payload) {
            open.media.counters.push(stamp.counter);
            open.media.first_utc_nanos.get_or_insert(stamp.utc_nanos);
        }
        Ok(())
    }

    /// The fragment under way ends before `offset`.
    fn close(&mut self, offset: u64, said: &mut Vec<Said>) -> Result<(), Breach> {
        let Some(mut open) = self.open.take() else { return Ok(()) };
        if let Some(track) = self.tracks.keys().find(|track| !open.seen.contains_key(track)) {
            let why = format!("no frame of track {track}");
            self.open = Some(open);
            return Err((4011, why));
        }
        open.media.bytes = offset - open.offset;
        open.media.hash = open.hash.finish();
        if open.media.bytes > self.limits.fragment_bytes_max {
            let why = format!("a fragment of {} bytes", open.media.bytes);
            self.open = Some(open);
            return Err((4001, why));
        }
        self.last_ms = Some(open.media.end_ms);
        said.push(Said::Whole(Box::new(open.media)));
        Ok(())
    }
}

fn of(error: &relay_mkv::ReadError) -> u32 {
    match error.fault {
        relay_mkv::Fault::UnknownTrack(_) => 4010,
        _ => 4006,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use relay_media::{
        Codec, Flags, Packet, Timebase, Timestamp, Track, TrackId, UtcTime, Wall, WallOrigin, g711, h264,
    };
    use relay_mkv::{ClusterStart, Start, Writer};

    use super::*;

    /// One thing that a producer writes.
    #[derive(Clone, Copy)]
    enum Part {
        /// A fragment at this time.
        Cluster(u64),
        /// A key frame, another picture, sound, so many milliseconds into the fragment.
        Key(u64),
        Picture(u64),
        Sound(u64),
        /// So many tags of this name.
        Tags(usize, &'static str),
        /// Bytes as they are.
        Raw(&'static [u8]),
        /// A block of 100 kB.
        Large(u64),
    }

    const SPS: &[u8] = &[
        0x67, 0x42, 0xc0, 0x0d, 0xd9, 1, 0x41, 0xfb, 1, 0x10, 0, 0, 3, 0, 0x10, 0, 0, 3, 3, 0x20, 0xf1, 0x42, 0xa4,
        0x80,
    ];

    #[test]
    fn each_breach_has_its_number() {
        use Part::{Cluster, Key, Large, Picture, Raw, Sound, Tags};
        let whole = [Cluster(1_000), Key(0), Sound(0), Picture(40)];
        let rows: [(&str, &[Part], usize, u32); 12] = [
            ("good", &[Cluster(2_000), Key(0), Sound(0)], 2, 0),
            ("tags", &[Tags(10, "site"), Cluster(2_000), Key(0), Sound(0)], 2, 0),
            ("the end told", &[Tags(1, relay_mkv::END_OF_FRAGMENT), Cluster(2_000), Key(0), Sound(0)], 2, 0),
            ("too long", &[Cluster(2_000), Key(0), Sound(0), Picture(10_040)], 1, 4002),
            ("too large", &[Cluster(2_000), Key(0), Sound(0), Large(40), Large(80), Large(120)], 1, 4001),
            ("no later", &[Cluster(1_040), Key(0), Sound(0)], 1, 4004),
            ("no key frame", &[Cluster(2_000), Raw(&[0xa3, 0x85, 0x81, 0, 0, 0, 9])], 1, 4006),
            ("no sound", &[Cluster(2_000), Key(0), Picture(40), Cluster(3_000), Key(0)], 1, 4011),
            ("another track", &[Cluster(2_000), Key(0), Sound(0), Raw(&[0xa3, 0x85, 0x89, 0, 0, 0x80, 9])], 1, 4010),
            ("no Matroska", &[Raw(b"hello")], 0, 4006),
            ("the service's tag", &[Tags(1, "AWSsecret"), Cluster(2_000)], 1, 4009),
            ("a tag's name", &[Tags(1, "AWS_KINESISVIDEO_NOTIFICATION"), Cluster(2_000), Key(0), Sound(0)], 2, 0),
        ];
        for (name, parts, fragments, error) in rows {
            let bytes = write(&[&whole, parts].concat());
            for piece in [7, bytes.len()] {
                assert_eq!(read(&bytes, piece), (fragments, error), "{name} by {piece}");
            }
        }
    }

    fn read(bytes: &[u8], piece: usize) -> (usize, u32) {
        let mut ingest = Ingest::new(Limits { fragment_bytes_max: 250_000, ..Limits::default() });
        let mut said: Vec<Said> = bytes.chunks(piece).flat_map(|piece| ingest.push(piece)).collect();
        said.extend(ingest.finish());
        let error = said.iter().find_map(|said| if let Said::Wrong { id, .. } = said { Some(*id) } else { None });
        (said.iter().filter(|said| matches!(said, Said::Whole(_))).count(), error.unwrap_or(0))
    }

    fn write(parts: &[Part]) -> Vec<u8> {
        let track = |id, codec| Arc::new(Track { id: TrackId(id), codec, timebase: Timebase::new(1_000).unwrap() });
        let video = track(1, Codec::H264(h264::Config::parse(SPS, &[0x68, 0xcb, 0x83, 0xcb, 0x20]).unwrap()));
        let audio = track(2, Codec::G711(g711::Config { law: g711::Law::A, sample_rate: 8_000, channels: 1 }));
        let (mut writer, head) =
            Writer::new(Start { uid: [7; 16], tracks: vec![video.clone(), audio.clone()] }).unwrap();
        let (mut out, mut base) = (head.to_vec(), 0);
        for part in parts {
            let mut block = |track: &Arc<Track>, ms: u64, flags, len| {
                let time = Timestamp::new((base + ms) as i64, track.timebase);
                let packet = Packet {
                    track: track.clone(),
                    dts: time,
                    pts: time,
                    duration: None,
                    arrival: crate::clock::now(),
                    wall: Wall { utc: UtcTime::from_unix_nanos(0), origin: WallOrigin::Arrival },
                    flags,
                    payload: Bytes::from(vec![7; len]),
                };
                writer.block(&packet).unwrap().concat()
            };
            let bytes = match *part {
                Part::Cluster(timecode_ms) => {
                    base = timecode_ms;
                    let media = Timestamp::new(timecode_ms as i64, video.timebase);
                    // A writer refuses what a service must: a second one begins where the first would not go on.
                    match writer.begin_cluster(ClusterStart { timecode_ms, media }) {
                        Ok(bytes) => bytes.to_vec(),
                        Err(_) => cluster(timecode_ms),
                    }
                }
                Part::Key(ms) => block(&video, ms, Flags::KEY, 30),
                Part::Picture(ms) => block(&video, ms, Flags::empty(), 20),
                Part::Large(ms) => block(&video, ms, Flags::empty(), 100_000),
                Part::Sound(ms) => block(&audio, ms, Flags::empty(), 10),
                Part::Tags(count, name) => writer.tags(&vec![Tag::new(name, "value"); count]).unwrap().to_vec(),
                Part::Raw(bytes) => bytes.to_vec(),
            };
            out.extend(bytes);
        }
        out
    }

    /// A cluster of unknown size and its time.
    fn cluster(timecode_ms: u64) -> Vec<u8> {
        let head = [0x1f, 0x43, 0xb6, 0x75, 0xff, 0xe7, 0x88];
        [head.as_slice(), &timecode_ms.to_be_bytes()].concat()
    }
}

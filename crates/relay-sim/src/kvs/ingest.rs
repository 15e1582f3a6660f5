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

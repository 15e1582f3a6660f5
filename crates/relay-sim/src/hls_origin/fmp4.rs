//! Fragmented MP4 segments of a clip, by the product's own writer.

use std::{io, sync::Arc, time::Instant};

use bytes::Bytes;
use relay_media::{
    Codec, Flags, Packet, Timebase, Timestamp, Track, TrackId, UtcTime, Wall, WallOrigin, aac, h264, h265,
};
use relay_mp4::{Muxer, Run, Sample, Start};

use super::{sound, ts};
use crate::{
    clip::{Clip, Unit},
    clock, wire,
};

const SOUND_HZ: Timebase = Timebase::new(48_000).expect("48 kHz is not zero");

/// Writes segments of one clip.
#[derive(Debug)]
pub(crate) struct Fmp4Writer {
    tracks: Vec<Arc<Track>>,
    begun: Instant,
}

impl Fmp4Writer {
    /// A writer for `clip`.
    ///
    /// # Errors
    /// The clip's parameter sets are not understood.
    pub(crate) fn new(clip: &Clip, has_audio: bool) -> io::Result<Self> {
        let track = |id, codec, timebase| Arc::new(Track { id: TrackId(id), codec, timebase });
        let mut tracks = vec![track(1, codec(clip)?, Timebase::VIDEO)];
        if has_audio {
            let config = aac::Config::parse(&sound::CONFIG).map_err(io::Error::other)?;
            tracks.push(track(2, Codec::Aac(config), SOUND_HZ));
        }
        Ok(Self { tracks, begun: clock::now() })
    }

    fn muxer(&self) -> io::Result<(Muxer, Vec<u8>)> {
        let zero = Timestamp::new(0, Timebase::VIDEO);
        let start = Start { tracks: self.tracks.clone(), zero, presentation: zero, utc: UtcTime::from_unix_nanos(0) };
        Muxer::new(start).map_err(io::Error::other)
    }

    /// The initialisation section.
    ///
    /// # Errors
    /// None that a clip gives a reason for.
    pub(crate) fn init(&self) -> io::Result<Vec<u8>> {
        Ok(self.muxer()?.1)
    }

    /// A segment or a part of one: a fragment.
    ///
    /// # Errors
    /// It is larger than a fragment may be.
    pub(crate) fn write(&self, clip: &Clip, frames: &ts::Frames) -> io::Result<Vec<u8>> {
        let mut runs = Vec::new();
        for (index, track) in self.tracks.iter().enumerate() {
            let samples = if index == 0 { self.video(clip, track, frames) } else { self.sound(clip, track, frames) };
            runs.push(Run { track: index, samples });
        }
        let (muxer, _) = self.muxer()?;
        let fragment = muxer.fragment(&runs).map_err(io::Error::other)?;
        let mut out = fragment.header().to_vec();
        for sample in runs.iter().flat_map(|run| &run.samples) {
            out.extend_from_slice(&sample.packet.payload);
        }
        Ok(out)
    }

    fn video(&self, clip: &Clip, track: &Arc<Track>, frames: &ts::Frames) -> Vec<Sample> {
        let duration = 90_000 / clip.spec().fps.get();
        let sample = |nth| {
            let unit = clip.coded(frames.first + nth)?;
            let stamp = frames.stamp(clip, nth);
            let dts = Timestamp::new(frames.ticks_of(clip, nth).cast_signed(), Timebase::VIDEO);
            let nals = wire::stamp_nal(stamp, clip.spec().coding);
            let packet = Packet {
                track: track.clone(),
                dts,
                pts: dts.plus(i64::from(unit.composition * duration)),
                duration: Some(duration),
                arrival: self.begun,
                wall: wall(stamp.utc_nanos),
                flags: if unit.key { Flags::KEY } else { Flags::empty() },
                payload: length_prefixed(&nals, unit),
            };
            Some(Sample { packet: Arc::new(packet), duration })
        };
        (0..frames.count).filter_map(sample).collect()
    }

    fn sound(&self, clip: &Clip, track: &Arc<Track>, frames: &ts::Frames) -> Vec<Sample> {
        let duration = sound::FRAME_SAMPLES as u32;
        let sample = |(_, ticks): (u64, u64)| {
            let dts = Timestamp::new(ticks.cast_signed(), Timebase::VIDEO).rescale(SOUND_HZ);
            let packet = Packet {
                track: track.clone(),
                dts,
                pts: dts,
                duration: Some(duration),
                arrival: self.begun,
                wall: wall(frames.utc_nanos),
                flags: Flags::empty(),
                payload: Bytes::from_static(&sound::SILENCE),
            };
            Sample { packet: Arc::new(packet), duration }
        };
        sound::Frames::within(frames, clip).map(sample).collect()
    }
}

fn codec(clip: &Clip) -> io::Result<Codec> {
    match clip.parameter_sets() {
        [sps, pps] => h264::Config::parse(sps, pps).map(Codec::H264),
        [vps, sps, pps] => h265::Config::parse(vps, sps, pps).map(Codec::H265),
        _ => return Err(io::Error::other("a clip without parameter sets")),
    }
    .map_err(io::Error::other)
}

/// What a master playlist calls the codecs (RFC 6381).
pub(crate) fn codecs(clip: &Clip, has_audio: bool) -> String {
    let video = codec(clip).map_or("avc1".into(), |codec| codec.rfc6381());
    if has_audio { format!("{video},mp4a.40.2") } else { video }
}

fn wall(utc_nanos: i64) -> Wall {
    Wall { utc: UtcTime::from_unix_nanos(utc_nanos), origin: WallOrigin::Arrival }
}

/// NAL units behind 4-byte lengths: the stamp, then the picture.
fn length_prefixed(stamp: &[u8], unit: &Unit) -> Bytes {
    let mut out = Vec::new();
    for nal in [stamp].into_iter().chain(unit.nals.iter().map(AsRef::as_ref)) {
        out.extend((nal.len() as u32).to_be_bytes());
        out.extend_from_slice(nal);
    }
    out.into()
}

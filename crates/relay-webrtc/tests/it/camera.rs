//! A made-up stream: pictures of the right sizes at the right times, with Opus frames between them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use relay_media::{Codec, Flags, Packet, Timebase, Timestamp, Track, TrackId, UtcTime, Wall, WallOrigin, h264, opus};
use relay_webrtc::{Media, Packetizer, RtpUnit};

/// The bytes that hex digits spell.
pub(crate) fn hex(digits: &str) -> Vec<u8> {
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

/// 1280x720, Constrained Baseline, level 3.1: what x264 writes.
pub(crate) fn h264_track() -> Arc<Track> {
    let config = h264::Config::parse(&hex("6742c01fd9005005bb011000000300100000030320f1832480"), &hex("68cb83cb20"));
    Arc::new(Track { id: TrackId(1), codec: Codec::H264(config.unwrap()), timebase: Timebase::VIDEO })
}

pub(crate) fn opus_track() -> Arc<Track> {
    let timebase = Timebase::new(48_000).unwrap();
    Arc::new(Track { id: TrackId(2), codec: Codec::Opus(opus::Config { channels: 2 }), timebase })
}

/// How the camera's stream looks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scene {
    pub(crate) bps: usize,
    pub(crate) gop: Duration,
    pub(crate) sound: bool,
}

/// A camera that has been on since `start`.
pub(crate) struct Camera {
    scene: Scene,
    start: Instant,
    video: Arc<Track>,
    audio: Arc<Track>,
    packetizer: Packetizer,
    frames: u32,
    sounds: u32,
    /// Everything made so far.
    pub(crate) units: Vec<RtpUnit>,
    /// The packets that the units were made of.
    pub(crate) packets: Vec<Packet>,
}

const FRAME: Duration = Duration::from_millis(40);
const SOUND: Duration = Duration::from_millis(20);

impl Camera {
    pub(crate) fn new(scene: Scene, start: Instant) -> Self {
        Self {
            scene,
            start,
            video: h264_track(),
            audio: opus_track(),
            packetizer: Packetizer::new(),
            frames: 0,
            sounds: 0,
            units: Vec::new(),
            packets: Vec::new(),
        }
    }

    pub(crate) fn media(&self) -> Media {
        let audio = self.scene.sound.then(|| self.audio.clone());
        Media { video: Some(self.video.clone()), audio, reordered: false }
    }

    /// When a picture was made.
    pub(crate) fn made_at(&self, number: u32) -> Instant {
        self.start + FRAME * number
    }

    /// When the next unit is ready.
    pub(crate) fn next_at(&self) -> Instant {
        let video = self.start + FRAME * self.frames;
        if self.scene.sound { video.min(self.start + SOUND * self.sounds) } else { video }
    }

    /// Makes what is ready at `now`.
    pub(crate) fn run(&mut self, now: Instant) {
        while self.next_at() <= now {
            let at = self.next_at();
            let packet = if at == self.start + FRAME * self.frames { self.picture(at) } else { self.sound(at) };
            self.units.push(self.packetizer.packetize(&packet).unwrap());
            self.packets.push(packet);
        }
    }

    /// A picture of one slice: a key frame has eight times the bytes of another, as at 720p.
    fn picture(&mut self, at: Instant) -> Packet {
        let frames_per_gop = u32::try_from(self.scene.gop.as_millis() / FRAME.as_millis()).unwrap();
        let key = self.frames.is_multiple_of(frames_per_gop);
        let gop_bytes = self.scene.bps / 8 * usize::try_from(self.scene.gop.as_millis()).unwrap() / 1_000;
        let share = gop_bytes / usize::try_from(frames_per_gop + 7).unwrap();
        let bytes = if key { share * 8 } else { share };
        let mut slice = vec![if key { 0x65 } else { 0x41 }; bytes];
        // first_mb_in_slice 0, slice_type I or P, pic_parameter_set_id 0.
        slice[1..3].copy_from_slice(if key { &[0x88, 0x84] } else { &[0x9a, 0x80] });
        // In digits: zeros could look like a start code.
        slice[3..11].copy_from_slice(format!("{:08x}", self.frames).as_bytes());
        let payload = [&u32::try_from(bytes).unwrap().to_be_bytes(), slice.as_slice()].concat();
        let pts = Timestamp::new(i64::from(self.frames) * 3_600, Timebase::VIDEO);
        self.frames += 1;
        packet(&self.video, pts, payload, if key { Flags::KEY } else { Flags::empty() }, at)
    }

    fn sound(&mut self, at: Instant) -> Packet {
        let pts = Timestamp::new(i64::from(self.sounds) * 960, self.audio.timebase);
        self.sounds += 1;
        packet(&self.audio, pts, vec![0xfc; 160], Flags::empty(), at)
    }
}

pub(crate) fn packet(track: &Arc<Track>, pts: Timestamp, payload: Vec<u8>, flags: Flags, arrival: Instant) -> Packet {
    let utc = UtcTime::from_unix_nanos(1_795_219_200_000_000_000).plus_nanos(pts.nanos());
    Packet {
        track: track.clone(),
        dts: pts,
        pts,
        duration: None,
        arrival,
        wall: Wall { utc, origin: WallOrigin::Arrival },
        flags,
        payload: Bytes::from(payload),
    }
}

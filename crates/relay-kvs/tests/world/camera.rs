//! A camera: pictures and sound, with the faults of cameras.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use relay_media::{Codec, Flags, Packet, Timebase, Timestamp, Track, TrackId, UtcTime, Wall, WallOrigin, aac, h264};

const SPS: [&[u8]; 2] = [
    &[0x67, 0x42, 0xc0, 0x0d, 0xd9, 1, 0x41, 0xfb, 1, 0x10, 0, 0, 3, 0, 0x10, 0, 0, 3, 3, 0x20, 0xf1, 0x42, 0xa4, 0x80],
    &[
        0x67, 0x42, 0xc0, 0x1f, 0xd9, 0, 0x50, 5, 0xbb, 1, 0x10, 0, 0, 3, 0, 0x10, 0, 0, 3, 3, 0x20, 0xf1, 0x83, 0x24,
        0x80,
    ],
];
const PPS: &[u8] = &[0x68, 0xcb, 0x83, 0xcb, 0x20];
/// 2026-11-21T00:00:00Z.
pub const START_MS: u64 = 1_795_219_200_000;

pub struct Camera {
    start: Instant,
    video: [Arc<Track>; 2],
    audio: Arc<Track>,
    pub fps: u64,
    pub gop: u64,
    pub payload: usize,
    pub has_sound: bool,
    pub parameters: usize,
    /// Sound comes so much later than pictures of the same time.
    pub sound_late: Duration,
    pub step_ms: i64,
    pub has_stepped: bool,
    frame: u64,
    sound: u64,
    since_key: u64,
    next_id: u64,
    /// Packets that have not arrived yet.
    queue: VecDeque<(Instant, Arc<Packet>)>,
    pub frames: BTreeMap<u64, u64>,
    is_stopped: bool,
    pub is_away: bool,
}

impl Camera {
    pub fn new(start: Instant) -> Self {
        let video = |sps| Codec::H264(h264::Config::parse(sps, PPS).unwrap());
        let audio = Codec::Aac(aac::Config::new(aac::LOW_COMPLEXITY, 48_000, 2).unwrap());
        let track = |id, codec, hz| Arc::new(Track { id: TrackId(id), codec, timebase: Timebase::new(hz).unwrap() });
        Self {
            start,
            video: SPS.map(|sps| track(1, video(sps), 90_000)),
            audio: track(2, audio, 48_000),
            fps: 10,
            gop: 20,
            payload: 2_000,
            has_sound: true,
            parameters: 0,
            sound_late: Duration::ZERO,
            step_ms: 0,
            has_stepped: false,
            frame: 0,
            sound: 0,
            since_key: 0,
            next_id: 0,
            queue: VecDeque::new(),
            frames: BTreeMap::new(),
            is_stopped: false,
            is_away: false,
        }
    }

    pub fn stop(&mut self) {
        self.is_stopped = true;
        self.queue.clear();
    }

    /// The next picture is a key frame.
    pub fn key(&mut self) {
        self.since_key = 0;
        self.queue.clear();
    }

    /// The time of day steps.
    pub fn step(&mut self, ms: i64) {
        self.step_ms += ms;
        self.has_stepped = true;
    }

    fn video_at(&self) -> Instant {
        self.start + Duration::from_micros(self.frame * 1_000_000 / self.fps)
    }

    fn sound_at(&self) -> Instant {
        self.start + Duration::from_micros(self.sound * 100_000)
    }

    pub fn next_at(&self) -> Option<Instant> {
        if self.is_stopped {
            return None;
        }
        let queued = self.queue.front().map(|(at, _)| *at);
        [Some(self.video_at()), Some(self.sound_at()), queued].into_iter().flatten().min()
    }

    /// What arrives until `now`.
    pub fn take(&mut self, now: Instant) -> Vec<Arc<Packet>> {
        while self.video_at() <= now {
            let at = self.video_at();
            if !self.is_away {
                let is_key = self.since_key == 0;
                let track = self.video[self.parameters].clone();
                let flags = if is_key { Flags::KEY } else { Flags::empty() };
                self.queue_packet(at, at, &track, flags);
                self.since_key = (self.since_key + 1) % self.gop;
            }
            self.frame += 1;
        }
        while self.sound_at() <= now {
            let at = self.sound_at();
            if self.has_sound && !self.is_away {
                let track = self.audio.clone();
                self.queue_packet(at + self.sound_late, at, &track, Flags::empty());
            }
            self.sound += 1;
        }
        self.queue.make_contiguous().sort_by_key(|(at, _)| *at);
        let mut taken = vec![];
        while let Some((_, packet)) = self.queue.pop_front_if(|(at, _)| *at <= now) {
            let id = u64::from_be_bytes(packet.payload[..8].try_into().unwrap());
            self.frames.insert(id, packet.wall.utc.unix_millis() as u64);
            taken.push(packet);
        }
        taken
    }

    fn queue_packet(&mut self, arrival: Instant, at: Instant, track: &Arc<Track>, flags: Flags) {
        let pts = at - self.start;
        let mut payload = vec![0; self.payload.max(8)];
        payload[..8].copy_from_slice(&self.next_id.to_be_bytes());
        self.next_id += 1;
        let wall_ms = START_MS as i64 + self.step_ms;
        let utc = UtcTime::from_unix_nanos(wall_ms * 1_000_000 + pts.as_nanos() as i64);
        let time = |time: Duration| Timestamp::new(track.timebase.ticks(time), track.timebase);
        let packet = Packet {
            track: track.clone(),
            dts: time(pts),
            pts: time(pts),
            duration: None,
            arrival,
            wall: Wall { utc, origin: WallOrigin::Arrival },
            flags,
            payload: payload.into(),
        };
        self.queue.push_back((arrival, Arc::new(packet)));
    }
}

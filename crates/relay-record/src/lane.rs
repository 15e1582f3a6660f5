//! The packets of one track that wait to be written.

use std::{collections::VecDeque, sync::Arc};

use relay_media::{Codec, Flags, Kind, Packet, Track, opus};
use relay_mp4::Sample;

/// The packets of one track that are not written yet, oldest first.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) track: Arc<Track>,
    /// Its place among the open file's tracks.
    pub(crate) place: Option<usize>,
    /// Its packets belong to the open file's last fragment; no more will come.
    pub(crate) retired: bool,
    queue: VecDeque<Arc<Packet>>,
    /// Decode time of the newest packet, in its ticks.
    last_ticks: i64,
    /// The same in nanoseconds of the stream's time.
    newest: i64,
    /// Ticks between the last two packets.
    typical: Option<u32>,
}

impl Lane {
    pub(crate) fn new(packet: &Arc<Packet>) -> Self {
        Self {
            track: packet.track.clone(),
            place: None,
            retired: false,
            queue: VecDeque::new(),
            last_ticks: i64::MIN,
            newest: i64::MIN,
            typical: None,
        }
    }

    pub(crate) fn is_video(&self) -> bool {
        self.track.kind() == Kind::Video
    }

    pub(crate) fn push(&mut self, packet: Arc<Packet>) {
        self.newest = packet.dts.nanos();
        self.last_ticks = packet.dts.ticks();
        self.queue.push_back(packet);
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(crate) fn get(&self, index: usize) -> Option<&Arc<Packet>> {
        self.queue.get(index)
    }

    pub(crate) fn front(&self) -> Option<&Arc<Packet>> {
        self.queue.front()
    }

    /// The stream's time of the newest packet it was given, in nanoseconds.
    pub(crate) fn newest(&self) -> i64 {
        self.newest
    }

    /// Ticks from the newest packet to `packet`: what is not above zero went back.
    pub(crate) fn ticks_to(&self, packet: &Packet) -> i64 {
        if self.last_ticks == i64::MIN { i64::MAX } else { packet.dts.ticks().saturating_sub(self.last_ticks) }
    }

    /// How many of the oldest packets begin before `time`.
    pub(crate) fn before(&self, time: i64) -> usize {
        self.queue.iter().take_while(|packet| packet.dts.nanos() < time).count()
    }

    /// Takes the oldest packets off, to be forgotten.
    pub(crate) fn discard(&mut self, count: usize) -> impl Iterator<Item = Arc<Packet>> {
        self.queue.drain(..count.min(self.queue.len()))
    }

    /// Takes the `count` oldest packets off, each with its duration; the last one's reaches to the next packet unless
    /// that one begins a new file after a break.
    pub(crate) fn take(&mut self, count: usize, ends_file: bool) -> Vec<Sample> {
        let mut samples = Vec::with_capacity(count);
        for _ in 0..count {
            let Some(packet) = self.queue.pop_front() else { break };
            let broken =
                |next: &Packet| samples.len() + 1 == count && ends_file && next.flags.contains(Flags::DISCONTINUITY);
            let next = self.queue.front().filter(|next| !broken(next));
            let ticks = next.map(|next| next.dts.ticks().saturating_sub(packet.dts.ticks()));
            let duration = match ticks {
                Some(ticks) => {
                    let ticks = u32::try_from(ticks.max(0)).unwrap_or(u32::MAX);
                    self.typical = Some(ticks);
                    ticks
                }
                None => packet.duration.or_else(|| nominal(&packet)).or(self.typical).unwrap_or_else(|| guess(&packet)),
            };
            samples.push(Sample { packet, duration });
        }
        samples
    }
}

/// Ticks that an audio frame lasts, by its codec.
fn nominal(packet: &Packet) -> Option<u32> {
    let samples = match &packet.track.codec {
        Codec::Aac(config) => config.frame_samples(),
        Codec::Opus(_) => opus::packet_ticks(&packet.payload)?,
        Codec::G711(config) => {
            u32::try_from(packet.payload.len() / usize::from(config.channels.max(1))).unwrap_or(u32::MAX)
        }
        Codec::H264(_) | Codec::H265(_) => return None,
    };
    let rate = match &packet.track.codec {
        Codec::Aac(config) => config.sample_rate(),
        Codec::G711(config) => config.sample_rate,
        _ => opus::CLOCK_HZ,
    };
    let ticks = u64::from(samples) * u64::from(packet.track.timebase.hz()) / u64::from(rate.max(1));
    u32::try_from(ticks).ok().filter(|&ticks| ticks > 0)
}

/// What a packet of which nothing is known lasts: a 25th of a second.
fn guess(packet: &Packet) -> u32 {
    (packet.track.timebase.hz() / 25).max(1)
}

//! The packets of a fragment as Matroska, and the time they are at.

use std::sync::Arc;

use bytes::Bytes;
use fastrand::Rng;
use relay_media::{Kind, Packet, Timestamp, Track};
use relay_mkv::{ClusterStart, Start, TIMECODE_MS_MAX, Writer};

use super::{
    fragment::{DropReason, Fragment},
    fragmenter::same_track,
};

/// Writes fragments with times that only rise.
#[derive(Debug)]
pub(crate) struct Clusters {
    rng: Rng,
    set: Option<Set>,
    high_water_ms: u64,
    ahead_ms: u64,
    had_no_picture: bool,
}

/// The tracks of a header, and the writer that made it.
#[derive(Debug)]
struct Set {
    tracks: Vec<Arc<Track>>,
    header: Bytes,
    writer: Writer,
}

/// Which packet a fragment's time is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lead {
    /// The first picture shown. Sound before it is late, and is written at the start, so that it moves nothing.
    Pictures,
    /// The first packet shown: there is no fragment right before it.
    All,
}

/// What became of packets.
#[derive(Debug, Default)]
pub(crate) struct Written {
    pub(crate) fragment: Option<Fragment>,
    pub(crate) drops: Vec<(DropReason, u64)>,
}

impl Clusters {
    pub(crate) fn new(high_water_ms: u64, seed: u64) -> Self {
        Self { rng: Rng::with_seed(seed), set: None, high_water_ms, ahead_ms: 0, had_no_picture: false }
    }

    pub(crate) fn high_water_ms(&self) -> u64 {
        self.high_water_ms
    }

    pub(crate) fn ahead_ms(&self) -> u64 {
        self.ahead_ms
    }

    /// The last fragment was of sound alone.
    pub(crate) fn had_no_picture(&self) -> bool {
        self.had_no_picture
    }

    /// A fragment of these packets, each lane a track in decode order, video first if there is any.
    pub(crate) fn write(&mut self, mut lanes: Vec<Vec<Arc<Packet>>>, lead: Lead, has_pictures: bool) -> Written {
        let mut written = Written::default();
        let mut count: u64 = lanes.iter().map(|lane| lane.len() as u64).sum();
        let changed = drop_changed(&mut lanes);
        if changed > 0 {
            written.drops.push((DropReason::TrackChange, changed));
            count -= changed;
        }
        if count == 0 {
            return written;
        }
        let wrote = self.fragment(&lanes, lead, has_pictures);
        let packets = wrote.as_ref().map_or(0, |fragment| u64::from(fragment.packets));
        if packets < count {
            written.drops.push((DropReason::Unwritable, count - packets));
        }
        written.fragment = wrote;
        written
    }

    fn fragment(&mut self, lanes: &[Vec<Arc<Packet>>], lead: Lead, has_pictures: bool) -> Option<Fragment> {
        let all = || lanes.iter().flatten();
        let leads: Vec<_> = match lead {
            Lead::Pictures => lanes.first()?.iter().collect(),
            Lead::All => all().collect(),
        };
        let first = leads.into_iter().min_by_key(|packet| packet.pts.nanos())?;
        let first_arrival = all().map(|packet| packet.arrival).min()?;
        let wall_ms = u64::try_from(first.wall.utc.unix_millis()).unwrap_or(0);
        let timecode_ms = wall_ms.max(self.high_water_ms.saturating_add(1));
        if timecode_ms > TIMECODE_MS_MAX {
            return None;
        }
        self.use_tracks(lanes);
        let set = self.set.as_mut()?;
        let start = ClusterStart { timecode_ms, media: first.pts };
        let head = set.writer.begin_cluster(start).ok()?;
        let (mut body, mut packets) = (vec![head], 0);
        for packet in in_order(lanes, first.pts) {
            let block = if packet.pts.nanos_since(first.pts) < 0 {
                set.writer.block(&on_time(packet, first.pts))
            } else {
                set.writer.block(packet)
            };
            if let Ok(pieces) = block {
                body.extend(pieces);
                packets += 1;
            }
        }
        body.push(set.writer.end_fragment());
        let last_ms = set.writer.last_ms()?.max(timecode_ms);
        let header = set.header.clone();
        self.high_water_ms = last_ms;
        self.ahead_ms = timecode_ms - wall_ms;
        self.had_no_picture = !has_pictures;
        (packets > 0).then_some(Fragment { timecode_ms, last_ms, header, body, packets, first_arrival })
    }

    /// Makes a new header where the tracks are others than before.
    fn use_tracks(&mut self, lanes: &[Vec<Arc<Packet>>]) {
        let tracks: Vec<_> = lanes.iter().filter_map(|lane| lane.first()).map(|packet| packet.track.clone()).collect();
        let is_same = |set: &Set| {
            set.tracks.len() == tracks.len() && set.tracks.iter().zip(&tracks).all(|(a, b)| same_track(a, b))
        };
        if self.set.as_ref().is_some_and(is_same) {
            return;
        }
        let mut uid = [0; 16];
        self.rng.fill(&mut uid);
        let made = Writer::new(Start { uid, tracks: tracks.clone() });
        self.set = made.ok().map(|(writer, header)| Set { tracks, header, writer });
    }
}

/// Sound whose parameters changed within a fragment can't be under its header, and a fragment can't be cut there.
fn drop_changed(lanes: &mut Vec<Vec<Arc<Packet>>>) -> u64 {
    let mut changed = 0;
    for lane in lanes.iter_mut() {
        let Some(track) = lane.first().map(|packet| packet.track.clone()) else { continue };
        let before = lane.len();
        lane.retain(|packet| same_track(&packet.track, &track));
        changed += (before - lane.len()) as u64;
    }
    lanes.retain(|lane| !lane.is_empty());
    changed
}

/// All lanes merged by decode time, each in its own order; a picture before sound of the same time, and the key frame
/// before all else.
fn in_order(lanes: &[Vec<Arc<Packet>>], start: Timestamp) -> Vec<&Arc<Packet>> {
    let mut order: Vec<(i64, &Arc<Packet>)> = Vec::new();
    for lane in lanes {
        let mut at = i64::MIN;
        for (place, packet) in lane.iter().enumerate() {
            let is_key = place == 0 && packet.track.kind() == Kind::Video;
            let due = packet.dts.nanos_since(start).max(0);
            at = at.max(if is_key { i64::MIN } else { due });
            order.push((at, packet));
        }
    }
    order.sort_by_key(|(at, _)| *at);
    order.into_iter().map(|(_, packet)| packet).collect()
}

/// A packet that came too late for its own fragment: at the start of this one, so that nothing of it is moved.
fn on_time(packet: &Packet, start: Timestamp) -> Packet {
    let pts = start.rescale(packet.track.timebase);
    let pts = if pts.nanos_since(start) < 0 { pts.plus(1) } else { pts };
    Packet { pts, ..packet.clone() }
}

//! Writes a session: its header, clusters, blocks, tags.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use relay_media::{Flags, Kind, Packet, Timestamp, Track};

use crate::{
    BLOCK_BYTES_MAX, CLUSTER_MS_MAX, END_OF_FRAGMENT, Element, TIMECODE_MS_MAX, TRACKS_MAX, Tag, WriteError,
    ebml::UNKNOWN_SIZE, header, tag,
};

/// Bytes before the payload of a block: ID, a size of 8 bytes, track number, time, flags.
pub const BLOCK_HEAD_BYTES: usize = 1 + 8 + 1 + 2 + 1;

/// Bytes of a cluster before its blocks: ID, the unknown size, a time of 8 bytes and a position of 1.
pub const CLUSTER_HEAD_BYTES: usize = 4 + 1 + (1 + 1 + 8) + (1 + 1 + 1);

/// Heads are cut from buffers of this size: 315 of blocks, the 4 s of 25 pictures and 50 sounds a second, so that a
/// fragment usually takes one allocation or none.
const HEADS_BYTES: usize = 4_096;

/// SimpleBlock flags (RFC 9559 §10.2).
const KEY: u8 = 0x80;
const DISCARDABLE: u8 = 0x01;

/// What a session begins with.
#[derive(Clone, Debug)]
pub struct Start {
    /// The SegmentUID, which should be random.
    pub uid: [u8; 16],
    /// Its tracks, numbered from 1 in this order. The service wants video first.
    pub tracks: Vec<Arc<Track>>,
}

/// Where a cluster stands in both times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterStart {
    /// Its time in milliseconds, since 1970 in a session of absolute times.
    pub timecode_ms: u64,
    /// The stream's time that this is: the earliest presentation time in the cluster.
    pub media: Timestamp,
}

/// Writes one session.
///
/// Every call yields the next bytes of the stream and remembers nothing of them. Of a block these are its head, made
/// here, and the packet's own payload.
///
/// What a cluster's bytes are depends on its tracks, its [`ClusterStart`] and its packets alone: the same cluster
/// written into another session is the same.
#[derive(Debug)]
pub struct Writer {
    slots: Vec<Slot>,
    cluster: Option<Cluster>,
    last_ms: Option<u64>,
    heads: BytesMut,
}

#[derive(Debug)]
struct Slot {
    track: Arc<Track>,
    /// The latest packet of the open cluster: nanoseconds since its start, and the milliseconds that were written.
    latest: Option<(i64, u64)>,
}

#[derive(Debug)]
struct Cluster {
    start: ClusterStart,
    has_picture: bool,
}

impl Writer {
    /// A new session, and the bytes it begins with.
    ///
    /// # Errors
    /// [`WriteError::Tracks`].
    pub fn new(start: Start) -> Result<(Self, Bytes), WriteError> {
        let tracks = start.tracks;
        let is_twice =
            |(place, track): (usize, &Arc<Track>)| tracks.iter().take(place).any(|other| other.id == track.id);
        if tracks.is_empty() || tracks.len() > TRACKS_MAX || tracks.iter().enumerate().any(is_twice) {
            return Err(WriteError::Tracks);
        }
        let head = header::write(start.uid, &tracks);
        let slots = tracks.into_iter().map(|track| Slot { track, latest: None }).collect();
        Ok((Self { slots, cluster: None, last_ms: None, heads: BytesMut::new() }, head.into()))
    }

    /// The time of the latest block so far: the next cluster must be later.
    pub fn last_ms(&self) -> Option<u64> {
        self.last_ms
    }

    /// Ends the open cluster, if there is one, and begins another.
    ///
    /// # Errors
    /// [`WriteError::NotRising`], [`WriteError::Timecode`].
    pub fn begin_cluster(&mut self, start: ClusterStart) -> Result<Bytes, WriteError> {
        let timecode_ms = start.timecode_ms;
        if timecode_ms > TIMECODE_MS_MAX {
            return Err(WriteError::Timecode(timecode_ms));
        }
        // Within a session the service refuses a fragment that does not begin after the last frame of the one before.
        if let Some(last_ms) = self.last_ms.filter(|last_ms| timecode_ms <= *last_ms) {
            return Err(WriteError::NotRising { timecode_ms, last_ms });
        }
        self.cluster = Some(Cluster { start, has_picture: false });
        self.slots.iter_mut().for_each(|slot| slot.latest = None);
        self.heads_for(CLUSTER_HEAD_BYTES);
        self.heads.put_u32(Element::CLUSTER.id());
        self.heads.put_u8(UNKNOWN_SIZE);
        self.heads.put_slice(&[0xe7, 0x88]);
        self.heads.put_u64(timecode_ms);
        // Position 0: a live stream (RFC 9559 §5.1.3.2).
        self.heads.put_slice(&[0xa7, 0x81, 0]);
        Ok(self.heads.split().freeze())
    }

    /// The next block of the open cluster: its head, and the packet's payload itself.
    ///
    /// # Errors
    /// [`WriteError::ClusterFull`] asks for another cluster; everything else is a packet that can't be written.
    pub fn block(&mut self, packet: &Packet) -> Result<[Bytes; 2], WriteError> {
        let size = packet.payload.len();
        if size == 0 || size > BLOCK_BYTES_MAX {
            return Err(WriteError::BlockSize(size));
        }
        let cluster = self.cluster.as_mut().ok_or(WriteError::NoCluster)?;
        let mut slots = (1_u8..).zip(&mut self.slots);
        let (number, slot) = slots
            .find(|(_, slot)| slot.track.id == packet.track.id)
            .ok_or(WriteError::UnknownTrack(packet.track.id))?;
        if !Arc::ptr_eq(&slot.track, &packet.track) {
            if slot.track != packet.track {
                return Err(WriteError::TrackChanged(packet.track.id));
            }
            slot.track = packet.track.clone();
        }
        let is_picture = slot.track.kind() == Kind::Video;
        if is_picture && !cluster.has_picture && !packet.is_key() {
            return Err(WriteError::NotKey);
        }
        let relative = slot.place(packet.pts.nanos_since(cluster.start.media))?;
        cluster.has_picture |= is_picture;
        let ms = cluster.start.timecode_ms + u64::from(relative);
        self.last_ms = self.last_ms.max(Some(ms));

        // Every frame of the audio codecs here decodes alone.
        let key = if packet.is_key() || !is_picture { KEY } else { 0 };
        let discardable = if packet.flags.contains(Flags::DISPOSABLE) { DISCARDABLE } else { 0 };
        self.heads_for(BLOCK_HEAD_BYTES);
        self.heads.put_u8(0xa3);
        // A size of 8 bytes, as the service's own producer has it: its marker, then 56 bits.
        self.heads.put_u64(1 << 56 | (BLOCK_HEAD_BYTES - 9 + size) as u64);
        self.heads.put_u8(0x80 | number);
        self.heads.put_u16(relative);
        self.heads.put_u8(key | discardable);
        Ok([self.heads.split().freeze(), packet.payload.clone()])
    }

    /// Tags, which end the open cluster and belong to the next.
    ///
    /// # Errors
    /// [`WriteError::Tags`].
    pub fn tags(&mut self, tags: &[Tag]) -> Result<Bytes, WriteError> {
        let pairs: Vec<_> = tags.iter().map(|tag| (tag.name.as_str(), tag.value.as_str())).collect();
        let bytes = tag::write(&pairs)?;
        self.cluster = None;
        Ok(bytes.into())
    }

    /// Ends the open cluster and tells the service so with a tag, for a pause or the end: otherwise it would wait for
    /// the next cluster before it calls this one whole.
    pub fn end_fragment(&mut self) -> Bytes {
        self.cluster = None;
        // One tag with a short name: it fits.
        tag::write(&[(END_OF_FRAGMENT, "")]).unwrap_or_default().into()
    }

    /// Room for a head. Where nothing that was cut from the buffer lives any more, it is used again.
    fn heads_for(&mut self, bytes: usize) {
        if self.heads.capacity() < bytes && !self.heads.try_reclaim(HEADS_BYTES) {
            self.heads = BytesMut::with_capacity(HEADS_BYTES);
        }
    }
}

impl Slot {
    /// The milliseconds since the cluster's start for a packet these nanoseconds behind it.
    fn place(&mut self, nanos: i64) -> Result<u16, WriteError> {
        const NANOS_PER_MS: i64 = 1_000_000;
        let rounded = nanos.saturating_add(NANOS_PER_MS / 2).div_euclid(NANOS_PER_MS);
        let rounded = u64::try_from(rounded).map_err(|_| WriteError::BeforeCluster(rounded.unsigned_abs()))?;
        let (ms, is_latest) = match self.latest {
            Some((latest, ms)) if nanos >= latest => (rounded.max(ms + 1), true),
            Some(_) => (rounded, false),
            None => (rounded, true),
        };
        let relative = u16::try_from(ms).ok().filter(|_| ms <= CLUSTER_MS_MAX).ok_or(WriteError::ClusterFull(ms))?;
        if is_latest {
            self.latest = Some((nanos, ms));
        }
        Ok(relative)
    }
}

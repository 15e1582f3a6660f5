//! RTP packets of a connection to packets of the stream.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use relay_graph::{Clock, Normaliser, Output, RawTime, SourceMonitor, StallDetector, WallAnchor};
use relay_media::{Codec, Flags, Kind, Packet, Timebase, Timestamp, Track, TrackId, UtcTime, Wall, opus};
use relay_rtp::{AfterLoss, Depacketizer, Format, QuirkCounters, RtpPacket, Unit};

/// What outlives a connection: the timeline, and the newest parameters of each track.
#[derive(Default)]
pub(super) struct Timeline {
    normaliser: Normaliser,
    tracks: BTreeMap<TrackId, Arc<Track>>,
}

impl Timeline {
    /// A new connection begins.
    pub(super) fn reconnect(&mut self) {
        self.normaliser.reconnect();
    }

    /// The track with these parameters; the same `Arc` as long as they don't change.
    fn track(&mut self, id: TrackId, codec: Codec, timebase: Timebase) -> Arc<Track> {
        let track = Track { id, codec, timebase };
        let known = self.tracks.entry(id).or_insert_with(|| Arc::new(track.clone()));
        if **known != track {
            *known = Arc::new(track);
        }
        known.clone()
    }
}

/// One RTP stream of a connection.
pub(super) struct RtpTrack {
    id: TrackId,
    kind: Kind,
    timebase: Timebase,
    depacketizer: Depacketizer,
    track: Option<Arc<Track>>,
    counted: QuirkCounters,
    /// Packets since the counters were last told to the monitor.
    pub(super) packets: u64,
}

impl RtpTrack {
    pub(super) fn new(id: TrackId, kind: Kind, timebase: Timebase, format: &Format) -> Self {
        Self {
            id,
            kind,
            timebase,
            depacketizer: Depacketizer::new(format, AfterLoss::WaitForKey),
            track: None,
            counted: QuirkCounters::default(),
            packets: 0,
        }
    }

    pub(super) fn id(&self) -> TrackId {
        self.id
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    pub(super) fn codec(&self) -> Option<&Codec> {
        self.track.as_deref().map(|track| &track.codec)
    }

    /// Tells the monitor what was tolerated and dropped since the last time.
    pub(super) fn report(&mut self, monitor: &SourceMonitor) {
        let quirks = self.depacketizer.quirks();
        for (quirk, count) in quirks.since(&self.counted).iter() {
            monitor.quirk(quirk.name(), count);
        }
        self.counted = quirks;
    }

    fn place(&mut self, unit: Unit, anchor: &mut Anchor, timeline: &mut Timeline) -> Option<Packet> {
        if let Some(codec) = unit.codec {
            self.track = Some(timeline.track(self.id, codec, self.timebase));
        }
        let track = self.track.clone()?;
        let placed = timeline.normaliser.place(RawTime {
            track: self.id,
            timebase: self.timebase,
            pts: unit.timestamp,
            dts: None,
            reorder: reorder_depth(&track.codec),
            arrival: unit.arrival,
        });
        let mut flags = unit.flags;
        if unit.loss > 0 || placed.jump.is_some_and(|jump| jump != relay_graph::Jump::Reordered) {
            flags |= Flags::DISCONTINUITY;
        }
        if let Some(jump) = placed.jump {
            anchor.jumps.push(jump.name());
        }
        Some(Packet {
            dts: placed.dts,
            pts: placed.pts,
            duration: audio_ticks(&track, &unit.payload),
            arrival: unit.arrival,
            wall: anchor.wall(placed.pts, unit.arrival, &timeline.normaliser),
            flags,
            payload: unit.payload,
            track,
        })
    }
}

/// Pictures that may be shown in another order than they are decoded in; sound is never reordered.
fn reorder_depth(codec: &Codec) -> Option<u8> {
    match codec {
        Codec::H264(config) => config.max_reorder_frames(),
        Codec::H265(config) => config.max_reorder_frames(),
        Codec::Aac(_) | Codec::Opus(_) | Codec::G711(_) => Some(0),
    }
}

/// How long an audio frame lasts in ticks of its RTP clock, which counts samples (RFC 3551 §4.1); a picture doesn't say.
fn audio_ticks(track: &Track, payload: &[u8]) -> Option<u32> {
    match &track.codec {
        Codec::Opus(_) => opus::packet_ticks(payload),
        Codec::G711(config) => u32::try_from(payload.len()).ok()?.checked_div(u32::from(config.channels)),
        Codec::Aac(config) => {
            // With spectral band replication the RTP clock may count the output's samples, twice the coder's.
            let ticks = u64::from(config.frame_samples()) * u64::from(track.timebase.hz());
            u32::try_from(ticks / u64::from(config.sample_rate().max(1))).ok()
        }
        Codec::H264(_) | Codec::H265(_) => None,
    }
}

/// A connection's place in time, and where its packets go.
pub(super) struct Anchor {
    clock: Clock,
    wall: Option<WallAnchor>,
    /// The track whose sender reports are followed: the first that sends one.
    reporter: Option<TrackId>,
    /// Its newest report, while there is nothing to anchor yet: most come before the first key frame.
    early: Option<Report>,
    jumps: Vec<&'static str>,
}

/// A sender report (RFC 3550 §6.4.1): the clock of `track` showed `rtp` at `utc`, told when ours showed `local`.
#[derive(Clone, Copy)]
struct Report {
    track: TrackId,
    rtp: i64,
    utc: UtcTime,
    local: UtcTime,
}

impl Anchor {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, wall: None, reporter: None, early: None, jumps: Vec::new() }
    }

    fn wall(&mut self, pts: Timestamp, arrival: Instant, normaliser: &Normaliser) -> Wall {
        let wall = self.wall.get_or_insert_with(|| {
            let age = self.clock.now().saturating_duration_since(arrival);
            let utc = self.clock.utc().plus_nanos(-i64::try_from(age.as_nanos()).unwrap_or(0));
            WallAnchor::at_arrival(pts, utc)
        });
        if let Some(report) = self.early
            && let Some(pts) = normaliser.map(report.track, report.rtp)
        {
            self.early = None;
            wall.sender_report(pts, report.utc, report.local);
        }
        wall.wall(pts)
    }

    /// A sender report of `track`: its clock showed `rtp` at `utc` (RFC 3550 §6.4.1). False if it is not believed.
    pub(super) fn sender_report(&mut self, timeline: &Timeline, track: TrackId, rtp: i64, utc: UtcTime) -> bool {
        if *self.reporter.get_or_insert(track) != track {
            return true;
        }
        let local = self.clock.utc();
        let (Some(wall), Some(pts)) = (&mut self.wall, timeline.normaliser.map(track, rtp)) else {
            self.early = Some(Report { track, rtp, utc, local });
            return true;
        };
        wall.sender_report(pts, utc, local)
    }

    /// Takes one RTP packet of `track`; pushes what it completes.
    pub(super) fn push(
        &mut self,
        packet: RtpPacket<'_>,
        track: &mut RtpTrack,
        timeline: &mut Timeline,
        flow: &mut Flow<'_>,
    ) {
        track.packets += 1;
        track.depacketizer.push(packet);
        let mut pushed = false;
        while let Some(unit) = track.depacketizer.poll() {
            let Some(packet) = track.place(unit, self, timeline) else { continue };
            flow.detector.on_packet(&packet);
            flow.out.push(packet);
            pushed = true;
        }
        if !pushed {
            flow.detector.on_activity(track.kind, packet.arrival);
        }
    }

    /// Breaks of the timeline since the last call, by name.
    pub(super) fn take_jumps(&mut self) -> Vec<&'static str> {
        std::mem::take(&mut self.jumps)
    }
}

/// Where units go.
pub(super) struct Flow<'a> {
    pub(super) out: &'a mut Output,
    pub(super) detector: StallDetector,
}

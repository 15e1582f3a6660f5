//! The playing camera: its frame counter, its clock, its viewers, and one write per frame and viewer.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use relay_media::{UtcTime, stamp::Stamp};
use tokio::time::Instant;

use crate::{
    audio::{Audio, AudioFormat},
    camera::Join,
    clip::Clip,
    fault::{Condition, Event},
    malformed,
    session::{Broken, Session, UdpPair},
    truth::{SentFrame, SessionEnd, Truth},
    wire::{self, INTERLEAVED_HEADER, RTP_HEADER, WireUnit},
};

/// RTCP sender reports go out this often.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);
const VIDEO_HZ: u64 = 90_000;

/// What plays, and to whom.
#[derive(Debug)]
pub(crate) struct Stage {
    clip: Option<Arc<Clip>>,
    audio: Option<AudioFormat>,
    join: Join,
    chance: fastrand::Rng,
    /// Frames since the camera was started, whatever it played.
    counter: u64,
    /// The frame of the camera at which the clip began.
    clip_start: u64,
    /// When that frame was due.
    clip_epoch: Instant,
    /// Timestamp of that frame.
    clip_ticks: u32,
    /// Audio: the first frame's timestamp, and when it was due.
    audio_ticks: u32,
    audio_epoch: Instant,
    audio_sent: u64,
    frozen_ticks: Option<u32>,
    viewers: Vec<Viewer>,
    pub(crate) truth: Truth,
    scratch: Vec<u8>,
}

/// One playing session.
#[derive(Debug)]
struct Viewer {
    session: Arc<Session>,
    log: u64,
    video: Option<Flow>,
    audio: Option<Flow>,
    /// The frame it begins with.
    first: u64,
    next_report: Instant,
    started: Instant,
}

/// One RTP stream to one viewer.
#[derive(Clone, Debug)]
pub(crate) struct Flow {
    pub(crate) path: Path,
    pub(crate) ssrc: u32,
    pub(crate) sequence: u16,
    packets: u32,
    octets: u32,
}

/// Where the packets of a flow go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Path {
    /// Into the connection; reports on the next channel.
    Channel(u8),
    /// To these ports of the viewer.
    Udp { rtp: SocketAddr, rtcp: SocketAddr },
}

impl Flow {
    pub(crate) fn new(path: Path) -> Self {
        Self { path, ssrc: fastrand::u32(..), sequence: fastrand::u16(..), packets: 0, octets: 0 }
    }

    fn is_udp(&self) -> bool {
        matches!(self.path, Path::Udp { .. })
    }

    fn channel(&self) -> u8 {
        if let Path::Channel(channel) = self.path { channel } else { 0 }
    }
}

/// What RTP-Info tells of a new session.
pub(crate) struct Joined {
    pub(crate) video_ticks: u32,
    pub(crate) audio_ticks: u32,
}

impl Stage {
    pub(crate) fn new(clip: Option<Arc<Clip>>, audio: Audio, join: Join, seed: u64, started: Instant) -> Self {
        Self {
            clip,
            audio: audio.format(),
            join,
            chance: fastrand::Rng::with_seed(seed),
            counter: 0,
            clip_start: 0,
            clip_epoch: started,
            clip_ticks: fastrand::u32(..),
            audio_ticks: fastrand::u32(..),
            audio_epoch: started,
            audio_sent: 0,
            frozen_ticks: None,
            viewers: Vec::new(),
            truth: Truth::default(),
            scratch: Vec::new(),
        }
    }

    pub(crate) fn next_counter(&self) -> u64 {
        self.counter
    }

    pub(crate) fn viewers(&self) -> usize {
        self.viewers.len()
    }

    pub(crate) fn clip(&self) -> Option<Arc<Clip>> {
        self.clip.clone()
    }

    /// When the next frame is due.
    pub(crate) fn due(&self) -> Instant {
        let nanos = (self.counter - self.clip_start) * 1_000_000_000 / self.fps();
        self.clip_epoch + Duration::from_nanos(nanos)
    }

    fn fps(&self) -> u64 {
        self.clip.as_ref().map_or(25, |clip| u64::from(clip.spec().fps.get()))
    }

    /// The decode timestamp of a frame, before wrap-around of the random offset.
    fn ticks_of(&self, frame: u64) -> u32 {
        self.clip_ticks.wrapping_add(((frame - self.clip_start) * VIDEO_HZ / self.fps()) as u32)
    }

    /// A session begins to play.
    pub(crate) fn add(
        &mut self,
        session: Arc<Session>,
        [video, audio]: [Option<Flow>; 2],
        now: Instant,
        utc: UtcTime,
    ) -> Joined {
        let ahead = match (self.join, &self.clip) {
            (Join::KeyFrame, Some(clip)) => clip.frames_to_key(self.counter - self.clip_start),
            _ => 0,
        };
        let first = self.counter + ahead;
        let udp = [&video, &audio].into_iter().flatten().any(Flow::is_udp);
        let log = self.truth.open(session.peer, udp, utc.unix_nanos());
        let composition = self
            .clip
            .as_ref()
            .and_then(|clip| clip.unit(first - self.clip_start))
            .map_or(0, |unit| u64::from(unit.composition));
        self.viewers.push(Viewer { session, log, video, audio, first, next_report: now, started: now });
        Joined { video_ticks: self.ticks_of(first + composition), audio_ticks: self.audio_ticks_of(self.audio_sent) }
    }

    /// The viewer on this connection is gone.
    pub(crate) fn remove(&mut self, session: &Arc<Session>, end: SessionEnd) {
        let truth = &mut self.truth;
        self.viewers.retain(|viewer| {
            let stays = !Arc::ptr_eq(&viewer.session, session);
            if !stays {
                collect_sent(viewer, truth);
                truth.close(viewer.log, end);
            }
            stays
        });
    }

    /// Resets every viewer's connection.
    pub(crate) fn reset_all(&mut self) {
        for viewer in self.viewers.drain(..) {
            collect_sent(&viewer, &mut self.truth);
            self.truth.close(viewer.log, SessionEnd::Reset);
            viewer.session.reset();
        }
    }

    pub(crate) fn happen(&mut self, event: Event, clips: &[Arc<Clip>]) {
        match event {
            Event::Restart => {
                self.reset_all();
                self.reset_timestamps();
            }
            Event::ResetTimestamps => self.reset_timestamps(),
            Event::Jump(millis) => {
                self.clip_ticks = self.clip_ticks.wrapping_add_signed(millis.wrapping_mul(90));
                let audio_khz = self.audio.as_ref().map_or(0, |audio| audio.clock_hz / 1000).cast_signed();
                self.audio_ticks = self.audio_ticks.wrapping_add_signed(millis.wrapping_mul(audio_khz));
            }
            Event::NewSsrc => {
                for flow in self.viewers.iter_mut().flat_map(|viewer| [&mut viewer.video, &mut viewer.audio]).flatten()
                {
                    *flow = Flow::new(flow.path);
                }
            }
            Event::Clip(index) => {
                if let Some(clip) = clips.get(index) {
                    self.clip_ticks = self.ticks_of(self.counter);
                    self.clip_epoch = self.due();
                    self.clip_start = self.counter;
                    self.clip = Some(clip.clone());
                    // Whoever waits for a key frame gets this one.
                    self.viewers.iter_mut().for_each(|viewer| viewer.first = viewer.first.min(self.counter));
                }
            }
            Event::Clear => {}
        }
    }

    fn reset_timestamps(&mut self) {
        self.clip_ticks = fastrand::u32(..);
        self.audio_ticks = fastrand::u32(..);
    }

    /// Sends the frame that is due, and the audio up to now.
    pub(crate) fn play(&mut self, condition: &Condition, now: Instant, utc: UtcTime, udp: &UdpPair) {
        let frame = self.counter;
        self.counter += 1;
        let audio_due = self.audio_frames_due(now);
        let audio_from = std::mem::replace(&mut self.audio_sent, audio_due);
        let Some(clip) = self.clip.clone() else { return };
        let Some(unit) = clip.unit(frame - self.clip_start) else { return };
        if condition.frozen {
            return;
        }
        let mut ticks = self.ticks_of(frame);
        if condition.frozen_timestamps {
            ticks = *self.frozen_ticks.get_or_insert(ticks);
        } else {
            self.frozen_ticks = None;
        }
        let stamp = Stamp { counter: frame, utc_nanos: utc.unix_nanos() };
        let shot = Shot {
            unit,
            ticks,
            stamp,
            composition_ticks: (u64::from(unit.composition) * VIDEO_HZ / self.fps()) as u32,
        };
        let audio_ticks = self.audio_ticks_of(audio_from);
        let sound = self.audio.as_ref().filter(|_| !condition.audio_dead).map(|format| Sound {
            format,
            ticks: audio_ticks,
            frames: audio_due - audio_from,
        });
        let mut sender = Sender { out: &mut self.scratch, condition, chance: &mut self.chance, udp, now, utc };
        let truth = &mut self.truth;
        self.viewers.retain_mut(|viewer| {
            let sent = sender.serve(viewer, &shot, sound.as_ref(), truth);
            if let Err(broken) = sent {
                let end = if broken == Broken::Slow { SessionEnd::Slow } else { SessionEnd::Viewer };
                truth.close(viewer.log, end);
                viewer.session.reset();
            }
            sent.is_ok()
        });
    }

    fn audio_frames_due(&self, now: Instant) -> u64 {
        let Some(audio) = &self.audio else { return 0 };
        let elapsed = now.saturating_duration_since(self.audio_epoch).as_nanos();
        let ticks = elapsed * u128::from(audio.clock_hz) / 1_000_000_000;
        (ticks / u128::from(audio.frame_ticks)) as u64
    }

    fn audio_ticks_of(&self, frame: u64) -> u32 {
        let ticks = self.audio.as_ref().map_or(0, |audio| frame.wrapping_mul(u64::from(audio.frame_ticks)));
        self.audio_ticks.wrapping_add(ticks as u32)
    }
}

fn collect_sent(viewer: &Viewer, truth: &mut Truth) {
    while let Some(frame) = viewer.session.next_sent() {
        truth.sent(viewer.log, frame);
    }
}

/// The video frame of this moment.
struct Shot<'a> {
    unit: &'a WireUnit,
    /// Decode time.
    ticks: u32,
    composition_ticks: u32,
    stamp: Stamp,
}

/// The audio of this moment.
struct Sound<'a> {
    format: &'a AudioFormat,
    /// Of the first frame.
    ticks: u32,
    frames: u64,
}

/// Builds and sends what one viewer gets in one turn.
struct Sender<'a> {
    out: &'a mut Vec<u8>,
    condition: &'a Condition,
    chance: &'a mut fastrand::Rng,
    udp: &'a UdpPair,
    now: Instant,
    utc: UtcTime,
}

impl Sender<'_> {
    fn serve(
        &mut self,
        viewer: &mut Viewer,
        shot: &Shot<'_>,
        sound: Option<&Sound<'_>>,
        truth: &mut Truth,
    ) -> Result<(), Broken> {
        self.out.clear();
        let mut frame = None;
        let reports = viewer.next_report <= self.now && !self.condition.no_reports;
        if let Some(flow) = &mut viewer.video {
            if reports {
                self.report(flow, shot.ticks);
            }
            let skipped = self.condition.video_dead || (shot.unit.key && self.condition.no_keys);
            if shot.stamp.counter >= viewer.first && !skipped && self.video(flow, shot) {
                frame = Some(SentFrame {
                    counter: shot.stamp.counter,
                    utc_nanos: self.utc.unix_nanos(),
                    key: shot.unit.key,
                });
            }
        }
        if let (Some(flow), Some(sound)) = (&mut viewer.audio, sound) {
            if reports {
                self.report(flow, sound.ticks);
            }
            self.audio(flow, sound);
        }
        if reports {
            viewer.next_report = self.now.max(viewer.started) + REPORT_INTERVAL;
        }
        if let Some(sent) = frame.filter(|_| viewer.video.as_ref().is_some_and(Flow::is_udp)) {
            truth.sent(viewer.log, sent);
            frame = None;
        }
        if self.out.is_empty() {
            viewer.session.flush()?;
        } else {
            viewer.session.send(self.out, frame)?;
        }
        collect_sent(viewer, truth);
        Ok(())
    }

    /// Sends a frame's packets; true if none was left out.
    fn video(&mut self, flow: &mut Flow, shot: &Shot<'_>) -> bool {
        if self.condition.malformed {
            self.malformed(flow, shot);
        }
        let start = self.out.len();
        let ticks = shot.ticks.wrapping_add(shot.composition_ticks);
        let stamp = wire::stamp_nal(shot.stamp, shot.unit.coding);
        self.out.extend_from_slice(&shot.unit.image);
        let stamp_at = start + shot.unit.stamp_at;
        if let Some(place) = self.out.get_mut(stamp_at..stamp_at + stamp.len()) {
            place.copy_from_slice(&stamp);
        }
        for packet in &shot.unit.packets {
            if packet.parameter_set && self.condition.no_sets {
                continue;
            }
            if let Some(bytes) = self.out.get_mut(start + packet.start..start + packet.end) {
                wire::patch(bytes, flow.channel(), flow.sequence, ticks, flow.ssrc);
            }
            flow.sequence = flow.sequence.wrapping_add(1);
            flow.packets = flow.packets.wrapping_add(1);
            flow.octets =
                flow.octets.wrapping_add((packet.end - packet.start - INTERLEAVED_HEADER - RTP_HEADER) as u32);
        }
        if self.condition.packets_untouched() && !flow.is_udp() {
            return true;
        }
        let image = self.out.split_off(start);
        self.by_packet(flow, shot, &image)
    }

    /// The slow way: each packet may be lost, doubled or change places, or goes over UDP.
    fn by_packet(&mut self, flow: &Flow, shot: &Shot<'_>, image: &[u8]) -> bool {
        let Condition { no_sets, loss, reorder, duplicate, .. } = *self.condition;
        let mut whole = true;
        let mut order: Vec<&[u8]> = Vec::with_capacity(shot.unit.packets.len());
        for packet in shot.unit.packets.iter().filter(|packet| !(packet.parameter_set && no_sets)) {
            let Some(bytes) = image.get(packet.start..packet.end) else { continue };
            if self.happens(loss) {
                whole = false;
                continue;
            }
            order.push(bytes);
            if self.happens(duplicate) {
                order.push(bytes);
            }
            if self.happens(reorder)
                && let [.., before, last] = order.as_mut_slice()
            {
                std::mem::swap(before, last);
            }
        }
        for bytes in order {
            whole &= self.packet(flow, bytes);
        }
        whole
    }

    fn happens(&mut self, per_mille: u16) -> bool {
        per_mille > 0 && self.chance.u16(..1000) < per_mille
    }

    /// Sends one packet given with its interleaved header; false if it was not.
    fn packet(&mut self, flow: &Flow, bytes: &[u8]) -> bool {
        match flow.path {
            Path::Channel(_) => {
                self.out.extend_from_slice(bytes);
                true
            }
            Path::Udp { rtp, .. } => {
                let packet = bytes.get(INTERLEAVED_HEADER..).unwrap_or_default();
                !self.condition.udp_silent && self.udp.rtp.try_send_to(packet, rtp).is_ok()
            }
        }
    }

    /// Packets that no decoder wants, numbered in sequence where they have a number at all.
    fn malformed(&mut self, flow: &mut Flow, shot: &Shot<'_>) {
        for body in malformed::units() {
            let mut bytes = Vec::new();
            wire::append_packet(&mut bytes, wire::VIDEO_PAYLOAD_TYPE, &[], body);
            wire::patch(&mut bytes, flow.channel(), flow.sequence, shot.ticks, flow.ssrc);
            flow.sequence = flow.sequence.wrapping_add(1);
            self.packet(flow, &bytes);
        }
        for packet in malformed::packets() {
            let mut bytes = vec![b'$', flow.channel()];
            bytes.extend_from_slice(&(packet.len() as u16).to_be_bytes());
            bytes.extend_from_slice(packet);
            self.packet(flow, &bytes);
        }
    }

    fn audio(&mut self, flow: &mut Flow, sound: &Sound<'_>) {
        for index in 0..sound.frames.min(MAX_AUDIO_CATCH_UP) {
            let mut bytes = Vec::new();
            // RFC 3551 §4.1 and RFC 3640 §3.1: every AAC access unit ends with the marker; G.711 and Opus leave it.
            let marker = if sound.format.frame_ticks == 1024 { 0x80 } else { 0 };
            wire::append_packet(&mut bytes, sound.format.payload_type | marker, &[], &sound.format.frame);
            let ticks = sound.ticks.wrapping_add((index as u32).wrapping_mul(sound.format.frame_ticks));
            wire::patch(&mut bytes, flow.channel(), flow.sequence, ticks, flow.ssrc);
            flow.sequence = flow.sequence.wrapping_add(1);
            flow.packets = flow.packets.wrapping_add(1);
            flow.octets = flow.octets.wrapping_add(sound.format.frame.len() as u32);
            self.packet(flow, &bytes);
        }
    }

    /// A sender report and a source description (RFC 3550 §6.4.1, §6.5).
    fn report(&mut self, flow: &Flow, ticks: u32) {
        let mut report = vec![0x80, 200, 0, 6];
        report.extend_from_slice(&flow.ssrc.to_be_bytes());
        report.extend_from_slice(&self.utc.to_ntp().to_be_bytes());
        for word in [ticks, flow.packets, flow.octets] {
            report.extend_from_slice(&word.to_be_bytes());
        }
        report.extend_from_slice(&[0x81, 202, 0, 4]);
        report.extend_from_slice(&flow.ssrc.to_be_bytes());
        report.extend_from_slice(b"\x01\x09relay-sim\0");
        match flow.path {
            Path::Channel(channel) => {
                self.out.extend_from_slice(&[b'$', channel.wrapping_add(1)]);
                self.out.extend_from_slice(&(report.len() as u16).to_be_bytes());
                self.out.extend_from_slice(&report);
            }
            Path::Udp { rtcp, .. } if !self.condition.udp_silent => {
                let _ = self.udp.rtcp.try_send_to(&report, rtcp);
            }
            Path::Udp { .. } => {}
        }
    }
}

/// Audio frames sent in one turn after the farm was held up: 2 s of 20 ms.
const MAX_AUDIO_CATCH_UP: u64 = 100;

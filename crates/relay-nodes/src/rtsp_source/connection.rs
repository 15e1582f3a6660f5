//! One connection, from DESCRIBE to its end.

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use relay_graph::{Backoff, Clock, FailureClass, Output, SourceContext, StallDetector, StallLimits};
use relay_media::{Codec, Kind, Timebase, TrackId, UtcTime};
use relay_rtp::{Format, RtpPacket, SdpMedia, sdp_medias};
use retina::{
    client::{
        Credentials, Described, InitialTimestampPolicy, PacketItem, PlayOptions, Playing, Session, SessionGroup,
        SessionOptions, SetupOptions, TcpTransportOptions, UdpTransportOptions,
    },
    rtcp::ReceivedCompoundPacket,
};
use tracing::{info, warn};

use super::{
    RtspOptions, Transport,
    failure::{Failure, MEDIA},
    tracks::{Anchor, Flow, RtpTrack, Timeline},
};

/// retina's read buffer, and an access unit in the making for each track, at its bound of 8 MiB; audio needs little.
pub(super) const MAX_BUFFER_BYTES: usize = (8 << 20) + (1 << 20);
/// Nothing came over UDP: a firewall or a NAT is in the way.
pub(super) const UDP_SILENT: &str = "udp_silent";
/// For each request: a camera that needs longer is restarting.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// What a camera gets to answer TEARDOWN; a new connection, or the end of the process, waits for it.
const TEARDOWN_TIMEOUT: Duration = Duration::from_millis(500);
/// How long UDP may be silent at first.
const UDP_PATIENCE: Duration = Duration::from_secs(3);
/// How often the stall detector is asked, and counters are told.
const TICK: Duration = Duration::from_millis(250);
/// Cameras with a GOP of 10 s are common, and some take a while to make their first key frame.
pub(super) const KEY_FRAME_TIMEOUT: Duration = Duration::from_secs(30);
/// The most streams of a session that are set up: one video and one audio.
const MAX_TRACKS: usize = 2;

pub(super) struct Connection<'a> {
    options: &'a RtspOptions,
    credentials: Option<&'a Credentials>,
    transport: Transport,
    group: Arc<SessionGroup>,
}

impl<'a> Connection<'a> {
    pub(super) fn new(options: &'a RtspOptions, credentials: Option<&'a Credentials>, transport: Transport) -> Self {
        Self { options, credentials, transport, group: Arc::default() }
    }

    /// Connects and pumps until it fails, as every connection does some day.
    pub(super) async fn run(
        &mut self,
        timeline: &mut Timeline,
        out: &mut Output,
        ctx: &SourceContext,
        backoff: &mut Backoff,
    ) -> Failure {
        let (session, tracks) = match self.play().await {
            Ok(playing) => playing,
            Err(failure) => return failure,
        };
        ctx.monitor.announce(tracks.iter().flatten().count());
        timeline.reconnect();
        let now = ctx.clock.now();
        let limits = StallLimits {
            timeout: self.options.stall_timeout,
            key_frame_timeout: self.options.key_frame_timeout.max(self.options.stall_timeout),
            expects_video: tracks.iter().flatten().any(|track| track.kind() == Kind::Video),
            required: self.options.require_tracks.clone(),
        };
        let flow = Flow { out, detector: StallDetector::new(limits, now) };
        let patience = (self.transport == Transport::Udp).then_some(now + UDP_PATIENCE);
        let anchor = Anchor::new(ctx.clock.clone());
        let look_at = now + TICK;
        let mut pump =
            Pump { tracks, anchor, flow, timeline, ctx, backoff, patience, look_at, live: Live::No, warned: false };
        pump.run(session).await
    }

    /// Gives the TEARDOWN that retina sends in the background its time. Sessions that were never set up need none.
    pub(super) async fn teardown(&self, clock: &Clock) {
        tokio::select! {
            // It tells of a failed TEARDOWN: the camera will notice by itself.
            _ = self.group.await_teardown() => {}
            () = clock.sleep(TEARDOWN_TIMEOUT) => {}
        }
    }

    /// DESCRIBE, SETUP, PLAY. The tracks stand at the indices of retina's streams.
    async fn play(&self) -> Result<(Session<Playing>, Vec<Option<RtpTrack>>), Failure> {
        let options = SessionOptions::default()
            .creds(self.credentials.cloned())
            .session_group(self.group.clone())
            .user_agent(concat!("relayd/", env!("CARGO_PKG_VERSION")).into());
        let mut session = answered("DESCRIBE", Session::describe(self.options.url.clone(), options)).await?;
        let tracks = choose_tracks(&session)?;
        for (index, _) in tracks.iter().enumerate().filter(|(_, track)| track.is_some()) {
            let transport = match self.transport {
                Transport::Tcp => retina::client::Transport::Tcp(TcpTransportOptions::default()),
                Transport::Udp | Transport::Auto => retina::client::Transport::Udp(UdpTransportOptions::default()),
            };
            answered("SETUP", session.setup(index, SetupOptions::default().transport(transport))).await?;
        }
        let options = PlayOptions::default()
            // Our normaliser anchors by arrival; cameras that get RTP-Info wrong are many.
            .initial_timestamp(InitialTimestampPolicy::Ignore);
        Ok((answered("PLAY", session.play(options)).await?, tracks))
    }
}

async fn answered<T>(step: &str, request: impl Future<Output = Result<T, retina::Error>>) -> Result<T, Failure> {
    match tokio::time::timeout(REQUEST_TIMEOUT, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(Failure::retina(step, &error)),
        Err(_) => Err(Failure::timeout(step, REQUEST_TIMEOUT)),
    }
}

/// The first video and the first audio stream that we can carry.
fn choose_tracks(session: &Session<Described>) -> Result<Vec<Option<RtpTrack>>, Failure> {
    let medias = sdp_medias(session.sdp());
    let mut medias = medias.iter();
    let mut tracks: Vec<Option<RtpTrack>> = Vec::new();
    let mut refused = Vec::new();
    for stream in session.streams() {
        let kind = match stream.media() {
            "video" => Some(Kind::Video),
            "audio" => Some(Kind::Audio),
            _ => None,
        };
        let taken = tracks.iter().flatten().any(|track| Some(track.kind()) == kind);
        // retina tells no fmtp, and leaves out medias that it cannot read: the next that looks the same is meant.
        let alike =
            |media: &&SdpMedia<'_>| media.media == stream.media() && media.payload_type == stream.rtp_payload_type();
        let fmtp = medias.find(alike).map_or("", |media| media.fmtp);
        let track = kind.filter(|_| !taken).and_then(|kind| {
            let channels = stream.channels().map(|channels| channels.get());
            match Format::parse(stream.encoding_name(), stream.clock_rate_hz(), channels, fmtp) {
                Ok(format) => {
                    let timebase = Timebase::new(stream.clock_rate_hz())?;
                    // Video is track 1 and audio track 2, in whatever order the camera lists them.
                    let id = TrackId(if kind == Kind::Video { 1 } else { 2 });
                    Some(RtpTrack::new(id, kind, timebase, &format))
                }
                Err(error) => {
                    refused.push(format!("{} {}: {error}", stream.media(), stream.encoding_name()));
                    None
                }
            }
        });
        tracks.push(track);
    }
    debug_assert!(tracks.iter().flatten().count() <= MAX_TRACKS);
    if tracks.iter().all(Option::is_none) {
        let refused = if refused.is_empty() { "no video or audio at all".into() } else { refused.join("; ") };
        let text = format!("the camera offers nothing that can be carried: {refused}");
        return Err(Failure::new("codec", FailureClass::Slow, text));
    }
    for refused in refused {
        warn!("a track is left out: {refused}");
    }
    Ok(tracks)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Live {
    No,
    Yes,
}

/// A playing session, from packets to its failure.
struct Pump<'a> {
    tracks: Vec<Option<RtpTrack>>,
    anchor: Anchor,
    flow: Flow<'a>,
    timeline: &'a mut Timeline,
    ctx: &'a SourceContext,
    backoff: &'a mut Backoff,
    /// Until when UDP may stay silent.
    patience: Option<Instant>,
    /// When to look for a stall next, by the packets' arrival.
    look_at: Instant,
    live: Live,
    warned: bool,
}

impl Pump<'_> {
    async fn run(&mut self, mut session: Session<Playing>) -> Failure {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let failure = tokio::select! {
                biased;
                item = session.next() => match item {
                    Some(Ok(item)) => match self.take(item) {
                        Some(failure) => failure,
                        None => continue,
                    },
                    Some(Err(error)) => Failure::retina(MEDIA, &error),
                    None => Failure::new("closed", FailureClass::Cheap, "the camera closed the connection"),
                },
                _ = tick.tick() => match self.look() {
                    Some(failure) => failure,
                    None => continue,
                },
            };
            self.report();
            return failure;
        }
    }

    fn take(&mut self, item: PacketItem) -> Option<Failure> {
        match item {
            PacketItem::Rtp(packet) => {
                self.patience = None;
                let track = self.tracks.get_mut(packet.stream_id())?.as_mut()?;
                let arrival = packet.ctx().received();
                let rtp = RtpPacket {
                    payload: packet.payload(),
                    timestamp: packet.timestamp().timestamp(),
                    marker: packet.mark(),
                    lost_before: u32::from(packet.loss()),
                    arrival,
                };
                self.anchor.push(rtp, track, self.timeline, &mut self.flow);
                if self.live == Live::No && self.flow.detector.healthy() {
                    self.go_live();
                }
                // A stream that never pauses would starve the timer.
                (arrival >= self.look_at).then(|| self.look()).flatten()
            }
            PacketItem::Rtcp(report) => {
                self.take_report(&report);
                None
            }
            _ => None,
        }
    }

    fn take_report(&mut self, compound: &ReceivedCompoundPacket) {
        let Some(Some(track)) = self.tracks.get(compound.stream_id()) else { return };
        let Some(rtp) = compound.rtp_timestamp() else { return };
        let Some(Ok(Some(report))) = compound.pkts().next().map(retina::rtcp::PacketRef::as_sender_report) else {
            return;
        };
        let utc = UtcTime::from_ntp(report.ntp_timestamp().0);
        if !self.anchor.sender_report(self.timeline, track.id(), rtp.timestamp(), utc) {
            self.ctx.monitor.quirk("camera_clock_wrong", 1);
        }
    }

    fn go_live(&mut self) {
        self.live = Live::Yes;
        self.ctx.monitor.live();
        self.backoff.became_healthy(self.ctx.clock.now());
        let tracks: Vec<String> = self.tracks.iter().flatten().filter_map(RtpTrack::codec).map(told).collect();
        info!("live: {}", tracks.join(", "));
    }

    /// Looks for a stall, four times a second.
    fn look(&mut self) -> Option<Failure> {
        let now = self.ctx.clock.now();
        self.look_at = now + TICK;
        self.report();
        if self.patience.is_some_and(|patience| now >= patience) {
            let text =
                "nothing came over UDP for 3 s: a firewall may be in the way; `transport = \"tcp\"` would pass it";
            return Some(Failure::new(UDP_SILENT, FailureClass::Cheap, text));
        }
        if let Some(stall) = self.flow.detector.check(now) {
            self.ctx.monitor.stalled(stall.to_string());
            return Some(stall.into());
        }
        self.backoff.healthy(now);
        None
    }

    /// Tells what was counted, and once of an announced track that never came.
    fn report(&mut self) {
        for track in self.tracks.iter_mut().flatten() {
            track.report(&self.ctx.monitor);
        }
        for jump in self.anchor.take_jumps() {
            self.ctx.monitor.quirk(jump, 1);
        }
        let silent = self.tracks.iter().flatten().find(|track| track.packets == 0).map(RtpTrack::kind);
        let busy = self.tracks.iter().flatten().any(|track| track.packets > MANY_PACKETS);
        if let Some(kind) = silent.filter(|_| busy && !self.warned) {
            self.warned = true;
            let text = format!("the {} track was announced and is silent", kind.as_str());
            warn!("{text}");
            self.ctx.monitor.warn(text);
        }
    }
}

/// A track that sent nothing while another sent this many packets (seconds' worth) is silent.
const MANY_PACKETS: u64 = 1_000;

/// A track in a few words.
fn told(codec: &Codec) -> String {
    match codec {
        Codec::H264(config) => {
            format!("H.264 {} {}x{}", config.profile_name(), config.width(), config.height())
        }
        Codec::H265(config) => {
            format!("H.265 {} {}x{}", config.profile_name(), config.width(), config.height())
        }
        Codec::Aac(config) => format!("AAC {} Hz", config.sample_rate()),
        Codec::Opus(_) => "Opus".into(),
        Codec::G711(config) => format!("G.711 {} {} Hz", config.law.name(), config.sample_rate),
    }
}

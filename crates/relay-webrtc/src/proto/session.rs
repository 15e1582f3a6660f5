//! One viewer: str0m's peer connection, and what is known of it.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    time::{Duration, Instant},
};

use relay_media::Kind;
use str0m::{Rtc, net::Receive};

use super::{
    candidate::{Candidates, Protocol},
    fragment::{self, FragmentError},
    negotiation::{Plan, SessionSettings},
    offer::{Offer, Transport},
    packetizer::RtpUnit,
    refusal::{Refusal, RefusalKind},
    report::{ADDRESSES_MAX, SelectedPair, SessionReport, SessionState},
    timeline::Timeline,
};

mod build;
mod congestion;
mod dependency;
mod extreme;
mod observe;
mod playout;
mod source;
mod transport_number;

use congestion::Congestion;
use source::Queued;
pub(super) use source::Source;

/// A viewer that has not finished ICE and DTLS by then never will.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Silence after which the viewer is gone: four of the checks that RFC 7675 §5.1 wants every five seconds.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(20);

/// Packets that are handed to str0m at once: its queue never gives back the memory that it once took.
const BATCH: usize = 16;

/// A joiner is live by then, and what was lost of its backlog has been sent again.
const SETTLE: Duration = Duration::from_secs(3);

/// str0m's clock may run ahead of ours by this much: a timer for less would cost more than what it is for.
const AHEAD: Duration = Duration::from_micros(250);

/// How often str0m may want time to pass without sending anything, and the pause after an implausible number of it.
const SPINS_MAX: u32 = 32;
const SPIN_PAUSE: Duration = Duration::from_millis(1);

/// One viewer. Feed it datagrams and time, then call [`poll_output`](Self::poll_output) until it returns
/// [`Output::Timeout`].
#[derive(Debug)]
pub struct Session {
    rtc: Box<Rtc>,
    candidates: Candidates,
    /// The viewer's side, to tell a trickled candidate from an ICE restart.
    viewer: Transport,
    password: String,
    video: Option<Source>,
    audio: Option<Source>,
    timeline: Timeline,
    congestion: Congestion,
    /// What the viewer calls the extension that its feedback is about.
    transport_number: Option<u8>,
    /// Payloads of pictures that wait for the pace or the window: those of one unit, and rarely of a few.
    queue: VecDeque<Queued>,
    report: SessionReport,
    started: Instant,
    heard: Instant,
    /// When the memory that joining took is given back at the latest; `None` if it was.
    settle_at: Option<Instant>,
    /// str0m's time, which never goes back.
    clock: Instant,
    events: VecDeque<Event>,
    /// Why it ends, while it is ending.
    ending: Option<CloseCause>,
}

/// What a session wants done.
#[derive(Debug)]
pub enum Output {
    /// Send this.
    Transmit(Transmit),
    /// There is no more output now; call [`Session::handle_timeout`] at this instant.
    Timeout(Instant),
    /// Something happened.
    Event(Event),
}

/// A datagram to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// UDP, or a TCP connection that the viewer opened.
    pub protocol: Protocol,
    /// The local address to send from, a [`LocalCandidate::base`](super::LocalCandidate::base).
    pub source: SocketAddr,
    /// Where to send it.
    pub destination: SocketAddr,
    /// The datagram, at most 1 200 bytes unless an audio frame is longer. Not framed for TCP.
    pub contents: Vec<u8>,
}

/// What became of a unit that was handed to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Handed {
    /// It is on its way, behind the pacer.
    Sent,
    /// This viewer does without it: sound of the backlog that it joined with, or the session is ending.
    Skipped,
    /// The session has no track for it: the viewer did not ask for it, or could not take it.
    NotCarried,
}

/// What happened to a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// DTLS is done: [`Session::send`] works from now on.
    Connected,
    /// The viewer can't decode until it gets a key frame (PLI or FIR).
    KeyFrameWanted,
    /// What the path is estimated to carry, in bits per second.
    EstimateChanged(u64),
    /// It is over; the last event.
    Closed(CloseCause),
}

/// Why a session ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseCause {
    /// The viewer closed the connection (DTLS close_notify).
    #[error("the viewer closed the connection")]
    ByViewer,
    /// [`Session::close`] was called.
    #[error("the server closed the connection")]
    ByServer,
    /// ICE and DTLS were not done within 10 s.
    #[error("ICE and DTLS were not done within 10 s")]
    NeverConnected,
    /// Nothing was heard of the viewer for 20 s.
    #[error("nothing was heard of the viewer for 20 s")]
    Vanished,
    /// DTLS failed, or str0m did; in its words.
    #[error("the connection failed: {0}")]
    Failed(String),
}

impl CloseCause {
    /// One of a few fixed words for metrics: `"closed"`, `"never_connected"`, `"vanished"` or `"failed"`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::ByViewer | Self::ByServer => "closed",
            Self::NeverConnected => "never_connected",
            Self::Vanished => "vanished",
            Self::Failed(_) => "failed",
        }
    }
}

impl Session {
    /// A session that waits for the viewer's STUN.
    pub(super) fn start(
        offer: &Offer,
        plan: &Plan,
        settings: &SessionSettings<'_>,
        now: Instant,
    ) -> Result<Self, Refusal> {
        let internal = |error: &dyn std::fmt::Display| {
            Refusal::new(RefusalKind::Unservable, format!("the session could not be made: {error}"), "try again")
        };
        let password = build::password().map_err(|error| internal(&error))?;
        let built = build::build(offer, plan, settings, &password, now).map_err(|error| internal(&error))?;
        let clock = |source: &Option<Source>, unused| {
            source.as_ref().map_or((unused, 0), |source| (source.clock_hz, source.timestamp_offset))
        };
        let timeline = Timeline::new(now, clock(&built.video, 90_000), clock(&built.audio, 48_000));
        Ok(Self {
            rtc: Box::new(built.rtc),
            candidates: Candidates::new(settings.candidates),
            viewer: plan.transport.clone(),
            password,
            video: built.video,
            audio: built.audio,
            timeline,
            congestion: Congestion::new(built.transport_number.is_some(), now),
            transport_number: built.transport_number,
            queue: VecDeque::new(),
            report: SessionReport {
                remote_candidates: offer.candidates.clone(),
                h264: plan.video.as_ref().and_then(|video| video.choice.h264),
                since: Some(now),
                ..SessionReport::default()
            },
            started: now,
            heard: now,
            settle_at: None,
            clock: now,
            events: VecDeque::new(),
            ending: None,
        })
    }

    /// Takes a datagram. `destination` is the local address at which it arrived, a
    /// [`LocalCandidate::base`](super::LocalCandidate::base). Whatever the bytes are, they only count or help.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        protocol: Protocol,
        source: SocketAddr,
        destination: SocketAddr,
        bytes: &[u8],
    ) {
        if self.is_closed() {
            return;
        }
        self.count_received(now, protocol, source, bytes);
        let taken = self.candidates.told(protocol, destination).is_some_and(|told| {
            let received = Receive::new(protocol.into(), source, told, bytes);
            // An error is about this datagram; if it is fatal, str0m says so in poll_output.
            received.is_ok_and(|received| self.rtc.handle_input(str0m::Input::Receive(now, received)).is_ok())
        });
        if !taken {
            self.report.refused += 1;
        }
    }

    /// Lets time pass. To be called at the instant of [`Output::Timeout`], or earlier.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.is_closed() {
            return;
        }
        if now >= self.deadline() {
            let cause = match self.report.state {
                SessionState::Connected => CloseCause::Vanished,
                _ => CloseCause::NeverConnected,
            };
            return self.end(cause);
        }
        self.stamp(now);
    }

    /// The next thing to be done. To be called after each input until it returns [`Output::Timeout`].
    pub fn poll_output(&mut self, now: Instant) -> Output {
        let mut spins = 0;
        loop {
            if let Some(event) = self.events.pop_front() {
                return Output::Event(event);
            }
            if self.is_closed() {
                return Output::Timeout(now + CONNECT_TIMEOUT);
            }
            match self.rtc.poll_output() {
                Ok(str0m::Output::Transmit(transmit)) => {
                    if let Some(transmit) = self.count_sent(now, transmit) {
                        return Output::Transmit(transmit);
                    }
                }
                Ok(str0m::Output::Event(event)) => self.observe(now, event),
                Ok(str0m::Output::Timeout(at)) => {
                    if at <= now + AHEAD && self.rtc.is_alive() && spins < SPINS_MAX {
                        spins += 1;
                        self.stamp(at.max(now));
                    } else if self.ending.is_some() || !self.rtc.is_alive() {
                        self.finish();
                    } else if !self.release(now) {
                        return Output::Timeout(self.next_timeout(now, at, spins));
                    }
                }
                Err(error) => self.fail(&error),
            }
        }
    }

    /// The viewer is connected, and another unit would leave soon. What has to wait should wait in the ring, where it
    /// can be shed.
    pub fn room(&self) -> bool {
        self.report.state == SessionState::Connected && self.ending.is_none() && self.queue.is_empty()
    }

    /// Queues a unit and says what became of it. `backlog` is the media time from this unit to the live edge. A unit
    /// of a track that is not served, or of the backlog's audio, is passed over; so is everything before
    /// [`Event::Connected`].
    pub fn send(&mut self, now: Instant, unit: &RtpUnit, backlog: Duration) -> Handed {
        let served = match unit.kind {
            Kind::Video => self.video.is_some(),
            Kind::Audio => self.audio.is_some(),
        };
        if !served {
            return Handed::NotCarried;
        }
        if self.report.state != SessionState::Connected || self.ending.is_some() {
            return Handed::Skipped;
        }
        let Some(place) = self.timeline.place(unit, backlog, now) else { return Handed::Skipped };
        // Before a key frame nothing of what is thrown away is needed any more.
        if unit.kind == Kind::Video && unit.key && self.settle_at.is_some_and(|at| at <= now) {
            self.settle();
        }
        match (unit.kind, self.video.as_mut(), self.audio.as_mut()) {
            (Kind::Video, Some(video), _) => {
                video.queue(unit, place, &mut self.queue);
                self.release(now);
            }
            (Kind::Audio, _, Some(audio)) => {
                // Sound doesn't wait: it is little, and late it is of no use.
                audio.write_all(&mut self.rtc, unit, place);
                self.stamp(now);
            }
            _ => return Handed::NotCarried,
        }
        Handed::Sent
    }

    /// Takes an RFC 8840 fragment. The candidates only serve the diagnosis: the server is ICE-lite and answers from
    /// wherever it is asked.
    ///
    /// # Errors
    /// It is no such fragment, or it asks for an ICE restart.
    pub fn trickle(&mut self, fragment: &str) -> Result<(), FragmentError> {
        fragment::read(fragment, &self.viewer, &mut self.report.remote_candidates)
    }

    /// Ends the session: DTLS close_notify to the viewer, then [`Event::Closed`].
    pub fn close(&mut self) {
        self.end(CloseCause::ByServer);
    }

    /// What is known of it.
    pub fn report(&self) -> SessionReport {
        self.report.clone()
    }

    /// Hands to str0m what pace and window allow, a few packets; true if there was something.
    fn release(&mut self, now: Instant) -> bool {
        let Some(video) = self.video.as_mut() else { return false };
        let mut released = false;
        for _ in 0..BATCH {
            if self.queue.is_empty() || !self.congestion.may_send(now) {
                break;
            }
            let Some(queued) = self.queue.pop_front() else { break };
            self.congestion.handed(queued.payload.len());
            video.write(&mut self.rtc, queued);
            released = true;
        }
        if released {
            self.stamp(now);
        }
        released
    }

    /// The session is on the live edge: gives back, once, what the backlog took for retransmissions.
    fn settle(&mut self) {
        if self.settle_at.take().is_some()
            && let Some(video) = &mut self.video
        {
            video.settle(&mut self.rtc);
        }
    }

    /// str0m sends what was written when time moves, and only then.
    fn stamp(&mut self, now: Instant) {
        self.clock = self.clock.max(now);
        if let Err(error) = self.rtc.handle_input(str0m::Input::Timeout(self.clock)) {
            self.fail(&error);
        }
    }

    fn next_timeout(&self, now: Instant, rtc: Instant, spins: u32) -> Instant {
        let pause = if spins < SPINS_MAX { AHEAD } else { SPIN_PAUSE };
        let own = if self.queue.is_empty() { self.deadline() } else { self.congestion.retry_at() };
        rtc.min(own).max(now + pause).min(self.deadline())
    }

    fn is_closed(&self) -> bool {
        self.report.state == SessionState::Closed
    }

    /// When it ends if nothing is heard.
    fn deadline(&self) -> Instant {
        match self.report.state {
            SessionState::Connected => self.heard + SILENCE_TIMEOUT,
            _ => self.started + CONNECT_TIMEOUT,
        }
    }

    fn fail(&mut self, error: &str0m::RtcError) {
        self.ending.get_or_insert(CloseCause::Failed(error.to_string()));
        self.finish();
    }

    /// Starts the end: what str0m still has to say is sent first.
    fn end(&mut self, cause: CloseCause) {
        if self.is_closed() || self.ending.is_some() {
            return;
        }
        self.ending = Some(cause);
        if self.rtc.close().is_err() {
            self.finish();
        }
    }

    fn finish(&mut self) {
        if self.is_closed() {
            return;
        }
        self.rtc.disconnect();
        self.report.state = SessionState::Closed;
        let cause = self.ending.take().unwrap_or_else(|| CloseCause::Failed("it broke off".to_owned()));
        self.events.clear();
        self.events.push_back(Event::Closed(cause));
    }
}

/// What the answer needs.
impl Session {
    pub(super) fn source(&self, kind: Kind) -> Option<&Source> {
        match kind {
            Kind::Video => self.video.as_ref(),
            Kind::Audio => self.audio.as_ref(),
        }
    }

    /// The session's number in SDP; the one who makes it chooses (RFC 8866 §5.2).
    pub(super) fn sdp_id(&self) -> u64 {
        let number = |source: &Option<Source>| source.as_ref().map_or(0, |source| u64::from(source.ssrc));
        number(&self.video) << 31 | number(&self.audio) >> 1
    }

    pub(super) fn password(&self) -> &str {
        &self.password
    }

    pub(super) fn fingerprint(&mut self) -> String {
        self.rtc.direct_api().local_dtls_fingerprint().to_string()
    }
}

//! A camera, a session, a path, and a viewer, on simulated time. The egress policy is the one of the webrtc sink in
//! small: a cursor into the ring, that jumps to the newest key frame when it lags.

use std::time::{Duration, Instant};

use relay_webrtc::{
    Certificate, CloseCause, Event, LocalCandidate, Output, Protocol, Session, SessionReport, SessionSettings, answer,
};

use super::{
    camera::{Camera, Scene},
    link::{Link, Path},
    viewer::Viewer,
};

pub(crate) const SERVER: &str = "192.0.2.1:8555";
pub(crate) const VIEWER: &str = "198.51.100.2:40000";

/// Lag after which the cursor jumps.
const MAX_LAG: Duration = Duration::from_secs(1);
/// How long a joiner is exempt.
const EXEMPT: Duration = Duration::from_secs(2);

pub(crate) struct Simulation {
    pub(crate) now: Instant,
    pub(crate) camera: Camera,
    pub(crate) session: Session,
    pub(crate) viewer: Viewer,
    pub(crate) down: Link,
    pub(crate) up: Link,
    session_timeout: Instant,
    cursor: Option<usize>,
    /// The cursor jumped, and the next unit that counts is a key frame.
    waiting: bool,
    pub(crate) connected_at: Option<Instant>,
    pub(crate) closed: Option<CloseCause>,
    pub(crate) key_frames_wanted: u32,
    /// Pictures left out by jumps.
    pub(crate) shed: u32,
    /// The viewer hears nothing and says nothing any more.
    pub(crate) gone: bool,
    pub(crate) longest: usize,
    /// The longest that a picture was held back by pace or window.
    pub(crate) held_back: Duration,
    held_since: Option<Instant>,
}

impl Simulation {
    /// A viewer opens a session `age` after the camera was switched on.
    pub(crate) fn new(scene: Scene, path: Path, age: Duration, seed: u64) -> Self {
        let start = epoch();
        let now = start + age;
        let mut camera = Camera::new(scene, start);
        camera.run(now);
        let (mut viewer, offer, pending) = Viewer::new(VIEWER.parse().unwrap(), scene.sound, now);
        let server = SERVER.parse().unwrap();
        let candidates = [LocalCandidate { protocol: Protocol::Udp, address: server, base: server }];
        let certificate = Certificate::generate().unwrap();
        let settings = SessionSettings { ufrag: "relayufrag", candidates: &candidates, certificate: &certificate };
        let (session, text) = answer(&offer, &camera.media(), &settings, now).unwrap();
        viewer.accept(pending, &text);
        Self {
            now,
            camera,
            session,
            viewer,
            down: Link::new(path, seed),
            up: Link::new(Path { bottleneck: None, ..path }, seed + 1),
            session_timeout: now,
            cursor: None,
            waiting: false,
            connected_at: None,
            closed: None,
            key_frames_wanted: 0,
            shed: 0,
            gone: false,
            longest: 0,
            held_back: Duration::ZERO,
            held_since: None,
        }
    }

    /// Lets time pass until `until` says so, at most for `limit`.
    pub(crate) fn run(&mut self, limit: Duration, mut until: impl FnMut(&Self) -> bool) {
        let end = self.now + limit;
        while !until(self) {
            self.step();
            self.watch_room();
            let next =
                [Some(self.session_timeout), self.down.next_at(), self.up.next_at(), Some(self.camera.next_at())]
                    .into_iter()
                    .flatten()
                    .chain((!self.gone).then_some(self.viewer.timeout))
                    .min()
                    .unwrap();
            self.now = next.max(self.now + Duration::from_micros(1));
            if self.now >= end {
                self.now = end;
                return;
            }
        }
    }

    fn watch_room(&mut self) {
        match self.held_since {
            _ if self.session.room() => self.held_since = None,
            Some(since) => self.held_back = self.held_back.max(self.now - since),
            None => self.held_since = Some(self.now),
        }
    }

    pub(crate) fn run_for(&mut self, time: Duration) {
        self.run(time, |_| false);
    }

    fn step(&mut self) {
        let now = self.now;
        self.camera.run(now);
        while let Some(flight) = self.up.arrived(now) {
            self.session.handle_datagram(now, Protocol::Udp, flight.source, flight.destination, &flight.bytes);
            self.drain();
        }
        if self.session_timeout <= now {
            self.session.handle_timeout(now);
        }
        self.drain();
        self.egress();
        while let Some(flight) = self.down.arrived(now) {
            if !self.gone {
                self.viewer.receive(now, flight.source, flight.destination, &flight.bytes);
                self.drain_viewer();
            }
        }
        if !self.gone {
            if self.viewer.timeout <= now {
                self.viewer.rtc.handle_input(str0m::Input::Timeout(now)).unwrap();
            }
            self.drain_viewer();
        }
    }

    fn drain_viewer(&mut self) {
        for transmit in self.viewer.drain() {
            self.up.send(self.now, transmit.source, transmit.destination, transmit.contents.to_vec());
        }
    }

    fn drain(&mut self) {
        loop {
            match self.session.poll_output(self.now) {
                Output::Transmit(transmit) => {
                    self.longest = self.longest.max(transmit.contents.len());
                    self.down.send(self.now, transmit.source, transmit.destination, transmit.contents);
                }
                Output::Timeout(at) => {
                    self.session_timeout = at;
                    return;
                }
                Output::Event(Event::Connected) => self.connected_at = Some(self.now),
                Output::Event(Event::KeyFrameWanted) => self.key_frames_wanted += 1,
                Output::Event(Event::EstimateChanged(_)) => {}
                Output::Event(Event::Closed(cause)) => self.closed = Some(cause),
            }
        }
    }

    fn egress(&mut self) {
        let Some(connected) = self.connected_at else { return };
        let newest_key = || self.camera.units.iter().rposition(|unit| unit.key);
        let mut cursor = self.cursor.or_else(newest_key).unwrap_or_default();
        while self.session.room() {
            let Some(unit) = self.camera.units.get(cursor).cloned() else { break };
            let backlog = self.camera.units.last().unwrap().pts.since(unit.pts);
            if backlog > MAX_LAG && self.now > connected + EXEMPT {
                // To the next key frame, if there is one; else it waits for it.
                let next = self.camera.units[cursor..].iter().rposition(|unit| unit.key).filter(|&ahead| ahead > 0);
                let ahead = next.unwrap_or(self.camera.units.len() - cursor);
                let skipped = &self.camera.units[cursor..cursor + ahead];
                self.shed += u32::try_from(skipped.iter().filter(|unit| is_video(unit)).count()).unwrap();
                cursor += ahead;
                self.waiting = next.is_none();
                continue;
            }
            if self.waiting && !unit.key {
                self.shed += u32::from(is_video(&unit));
                cursor += 1;
                continue;
            }
            self.waiting = false;
            self.session.send(self.now, &unit, backlog);
            self.drain();
            cursor += 1;
        }
        self.cursor = Some(cursor);
    }

    /// Lets the session say what it has to say.
    pub(crate) fn poll_session(&mut self) {
        self.drain();
    }

    /// A datagram that the viewer did not send, from its address.
    pub(crate) fn inject(&mut self, bytes: &[u8]) {
        let (viewer, server) = (VIEWER.parse().unwrap(), SERVER.parse().unwrap());
        self.session.handle_datagram(self.now, Protocol::Udp, viewer, server, bytes);
        self.drain();
    }

    pub(crate) fn report(&self) -> SessionReport {
        self.session.report()
    }
}

fn is_video(unit: &relay_webrtc::RtpUnit) -> bool {
    unit.kind == relay_media::Kind::Video
}

/// Some instant; everything after it is simulated.
pub(crate) fn epoch() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "any instant does")]
    Instant::now()
}

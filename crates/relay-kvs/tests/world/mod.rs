//! A simulated world around the scheduler: a camera, the service, a disk, and time.
#![allow(dead_code, unreachable_pub, clippy::print_stderr, reason = "each test uses its part")]

mod camera;
mod service;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

pub use camera::{Camera, START_MS};
use fastrand::Rng;
use relay_kvs::proto::{
    AckEvent, Cause, Failure, Fragment, Input, Lane, Output, Restored, Scheduler, SessionId, Settings,
};
pub use service::{Faults, Reply, Service};

/// What happens later.
#[derive(Debug)]
enum Later {
    Reply(SessionId, Reply),
    Stored(u64),
    /// Bytes reach the service.
    Wire(SessionId, Vec<u8>),
}

/// The world of one seed.
pub struct World {
    pub now: Instant,
    pub start: Instant,
    pub rng: Rng,
    pub camera: Camera,
    pub service: Service,
    pub faults: Faults,
    pub settings: Settings,
    pub scheduler: Scheduler,
    pub disk: BTreeMap<u64, Arc<Fragment>>,
    pub mark: u64,
    pub credentials: Option<Duration>,
    pub disk_works: bool,
    pub network: bool,
    /// The stream keeps nothing: RECEIVED is the end.
    pub keeps_nothing: bool,
    later: BTreeMap<(Instant, u64), Later>,
    order: u64,
    /// Sessions of which nothing is heard any more.
    gone: BTreeSet<SessionId>,
    /// PERSISTED was told of these.
    told: BTreeSet<u64>,
    pub persisted: BTreeMap<u64, Option<Duration>>,
    pub persisted_at: BTreeMap<u64, Instant>,
    pub lanes: Vec<(Instant, Lane)>,
    pub aside: Vec<u64>,
    pub is_done: bool,
    pub pushed: u64,
    pub trace: bool,
}

#[expect(clippy::disallowed_methods, reason = "any instant does")]
pub fn any_instant() -> Instant {
    Instant::now() + Duration::from_secs(1_000_000)
}

impl World {
    pub fn new(seed: u64, settings: Settings) -> Self {
        let now = any_instant();
        let rng = Rng::with_seed(seed);
        let camera = Camera::new(now);
        Self {
            now,
            start: now,
            rng,
            camera,
            service: Service::default(),
            faults: Faults::default(),
            scheduler: Scheduler::new(settings.clone(), vec![], 0),
            settings,
            disk: BTreeMap::new(),
            mark: 0,
            credentials: None,
            disk_works: true,
            network: true,
            keeps_nothing: false,
            later: BTreeMap::new(),
            order: 0,
            gone: BTreeSet::new(),
            told: BTreeSet::new(),
            persisted: BTreeMap::new(),
            persisted_at: BTreeMap::new(),
            lanes: vec![],
            aside: vec![],
            is_done: false,
            pushed: 0,
            trace: std::env::var_os("TRACE").is_some(),
        }
    }

    /// Lets time pass.
    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        self.run_until(end);
    }

    pub fn run_until(&mut self, end: Instant) {
        let mut turns = 0_u64;
        loop {
            turns += 1;
            assert!(turns < 4_000_000, "time stands still");
            let timer = self.scheduler.poll_timeout();
            let later = self.later.keys().next().map(|(at, _)| *at);
            let camera = self.camera.next_at();
            let next = [timer, later, camera].into_iter().flatten().min().filter(|next| *next < end && !self.is_done);
            let Some(next) = next else { break };
            self.now = self.now.max(next);
            if later == Some(next) {
                let (_, later) = self.later.pop_first().unwrap();
                self.happens(later);
            } else if camera == Some(next) {
                for packet in self.camera.take(self.now) {
                    self.pushed += 1;
                    self.input(Input::Packet(packet));
                }
            } else {
                self.scheduler.handle_timeout(self.now);
                self.drain();
            }
        }
        self.now = self.now.max(end);
        self.check();
    }

    fn happens(&mut self, later: Later) {
        match later {
            Later::Stored(timecode_ms) => match self.disk_works {
                true => self.input(Input::Stored(timecode_ms)),
                false => {
                    self.disk.remove(&timecode_ms);
                    self.input(Input::NotStored(timecode_ms));
                }
            },
            Later::Wire(id, _) if self.gone.contains(&id) => {}
            Later::Wire(id, bytes) => self.write(id, &bytes),
            Later::Reply(_, ref reply) if !self.network && !matches!(reply, Reply::Closed(Some(_))) => {}
            Later::Reply(id, _) if self.gone.contains(&id) => {}
            Later::Reply(id, Reply::Accepted) => self.input(Input::Accepted(id, self.credentials)),
            Later::Reply(id, Reply::Written) => self.input(Input::Written(id)),
            Later::Reply(id, Reply::Closed(failure)) => {
                self.gone.insert(id);
                self.input(Input::Closed(id, failure));
            }
            Later::Reply(id, Reply::Ack { event, timecode_ms, number }) => {
                if event == AckEvent::Persisted || self.keeps_nothing && event == AckEvent::Received {
                    self.told.insert(timecode_ms);
                }
                let json = ack_json(event, timecode_ms, &number);
                let (head, tail) = json.as_bytes().split_at(self.rng.usize(..json.len()));
                self.input(Input::Acks(id, head));
                self.input(Input::Acks(id, tail));
            }
        }
    }

    pub fn input(&mut self, input: Input<'_>) {
        self.scheduler.handle_input(self.now, input);
        self.drain();
    }

    fn at(&mut self, delay: Duration, later: Later) {
        self.order += 1;
        self.later.insert((self.now + delay, self.order), later);
    }

    fn drain(&mut self) {
        while let Some(output) = self.scheduler.poll_output() {
            if self.trace {
                let text: String = format!("{output:?}").chars().take(90).collect();
                eprintln!("{:>9.3} {text}", (self.now - self.start).as_secs_f64());
            }
            self.perform(output);
        }
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Open { session, lane, .. } => {
                self.lanes.push((self.now, lane));
                let replies = match self.network {
                    true => self.service.open(self.now, session, lane, &self.faults, &mut self.rng),
                    false => {
                        self.service.calls.push(self.now);
                        let failure = Failure::new(Cause::Connect, "timed out");
                        vec![(Duration::from_secs(1), Reply::Closed(Some(failure)))]
                    }
                };
                self.replies(session, replies);
            }
            Output::Begin(session, header) => self.write(session, &header),
            Output::Send(session, fragment) => self.send(session, &fragment),
            Output::SendSpooled(session, timecode_ms) => {
                let fragment = self.disk.get(&timecode_ms).expect("it is in the spool").clone();
                self.send(session, &fragment);
            }
            Output::Finish(session) if self.network => {
                let replies = self.service.finish(session);
                self.replies(session, replies);
            }
            Output::Finish(_) => {}
            Output::Abort(session) => {
                self.gone.insert(session);
                self.service.abort(self.now, session, &self.faults, &mut self.rng);
            }
            Output::Store(fragment) => {
                let timecode_ms = fragment.timecode_ms;
                self.disk.insert(timecode_ms, fragment);
                let delay = Duration::from_millis(self.rng.u64(1..20));
                self.at(delay, Later::Stored(timecode_ms));
            }
            Output::Forget(timecode_ms) => drop(self.disk.remove(&timecode_ms)),
            Output::SetAside(timecode_ms, _) => {
                self.aside.push(timecode_ms);
                self.disk.remove(&timecode_ms);
            }
            Output::Mark(mark) => self.mark = mark,
            Output::Persisted { timecode_ms, lag, .. } => {
                assert!(self.told.contains(&timecode_ms), "{timecode_ms} was never PERSISTED");
                self.persisted.insert(timecode_ms, lag);
                self.persisted_at.insert(timecode_ms, self.now);
            }
            Output::Failed(_) => {}
            Output::Done => self.is_done = true,
        }
    }

    fn send(&mut self, session: SessionId, fragment: &Fragment) {
        let timecode_ms = fragment.timecode_ms;
        assert!(!self.told.contains(&timecode_ms), "{timecode_ms} was PERSISTED, and is sent again");
        // 40 Mbit/s.
        let delay = Duration::from_micros(fragment.wire_bytes() as u64 / 5);
        self.at(delay, Later::Reply(session, Reply::Written));
        let wire = fragment.body.concat();
        self.at(delay, Later::Wire(session, wire));
    }

    fn write(&mut self, session: SessionId, bytes: &[u8]) {
        if self.network {
            let replies = self.service.write(self.now, session, bytes, &self.faults, &mut self.rng);
            self.replies(session, replies);
        }
    }

    fn replies(&mut self, session: SessionId, replies: Vec<(Duration, Reply)>) {
        for (delay, reply) in replies {
            self.at(delay + Duration::from_millis(20), Later::Reply(session, reply));
        }
    }

    /// The stream ends and the process with it.
    pub fn stop(&mut self, patience: Duration) {
        self.camera.stop();
        let deadline = self.now + patience;
        self.input(Input::Stop { deadline });
        self.run_until(deadline + Duration::from_secs(10));
        assert!(self.is_done);
    }

    /// The process dies at once, or has ended; another goes on from what is on disk.
    pub fn restart(&mut self) {
        self.later.clear();
        self.gone.clear();
        self.is_done = false;
        for connection in 0..=self.service.calls.len() as u64 {
            self.service.abort(self.now, SessionId(connection), &self.faults, &mut self.rng);
        }
        let restored = self.disk.values().map(|fragment| Restored {
            timecode_ms: fragment.timecode_ms,
            last_ms: fragment.last_ms,
            header: fragment.header.clone(),
            wire_bytes: fragment.wire_bytes(),
            packets: fragment.packets,
        });
        let settings = Settings { seed: self.settings.seed + 1, ..self.settings.clone() };
        self.scheduler = Scheduler::new(settings, restored.collect(), self.mark);
        self.pushed = 0;
        self.camera.key();
        self.scheduler.handle_timeout(self.now);
        self.drain();
    }

    /// What must be true at any time.
    pub fn check(&self) {
        let stats = self.scheduler.stats();
        assert_eq!(stats.packets_in, self.pushed);
        let dropped: u64 = stats.packets_dropped.values().sum();
        let balance = stats.packets_persisted + dropped + stats.packets_buffered;
        assert_eq!(stats.packets_in + stats.packets_restored, balance, "{stats:?}");
        assert!(stats.memory_bytes <= self.settings.window_bytes, "{} bytes in memory", stats.memory_bytes);
        for calls in self.service.calls.windows(5) {
            assert!(calls[4] - calls[0] > Duration::from_secs(1), "five calls in a second");
        }
    }

    /// Every frame made is stored, each at one time, which is its own.
    pub fn check_all_stored(&self) {
        let missing: Vec<_> = self.camera.frames.keys().filter(|id| !self.service.stored.contains_key(id)).collect();
        assert!(
            missing.is_empty(),
            "{} of {} frames, such as {:?}",
            missing.len(),
            self.camera.frames.len(),
            missing[0]
        );
        self.check_times();
    }

    pub fn check_times(&self) {
        for (frame, times) in &self.service.stored {
            let wall_ms = self.camera.frames[frame];
            let own = |at: &u64| self.camera.has_stepped || at.abs_diff(wall_ms) <= 2;
            assert!(times.len() == 1 && times.iter().all(own), "frame {frame} of {wall_ms} at {times:?}");
        }
    }
}

/// As the service writes it.
pub fn ack_json(event: AckEvent, timecode_ms: u64, number: &str) -> String {
    let word = event.as_str().to_uppercase();
    let error = match event {
        AckEvent::Error(id) => format!(r#","ErrorCode":"X","ErrorId":{id}"#),
        _ => String::new(),
    };
    format!(r#"{{"EventType":"{word}","FragmentTimecode":{timecode_ms},"FragmentNumber":"{number}"{error}}}"#)
}

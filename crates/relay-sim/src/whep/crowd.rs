//! The two threads of a crowd: one joins, the other is all viewers.

use std::{
    io,
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};

use super::{
    CrowdConfig, CrowdReport, JoinError, ViewerReport,
    signalling::{Desk, Joined, Leave},
    viewer::{Inbox, Moment, Viewer},
};
use crate::{
    clock,
    poller::{Poller, Waker},
};

/// Viewers that join or watch. Dropping it leaves without a word, as a browser does that crashes.
#[derive(Debug)]
pub struct Crowd {
    commands: SyncSender<Command>,
    waker: Waker,
    /// Dropped to stop the joining.
    joining: Option<SyncSender<()>>,
    threads: Vec<JoinHandle<()>>,
    expected: usize,
}

/// How far the viewers have come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Joins that failed before there was an answer.
    pub failed: usize,
    /// With an answer, ended ones included.
    pub answered: usize,
    /// ICE and DTLS are up, or were.
    pub connected: usize,
    /// A whole key frame came.
    pub playing: usize,
    /// Ended, for whatever reason.
    pub ended: usize,
}

enum Command {
    Join(Box<Joined>),
    Failed(String),
    Window,
    Progress(SyncSender<Progress>),
    Report(SyncSender<CrowdReport>),
    Leave(SyncSender<Vec<Leave>>),
}

/// How often a viewer comes back when it was told to come later.
const RETRIES: usize = 5;
/// Joins that wait for the viewers' thread.
const COMMANDS: usize = 64;
/// Timers are looked at this often at most: a thousand sessions have one every 100 µs.
const TICK: Duration = Duration::from_millis(2);
/// Without anything to do, it waits this long.
const IDLE: Duration = Duration::from_millis(500);

impl Crowd {
    /// Starts joining.
    ///
    /// # Errors
    /// The URL is none, Janus doesn't answer, or there is no thread to be had.
    pub fn start(config: CrowdConfig) -> Result<Self, JoinError> {
        let desk = Desk::open(&config.signalling, config.bind)?;
        let poller = Poller::new().map_err(JoinError::Socket)?;
        let waker = poller.waker();
        let (commands, inbox) = sync_channel(COMMANDS);
        let (joining, stopped) = sync_channel(1);
        let expected = config.viewers;
        let watching = move || Viewers::new(poller).run(&inbox);
        let answer = (commands.clone(), waker.clone());
        let asking = move || join_all(desk, &config, &answer, &stopped);
        let spawn = |name: &str| std::thread::Builder::new().name(name.to_owned());
        let threads = vec![
            spawn("viewers").spawn(watching).map_err(JoinError::Socket)?,
            spawn("joining").spawn(asking).map_err(JoinError::Socket)?,
        ];
        Ok(Self { commands, waker, joining: Some(joining), threads, expected })
    }

    /// How far they have come.
    pub fn progress(&self) -> Progress {
        self.ask(Command::Progress)
    }

    /// Waits until every viewer plays, failed or ended, or until so long from now.
    pub fn await_playing(&self, deadline: Duration) -> Progress {
        let by = clock::now() + deadline;
        loop {
            let progress = self.progress();
            let settled = progress.failed + progress.playing.max(progress.ended);
            if settled >= self.expected || clock::now() >= by {
                return progress;
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// Counts anew from here on: joins cost the server and the viewers time, and what is asked for is the steady state.
    pub fn begin_window(&self) {
        self.send(Command::Window);
    }

    /// What they saw since the window began.
    pub fn report(&self) -> CrowdReport {
        self.ask(Command::Report)
    }

    /// Reports, ends every session at the server, and stops.
    pub fn leave(mut self) -> CrowdReport {
        self.joining = None;
        let mut report = self.report();
        for leave in self.ask(Command::Leave) {
            let mut left = leave.leave();
            for _ in 0..RETRIES {
                let Some(after) = left.as_ref().err().and_then(JoinError::retry_after) else { break };
                std::thread::park_timeout(after);
                left = leave.leave();
            }
            if let Err(error) = left {
                report.failures.push(format!("leaving: {error}"));
            }
        }
        report
    }

    fn send(&self, command: Command) {
        // The thread ends only when this does.
        let _ = self.commands.send(command);
        self.waker.wake();
    }

    fn ask<T: Default>(&self, command: impl FnOnce(SyncSender<T>) -> Command) -> T {
        let (answer, answered) = sync_channel(1);
        self.send(command(answer));
        answered.recv().unwrap_or_default()
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.joining = None;
        // The viewers' thread ends when nobody can send it commands any more.
        let (closed, _) = sync_channel(1);
        self.commands = closed;
        self.waker.wake();
        for thread in self.threads.drain(..).rev() {
            let _ = thread.join();
            self.waker.wake();
        }
    }
}

/// The thread that joins, one viewer after the other, until `stopped` is closed.
fn join_all(mut desk: Desk, config: &CrowdConfig, answer: &(SyncSender<Command>, Waker), stopped: &Receiver<()>) {
    let pause = Duration::from_secs(1) / config.joins_per_second.get();
    let mut at = clock::now();
    for _ in 0..config.viewers {
        let wait = at.saturating_duration_since(clock::now());
        if stopped.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
            return;
        }
        let mut joined = desk.join();
        for _ in 0..RETRIES {
            let Some(after) = joined.as_ref().err().and_then(JoinError::retry_after) else { break };
            if stopped.recv_timeout(after) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            joined = desk.join();
        }
        let command = match joined {
            Ok(joined) => Command::Join(Box::new(joined)),
            Err(error) => Command::Failed(error.to_string()),
        };
        if answer.0.send(command).is_err() {
            return;
        }
        answer.1.wake();
        // Twice the mean at most: every moment between is as likely.
        at += if config.random { pause.mul_f64(2.0 * fastrand::f64()) } else { pause };
    }
}

/// The thread that is all viewers.
struct Viewers {
    poller: Poller,
    inbox: Inbox,
    viewers: Vec<Viewer>,
    failures: Vec<String>,
    next: Instant,
    window: Instant,
    window_cpu: Duration,
}

impl Viewers {
    fn new(poller: Poller) -> Self {
        let now = clock::now();
        let (viewers, failures) = (Vec::new(), Vec::new());
        Self { poller, inbox: Inbox::new(), viewers, failures, next: now, window: now, window_cpu: cpu() }
    }

    fn run(mut self, commands: &Receiver<Command>) {
        use std::sync::mpsc::TryRecvError;
        let mut readable = Vec::new();
        loop {
            let timeout = self.next.saturating_duration_since(clock::now()).min(IDLE);
            if self.poller.wait(timeout, &mut readable).is_err() {
                return;
            }
            let moment = Moment::now();
            for &key in &readable {
                if let Some(viewer) = self.viewers.get_mut(key) {
                    viewer.receive(&mut self.inbox, moment);
                    self.next = self.next.min(viewer.due);
                    if viewer.ended.is_some() {
                        // Removed before, perhaps.
                        let _ = self.poller.remove(viewer.fd());
                    }
                }
            }
            loop {
                match commands.try_recv() {
                    Ok(command) => self.obey(command),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return,
                }
            }
            self.wake_due();
        }
    }

    fn wake_due(&mut self) {
        let moment = Moment::now();
        if moment.now < self.next {
            return;
        }
        self.next = moment.now + IDLE;
        for viewer in &mut self.viewers {
            if viewer.due <= moment.now {
                viewer.wake(&mut self.inbox, moment);
            }
            self.next = self.next.min(viewer.due);
        }
        self.next = self.next.max(moment.now + TICK);
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Join(joined) => match self.join(*joined) {
                Ok(()) => {}
                Err(error) => self.failures.push(format!("socket: {error}")),
            },
            Command::Failed(why) => self.failures.push(why),
            Command::Window => {
                self.viewers.iter_mut().for_each(|viewer| viewer.tally.begin_window());
                (self.window, self.window_cpu) = (clock::now(), cpu());
            }
            Command::Progress(answer) => drop(answer.send(self.progress())),
            Command::Report(answer) => drop(answer.send(self.report())),
            Command::Leave(answer) => {
                drop(answer.send(self.viewers.iter().map(|viewer| viewer.leave.clone()).collect()));
            }
        }
    }

    fn join(&mut self, joined: Joined) -> io::Result<()> {
        let mut viewer = Viewer::new(joined)?;
        self.poller.add(viewer.fd(), self.viewers.len())?;
        viewer.wake(&mut self.inbox, Moment::now());
        self.next = self.next.min(viewer.due);
        self.viewers.push(viewer);
        Ok(())
    }

    fn progress(&self) -> Progress {
        let count = |is: fn(&Viewer) -> bool| self.viewers.iter().filter(|viewer| is(viewer)).count();
        Progress {
            failed: self.failures.len(),
            answered: self.viewers.len(),
            connected: count(|viewer| viewer.connected.is_some()),
            playing: count(|viewer| viewer.tally.first_key.is_some()),
            ended: count(|viewer| viewer.ended.is_some()),
        }
    }

    fn report(&self) -> CrowdReport {
        let mut report = CrowdReport {
            viewers: self.viewers.iter().map(ViewerReport::of).collect(),
            failures: self.failures.clone(),
            window: clock::now().saturating_duration_since(self.window),
            cpu: cpu().saturating_sub(self.window_cpu),
            ..CrowdReport::default()
        };
        for viewer in &self.viewers {
            report.latencies.extend(&viewer.tally.seen.latencies);
            report.whole_latencies.extend(&viewer.tally.seen.whole_latencies);
        }
        report
    }
}

/// User and system time of this process.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

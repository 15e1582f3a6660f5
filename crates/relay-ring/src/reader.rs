//! One cursor's place in the window and its account of every packet; lives behind the ring's lock.

use std::{sync::Arc, task::Waker, time::Duration};

use relay_media::Packet;

use crate::{
    CursorStats, Dropped, LeakPolicy, Start,
    leak::{self, Pace},
    window::Window,
};

/// Where a cursor stands.
///
/// Every packet from `start` on is either before `next` (then it was counted as delivered or dropped) or buffered, so
/// the account balances by construction.
#[derive(Debug)]
pub(crate) struct Reader {
    policy: LeakPolicy,
    /// The first packet of the account.
    start: u64,
    /// The next packet to deliver.
    next: u64,
    gate: Gate,
    /// How far behind it joined or jumped to, in nanoseconds; zero once it has caught up.
    landing: i64,
    delivered: u64,
    dropped: Dropped,
    wake_threshold: usize,
    waker: Option<Waker>,
}

/// What may be delivered next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gate {
    /// Anything: what the next packet refers to was delivered.
    Open,
    /// A join point: the picture was never there, or is broken.
    Landed,
    /// Nothing: no join point is retained, and none was pushed since.
    Waiting,
}

impl Reader {
    pub(crate) fn new(policy: LeakPolicy, start: Start, window: &Window) -> Self {
        let (next, gate) = match (start, window.newest_join()) {
            (Start::Next, _) => (window.head(), Gate::Open),
            (Start::JoinPoint, Some(join)) => (join, Gate::Landed),
            (Start::JoinPoint, None) => (window.head(), Gate::Waiting),
        };
        Self {
            policy,
            start: next,
            next,
            gate,
            landing: window.lag_nanos(next),
            delivered: 0,
            dropped: Dropped::default(),
            wake_threshold: 1,
            waker: None,
        }
    }

    /// Appends up to `max` packets to `batch` and says how many.
    pub(crate) fn take(&mut self, window: &Window, batch: &mut Vec<Arc<Packet>>, max: usize) -> usize {
        self.settle(window);
        let shedding = self.keep_pace(window);
        let before = batch.len();
        let mut seen = 0;
        if shedding {
            for entry in window.from(self.next) {
                if batch.len() - before == max {
                    break;
                }
                seen += 1;
                if leak::sheds(entry.flags) {
                    self.dropped.lag += 1;
                } else {
                    batch.push(Arc::clone(&entry.packet));
                }
            }
        } else {
            batch.extend(window.from(self.next).take(max).map(|entry| Arc::clone(&entry.packet)));
            seen = (batch.len() - before) as u64;
        }
        let taken = batch.len() - before;
        self.next += seen;
        self.delivered += taken as u64;
        if taken > 0 && !window.audio_only() {
            // The first one was the key frame.
            self.gate = Gate::Open;
        }
        self.note_caught_up(window);
        taken
    }

    /// Books what was lost since the last look: evicted packets, and those before the key frame it waits for.
    pub(crate) fn settle(&mut self, window: &Window) {
        let evicted = window.first().saturating_sub(self.next);
        self.next += evicted;
        if self.gate == Gate::Waiting {
            self.dropped.no_key_frame += evicted;
        } else if evicted > 0 {
            self.dropped.cap += evicted;
            self.gate = Gate::Landed;
            if let Some(join) = leak::jumps_to(self.policy, window.newest_join()) {
                self.dropped.lag += join - self.next;
                self.land(join, window);
            }
        }
        if self.gate != Gate::Open {
            self.wait_for_join(window);
        }
    }

    /// A join point was pushed: a cursor that waits for one lands on it now, however late it reads.
    pub(crate) fn join_pushed(&mut self, window: &Window) {
        if self.gate == Gate::Waiting {
            self.settle(window);
        }
    }

    /// The next packet to deliver; before the window if eviction has passed it since the last look.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    pub(crate) fn is_waiting(&self) -> bool {
        self.gate == Gate::Waiting
    }

    /// Everything retained was delivered or dropped.
    pub(crate) fn is_drained(&self, window: &Window) -> bool {
        self.next == window.head()
    }

    pub(crate) fn set_wake_threshold(&mut self, packets: usize) {
        self.wake_threshold = packets.max(1);
    }

    /// It wants to be woken for each packet.
    pub(crate) fn wants_each(&self) -> bool {
        self.wake_threshold == 1
    }

    /// Being behind since it joined is no excuse any more.
    pub(crate) fn end_catch_up(&mut self) {
        self.landing = 0;
    }

    /// Stores who to wake; returns who was stored before, to be dropped outside the lock.
    pub(crate) fn register(&mut self, waker: &Waker) -> Option<Waker> {
        if self.waker.as_ref().is_some_and(|stored| stored.will_wake(waker)) {
            return None;
        }
        self.waker.replace(waker.clone())
    }

    /// Whoever is registered, if the packet just pushed is worth waking for: enough are buffered, it is a key frame,
    /// or the ring is half full, half of that is unread, and eviction would come next.
    pub(crate) fn due_waker(&mut self, window: &Window, pushed_key: bool) -> Option<Waker> {
        self.waker.as_ref()?;
        let buffered = usize::try_from(window.head() - self.next).unwrap_or(usize::MAX);
        let due = pushed_key
            || buffered >= self.wake_threshold
            || (window.half_full() && buffered.saturating_mul(2) >= window.len());
        if due && self.gate != Gate::Waiting { self.waker.take() } else { None }
    }

    pub(crate) fn take_waker(&mut self) -> Option<Waker> {
        self.waker.take()
    }

    pub(crate) fn stats(&mut self, window: &Window) -> CursorStats {
        self.settle(window);
        CursorStats {
            received: window.head() - self.start,
            delivered: self.delivered,
            dropped: self.dropped,
            buffered: window.head() - self.next,
            lag: Duration::from_nanos(window.lag_nanos(self.next).unsigned_abs()),
        }
    }

    /// Lets a late `Live` cursor leak; says whether disposable packets are to be shed.
    fn keep_pace(&mut self, window: &Window) -> bool {
        let Some(max_lag) = self.policy.max_lag_nanos() else { return false };
        self.note_caught_up(window);
        let lag = window.lag_nanos(self.next);
        let newest_ahead = window.newest_join().filter(|join| *join > self.next);
        match leak::pace(lag, max_lag, self.landing, newest_ahead) {
            Pace::Whole => false,
            Pace::Shed => true,
            Pace::JumpTo(join) => {
                self.dropped.lag += join - self.next;
                self.land(join, window);
                self.landing > max_lag / 2
            }
            Pace::Starve => {
                self.dropped.no_key_frame += window.head() - self.next;
                self.next = window.head();
                self.gate = Gate::Waiting;
                false
            }
        }
    }

    /// Once well within `max_lag`, how far behind it joined no longer excuses anything. Not as soon as it is within: the
    /// next packet pushed would put it behind again, and starve it.
    fn note_caught_up(&mut self, window: &Window) {
        let lag = window.lag_nanos(self.next);
        if self.landing > 0 && self.policy.max_lag_nanos().is_some_and(|max_lag| lag <= max_lag / 2) {
            self.landing = 0;
        }
    }

    fn wait_for_join(&mut self, window: &Window) {
        match window.join_from(self.next) {
            Some(join) if join == self.next && self.gate == Gate::Landed => {}
            Some(join) => {
                self.dropped.no_key_frame += join - self.next;
                self.land(join, window);
            }
            None if window.audio_only() && self.gate == Gate::Landed => {}
            None => {
                self.dropped.no_key_frame += window.head() - self.next;
                self.next = window.head();
                self.gate = Gate::Waiting;
            }
        }
    }

    fn land(&mut self, join: u64, window: &Window) {
        self.next = join;
        self.gate = Gate::Landed;
        self.landing = window.lag_nanos(join);
    }
}

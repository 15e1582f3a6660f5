//! The reading ends.

use std::{fmt, future::poll_fn, sync::Arc};

use relay_media::Packet;

use crate::{Closed, CursorStats, LeakPolicy, RingStats, state::Shared};

/// Where a cursor starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the newest retained key frame. If none is retained the cursor asks for one and waits: packets pushed before
    /// the next key frame are received and dropped ([`no_key_frame`](crate::Dropped::no_key_frame)), with their sound.
    /// A stream without video starts at its newest retained packet.
    JoinPoint,
    /// At the next packet pushed, key frame or not.
    Next,
}

/// A handle to a ring: opens cursors. It outlives the publisher.
#[derive(Clone)]
pub struct Ring {
    shared: Arc<Shared>,
}

impl Ring {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// A new cursor. On a closed ring it drains what it finds retained. How many there may be is for the caller to
    /// limit; the ring's cost per push grows with those that wait.
    pub fn cursor(&self, policy: LeakPolicy, start: Start) -> Cursor {
        let index = self.shared.lock().sit(policy, start);
        Cursor { monitor: CursorMonitor { seat: Arc::new(SeatGuard { shared: Arc::clone(&self.shared), index }) } }
    }

    /// Asks the source for a key frame; what it does about it is its own affair.
    pub fn request_key_frame(&self) {
        self.shared.lock().request_key_frame();
    }

    /// What the ring holds and what went through it.
    pub fn stats(&self) -> RingStats {
        self.shared.lock().stats()
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// One reader of a ring, with a place, a policy and an account of its own.
pub struct Cursor {
    monitor: CursorMonitor,
}

impl Cursor {
    /// Waits until there is something to read and appends it to `batch`: at least one packet, at most `max` (at least
    /// one). Once the ring is closed and drained, says why. Nothing is lost if the future is dropped.
    ///
    /// # Errors
    ///
    /// [`Closed`] once the ring is closed and everything retained was delivered or dropped.
    pub async fn next_batch(&mut self, batch: &mut Vec<Arc<Packet>>, max: usize) -> Result<(), Closed> {
        let seat = &*self.monitor.seat;
        poll_fn(|context| {
            // Dropped after the lock is released: a waker's destructor is foreign code.
            let mut replaced = None;
            seat.shared.lock().poll_take(seat.index, batch, max.max(1), context.waker(), &mut replaced)
        })
        .await
    }

    /// Appends what there is to `batch`, at most `max` packets, and says how many.
    ///
    /// # Errors
    ///
    /// [`Closed`] once the ring is closed and everything retained was delivered or dropped.
    pub fn try_batch(&mut self, batch: &mut Vec<Arc<Packet>>, max: usize) -> Result<usize, Closed> {
        let seat = &*self.monitor.seat;
        seat.shared.lock().take(seat.index, batch, max)
    }

    /// Wakes [`next_batch`](Self::next_batch) only when `packets` are buffered, a key frame was pushed, the ring was
    /// closed, or half of what the ring retains is unread (eviction would come next). One by default.
    ///
    /// It governs wakes only: a poll always takes what is there. So a reader with a timer of its own can look early.
    pub fn set_wake_threshold(&mut self, packets: usize) {
        let seat = &*self.monitor.seat;
        seat.shared.lock().set_wake_threshold(seat.index, packets);
    }

    /// How far behind it joined or jumped to excuses a [`Live`](LeakPolicy::Live) cursor no longer: if it has not
    /// caught up by now, it is as late as any other, and its link can't carry the backlog.
    pub fn end_catch_up(&mut self) {
        let seat = &*self.monitor.seat;
        seat.shared.lock().end_catch_up(seat.index);
    }

    /// A handle that reads this cursor's account from anywhere, also after the cursor is gone.
    pub fn monitor(&self) -> CursorMonitor {
        self.monitor.clone()
    }

    /// The cursor's account.
    pub fn stats(&self) -> CursorStats {
        self.monitor.stats()
    }

    /// The ring that it reads: a sink with many readers opens a cursor for each.
    pub fn ring(&self) -> Ring {
        Ring::new(Arc::clone(&self.monitor.seat.shared))
    }

    /// Asks the source for a key frame. A cursor that has to wait for one asks by itself.
    pub fn request_key_frame(&self) {
        self.monitor.seat.shared.lock().request_key_frame();
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        let seat = &*self.monitor.seat;
        let waker = seat.shared.lock().leave(seat.index);
        // Only now, outside the lock: a waker's destructor is foreign code.
        drop(waker);
    }
}

impl fmt::Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cursor").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// Reads the account of a [`Cursor`]. When the cursor is gone, the account stays as it was then: what was buffered
/// stays buffered.
#[derive(Clone)]
pub struct CursorMonitor {
    seat: Arc<SeatGuard>,
}

impl CursorMonitor {
    /// The cursor's account.
    pub fn stats(&self) -> CursorStats {
        self.seat.shared.lock().cursor_stats(self.seat.index)
    }
}

impl fmt::Debug for CursorMonitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CursorMonitor").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// Frees the seat when neither the cursor nor a monitor of it is left.
struct SeatGuard {
    shared: Arc<Shared>,
    index: usize,
}

impl Drop for SeatGuard {
    fn drop(&mut self) {
        self.shared.lock().free(self.index);
    }
}

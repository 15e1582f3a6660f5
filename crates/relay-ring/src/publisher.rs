//! The writing end.

use std::{fmt, sync::Arc, task::Waker};

use relay_media::Packet;

use crate::{CloseReason, Ring, state::Shared};

/// The one writer of a ring. Dropping it closes the ring with [`CloseReason::Abandoned`].
pub struct Publisher {
    shared: Arc<Shared>,
    /// Scratch of [`push`](Self::push), kept for its capacity: at most the packets of the ring.
    evicted: Vec<Arc<Packet>>,
    /// Scratch of [`push`](Self::push), kept for its capacity: at most one per cursor.
    wakers: Vec<Waker>,
}

impl Publisher {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, evicted: Vec::new(), wakers: Vec::new() }
    }

    /// Appends `packet`, evicts what the caps no longer allow and wakes whoever waits. Never blocks on a reader.
    ///
    /// Decode times must not go back within a track, but across a packet with
    /// [`DISCONTINUITY`](relay_media::Flags::DISCONTINUITY); one that does spoils measures of lag, nothing else.
    pub fn push(&mut self, packet: Arc<Packet>) {
        self.shared.lock().push(packet, &mut self.evicted, &mut self.wakers);
        self.evicted.clear();
        wake_all(&mut self.wakers);
    }

    /// How often a key frame was asked for. Requests between two pushed key frames count as one; a source acts when
    /// the number differs from the one it saw before.
    pub fn key_frame_requests(&self) -> u64 {
        self.shared.lock().key_frame_requests()
    }

    /// Whether a cursor wants to be woken for each packet; else nobody minds if several are pushed at a time.
    pub fn is_awaited(&self) -> bool {
        self.shared.lock().is_awaited()
    }

    /// A handle for readers.
    pub fn ring(&self) -> Ring {
        Ring::new(Arc::clone(&self.shared))
    }

    /// Closes the ring: cursors drain what is retained, then are told the reason.
    pub fn close(mut self, reason: CloseReason) {
        self.close_with(reason);
    }

    fn close_with(&mut self, reason: CloseReason) {
        self.shared.lock().close(reason, &mut self.wakers);
        wake_all(&mut self.wakers);
    }
}

impl Drop for Publisher {
    /// Does nothing after [`close`](Self::close).
    fn drop(&mut self) {
        self.close_with(CloseReason::Abandoned);
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher").field("ring", &self.shared.lock().stats()).finish_non_exhaustive()
    }
}

/// Wakes each task once, though one task may wait at many cursors.
fn wake_all(wakers: &mut Vec<Waker>) {
    let mut woken: Option<Waker> = None;
    for waker in wakers.drain(..) {
        if !woken.as_ref().is_some_and(|woken| woken.will_wake(&waker)) {
            waker.wake_by_ref();
            woken = Some(waker);
        }
    }
}

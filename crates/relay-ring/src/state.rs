//! Everything behind the ring's one lock.

use std::{
    sync::{Arc, PoisonError},
    task::{Poll, Waker},
};

use relay_media::Packet;

use crate::{
    CloseReason, Closed, CursorStats, LeakPolicy, Limits, RingStats, Start,
    reader::Reader,
    sync::{Mutex, MutexGuard},
    window::Window,
};

/// The lock. Nothing that runs foreign code (wakers, payload destructors) runs while it is held.
#[derive(Debug)]
pub(crate) struct Shared(Mutex<State>);

impl Shared {
    pub(crate) fn new(limits: Limits) -> Self {
        Self(Mutex::new(State {
            window: Window::new(limits),
            seats: Vec::new(),
            closed: None,
            key_frame_requests: 0,
            key_frame_requested: Requested::No,
        }))
    }

    /// A poisoned lock is taken all the same: every change to the state is whole before the next line can panic.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The packets, the cursors, and the little that flows backwards.
#[derive(Debug)]
pub(crate) struct State {
    window: Window,
    /// As many as there were cursors at once; free ones are taken again.
    seats: Vec<Seat>,
    closed: Option<CloseReason>,
    key_frame_requests: u64,
    key_frame_requested: Requested,
}

/// One cursor's place in the ring.
#[derive(Debug)]
enum Seat {
    Free,
    Taken(Reader),
    /// The cursor is gone, a monitor still asks for its account.
    Left(CursorStats),
}

/// Whether a key frame was asked for since the last one was pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Requested {
    No,
    Yes,
}

impl State {
    /// Appends `packet`; what it evicts and whom it wakes are for the caller to drop and to wake outside the lock.
    pub(crate) fn push(&mut self, packet: Arc<Packet>, evicted: &mut Vec<Arc<Packet>>, wakers: &mut Vec<Waker>) {
        let key = packet.is_key();
        self.window.push(packet);
        if key {
            self.key_frame_requested = Requested::No;
            self.land_waiting();
            let unread = readers(&mut self.seats).map(|reader| reader.next()).min();
            self.window.trim(unread.unwrap_or(u64::MAX), evicted);
        }
        self.window.evict(evicted);
        if self.window.audio_only() {
            self.land_waiting();
        }
        for reader in readers(&mut self.seats) {
            wakers.extend(reader.due_waker(&self.window, key));
        }
    }

    /// Closes the ring unless it is; whom to wake goes to `wakers`.
    pub(crate) fn close(&mut self, reason: CloseReason, wakers: &mut Vec<Waker>) {
        self.closed.get_or_insert(reason);
        wakers.extend(readers(&mut self.seats).filter_map(Reader::take_waker));
    }

    /// Seats a new cursor and says where.
    pub(crate) fn sit(&mut self, policy: LeakPolicy, start: Start) -> usize {
        let reader = Reader::new(policy, start, &self.window);
        if reader.is_waiting() {
            self.request_key_frame();
        }
        let seat = Seat::Taken(reader);
        match self.seats.iter_mut().enumerate().find(|(_, seat)| matches!(seat, Seat::Free)) {
            Some((index, free)) => {
                *free = seat;
                index
            }
            None => {
                self.seats.push(seat);
                self.seats.len() - 1
            }
        }
    }

    /// The cursor goes and leaves its last account; its waker is for the caller to drop outside the lock.
    pub(crate) fn leave(&mut self, index: usize) -> Option<Waker> {
        let seat = self.seats.get_mut(index)?;
        let Seat::Taken(reader) = seat else { return None };
        let waker = reader.take_waker();
        let stats = reader.stats(&self.window);
        *seat = Seat::Left(stats);
        waker
    }

    /// Nobody asks for this seat's account any more.
    pub(crate) fn free(&mut self, index: usize) {
        if let Some(seat) = self.seats.get_mut(index) {
            *seat = Seat::Free;
        }
    }

    /// Appends up to `max` packets to `batch` and says how many; an error once everything is drained.
    pub(crate) fn take(&mut self, index: usize, batch: &mut Vec<Arc<Packet>>, max: usize) -> Result<usize, Closed> {
        let Some(Seat::Taken(reader)) = self.seats.get_mut(index) else { return Ok(0) };
        let waited = reader.is_waiting();
        let taken = reader.take(&self.window, batch, max);
        let (waits, drained) = (reader.is_waiting(), reader.is_drained(&self.window));
        if waits && !waited {
            self.request_key_frame();
        }
        match self.closed {
            Some(reason) if taken == 0 && drained => Err(Closed { reason }),
            _ => Ok(taken),
        }
    }

    /// As [`take`](Self::take), registering `waker` if there is nothing now. The waker it replaces goes to `replaced`.
    pub(crate) fn poll_take(
        &mut self,
        index: usize,
        batch: &mut Vec<Arc<Packet>>,
        max: usize,
        waker: &Waker,
        replaced: &mut Option<Waker>,
    ) -> Poll<Result<(), Closed>> {
        match self.take(index, batch, max) {
            Err(closed) => Poll::Ready(Err(closed)),
            Ok(0) => {
                if let Some(Seat::Taken(reader)) = self.seats.get_mut(index) {
                    *replaced = reader.register(waker);
                }
                Poll::Pending
            }
            Ok(_) => Poll::Ready(Ok(())),
        }
    }

    pub(crate) fn set_wake_threshold(&mut self, index: usize, packets: usize) {
        if let Some(Seat::Taken(reader)) = self.seats.get_mut(index) {
            reader.set_wake_threshold(packets);
        }
    }

    /// Whether a cursor is to be woken for each packet.
    pub(crate) fn is_awaited(&self) -> bool {
        self.seats.iter().any(|seat| matches!(seat, Seat::Taken(reader) if reader.wants_each()))
    }

    pub(crate) fn end_catch_up(&mut self, index: usize) {
        if let Some(Seat::Taken(reader)) = self.seats.get_mut(index) {
            reader.end_catch_up();
        }
    }

    pub(crate) fn cursor_stats(&mut self, index: usize) -> CursorStats {
        let Some(seat) = self.seats.get_mut(index) else { return CursorStats::default() };
        let (stats, starts_to_wait) = match seat {
            Seat::Free => return CursorStats::default(),
            Seat::Left(stats) => return *stats,
            Seat::Taken(reader) => {
                let waited = reader.is_waiting();
                let stats = reader.stats(&self.window);
                (stats, reader.is_waiting() && !waited)
            }
        };
        if starts_to_wait {
            self.request_key_frame();
        }
        stats
    }

    pub(crate) fn stats(&self) -> RingStats {
        RingStats { key_frame_requests: self.key_frame_requests, ..self.window.stats() }
    }

    /// Requests made before the next key frame count as one.
    pub(crate) fn request_key_frame(&mut self) {
        if self.key_frame_requested == Requested::No {
            self.key_frame_requested = Requested::Yes;
            self.key_frame_requests += 1;
        }
    }

    pub(crate) fn key_frame_requests(&self) -> u64 {
        self.key_frame_requests
    }

    fn land_waiting(&mut self) {
        for reader in readers(&mut self.seats) {
            reader.join_pushed(&self.window);
        }
    }
}

fn readers(seats: &mut [Seat]) -> impl Iterator<Item = &mut Reader> {
    seats.iter_mut().filter_map(|seat| match seat {
        Seat::Taken(reader) => Some(reader),
        Seat::Free | Seat::Left(_) => None,
    })
}

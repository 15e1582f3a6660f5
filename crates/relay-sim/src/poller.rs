//! One thread's wait for many sockets: epoll, and a way for other threads to end the wait.

use std::{
    io,
    mem::MaybeUninit,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};

/// Sockets that one wait reports at most; the others are reported by the next.
const EVENTS: usize = 256;
/// The key of [`Waker`], which no socket has.
const WOKEN: u64 = u64::MAX;

/// Sockets, each with a key, and the waker.
#[derive(Debug)]
pub(crate) struct Poller {
    epoll: OwnedFd,
    waker: Arc<OwnedFd>,
}

/// Ends the poller's wait from another thread.
#[derive(Clone, Debug)]
pub(crate) struct Waker(Arc<OwnedFd>);

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let waker = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        epoll::add(&epoll, &*waker, epoll::EventData::new_u64(WOKEN), epoll::EventFlags::IN)?;
        Ok(Self { epoll, waker })
    }

    pub(crate) fn waker(&self) -> Waker {
        Waker(self.waker.clone())
    }

    /// Reports `socket` by `key` as long as there is something to be read from it.
    pub(crate) fn add(&self, socket: impl AsFd, key: usize) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, socket, epoll::EventData::new_u64(key as u64), epoll::EventFlags::IN)?)
    }

    pub(crate) fn remove(&self, socket: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.epoll, socket)?)
    }

    /// Waits at most so long, and writes the keys of the sockets that can be read over `keys`.
    pub(crate) fn wait(&self, timeout: Duration, keys: &mut Vec<usize>) -> io::Result<()> {
        keys.clear();
        let timeout = Timespec { tv_sec: timeout.as_secs().cast_signed(), tv_nsec: timeout.subsec_nanos().into() };
        let mut events = [const { MaybeUninit::<epoll::Event>::uninit() }; EVENTS];
        let happened = match epoll::wait(&self.epoll, events.as_mut_slice(), Some(&timeout)) {
            Ok((happened, _)) => happened,
            Err(rustix::io::Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        for event in happened {
            match event.data.u64() {
                // Nobody reads the count; reading it is what resets it, and it may be reset already.
                WOKEN => drop(rustix::io::read(&*self.waker, &mut [0_u8; 8])),
                key => keys.extend(usize::try_from(key)),
            }
        }
        Ok(())
    }
}

impl Waker {
    pub(crate) fn wake(&self) {
        // It fails only if 2⁶⁴ − 2 wakes wait to be read: then it is woken anyway.
        let _ = rustix::io::write(&*self.0, &1_u64.to_ne_bytes());
    }
}

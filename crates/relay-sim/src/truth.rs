//! What a camera really sent: the ground truth that recordings are held against.

use std::{collections::VecDeque, net::SocketAddr};

/// A frame that was handed whole to the kernel for a session, no packet of it left out by a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SentFrame {
    /// Its stamp's counter.
    pub counter: u64,
    /// When its last byte went out: nanoseconds since 1970-01-01T00:00:00Z.
    pub utc_nanos: i64,
    /// It is a key frame.
    pub key: bool,
}

/// One session with a viewer, from PLAY to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionLog {
    /// The session's number in its camera, from 0.
    pub id: u64,
    /// The viewer.
    pub peer: SocketAddr,
    /// It was sent over UDP.
    pub udp: bool,
    /// When PLAY was answered: nanoseconds since 1970-01-01T00:00:00Z.
    pub started_utc_nanos: i64,
    /// Why it ended; `None` while it plays.
    pub ended: Option<SessionEnd>,
    /// Frames no longer listed in `frames`, because the log is bounded.
    pub forgotten: u64,
    /// The newest frames sent whole.
    pub frames: Vec<SentFrame>,
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionEnd {
    /// TEARDOWN, or the viewer closed the connection.
    Viewer,
    /// A fault reset it.
    Reset,
    /// It read too slowly, and what was queued for it passed the bound.
    Slow,
}

/// Frames remembered per camera: an hour at 25 fps with one viewer, 24 bytes each.
const MAX_FRAMES: usize = 90_000;
/// Sessions remembered per camera.
const MAX_SESSIONS: usize = 1_000;

/// The bounded log of a camera.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    sessions: VecDeque<Entry>,
    frames: usize,
    next: u64,
    pub(crate) slow: u64,
}

#[derive(Debug)]
struct Entry {
    log: SessionLog,
    frames: VecDeque<SentFrame>,
}

impl Truth {
    pub(crate) fn open(&mut self, peer: SocketAddr, udp: bool, started_utc_nanos: i64) -> u64 {
        let id = self.next;
        self.next += 1;
        let log = SessionLog { id, peer, udp, started_utc_nanos, ended: None, forgotten: 0, frames: Vec::new() };
        self.sessions.push_back(Entry { log, frames: VecDeque::new() });
        if self.sessions.len() > MAX_SESSIONS {
            self.frames -= self.sessions.pop_front().map_or(0, |entry| entry.frames.len());
        }
        id
    }

    pub(crate) fn sent(&mut self, id: u64, frame: SentFrame) {
        if let Some(entry) = self.entry(id) {
            entry.frames.push_back(frame);
            self.frames += 1;
        }
        if self.frames > MAX_FRAMES
            && let Some(oldest) = self.sessions.iter_mut().find(|entry| !entry.frames.is_empty())
        {
            oldest.frames.pop_front();
            oldest.log.forgotten += 1;
            self.frames -= 1;
        }
    }

    pub(crate) fn close(&mut self, id: u64, end: SessionEnd) {
        if end == SessionEnd::Slow {
            self.slow += 1;
        }
        if let Some(entry) = self.entry(id) {
            entry.log.ended.get_or_insert(end);
        }
    }

    pub(crate) fn sessions(&self) -> Vec<SessionLog> {
        let whole = |entry: &Entry| SessionLog { frames: entry.frames.iter().copied().collect(), ..entry.log.clone() };
        self.sessions.iter().map(whole).collect()
    }

    fn entry(&mut self, id: u64) -> Option<&mut Entry> {
        self.sessions.iter_mut().rev().find(|entry| entry.log.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_bounded_and_says_what_it_forgot() {
        let mut truth = Truth::default();
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let id = truth.open(peer, false, 0);
        for counter in 0..MAX_FRAMES as u64 + 10 {
            truth.sent(id, SentFrame { counter, utc_nanos: 0, key: false });
        }
        let log = &truth.sessions()[0];
        assert_eq!((log.forgotten, log.frames.len(), log.frames[0].counter), (10, MAX_FRAMES, 10));
        for _ in 0..MAX_SESSIONS {
            truth.open(peer, true, 0);
        }
        assert_eq!((truth.sessions().len(), truth.frames), (MAX_SESSIONS, 0));
    }
}

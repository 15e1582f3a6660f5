//! What the service says of fragments.

use std::time::{Duration, Instant};

use super::{Disk, DropReason, Output, Scheduler};
use crate::proto::{
    ack::AckEvent,
    ack_error::{AckError, Fault},
    cause::{Cause, Failure},
    session::SessionId,
    stats::Aside,
};

/// Tries of a fragment whose session may be at fault, or that an error may have meant, before it is set aside.
const STRIKES_MAX: u32 = 2;
/// Tries of a fragment that an error which named nobody may have meant.
const SUSPECT_STRIKES_MAX: u32 = 4;
/// A fragment that ended a session waits before its next try, so that others pass: this, doubled each time.
const STRIKE_WAIT: Duration = Duration::from_secs(1);
/// The longest such wait.
const STRIKE_WAIT_MAX: Duration = Duration::from_secs(60);
/// The latest fragments set aside that are told of.
const ASIDE_MAX: usize = 16;
/// Numbers of errors that are counted each; the service documents 24. More are counted together, under 0.
const ERRORS_MAX: usize = 64;

impl Scheduler {
    pub(super) fn read_acks(&mut self, now: Instant, id: SessionId, bytes: &[u8]) {
        let Some(session) = self.sessions.iter_mut().find(|session| session.id == id) else { return };
        let (acks, malformed) = session.read(now, bytes);
        self.stats.acks_malformed += malformed;
        for ack in acks {
            *self.stats.acks.entry(ack.event.as_str()).or_default() += 1;
            let Some(session) = self.sessions.iter_mut().find(|session| session.id == id) else { return };
            let fragment = session.fragment_of(&ack);
            match (ack.event, fragment) {
                (AckEvent::Idle, _) => {}
                (AckEvent::Error(number), fragment) => return self.failed_by_ack(now, id, number, fragment),
                (AckEvent::Received, Some(timecode_ms)) if !self.retains => self.persisted(now, id, timecode_ms),
                (AckEvent::Persisted, Some(timecode_ms)) => self.persisted(now, id, timecode_ms),
                (AckEvent::Buffering | AckEvent::Received, Some(timecode_ms)) => {
                    let Some(sent) = session.sent.get_mut(&timecode_ms) else { continue };
                    let is_received = ack.event == AckEvent::Received;
                    sent.is_received |= is_received;
                    // Its first byte is acknowledged since it was given, its last since it was written.
                    if let Some(since) = if is_received { sent.written } else { sent.given } {
                        let latency = now.saturating_duration_since(since);
                        self.stats.ack_latency.insert(ack.event.as_str(), latency);
                    }
                }
                (_, None) => self.stats.acks_ignored += 1,
            }
        }
    }

    fn persisted(&mut self, now: Instant, id: SessionId, timecode_ms: u64) {
        let session = self.sessions.iter_mut().find(|session| session.id == id);
        let Some(sent) = session.and_then(|session| session.persisted(now, timecode_ms)) else {
            self.stats.acks_ignored += 1;
            return;
        };
        if let Some(written) = sent.written {
            let latency = now.saturating_duration_since(written);
            self.stats.ack_latency.insert(AckEvent::Persisted.as_str(), latency);
        }
        // It may have been lost to the window's bounds in the meantime: then it was counted there.
        if let Some(entry) = self.window.remove(timecode_ms) {
            let lag = entry.arrived.map(|(arrival, _)| now.saturating_duration_since(arrival));
            self.stats.packets_persisted += u64::from(entry.packets);
            self.stats.fragments_persisted += 1;
            self.stats.bytes_persisted += entry.wire_bytes as u64;
            self.stats.persisted_lag = lag.or(self.stats.persisted_lag);
            if entry.disk != Disk::No {
                self.outputs.push_back(Output::Forget(timecode_ms));
            }
            self.outputs.push_back(Output::Persisted { timecode_ms, packets: entry.packets, lag });
        }
        self.pace.healthy();
        self.stats.failure.clear();
    }

    /// Every error ends the connection (the service does so itself).
    fn failed_by_ack(&mut self, now: Instant, id: SessionId, number: u32, named: Option<u64>) {
        let is_counted = self.stats.error_acks.len() < ERRORS_MAX || self.stats.error_acks.contains_key(&number);
        *self.stats.error_acks.entry(if is_counted { number } else { 0 }).or_default() += 1;
        let error = AckError::of(number);
        let suspect = || {
            let session = self.sessions.iter().find(|session| session.id == id)?;
            session.sent.iter().find(|(_, sent)| !sent.is_received).map(|(timecode_ms, _)| *timecode_ms)
        };
        let wait = |strikes: u32| {
            let doubled = STRIKE_WAIT.saturating_mul(1 << strikes.saturating_sub(1).min(6));
            now + doubled.min(STRIKE_WAIT_MAX)
        };
        match (error.fault, named) {
            (Fault::Fragment, Some(fragment)) => self.set_aside(fragment, number),
            (Fault::Session, Some(fragment)) if self.window.strike(fragment, wait) >= STRIKES_MAX => {
                self.set_aside(fragment, number);
            }
            // Nobody was named: the first that was not wholly received is suspected, and convicted only when one
            // session after the other ends at it.
            (Fault::Fragment | Fault::Session, None) => {
                let suspect = suspect();
                if let Some(fragment) = suspect.filter(|at| self.window.strike(*at, wait) >= SUSPECT_STRIKES_MAX) {
                    self.set_aside(fragment, number);
                }
            }
            // It may be this one that the service stumbles over: others go first.
            (Fault::Service, Some(fragment)) if number >= 5000 => {
                self.window.strike(fragment, wait);
            }
            _ => {}
        }
        self.outputs.push_back(Output::Abort(id));
        self.ended(now, id, Some(Failure::new(Cause::Ack(number), "")));
    }

    fn set_aside(&mut self, timecode_ms: u64, error: u32) {
        let Some(entry) = self.window.remove(timecode_ms) else { return };
        self.count_drop(DropReason::Poison, u64::from(entry.packets));
        if self.stats.aside.len() >= ASIDE_MAX {
            self.stats.aside.pop_front();
        }
        self.stats.aside.push_back(Aside { timecode_ms, packets: entry.packets, bytes: entry.wire_bytes, error });
        self.outputs.push_back(Output::SetAside(timecode_ms, entry.body));
    }
}

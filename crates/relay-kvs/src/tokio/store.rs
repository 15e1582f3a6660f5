//! The spool behind the producer: its blocking work, in order, off the runtime's threads.

use std::{collections::VecDeque, io, sync::Arc};

use bytes::Bytes;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::{
    Spool, SpoolError,
    proto::{Fragment, SessionId},
};

/// Jobs done in one go.
const BATCH_MAX: usize = 64;

/// What the spool is to do.
#[derive(Debug)]
pub(super) enum Job {
    Store(Arc<Fragment>),
    Read(SessionId, u64),
    Forget(u64),
    SetAside(u64, Option<Arc<Fragment>>),
    Mark(u64),
    Sync,
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Outcome {
    Stored(u64),
    NotStored(u64, SpoolError),
    Read(SessionId, Bytes),
    Unreadable(u64, SpoolError),
    /// Something less: it is told, and nothing is done about it.
    Failed(SpoolError),
    Synced,
    NotSynced(SpoolError),
}

/// The spool and its jobs. How many there are is bounded by the fragments they are about.
#[derive(Debug)]
pub(super) struct Store {
    jobs: VecDeque<Job>,
    spool: Option<Spool>,
    working: Option<JoinHandle<(Spool, Vec<Outcome>)>>,
}

impl Store {
    pub(super) fn new(spool: Spool) -> Self {
        Self { jobs: VecDeque::new(), spool: Some(spool), working: None }
    }

    pub(super) fn push(&mut self, job: Job) {
        // Only the last mark counts.
        if let (Job::Mark(mark), Some(Job::Mark(last))) = (&job, self.jobs.back_mut()) {
            *last = *mark;
            return;
        }
        self.jobs.push_back(job);
    }

    /// Waits for the next jobs to be done; for ever if there are none. May be dropped and called again.
    pub(super) async fn work(&mut self) -> Vec<Outcome> {
        if self.working.is_none() {
            if self.jobs.is_empty() {
                return std::future::pending().await;
            }
            let Some(mut spool) = self.spool.take() else {
                return self.jobs.drain(..).filter_map(refuse).collect();
            };
            let jobs: Vec<_> = self.jobs.drain(..self.jobs.len().min(BATCH_MAX)).collect();
            self.working = Some(spawn_blocking(move || {
                let outcomes = jobs.into_iter().filter_map(|job| perform(&mut spool, job)).collect();
                (spool, outcomes)
            }));
        }
        let Some(working) = &mut self.working else { return vec![] };
        let done = working.await;
        self.working = None;
        match done {
            Ok((spool, outcomes)) => {
                self.spool = Some(spool);
                outcomes
            }
            // It is gone: nothing more is stored in this life.
            Err(_panicked) => vec![],
        }
    }
}

fn perform(spool: &mut Spool, job: Job) -> Option<Outcome> {
    match job {
        Job::Store(fragment) => Some(match spool.store(&fragment) {
            Ok(()) => Outcome::Stored(fragment.timecode_ms),
            Err(error) => Outcome::NotStored(fragment.timecode_ms, error),
        }),
        Job::Read(session, timecode_ms) => Some(match spool.read(timecode_ms) {
            Ok(bytes) => Outcome::Read(session, bytes),
            Err(error) => Outcome::Unreadable(timecode_ms, error),
        }),
        Job::Forget(timecode_ms) => spool.forget(timecode_ms).err().map(Outcome::Failed),
        Job::SetAside(timecode_ms, fragment) => {
            let kept = spool.set_aside(timecode_ms, fragment.as_deref());
            kept.err().map(Outcome::Failed)
        }
        Job::Mark(mark) => spool.mark(mark).err().map(Outcome::Failed),
        Job::Sync => Some(spool.sync().map_or_else(Outcome::NotSynced, |()| Outcome::Synced)),
    }
}

/// What comes of a job without a spool.
fn refuse(job: Job) -> Option<Outcome> {
    let error = || SpoolError { path: "spool".into(), source: io::Error::other("the spool has failed") };
    match job {
        Job::Store(fragment) => Some(Outcome::NotStored(fragment.timecode_ms, error())),
        Job::Read(_, timecode_ms) => Some(Outcome::Unreadable(timecode_ms, error())),
        Job::Sync => Some(Outcome::Synced),
        Job::Forget(_) | Job::SetAside(_, _) | Job::Mark(_) => None,
    }
}

//! Recordings on disk: when to cut, what to call the files, how to write them so that no crash costs more than one
//! fragment, how to mend what a crash left, and which to delete.
//!
//! [`Segmenter`] decides (pure: packets in, [`Step`]s out), [`Writer`] does what was decided (blocking: call it off
//! the hot path), [`repair()`], [`list()`] and [`Retention`] keep the directory in order. Not here: tasks, clocks,
//! the ring.

mod catalog;
mod disk;
mod error;
mod lane;
mod list;
mod name;
mod repair;
mod retention;
mod segmenter;
mod stats;
mod view;
mod writer;

pub use disk::{Disk, DiskFile, SystemDisk};
pub use error::{WriteError, WriteErrorKind};
pub use list::{Recording, list};
pub use name::{file_name, is_safe_name, start_of};
pub use repair::{Outcome, Repair, Repaired, repair};
pub use retention::Retention;
pub use segmenter::{Drops, PENDING_BYTES_MAX, Policy, Segmenter, Step};
pub use stats::{RecordMonitor, RecordStats};
pub use view::finish_view;
pub use writer::{SyncPolicy, Target, Writer, Written};

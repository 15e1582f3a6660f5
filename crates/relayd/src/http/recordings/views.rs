//! What players see of recordings that are still written, kept for their next range request.

use std::{
    collections::VecDeque,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use axum::body::Bytes;
use tokio::sync::Mutex;

/// Views kept: as many people look at running recordings at once. Whoever comes back for one that is gone waits until
/// it is made again, and sees the same.
const VIEWS_MAX: usize = 16;
/// The most bytes of all views: an index takes some 20 KiB a minute, so 50 h of recordings; at most 20 MiB each
/// (`relay_mp4::SAMPLES_MAX`), and the newest is kept whatever its size.
const VIEWS_BYTES_MAX: usize = 64 << 20;

/// The first bytes of a running recording, as an ordinary file.
#[derive(Clone, Debug)]
pub(super) struct View {
    /// Stands for the file's first bytes.
    pub(super) head: Bytes,
    /// Up to here the file's own bytes follow.
    pub(super) until: u64,
    /// Comes last.
    pub(super) tail: Bytes,
}

/// The views made last. Making one reads every fragment's header: one at a time does, whoever asks.
#[derive(Clone, Debug, Default)]
pub(in crate::http) struct Views(Arc<Mutex<VecDeque<Kept>>>);

#[derive(Debug)]
struct Kept {
    path: PathBuf,
    bytes: u64,
    view: View,
}

impl Views {
    /// The first `bytes` of the recording at `path`; `None` if they are served as they are.
    pub(super) async fn of(&self, path: &Path, bytes: u64) -> io::Result<Option<View>> {
        // The lock goes along: a player that hangs up doesn't let the next one start beside the work it left behind.
        let mut views = self.0.clone().lock_owned().await;
        if let Some(kept) = views.iter().find(|kept| kept.path == path && kept.bytes == bytes) {
            return Ok(Some(kept.view.clone()));
        }
        let path = path.to_owned();
        let made = tokio::task::spawn_blocking(move || -> io::Result<Option<View>> {
            let Some(finale) = relay_record::finish_view(&path, bytes)? else { return Ok(None) };
            let view = View { head: finale.head.into(), until: finale.at, tail: finale.moov.into() };
            keep(&mut views, Kept { path, bytes, view: view.clone() });
            Ok(Some(view))
        });
        made.await.map_err(io::Error::other)?
    }
}

fn keep(views: &mut VecDeque<Kept>, newest: Kept) {
    views.push_back(newest);
    let mut size: usize = views.iter().map(|kept| kept.view.tail.len()).sum();
    while views.len() > VIEWS_MAX || (size > VIEWS_BYTES_MAX && views.len() > 1) {
        size -= views.pop_front().map_or(0, |oldest| oldest.view.tail.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_views_go() {
        let zeros = Bytes::from(vec![0; VIEWS_BYTES_MAX + 1]);
        for (sizes, left) in [
            (&[1; VIEWS_MAX][..], &[1; VIEWS_MAX][..]),
            (&[1; VIEWS_MAX + 3], &[1; VIEWS_MAX]),
            (&[1, VIEWS_BYTES_MAX, 2], &[2]),
            (&[1, VIEWS_BYTES_MAX - 2, 2], &[VIEWS_BYTES_MAX - 2, 2]),
            (&[1, VIEWS_BYTES_MAX + 1], &[VIEWS_BYTES_MAX + 1]),
        ] {
            let mut views = VecDeque::new();
            for (bytes, &size) in (0..).zip(sizes) {
                let view = View { head: Bytes::new(), until: 0, tail: zeros.slice(..size) };
                keep(&mut views, Kept { path: PathBuf::new(), bytes, view });
            }
            let seen: Vec<_> = views.iter().map(|kept| kept.view.tail.len()).collect();
            assert_eq!(seen, left, "{sizes:?}");
            assert_eq!(views.back().map(|kept| kept.bytes + 1), Some(sizes.len() as u64), "the newest stays");
        }
    }
}

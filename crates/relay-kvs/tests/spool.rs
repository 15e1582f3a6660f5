//! The spool: what was stored is there after a death, torn or not, and what is done with is gone.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::Instant,
};

use bytes::Bytes;
use fastrand::Rng;
use proptest::prelude::*;
use relay_kvs::{
    Spool, SpoolSync,
    proto::{Fragment, HEAD_BYTES, RecordHead},
};

/// A directory that is deleted at the end.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("relay-kvs-spool-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[expect(clippy::disallowed_methods, reason = "any instant does")]
fn fragment(timecode_ms: u64, bytes: usize, header: u8) -> Fragment {
    let mut rng = Rng::with_seed(timecode_ms);
    let body: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(bytes).collect();
    let (head, tail) = body.split_at(bytes / 3);
    Fragment {
        timecode_ms,
        last_ms: timecode_ms + 900,
        header: vec![header; 100].into(),
        body: vec![Bytes::copy_from_slice(head), Bytes::copy_from_slice(tail)],
        packets: 7,
        first_arrival: Instant::now(),
    }
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|end| end == "fragments")).collect();
    files.sort();
    files
}

#[test]
fn fragments_survive_and_are_forgotten() {
    for sync in [SpoolSync::Segments, SpoolSync::EachFragment] {
        let dir = Dir::new();
        let (mut spool, found) = Spool::open(&dir.0, sync).unwrap();
        assert_eq!((found.fragments.len(), found.high_water_ms, found.cut_bytes), (0, 0, 0));
        for at in 0..60 {
            spool.store(&fragment(at * 1_000, 1_000_000, (at / 25) as u8)).unwrap();
        }
        spool.mark(60_000).unwrap();
        assert!(segments(&dir.0).len() >= 3);
        for at in (0..60).filter(|at| at % 7 != 0) {
            spool.forget(at * 1_000).unwrap();
        }
        assert!(Spool::open(&dir.0, sync).is_err(), "it is locked");
        drop(spool);

        let (mut spool, found) = Spool::open(&dir.0, sync).unwrap();
        assert_eq!((found.high_water_ms, found.cut_bytes), (60_000, 0));
        let times: Vec<_> = found.fragments.iter().map(|restored| restored.timecode_ms / 1_000).collect();
        assert_eq!(times, [0, 7, 14, 21, 28, 35, 42, 49, 56]);
        for restored in &found.fragments {
            let stored = fragment(restored.timecode_ms, 1_000_000, (restored.timecode_ms / 25_000) as u8);
            assert_eq!(spool.read(restored.timecode_ms).unwrap(), stored.body.concat());
            assert_eq!((&restored.header, restored.last_ms, restored.packets), (&stored.header, stored.last_ms, 7));
            spool.forget(restored.timecode_ms).unwrap();
        }
        assert_eq!(segments(&dir.0).len(), 0);
        assert!(spool.read(0).is_err());
    }
}

#[test]
fn torn_tails_are_cut() {
    // Where the last of three records is cut, what is left of it, and what is found.
    let whole = 100_000 + HEAD_BYTES as u64;
    for (left, cut) in [(whole, 0), (whole - 1, whole - 1), (HEAD_BYTES as u64, HEAD_BYTES as u64), (7, 7)] {
        let dir = Dir::new();
        let (mut spool, _) = Spool::open(&dir.0, SpoolSync::Segments).unwrap();
        (1..=3).for_each(|at| spool.store(&fragment(at, 100_000, 0)).unwrap());
        drop(spool);
        let file = OpenOptions::new().write(true).open(&segments(&dir.0)[0]).unwrap();
        file.set_len(file.metadata().unwrap().len() - whole + left).unwrap();
        let (mut spool, found) = Spool::open(&dir.0, SpoolSync::Segments).unwrap();
        assert_eq!((found.fragments.len(), found.cut_bytes), (if cut == 0 { 3 } else { 2 }, cut));
        spool.store(&fragment(4, 50, 0)).unwrap();
        assert_eq!(spool.read(4).unwrap(), fragment(4, 50, 0).body.concat());
        drop(spool);
        assert_eq!(Spool::open(&dir.0, SpoolSync::Segments).unwrap().1.cut_bytes, 0);
    }
}

#[test]
fn a_hurt_fragment_is_not_given_back_and_a_hurt_journal_costs_duplicates_only() {
    let dir = Dir::new();
    let (mut spool, _) = Spool::open(&dir.0, SpoolSync::Segments).unwrap();
    (1..=9).for_each(|at| spool.store(&fragment(at, 10_000, 0)).unwrap());
    (1..=4).for_each(|at| spool.forget(at).unwrap());
    drop(spool);
    let hurt = |path: &Path, at: usize| {
        let mut bytes = fs::read(path).unwrap();
        bytes[at] ^= 1;
        fs::write(path, bytes).unwrap();
    };
    hurt(&dir.0.join("journal"), 2 * HEAD_BYTES + 20);
    hurt(&segments(&dir.0)[0], 70_000);
    let (spool, found) = Spool::open(&dir.0, SpoolSync::Segments).unwrap();
    let times: Vec<_> = found.fragments.iter().map(|restored| restored.timecode_ms).collect();
    assert_eq!(times, [3, 4, 5, 6, 7, 8, 9]);
    let unreadable: Vec<_> = times.into_iter().filter(|at| spool.read(*at).is_err()).collect();
    assert_eq!(unreadable, [7]);
}

#[test]
fn what_is_set_aside_can_be_looked_at() {
    let dir = Dir::new();
    let (mut spool, _) = Spool::open(&dir.0, SpoolSync::Segments).unwrap();
    let expected = |fragment: &Fragment| [fragment.header.to_vec(), fragment.body.concat()].concat();
    for at in 1..=40 {
        let fragment = fragment(1_000 + at, 1_000, 1);
        let kept = if at % 2 == 0 {
            spool.store(&fragment).unwrap();
            spool.set_aside(fragment.timecode_ms, None)
        } else {
            spool.set_aside(fragment.timecode_ms, Some(&fragment))
        };
        assert_eq!(fs::read(kept.unwrap()).unwrap(), expected(&fragment));
        assert!(spool.read(fragment.timecode_ms).is_err());
    }
    assert_eq!(fs::read_dir(dir.0.join("aside")).unwrap().count(), 32);
}

#[test]
fn a_long_life_leaves_short_files() {
    let dir = Dir::new();
    let (mut spool, _) = Spool::open(&dir.0, SpoolSync::Segments).unwrap();
    for at in 0..20_000 {
        spool.store(&fragment(at, 500, 0)).unwrap();
        spool.mark(at + 1).unwrap();
        if at >= 5 {
            spool.forget(at - 5).unwrap();
        }
    }
    let bytes: u64 = fs::read_dir(&dir.0).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert!(bytes < 20 << 20, "{bytes}");
    drop(spool);
    let (_, found) = Spool::open(&dir.0, SpoolSync::Segments).unwrap();
    assert_eq!((found.fragments.len(), found.high_water_ms), (5, 20_000));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_stored_and_not_forgotten_is_there(
        steps in prop::collection::vec((0..40_u64, any::<bool>(), 1..3_000_usize, 0..3_u8, 0..20_u8), 1..120),
    ) {
        let dir = Dir::new();
        let (mut spool, _) = Spool::open(&dir.0, SpoolSync::Segments).unwrap();
        let mut there = BTreeMap::new();
        let mut gone = std::collections::BTreeSet::new();
        for (at, forget, bytes, header, restart) in steps {
            if forget {
                spool.forget(at).unwrap();
                if there.remove(&at).is_some() {
                    gone.insert(at);
                }
            } else if !gone.contains(&at) && !there.contains_key(&at) {
                let fragment = fragment(at, bytes, header);
                spool.store(&fragment).unwrap();
                there.insert(at, fragment);
            }
            if restart == 0 {
                drop(spool);
                let (opened, found) = Spool::open(&dir.0, SpoolSync::Segments).unwrap();
                spool = opened;
                let found: BTreeMap<_, _> = found.fragments.iter().map(|restored| (restored.timecode_ms, &restored.header)).map(|(at, header)| (at, header.clone())).collect();
                let expected: BTreeMap<_, _> = there.iter().map(|(at, fragment)| (*at, fragment.header.clone())).collect();
                prop_assert_eq!(found, expected);
            }
        }
        for (at, fragment) in there {
            prop_assert_eq!(spool.read(at).unwrap(), fragment.body.concat());
        }
    }

    #[test]
    fn no_head_panics(bytes: [u8; 48]) {
        let _ = RecordHead::decode(&bytes);
        let mut hurt = RecordHead::bare(relay_kvs::proto::RecordKind::Mark, 7).encode();
        prop_assert!(RecordHead::decode(&hurt).is_some());
        hurt[usize::from(bytes[0]) % 44] ^= bytes[1] | 1;
        prop_assert!(RecordHead::decode(&hurt).is_none());
    }
}

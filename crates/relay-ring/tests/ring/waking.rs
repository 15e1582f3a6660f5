//! Whom a push wakes, and when.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use relay_ring::{Cursor, LeakPolicy, Start, ring};

use crate::stream::{key, limits, picture, sound};

const MINUTE: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Polls `next_batch` once and drops it; says how many packets came.
fn poll(cursor: &mut Cursor, waker: &Waker) -> Option<usize> {
    let mut batch = Vec::new();
    let poll = pin!(cursor.next_batch(&mut batch, 100)).poll(&mut Context::from_waker(waker));
    match poll {
        Poll::Ready(_) => Some(batch.len()),
        Poll::Pending => None,
    }
}

#[test]
fn a_wake_waits_for_the_threshold_a_key_frame_or_danger() {
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    let (mut publisher, ring) = ring(limits(20, MINUTE));
    (0..20).for_each(|i| publisher.push(if i == 0 { key(0) } else { picture(i) }.packet(0)));
    let mut cursor = ring.cursor(LeakPolicy::Keep, Start::Next);
    for (threshold, units, wakes) in [
        (1, vec![picture(30)], 1),
        (3, vec![picture(31), sound(31)], 0),
        (3, vec![picture(32), sound(32), picture(33)], 1),
        (5, vec![picture(34), key(35)], 1),
        (99, (40..44).map(picture).collect(), 0),
        (99, (50..60).map(picture).collect(), 1),
    ] {
        while poll(&mut cursor, &waker).is_some() {}
        let before = count.0.load(Ordering::SeqCst);
        cursor.set_wake_threshold(threshold);
        units.iter().for_each(|unit| publisher.push(unit.packet(0)));
        assert_eq!(count.0.load(Ordering::SeqCst) - before, wakes, "threshold {threshold}, {units:?}");
        assert_eq!(poll(&mut cursor, &waker), Some(units.len()), "a poll takes what is there");
        assert_eq!(cursor.stats().dropped.total(), 0);
    }
}

#[test]
fn a_reader_that_waits_for_a_key_frame_sleeps_until_it_comes() {
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    let (mut publisher, ring) = ring(limits(20, MINUTE));
    let mut cursor = ring.cursor(LeakPolicy::Keep, Start::JoinPoint);
    publisher.push(picture(0).packet(0));
    assert_eq!(poll(&mut cursor, &waker), None);
    (1..30).for_each(|i| publisher.push(picture(i).packet(0)));
    assert_eq!(count.0.load(Ordering::SeqCst), 0);
    publisher.push(key(30).packet(0));
    assert_eq!(count.0.load(Ordering::SeqCst), 1);
    assert_eq!(poll(&mut cursor, &waker), Some(1));
}

#[test]
fn one_task_at_many_cursors_is_woken_once() {
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    let (mut publisher, ring) = ring(limits(20, MINUTE));
    let mut cursors: Vec<_> = (0..8).map(|_| ring.cursor(LeakPolicy::Keep, Start::Next)).collect();
    cursors.iter_mut().for_each(|cursor| assert_eq!(poll(cursor, &waker), None));
    publisher.push(key(0).packet(0));
    assert_eq!(count.0.load(Ordering::SeqCst), 1);
    cursors.iter_mut().for_each(|cursor| assert_eq!(poll(cursor, &waker), Some(1)));
    drop(publisher);
    assert_eq!(count.0.load(Ordering::SeqCst), 1, "nobody waits");
}

//! Which recordings have to go.

use std::time::Duration;

/// What is kept, oldest deleted first; whatever is not set does not limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// A recording is deleted when it began longer ago than this.
    pub age: Option<Duration>,
    /// The most bytes of a stream's recordings, the running one included.
    pub bytes: Option<u64>,
    /// The free bytes that the disk is to have.
    pub free: Option<u64>,
}

/// One finished recording, as retention looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Milliseconds since the Unix epoch at its beginning: its name.
    pub(crate) start_millis: i64,
    pub(crate) bytes: u64,
}

impl Retention {
    /// Nothing limits.
    pub fn is_unlimited(&self) -> bool {
        *self == Self::default()
    }

    /// How many of `entries`, which are sorted oldest first, are to be deleted at `now_millis`. `running` is the size
    /// of the file being written, and `free` what the disk has, where they are known.
    pub(crate) fn expired<'a>(
        &self,
        entries: impl Iterator<Item = &'a Entry> + Clone,
        now_millis: i64,
        running: u64,
        free: Option<u64>,
    ) -> usize {
        let mut bytes = entries.clone().fold(running, |sum, entry| sum.saturating_add(entry.bytes));
        let mut free = free;
        let oldest = self.age.map(|age| now_millis.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX)));
        let mut count = 0;
        for entry in entries {
            let old = oldest.is_some_and(|oldest| entry.start_millis < oldest);
            let many = self.bytes.is_some_and(|most| bytes > most);
            let full = self.free.zip(free).is_some_and(|(least, free)| free < least);
            if !(old || many || full) {
                break;
            }
            count += 1;
            bytes = bytes.saturating_sub(entry.bytes);
            free = free.map(|free| free.saturating_add(entry.bytes));
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_first_and_no_more_than_needed() {
        // Four recordings of 10 bytes, a minute apart.
        let entries: Vec<_> = (0..4).map(|n| Entry { start_millis: n * 60_000, bytes: 10 }).collect();
        let now = 240_000;
        let (age, bytes, free) = (|s| Some(Duration::from_secs(s)), Some, Some);
        for (keep, running, disk, expected) in [
            (Retention::default(), 1_000, Some(0), 0),
            (Retention { age: age(240), ..Default::default() }, 0, None, 0),
            (Retention { age: age(239), ..Default::default() }, 0, None, 1),
            (Retention { age: age(1), ..Default::default() }, 0, None, 4),
            (Retention { bytes: bytes(40), ..Default::default() }, 0, None, 0),
            (Retention { bytes: bytes(40), ..Default::default() }, 1, None, 1),
            (Retention { bytes: bytes(0), ..Default::default() }, 5, None, 4),
            (Retention { free: free(100), ..Default::default() }, 0, Some(100), 0),
            (Retention { free: free(100), ..Default::default() }, 0, Some(85), 2),
            (Retention { free: free(100), ..Default::default() }, 0, None, 0),
            (Retention { age: age(200), bytes: bytes(25), free: free(5) }, 0, Some(9), 2),
        ] {
            assert_eq!(keep.expired(entries.iter(), now, running, disk), expected, "{keep:?} {running} {disk:?}");
        }
    }
}

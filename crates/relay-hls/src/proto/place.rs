//! Where in the stream we are, and where that is in a playlist that may have been numbered anew.

use std::{
    collections::{HashMap, HashSet, VecDeque, hash_map::DefaultHasher},
    hash::{Hash as _, Hasher as _},
    time::{Duration, Instant},
};

use relay_media::UtcTime;

use super::{
    cause::{Cause, reason},
    playlist::{MediaPlaylist, Segment, plus},
};

/// How many taken segments are remembered, and how many of a playlist's last are compared: more than a playlist of
/// an hour holds of two-second segments would be of no use. 56 bytes each.
const REMEMBERED_MAX: usize = 1_024;
/// A playlist may be older than the newest seen by so many segments and still come from a lagging cache; when it is
/// older, the origin has started anew.
const STALE_SEGMENTS_MAX: u64 = 3;
/// Times of day of the same segment may differ by so much: origins reckon them from rounded durations.
const WALL_TOLERANCE: Duration = Duration::from_secs(2);
/// Times of day further apart than this are not compared: one of the clocks is wrong.
const WALL_RANGE_NANOS: i64 = 3_600_000_000_000;

/// A segment that was taken, or given up.
#[derive(Clone, Copy, Debug)]
struct Taken {
    /// Its number in the present numbering, if it has one there.
    sequence: Option<u64>,
    /// Which it is, if names still mean the same.
    identity: Option<Identity>,
    wall: Option<UtcTime>,
    duration: Duration,
}

/// Which segment it is, whatever its number: its URL and range. The query often holds a token that changes, so it
/// only counts where paths alone don't tell segments apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Identity {
    path: u64,
    full: u64,
}

impl Identity {
    fn of(segment: &Segment, list: &MediaPlaylist) -> Self {
        let hash = |text: &str| {
            let mut hasher = DefaultHasher::new();
            (text, segment.span).hash(&mut hasher);
            hasher.finish()
        };
        match list.url.join(&segment.uri) {
            Ok(url) => Self { path: hash(url.path()), full: hash(url.as_str()) },
            Err(_) => Self { path: hash(&segment.uri), full: hash(&segment.uri) },
        }
    }
}

/// What to make of a playlist.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It goes on where the one before ended, or doesn't go on yet.
    Fits,
    /// An older one, out of a cache.
    Stale,
    /// Segments left it before they were taken: go on at `next`.
    Behind { next: u64, cause: Cause, missed: Duration },
    /// It is numbered anew: go on at `next`. With a `shift`, old numbers plus that are the new ones: nothing is
    /// missing. Without, it is another run of the encoder.
    Anew { next: u64, cause: Cause, shift: Option<u64> },
}

/// The place in the stream.
#[derive(Debug, Default)]
pub(crate) struct Place {
    /// The media sequence number of the segment to take next; none before the beginning.
    pub(crate) next: Option<u64>,
    taken: VecDeque<Taken>,
    /// The end of the newest playlist, and when it came to that.
    end: u64,
    grown: Option<Instant>,
}

impl Place {
    /// The segment with this number is taken, or given up. Its name is learnt from the next playlist that lists it.
    pub(crate) fn take(&mut self, sequence: u64, segment: &Segment) {
        let (wall, duration) = (segment.wall, segment.duration);
        if self.taken.len() >= REMEMBERED_MAX {
            self.taken.pop_front();
        }
        self.taken.push_back(Taken { sequence: Some(sequence), identity: None, wall, duration });
        self.next = Some(sequence.saturating_add(1));
    }

    /// Looks at a playlist that came `elapsed` after the one that brought something new.
    pub(crate) fn judge(&self, list: &MediaPlaylist, elapsed: Duration) -> Verdict {
        let Some(next) = self.next else { return Verdict::Fits };
        let recent = Recent::new(list);
        let overlap = self.overlap(&recent);
        if overlap == Overlap::Differs {
            return self.anew(&recent, reason::SEQUENCE_REUSED, next);
        }
        if list.end() < next {
            let is_stale = overlap == Overlap::Agrees && list.end().saturating_add(STALE_SEGMENTS_MAX) >= self.end;
            return if is_stale { Verdict::Stale } else { self.anew(&recent, reason::SEQUENCE_BACK, next) };
        }
        let missed = list.media_sequence.saturating_sub(next);
        if missed == 0 {
            return Verdict::Fits;
        }
        // So many segments may well have come and gone meanwhile.
        let shortest = list.segments.iter().map(|segment| segment.duration).min().unwrap_or_default();
        let shortest = shortest.max(Duration::from_millis(100));
        let plausible = elapsed.as_millis() * 3 / 2 / shortest.as_millis() + 3;
        if u128::from(missed) > plausible || self.same_segment(&recent).is_some() {
            return self.anew(&recent, reason::SEQUENCE_LEAP, next);
        }
        let by_number = list.target_duration.saturating_mul(u32::try_from(missed).unwrap_or(u32::MAX));
        let first = list.segments.first().and_then(|segment| segment.wall);
        let by_wall = self.wall_end().zip(first).map(|(end, first)| first.nanos_since(end));
        let by_wall = by_wall.and_then(|nanos| u64::try_from(nanos).ok()).map(Duration::from_nanos);
        let missed_for = by_wall.filter(|missed| *missed < by_number * 2).unwrap_or(by_number);
        let text = format!("{missed} segments left the playlist before they were taken");
        let cause = Cause::cheap(reason::FELL_BEHIND, text);
        Verdict::Behind { next: list.media_sequence, cause, missed: missed_for }
    }

    /// A playlist was accepted: it names what was taken before it had a name.
    pub(crate) fn accept(&mut self, now: Instant, list: &MediaPlaylist) {
        if self.end != list.end() {
            (self.end, self.grown) = (list.end(), Some(now));
        }
        self.learn_names(list);
    }

    pub(crate) fn learn_names(&mut self, list: &MediaPlaylist) {
        for taken in self.taken.iter_mut().rev().take_while(|taken| taken.identity.is_none()) {
            let segment = taken.sequence.and_then(|sequence| list.segment(sequence));
            taken.identity = segment.map(|segment| Identity::of(segment, list));
        }
    }

    /// How long ago the playlist last grew.
    pub(crate) fn since_growth(&self, now: Instant) -> Duration {
        self.grown.map(|grown| now.saturating_duration_since(grown)).unwrap_or_default()
    }

    /// The last segment is to be taken once more.
    pub(crate) fn untake(&mut self) {
        if self.taken.pop_back().is_some() {
            self.next = self.next.map(|next| next.saturating_sub(1));
        }
    }

    /// An older playlist is all that comes: take it for a new beginning.
    pub(crate) fn give_in(&self, list: &MediaPlaylist) -> Verdict {
        self.anew(&Recent::new(list), reason::SEQUENCE_BACK, self.next.unwrap_or(0))
    }

    /// Goes on at `next` of a playlist that is numbered anew.
    pub(crate) fn renumber(&mut self, next: u64, shift: Option<u64>) {
        self.next = Some(next);
        let Some(shift) = shift else { return self.forget_names() };
        for taken in &mut self.taken {
            taken.sequence = taken.sequence.map(|sequence| sequence.wrapping_add(shift));
        }
    }

    /// Another variant, or another run of the encoder: names and numbers mean something else (RFC 8216 §6.3.2). When
    /// the last segment ended is still worth knowing.
    pub(crate) fn forget_names(&mut self) {
        let last = self.taken.pop_back();
        self.taken.clear();
        self.taken.extend(last.map(|last| Taken { sequence: None, identity: None, ..last }));
    }

    /// Where to go on in another variant's playlist: by the time of day, else by the number.
    pub(crate) fn find_in_variant(&self, list: &MediaPlaylist) -> u64 {
        let by_number = self.next.filter(|next| (list.media_sequence..=list.end()).contains(next));
        let by_wall = self.after_wall(&Recent::new(list));
        by_wall.or(by_number).unwrap_or_else(|| list.back_from_end(list.target_duration * 3))
    }

    fn anew(&self, recent: &Recent<'_>, reason: &'static str, next: u64) -> Verdict {
        let list = recent.list;
        let (from, to) = (list.media_sequence, list.end());
        let same = self.same_segment(recent);
        let found = same.map(|(next, _)| next).or_else(|| self.after_wall(recent));
        let at = found.unwrap_or_else(|| list.back_from_end(list.target_duration * 3));
        let how = match (same, found) {
            (Some(_), _) => "its segments are known",
            (None, Some(_)) => "going on by the time of day",
            (None, None) => "starting anew",
        };
        let text = format!("expected segment {next}, the playlist lists {from} to {}: {how}", to.saturating_sub(1));
        Verdict::Anew { next: at, cause: Cause::cheap(reason, text), shift: same.map(|(_, shift)| shift) }
    }

    /// Whether the numbers that both know name the same segments.
    fn overlap(&self, recent: &Recent<'_>) -> Overlap {
        let mut overlap = Overlap::None;
        for taken in self.taken.iter().rev() {
            let (Some(entry), Some(identity)) = (taken.sequence.and_then(|at| recent.get(at)), taken.identity) else {
                continue;
            };
            if !recent.is_same(entry, identity, taken) {
                return Overlap::Differs;
            }
            overlap = Overlap::Agrees;
        }
        overlap
    }

    /// The number after the newest listed segment that was taken under another number, and by how much they differ.
    fn same_segment(&self, recent: &Recent<'_>) -> Option<(u64, u64)> {
        let mut known: HashMap<u64, &Taken> = HashMap::new();
        for taken in &self.taken {
            known.extend(taken.identity.map(|identity| (recent.key(identity), taken)));
        }
        recent.segments.iter().rev().find_map(|entry| {
            let taken = known.get(&recent.key(entry.2))?;
            let (identity, sequence) = (taken.identity?, taken.sequence?);
            let is_same = sequence != entry.0 && recent.is_same(entry, identity, taken);
            is_same.then(|| (entry.0.saturating_add(1), entry.0.wrapping_sub(sequence)))
        })
    }

    /// The first listed segment that begins where the last one taken ended, or later.
    fn after_wall(&self, recent: &Recent<'_>) -> Option<u64> {
        let (end, last) = (self.wall_end()?, recent.segments.last()?);
        let (first, newest) = (recent.segments.first()?.1.wall?, last.1.wall?);
        if newest.nanos_since(end).abs() > WALL_RANGE_NANOS || first.nanos_since(end).abs() > WALL_RANGE_NANOS {
            return None;
        }
        let begins = |segment: &Segment| {
            let tolerance = i64::try_from((segment.duration / 2).as_nanos()).unwrap_or(i64::MAX);
            segment.wall.is_some_and(|wall| wall.nanos_since(end) >= -tolerance)
        };
        let found = recent.segments.iter().find(|(_, segment, _)| begins(segment)).map(|(sequence, ..)| *sequence);
        // Nothing new yet: it goes on after the last, unless the origin's clock went back too.
        let next = || (end.nanos_since(newest) < 10_000_000_000).then(|| last.0.saturating_add(1));
        found.or_else(next)
    }

    fn wall_end(&self) -> Option<UtcTime> {
        self.taken.back().and_then(|last| Some(plus(last.wall?, last.duration)))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Overlap {
    None,
    Agrees,
    Differs,
}

type Entry<'a> = (u64, &'a Segment, Identity);

/// The last segments of a playlist, with what identifies them.
struct Recent<'a> {
    list: &'a MediaPlaylist,
    segments: Vec<Entry<'a>>,
    /// Paths alone tell them apart.
    by_path: bool,
}

impl<'a> Recent<'a> {
    fn new(list: &'a MediaPlaylist) -> Self {
        let skip = list.segments.len().saturating_sub(REMEMBERED_MAX);
        let entry =
            |(index, segment)| (list.media_sequence.saturating_add(index as u64), segment, Identity::of(segment, list));
        let segments: Vec<_> = list.segments.iter().enumerate().skip(skip).map(entry).collect();
        let paths: HashSet<_> = segments.iter().map(|(.., identity)| identity.path).collect();
        let by_path = paths.len() == segments.len();
        Self { list, segments, by_path }
    }

    fn key(&self, identity: Identity) -> u64 {
        if self.by_path { identity.path } else { identity.full }
    }

    fn get(&self, sequence: u64) -> Option<&Entry<'a>> {
        let first = self.segments.first()?.0;
        self.segments.get(usize::try_from(sequence.checked_sub(first)?).ok()?)
    }

    fn is_same(&self, (_, segment, listed): &Entry<'_>, identity: Identity, taken: &Taken) -> bool {
        let tolerance = i64::try_from(WALL_TOLERANCE.max(taken.duration).as_nanos()).unwrap_or(i64::MAX);
        let walls = segment.wall.zip(taken.wall);
        let same_time = walls.is_none_or(|(one, other)| one.nanos_since(other).abs() <= tolerance);
        self.key(*listed) == self.key(identity) && same_time
    }
}

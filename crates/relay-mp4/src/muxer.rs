//! Writes one file: its first bytes, its fragments, its end.

use std::sync::Arc;

use relay_media::{Packet, Timestamp, Track, UtcTime};

use crate::{
    FRAGMENT_BYTES_MAX, FRAGMENT_SAMPLES_MAX, MuxError, SAMPLES_MAX, TRACKS_MAX,
    fragment::{self, RunEntries},
    movie::{self, Movie, MovieTrack},
    table::{Entry, SampleTable},
};

/// What a file begins with.
#[derive(Clone, Debug)]
pub struct Start {
    /// Its tracks; a [`Run`] names them by their place here.
    pub tracks: Vec<Arc<Track>>,
    /// The stream's time that is the file's media time zero: the decode time of the first key frame.
    pub zero: Timestamp,
    /// The stream's time at which the file begins to play: the presentation time of the first key frame.
    pub presentation: Timestamp,
    /// The time of day of `presentation`.
    pub utc: UtcTime,
}

/// One packet, and how long it lasts in ticks of its track: to the next one, or as well as is known.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The packet.
    pub packet: Arc<Packet>,
    /// Its duration in ticks.
    pub duration: u32,
}

/// The samples of one track in a fragment, in decoding order.
#[derive(Clone, Debug)]
pub struct Run {
    /// The track's place in [`Start::tracks`].
    pub track: usize,
    /// Its samples.
    pub samples: Vec<Sample>,
}

/// A file being written. It holds the tables of all samples committed, at most [`SAMPLES_MAX`].
#[derive(Debug)]
pub struct Muxer {
    movie: Movie,
    zero: Timestamp,
    tables: Vec<SampleTable>,
    samples: usize,
    sequence: u32,
    position: u64,
}

impl Muxer {
    /// A new file, and the bytes it begins with.
    ///
    /// # Errors
    /// The number of tracks is not between 1 and [`TRACKS_MAX`].
    pub fn new(start: Start) -> Result<(Self, Vec<u8>), MuxError> {
        if start.tracks.is_empty() || start.tracks.len() > TRACKS_MAX {
            return Err(MuxError::Tracks);
        }
        let lead = |track: &Arc<Track>| {
            let ticks = start.presentation.rescale(track.timebase).ticks();
            u64::try_from(ticks.saturating_sub(start.zero.rescale(track.timebase).ticks())).unwrap_or(0)
        };
        let tracks = start.tracks.into_iter().map(|track| MovieTrack { lead: lead(&track), track }).collect();
        let movie = Movie { tracks, utc: start.utc };
        let mut head = movie::running_head()?;
        movie.write_running(&mut head)?;
        let tables = vec![SampleTable::default(); movie.tracks.len()];
        let position = head.len() as u64;
        Ok((Self { movie, zero: start.zero, tables, samples: 0, sequence: 0, position }, head))
    }

    /// A file that was read and goes on at byte `position`.
    pub(crate) fn resume(movie: Movie, tables: Vec<SampleTable>, sequence: u32, position: u64) -> Self {
        let zero = Timestamp::new(0, relay_media::Timebase::VIDEO);
        let samples = tables.iter().map(SampleTable::len).sum();
        Self { movie, zero, tables, samples, sequence, position }
    }

    pub(crate) fn into_tables(self) -> (Movie, Vec<SampleTable>) {
        (self.movie, self.tables)
    }

    /// Bytes of the file up to the end of the last fragment committed.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Samples committed.
    pub fn samples(&self) -> usize {
        self.samples
    }

    /// The bytes of the next fragment but for the media: the caller writes [`Fragment::header`], then the payloads of
    /// `runs` in their order, and when they are written commits the fragment.
    ///
    /// # Errors
    /// `runs` hold nothing or too much, name a track the file doesn't have, or the file is full.
    pub fn fragment(&self, runs: &[Run]) -> Result<Fragment, MuxError> {
        let samples: usize = runs.iter().map(|run| run.samples.len()).sum();
        let bytes: usize = runs.iter().flat_map(|run| &run.samples).map(|sample| sample.packet.payload.len()).sum();
        if samples == 0 || samples > FRAGMENT_SAMPLES_MAX || bytes > FRAGMENT_BYTES_MAX {
            return Err(MuxError::FragmentSize { samples, bytes });
        }
        if self.samples + samples > SAMPLES_MAX {
            return Err(MuxError::FileFull);
        }
        let filled = runs.iter().filter(|run| !run.samples.is_empty());
        let entries = filled.map(|run| self.entries(run)).collect::<Result<Vec<_>, _>>()?;
        let clock = runs.iter().find_map(|run| {
            let packet = &run.samples.first()?.packet;
            let media_time = packet.pts.ticks().saturating_sub(self.zero.rescale(packet.pts.timebase()).ticks());
            fragment::clock(run.track, packet, media_time)
        });
        let header = fragment::write(self.sequence.wrapping_add(1), &entries, clock.as_ref())?;
        Ok(Fragment { header, bytes, runs: entries })
    }

    fn entries(&self, run: &Run) -> Result<RunEntries, MuxError> {
        let (Some(track), Some(table)) = (self.movie.tracks.get(run.track), self.tables.get(run.track)) else {
            return Err(MuxError::Tracks);
        };
        let zero = self.zero.rescale(track.track.timebase).ticks();
        // Whatever the timestamps say, media time doesn't go back, nor before zero.
        let mut least = table.next_dts_min();
        let mut entries = Vec::with_capacity(run.samples.len());
        for sample in &run.samples {
            let packet = &sample.packet;
            let dts = packet.dts.ticks().saturating_sub(zero).max(least);
            let offset = packet.pts.ticks().saturating_sub(packet.dts.ticks());
            least = dts.saturating_add(1);
            entries.push(Entry {
                dts,
                duration: sample.duration,
                offset: i32::try_from(offset).unwrap_or(0),
                size: u32::try_from(packet.payload.len()).unwrap_or(u32::MAX),
                sync: fragment::is_sync(fragment::sample_flags(packet)),
            });
        }
        let flags = run.samples.iter().map(|sample| fragment::sample_flags(&sample.packet)).collect();
        Ok(RunEntries { index: run.track, entries, flags })
    }

    /// The fragment is in the file.
    pub fn commit(&mut self, fragment: Fragment) {
        let mut at = self.position + fragment.header.len() as u64;
        for run in fragment.runs {
            let bytes = run.bytes();
            self.samples += run.entries.len();
            if let Some(table) = self.tables.get_mut(run.index) {
                table.push_chunk(at, run.entries.into_iter());
            }
            at += bytes;
        }
        self.sequence = self.sequence.wrapping_add(1);
        self.position = at;
    }

    /// The bytes that make the file an ordinary one.
    ///
    /// # Errors
    /// The box library refuses, which bounded tables give it no reason for.
    pub fn finish(self) -> Result<Finale, MuxError> {
        let mut moov = Vec::new();
        self.movie.write_finished(self.tables, &mut moov)?;
        Ok(Finale { at: self.position, moov, head: movie::finished_head(self.position)? })
    }
}

/// The boxes of one fragment.
pub struct Fragment {
    header: Vec<u8>,
    bytes: usize,
    runs: Vec<RunEntries>,
}

impl Fragment {
    /// `prft`, `moof` and the `mdat` header.
    pub fn header(&self) -> &[u8] {
        &self.header
    }

    /// Bytes of the whole fragment, media included.
    pub fn len(&self) -> usize {
        self.header.len() + self.bytes
    }

    /// Never: a fragment holds samples.
    pub fn is_empty(&self) -> bool {
        false
    }
}

/// How a file is finished: write `moov` at byte `at`, sync, write `head` at byte 0, sync.
#[derive(Debug)]
pub struct Finale {
    /// Where `moov` goes: behind the last fragment.
    pub at: u64,
    /// The full index.
    pub moov: Vec<u8>,
    /// Takes the place of the file's first bytes, length for length: fewer than a disk sector holds.
    pub head: Vec<u8>,
}

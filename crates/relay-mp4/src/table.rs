//! The sample table of one track (ISO/IEC 14496-12 §8.6–8.7): kept run-length coded, in the very form in which it is
//! written at the end, while a file runs.

use mp4_atom::{Co64, Ctts, CttsEntry, Encode as _, Stco, Stsc, StscEntry, Stss, Stsz, StszSamples, Stts, SttsEntry};

use crate::{ReadError, SAMPLES_MAX, walk};

/// One sample, in the track's ticks from the file's media zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) dts: i64,
    pub(crate) duration: u32,
    /// Presentation less decode time.
    pub(crate) offset: i32,
    pub(crate) size: u32,
    pub(crate) sync: bool,
}

/// Where the samples of one track are, and when.
#[derive(Clone, Debug, Default)]
pub(crate) struct SampleTable {
    /// Decode time of the first sample.
    first: i64,
    /// Decode time of the newest sample, as the table tells it.
    last: i64,
    /// What is known of the newest sample's duration; the next sample's time settles it.
    last_duration: u32,
    /// The latest end of a presentation, from `first`.
    end: i64,
    sizes: Vec<u32>,
    times: Stts,
    offsets: Ctts,
    syncs: Stss,
    chunks: Co64,
    chunk_lengths: Stsc,
}

impl SampleTable {
    pub(crate) fn len(&self) -> usize {
        self.sizes.len()
    }

    pub(crate) fn first(&self) -> i64 {
        self.first
    }

    /// Ticks from the first sample's decode time to the end of the last one.
    pub(crate) fn duration(&self) -> u64 {
        let ticks = self.last.saturating_sub(self.first).saturating_add(self.last_duration.into());
        u64::try_from(ticks).unwrap_or(0)
    }

    /// Ticks from the first sample's decode time to the end of the latest presentation.
    pub(crate) fn presentation_end(&self) -> u64 {
        u64::try_from(self.end).unwrap_or(0)
    }

    /// The least decode time that the next sample may have.
    pub(crate) fn next_dts_min(&self) -> i64 {
        if self.sizes.is_empty() { 0 } else { self.last.saturating_add(1) }
    }

    /// Appends samples that lie one behind another from byte `at` of the file.
    pub(crate) fn push_chunk(&mut self, at: u64, samples: impl Iterator<Item = Entry>) {
        let before = self.len();
        for sample in samples {
            self.push(sample);
        }
        let Ok(count) = u32::try_from(self.len() - before) else { return };
        if count == 0 {
            return;
        }
        self.chunks.entries.push(at);
        if self.chunk_lengths.entries.last().is_none_or(|run| run.samples_per_chunk != count) {
            self.chunk_lengths.entries.push(StscEntry {
                first_chunk: u32::try_from(self.chunks.entries.len()).unwrap_or(u32::MAX),
                samples_per_chunk: count,
                sample_description_index: 1,
            });
        }
    }

    fn push(&mut self, sample: Entry) {
        if self.sizes.is_empty() {
            (self.first, self.last) = (sample.dts, sample.dts);
        } else {
            // The newest sample lasts until this one, however long the source was away.
            let delta = u32::try_from(sample.dts.saturating_sub(self.last)).unwrap_or(match sample.dts > self.last {
                true => u32::MAX,
                false => 0,
            });
            self.settle(delta);
            self.last = self.last.saturating_add(delta.into());
        }
        self.last_duration = sample.duration;
        let presented = self.last.saturating_sub(self.first).saturating_add(sample.offset.into());
        self.end = self.end.max(presented.saturating_add(sample.duration.into()));
        self.sizes.push(sample.size);
        if sample.sync {
            self.syncs.entries.push(u32::try_from(self.sizes.len()).unwrap_or(u32::MAX));
        }
        match self.offsets.entries.last_mut() {
            Some(run) if run.sample_offset == i64::from(sample.offset) => run.sample_count += 1,
            _ => self.offsets.entries.push(CttsEntry { sample_count: 1, sample_offset: sample.offset.into() }),
        }
    }

    /// The newest sample in `times` lasts `delta`.
    fn settle(&mut self, delta: u32) {
        match self.times.entries.last_mut() {
            Some(run) if run.sample_delta == delta => run.sample_count += 1,
            _ => self.times.entries.push(SttsEntry { sample_count: 1, sample_delta: delta }),
        }
    }

    /// Writes `stts`, `ctts`, `stss`, `stsc`, `stsz` and `co64`.
    pub(crate) fn write(mut self, buf: &mut Vec<u8>) -> mp4_atom::Result<()> {
        if !self.sizes.is_empty() {
            self.settle(self.last_duration);
        }
        self.times.encode(buf)?;
        if self.offsets.entries.iter().any(|run| run.sample_offset != 0) {
            self.offsets.encode(buf)?;
        }
        // Without stss every sample is a sync sample (§8.6.2.1).
        if self.syncs.entries.len() < self.sizes.len() {
            self.syncs.encode(buf)?;
        }
        self.chunk_lengths.encode(buf)?;
        Stsz { samples: StszSamples::Different { sizes: self.sizes } }.encode(buf)?;
        self.chunks.encode(buf)
    }

    /// Writes the empty tables of a file whose samples are in fragments (§8.8.1).
    pub(crate) fn write_empty(buf: &mut Vec<u8>) -> mp4_atom::Result<()> {
        Stts::default().encode(buf)?;
        Stsc::default().encode(buf)?;
        Stsz::default().encode(buf)?;
        Stco::default().encode(buf)
    }

    /// Reads the body of an `stbl` as [`write`](Self::write) leaves it; the first sample decodes at `first`.
    pub(crate) fn read(stbl: &[u8], first: i64) -> Result<Self, ReadError> {
        let StszSamples::Different { sizes } = atom::<Stsz>(stbl)?.samples else {
            return Err(ReadError::new(0, "stsz of one size for all"));
        };
        let syncs = match walk::find(stbl, *b"stss") {
            Some(mut body) => <Stss as mp4_atom::Atom>::decode_body(&mut body)?,
            None => Stss { entries: (1..=u32::try_from(sizes.len()).unwrap_or(u32::MAX)).collect() },
        };
        let offsets = match walk::find(stbl, *b"ctts") {
            Some(mut body) => <Ctts as mp4_atom::Atom>::decode_body(&mut body)?,
            None => Ctts::default(),
        };
        Ok(Self {
            first,
            sizes,
            syncs,
            offsets,
            times: atom(stbl)?,
            chunks: atom(stbl)?,
            chunk_lengths: atom(stbl)?,
            ..Self::default()
        })
    }

    /// The samples with their places in the file, at most [`SAMPLES_MAX`].
    pub(crate) fn samples(mut self) -> Vec<(Entry, u64)> {
        self.settle(self.last_duration);
        let repeated = |count: u32| usize::try_from(count).unwrap_or(usize::MAX).min(SAMPLES_MAX);
        let mut deltas =
            self.times.entries.iter().flat_map(|run| std::iter::repeat_n(run.sample_delta, repeated(run.sample_count)));
        let mut offsets = self.offsets.entries.iter().flat_map(|run| {
            std::iter::repeat_n(i32::try_from(run.sample_offset).unwrap_or(0), repeated(run.sample_count))
        });
        let mut syncs = self.syncs.entries.iter().peekable();
        let mut places = Places::new(&self.chunks, &self.chunk_lengths);
        let mut dts = self.first;
        let mut samples = Vec::new();
        for (number, &size) in (1_u32..).zip(self.sizes.iter().take(SAMPLES_MAX)) {
            let Some(at) = places.next(size) else { break };
            let duration = deltas.next().unwrap_or(0);
            let sync = syncs.next_if(|&&sync| sync == number).is_some();
            samples.push((Entry { dts, duration, offset: offsets.next().unwrap_or(0), size, sync }, at));
            dts = dts.saturating_add(duration.into());
        }
        samples
    }
}

fn atom<A: mp4_atom::Atom>(stbl: &[u8]) -> Result<A, ReadError> {
    let letters = <[u8; 4]>::from(A::KIND);
    let mut body = walk::find(stbl, letters)
        .ok_or_else(|| ReadError::new(0, format!("no {:?} in stbl", String::from_utf8_lossy(&letters))))?;
    Ok(A::decode_body(&mut body)?)
}

/// Walks through chunks sample by sample.
struct Places<'a> {
    chunks: std::iter::Zip<std::ops::RangeFrom<u32>, std::slice::Iter<'a, u64>>,
    lengths: std::iter::Peekable<std::slice::Iter<'a, StscEntry>>,
    length: u32,
    left: u32,
    at: u64,
}

impl<'a> Places<'a> {
    fn new(chunks: &'a Co64, lengths: &'a Stsc) -> Self {
        let chunks = (1_u32..).zip(chunks.entries.iter());
        Self { chunks, lengths: lengths.entries.iter().peekable(), length: 0, left: 0, at: 0 }
    }

    fn next(&mut self, size: u32) -> Option<u64> {
        while self.left == 0 {
            let (number, &at) = self.chunks.next()?;
            while let Some(run) = self.lengths.next_if(|run| run.first_chunk <= number) {
                self.length = run.samples_per_chunk;
            }
            (self.left, self.at) = (self.length, at);
        }
        self.left -= 1;
        let at = self.at;
        self.at = at.saturating_add(size.into());
        Some(at)
    }
}

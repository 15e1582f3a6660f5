//! I420 to I420 at another size.

use crate::{Frame, Plane, Size};

/// Scales pictures from one size to another.
///
/// Each sample is the mean of the source area that it covers, weighted to 1/256 of a sample (a box filter); when
/// enlarging, it is interpolated between its two neighbours on each axis. Rows are filtered across first, so the cost
/// is one pass over the source and one over the result.
#[derive(Clone, Debug)]
pub struct Scaler {
    from: Size,
    to: Size,
    luma: PlaneScaler,
    chroma: PlaneScaler,
}

impl Scaler {
    /// A scaler between two sizes.
    pub fn new(from: Size, to: Size) -> Self {
        Self { from, to, luma: PlaneScaler::new(from, to, 1), chroma: PlaneScaler::new(from, to, 2) }
    }

    /// The size it makes.
    pub fn to(&self) -> Size {
        self.to
    }

    /// `frame` at the new size; `None` if it isn't of the size that this scaler takes.
    pub fn scale(&mut self, frame: &Frame) -> Option<Frame> {
        if frame.size() != self.from {
            return None;
        }
        let mut scaled = Frame::new(self.to);
        let [y, u, v] = scaled.planes_mut();
        self.luma.scale(frame.y(), y);
        self.chroma.scale(frame.u(), u);
        self.chroma.scale(frame.v(), v);
        Some(scaled)
    }
}

#[derive(Clone, Debug)]
struct PlaneScaler {
    across: Vec<Tap>,
    down: Vec<Tap>,
    row: Vec<u32>,
}

impl PlaneScaler {
    fn new(from: Size, to: Size, subsampling: u32) -> Self {
        let taps = |from: u32, to: u32| taps((from / subsampling) as usize, (to / subsampling) as usize);
        let across = taps(from.width(), to.width());
        Self { row: Vec::with_capacity(across.len()), across, down: taps(from.height(), to.height()) }
    }

    fn scale(&mut self, from: &Plane, to: &mut Plane) {
        for (tap, out) in self.down.iter().zip(to.rows_mut()) {
            self.row.clear();
            self.row.resize(out.len(), 0);
            for (row, &weight) in (tap.first..).zip(&tap.weights) {
                add_row(&self.across, from.row(row), weight, &mut self.row);
            }
            for (out, &sum) in out.iter_mut().zip(&self.row) {
                *out = ((sum + HALF_OF_BOTH) >> (2 * WEIGHT_BITS)) as u8;
            }
        }
    }
}

/// Adds one source row, filtered across and weighted, to the sums of an output row.
fn add_row(across: &[Tap], source: &[u8], weight: u32, sums: &mut [u32]) {
    for (tap, sum) in across.iter().zip(sums) {
        let samples = source.get(tap.first..).unwrap_or_default();
        let filtered: u32 = samples.iter().zip(&tap.weights).map(|(&sample, &weight)| u32::from(sample) * weight).sum();
        *sum += filtered * weight;
    }
}

/// The source samples that make one output sample: those from `first` on, by weights that sum to 1 << [`WEIGHT_BITS`].
#[derive(Clone, Debug)]
struct Tap {
    first: usize,
    weights: Vec<u32>,
}

/// Two axes of 8 bits and a sample of 8 bits fit in 24.
const WEIGHT_BITS: u32 = 8;
const ONE: usize = 1 << WEIGHT_BITS;
const HALF_OF_BOTH: u32 = 1 << (2 * WEIGHT_BITS - 1);

fn taps(from: usize, to: usize) -> Vec<Tap> {
    (0..to).map(|index| if to > from { interpolate(index, from, to) } else { area(index, from, to) }).collect()
}

/// The mean over `[index, index + 1) * from / to`.
fn area(index: usize, from: usize, to: usize) -> Tap {
    let (start, end) = (index * from, (index + 1) * from);
    let first = start / to;
    let last = end.div_ceil(to);
    // How much of each sample lies inside, in units of 1/to of a sample; they sum to `from`.
    let inside = (first..last).map(|sample| end.min((sample + 1) * to) - start.max(sample * to));
    let mut covered = 0;
    let weights = inside.map(|part| {
        let before = covered * ONE / from;
        covered += part;
        (covered * ONE / from - before) as u32
    });
    Tap { first, weights: weights.collect() }
}

/// Between the two samples whose centres lie around this one's.
fn interpolate(index: usize, from: usize, to: usize) -> Tap {
    // The centre of output sample i is at ((2i + 1) * from / to - 1) / 2 of the source, here in 1/ONE.
    let centre = ((2 * index + 1) * from * ONE / to).saturating_sub(ONE) / 2;
    let first = (centre / ONE).min(from.saturating_sub(1));
    if first + 1 >= from {
        return Tap { first, weights: vec![ONE as u32] };
    }
    let after = (centre % ONE) as u32;
    Tap { first, weights: vec![ONE as u32 - after, after] }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: [(u32, u32); 7] = [(16, 16), (64, 36), (320, 180), (642, 362), (640, 360), (128, 300), (1_280, 720)];

    fn sizes() -> impl Iterator<Item = (Size, Size)> {
        let size = |(width, height)| Size::new(width, height).unwrap();
        SIZES.into_iter().flat_map(move |from| SIZES.into_iter().map(move |to| (size(from), size(to))))
    }

    #[test]
    fn weights_sum_to_one_and_stay_inside() {
        for (from, to) in [(1, 1), (7, 3), (3, 7), (1_280, 642), (642, 1_280), (2, 16), (16, 2), (1, 9), (3_840, 16)] {
            let taps = taps(from, to);
            assert_eq!(taps.len(), to);
            for tap in taps {
                assert_eq!(tap.weights.iter().sum::<u32>(), ONE as u32, "{from} {to} {tap:?}");
                assert!(tap.first + tap.weights.len() <= from, "{from} {to} {tap:?}");
            }
        }
    }

    #[test]
    fn a_flat_picture_stays_flat() {
        for (from, to) in sizes() {
            let mut frame = Frame::new(from);
            for (plane, value) in frame.planes_mut().into_iter().zip([235, 17, 255]) {
                plane.samples_mut().fill(value);
            }
            let scaled = Scaler::new(from, to).scale(&frame).unwrap();
            for (plane, value) in [scaled.y(), scaled.u(), scaled.v()].into_iter().zip([235, 17, 255]) {
                assert!(plane.samples().iter().all(|&sample| sample == value), "{from:?} {to:?}");
            }
        }
    }

    #[test]
    fn a_gradient_stays_where_it_is() {
        for (from, to) in sizes() {
            let mut frame = Frame::new(from);
            let [y, ..] = frame.planes_mut();
            for (row_number, row) in y.rows_mut().enumerate() {
                for (column, sample) in row.iter_mut().enumerate() {
                    *sample = expected(column, row_number, from);
                }
            }
            let scaled = Scaler::new(from, to).scale(&frame).unwrap();
            let step = (200 / from.width().min(from.height())).max(200 / to.width().min(to.height())) as u8 + 3;
            for (row_number, row) in scaled.y().rows().enumerate() {
                for (column, &sample) in row.iter().enumerate() {
                    let expected = expected(column, row_number, to);
                    assert!(sample.abs_diff(expected) <= step, "{from:?} {to:?} {column} {row_number} {sample}");
                }
            }
        }
    }

    /// Rises from 0 to 100 across and by 100 more downwards.
    fn expected(column: usize, row: usize, size: Size) -> u8 {
        let across = (2 * column + 1) * 50 / size.width() as usize;
        (across + (2 * row + 1) * 50 / size.height() as usize) as u8
    }

    #[test]
    fn the_same_size_changes_nothing_and_another_is_refused() {
        let size = Size::new(64, 36).unwrap();
        let mut frame = Frame::new(size);
        for (number, sample) in frame.planes_mut()[0].samples_mut().iter_mut().enumerate() {
            *sample = (number * 7 % 251) as u8;
        }
        assert_eq!(Scaler::new(size, size).scale(&frame), Some(frame.clone()));
        assert_eq!(Scaler::new(Size::new(64, 38).unwrap(), size).scale(&frame), None);
    }
}

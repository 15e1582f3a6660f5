//! The picture of the built-in camera: colour bars, a clock, a counter, and things that move.

mod glyphs;
mod strip;

use std::ops::Range;

use jiff::Timestamp;
use relay_media::UtcTime;

use self::glyphs::{Font, Segment, blend};
use crate::{
    Frame, Plane, Size,
    frame::{BLACK, NEUTRAL, to_yuv},
};

pub use strip::read_counter;

/// Draws the test picture at one size.
///
/// What stands still is drawn once; a frame costs a copy of it and the few letters and shapes that changed. The
/// picture shows the UTC clock to the millisecond and the frame counter, for people, and the low 32 bits of the
/// counter as a strip of cells for [`read_counter`]. A picture too small for one of them leaves it out.
#[derive(Clone, Debug)]
pub struct Pattern {
    still: Frame,
    layout: Layout,
    clock: Font,
    small: Font,
    ball: Ball,
    grain: Grain,
}

impl Pattern {
    /// The picture at `size`.
    pub fn new(size: Size) -> Self {
        let layout = Layout::new(size);
        let clock = Font::new(layout.length(CLOCK_HEIGHT), INK, PANEL_LUMA);
        let small = Font::new(layout.length(SMALL_HEIGHT), INK_SOFT, PANEL_LUMA);
        let mut still = Frame::new(size);
        draw_background(&mut still);
        draw_bars(&mut still, &layout);
        draw_panel(&mut still, &layout);
        strip::draw_ground(&mut still);
        let label = format!("{} X {}", size.width(), size.height());
        let (right, top) = layout.point(PANEL.right - INSET, PANEL.top + INSET);
        small.write(still.luma_mut(), right.saturating_sub(small.width(&label)), top, &label);
        let grain = Grain::new(&layout, &mut still);
        Self { still, layout, clock, small, ball: Ball::new(&layout), grain }
    }

    /// Overwrites `frame` with the picture for a frame number and a time of day; a frame of another size is replaced.
    pub fn draw(&self, frame: &mut Frame, counter: u64, utc: UtcTime) {
        frame.copy_from(&self.still);
        self.grain.draw(frame.luma_mut(), counter);
        let (date, clock) = spell(utc);
        let layout = &self.layout;
        let (left, top) = layout.point(PANEL.left + INSET, PANEL.top + INSET);
        self.small.write(frame.luma_mut(), left, top, &date);
        let (centre, top) = layout.point(WIDTH / 2.0, CLOCK_TOP);
        self.clock.write(frame.luma_mut(), centre.saturating_sub(self.clock.width(&clock) / 2), top, &clock);
        let (left, top) = layout.point(PANEL.left + INSET, PANEL.bottom - INSET - SMALL_HEIGHT);
        self.small.write(frame.luma_mut(), left, top, &format!("FRAME {counter:08}"));
        draw_hand(frame.luma_mut(), layout, utc);
        self.ball.draw(frame, layout, utc);
        strip::draw(frame.luma_mut(), self.still.size(), (counter & u64::from(u32::MAX)) as u32);
    }
}

/// Everything is placed on a canvas of 320 x 180 units, centred in the picture.
const WIDTH: f32 = 320.0;
const HEIGHT: f32 = 180.0;

const BARS: Rect = Rect { left: 16.0, top: 10.0, right: 304.0, bottom: 46.0 };
const RAMP: Rect = Rect { left: 16.0, top: 46.0, right: 304.0, bottom: 53.0 };
const PANEL: Rect = Rect { left: 16.0, top: 59.0, right: 304.0, bottom: 137.0 };
const LANE: Rect = Rect { left: 16.0, top: 142.0, right: 304.0, bottom: 158.0 };
const INSET: f32 = 8.0;
const CLOCK_HEIGHT: f32 = 31.0;
const CLOCK_TOP: f32 = 81.0;
const SMALL_HEIGHT: f32 = 11.0;
const DIAL: (f32, f32, f32) = (288.0, 124.5, 8.0);

const PANEL_LUMA: u8 = 24;
const INK: u8 = 235;
const INK_SOFT: u8 = 190;

#[derive(Clone, Copy, Debug)]
struct Rect {
    left: f32,
    top: f32,
    right: f32,
    bottom: f32,
}

/// From canvas units to pixels.
#[derive(Clone, Copy, Debug)]
struct Layout {
    unit: f32,
    left: f32,
    top: f32,
}

impl Layout {
    fn new(size: Size) -> Self {
        let (width, height) = (size.width() as f32, size.height() as f32);
        let unit = (width / WIDTH).min(height / HEIGHT);
        Self { unit, left: (width - unit * WIDTH) / 2.0, top: (height - unit * HEIGHT) / 2.0 }
    }

    fn length(&self, units: f32) -> f32 {
        units * self.unit
    }

    fn point(&self, x: f32, y: f32) -> (usize, usize) {
        let pixels = |offset: f32, units: f32| (offset + units * self.unit).round().max(0.0) as usize;
        (pixels(self.left, x), pixels(self.top, y))
    }

    /// The rectangle in pixels, its edges even so that chroma follows.
    fn area(&self, rect: Rect) -> Area {
        let (left, top) = self.point(rect.left, rect.top);
        let (right, bottom) = self.point(rect.right, rect.bottom);
        let [x, y, right, bottom] = [left, top, right, bottom].map(|edge| edge / 2 * 2);
        Area { x, y, width: right.saturating_sub(x), height: bottom.saturating_sub(y) }
    }
}

/// A rectangle in pixels, all even.
#[derive(Clone, Copy, Debug)]
struct Area {
    x: usize,
    y: usize,
    width: usize,
    height: usize,
}

impl Area {
    /// Calls `colour` with the place of each pixel, as parts of the width and height from 0 to 1, and paints what it
    /// returns as YUV.
    fn paint(self, frame: &mut Frame, colour: impl Fn(f32, f32) -> [u8; 3]) {
        let Self { x, y, width, height } = self;
        for (plane, (component, divisor)) in frame.planes_mut().into_iter().zip([(0, 1), (1, 2), (2, 2)]) {
            let (columns, rows) = (width / divisor, height / divisor);
            for (row, samples) in plane.area_mut(x / divisor, y / divisor, columns, rows).enumerate() {
                let down = (row as f32 + 0.5) / rows as f32;
                for (column, sample) in samples.iter_mut().enumerate() {
                    let yuv = colour((column as f32 + 0.5) / columns as f32, down);
                    *sample = yuv.get(component).copied().unwrap_or(NEUTRAL);
                }
            }
        }
    }
}

/// The date and the time of day to the millisecond, rounded down.
fn spell(utc: UtcTime) -> (String, String) {
    let time = Timestamp::from_nanosecond(i128::from(utc.unix_millis()) * 1_000_000).unwrap_or_default();
    (time.strftime("%Y-%m-%d UTC").to_string(), time.strftime("%H:%M:%S%.3f").to_string())
}

/// A dusk: indigo above, violet and teal below, with a soft glow.
fn draw_background(frame: &mut Frame) {
    let (width, height) = (frame.size().width() as usize, frame.size().height() as usize);
    Area { x: 0, y: 0, width, height }.paint(frame, |x, y| {
        let glow = (-((x - 0.72) * (x - 0.72) * 3.0 + (y - 0.95) * (y - 0.95) * 5.0)).exp();
        let teal = (-((x - 0.08) * (x - 0.08) * 4.0 + (y - 0.85) * (y - 0.85) * 3.0)).exp();
        let mix = |base: f32, violet: f32, sea: f32| (base + violet * glow + sea * teal - 12.0 * y) as u8;
        to_yuv([mix(30.0, 120.0, -10.0), mix(34.0, 30.0, 96.0), mix(74.0, 90.0, 70.0)])
    });
}

/// Noise like a sensor's around the panel, new in every frame. It is faint enough to vanish where bits are scarce, and
/// gives the encoder something to spend them on where they are not: a still picture would stay far below its rate.
#[derive(Clone, Debug)]
struct Grain {
    noise: Vec<u8>,
    rows: [Range<usize>; 2],
}

impl Grain {
    /// From 0 to this in luma, on average half of it.
    const SWING: u8 = 14;
    /// Rows begin at any of so many places in the noise.
    const PLACES: u64 = 4_096;

    /// Makes room for the noise in `still`, which becomes darker by its mean.
    fn new(layout: &Layout, still: &mut Frame) -> Self {
        let (width, height) = (still.y().width(), still.y().height());
        let row = |y: f32| layout.point(0.0, y).1.min(height);
        let rows = [0..row(PANEL.top), row(PANEL.bottom)..strip::top(still.size()).min(height)];
        for row in rows.iter().cloned().flatten() {
            for samples in still.luma_mut().area_mut(0, row, width, 1) {
                samples.iter_mut().for_each(|sample| *sample = sample.saturating_sub(Self::SWING / 2).max(BLACK));
            }
        }
        let mut random = 0x9e37_79b9_7f4a_7c15;
        let noise = (0..width + Self::PLACES as usize).map(|_| {
            random = scramble(random);
            // The sum of two is more often near its mean, as noise is.
            let half = u64::from(Self::SWING / 2) + 1;
            ((random >> 20) % half + (random >> 40) % half) as u8
        });
        Self { noise: noise.collect(), rows }
    }

    fn draw(&self, luma: &mut Plane, counter: u64) {
        let width = luma.width();
        let mut random = scramble(counter ^ 0x5851_f42d_4c95_7f2d);
        for Range { start, end } in self.rows.clone() {
            for row in luma.area_mut(0, start, width, end.saturating_sub(start)) {
                random = scramble(random);
                let place = (random % Self::PLACES) as usize;
                let noise = self.noise.get(place..).unwrap_or_default();
                row.iter_mut().zip(noise).for_each(|(sample, &noise)| *sample = sample.saturating_add(noise));
            }
        }
    }
}

/// One step of xorshift64 (Marsaglia 2003); never 0 from anything but 0.
fn scramble(mut bits: u64) -> u64 {
    bits ^= bits << 13;
    bits ^= bits >> 7;
    bits ^ bits << 17
}

/// Eight bars of 75 % (EBU), and a ramp from black to white below them.
fn draw_bars(frame: &mut Frame, layout: &Layout) {
    const BAR: u8 = 191;
    const COLOURS: [[u8; 3]; 8] = [
        [BAR, BAR, BAR],
        [BAR, BAR, 0],
        [0, BAR, BAR],
        [0, BAR, 0],
        [BAR, 0, BAR],
        [BAR, 0, 0],
        [0, 0, BAR],
        [12, 12, 12],
    ];
    let bars = COLOURS.map(to_yuv);
    let last = [16, NEUTRAL, NEUTRAL];
    layout.area(BARS).paint(frame, |x, _| bars.get((x * 8.0) as usize).copied().unwrap_or(last));
    layout.area(RAMP).paint(frame, |x, _| [(16.0 + 219.0 * x) as u8, NEUTRAL, NEUTRAL]);
}

/// The dark panel of the clock with its dial, and the lane of the ball.
fn draw_panel(frame: &mut Frame, layout: &Layout) {
    let ink = [PANEL_LUMA, NEUTRAL + 6, NEUTRAL - 2];
    layout.area(PANEL).paint(frame, |_, _| ink);
    layout.area(LANE).paint(frame, |x, _| {
        let mark = ((x * 24.0).fract() - 0.5).abs() > 0.47;
        [if mark { 64 } else { 32 }, NEUTRAL + 6, NEUTRAL - 2]
    });
    let (x, y, radius) = DIAL;
    for tick in 0_u8..12 {
        let (sin, cos) = (f32::from(tick) / 12.0 * std::f32::consts::TAU).sin_cos();
        let at = |r: f32| (x + sin * r, y - cos * r);
        stroke(frame.luma_mut(), layout, Segment { from: at(radius), to: at(radius + 1.0) }, 0.45, INK_SOFT);
    }
}

/// The hand of the dial, once round per second.
fn draw_hand(luma: &mut Plane, layout: &Layout, utc: UtcTime) {
    let (x, y, radius) = DIAL;
    let (sin, cos) = (utc.unix_nanos().rem_euclid(1_000_000_000) as f32 / 1e9 * std::f32::consts::TAU).sin_cos();
    let tip = (x + sin * (radius - 1.5), y - cos * (radius - 1.5));
    stroke(luma, layout, Segment { from: (x, y), to: tip }, 0.9, INK);
}

/// A line with round ends on the canvas, `half_width` units to each side.
fn stroke(luma: &mut Plane, layout: &Layout, segment: Segment, half_width: f32, ink: u8) {
    let Segment { from, to } = segment;
    let (left, top) = layout.point(from.0.min(to.0) - half_width - 1.0, from.1.min(to.1) - half_width - 1.0);
    let (right, bottom) = layout.point(from.0.max(to.0) + half_width + 1.0, from.1.max(to.1) + half_width + 1.0);
    for (row, samples) in luma.area_mut(left, top, right - left, bottom - top).enumerate() {
        for (column, sample) in samples.iter_mut().enumerate() {
            let at = |pixel: usize, offset: f32| (pixel as f32 + 0.5 - offset) / layout.unit;
            let distance = segment.distance(at(left + column, layout.left), at(top + row, layout.top));
            *sample = blend(*sample, ink, ((half_width - distance) * layout.unit + 0.5).clamp(0.0, 1.0));
        }
    }
}

/// A shaded ball that swings along its lane, drawn once.
#[derive(Clone, Debug)]
struct Ball {
    /// Each plane's samples with how much of them covers the ground, 0 to 1.
    planes: [(Plane, Vec<f32>); 3],
    diameter: usize,
}

/// There and back in 4 s.
const SWING_NANOS: i64 = 4_000_000_000;

impl Ball {
    fn new(layout: &Layout) -> Self {
        let diameter = (layout.length(LANE.bottom - LANE.top - 3.0) / 2.0).round().max(1.0) as usize * 2;
        let planes = [(0, 1), (1, 2), (2, 2)].map(|(component, divisor)| {
            let side = diameter / divisor;
            let mut plane = Plane::new(side, side, 0);
            let mut cover = Vec::with_capacity(side * side);
            for (row, samples) in plane.rows_mut().enumerate() {
                for (column, sample) in samples.iter_mut().enumerate() {
                    let at = |pixel: usize| (pixel as f32 + 0.5) / side as f32 * 2.0 - 1.0;
                    let (x, y) = (at(column), at(row));
                    // Lit from above left.
                    let light = (1.0 - (x + 0.35).hypot(y + 0.4) * 0.62).clamp(0.0, 1.0);
                    let shade = |dark: f32, bright: f32| (dark + (bright - dark) * light) as u8;
                    let yuv = to_yuv([shade(120.0, 255.0), shade(20.0, 214.0), shade(10.0, 120.0)]);
                    *sample = yuv.get(component).copied().unwrap_or(NEUTRAL);
                    cover.push(((1.0 - x.hypot(y)) * side as f32 / 2.0 + 0.5).clamp(0.0, 1.0));
                }
            }
            (plane, cover)
        });
        Self { planes, diameter }
    }

    fn draw(&self, frame: &mut Frame, layout: &Layout, utc: UtcTime) {
        let lane = layout.area(LANE);
        let turn = utc.unix_nanos().rem_euclid(SWING_NANOS) as f32 / SWING_NANOS as f32;
        let along = 0.5 - 0.5 * (turn * std::f32::consts::TAU).cos();
        let x = lane.x + (along * lane.width.saturating_sub(self.diameter) as f32 / 2.0) as usize * 2;
        let y = lane.y + lane.height.saturating_sub(self.diameter) / 4 * 2;
        for (plane, ((ball, cover), divisor)) in frame.planes_mut().into_iter().zip(self.planes.iter().zip([1, 2, 2])) {
            let side = ball.width();
            let ground = plane.area_mut(x / divisor, y / divisor, side, side);
            for (ground, (ball, cover)) in ground.zip(ball.rows().zip(cover.chunks(side))) {
                for (ground, (&ball, &cover)) in ground.iter_mut().zip(ball.iter().zip(cover)) {
                    *ground = blend(*ground, ball, cover);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-21T02:30:07.123456789Z.
    const NOW: UtcTime = UtcTime::from_unix_nanos(1_795_228_207_123_456_789);

    #[test]
    fn every_size_is_drawn_anew_and_the_same_twice() {
        for (width, height) in [(16, 16), (64, 64), (320, 180), (1_280, 720), (2_160, 3_840), (3_840, 16), (642, 362)] {
            let size = Size::new(width, height).unwrap();
            let pattern = Pattern::new(size);
            let (mut first, mut second) = (Frame::new(size), Frame::new(Size::new(16, 16).unwrap()));
            pattern.draw(&mut first, 1, NOW);
            pattern.draw(&mut second, 2, NOW.plus_nanos(40_000_000));
            if width >= 320 && height >= 180 {
                assert_eq!((read_counter(&first), read_counter(&second)), (Some(1), Some(2)));
                assert_ne!(first.y(), second.y(), "{width}x{height}");
            }
            pattern.draw(&mut second, 1, NOW);
            assert_eq!(first, second, "{width}x{height}");
        }
    }

    #[test]
    fn counters_beyond_32_bits_and_times_at_the_ends_are_drawn() {
        let size = Size::new(320, 180).unwrap();
        let (pattern, mut frame) = (Pattern::new(size), Frame::new(size));
        for nanos in [i64::MIN, -1, 0, i64::MAX] {
            pattern.draw(&mut frame, u64::MAX - 1, UtcTime::from_unix_nanos(nanos));
            assert_eq!(read_counter(&frame), Some(u32::MAX - 1));
        }
    }

    #[test]
    fn the_clock_says_the_time_in_utc() {
        for (nanos, date, clock) in [
            (NOW.unix_nanos(), "2026-11-21 UTC", "02:30:07.123"),
            (0, "1970-01-01 UTC", "00:00:00.000"),
            (-1, "1969-12-31 UTC", "23:59:59.999"),
        ] {
            assert_eq!(spell(UtcTime::from_unix_nanos(nanos)), (date.to_owned(), clock.to_owned()));
        }
    }
}

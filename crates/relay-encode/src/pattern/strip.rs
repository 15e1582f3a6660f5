//! The machine-readable counter: two rows of black and white cells near the lower edge.

use crate::{Frame, Plane, Size, frame::NEUTRAL};

/// Cells in a row: 22 twice are 2 marks, 32 bits of counter, 8 of check, 2 marks.
const COLUMNS: usize = 22;
const ROWS: usize = 2;
const CELLS: usize = COLUMNS * ROWS;

/// Where the strip lies, in parts of the width and of the height, so that it is still found after scaling.
const LEFT: usize = 5;
const RIGHT: usize = 95;
const TOP: usize = 90;
const BOTTOM: usize = 97;
const WHOLE: usize = 100;

/// Brightness that survives coding at any rate: full swing, then thresholds with a wide band of doubt.
const DARK: u8 = 16;
const LIGHT: u8 = 235;
const SURELY_DARK: u32 = 90;
const SURELY_LIGHT: u32 = 160;

/// The row at which the strip begins.
pub(super) fn top(size: Size) -> usize {
    area(size, 0).y
}

/// Takes the colour out of the ground of the strip, once.
pub(super) fn draw_ground(frame: &mut Frame) {
    let size = frame.size();
    if !fits(size) {
        return;
    }
    let (first, last) = (area(size, 0), area(size, CELLS - 1));
    let (width, height) = (last.x + last.width - first.x, last.y + last.height - first.y);
    let [_, u, v] = frame.planes_mut();
    for plane in [u, v] {
        for row in plane.area_mut(first.x / 2, first.y / 2, width.div_ceil(2), height.div_ceil(2)) {
            row.fill(NEUTRAL);
        }
    }
}

/// Draws `counter`; nothing if the cells would be narrower or lower than 2 pixels.
pub(super) fn draw(luma: &mut Plane, size: Size, counter: u32) {
    if !fits(size) {
        return;
    }
    for (cell, light) in cells(counter).into_iter().enumerate() {
        let Area { x, y, width, height } = area(size, cell);
        for row in luma.area_mut(x, y, width, height) {
            row.fill(if light { LIGHT } else { DARK });
        }
    }
}

/// The counter drawn into a picture, at whatever size it is by now; `None` where no strip is found, where a cell is
/// neither dark nor light, or where the check bits disagree.
pub fn read_counter(frame: &Frame) -> Option<u32> {
    let size = frame.size();
    if !fits(size) {
        return None;
    }
    let mut read = [false; CELLS];
    for (cell, light) in read.iter_mut().enumerate() {
        *light = match mean(frame.y(), area(size, cell))? {
            ..=SURELY_DARK => false,
            SURELY_LIGHT.. => true,
            _ => return None,
        };
    }
    let counter = read.iter().skip(MARK.len()).take(32).fold(0, |bits, &light| bits << 1 | u32::from(light));
    (cells(counter) == read).then_some(counter)
}

/// At both ends, so that a flat picture is no counter.
const MARK: [bool; 2] = [true, false];

fn cells(counter: u32) -> [bool; CELLS] {
    let bits = u64::from(counter) << 8 | u64::from(check(counter));
    let bits = (0..40).rev().map(|bit| bits >> bit & 1 == 1);
    let mut cells = [false; CELLS];
    cells.iter_mut().zip(MARK.into_iter().chain(bits).chain(MARK)).for_each(|(cell, light)| *cell = light);
    cells
}

/// CRC-8 with x^8 + x^2 + x + 1, from 0xff, over the counter's bytes.
fn check(counter: u32) -> u8 {
    counter.to_be_bytes().into_iter().fold(0xff, |crc, byte| {
        (0..8).fold(crc ^ byte, |crc, _| if crc & 0x80 == 0 { crc << 1 } else { crc << 1 ^ 0x07 })
    })
}

#[derive(Clone, Copy, Debug)]
struct Area {
    x: usize,
    y: usize,
    width: usize,
    height: usize,
}

fn area(size: Size, cell: usize) -> Area {
    let (column, row) = (cell % COLUMNS, cell / COLUMNS);
    let edge = |whole: u32, from: usize, to: usize, index: usize, count: usize| {
        whole as usize * (from * count + (to - from) * index) / (WHOLE * count)
    };
    let across = |column| edge(size.width(), LEFT, RIGHT, column, COLUMNS);
    let down = |row| edge(size.height(), TOP, BOTTOM, row, ROWS);
    let (x, y) = (across(column), down(row));
    Area { x, y, width: across(column + 1) - x, height: down(row + 1) - y }
}

fn fits(size: Size) -> bool {
    let (width, height) = (size.width() as usize, size.height() as usize);
    width * (RIGHT - LEFT) / WHOLE >= 2 * COLUMNS && height * (BOTTOM - TOP) / WHOLE >= 2 * ROWS
}

/// The mean of the middle of an area, without the quarter next to each edge where the neighbours bleed in.
fn mean(luma: &Plane, area: Area) -> Option<u32> {
    let (x, y) = (area.x + area.width / 4, area.y + area.height / 4);
    let (width, height) = (area.width.div_ceil(2), area.height.div_ceil(2));
    let middle = luma.rows().skip(y).take(height).flat_map(|row| row.get(x..x + width).unwrap_or_default());
    let (sum, count) = middle.fold((0_u32, 0_u32), |(sum, count), &sample| (sum + u32::from(sample), count + 1));
    sum.checked_div(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Scaler;

    #[test]
    fn counters_are_read_back_at_every_size_that_has_room() {
        for (width, height, room) in [
            (3_840, 2_160, true),
            (1_280, 720, true),
            (320, 180, true),
            (160, 90, true),
            (64, 58, true),
            (2_160, 3_840, true),
            (64, 36, false),
            (16, 16, false),
        ] {
            let size = Size::new(width, height).unwrap();
            let mut frame = Frame::new(size);
            assert_eq!(read_counter(&frame), None);
            for counter in [0, 1, 0x5555_5555, 0xdead_beef, u32::MAX] {
                draw(frame.luma_mut(), size, counter);
                assert_eq!(read_counter(&frame), room.then_some(counter), "{width}x{height}");
            }
        }
    }

    #[test]
    fn a_scaled_strip_is_still_read() {
        let from = Size::new(1_280, 720).unwrap();
        let mut frame = Frame::new(from);
        draw(frame.planes_mut()[0], from, 0xcafe_0042);
        for (width, height) in [(1_920, 1_080), (854, 480), (640, 360), (426, 240), (256, 144)] {
            let scaled = Scaler::new(from, Size::new(width, height).unwrap()).scale(&frame).unwrap();
            assert_eq!(read_counter(&scaled), Some(0xcafe_0042), "{width}x{height}");
        }
    }

    #[test]
    fn one_wrong_cell_is_noticed() {
        let size = Size::new(320, 180).unwrap();
        for cell in 0..CELLS {
            let mut frame = Frame::new(size);
            draw(frame.luma_mut(), size, 1_234_567);
            let Area { x, y, width, height } = area(size, cell);
            for row in frame.luma_mut().area_mut(x, y, width, height) {
                row.iter_mut().for_each(|sample| *sample = 251 - *sample);
            }
            assert_eq!(read_counter(&frame), None, "cell {cell}");
        }
    }
}

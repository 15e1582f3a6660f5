//! Our own letters: strokes on a grid, drawn at any height with soft edges.

use crate::Plane;

/// The characters we can write, ready to copy at one height onto a ground of one brightness.
#[derive(Clone, Debug)]
pub(super) struct Font {
    tiles: Vec<(char, Plane)>,
}

impl Font {
    /// Letters `height` pixels high (at least 1), `ink` on `ground`, both luma.
    pub(super) fn new(height: f32, ink: u8, ground: u8) -> Self {
        Self { tiles: GLYPHS.iter().map(|&(name, strokes)| (name, tile(name, strokes, height, ink, ground))).collect() }
    }

    /// The width of `text` in pixels.
    pub(super) fn width(&self, text: &str) -> usize {
        text.chars().filter_map(|name| self.tile(name)).map(Plane::width).sum()
    }

    /// Writes `text` with its top left corner at `x`, `y`; what lies outside the plane is cut off, and characters
    /// without a glyph are left out.
    pub(super) fn write(&self, plane: &mut Plane, x: usize, y: usize, text: &str) {
        let mut left = x;
        for tile in text.chars().filter_map(|name| self.tile(name)) {
            let (width, height) = (tile.width(), tile.height());
            for (to, from) in plane.area_mut(left, y, width, height).zip(tile.rows()) {
                to.iter_mut().zip(from).for_each(|(to, &from)| *to = from);
            }
            left += width;
        }
    }

    fn tile(&self, name: char) -> Option<&Plane> {
        self.tiles.iter().find(|(known, _)| *known == name).map(|(_, tile)| tile)
    }
}

/// Draws one glyph.
fn tile(name: char, strokes: &str, height: f32, ink: u8, ground: u8) -> Plane {
    let unit = height.max(1.0) / (ROWS + 2.0 * MARGIN);
    let columns = if NARROW.contains(name) { 0.0 } else { COLUMNS };
    let width = (columns + 2.0 * MARGIN + SPACING) * unit;
    let mut plane = Plane::new((width.round() as usize).max(1), (height.round() as usize).max(1), ground);
    let segments: Vec<Segment> = strokes.split(' ').flat_map(segments).collect();
    for (row, samples) in plane.rows_mut().enumerate() {
        for (column, sample) in samples.iter_mut().enumerate() {
            let at = |pixel: usize| (pixel as f32 + 0.5) / unit - MARGIN;
            let (x, y) = (at(column) - SPACING / 2.0, at(row));
            let distance = segments.iter().map(|segment| segment.distance(x, y)).fold(f32::MAX, f32::min);
            let coverage = ((STROKE - distance) * unit + 0.5).clamp(0.0, 1.0);
            *sample = blend(ground, ink, coverage);
        }
    }
    plane
}

/// From `below` to `above` by `coverage`, 0 to 1.
pub(super) fn blend(below: u8, above: u8, coverage: f32) -> u8 {
    let (below, above) = (f32::from(below), f32::from(above));
    (below + (above - below) * coverage).round().clamp(0.0, 255.0) as u8
}

/// A straight piece of a stroke, in units of the grid.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    pub(super) from: (f32, f32),
    pub(super) to: (f32, f32),
}

impl Segment {
    /// The distance of a point from the nearest point of the segment.
    pub(super) fn distance(&self, x: f32, y: f32) -> f32 {
        let (dx, dy) = (self.to.0 - self.from.0, self.to.1 - self.from.1);
        let (px, py) = (x - self.from.0, y - self.from.1);
        let length = dx * dx + dy * dy;
        let along = if length > 0.0 { ((px * dx + py * dy) / length).clamp(0.0, 1.0) } else { 0.0 };
        (px - along * dx).hypot(py - along * dy)
    }
}

/// The segments of a polyline written as pairs of digits, column then row.
fn segments(stroke: &str) -> impl Iterator<Item = Segment> {
    let digits: Vec<f32> = stroke.chars().filter_map(|c| c.to_digit(10)).map(|digit| digit as f32).collect();
    let points: Vec<(f32, f32)> = digits.chunks_exact(2).filter_map(|p| Some((*p.first()?, *p.get(1)?))).collect();
    let next: Vec<(f32, f32)> = points.iter().skip(1).chain(points.last()).copied().collect();
    points.into_iter().zip(next).map(|(from, to)| Segment { from, to })
}

/// The grid of a letter: columns 0 to 4, rows 0 to 6, with room for half a stroke around it.
const COLUMNS: f32 = 4.0;
const ROWS: f32 = 6.0;
const MARGIN: f32 = 0.7;
/// Between letters.
const SPACING: f32 = 0.7;
/// Half the width of a stroke.
const STROKE: f32 = 0.52;
/// Those that need no width of their own.
const NARROW: &str = ":.";

/// Polylines of (column, row) digits, apart by spaces; a single point is a dot.
const GLYPHS: [(char, &str); 41] = [
    ('0', "103041453616050110"),
    ('1', "112026 1636"),
    ('2', "01103041420646"),
    ('3', "0110304142334445361605 1333"),
    ('4', "300444 3036"),
    ('5', "400003334445361605"),
    ('6', "4130100105163645443303"),
    ('7', "00404126"),
    ('8', "103041423313020110 1304051636454433"),
    ('9', "0516364541301001021343"),
    (':', "02 05"),
    ('.', "06"),
    ('-', "0343"),
    ('/', "0640"),
    (' ', ""),
    ('A', "062046 1434"),
    ('B', "0333444536060030414233"),
    ('C', "4130100105163645"),
    ('D', "00304145360600"),
    ('E', "40000646 0333"),
    ('F', "400006 0333"),
    ('G', "41301001051636454323"),
    ('H', "0006 4046 0343"),
    ('I', "1030 2026 1636"),
    ('J', "4045361605"),
    ('K', "0006 4003 0346"),
    ('L', "000646"),
    ('M', "0600234046"),
    ('N', "06004640"),
    ('O', "103042443616040210"),
    ('P', "06003041423303"),
    ('Q', "103042443616040210 2446"),
    ('R', "06003041423303 2346"),
    ('S', "413010010213334445361605"),
    ('T', "0040 2026"),
    ('U', "000516364540"),
    ('V', "002640"),
    ('W', "0016233640"),
    ('X', "0046 4006"),
    ('Y', "0023 4023 2326"),
    ('Z', "00400646"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_glyph_is_drawn_inside_its_tile_and_unlike_the_others() {
        for height in [8.0, 14.0, 40.0] {
            let font = Font::new(height, 235, 16);
            for (index, (name, tile)) in font.tiles.iter().enumerate() {
                let inked = tile.samples().iter().any(|&sample| sample > 100);
                assert_eq!(inked, *name != ' ', "{name} at {height}");
                let same = font.tiles.iter().take(index).find(|(_, other)| other == tile);
                assert!(same.is_none(), "{name} looks like {:?} at {height}", same.map(|(name, _)| name));
            }
        }
    }

    #[test]
    fn text_outside_the_plane_is_cut_off() {
        let font = Font::new(20.0, 235, 16);
        let mut plane = Plane::new(16, 16, 16);
        for (x, y) in [(0, 0), (10, 10), (15, 15), (16, 16), (1_000, 1_000)] {
            font.write(&mut plane, x, y, "8?8");
        }
        assert!(font.width("88") > 16 && font.width("?") == 0);
    }
}

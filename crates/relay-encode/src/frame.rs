//! Pictures in memory: 8-bit I420 (ITU-T H.264 §6.2, 4:2:0), limited range, BT.709.

/// The width and height of a picture: even, from 16x16 to 3840x2160 pixels in either orientation.
///
/// 4:2:0 chroma needs even sizes, and openh264 encodes nothing larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Size {
    width: u32,
    height: u32,
}

/// A width or height that no [`Size`] can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a picture of {width}x{height}: width and height must be even, from 16x16 to 3840x2160")]
pub struct SizeError {
    /// The width asked for.
    pub width: u32,
    /// The height asked for.
    pub height: u32,
}

impl Size {
    /// One macroblock (ITU-T H.264 §3.84).
    const MIN: u32 = 16;
    /// openh264 encodes at most 3840x2160 or 2160x3840.
    const MAX_LONG: u32 = 3_840;
    const MAX_SHORT: u32 = 2_160;

    /// A picture of `width` x `height` pixels.
    ///
    /// # Errors
    /// When one of them is odd, or out of the bounds above.
    pub const fn new(width: u32, height: u32) -> Result<Self, SizeError> {
        let (short, long) = if width < height { (width, height) } else { (height, width) };
        if short < Self::MIN || short > Self::MAX_SHORT || long > Self::MAX_LONG || (width | height) & 1 == 1 {
            return Err(SizeError { width, height });
        }
        Ok(Self { width, height })
    }

    /// Pixels in a row.
    pub const fn width(self) -> u32 {
        self.width
    }

    /// Rows.
    pub const fn height(self) -> u32 {
        self.height
    }

    /// Bytes of an I420 picture: one of luma and half of one of chroma per pixel.
    pub const fn i420_bytes(self) -> usize {
        (self.width * self.height) as usize / 2 * 3
    }
}

/// A picture: a plane of luma and two of chroma at half the size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    size: Size,
    y: Plane,
    u: Plane,
    v: Plane,
}

impl Frame {
    /// A black picture.
    pub fn new(size: Size) -> Self {
        let (width, height) = (size.width as usize, size.height as usize);
        Self {
            size,
            y: Plane::new(width, height, BLACK),
            u: Plane::new(width / 2, height / 2, NEUTRAL),
            v: Plane::new(width / 2, height / 2, NEUTRAL),
        }
    }

    /// A picture of three planes.
    ///
    /// # Errors
    /// When the luma is not a valid [`Size`], or the chroma planes are not half as wide and half as high.
    pub fn from_planes(y: Plane, u: Plane, v: Plane) -> Result<Self, SizeError> {
        let (width, height) = (y.width(), y.height());
        let wrong = SizeError { width: clamp_u32(width), height: clamp_u32(height) };
        let size = Size::new(wrong.width, wrong.height)?;
        if [&u, &v].iter().any(|plane| plane.width() != width / 2 || plane.height() != height / 2) {
            return Err(wrong);
        }
        Ok(Self { size, y, u, v })
    }

    /// Its width and height.
    pub fn size(&self) -> Size {
        self.size
    }

    /// Luma.
    pub fn y(&self) -> &Plane {
        &self.y
    }

    /// Blue-difference chroma, half as wide and high.
    pub fn u(&self) -> &Plane {
        &self.u
    }

    /// Red-difference chroma, half as wide and high.
    pub fn v(&self) -> &Plane {
        &self.v
    }

    /// Luma, for drawing.
    pub fn luma_mut(&mut self) -> &mut Plane {
        &mut self.y
    }

    /// Becomes equal to `other`; where the sizes agree, no memory is allocated.
    pub fn copy_from(&mut self, other: &Self) {
        if self.size != other.size {
            self.clone_from(other);
            return;
        }
        for (to, from) in self.planes_mut().into_iter().zip([&other.y, &other.u, &other.v]) {
            to.samples.copy_from_slice(&from.samples);
        }
    }

    /// All three planes, for drawing.
    pub fn planes_mut(&mut self) -> [&mut Plane; 3] {
        [&mut self.y, &mut self.u, &mut self.v]
    }

    /// The picture as a binary PPM file (red, green, blue), for looking at.
    pub fn to_ppm(&self) -> Vec<u8> {
        let (width, height) = (self.y.width(), self.y.height());
        let mut ppm = format!("P6\n{width} {height}\n255\n").into_bytes();
        ppm.reserve(width * height * 3);
        for (row, luma) in self.y.rows().enumerate() {
            let chroma = self.u.row(row / 2).iter().zip(self.v.row(row / 2));
            let chroma = chroma.flat_map(|uv| [uv, uv]);
            for (&y, (&u, &v)) in luma.iter().zip(chroma) {
                ppm.extend(to_rgb(y, u, v));
            }
        }
        ppm
    }
}

/// One component of a picture: rows of bytes without padding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plane {
    width: usize,
    height: usize,
    samples: Vec<u8>,
}

impl Plane {
    /// A plane of `width` x `height` samples, all of the same value.
    pub fn new(width: usize, height: usize, value: u8) -> Self {
        Self { width, height, samples: vec![value; width * height] }
    }

    /// A plane copied out of rows that are `stride` bytes apart; `None` if `samples` is too short for them.
    pub fn from_strided(samples: &[u8], stride: usize, width: usize, height: usize) -> Option<Self> {
        if width == 0 || stride < width {
            return None;
        }
        let mut copy = Vec::with_capacity(width.checked_mul(height)?);
        for row in samples.chunks(stride).take(height) {
            copy.extend_from_slice(row.get(..width)?);
        }
        (copy.len() == width * height).then_some(Self { width, height, samples: copy })
    }

    /// Samples in a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// All samples, row after row.
    pub fn samples(&self) -> &[u8] {
        &self.samples
    }

    /// All samples, row after row.
    pub fn samples_mut(&mut self) -> &mut [u8] {
        &mut self.samples
    }

    /// Row `row`; empty outside the plane.
    pub fn row(&self, row: usize) -> &[u8] {
        let start = row.saturating_mul(self.width);
        self.samples.get(start..start.saturating_add(self.width)).unwrap_or_default()
    }

    /// The rows, top down.
    pub fn rows(&self) -> impl Iterator<Item = &[u8]> {
        self.samples.chunks_exact(self.width.max(1))
    }

    /// The rows, top down.
    pub fn rows_mut(&mut self) -> impl Iterator<Item = &mut [u8]> {
        self.samples.chunks_exact_mut(self.width.max(1))
    }

    /// The part of each row inside a rectangle, clipped to the plane, top down.
    pub fn area_mut(&mut self, x: usize, y: usize, width: usize, height: usize) -> impl Iterator<Item = &mut [u8]> {
        let end = x.saturating_add(width).min(self.width);
        let start = x.min(end);
        self.rows_mut().skip(y).take(height).map(move |row| row.get_mut(start..end).unwrap_or_default())
    }
}

/// Black of limited range (ITU-R BT.709 §4.6).
pub(crate) const BLACK: u8 = 16;
/// No colour.
pub(crate) const NEUTRAL: u8 = 128;

/// BT.709 limited range to 8-bit RGB (ITU-R BT.709 §3.2, §4.6), in 1/65536.
fn to_rgb(y: u8, u: u8, v: u8) -> [u8; 3] {
    let y = (i32::from(y) - 16) * 76_309;
    let (u, v) = (i32::from(u) - 128, i32::from(v) - 128);
    [y + 117_489 * v, y - 13_975 * u - 34_925 * v, y + 138_438 * u].map(|c| ((c + 32_768) >> 16).clamp(0, 255) as u8)
}

/// 8-bit RGB to BT.709 limited range, in 1/65536.
pub(crate) fn to_yuv([r, g, b]: [u8; 3]) -> [u8; 3] {
    let [r, g, b] = [r, g, b].map(i32::from);
    let y = 16 * 65_536 + 11_966 * r + 40_254 * g + 4_064 * b;
    let u = 128 * 65_536 - 6_596 * r - 22_189 * g + 28_784 * b;
    let v = 128 * 65_536 + 28_784 * r - 26_145 * g - 2_639 * b;
    [y, u, v].map(|c| ((c + 32_768) >> 16).clamp(0, 255) as u8)
}

fn clamp_u32(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_even_and_within_what_openh264_encodes() {
        for (width, height, valid) in [
            (16, 16, true),
            (1_280, 720, true),
            (642, 362, true),
            (3_840, 2_160, true),
            (2_160, 3_840, true),
            (641, 360, false),
            (640, 361, false),
            (14, 16, false),
            (0, 0, false),
            (3_842, 2_160, false),
            (3_840, 2_162, false),
            (u32::MAX, 2, false),
        ] {
            assert_eq!(Size::new(width, height).is_ok(), valid, "{width}x{height}");
        }
    }

    #[test]
    fn planes_must_fit_each_other() {
        let plane = |width, height| Plane::new(width, height, 0);
        assert!(Frame::from_planes(plane(32, 16), plane(16, 8), plane(16, 8)).is_ok());
        assert!(Frame::from_planes(plane(32, 16), plane(16, 8), plane(16, 7)).is_err());
        assert!(Frame::from_planes(plane(32, 17), plane(16, 8), plane(16, 8)).is_err());
    }

    #[test]
    fn strided_rows_are_copied_or_refused() {
        let samples: Vec<u8> = (0..12).collect();
        assert_eq!(Plane::from_strided(&samples, 4, 2, 3).unwrap().samples(), [0, 1, 4, 5, 8, 9]);
        assert_eq!(Plane::from_strided(&samples[..10], 4, 2, 3).unwrap().samples(), [0, 1, 4, 5, 8, 9]);
        for (stride, width, height) in [(4, 5, 1), (4, 4, 4), (4, 0, 1), (0, 0, 0), (7, 6, 2)] {
            assert_eq!(Plane::from_strided(&samples, stride, width, height), None, "{stride} {width} {height}");
        }
    }

    #[test]
    fn colours_survive_the_way_to_yuv_and_back() {
        for rgb in [[0, 0, 0], [255, 255, 255], [191, 0, 0], [0, 191, 0], [0, 0, 191], [17, 130, 200]] {
            let [y, u, v] = to_yuv(rgb);
            for (before, after) in rgb.into_iter().zip(to_rgb(y, u, v)) {
                assert!(before.abs_diff(after) <= 3, "{rgb:?} {:?}", to_rgb(y, u, v));
            }
        }
    }
}

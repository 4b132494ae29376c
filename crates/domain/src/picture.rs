//! Screenshots: the image formats that QEMU writes.

use std::path::Path;

use serde_with::{DeserializeFromStr, SerializeDisplay};

use crate::error::{Explain, Explanation, Fault};

/// The image format of a screenshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[derive(DeserializeFromStr, SerializeDisplay, strum::Display, strum::EnumString)]
#[strum(serialize_all = "lowercase", ascii_case_insensitive, parse_err_ty = UnsupportedFormat, parse_err_fn = unsupported)]
pub enum PictureFormat {
    /// PNG.
    Png,
    /// Binary PPM (portable pixmap): large, and simple to parse.
    Ppm,
}

/// A format, or an extension of a file, that is not supported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unsupported image format `{}`: expected png or ppm", format.escape_debug())]
#[expect(missing_docs, reason = "the message names the fields")]
pub struct UnsupportedFormat {
    pub format: String,
}

impl Explain for UnsupportedFormat {
    fn explain(&self) -> Explanation {
        Explanation::new("screen.format-unsupported", Fault::Usage)
            .hint("name the file `….png` or `….ppm`, or pass `--image-format`")
    }
}

impl PictureFormat {
    /// Returns the format of a file's extension; PNG if there is none.
    ///
    /// ```
    /// use maqet_domain::picture::PictureFormat;
    ///
    /// assert_eq!(PictureFormat::from_path("a/b.PPM".as_ref()), Ok(PictureFormat::Ppm));
    /// assert_eq!(PictureFormat::from_path("a.b/c".as_ref()), Ok(PictureFormat::Png));
    /// assert!(PictureFormat::from_path("screen.jpg".as_ref()).is_err());
    /// ```
    pub fn from_path(file: &Path) -> Result<Self, UnsupportedFormat> {
        file.extension().map_or(Ok(Self::Png), |end| end.to_string_lossy().parse())
    }
}

fn unsupported(format: &str) -> UnsupportedFormat {
    UnsupportedFormat { format: format.chars().take(40).collect() }
}

/// A parsed PPM image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ppm<'a> {
    /// The width.
    pub width: u32,
    /// The height.
    pub height: u32,
    /// Red, green and blue of each pixel, a byte each, by rows from the top.
    pub pixels: &'a [u8],
}

impl<'a> Ppm<'a> {
    /// Parses an image as QEMU writes it: `P6`, width, height, 255, pixels.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut rest = bytes.strip_prefix(b"P6")?;
        let mut numbers = [0; 3];
        for number in &mut numbers {
            rest = rest.trim_ascii_start();
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let (digits, after) = rest.split_at(digits);
            *number = std::str::from_utf8(digits).ok()?.parse::<u32>().ok()?;
            rest = after;
        }
        let [width, height, 255] = numbers else { return None };
        let (b"\n", pixels) = rest.split_at_checked(1)? else { return None };
        let expected = u64::from(width).checked_mul(u64::from(height))?.checked_mul(3)?;
        let is_complete = width > 0 && height > 0 && u64::try_from(pixels.len()) == Ok(expected);
        is_complete.then_some(Self { width, height, pixels })
    }

    /// Returns width and height of the smallest rectangle that holds all differences between two images; `None` if their
    /// sizes differ.
    pub fn difference(&self, other: &Ppm<'_>) -> Option<(usize, usize)> {
        if (self.width, self.height) != (other.width, other.height) {
            return None;
        }
        let line = usize::try_from(self.width).ok()? * 3;
        let mut columns = (usize::MAX, 0);
        let mut rows = (usize::MAX, 0);
        let lines = self.pixels.chunks_exact(line).zip(other.pixels.chunks_exact(line));
        for (row, (one, another)) in lines.enumerate().filter(|(_, (one, another))| one != another) {
            let differs = |(one, another): (&u8, &u8)| one != another;
            let first = one.iter().zip(another).position(differs).unwrap_or_default() / 3;
            let last = one.iter().zip(another).rposition(differs).unwrap_or_default() / 3;
            columns = (columns.0.min(first), columns.1.max(last + 1));
            rows = (rows.0.min(row), row + 1);
        }
        Some((columns.1.saturating_sub(columns.0), rows.1.saturating_sub(rows.0)))
    }
}

/// Returns width and height of a PNG image, if it is one.
pub fn png_size(bytes: &[u8]) -> Option<(u32, u32)> {
    // The signature, the length and the name of a chunk, then the two numbers (ISO/IEC 15948, 5.2 and 11.2.2).
    let (head, rest) = bytes.split_at_checked(16)?;
    let is_png = head.starts_with(b"\x89PNG\r\n\x1a\n") && head.ends_with(b"IHDR");
    let number = |at: usize| Some(u32::from_be_bytes(*rest.get(at..)?.first_chunk::<4>()?));
    if is_png { Some((number(0)?, number(4)?)) } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn test_ppm_of_qemu_is_parsed() {
        let picture = Ppm::parse(b"P6\n2 1\n255\n\x01\x02\x03\n\r\xff").unwrap();

        assert_eq!(picture, Ppm { width: 2, height: 1, pixels: b"\x01\x02\x03\n\r\xff" });
    }

    #[test]
    fn test_ppm_difference_is_smallest_rectangle() {
        let of = |size: &str, pixels: &[u8]| [b"P6\n", size.as_bytes(), b"\n255\n", pixels].concat();
        let mut pixels = [0; 4 * 3 * 3];
        let before = of("4 3", &pixels);
        (pixels[3 + 2], pixels[12 + 3 * 3]) = (1, 1);
        let (after, wide) = (of("4 3", &pixels), of("3 4", &pixels));
        let [before, after, wide] = [&before, &after, &wide].map(|bytes| Ppm::parse(bytes).unwrap());

        assert_eq!(before.difference(&after), Some((3, 2)));
        assert_eq!(before.difference(&before), Some((0, 0)));
        assert_eq!(wide.difference(&after), None);
    }

    #[test]
    fn test_ppm_incomplete_or_other_format_is_none() {
        for bytes in [b"P6\n2 1\n255\n\x01\x02".as_slice(), b"P5\n1 1\n255\n\x01\x02\x03", b"P6\n1 1\n7\n\x01\x02\x03"]
        {
            assert_eq!(Ppm::parse(bytes), None);
        }
        assert_eq!(Ppm::parse(b"P6\n0 0\n255\n"), None);
        assert_eq!(Ppm::parse(b"P6\n4294967295 4294967295\n255\n"), None);
    }

    #[test]
    fn test_png_size_is_in_header() {
        let head = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x02\xd0\0\0\x01\x90\x08";

        assert_eq!(png_size(head), Some((720, 400)));
        assert_eq!(png_size(&head[..20]), None);
        assert_eq!(png_size(b"P6\n720 400\n255\n everything else of it"), None);
    }

    proptest! {
        #[test]
        fn test_pictures_any_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = (Ppm::parse(&bytes), png_size(&bytes));
            let _ = Ppm::parse(&[b"P6\n".as_slice(), &bytes].concat());
        }
    }
}

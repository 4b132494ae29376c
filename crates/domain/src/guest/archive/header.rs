//! The fields of a header: numbers, texts, the checksum.

use std::ops::Range;

use super::BLOCK_BYTES;

/// A header.
pub(super) type Block = [u8; BLOCK_BYTES];

pub(super) const NAME: Range<usize> = 0..100;
pub(super) const MODE: Range<usize> = 100..108;
pub(super) const UID: Range<usize> = 108..116;
pub(super) const GID: Range<usize> = 116..124;
pub(super) const SIZE: Range<usize> = 124..136;
pub(super) const MODIFIED: Range<usize> = 136..148;
pub(super) const CHECKSUM: Range<usize> = 148..156;
pub(super) const KIND: usize = 156;
pub(super) const LINK: Range<usize> = 157..257;
pub(super) const MAGIC: Range<usize> = 257..265;
pub(super) const PREFIX: Range<usize> = 345..500;

/// The magic and the version of headers with GNU's extensions.
pub(super) const GNU_MAGIC: &[u8; 8] = b"ustar  \0";

/// The magic of POSIX, which has the beginning of long paths in `PREFIX`.
pub(super) const POSIX_MAGIC: &[u8; 6] = b"ustar\0";

/// The largest number of a header that is accepted.
pub(super) const MAX_NUMBER: u64 = i64::MAX as u64;

/// Returns the sum of all bytes, those of the checksum taken as spaces.
pub(super) fn checksum(block: &Block) -> u32 {
    let of = |(at, byte): (usize, &u8)| if CHECKSUM.contains(&at) { u32::from(b' ') } else { u32::from(*byte) };
    block.iter().enumerate().map(of).sum()
}

/// Reads a number: octal digits, or GNU's binary form, of which negative ones are refused.
pub(super) fn number(field: &[u8]) -> Option<u64> {
    let (first, rest) = field.split_first()?;
    if first & 0x80 != 0 {
        let begin = u128::from(first & 0x7f);
        let value = rest.iter().try_fold(begin, |value, byte| {
            let value = (value << 8) | u128::from(*byte);
            (value <= u128::from(MAX_NUMBER)).then_some(value)
        })?;
        return u64::try_from(value).ok();
    }
    let is_filler = |byte: &u8| *byte == b' ' || *byte == 0;
    let digits: Vec<u8> = field.iter().copied().skip_while(is_filler).take_while(|byte| !is_filler(byte)).collect();
    let value = digits.iter().try_fold(0_u64, |value, byte| match byte {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(u64::from(byte - b'0')),
        _ => None,
    })?;
    (value <= MAX_NUMBER).then_some(value)
}

/// Returns a text, which ends at a NUL or fills the field.
pub(super) fn text(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    &field[..end]
}

/// Writes a number, in GNU's binary form where the octal one is too long.
pub(super) fn set_number(field: &mut [u8], value: u64) {
    let digits = field.len() - 1;
    let octal = format!("{value:0digits$o}");
    if octal.len() == digits {
        field[..digits].copy_from_slice(octal.as_bytes());
        return;
    }
    let bytes = value.to_be_bytes();
    let at = field.len() - bytes.len();
    field[at..].copy_from_slice(&bytes);
    field[0] |= 0x80;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_number_is_read_as_written() {
        for value in [0, 1, 0o777, 0o7_7777_7777, 0o777_7777_7777, 0o1_0000_0000_0000, MAX_NUMBER] {
            let mut field = [0; 12];
            set_number(&mut field, value);
            assert_eq!(number(&field), Some(value), "{value}");
        }
        assert_eq!(number(b"  644 \0\0"), Some(0o644));
        assert_eq!(number(b"\0\0\0\0\0\0\0\0"), Some(0));
    }

    #[test]
    fn test_number_out_of_range_is_refused() {
        assert_eq!(number(b"0000089\0"), None);
        assert_eq!(number(&[0xff; 12]), None);
        assert_eq!(number(&[0x80, 0, 0, 0, 0xff, 0, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(number(b"7777777777777777777777777"), None);
    }
}

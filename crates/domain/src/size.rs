//! Sizes in bytes, as QEMU writes them.

use std::fmt;
use std::str::FromStr;

use serde_with::{DeserializeFromStr, SerializeDisplay};

use crate::text::shortened;

/// A number of bytes, written as QEMU writes it: `512`, `64K`, `2G`, `1.5T`; units are binary.
///
/// The rules are those of QEMU's `qemu_strtosz` (7.2), without hexadecimal numbers and leading signs. The unit of a bare
/// number depends on the caller: `-m` takes MiB, `qemu-img create` takes bytes.
///
/// ```
/// use maqet_domain::size::ByteSize;
///
/// let size: ByteSize = "2G".parse().unwrap();
/// assert_eq!(size.bytes(), 2 << 30);
/// assert_eq!(size.to_string(), "2G");
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, DeserializeFromStr, SerializeDisplay)]
pub struct ByteSize(u64);

/// A text that is not a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid size {}: {reason}", shortened(value))]
#[expect(missing_docs, reason = "the message names the fields")]
pub struct InvalidSize {
    pub value: String,
    pub reason: &'static str,
}

const UNITS: [(char, u32); 6] = [('K', 10), ('M', 20), ('G', 30), ('T', 40), ('P', 50), ('E', 60)];

impl ByteSize {
    /// Makes a size of some bytes.
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// Makes a size of some mebibytes, saturating.
    pub const fn from_mib(mib: u64) -> Self {
        Self(mib.saturating_mul(1 << 20))
    }

    /// Returns the number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// Reads a size; a number without a unit is in units of two to the power of `bare_shift` bytes.
    pub fn parse_with_bare_unit(text: &str, bare_shift: u32) -> Result<Self, InvalidSize> {
        let invalid = |reason| InvalidSize { value: text.to_owned(), reason };

        let digits_end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(digits_end);
        if number.is_empty() || number.starts_with('.') || number.ends_with('.') {
            return Err(invalid("expected a number and a unit, as in `512M` or `10G`"));
        }
        let shift = unit_shift(unit, bare_shift).ok_or_else(|| invalid("the units are B, K, M, G, T, P and E"))?;
        scaled(number, shift).map(Self).map_err(invalid)
    }
}

fn unit_shift(unit: &str, bare_shift: u32) -> Option<u32> {
    let mut letters = unit.chars();
    match (letters.next(), letters.next()) {
        (None, _) => Some(bare_shift),
        (Some('b' | 'B'), None) => Some(0),
        (Some(letter), None) => {
            UNITS.iter().find(|(known, _)| *known == letter.to_ascii_uppercase()).map(|(_, shift)| *shift)
        }
        (Some(_), Some(_)) => None,
    }
}

fn scaled(number: &str, shift: u32) -> Result<u64, &'static str> {
    const TOO_LARGE: &str = "the limit is 16 EiB";
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.contains('.') {
        return Err("more than one decimal point");
    }
    let whole: u64 = whole.parse().map_err(|_| TOO_LARGE)?;
    let whole = whole.checked_mul(1 << shift).ok_or(TOO_LARGE)?;
    if fraction.is_empty() {
        return Ok(whole);
    }
    if shift == 0 {
        return Err("a fraction needs a unit, as in `1.5G`");
    }
    if fraction.len() > 15 {
        return Err("more than 15 decimals");
    }
    let numerator: u128 = fraction.parse().map_err(|_| TOO_LARGE)?;
    let part = (numerator << shift) / 10_u128.pow(u32::try_from(fraction.len()).map_err(|_| TOO_LARGE)?);
    u64::try_from(part).ok().and_then(|part| whole.checked_add(part)).ok_or(TOO_LARGE)
}

impl FromStr for ByteSize {
    type Err = InvalidSize;

    /// Reads a size; a number without a unit is bytes.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse_with_bare_unit(text, 0)
    }
}

impl fmt::Display for ByteSize {
    /// Writes the shortest exact form.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNITS.iter().rev().find(|(_, shift)| self.0 != 0 && self.0.is_multiple_of(1 << shift));
        match unit {
            Some((letter, shift)) => write!(f, "{}{letter}", self.0 >> shift),
            None => write!(f, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<u64>) {
        assert_eq!(text.parse::<ByteSize>().ok().map(ByteSize::bytes), expected, "{text}");
    }

    #[test]
    fn test_size_with_unit_is_binary() {
        check("10G", Some(10 << 30));
        check("64k", Some(64 << 10));
        check("1.5G", Some(3 << 29));
        check("7b", Some(7));
        check("15E", Some(15 << 60));
    }

    #[test]
    fn test_size_malformed_is_invalid() {
        for text in
            ["", "G", "10GB", "10 G", "-1", "+1", "1_000", "1..5G", ".5G", "5.", "0x10", "16E", "1.5", "10GiB", "é"]
        {
            check(text, None);
        }
    }

    #[test]
    fn test_size_without_a_number_says_so() {
        for text in ["", "G", ".5G", "5."] {
            assert!(text.parse::<ByteSize>().unwrap_err().reason.starts_with("expected a number"), "{text}");
        }
    }

    #[test]
    fn test_size_has_at_most_fifteen_decimals() {
        check("0.000000000000001P", Some(1));
        check("0.0000000000000001P", None);
    }

    #[test]
    fn test_size_json_is_the_shortest_form() {
        assert_eq!(serde_json::to_string(&ByteSize::from_mib(2048)).unwrap(), r#""2G""#);
        assert_eq!(serde_json::from_str::<ByteSize>(r#""2G""#).unwrap(), ByteSize::from_mib(2048));
    }

    #[test]
    fn test_size_bare_number_has_the_given_unit() {
        let size = ByteSize::parse_with_bare_unit("512", 20);

        assert_eq!(size, Ok(ByteSize::from_mib(512)));
    }

    proptest! {
        #[test]
        fn test_size_any_value_round_trips(bytes in any::<u64>()) {
            let size = ByteSize::from_bytes(bytes);

            prop_assert_eq!(size.to_string().parse::<ByteSize>(), Ok(size));
        }

        #[test]
        fn test_size_any_text_never_panics(text in ".{0,24}") {
            let _ = text.parse::<ByteSize>();
        }
    }
}

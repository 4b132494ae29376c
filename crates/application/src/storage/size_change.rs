//! The new size of an image: absolute, or more than it has.

use std::fmt;
use std::str::FromStr;

use maqet_domain::size::{ByteSize, InvalidSize};
use serde_with::{DeserializeFromStr, SerializeDisplay};

/// The unit of the size of a disk, in bytes.
const SECTOR: u64 = 512;

/// A new size of an image, as in `20G` or `+5G`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, DeserializeFromStr, SerializeDisplay)]
pub enum SizeChange {
    /// This size.
    To(ByteSize),
    /// This much more than before.
    By(ByteSize),
}

impl SizeChange {
    /// Returns the new size of an image of `before`, in whole sectors.
    pub fn of(self, before: ByteSize) -> ByteSize {
        let bytes = match self {
            Self::To(size) => size.bytes(),
            Self::By(more) => before.bytes().saturating_add(more.bytes()),
        };
        ByteSize::from_bytes(bytes.checked_next_multiple_of(SECTOR).unwrap_or(bytes))
    }
}

impl FromStr for SizeChange {
    type Err = InvalidSize;

    fn from_str(text: &str) -> Result<Self, InvalidSize> {
        let size = |text: &str| {
            let parsed: ByteSize = text.parse()?;
            let reason = "must be larger than 0";
            if parsed.bytes() > 0 { Ok(parsed) } else { Err(InvalidSize { value: text.to_owned(), reason }) }
        };
        match text.strip_prefix('+') {
            Some(more) => size(more).map(Self::By),
            None => size(text).map(Self::To),
        }
    }
}

impl fmt::Display for SizeChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::To(size) => write!(f, "{size}"),
            Self::By(more) => write!(f, "+{more}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn of(text: &str) -> u64 {
        text.parse::<SizeChange>().unwrap().of(ByteSize::from_mib(10)).bytes()
    }

    #[test]
    fn test_size_change_is_absolute_or_more() {
        assert_eq!(of("20M"), 20 << 20);
        assert_eq!(of("+5M"), 15 << 20);
        assert_eq!(of("5000"), 5120);
    }

    #[test]
    fn test_size_change_invalid_text_is_refused() {
        for text in ["", "+", "-5G", "0", "+0", "++5G", "5Q"] {
            assert!(text.parse::<SizeChange>().is_err(), "{text}");
        }
    }

    #[test]
    fn test_size_change_is_written_as_it_is_read() {
        for text in ["20G", "+512M"] {
            assert_eq!(text.parse::<SizeChange>().unwrap().to_string(), text);
        }
    }
}

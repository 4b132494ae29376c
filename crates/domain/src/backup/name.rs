//! Names of backups and of their bitmaps.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_with::{DeserializeFromStr, SerializeDisplay};

use crate::text::checked_text;

/// The name of a backup: when it was made, in UTC, as in `20261129T235304Z`, with a number for a second one in the same
/// second.
///
/// It is also the name of its directory.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, DeserializeFromStr, SerializeDisplay)]
pub struct BackupName(String);

/// A text that is not the name of a backup.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid name of a backup `{}`: expected the time it was made, as in `20261129T235304Z`", value.escape_debug())]
#[expect(missing_docs, reason = "the message names the field")]
pub struct InvalidBackupName {
    pub value: String,
}

/// The length of a name without a number.
const TIME_LEN: usize = "20261129T235304Z".len();

impl BackupName {
    /// Makes the name of a backup that is made at `at`; `is_taken` says which names exist.
    pub fn new(at: Timestamp, is_taken: impl Fn(&Self) -> bool) -> Self {
        let time = at.to_zoned(TimeZone::UTC).strftime("%Y%m%dT%H%M%SZ").to_string();
        let numbered = (2_u32..).map(|number| Self(format!("{time}-{number}")));
        let mut names = std::iter::once(Self(time.clone())).chain(numbered);
        names.find(|name| !is_taken(name)).unwrap_or(Self(time))
    }

    /// Checks a name.
    pub fn parse(text: &str) -> Result<Self, InvalidBackupName> {
        let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let is_time = |time: &str| {
            let (date, clock) = (&time[..8], &time[9..TIME_LEN - 1]);
            is_digits(date) && &time[8..9] == "T" && is_digits(clock) && time.ends_with('Z')
        };
        let is_valid = text.is_ascii()
            && text.len() >= TIME_LEN
            && is_time(&text[..TIME_LEN])
            && match text[TIME_LEN..].strip_prefix('-') {
                Some(number) => number.len() <= 9 && is_digits(number) && !number.starts_with('0'),
                None => text.len() == TIME_LEN,
            };
        if is_valid { Ok(Self(text.to_owned())) } else { Err(InvalidBackupName { value: text.to_owned() }) }
    }
}

checked_text!(BackupName, InvalidBackupName);

/// The prefix of the names of bitmaps that maqet adds to disks.
pub const BITMAP_PREFIX: &str = "maqet-backup-";

/// Returns the name of the bitmap that begins with a backup; `directory` is the [hash](directory_hash) of where it is.
pub fn bitmap_name(directory: u32, backup: &BackupName) -> String {
    format!("{}{backup}", directory_prefix(directory))
}

/// Returns the prefix of the names of bitmaps of a directory.
pub(super) fn directory_prefix(directory: u32) -> String {
    format!("{BITMAP_PREFIX}{directory:08x}-")
}

/// Returns a hash of the path of a directory with backups, so that backups in several directories keep apart (FNV-1a).
pub fn directory_hash(path: &[u8]) -> u32 {
    path.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_backup_name_is_the_time_and_unique() {
        let at: Timestamp = "2026-11-29T23:53:04.9Z".parse().unwrap();
        let first = BackupName::new(at, |_| false);

        let second = BackupName::new(at, |name| *name == first);

        assert_eq!((first.as_str(), second.as_str()), ("20261129T235304Z", "20261129T235304Z-2"));
        assert_eq!(BackupName::parse(second.as_str()), Ok(second));
    }

    #[test]
    fn test_backup_name_of_other_texts_is_invalid() {
        for text in [
            "",
            "latest",
            "../20261129T235304Z",
            "20261129T235304Z/",
            "20261129T235304Z-",
            "20261129T235304Z-0",
            "20261129 235304Z",
            "2026112äT235304",
            "20261129T235304Z-1x",
            "20261129T235304Z-1234567890",
        ] {
            assert!(BackupName::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn test_bitmap_name_differs_by_directory() {
        let name = BackupName::parse("20261129T235304Z").unwrap();
        let [one, other] = ["/a/web", "/b/web"].map(|path| bitmap_name(directory_hash(path.as_bytes()), &name));

        assert_ne!(one, other);
        assert!(one.starts_with(BITMAP_PREFIX) && one.ends_with("-20261129T235304Z"), "{one}");
    }
}

//! The dirty bitmaps in a qcow2 image, as QEMU's `docs/interop/qcow2.txt` describes them.
//!
//! An image with any bitmap cannot be reverted to a snapshot ("Device has active dirty bitmaps"), and one with a bitmap
//! in use cannot be resized (QEMU 7.2 and 10.0), so maqet looks for them before; `qemu-img` would take longer.

use super::qcow2::{Qcow2Header, be_u32, be_u64, extension};

/// The extension of the header that says where the directory of bitmaps is.
const BITMAPS: u32 = 0x2385_2875;

/// The bit of the autoclear features that says that the extension is valid: a program that does not support bitmaps
/// clears it when it writes to the image.
const HAS_BITMAPS: u64 = 1;

/// The flag of a bitmap that was not stored when the image was last closed.
const IN_USE: u32 = 1;

/// The part of an entry before its extra data and its name.
const ENTRY_BYTES: usize = 24;

/// The largest directory that is read, a sixteenth of what QEMU allows: 65,535 bitmaps of up to 1,023 bytes.
const MAX_DIRECTORY_BYTES: u64 = 4 << 20;

/// Where the directory of bitmaps of an image is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BitmapDirectory {
    /// Its offset in the image.
    pub offset: u64,
    /// How many bytes it has.
    pub bytes: usize,
    count: u32,
}

/// A dirty bitmap in an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBitmap {
    /// Its name.
    pub name: String,
    /// Whether it was not stored when the image was last closed, or the image is open: its content is not valid.
    pub is_in_use: bool,
}

impl BitmapDirectory {
    /// Finds the directory by the first bytes of an image; `None` if it has no bitmaps.
    pub fn find(start: &[u8]) -> Option<Self> {
        Qcow2Header::parse(start).ok()?;
        let is_3 = be_u32(start, 4)? == 3;
        let has_bitmaps = is_3 && be_u64(start, 88)? & HAS_BITMAPS != 0;
        let header_length = be_u32(start, 100).filter(|_| has_bitmaps)? as usize;
        let extension = extension(start, header_length, BITMAPS)?;
        let bytes = be_u64(extension, 8).filter(|bytes| *bytes <= MAX_DIRECTORY_BYTES)?;
        let bytes = usize::try_from(bytes).ok()?;
        Some(Self { count: be_u32(extension, 0)?, bytes, offset: be_u64(extension, 16)? })
    }

    /// Parses the directory; an entry that is cut off ends it.
    pub fn parse(self, directory: &[u8]) -> Vec<StoredBitmap> {
        let mut found = Vec::new();
        let mut at = 0;
        while (found.len() as u64) < u64::from(self.count)
            && let Some((bitmap, length)) = entry(directory.get(at..).unwrap_or_default())
        {
            found.push(bitmap);
            at += length;
        }
        found
    }
}

/// Parses the first entry of a directory; also returns how long it is.
fn entry(bytes: &[u8]) -> Option<(StoredBitmap, usize)> {
    let flags = be_u32(bytes, 12)?;
    let name_bytes = usize::from(u16::from_be_bytes(bytes.get(18..20)?.try_into().ok()?));
    let extra_bytes = be_u32(bytes, 20)? as usize;
    let name_at = ENTRY_BYTES.checked_add(extra_bytes)?;
    let end = name_at.checked_add(name_bytes)?;
    let name = String::from_utf8_lossy(bytes.get(name_at..end)?).into_owned();
    Some((StoredBitmap { name, is_in_use: flags & IN_USE != 0 }, end.next_multiple_of(8)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The first bytes of an image with two bitmaps, as QEMU 7.2 and 10.0 write them.
    fn start() -> Vec<u8> {
        let mut bytes = vec![0; 512];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0, b"QFI\xfb");
        put(4, &3_u32.to_be_bytes());
        put(20, &16_u32.to_be_bytes());
        put(24, &(64_u64 << 20).to_be_bytes());
        put(88, &1_u64.to_be_bytes());
        put(100, &104_u32.to_be_bytes());
        put(104, &0x6803_f857_u32.to_be_bytes());
        put(108, &8_u32.to_be_bytes());
        put(120, &BITMAPS.to_be_bytes());
        put(124, &24_u32.to_be_bytes());
        put(128, &2_u32.to_be_bytes());
        put(136, &64_u64.to_be_bytes());
        put(144, &0x9_0000_u64.to_be_bytes());
        bytes
    }

    fn directory() -> Vec<u8> {
        let mut bytes = Vec::new();
        for (name, flags) in [("maqet-backup-1", 2_u32), ("other", 3)] {
            bytes.extend([&[0; 12][..], &flags.to_be_bytes(), &[1, 16]].concat());
            let name_bytes = u16::try_from(name.len()).unwrap();
            bytes.extend([&name_bytes.to_be_bytes()[..], &[0; 4], name.as_bytes()].concat());
            bytes.resize(bytes.len().next_multiple_of(8), 0);
        }
        bytes
    }

    #[test]
    fn test_directory_of_bitmaps_is_found_and_parsed() {
        let found = BitmapDirectory::find(&start()).unwrap();

        let names: Vec<(String, bool)> =
            found.parse(&directory()).into_iter().map(|bitmap| (bitmap.name, bitmap.is_in_use)).collect();
        assert_eq!((found.offset, found.bytes), (0x9_0000, 64));
        assert_eq!(names, [("maqet-backup-1".to_owned(), false), ("other".to_owned(), true)]);
    }

    #[test]
    fn test_directory_without_autoclear_bit_is_ignored() {
        let mut cleared = start();
        cleared[95] = 0;

        assert_eq!(BitmapDirectory::find(&cleared), None);
        assert_eq!(BitmapDirectory::find(b"KDMV"), None);
    }

    #[test]
    fn test_directory_cut_off_has_the_entries_before() {
        let found = BitmapDirectory::find(&start()).unwrap();

        assert_eq!(found.parse(&directory()[..50]).len(), 1);
        assert!(found.parse(b"").is_empty());
    }

    proptest! {
        #[test]
        fn test_directory_any_bytes_do_not_panic(
            start in proptest::collection::vec(any::<u8>(), 0..200),
            directory in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let mut image = self::start();
            image[104..104 + start.len()].copy_from_slice(&start);
            for found in BitmapDirectory::find(&image).into_iter().chain(BitmapDirectory::find(&self::start())) {
                found.parse(&directory);
            }
        }
    }
}

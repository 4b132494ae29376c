//! The parts of a qcow2 image that maqet reads itself: the header, snapshot tables, and directories of bitmaps.

#![no_main]

use libfuzzer_sys::fuzz_target;
use maqet::domain::snapshot::table::{SnapshotTable, SnapshotTableError};
use maqet::domain::storage::qcow2::Qcow2Header;
use maqet::domain::storage::qcow2_bitmap::BitmapDirectory;

/// The input up to here is the start of an image, and the rest is the table or directory.
const START_BYTES: usize = 512;

fuzz_target!(|bytes: &[u8]| {
    let (start, rest) = bytes.split_at(bytes.len().min(START_BYTES));
    let half = &rest[..rest.len() / 2];
    let _ = Qcow2Header::parse(start);

    if let Ok(table) = SnapshotTable::locate(start) {
        let whole = table.parse(rest);
        if let Ok(snapshots) = &whole {
            assert_eq!(snapshots.is_empty(), table.is_empty());
            assert!(snapshots.iter().all(|snapshot| !snapshot.created_at.to_string().is_empty()));
        }
        match table.parse(half) {
            // What follows the table makes no difference, and neither does it for a value that QEMU refuses.
            Ok(snapshots) => assert_eq!(Ok(snapshots), whole),
            Err(SnapshotTableError::Incomplete) => {}
            Err(error) => assert_eq!(Err(error), whole),
        }
    }

    if let Some(directory) = BitmapDirectory::find(start) {
        let whole = directory.parse(rest);
        let cut = directory.parse(half);
        assert!(whole.starts_with(&cut), "{cut:?} {whole:?}");
        // An entry takes 24 bytes at least.
        assert!(whole.len() * 24 <= rest.len());
    }
});

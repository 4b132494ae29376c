//! The snapshot table of a qcow2 image, as QEMU's `docs/interop/qcow2.txt` describes it.
//!
//! maqet reads it itself: starting `qemu-img` takes longer than everything else that a list needs. While QEMU has the
//! image open, it writes a new table to free space, and then its place into the header. So a table that was read is the
//! right one if the header is the same afterwards.

use jiff::Timestamp;

use super::ImageSnapshot;

/// How many bytes of an image hold the place of its snapshot table.
pub const LOCATION_BYTES: usize = 72;

const MAGIC: &[u8; 4] = b"QFI\xfb";
/// The part of an entry with a fixed size.
const FIXED_BYTES: usize = 40;
/// The most extra data of an entry, as in QEMU 7.2 (`QCOW_MAX_SNAPSHOT_EXTRA_DATA`).
const MAX_EXTRA_BYTES: usize = 1024;
/// The most snapshots of an image, as in QEMU 7.2 (`QCOW_MAX_SNAPSHOTS`).
const MAX_SNAPSHOTS: u32 = 65_536;
/// The length of an entry whose name has up to 27 bytes.
const TYPICAL_ENTRY_BYTES: usize = 96;

/// Where the snapshot table of an image is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotTable {
    /// The offset of the table in the image.
    pub offset: u64,
    /// The number of its entries.
    count: u32,
}

/// Why a snapshot table cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotTableError {
    /// The image does not begin as a qcow2 image.
    #[error("it is not a qcow2 image")]
    NotQcow2,
    /// The table ends after the bytes that were read; read more of them.
    #[error("its snapshot table is incomplete")]
    Incomplete,
    /// A value that QEMU refuses, too.
    #[error("its snapshot table is invalid")]
    Invalid,
}

impl SnapshotTable {
    /// Finds the table, by the first bytes of an image.
    pub fn locate(start: &[u8]) -> Result<Self, SnapshotTableError> {
        let is_qcow2 = start.starts_with(MAGIC) && matches!(be_u32(start, 4), Some(2 | 3));
        let place = be_u32(start, 60).zip(be_u64(start, 64)).filter(|_| is_qcow2);
        let (count, offset) = place.ok_or(SnapshotTableError::NotQcow2)?;
        if count > MAX_SNAPSHOTS {
            return Err(SnapshotTableError::Invalid);
        }
        Ok(Self { offset, count })
    }

    /// Returns whether the image has no snapshots.
    pub const fn is_empty(self) -> bool {
        self.count == 0
    }

    /// Returns how many bytes the table has if its entries are of the usual length.
    pub const fn expected_bytes(self) -> usize {
        self.count as usize * TYPICAL_ENTRY_BYTES
    }

    /// Parses the table, ordered by the IDs of the snapshots as numbers; what follows it is ignored.
    pub fn parse(self, bytes: &[u8]) -> Result<Vec<ImageSnapshot>, SnapshotTableError> {
        let mut snapshots = Vec::new();
        let mut at = 0;
        for _ in 0..self.count {
            let (snapshot, length) = parse_entry(bytes.get(at..).unwrap_or_default())?;
            snapshots.push(snapshot);
            at += length.next_multiple_of(8);
        }
        sort_by_id(&mut snapshots);
        Ok(snapshots)
    }
}

/// Orders snapshots by their IDs as numbers, as they were created.
pub fn sort_by_id(snapshots: &mut [ImageSnapshot]) {
    snapshots.sort_by_cached_key(|snapshot| (snapshot.id.parse::<u64>().unwrap_or(u64::MAX), snapshot.id.clone()));
}

/// Parses one entry, and returns how long it is.
fn parse_entry(entry: &[u8]) -> Result<(ImageSnapshot, usize), SnapshotTableError> {
    let u16_at = |at| be_u16(entry, at).map(usize::from).ok_or(SnapshotTableError::Incomplete);
    let u32_at = |at| be_u32(entry, at).ok_or(SnapshotTableError::Incomplete);
    let u64_at = |at| be_u64(entry, at).ok_or(SnapshotTableError::Incomplete);
    let (id_length, name_length) = (u16_at(12)?, u16_at(14)?);
    let (seconds, nanoseconds) = (u32_at(16)?, u32_at(20)?);
    let vm_clock_nanos = u64_at(24)?;
    let extra_length = u32_at(36)? as usize;
    if extra_length > MAX_EXTRA_BYTES {
        return Err(SnapshotTableError::Invalid);
    }
    let id_at = FIXED_BYTES + extra_length;
    let (name_at, end) = (id_at + id_length, id_at + id_length + name_length);
    let id = entry.get(id_at..name_at).ok_or(SnapshotTableError::Incomplete)?;
    let name = entry.get(name_at..end).ok_or(SnapshotTableError::Incomplete)?;
    let nanoseconds = i32::try_from(nanoseconds).unwrap_or_default();
    let snapshot = ImageSnapshot {
        id: text(id),
        name: text(name),
        // An impossible date in a corrupt image must not hide the snapshot.
        created_at: Timestamp::new(seconds.into(), nanoseconds).unwrap_or(Timestamp::UNIX_EPOCH),
        // 32 bits in the first version.
        vm_state_bytes: if extra_length >= 8 { u64_at(FIXED_BYTES)? } else { u32_at(32)?.into() },
        vm_clock_nanos,
    };
    Ok((snapshot, end))
}

/// Returns a text as QEMU reads it: up to the first NUL, with U+FFFD for what is not UTF-8.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

fn be_u16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at.checked_add(2)?).and_then(|bytes| bytes.try_into().ok()).map(u16::from_be_bytes)
}

fn be_u32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes)
}

fn be_u64(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at.checked_add(8)?).and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn location(count: u32) -> Vec<u8> {
        let mut start = vec![0; LOCATION_BYTES];
        start[..4].copy_from_slice(MAGIC);
        start[7] = 3;
        start[60..64].copy_from_slice(&count.to_be_bytes());
        start[64..].copy_from_slice(&0x5_0000_u64.to_be_bytes());
        start
    }

    fn entry(id: &str, name: &[u8], extra: &[u8]) -> Vec<u8> {
        let mut entry = vec![0; FIXED_BYTES];
        entry[12..14].copy_from_slice(&u16::try_from(id.len()).unwrap().to_be_bytes());
        entry[14..16].copy_from_slice(&u16::try_from(name.len()).unwrap().to_be_bytes());
        entry[16..20].copy_from_slice(&1_795_467_665_u32.to_be_bytes());
        entry[20..24].copy_from_slice(&939_380_000_u32.to_be_bytes());
        entry[24..32].copy_from_slice(&2_000_000_007_u64.to_be_bytes());
        entry[32..36].copy_from_slice(&7_u32.to_be_bytes());
        entry[36..40].copy_from_slice(&u32::try_from(extra.len()).unwrap().to_be_bytes());
        entry.extend(extra);
        entry.extend(id.as_bytes());
        entry.extend(name);
        entry.resize(entry.len().next_multiple_of(8), 0);
        entry
    }

    #[test]
    fn test_table_entries_are_read_and_sorted_by_id() {
        let table = SnapshotTable::locate(&location(2)).unwrap();
        let state = (6_u64 << 32).to_be_bytes();
        let bytes = [entry("10", "ü, b".as_bytes(), &[&state[..], &[0; 16]].concat()), entry("9", b"a", &[])].concat();

        let snapshots = table.parse(&bytes).unwrap();

        let shown = |snapshot: &ImageSnapshot| {
            format!("{} {} {} {}", snapshot.id, snapshot.name, snapshot.vm_state_bytes, snapshot.vm_clock_nanos)
        };
        assert_eq!(table.offset, 0x5_0000);
        assert_eq!(
            snapshots.iter().map(shown).collect::<Vec<_>>(),
            ["9 a 7 2000000007", "10 ü, b 25769803776 2000000007"]
        );
        assert_eq!(snapshots[0].created_at.as_nanosecond(), 1_795_467_665_939_380_000);
    }

    #[test]
    fn test_table_cut_anywhere_is_incomplete() {
        let table = SnapshotTable::locate(&location(2)).unwrap();
        let bytes = [entry("1", b"aaaaaaa", &[0; 24]), entry("2", b"bbbbbbb", &[])].concat();

        for length in 0..bytes.len() {
            assert_eq!(table.parse(&bytes[..length]), Err(SnapshotTableError::Incomplete), "{length}");
        }
        assert_eq!(table.parse(&bytes).unwrap().len(), 2);
    }

    #[test]
    fn test_table_values_that_qemu_refuses_are_invalid() {
        let table = SnapshotTable::locate(&location(1)).unwrap();

        assert_eq!(table.parse(&entry("1", b"a", &[0; 1032])), Err(SnapshotTableError::Invalid));
        assert_eq!(SnapshotTable::locate(&location(65_537)), Err(SnapshotTableError::Invalid));
        assert_eq!(SnapshotTable::locate(b"raw"), Err(SnapshotTableError::NotQcow2));
        assert_eq!(SnapshotTable::locate(&location(1)[..71]), Err(SnapshotTableError::NotQcow2));
    }

    proptest! {
        #[test]
        fn test_parse_any_table_does_not_panic(count in 0_u32..5, bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(snapshots) = SnapshotTable::locate(&location(count)).unwrap().parse(&bytes) {
                prop_assert_eq!(snapshots.len(), count as usize);
            }
        }
    }
}

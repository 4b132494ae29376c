//! Which backup of a drive is incremental, and how much space it takes at most.

use serde::Deserialize;
use serde_json::Value;

use super::name::{BITMAP_PREFIX, directory_prefix};
use super::{BackupCatalog, BackupContent, BackupName, FullReason};

/// How many images a backup may consist of: QEMU opens each of them to read it.
const MAX_CHAIN: usize = 64;

/// The size of a cluster of the images of backups.
const CLUSTER_BYTES: u64 = 64 << 10;

/// A dirty bitmap, as QEMU reports it (`BlockDirtyInfo`, QEMU 7.2).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct DirtyBitmap {
    /// Its name; QEMU's own have none.
    #[serde(default)]
    pub name: String,
    /// How many bytes changed.
    pub count: u64,
    /// Whether it was not stored when the disk was last closed.
    #[serde(default)]
    pub inconsistent: bool,
    /// Whether it records changes.
    pub recording: bool,
    /// Whether a job uses it.
    pub busy: bool,
}

impl DirtyBitmap {
    /// Returns the bitmaps of a block node, of those that `query-named-block-nodes` returned.
    pub fn of_node(node: &Value) -> Vec<Self> {
        let bitmaps = node["dirty-bitmaps"].as_array().into_iter().flatten();
        let bitmaps = bitmaps.filter_map(|bitmap| Self::deserialize(bitmap).ok());
        bitmaps.filter(|bitmap| !bitmap.name.is_empty()).collect()
    }

    /// Returns whether maqet added it.
    pub fn is_ours(&self) -> bool {
        self.name.starts_with(BITMAP_PREFIX)
    }
}

/// What is known of a drive before it is backed up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriveFacts {
    /// Its name.
    pub drive: String,
    /// Its format, as QEMU names it.
    pub format: String,
    /// The size the guest sees, in bytes.
    pub virtual_bytes: u64,
    /// Its bitmaps.
    pub bitmaps: Vec<DirtyBitmap>,
}

/// How a drive is backed up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrivePlan {
    /// What its image will have.
    pub content: BackupContent,
    /// The bitmap with what changed, for an increment.
    pub bitmap: Option<DirtyBitmap>,
}

/// Decides how a drive is backed up to the directory of `catalog`.
pub fn plan_drive(facts: &DriveFacts, catalog: &BackupCatalog, is_full_requested: bool) -> DrivePlan {
    match plan_increment(facts, catalog) {
        _ if is_full_requested => DrivePlan::full(FullReason::Requested),
        Ok((base, bitmap)) => DrivePlan { content: BackupContent::Incremental { base }, bitmap: Some(bitmap) },
        Err(reason) => DrivePlan::full(reason),
    }
}

impl DrivePlan {
    const fn full(reason: FullReason) -> Self {
        Self { content: BackupContent::Full { reason }, bitmap: None }
    }
}

/// Returns the newest backup of which the drive has the bitmap, or why it needs a full backup.
fn plan_increment(facts: &DriveFacts, catalog: &BackupCatalog) -> Result<(BackupName, DirtyBitmap), FullReason> {
    if facts.format != "qcow2" {
        return Err(FullReason::Format);
    }
    let images =
        catalog.backups().iter().rev().filter_map(|backup| catalog.image(&backup.manifest.name, &facts.drive).ok());
    let mut why = FullReason::First;
    for image in images {
        why = FullReason::NoBitmap;
        let name = image.drive.bitmap.as_deref();
        let Some(bitmap) = facts.bitmaps.iter().find(|bitmap| Some(bitmap.name.as_str()) == name) else { continue };
        if bitmap.inconsistent || !bitmap.recording {
            return Err(FullReason::BitmapInvalid);
        }
        if image.drive.virtual_bytes > facts.virtual_bytes {
            return Err(FullReason::Shrunk);
        }
        let base = &image.backup.manifest.name;
        return match catalog.chain(base, &facts.drive) {
            Ok(chain) if chain.len() >= MAX_CHAIN => Err(FullReason::ChainLength),
            Ok(_) => Ok((base.clone(), bitmap.clone())),
            Err(_) => Err(FullReason::BaseChanged),
        };
    }
    // A bitmap of this directory whose backup is gone.
    Err(why)
}

/// Returns the bitmaps of a drive that are of no use once it has a complete backup whose bitmap is `current`: the others
/// that were added for the same directory.
pub fn obsolete_bitmaps<'a>(
    bitmaps: &'a [DirtyBitmap],
    directory: u32,
    current: &'a str,
) -> impl Iterator<Item = &'a str> {
    let prefix = directory_prefix(directory);
    let of_directory = bitmaps.iter().filter(move |bitmap| bitmap.name.starts_with(&prefix) && bitmap.name != current);
    of_directory.map(|bitmap| bitmap.name.as_str())
}

/// Returns how much space an image with `data_bytes` of the content of a disk takes at most.
///
/// The clusters, which may begin and end in the middle of what changed, and the tables: a second-level table for each
/// 512 MiB of the disk, and a block of reference counts for each 2 GiB of the file.
pub const fn target_bytes(virtual_bytes: u64, data_bytes: u64) -> u64 {
    const HEADER_AND_FIRST_TABLES: u64 = 4 * CLUSTER_BYTES;
    let disk = virtual_bytes.next_multiple_of(CLUSTER_BYTES);
    let data = if data_bytes < disk { data_bytes.next_multiple_of(CLUSTER_BYTES) } else { disk };
    let second_tables = disk.div_ceil(512 << 20) * CLUSTER_BYTES;
    let first_table = (disk.div_ceil(512 << 20) * 8).next_multiple_of(CLUSTER_BYTES);
    let counts = (data + second_tables).div_ceil(2 << 30) * CLUSTER_BYTES;
    HEADER_AND_FIRST_TABLES + first_table + second_tables + counts + data
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::sample::{catalog, name};
    use super::super::{bitmap_name, directory_hash};
    use super::*;

    fn bitmap(name: &str) -> DirtyBitmap {
        DirtyBitmap { name: name.to_owned(), count: 0, inconsistent: false, recording: true, busy: false }
    }

    fn facts(bitmaps: Vec<DirtyBitmap>) -> DriveFacts {
        DriveFacts { drive: "hdd".to_owned(), format: "qcow2".to_owned(), virtual_bytes: 1 << 20, bitmaps }
    }

    #[track_caller]
    fn check(facts: &DriveFacts, catalog: &BackupCatalog, expected: Result<u32, FullReason>) {
        let content = match expected {
            Ok(base) => BackupContent::Incremental { base: name(base) },
            Err(reason) => BackupContent::Full { reason },
        };

        assert_eq!(plan_drive(facts, catalog, false).content, content);
    }

    #[test]
    fn test_plan_builds_on_the_newest_backup_with_a_bitmap() {
        let catalog = catalog(&[(1, None), (2, Some(1)), (3, Some(2))]);

        check(&facts(vec![bitmap("b2"), bitmap("b1")]), &catalog, Ok(2));
        check(&facts(vec![bitmap("b3"), bitmap("other")]), &catalog, Ok(3));
        let requested = plan_drive(&facts(vec![bitmap("b3")]), &catalog, true);
        assert_eq!(requested.content, BackupContent::Full { reason: FullReason::Requested });
    }

    #[test]
    fn test_plan_is_full_for_each_reason() {
        let catalog = catalog(&[(1, None), (2, Some(1))]);
        let raw = DriveFacts { format: "raw".to_owned(), ..facts(vec![bitmap("b2")]) };
        let smaller = DriveFacts { virtual_bytes: 1 << 19, ..facts(vec![bitmap("b2")]) };
        let invalid = DirtyBitmap { inconsistent: true, ..bitmap("b2") };
        let mut cut = catalog.clone();
        cut = BackupCatalog::new(cut.backups()[1..].to_vec());

        check(&raw, &catalog, Err(FullReason::Format));
        check(&facts(Vec::new()), &BackupCatalog::default(), Err(FullReason::First));
        check(&facts(vec![bitmap("b9")]), &catalog, Err(FullReason::NoBitmap));
        check(&facts(vec![invalid]), &catalog, Err(FullReason::BitmapInvalid));
        check(&facts(vec![bitmap("b2")]), &cut, Err(FullReason::BaseChanged));
        check(&smaller, &catalog, Err(FullReason::Shrunk));
    }

    #[test]
    fn test_plan_long_chain_is_full() {
        let links: Vec<(u32, Option<u32>)> = (1..=64).map(|index| (index, (index > 1).then(|| index - 1))).collect();

        check(&facts(vec![bitmap("b63")]), &catalog(&links), Ok(63));
        check(&facts(vec![bitmap("b64")]), &catalog(&links), Err(FullReason::ChainLength));
    }

    #[test]
    fn test_obsolete_bitmaps_are_those_of_the_directory() {
        let [here, there] = ["/a", "/b"].map(|path| directory_hash(path.as_bytes()));
        let [old, new, other] =
            [(here, 1), (here, 2), (there, 1)].map(|(directory, index)| bitmap_name(directory, &name(index)));
        let bitmaps = [bitmap(&old), bitmap(&new), bitmap(&other), bitmap("user")];

        let obsolete: Vec<&str> = obsolete_bitmaps(&bitmaps, here, &new).collect();

        assert_eq!(obsolete, [old]);
    }

    #[test]
    fn test_dirty_bitmaps_of_node_are_read() {
        let node = serde_json::json!({ "dirty-bitmaps": [
            { "count": 65536, "granularity": 65536, "recording": true, "busy": false, "persistent": true, "name": "b" },
            { "count": 0, "granularity": 65536, "recording": true, "busy": false, "persistent": false },
        ]});

        let found = DirtyBitmap::of_node(&node);

        assert_eq!(found, [DirtyBitmap { count: 65536, ..bitmap("b") }]);
    }

    proptest! {
        /// As `qemu-img measure` 7.2 computes it, and with at least as much.
        #[test]
        fn test_target_bytes_holds_data_and_tables(disk in 1_u64..1 << 44, data in 0_u64..1 << 44) {
            let data = data.min(disk);
            let bytes = target_bytes(disk, data);

            prop_assert!(bytes >= data + disk.div_ceil(512 << 20) * CLUSTER_BYTES);
            prop_assert!(bytes <= target_bytes(disk, disk));
        }
    }
}

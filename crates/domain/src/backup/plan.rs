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

//! What is recorded of a backup, in its directory.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::BackupName;
use crate::config::Node;
use crate::vm::{VmId, VmName};

/// The file in the directory of a backup that records what it has.
pub const MANIFEST_FILE: &str = "backup.json";

/// The version of the format of the manifest.
pub const MANIFEST_FORMAT: u32 = 1;

/// What a backup has; the content of [`MANIFEST_FILE`], which is written last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BackupManifest {
    /// The version of this format.
    pub format: u32,
    /// The name of the backup.
    pub name: BackupName,
    /// When it was made: the content of all drives is that of this moment.
    pub created_at: Timestamp,
    /// The VM.
    pub vm: BackupVm,
    /// Whether the VM was running.
    pub source: BackupSource,
    /// The version of the QEMU that made it.
    pub qemu: String,
    /// The drives, in the order of the definition.
    pub drives: Vec<BackedUpDrive>,
    /// The definition of the VM.
    pub definition: Node,
}

/// The VM of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupVm {
    /// Its ID.
    pub id: VmId,
    /// Its name at that time.
    pub name: VmName,
}

/// Whether the VM was running when a backup was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::Display, strum::IntoStaticStr)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum BackupSource {
    /// It was: the disks are as after a power failure at that moment.
    Running,
    /// It was not.
    Stopped,
}

/// A drive of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackedUpDrive {
    /// The name of the drive; `uefi-vars` for the UEFI variable store.
    pub drive: String,
    /// The image in the directory of the backup, a qcow2.
    pub file: String,
    /// Where the disk was.
    pub disk: PathBuf,
    /// The format of the disk, as QEMU names it.
    pub format: String,
    /// The size the guest saw, in bytes.
    pub virtual_bytes: u64,
    /// What the image has.
    #[serde(flatten)]
    pub content: BackupContent,
    /// The bitmap in the disk that records what changes from then on; none in a disk that cannot have one.
    pub bitmap: Option<String>,
    /// The length of the image, in bytes.
    pub file_bytes: u64,
    /// The CRC-32 (ISO-HDLC) of the image.
    pub crc32: u32,
}

impl BackedUpDrive {
    /// Returns the backup it builds on, if it is incremental.
    pub const fn base(&self) -> Option<&BackupName> {
        match &self.content {
            BackupContent::Full { .. } => None,
            BackupContent::Incremental { base } => Some(base),
        }
    }
}

/// What the image of a drive has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum BackupContent {
    /// All data.
    Full {
        /// Why not only what changed.
        reason: FullReason,
    },
    /// What changed since an earlier backup.
    Incremental {
        /// That backup.
        base: BackupName,
    },
}

/// Why a backup of a drive is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::Display, strum::IntoStaticStr)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum FullReason {
    /// It was requested.
    Requested,
    /// It is the first one in its directory.
    First,
    /// The format of the disk has no bitmaps.
    Format,
    /// The disk has no bitmap of an earlier backup: QEMU did not end cleanly, or the disk was rewritten.
    NoBitmap,
    /// The bitmap of the disk is not valid: QEMU did not end cleanly.
    BitmapInvalid,
    /// The backup that the bitmap belongs to is missing or was changed.
    BaseChanged,
    /// The disk is smaller than in the backup that the bitmap belongs to.
    Shrunk,
    /// There are too many increments since the last full one.
    ChainLength,
    /// A newer maqet knows why.
    #[serde(other)]
    Other,
}

impl FullReason {
    /// Describes it, as in `it is the first one`.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Requested => "it was requested",
            Self::First => "it is the first one",
            Self::Format => "its format cannot record changes",
            Self::NoBitmap => {
                "the disk has no record of what changed: QEMU did not end cleanly, or the disk was rewritten"
            }
            Self::BitmapInvalid => "the record of what changed is not valid: QEMU did not end cleanly",
            Self::BaseChanged => "the backup before is missing or was changed",
            Self::Shrunk => "the disk is smaller than before",
            Self::ChainLength => "there are many increments since the last full one",
            Self::Other => "of a reason of a newer maqet",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_content_is_flat_in_the_manifest() {
        let base = BackupName::parse("20261129T235304Z").unwrap();
        let contents = [BackupContent::Incremental { base }, BackupContent::Full { reason: FullReason::BitmapInvalid }];

        let texts = contents.clone().map(|content| serde_json::to_string(&content).unwrap());

        assert_eq!(texts[0], r#"{"kind":"incremental","base":"20261129T235304Z"}"#);
        assert_eq!(texts[1], r#"{"kind":"full","reason":"bitmap-invalid"}"#);
        assert_eq!(texts.map(|text| serde_json::from_str::<BackupContent>(&text).unwrap()), contents);
    }

    #[test]
    fn test_full_reason_of_newer_maqet_is_other() {
        assert_eq!(serde_json::from_str::<FullReason>(r#""magic""#).unwrap(), FullReason::Other);
    }
}

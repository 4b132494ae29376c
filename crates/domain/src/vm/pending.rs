//! Work on the images of a VM that takes several steps, recorded before the first of them.
//!
//! An operation commits a [`Pending`] before its first step and clears it with its last commit, all under the lock of
//! the VM. An operation that locks the VM and finds one knows that the process of the other operation died, and finishes
//! the work or rolls it back before anything else. A single step that is complete or did not happen needs none.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::DriveLayers;
use super::run::{BootNumber, Run, RunPaths};
use crate::network::Forward;
use crate::storage::FileId;

/// Work on the images of a VM that was begun and is not finished.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pending {
    /// The operation, as in `snapshot.create`.
    pub operation: String,
    /// When it began.
    pub since: Timestamp,
    /// The work.
    pub work: PendingWork,
}

/// The kinds of work, each with what is needed to finish it or to roll it back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum PendingWork {
    /// Snapshots of images are created; rolled back.
    SnapshotCreate {
        /// The snapshots, none of which existed before.
        created: Vec<ImageTag>,
        /// Whether a running QEMU creates them.
        #[serde(default)]
        live: bool,
        /// Whether the file systems of the guest are frozen meanwhile.
        #[serde(default)]
        quiesced: bool,
    },
    /// Snapshots of images are removed; finished.
    SnapshotRemove {
        /// The snapshots.
        removed: Vec<ImageTag>,
    },
    /// Images are reverted to snapshots, once all safety snapshots exist; rolled back by these.
    SnapshotLoad {
        /// The images, each with the snapshot that is loaded.
        loaded: Vec<ImageTag>,
        /// The snapshots of their states before, in the same order.
        safety: Vec<ImageTag>,
        /// What becomes of the guest.
        #[serde(default)]
        guest: LoadGuest,
    },
    /// The image of a drive is written to another file; rolled back: that file is removed.
    StorageConvert {
        /// The new file.
        path: PathBuf,
        /// Which file it is, once it is complete: another one at that path is not removed.
        file: Option<FileId>,
    },
    /// The image of a drive is changed in place, or replaced in one step by a file that is written beside it; either was
    /// done or not.
    ImageRewrite {
        /// The image.
        path: PathBuf,
    },
    /// Images are moved to the trash, because the VM is removed; moved back.
    Trash {
        /// The entry of the trash, which describes the images; without it, none was moved yet.
        entry: String,
    },
    /// Drives are backed up; rolled back, unless the backup is complete.
    Backup {
        /// The directory of the unfinished backup.
        unfinished: PathBuf,
        /// Its directory once it is complete.
        complete: PathBuf,
        /// The bitmap that is added to each drive.
        bitmap: String,
        /// The block nodes of the drives, each with its image.
        drives: Vec<(String, PathBuf)>,
        /// Whether the file systems of the guest are frozen at its beginning.
        #[serde(default)]
        quiesced: bool,
    },
    /// Images are replaced by those of a backup; rolled back until all are in place, and then finished.
    Restore {
        /// The images.
        images: Vec<ReplacedImage>,
        /// Whether all are in place: the old ones are then removed.
        are_in_place: bool,
    },
    /// A checkpoint of the running VM is taken; finished if its memory is complete, else rolled back.
    CheckpointCreate(Box<CheckpointWork>),
    /// Checkpoints are removed, and layers are merged into the images below them; finished.
    CheckpointRemove {
        /// The directories of the checkpoints.
        checkpoints: Vec<PathBuf>,
        /// The layers that are merged, in this order.
        layers: Vec<MergedLayer>,
        /// Whether the guest runs, and is paused for a moment.
        resumes: bool,
        /// The layers that are removed with all they have.
        #[serde(default)]
        dropped: Vec<DroppedLayer>,
    },
    /// A VM goes back to a checkpoint; rolled back until the new QEMU has loaded it, and then finished.
    CheckpointRestore(Box<RestoreWork>),
    /// The running guest is put into another QEMU; finished if that is recorded as the run, else rolled back.
    Upgrade(Box<UpgradeWork>),
    /// Work of a newer maqet.
    #[serde(other)]
    Unknown,
}

impl PendingWork {
    /// Returns whether it may have left the file systems of the guest frozen.
    pub const fn is_quiesced(&self) -> bool {
        matches!(self, Self::SnapshotCreate { quiesced: true, .. } | Self::Backup { quiesced: true, .. })
    }
}

/// A checkpoint that is taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckpointWork {
    /// The directory of the unfinished checkpoint.
    pub partial: PathBuf,
    /// Its directory once it is complete.
    pub complete: PathBuf,
    /// The layers to which the guest writes from then on.
    pub layers: Vec<NewLayer>,
    /// Whether the guest runs, and is paused for the moment of the checkpoint.
    pub resumes: bool,
    /// What QEMU reported of its last migration before, which is not that of the checkpoint.
    pub earlier: Value,
    /// The RAM block that is the memory of the guest.
    pub memory: String,
    /// The limit of how fast QEMU writes that was set before, in bytes a second.
    pub bandwidth: Option<u64>,
    /// Whether the files are on disk once the checkpoint is complete.
    #[serde(default)]
    pub is_durable: bool,
    /// The manifest, as far as it is known.
    pub draft: Value,
}

/// A running guest that is put into another QEMU.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UpgradeWork {
    /// The run of the QEMU that it was in.
    pub before: Run,
    /// Where the files of the other QEMU are: the run of the VM once it has taken over.
    pub paths: RunPaths,
    /// Whether the guest runs, and is paused for the switch.
    pub resumes: bool,
    /// The ports that are forwarded, each with its network card.
    pub forwards: Vec<(String, Forward)>,
    /// The limit of how fast QEMU writes that was set before, in bytes a second.
    pub bandwidth: Option<u64>,
}

/// A layer that is put on an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewLayer {
    /// The drive.
    pub drive: String,
    /// The image that the definition names.
    pub base: PathBuf,
    /// The layer.
    pub path: PathBuf,
    /// Its number, and its position among the layers of the checkpoint: they name its block nodes.
    pub number: u32,
    /// See `number`.
    pub position: usize,
}

/// A layer that is merged into the image below it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MergedLayer {
    /// The drive.
    pub drive: String,
    /// The layer.
    pub path: PathBuf,
    /// Which file it is; another one is not removed.
    pub file: Option<FileId>,
    /// The image below it.
    pub below: PathBuf,
}

/// A layer that no drive and no checkpoint needs any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DroppedLayer {
    /// The drive.
    pub drive: String,
    /// The layer.
    pub path: PathBuf,
    /// Which file it is; another one is not removed. `None` if there is none.
    pub file: Option<FileId>,
}

/// A VM that goes back to a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreWork {
    /// The new layers, which begin as the disks of the checkpoint.
    pub created: Vec<NewLayer>,
    /// The layers of all drives from then on.
    pub layers: Vec<DriveLayers>,
    /// The layers that are not needed then.
    pub dropped: Vec<DroppedLayer>,
    /// The UEFI variable store, which a copy of that of the checkpoint replaces.
    pub variables: Option<ReplacedVariables>,
    /// The boot that goes on from the checkpoint.
    pub boot: BootNumber,
    /// Whether the guest ran before, and runs on if nothing comes of it.
    pub ran: bool,
    /// Whether the guest runs from then on.
    pub runs: bool,
    /// Whether the new QEMU has loaded the state: what it was before is given up.
    pub is_loaded: bool,
}

/// A UEFI variable store that another one replaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplacedVariables {
    /// Its path.
    pub path: PathBuf,
    /// Which file it is; `None` if there is none.
    pub old: Option<FileId>,
    /// Where it is kept meanwhile.
    pub kept: PathBuf,
    /// Where the new one is until then.
    pub new: PathBuf,
}

/// What becomes of the guest of a VM whose images are reverted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LoadGuest {
    /// The VM is not running.
    #[default]
    Off,
    /// It stays paused.
    StaysPaused,
    /// It is paused for the load, and runs afterwards.
    Resumes,
}

/// A snapshot inside an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageTag {
    /// The drive.
    pub drive: String,
    /// The image.
    pub path: PathBuf,
    /// The name of the snapshot inside the image.
    pub tag: String,
}

/// An image that another one replaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplacedImage {
    /// Its path, without symbolic links.
    pub path: PathBuf,
    /// Where the old image is kept meanwhile; `None` if there was none.
    pub kept: Option<PathBuf>,
    /// Which file the old image is; another one is neither moved nor removed.
    #[serde(default)]
    pub old: Option<FileId>,
    /// Which file the new image is; another one is not removed.
    #[serde(default)]
    pub new: Option<FileId>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_pending_unknown_work_is_read() {
        let text = r#"{"operation":"x","since":"2026-11-29T00:00:00Z","work":{"kind":"of-the-future","step":[1]}}"#;

        let pending: Pending = serde_json::from_str(text).unwrap();

        assert_eq!(pending.work, PendingWork::Unknown);
    }
}

//! A backup, as scripts see it.

use maqet_domain::Timestamp;
use maqet_domain::backup::{BackupCatalog, BackupContent, FoundBackup};
use serde::Serialize;

use crate::app::shown;

/// A backup, as scripts see it.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct BackupInfo {
    /// Its name: when it was made, in UTC.
    pub name: String,
    /// The moment of which it has the disks.
    pub created_at: Timestamp,
    /// Whether the VM was `running` or `stopped`.
    pub source: &'static str,
    /// `full` if no drive builds on an earlier backup, else `incremental`.
    pub kind: &'static str,
    /// Its directory.
    pub directory: String,
    /// How long its images are, in bytes.
    pub bytes: u64,
    /// Its drives.
    pub drives: Vec<BackupDriveInfo>,
    /// Why it cannot be restored; omitted if all its images, and those they build on, are there.
    pub problem: Option<String>,
}

/// A drive of a backup.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct BackupDriveInfo {
    /// Its name; `uefi-vars` for the UEFI variable store.
    pub drive: String,
    /// `full` or `incremental`.
    pub kind: &'static str,
    /// The backup it builds on.
    pub base: Option<String>,
    /// Why it is full: `requested`, `first`, `format`, `no-bitmap`, `bitmap-invalid`, `base-changed`, `shrunk`,
    /// `chain-length` or `other`.
    pub reason: Option<&'static str>,
    /// Describes the reason.
    #[serde(skip)]
    pub reason_text: Option<&'static str>,
    /// The size the guest saw, in bytes.
    pub virtual_bytes: u64,
    /// How long the image is, in bytes.
    pub bytes: u64,
}

/// A directory that is named as a backup and has no valid record of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct UnreadableBackup {
    /// The directory.
    pub directory: String,
    /// What is wrong with it.
    pub problem: String,
}

impl BackupInfo {
    pub(super) fn new(backup: &FoundBackup, catalog: &BackupCatalog) -> Self {
        let manifest = &backup.manifest;
        let drives: Vec<BackupDriveInfo> = manifest
            .drives
            .iter()
            .map(|drive| {
                let (kind, base, reason) = match &drive.content {
                    BackupContent::Full { reason } => ("full", None, Some(*reason)),
                    BackupContent::Incremental { base } => ("incremental", Some(base.to_string()), None),
                };
                BackupDriveInfo {
                    drive: drive.drive.clone(),
                    kind,
                    base,
                    reason: reason.map(Into::into),
                    reason_text: reason.map(maqet_domain::backup::FullReason::describe),
                    virtual_bytes: drive.virtual_bytes,
                    bytes: drive.file_bytes,
                }
            })
            .collect();
        let mut problems = manifest.drives.iter().filter_map(|drive| catalog.chain(&manifest.name, &drive.drive).err());
        Self {
            name: manifest.name.to_string(),
            created_at: manifest.created_at,
            source: manifest.source.into(),
            kind: if drives.iter().all(|drive| drive.kind == "full") { "full" } else { "incremental" },
            directory: shown(&backup.directory),
            bytes: drives.iter().map(|drive| drive.bytes).sum(),
            problem: problems.next().map(|problem| problem.to_string()),
            drives,
        }
    }
}

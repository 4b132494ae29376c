//! What the path of a drive names on the host, which decides how QEMU opens it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// What the path of a drive names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum FileKind {
    /// A regular file, or nothing yet.
    #[default]
    Regular,
    /// A block device: a disk, a partition, a volume of LVM or ZFS, a loop device.
    BlockDevice,
    /// A drive for CDs or DVDs.
    CdDrive,
}

impl FileKind {
    /// Returns the driver of QEMU that opens it; each refuses the others' files (7.2, 10.0).
    pub const fn driver(self) -> &'static str {
        match self {
            Self::Regular => "file",
            Self::BlockDevice => "host_device",
            Self::CdDrive => "host_cdrom",
        }
    }
}

/// The file of a drive, as QEMU opens it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostFile<'a> {
    /// Its path.
    pub path: &'a str,
    /// What it is.
    pub kind: FileKind,
}

impl<'a> HostFile<'a> {
    /// A regular file.
    pub const fn regular(path: &'a str) -> Self {
        Self { path, kind: FileKind::Regular }
    }
}

/// The files of drives that are not regular.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileKinds(HashMap<PathBuf, FileKind>);

impl FileKinds {
    /// Adds a file.
    pub fn insert(&mut self, path: PathBuf, kind: FileKind) {
        if kind != FileKind::Regular {
            self.0.insert(path, kind);
        }
    }

    /// Returns what a path names.
    pub fn kind(&self, path: &Path) -> FileKind {
        self.0.get(path).copied().unwrap_or_default()
    }
}

//! What an inverse expects to find.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::Node;
use crate::size::ByteSize;
use crate::snapshot::ImageSnapshot;
use crate::storage::FileId;
use crate::text::stable_hash;
use crate::vm::{BootNumber, ImageTag, Vm, VmId, VmName};

/// A digest of a definition, to tell another one from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DefinitionDigest(String);

impl DefinitionDigest {
    /// Returns the digest of a definition: a hash of its JSON, which must not find out more than changes.
    pub fn new(definition: &Node) -> Self {
        let json = serde_json::to_vec(definition).unwrap_or_default();
        Self(format!("{:016x}", stable_hash(&json)))
    }
}

/// An image as a change left it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectedImage {
    /// Its path.
    pub path: PathBuf,
    /// Which file it is; `None` for any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<FileId>,
    /// The format, which the size is read with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// The size that the guest sees; `None` for any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<ByteSize>,
    /// When it was last written; `None` for any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified: Option<Timestamp>,
    /// The size that it gets, and may have already, as an earlier try may have been killed.
    ///
    /// An image that was written since may get smaller as long as nothing is behind this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub becomes: Option<ByteSize>,
    /// The image that it was copied from: it may be another file, and may have been written since, as long as it has the
    /// same content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copied_from: Option<CopySource>,
}

/// An image that another one was copied from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CopySource {
    /// Its path.
    pub path: PathBuf,
    /// Its format.
    pub format: String,
}

impl ExpectedImage {
    /// Expects an image at a path, whatever it is.
    pub const fn new(path: PathBuf) -> Self {
        Self { path, file: None, format: None, size: None, modified: None, becomes: None, copied_from: None }
    }
}

/// A snapshot inside an image as a change left it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpectedSnapshot {
    /// Where it is, and its name there.
    #[serde(flatten)]
    pub tag: ImageTag,
    /// Which one it is, to tell one of the same name that was created later from it.
    ///
    /// `None` for the state of a TPM, which is created and removed together with those of disks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made: Option<SnapshotIdentity>,
}

/// Which snapshot of an image it is, whatever its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotIdentity {
    /// QEMU's id for it inside the image, which is given again once the snapshot is removed.
    pub id: String,
    /// When it was created.
    pub created_at: Timestamp,
}

impl ExpectedSnapshot {
    /// Expects this snapshot of an image.
    pub fn of_image(tag: ImageTag, snapshot: &ImageSnapshot) -> Self {
        let made = SnapshotIdentity { id: snapshot.id.clone(), created_at: snapshot.created_at };
        Self { tag, made: Some(made) }
    }

    /// Returns whether a snapshot of the image is the expected one.
    pub fn is(&self, found: &ImageSnapshot) -> bool {
        let is_made = |made: &SnapshotIdentity| made.id == found.id && made.created_at == found.created_at;
        self.tag.tag == found.name && self.made.as_ref().is_some_and(is_made)
    }

    /// Checks the snapshots of its image, of which it is one.
    pub fn check(&self, table: &[ImageSnapshot]) -> Result<(), Unexpected> {
        let (drive, tag) = (|| self.tag.drive.clone(), || self.tag.tag.clone());
        match table.iter().find(|found| found.name == self.tag.tag) {
            None => Err(Unexpected::SnapshotGone { drive: drive(), tag: tag() }),
            Some(found) if !self.is(found) => Err(Unexpected::SnapshotReplaced { drive: drive(), tag: tag() }),
            Some(_) => Ok(()),
        }
    }
}

/// What a call that reverts a change expects to find.
///
/// It is checked under the lock of the VM, so that nothing changes after the check.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// The VM; `None` if there must be none of [`free_name`](Self::free_name).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm: Option<VmId>,
    /// A name that no VM has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free_name: Option<VmName>,
    /// The definition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<DefinitionDigest>,
    /// The number of the last run, 0 for none: that the VM was not started since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<BootNumber>,
    /// Whether the VM must not be running.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stopped: bool,
    /// Images.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<ExpectedImage>,
    /// Paths where nothing is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub free_paths: Vec<PathBuf>,
    /// Snapshots in images.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub snapshots: Vec<ExpectedSnapshot>,
    /// An entry of the trash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trash: Option<String>,
}

/// What is otherwise than expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum Unexpected {
    #[error("VM `{id}` was removed since")]
    Removed { id: VmId },
    #[error("another VM has the name `{name}` now")]
    NameTaken { name: VmName },
    #[error("the definition of VM `{vm}` was changed since")]
    Redefined { vm: VmName },
    #[error("VM `{vm}` is running")]
    Running { vm: VmName },
    #[error("VM `{vm}` was started since, at {at}")]
    Started { vm: VmName, at: Timestamp },
    #[error("VM `{vm}` was removed since, and defined again")]
    NeverStarted { vm: VmName },
    #[error("disk image `{}` does not exist any more", path.display())]
    ImageGone { path: PathBuf },
    #[error("disk image `{}` was replaced by another file since", path.display())]
    ImageReplaced { path: PathBuf },
    #[error("disk image `{}` was changed since", path.display())]
    ImageChanged { path: PathBuf },
    #[error("disk image `{}` was resized since: it has {found}, not {expected}", path.display())]
    ImageResized { path: PathBuf, expected: ByteSize, found: ByteSize },
    #[error("disk image `{}` belongs to another VM now", path.display())]
    ImageTaken { path: PathBuf },
    #[error("snapshot `{tag}` of drive `{drive}` does not exist any more")]
    SnapshotGone { drive: String, tag: String },
    #[error("snapshot `{tag}` of drive `{drive}` was removed since, and created again")]
    SnapshotReplaced { drive: String, tag: String },
    #[error("`{}` exists", path.display())]
    PathTaken { path: PathBuf },
    #[error("entry `{entry}` of the trash does not exist any more")]
    TrashEntryGone { entry: String },
}

impl Expected {
    /// Expects a VM of this definition.
    pub fn vm(vm: &Vm) -> Self {
        Self { vm: Some(vm.entry.id), ..Self::default() }.with_definition(&vm.definition)
    }

    /// Expects this definition, too.
    #[must_use]
    pub fn with_definition(self, definition: &Node) -> Self {
        Self { definition: Some(DefinitionDigest::new(definition)), ..self }
    }

    /// Expects that the VM is not running and was not started since.
    #[must_use]
    pub fn not_started_since(self, vm: &Vm) -> Self {
        Self { boot: Some(boot_of(vm)), stopped: true, ..self }
    }

    /// Checks what is known of a VM.
    pub fn check_vm(&self, vm: &Vm) -> Result<(), Unexpected> {
        let name = || vm.entry.name.clone();
        if self.boot.is_some_and(|boot| boot != boot_of(vm)) {
            return Err(match &vm.entry.run {
                Some(run) => Unexpected::Started { vm: name(), at: run.started_at },
                None => Unexpected::NeverStarted { vm: name() },
            });
        }
        if self.definition.as_ref().is_some_and(|digest| *digest != DefinitionDigest::new(&vm.definition)) {
            return Err(Unexpected::Redefined { vm: name() });
        }
        Ok(())
    }
}

fn boot_of(vm: &Vm) -> BootNumber {
    vm.entry.run.as_ref().map_or(BootNumber(0), |run| run.boot)
}

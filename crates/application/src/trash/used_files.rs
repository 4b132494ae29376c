//! Who uses which file: drives and checkpoints of VMs with their backing files, images without a VM, and images in the
//! trash.
//!
//! A VM whose definition is invalid counts with the files that it names and those that are recorded for it. VMs of other
//! databases in the same directories count, too, as do VMs that the database lost.

use std::fmt;
use std::path::{Path, PathBuf};

use maqet_domain::checkpoint::{CheckpointName, FrozenDisk};
use maqet_domain::config::Node;
use maqet_domain::port::{FoundCheckpoint, ImageUse};
use maqet_domain::storage::{FileId, ImageAccess};
use maqet_domain::trash::{TrashEntry, TrashId};
use maqet_domain::vm::{Vm, VmId, VmName};
use serde::Serialize;

use super::own_images::unused_images;
use crate::start::firmware::VARIABLES_NAME;
use crate::start::tpm::{TPM_NAME, copy_path, copy_tags};
use crate::{App, Error};

/// What uses a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum FileUser {
    /// A drive of a VM.
    Drive {
        /// The VM.
        vm: VmName,
        /// The drive, or `uefi-vars` for the UEFI variable store.
        drive: String,
    },
    /// A checkpoint of a VM.
    Checkpoint {
        /// The VM.
        vm: VmName,
        /// The checkpoint.
        checkpoint: CheckpointName,
    },
    /// An image that no VM uses.
    Image {
        /// Where it is.
        path: PathBuf,
    },
    /// An image in the trash.
    Trash {
        /// The entry.
        entry: TrashId,
        /// The VM that it was of.
        vm: VmName,
    },
}

/// A file and what uses it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct FileUse {
    /// The file.
    pub path: PathBuf,
    /// Whether it is a backing file, and not the image itself.
    pub is_backing: bool,
    /// What uses it.
    pub user: FileUser,
}

impl fmt::Display for FileUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drive { vm, drive } => write!(f, "drive `{drive}` of VM `{vm}`"),
            Self::Checkpoint { vm, checkpoint } => write!(f, "checkpoint `{checkpoint}` of VM `{vm}`"),
            Self::Image { path } => write!(f, "disk image `{}`", path.display()),
            Self::Trash { entry, vm } => write!(f, "entry `{entry}` of the trash (VM `{vm}`)"),
        }
    }
}

impl fmt::Display for FileUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = if self.is_backing { "a backing file" } else { "the image" };
        write!(f, "`{}` is {role} of {}", self.path.display(), self.user)
    }
}

/// A file that is used, by the path of its user.
struct UsedFile {
    path: PathBuf,
    /// The path without symbolic links.
    resolved: PathBuf,
    file: Option<FileId>,
    is_backing: bool,
    user: FileUser,
}

/// The files in use.
pub(crate) struct UsedFiles<'a> {
    app: &'a App,
    files: Vec<UsedFile>,
}

impl<'a> UsedFiles<'a> {
    /// Finds the files that all VMs use, except for `except`.
    pub(crate) async fn of_vms(app: &'a App, except: Option<&VmId>) -> Result<Self, Error> {
        let mut used = Self { app, files: Vec::new() };
        for vm in app.ports.store.vms().await?.iter().filter(|vm| except != Some(&vm.entry.id)) {
            used.add_vm(vm).await?;
        }
        let missing = app.ports.maintenance.missing_vms().await?;
        for copy in app.ports.maintenance.copies.of_other_databases().await.into_iter().chain(missing) {
            if except != Some(&copy.vm.entry.id) {
                used.add_vm(&copy.vm).await?;
            }
        }
        Ok(used)
    }

    /// Finds the files that everything else than a drive of a VM uses: other drives, images without a VM, the trash.
    pub(crate) async fn of_all_but(app: &'a App, vm: &Vm, name: &str) -> Result<Self, Error> {
        let mut used = Self::of_vms(app, Some(&vm.entry.id)).await?;
        let others = used.files.len();
        used.add_vm(vm).await?;
        // Images are without a VM only if this drive does not use them, either.
        let unused = unused_images(app, &used).await?;
        let drive = FileUser::Drive { vm: vm.entry.name.clone(), drive: name.to_owned() };
        let of_vm = used.files.split_off(others);
        used.files.extend(of_vm.into_iter().filter(|file| file.user != drive));
        used.add_images(&unused).await;
        used.add_trash(&app.ports.trash.entries().await?).await;
        Ok(used)
    }

    /// Finds the files that everything else than a VM uses: other VMs, images without a VM, the trash.
    pub(crate) async fn of_all_but_vm(app: &'a App, vm: &VmId) -> Result<Self, Error> {
        let mut used = Self::of_vms(app, Some(vm)).await?;
        // Images are without a VM only if this one does not use them, either.
        let unused = unused_images(app, &Self::of_vms(app, None).await?).await?;
        used.add_images(&unused).await;
        used.add_trash(&app.ports.trash.entries().await?).await;
        Ok(used)
    }

    /// Adds the disks of checkpoints of a VM, and what they build on.
    pub(crate) async fn add_checkpoints(&mut self, vm: &VmName, checkpoints: &[FoundCheckpoint]) {
        for FoundCheckpoint { manifest, .. } in checkpoints {
            let user = FileUser::Checkpoint { vm: vm.clone(), checkpoint: manifest.name.clone() };
            for FrozenDisk { file, format, .. } in &manifest.disks {
                let image = ImageUse { path: file.clone(), format: Some(format.clone()), access: ImageAccess::Read };
                self.add_chain(image, 0, &user).await;
            }
        }
    }

    /// Adds the backing files of images that no VM uses.
    pub(crate) async fn add_images(&mut self, images: &[PathBuf]) {
        for path in images {
            self.add_chain(image(path), 1, &FileUser::Image { path: path.clone() }).await;
        }
    }

    /// Adds the backing files of images in the trash.
    pub(crate) async fn add_trash(&mut self, entries: &[TrashEntry]) {
        for entry in entries {
            let user = FileUser::Trash { entry: entry.id.clone(), vm: entry.vm.name.clone() };
            for moved in &entry.images {
                self.add_chain(image(&moved.trash), 1, &user).await;
            }
        }
    }

    /// Returns the uses of a file, by its path and by what is there.
    pub(crate) async fn uses_of(&self, path: &Path) -> Vec<FileUse> {
        let found = self.app.ports.image_tools.identify(path).await;
        let (resolved, file) = match found {
            Some((resolved, file)) => (resolved, Some(file)),
            None => (self.app.ports.paths.resolve(path).await, None),
        };
        let is_it = |used: &&UsedFile| used.resolved == resolved || (file.is_some() && used.file == file);
        let found = self.files.iter().filter(is_it);
        found
            .map(|used| FileUse { path: path.to_owned(), is_backing: used.is_backing, user: used.user.clone() })
            .collect()
    }

    async fn add_vm(&mut self, vm: &Vm) -> Result<(), Error> {
        let app = self.app;
        let name = &vm.entry.name;
        let listing = app.ports.checkpoints.list(&app.folders.vm_checkpoints(&vm.entry.id)).await?;
        // After a restore, the drives may not build on them any more.
        self.add_checkpoints(name, &listing.checkpoints).await;
        let drive = |drive: &str| FileUser::Drive { vm: name.clone(), drive: drive.to_owned() };
        self.add_file(app.preflight().uefi_variables(name), drive(VARIABLES_NAME)).await;
        let tpm = app.preflight().tpm_state(name);
        let copies = copy_tags(&*app.ports.images, &tpm).await?;
        for path in copies.iter().map(|tag| copy_path(&tpm, tag)).chain([tpm.clone()]) {
            self.add_file(path, drive(TPM_NAME)).await;
        }
        let Ok(machine) = app.machine(vm) else {
            for (file, named) in named_files(&vm.definition) {
                self.add_file(file, drive(&named)).await;
            }
            for record in app.ports.store.storage_of_vm(&vm.entry.id).await? {
                self.add_file(record.path, drive(&record.drive)).await;
            }
            return Ok(());
        };
        for found in app.preflight().drives(name, &machine) {
            let user = drive(found.storage.name.as_str());
            if let Some(image) = found.image_use() {
                self.add_chain(image, 0, &user).await;
            }
            // An image that does not exist yet has no chain.
            if let Some(backing) = found.plan().and_then(|plan| plan.backing.as_ref()) {
                self.add_backing(backing.file.clone(), user).await;
            }
        }
        Ok(())
    }

    /// Adds the files of a chain from the `first` on.
    async fn add_chain(&mut self, image: ImageUse, first: usize, user: &FileUser) {
        for (position, link) in self.app.ports.image_tools.chain(&image).await.into_iter().enumerate().skip(first) {
            let resolved = self.app.ports.paths.resolve(&link.path).await;
            let is_backing = position > 0;
            self.files.push(UsedFile { path: link.path, resolved, file: link.file, is_backing, user: user.clone() });
        }
    }

    async fn add_file(&mut self, path: PathBuf, user: FileUser) {
        self.add(path, false, user).await;
    }

    async fn add_backing(&mut self, path: PathBuf, user: FileUser) {
        let is_known = |used: &UsedFile| used.path == path && used.user == user;
        if !self.files.iter().any(is_known) {
            self.add(path, true, user).await;
        }
    }

    async fn add(&mut self, path: PathBuf, is_backing: bool, user: FileUser) {
        let resolved = self.app.ports.paths.resolve(&path).await;
        let file = self.app.ports.image_tools.identify(&path).await.map(|(_, file)| file);
        self.files.push(UsedFile { path, resolved, file, is_backing, user });
    }
}

/// Returns an image whose format its content tells.
fn image(path: &Path) -> ImageUse {
    ImageUse { path: path.to_owned(), format: None, access: ImageAccess::Read }
}

/// Returns the files that the entries of `storage` name, with the names of the entries.
fn named_files(definition: &Node) -> Vec<(PathBuf, String)> {
    let entries = definition.get("storage").map(Node::items).unwrap_or_default();
    let named = |entry: &Node| {
        let name = entry.get("name").and_then(Node::written).unwrap_or_default();
        let files = ["file", "backing_file"].into_iter().filter_map(|key| entry.get(key)?.written());
        files.map(|file| (PathBuf::from(file), name.clone())).collect::<Vec<_>>()
    };
    entries.iter().flat_map(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_file_use_names_file_role_and_user() {
        let user = FileUser::Drive { vm: "clone".parse().unwrap(), drive: "hdd".to_owned() };

        let text = FileUse { path: "/d/base.qcow2".into(), is_backing: true, user }.to_string();

        assert_eq!(text, "`/d/base.qcow2` is a backing file of drive `hdd` of VM `clone`");
    }
}

//! Checks the disks of a VM: files that must exist, as maqet does not create them.

use std::path::PathBuf;

use maqet_domain::config::{Node, Problem};
use maqet_domain::machine::Machine;
use maqet_domain::port::{ImageError, PathKind};
use maqet_domain::storage::{ImagePlan, Preparation};
use maqet_domain::vm::VmEntry;

use super::preflight::Preflight;
use crate::Error;

impl Preflight<'_> {
    /// Checks the files that must exist, so that no disk is created for a start that would fail.
    pub(crate) async fn check_disks(&self, entry: &VmEntry, machine: &Machine) -> Result<(), Error> {
        let vm_storage = self.folders.vm_storage(&entry.name);
        let mut created: Vec<PathBuf> = Vec::new();
        for storage in &machine.storage {
            let path = storage.path(&vm_storage);
            let preparation = storage.driver.preparation(storage, &path);
            if let Preparation::Image(plan) = &preparation
                && plan.backing.as_ref().is_some_and(|backing| created.contains(&backing.file))
            {
                created.push(path);
                continue;
            }
            self.check_disk(&preparation).await?;
            created.push(path);
        }
        Ok(())
    }

    /// Checks the file or folder that an entry of `storage` needs.
    pub(crate) async fn check_disk(&self, preparation: &Preparation) -> Result<(), Error> {
        match preparation {
            Preparation::Nothing => Ok(()),
            Preparation::Existing(path) if self.images.exists(path).await => Ok(()),
            Preparation::Existing(path) => Err(ImageError::NotFound { path: path.clone() }.into()),
            Preparation::Directory(path) => match self.paths.kind(path).await {
                PathKind::Directory => Ok(()),
                PathKind::NotFound | PathKind::File | PathKind::Other => {
                    Err(Error::DirectoryNotFound { path: path.clone() })
                }
            },
            Preparation::Image(plan) => match self.missing_backing(plan).await {
                None => Ok(()),
                Some(path) => Err(ImageError::BackingNotFound { path }.into()),
            },
        }
    }

    /// Returns the backing file of `plan`, if the image is to be created and the backing file is missing.
    async fn missing_backing(&self, plan: &ImagePlan) -> Option<PathBuf> {
        let backing = plan.backing.as_ref()?;
        let is_needed = !self.images.exists(&plan.path).await;
        let is_missing = is_needed && !self.images.exists(&backing.file).await;
        is_missing.then(|| backing.file.clone())
    }

    /// Returns the missing backing files as problems of the definition.
    ///
    /// A backing file may be missing if another entry creates it, or if the overlay exists already.
    pub(crate) async fn missing_disk_problems(&self, machine: &Machine, definition: &Node) -> Vec<Problem> {
        let entries = definition.get("storage").map(Node::items).unwrap_or_default();
        let name = definition.get("name").and_then(Node::scalar);
        let vm_storage = name.map(|name| self.folders.storage.join(name)).unwrap_or_default();
        let mut problems = Vec::new();
        let mut created: Vec<PathBuf> = Vec::new();
        for storage in &machine.storage {
            let path = storage.path(&vm_storage);
            let Preparation::Image(plan) = storage.driver.preparation(storage, &path) else { continue };
            let missing = self.missing_backing(&plan).await.filter(|missing| !created.contains(missing));
            created.push(path);
            let Some(missing) = missing else { continue };
            let node = entries.get(storage.index).and_then(|entry| entry.get("backing_file"));
            let message = format!("backing file `{}` not found", missing.display());
            problems.push(Problem {
                help: Some("correct the path, or create the image first".to_owned()),
                location: node.and_then(|node| node.value_location.clone()),
                ..Problem::new(format!("storage[{}].backing_file", storage.index), message)
            });
        }
        problems
    }
}

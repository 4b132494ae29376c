//! Files that a machine needs and that nobody makes: looked for before anything is made.

use std::path::PathBuf;

use maqet_domain::config::{Node, Problem, ProblemKind};
use maqet_domain::machine::Machine;
use maqet_domain::port::{ImageError, PathKind};
use maqet_domain::storage::{ImagePlan, Preparation};
use maqet_domain::vm::VmEntry;

use crate::{App, Error};

impl App {
    /// Makes sure that what must be there already is there, so that no disk is made for a start that cannot be.
    pub(crate) async fn require_files(&self, entry: &VmEntry, machine: &Machine) -> Result<(), Error> {
        let vm_storage = self.vm_storage(&entry.name);
        let mut made: Vec<PathBuf> = Vec::new();
        for storage in &machine.storage {
            let path = storage.path(&vm_storage);
            let preparation = storage.driver.preparation(storage, &path);
            if let Preparation::Image(plan) = &preparation
                && plan.backing.as_ref().is_some_and(|backing| made.contains(&backing.file))
            {
                made.push(path);
                continue;
            }
            self.require(&preparation).await?;
            made.push(path);
        }
        Ok(())
    }

    /// Makes sure that what a storage needs is there.
    pub(crate) async fn require(&self, preparation: &Preparation) -> Result<(), Error> {
        match preparation {
            Preparation::Nothing => Ok(()),
            Preparation::Existing(path) if self.ports.images.exists(path).await => Ok(()),
            Preparation::Existing(path) => Err(ImageError::Missing { path: path.clone() }.into()),
            Preparation::Folder(path) => match self.ports.paths.kind(path).await {
                PathKind::Folder => Ok(()),
                PathKind::Missing | PathKind::File | PathKind::Other => Err(Error::NoSuchFolder { path: path.clone() }),
            },
            Preparation::Image(plan) => match self.missing_backing(plan).await {
                None => Ok(()),
                Some(path) => Err(ImageError::BackingMissing { path }.into()),
            },
        }
    }

    /// Returns the image that `plan` is to be laid over, if it has to be and is not there.
    async fn missing_backing(&self, plan: &ImagePlan) -> Option<PathBuf> {
        let backing = plan.backing.as_ref()?;
        let is_needed = !self.ports.images.exists(&plan.path).await;
        let is_missing = is_needed && !self.ports.images.exists(&backing.file).await;
        is_missing.then(|| backing.file.clone())
    }

    /// Returns the backing files that are not there, as problems of the definition the machine was understood from.
    ///
    /// An image that another entry makes may be missing; so may that of an overlay which is there itself. Where the
    /// definition gives a disk no path, the VM's own folder is where it will be.
    pub(crate) async fn missing_problems(&self, machine: &Machine, definition: &Node) -> Vec<Problem> {
        let entries = definition.get("storage").map(Node::items).unwrap_or_default();
        let name = definition.get("name").and_then(Node::scalar);
        let vm_storage = name.map(|name| self.folders.storage.join(name)).unwrap_or_default();
        let mut problems = Vec::new();
        let mut made: Vec<PathBuf> = Vec::new();
        for storage in &machine.storage {
            let path = storage.path(&vm_storage);
            let Preparation::Image(plan) = storage.driver.preparation(storage, &path) else { continue };
            let missing = self.missing_backing(&plan).await.filter(|missing| !made.contains(missing));
            made.push(path);
            let Some(missing) = missing else { continue };
            problems.push(Problem {
                kind: ProblemKind::Invalid,
                path: format!("storage[{}].backing_file", storage.index),
                message: format!("there is no backing file `{}`", missing.display()),
                help: Some("correct the path, or make the image first".to_owned()),
                place: entries.get(storage.index).and_then(|entry| entry.get("backing_file")?.place.clone()),
                other: None,
            });
        }
        problems
    }
}

//! The drives of a machine, with what their images say about themselves.

use std::path::{Path, PathBuf};

use maqet_domain::change::{Change, UsedImage};
use maqet_domain::machine::Machine;
use maqet_domain::port::{ImageError, ImageSummary, ImageUse};
use maqet_domain::storage::{FileKinds, ImageAccess, ImagePlan, ImageProblem, Preparation, StorageSpec, UnusableImage};
use maqet_domain::vm::{RunPaths, Vm, VmEntry, VmName};

use super::firmware::VARIABLES_NAME;
use super::preflight::Preflight;
use crate::App;
use crate::app::shown;

/// A drive or share of a machine.
#[derive(Debug)]
pub(crate) struct Drive<'m> {
    pub(crate) storage: &'m StorageSpec,
    pub(crate) path: PathBuf,
    pub(crate) preparation: Preparation,
}

impl<'m> Drive<'m> {
    pub(crate) fn new(storage: &'m StorageSpec, vm_storage: &Path) -> Self {
        let path = storage.path(vm_storage);
        let preparation = storage.driver.preparation(storage, &path);
        Self { storage, path, preparation }
    }

    /// Returns the image that a start creates if it does not exist.
    pub(crate) fn plan(&self) -> Option<&ImagePlan> {
        match &self.preparation {
            Preparation::Image(plan) => Some(plan),
            Preparation::Nothing | Preparation::Existing(_) | Preparation::Directory(_) => None,
        }
    }

    /// Returns the overlay that a run writes to instead of the image, if it does.
    pub(crate) fn overlay(&self, paths: &RunPaths) -> Option<ImagePlan> {
        self.storage.overlay_plan(self.path.clone(), paths.overlay(&self.storage.name))
    }

    /// Returns how the VM uses the image; `None` for shares.
    pub(crate) fn image_use(&self) -> Option<ImageUse> {
        let path = match &self.preparation {
            Preparation::Image(plan) => plan.path.clone(),
            // The socket of a share is not its path.
            Preparation::Existing(path) if *path == self.path => path.clone(),
            Preparation::Existing(_) | Preparation::Nothing | Preparation::Directory(_) => return None,
        };
        let access = if self.storage.keeps_image() { ImageAccess::Read } else { ImageAccess::Write };
        Some(ImageUse { path, format: self.storage.driver.image_format().map(str::to_owned), access })
    }
}

impl Preflight<'_> {
    /// Returns the drives and shares of a machine.
    pub(crate) fn drives<'m>(&self, name: &VmName, machine: &'m Machine) -> Vec<Drive<'m>> {
        let vm_storage = self.folders.vm_storage(name);
        machine.storage.iter().map(|storage| Drive::new(storage, &vm_storage)).collect()
    }

    /// Returns the files of drives that are not regular.
    pub(crate) async fn file_kinds(&self, name: &VmName, machine: &Machine) -> FileKinds {
        let mut kinds = FileKinds::default();
        for drive in self.drives(name, machine).into_iter().filter(|drive| drive.image_use().is_some()) {
            let kind = self.paths.kind(&drive.path).await.of_drive();
            kinds.insert(drive.path, kind);
        }
        kinds
    }

    /// Returns what the image of a drive says; `None` for a share, and for an image that a start creates.
    pub(crate) async fn examine(&self, drive: &Drive<'_>) -> Result<Option<ImageSummary>, ImageError> {
        let Some(image) = drive.image_use() else { return Ok(None) };
        match self.images.examine(&image).await {
            Ok(summary) => Ok(Some(summary)),
            Err(error) if drive.plan().is_some() && is_missing(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns the change that records which files the images are that a VM writes to; none if it has no images.
    pub(crate) async fn images_used(&self, entry: &VmEntry, machine: &Machine, drives: &[Drive<'_>]) -> Option<Change> {
        let mut images = Vec::new();
        for (drive, path) in self.written_images(&entry.name, machine, drives) {
            if let Some(file) = self.images.shared_id(&path).await {
                images.push(UsedImage { drive, path: shown(&path), file });
            }
        }
        (!images.is_empty()).then_some(Change::ImagesUsed { vm: entry.id, images })
    }

    /// Returns the images that a VM writes to, each with its drive.
    pub(crate) fn written_images(
        &self,
        vm: &VmName,
        machine: &Machine,
        drives: &[Drive<'_>],
    ) -> Vec<(String, PathBuf)> {
        let image = |drive: &Drive<'_>| {
            let image = drive.image_use().filter(|image| image.access == ImageAccess::Write)?;
            Some((drive.storage.name.to_string(), image.path))
        };
        let variables = machine.firmware.is_uefi().then(|| (VARIABLES_NAME.to_owned(), self.uefi_variables(vm)));
        drives.iter().filter_map(image).chain(variables).collect()
    }

    /// Refuses images that other processes use.
    pub(crate) async fn require_unlocked(&self, drives: &[Drive<'_>]) -> Result<(), ImageError> {
        for image in drives.iter().filter_map(Drive::image_use) {
            self.images.require_unlocked(&image).await?;
        }
        Ok(())
    }
}

/// Returns the change that records which files the images of a VM are now, if it was started: one was replaced by its like.
pub(crate) async fn images_used_by(app: &App, vm: &Vm) -> Option<Change> {
    vm.entry.run.as_ref()?;
    let machine = app.machine(vm).ok()?;
    let preflight = app.preflight();
    preflight.images_used(&vm.entry, &machine, &preflight.drives(&vm.entry.name, &machine)).await
}

/// Returns whether the image itself is missing, and not one of its backing files.
pub(super) fn is_missing(error: &ImageError) -> bool {
    let is_problem = |problem: &ImageProblem| matches!(problem, ImageProblem::NotFound { .. });
    matches!(error, ImageError::Unusable(UnusableImage { overlay: None, problem, .. }) if is_problem(problem))
}

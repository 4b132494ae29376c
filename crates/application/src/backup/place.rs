//! Where the backups of a VM are.

use std::path::{Path, PathBuf};

use maqet_domain::backup::{BackupCatalog, BackupName, FoundBackup};
use maqet_domain::port::{BackupListing, Guard, LockName};
use maqet_domain::vm::{Vm, VmName};

use super::error::BackupError;
use crate::{App, Error};

/// The name of the newest backup, as users write it.
const LATEST: &str = "latest";

/// The directory of the backups of a VM, with what it has.
pub(crate) struct Place {
    pub(crate) vm: VmName,
    pub(crate) directory: PathBuf,
    pub(crate) catalog: BackupCatalog,
    /// Directories without a valid manifest.
    pub(crate) unreadable: Vec<(PathBuf, String)>,
}

/// Finds a VM, which may have been removed since its backups were made.
pub(crate) async fn find_vm(app: &App, name: &str) -> Result<(VmName, Option<Vm>), Error> {
    match app.vms().find(name).await {
        Ok(vm) => Ok((vm.entry.name.clone(), Some(vm))),
        Err(Error::NoSuchVm { name: missing, similar }) => match VmName::parse(name) {
            Ok(name) => Ok((name, None)),
            Err(_) => Err(Error::NoSuchVm { name: missing, similar }),
        },
        // Removed here, and another host has one of that name.
        Err(Error::ForeignVm { name: vm, .. }) if vm.as_str() == name => Ok((vm, None)),
        Err(error) => Err(error),
    }
}

impl Place {
    /// Reads the backups of a VM below `parent`, by default the directory of the settings.
    pub(crate) async fn read(app: &App, vm: &VmName, parent: Option<&Path>) -> Result<Self, Error> {
        Self::open(app, vm, parent, false).await
    }

    /// Does the same, and creates the directory.
    pub(crate) async fn create(app: &App, vm: &VmName, parent: Option<&Path>) -> Result<Self, Error> {
        Self::open(app, vm, parent, true).await
    }

    async fn open(app: &App, vm: &VmName, parent: Option<&Path>, is_created: bool) -> Result<Self, Error> {
        let store = &*app.ports.backups;
        let must_exist = parent.is_some();
        let parent = parent.unwrap_or(&app.folders.backups);
        let directory = store.directory(parent, vm.as_str(), must_exist, is_created).await?;
        let BackupListing { backups, unreadable } = store.list(&directory).await?;
        Ok(Self { vm: vm.clone(), directory, catalog: BackupCatalog::new(backups), unreadable })
    }

    /// Locks the directory, and reads it again.
    pub(crate) async fn lock(mut self, app: &App, operation: &'static str) -> Result<(Box<dyn Guard>, Self), Error> {
        let lock = LockName::Image(self.directory.clone());
        let guard = app.ports.locks.lock(&lock, operation, app.timeouts().lock).await?;
        app.ports.backups.sweep(&self.directory).await;
        let BackupListing { backups, unreadable } = app.ports.backups.list(&self.directory).await?;
        self.catalog = BackupCatalog::new(backups);
        self.unreadable = unreadable;
        Ok((guard, self))
    }

    /// Returns whether a backup with this name is there, valid or not.
    pub(crate) fn has(&self, name: &BackupName) -> bool {
        let is_name = |path: &Path| path.file_name().is_some_and(|file| file == name.as_str());
        self.catalog.get(name).is_some() || self.unreadable.iter().any(|(path, _)| is_name(path))
    }

    /// Finds a backup by its name; `latest` is the newest.
    pub(crate) fn find(&self, name: &str) -> Result<&FoundBackup, BackupError> {
        if name == LATEST {
            let none = || BackupError::None { vm: self.vm.clone(), directory: self.directory.clone() };
            return self.catalog.latest().ok_or_else(none);
        }
        let found = BackupName::parse(name).ok().and_then(|name| self.catalog.get(&name));
        found.ok_or_else(|| BackupError::NotFound {
            vm: self.vm.clone(),
            name: name.to_owned(),
            directory: self.directory.clone(),
            known: self.catalog.backups().iter().map(|backup| backup.manifest.name.clone()).collect(),
        })
    }
}

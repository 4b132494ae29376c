//! `storage trash restore`: brings the images of a removed VM back, and its definition.

use crate::history::require_expected;
use derive_setters::Setters;
use maqet_domain::change::{Change, ChangeSet, StorageRecord};
use maqet_domain::event::kind;
use maqet_domain::history::Expected;
use maqet_domain::revert::Revert;
use maqet_domain::trash::TrashEntry;
use maqet_domain::vm::{Vm, VmEntry, VmName};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::app::operations::{Done, Effect, MovedStorage, Operation};
use crate::app::shown;
use crate::operation::Rm;
use crate::trash::entries::{find_entry, lock_trash};
use crate::trash::error::TrashRefusal;
use crate::trash::restore::{move_to_vm, original_path};
use crate::{App, Error};

/// Restore a removed VM and its images
///
/// Moves the images back to where they were, and defines the VM again, with its ID. If the VM exists, only its images
/// are moved back. Nothing is replaced.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Setters)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
#[setters(into)]
pub struct StorageTrashRestore {
    /// The entry: its ID, or the name of its VM
    pub entry: String,
    /// Restore the VM under another name
    #[cfg_attr(feature = "clap", arg(long))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[setters(strip_option)]
    pub name: Option<String>,
    /// What it has in addition if it reverts a change; `undo` sets it.
    #[cfg_attr(feature = "clap", arg(skip))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[setters(skip)]
    pub revert: Option<Box<Revert>>,
}

impl StorageTrashRestore {
    /// Restores the entry with the ID `entry`, or that of the VM of this name.
    pub fn new(entry: impl Into<String>) -> Self {
        Self { entry: entry.into(), name: None, revert: None }
    }

    /// Restores a VM again that another change removed.
    pub(crate) fn reverting(entry: &TrashEntry) -> Self {
        let (free_name, trash) = (Some(entry.vm.name.clone()), Some(entry.id.to_string()));
        let expected = Expected { free_name, trash, ..Expected::default() };
        Self { revert: Some(Box::new(Revert::new(expected))), ..Self::new(entry.id.to_string()) }
    }
}

/// A VM whose images were restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Restored {
    /// The entry of the trash, which is gone.
    pub entry: String,
    /// The ID of the VM.
    pub id: String,
    /// The name of the VM.
    pub name: String,
    /// Whether the VM was defined again; `false` if it existed.
    pub defined: bool,
    /// Its images.
    pub images: Vec<RestoredImage>,
}

/// An image that was restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RestoredImage {
    /// Its drive, or `uefi-vars` for the UEFI variable store.
    pub drive: String,
    /// Where it is.
    pub path: String,
}

impl Operation for StorageTrashRestore {
    const NAME: &'static str = "storage.trash.restore";
    const EFFECT: Effect = Effect::Changes;
    type Output = Restored;

    fn revert(&self) -> Option<&Revert> {
        self.revert.as_deref()
    }

    async fn run(&self, app: &App) -> Result<Done<Restored>, Error> {
        require_expected(app, self.revert.as_deref(), None).await?;
        let wanted = self.name.as_deref().map(VmName::parse).transpose()?;
        let found = find_entry(app, &self.entry).await?;
        // The locks of VMs come before that of the trash, as in `rm`.
        let existing = match app.ports.store.by_id(&found.vm.id).await? {
            Some(vm) => Some(app.vms().lock(&vm.entry.id.to_string(), Self::NAME).await?),
            None => None,
        };
        let trash = lock_trash(app, Self::NAME).await?;
        let entry = find_entry(app, found.id.as_str()).await?;
        let name = match (&existing, wanted) {
            (Some((_, vm)), Some(wanted)) if wanted != vm.entry.name => {
                return Err(TrashRefusal::Renamed { entry: entry.id, vm: vm.entry.name.clone() }.into());
            }
            (Some((_, vm)), _) => vm.entry.name.clone(),
            (None, wanted) => wanted.unwrap_or_else(|| entry.vm.name.clone()),
        };
        if existing.is_none() {
            require_free(app, &entry, &name).await?;
        }
        let defined = existing.is_none().then(|| entry.vm.restored(&name));
        let entry = move_to_vm(app, entry, &name).await?;
        let done = restored(app, &entry, &name, existing.as_ref().map(|(_, vm)| &vm.entry));
        let done = done.holding(trash).moved_storage(MovedStorage::Restored(Box::new(entry)));
        let done = existing.into_iter().fold(done, |done, (guard, _)| done.holding(guard));
        let Some(vm) = defined else { return Ok(done.into_note()) };
        let expected = Expected::vm(&vm).not_started_since(&vm);
        Ok(done.undone_by(&Rm::reverting(vm.entry.id, expected).delete_storage(true)))
    }
}

/// Refuses a name that another VM has, or an orphan.
async fn require_free(app: &App, entry: &TrashEntry, name: &VmName) -> Result<(), Error> {
    if app.ports.store.by_name(name).await?.is_some() {
        return Err(TrashRefusal::VmExists { entry: entry.id.clone(), name: name.clone() }.into());
    }
    match app.orphans().named(name).await {
        Some(orphan) => Err(Error::Orphaned(Box::new(orphan))),
        None => Ok(()),
    }
}

fn restored(app: &App, entry: &TrashEntry, name: &VmName, existing: Option<&VmEntry>) -> Done<Restored> {
    let vm: Vm = entry.vm.restored(name);
    let id = entry.vm.id;
    let mut changes = ChangeSet::default();
    let shown_entry = existing.unwrap_or(&vm.entry);
    let mut events = Vec::new();
    if existing.is_none() {
        events.push(app.committer().event(kind::VM_DEFINED, shown_entry, json!({ "restored": entry.id })));
    }
    let mut images = Vec::new();
    for image in &entry.images {
        let path = original_path(app, entry, image);
        images.push(RestoredImage { drive: image.record.drive.clone(), path: shown(&path) });
        changes = changes.and(Change::StorageAdded(StorageRecord { path, vm: Some(id), ..image.record.clone() }));
    }
    events.push(app.committer().event(
        kind::STORAGE_RESTORED,
        shown_entry,
        json!({ "entry": entry.id, "images": images }),
    ));
    if existing.is_none() {
        changes.changes.insert(0, Change::VmAdded(Box::new(vm)));
        // They were removed with the VM.
        let records = entry.snapshots.iter().cloned();
        changes.changes.extend(records.map(|record| Change::SnapshotAdded(Box::new(record))));
        // Images that another VM may use, too: their records stay with it.
        let others = entry.storage.iter().filter(|record| !record.is_created()).cloned();
        changes.changes.extend(others.map(Change::StorageAdded));
    }
    changes.events = events;
    let value = Restored {
        entry: entry.id.to_string(),
        id: id.to_string(),
        name: name.to_string(),
        defined: existing.is_none(),
        images,
    };
    Done::changing(value, id, changes)
}

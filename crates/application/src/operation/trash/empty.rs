//! `storage trash empty`: deletes images of removed VMs for good.

use derive_setters::Setters;
use maqet_domain::Timestamp;
use maqet_domain::change::ChangeSet;
use maqet_domain::event::{Event, kind};
use maqet_domain::trash::{TrashEntry, TrashedImageLocation};
use maqet_fault_points::FaultPoint;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::app::operations::{Done, Effect, Operation};
use crate::app::shown;
use crate::maintenance::error_chain;
use crate::trash::entries::{complete_entries, find_entry, locate, lock_trash};
use crate::trash::error::TrashRefusal;
use crate::trash::interrupted::finish_interrupted;
use crate::trash::own_images::unused_images;
use crate::trash::used_files::UsedFiles;
use crate::{App, Error, HumanDuration};

/// Delete images of removed VMs for good
///
/// Without arguments, deletes everything in the trash. An image that is a backing file of another image is kept, and so
/// is one whose volume is not mounted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, Setters)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
#[setters(into)]
pub struct StorageTrashEmpty {
    /// Only these entries: their IDs, or the names of their VMs
    #[cfg_attr(feature = "clap", arg(value_name = "ENTRY"))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub entries: Vec<String>,
    /// Only entries of VMs that were removed this long ago or earlier, as in `30d`
    #[cfg_attr(feature = "clap", arg(long, value_name = "DURATION"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub older_than: Option<HumanDuration>,
    /// Show what would be deleted without deleting it
    #[cfg_attr(feature = "clap", arg(long))]
    pub dry_run: bool,
}

impl StorageTrashEmpty {
    /// Deletes everything in the trash.
    pub fn new() -> Self {
        Self::default()
    }
}

/// What was deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Emptied {
    /// Whether nothing was deleted.
    pub dry_run: bool,
    /// The entries that were deleted.
    pub deleted: Vec<DeletedEntry>,
    /// The entries that were chosen and kept.
    pub kept: Vec<KeptEntry>,
    /// The space that was given back.
    pub freed_bytes: u64,
}

/// An entry that was deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DeletedEntry {
    /// Its ID.
    pub entry: String,
    /// The name of the VM.
    pub name: String,
    /// The space that its images took.
    pub allocated_bytes: u64,
}

/// An entry that was kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct KeptEntry {
    /// Its ID.
    pub entry: String,
    /// The name of the VM.
    pub name: String,
    /// Why it was kept.
    pub reason: String,
}

impl Operation for StorageTrashEmpty {
    const NAME: &'static str = "storage.trash.empty";
    const EFFECT: Effect = Effect::Notes;
    type Output = Emptied;

    async fn run(&self, app: &App) -> Result<Done<Emptied>, Error> {
        let guard = lock_trash(app, Self::NAME).await?;
        finish_interrupted(app, self.dry_run).await?;
        let complete = complete_entries(app).await?;
        let chosen = self.choose(app, &complete).await?;
        let mut emptied = Emptied { dry_run: self.dry_run, deleted: Vec::new(), kept: Vec::new(), freed_bytes: 0 };
        let mut events = Vec::new();
        for (entry, reason) in protect(app, complete, &chosen).await? {
            let reason = match reason {
                Some(reason) => Some(reason),
                None if self.dry_run => None,
                None => delete(app, &entry).await.err().map(|error| error_chain(&error)),
            };
            let (id, name) = (entry.id.to_string(), entry.vm.name.to_string());
            if let Some(reason) = reason {
                emptied.kept.push(KeptEntry { entry: id, name, reason });
                continue;
            }
            let allocated_bytes = entry.allocated_bytes();
            emptied.freed_bytes += allocated_bytes;
            events.push(deletion(app.ports.clock.now(), &entry));
            emptied.deleted.push(DeletedEntry { entry: id, name, allocated_bytes });
        }
        if self.dry_run {
            return Ok(Done::reading(emptied));
        }
        Ok(Done::writing(emptied, ChangeSet { events, ..ChangeSet::default() }).holding(guard))
    }
}

impl StorageTrashEmpty {
    /// Returns the entries that the arguments choose.
    async fn choose(&self, app: &App, entries: &[TrashEntry]) -> Result<Vec<TrashEntry>, Error> {
        let mut chosen = Vec::new();
        for name in &self.entries {
            let of_vm = entries.iter().filter(|entry| entry.vm.name.as_str() == name);
            let before = chosen.len();
            chosen.extend(of_vm.cloned());
            if chosen.len() == before {
                let entry = find_entry(app, name).await?;
                if !entries.contains(&entry) {
                    return Err(TrashRefusal::EntryNotFound { name: name.clone(), known: Vec::new() }.into());
                }
                chosen.push(entry);
            }
        }
        if self.entries.is_empty() {
            chosen = entries.to_vec();
        }
        chosen.dedup();
        if let Some(age) = self.older_than {
            let now = app.ports.clock.now();
            chosen.retain(|entry| now.duration_since(entry.removed_at).unsigned_abs() >= age.duration());
        }
        Ok(chosen)
    }
}

/// Returns the chosen entries, each with why it has to be kept, if it has.
async fn protect(
    app: &App,
    entries: Vec<TrashEntry>,
    chosen: &[TrashEntry],
) -> Result<Vec<(TrashEntry, Option<String>)>, Error> {
    let (chosen, others): (Vec<_>, Vec<_>) = entries.into_iter().partition(|entry| chosen.contains(entry));
    if chosen.is_empty() {
        return Ok(Vec::new());
    }
    let mut used = UsedFiles::of_vms(app, None).await?;
    let unused = unused_images(app, &used).await?;
    used.add_images(&unused).await;
    used.add_trash(&others).await;
    let mut checked: Vec<(TrashEntry, Option<String>)> = Vec::new();
    for entry in chosen {
        let reason = missing_image(app, &entry).await;
        if reason.is_some() {
            used.add_trash(std::slice::from_ref(&entry)).await;
        }
        checked.push((entry, reason));
    }
    // An entry that is kept may need another one.
    loop {
        let mut is_changed = false;
        for (entry, reason) in checked.iter_mut().filter(|(_, reason)| reason.is_none()) {
            *reason = backing_use(&used, entry).await;
            if reason.is_some() {
                used.add_trash(std::slice::from_ref(entry)).await;
                is_changed = true;
            }
        }
        if !is_changed {
            return Ok(checked);
        }
    }
}

/// Returns that an image of an entry is missing, if one is.
async fn missing_image(app: &App, entry: &TrashEntry) -> Option<String> {
    for image in &entry.images {
        if locate(app, entry, image).await == TrashedImageLocation::Missing {
            let directory = shown(&app.ports.trash.directory(&entry.id));
            let trash = shown(&image.trash);
            return Some(format!(
                "`{trash}` not found: mount its volume, or, if it was deleted, delete the directory `{directory}`"
            ));
        }
    }
    None
}

/// Returns what an image of an entry is a backing file of, if it is one.
async fn backing_use(used: &UsedFiles<'_>, entry: &TrashEntry) -> Option<String> {
    for image in &entry.images {
        let found = used.uses_of(&image.record.path).await;
        if let Some(backing) = found.into_iter().find(|found| found.is_backing) {
            return Some(backing.to_string());
        }
    }
    None
}

async fn delete(app: &App, entry: &TrashEntry) -> Result<(), Error> {
    app.ports.trash.delete(entry).await?;
    app.faults.reach(FaultPoint::TrashDeleted);
    Ok(())
}

fn deletion(at: Timestamp, entry: &TrashEntry) -> Event {
    let data = json!({ "entry": entry.id, "allocated_bytes": entry.allocated_bytes() });
    Event {
        at,
        kind: kind::STORAGE_DELETED.to_owned(),
        vm: Some(entry.vm.id),
        vm_name: Some(entry.vm.name.clone()),
        data,
    }
}

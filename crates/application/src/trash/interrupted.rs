//! What killed processes left in the trash, except for moves to it, which their VMs record.

use std::path::PathBuf;

use super::entries::{holds_images, is_moving};
use super::restore::{is_half_restored, return_to_trash};
use crate::{App, Error};

/// Something that a killed process left in the trash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Interrupted {
    /// The directory of the entry.
    pub(crate) path: PathBuf,
    pub(crate) work: InterruptedWork,
}

/// The work of a process that was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InterruptedWork {
    /// A deletion, which is finished, or the creation of an entry, before any image was moved to it.
    Deletion,
    /// A restore, whose images are moved to the trash again.
    Restore,
    /// A restore that defined the VM; only the empty entry is left.
    Restored,
}

impl InterruptedWork {
    /// Describes it.
    pub(crate) const fn description(self) -> &'static str {
        match self {
            Self::Deletion => "entry of the trash whose deletion was interrupted",
            Self::Restore => "entry of the trash whose restore was interrupted",
            Self::Restored => "entry of the trash whose images are all restored",
        }
    }

    /// Describes what is done about it.
    pub(crate) const fn outcome(self) -> &'static str {
        match self {
            Self::Deletion => "finished the deletion",
            Self::Restore => "moved the images to the trash again",
            Self::Restored => "removed the empty entry",
        }
    }
}

/// Finishes what killed processes began, or undoes it; returns what there was.
///
/// With `dry_run`, only returns it. The caller holds the lock of the trash.
pub(crate) async fn finish_interrupted(app: &App, dry_run: bool) -> Result<Vec<Interrupted>, Error> {
    let trash = &app.ports.trash;
    let mut found = Vec::new();
    for entry in trash.entries().await? {
        let vm = app.ports.store.by_id(&entry.vm.id).await?;
        let path = trash.directory(&entry.id);
        match vm {
            Some(vm) if is_moving(&vm.entry, &entry.id) => {}
            Some(_) if holds_images(app, &entry).await => {}
            Some(_) => {
                if !dry_run {
                    trash.close(&entry).await?;
                }
                found.push(Interrupted { path, work: InterruptedWork::Restored });
            }
            None if is_half_restored(app, &entry).await? => {
                if !dry_run {
                    return_to_trash(app, entry).await?;
                }
                found.push(Interrupted { path, work: InterruptedWork::Restore });
            }
            None => {}
        }
    }
    let deletions = trash.finish_deletions(dry_run).await;
    found.extend(deletions.into_iter().map(|path| Interrupted { path, work: InterruptedWork::Deletion }));
    Ok(found)
}

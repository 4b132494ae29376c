//! `storage compact`: gives space back that the image of a drive does not need.

use derive_setters::Setters;
use maqet_domain::change::ChangeSet;
use maqet_domain::event::kind;
use maqet_domain::history::Irreversible;
use maqet_domain::port::{RewritePlan, StoreError};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::target::ImageTarget;
use crate::app::operations::{Done, Effect, Operation};
use crate::app::shown;
use crate::checkpoint::layers::refuse_layers;
use crate::start::drives::images_used_by;
use crate::{App, Error, HumanDuration};

/// Give back space on the host that a drive does not need
///
/// The VM must be stopped. The image is rewritten without blocks of zeros and blocks that it no longer uses, and
/// replaces the old one once it is complete; until then the host needs space for both. Guests leave zeros where they
/// trim their file systems (`fstrim`) with `discard: true`, or overwrite free space with zeros. Backing files are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Setters)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
#[setters(into)]
pub struct StorageCompact {
    /// The VM: a name, an ID, or a unique prefix of an ID
    pub vm: String,
    /// The drive, by its name under `storage`
    pub drive: String,
    /// Compress the data, which makes reading it slower; what the guest writes later is not compressed
    #[serde(default)]
    #[cfg_attr(feature = "clap", arg(long))]
    pub compress: bool,
    /// Allow an image with snapshots, which are removed
    #[serde(default)]
    #[cfg_attr(feature = "clap", arg(long))]
    pub discard_snapshots: bool,
    /// Timeout, after which the drive is as it was [default: none]
    #[cfg_attr(feature = "clap", arg(long, value_name = "DURATION"))]
    #[setters(strip_option)]
    pub timeout: Option<HumanDuration>,
}

impl StorageCompact {
    /// Gives space back that a drive does not need.
    pub fn new(vm: impl Into<String>, drive: impl Into<String>) -> Self {
        let (vm, drive) = (vm.into(), drive.into());
        Self { vm, drive, compress: false, discard_snapshots: false, timeout: None }
    }
}

/// The result of rewriting an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct StorageCompacted {
    /// The VM's ID.
    pub id: String,
    /// The VM's name.
    pub name: String,
    /// The drive.
    pub drive: String,
    /// Its image.
    pub file: String,
    /// The space used on the host before.
    pub before_bytes: u64,
    /// The space used on the host now.
    pub allocated_bytes: u64,
    /// Whether the image was replaced; one that would not get smaller is kept.
    pub replaced: bool,
}

impl Operation for StorageCompact {
    const NAME: &'static str = "storage.compact";
    const EFFECT: Effect = Effect::Changes;
    type Output = StorageCompacted;

    async fn run(&self, app: &App) -> Result<Done<StorageCompacted>, Error> {
        let mut target = ImageTarget::lock(app, &self.vm, &self.drive, Self::NAME, self.timeout).await?;
        refuse_layers(app, &target.vm.entry, Some(&self.drive)).await?;
        target.require_free().await?;
        let (link, size) = target.examine().await?;
        target.require_no_snapshots(self.discard_snapshots).await?;
        target.require_sound().await?;
        let plan = RewritePlan {
            from: target.image.clone(),
            to: target.image.clone(),
            is_compressed: self.compress,
            keeps_backing: true,
        };
        target.begin(Self::NAME).await?;
        target.job.set_stage("rewriting the image");
        let rewritten = {
            let progress = target.job.share_reporter(size.bytes());
            let work = target.work(&progress);
            target.job.run(app.ports.image_tools.rewrite(&plan, &work)).await
        };
        let rewritten = target.or_end(rewritten.and_then(|rewritten| rewritten.map_err(Error::from))).await?;
        let before = link.actual_size.unwrap_or(size);
        let after = rewritten.actual_size();
        let replaced = after < before;
        if !replaced {
            target.end().await?;
        }
        let entry = &target.vm.entry;
        let done = StorageCompacted {
            id: entry.id.to_string(),
            name: entry.name.to_string(),
            drive: self.drive.clone(),
            file: shown(&target.image.path),
            before_bytes: before.bytes(),
            allocated_bytes: if replaced { after } else { before }.bytes(),
            replaced,
        };
        if !replaced {
            return Ok(Done::reading(done).about(entry.id));
        }
        // Another host may have taken the VM over while the image was rewritten, and write to it.
        let found = app.ports.store.by_id(&entry.id).await?;
        if found.is_none_or(|found| found.entry.revision != entry.revision) {
            return Err(StoreError::Conflict { id: entry.id }.into());
        }
        let placed = rewritten.put_in_place().map_err(Error::from);
        target.or_end(placed).await?;
        let entry = &target.vm.entry;
        let data =
            json!({ "drive": self.drive, "before_bytes": done.before_bytes, "allocated_bytes": done.allocated_bytes });
        let event = app.committer().event(kind::STORAGE_COMPACTED, entry, data);
        let id = entry.id;
        let changes = target.work_done(0).into_iter().chain(images_used_by(app, &target.vm).await).collect();
        let changes = ChangeSet { changes, ..ChangeSet::default() };
        let done = Done::changing(done, id, changes).event(event).holding_all(target.into_guards());
        // The guest has the same disk as before.
        Ok(if self.discard_snapshots { done.not_undone(Irreversible::SnapshotDeleted) } else { done.into_note() })
    }
}

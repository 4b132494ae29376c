//! `storage resize`: the size of the image of a drive, while its VM is stopped or runs.

use crate::app::operations::call_of;
use crate::history::require_expected;
use crate::operation::reverting;
use derive_setters::Setters;
use maqet_domain::Timestamp;
use maqet_domain::change::{Change, ChangeSet};
use maqet_domain::event::kind;
use maqet_domain::history::Irreversible;
use maqet_domain::history::{Call, Expected, ExpectedImage};
use maqet_domain::port::ImageError;
use maqet_domain::qmp::QmpCommand;
use maqet_domain::revert::{Revert, StoredDefinition};
use maqet_domain::size::ByteSize;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::target::ImageTarget;
use crate::app::operations::{Done, Effect, Operation};
use crate::app::shown;
use crate::backup::changes::{forget_changes, forget_invalid_changes, forget_invalid_changes_live};
use crate::config::origins;
use crate::storage::error::StorageError;
use crate::storage::size_change::SizeChange;
use crate::vm::monitor::Monitored;
use crate::{App, Error};

/// Change the size of a drive
///
/// A running guest gets the new size at once; a guest uses more space only once its partitions and file systems were
/// grown. The size in the definition changes with it, if there is one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Setters)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
#[setters(into)]
pub struct StorageResize {
    /// The VM: a name, an ID, or a unique prefix of an ID
    pub vm: String,
    /// The drive, by its name under `storage`
    pub drive: String,
    /// The new size, as in `20G`; or how much more, as in `+5G`
    pub size: SizeChange,
    /// Allow a smaller size, which deletes what is behind the new end
    ///
    /// The VM must be stopped. Make the file systems and partitions in the guest smaller first.
    #[serde(default)]
    #[cfg_attr(feature = "clap", arg(long))]
    pub shrink: bool,
    /// What it has in addition if it reverts a change; `undo` sets it.
    #[cfg_attr(feature = "clap", arg(skip))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[setters(skip)]
    pub revert: Option<Box<Revert>>,
}

impl StorageResize {
    /// Changes the size of a drive.
    pub fn new(vm: impl Into<String>, drive: impl Into<String>, size: SizeChange) -> Self {
        Self { vm: vm.into(), drive: drive.into(), size, shrink: false, revert: None }
    }
}

/// The result of a change of the size of a drive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct StorageResized {
    /// The VM's ID.
    pub id: String,
    /// The VM's name.
    pub name: String,
    /// The drive.
    pub drive: String,
    /// Its image.
    pub file: String,
    /// The size before.
    pub before_bytes: u64,
    /// The size now.
    pub size_bytes: u64,
    /// Whether the image was changed; it may have had the size.
    pub resized: bool,
    /// Whether the size in the definition was changed.
    pub definition_changed: bool,
    /// Whether the VM was running.
    pub live: bool,
}

impl Operation for StorageResize {
    const NAME: &'static str = "storage.resize";
    const EFFECT: Effect = Effect::Changes;
    type Output = StorageResized;

    fn irreversible(&self) -> Option<Irreversible> {
        self.shrink.then_some(Irreversible::DataCutOff)
    }

    fn revert(&self) -> Option<&Revert> {
        self.revert.as_deref()
    }

    async fn run(&self, app: &App) -> Result<Done<StorageResized>, Error> {
        let mut target = ImageTarget::lock(app, &self.vm, &self.drive, Self::NAME, None).await?;
        require_expected(app, self.revert.as_deref(), Some(&target.vm)).await?;
        let (_, found) = target.examine().await?;
        let size = self.size.of(found);
        if size < found {
            self.check_shrink(&target, found, size)?;
            target.require_unshared().await?;
            // What is restored was there before.
            if self.revert.is_none() {
                target.require_not_below_backing(size).await?;
            }
        }
        let (is_live, resized) = (target.is_live(), size != found);
        // An earlier try may have been killed before it was recorded.
        let expected = self.revert.as_ref().and_then(|revert| revert.expected.images.first()?.size);
        let before = expected.filter(|_| !resized).unwrap_or(found);
        if resized && is_live {
            resize_live(app, &target, size).await?;
        } else if resized {
            target.require_free().await?;
            target.begin(Self::NAME).await?;
            let resized = self.resize_stopped(app, &target, size, size < before).await;
            target.or_end(resized).await?;
        }

        let reverted = self.revert.as_ref().and_then(|revert| revert.definition.clone());
        let is_configured = reverted.is_none()
            && target.spec.size.is_some_and(|configured| SizeChange::To(configured).of(before) != size);
        let definition = if is_configured {
            target.with_keys(&[("size", Some(size.to_string()))], |spec| spec.size == Some(size))?
        } else {
            None
        };
        let definition = match reverted {
            Some(stored) => Some(stored),
            None => definition.map(|definition| StoredDefinition { origins: origins(&definition), definition }),
        };
        let entry = &target.vm.entry;
        let done = StorageResized {
            id: entry.id.to_string(),
            name: entry.name.to_string(),
            drive: self.drive.clone(),
            file: shown(&target.image.path),
            before_bytes: before.bytes(),
            size_bytes: size.bytes(),
            resized: size != before,
            definition_changed: definition.is_some(),
            live: is_live,
        };
        if size == before && definition.is_none() {
            return Ok(Done::reading(done).about(entry.id));
        }
        let data = json!({ "drive": self.drive, "before": before, "size": size });
        let event = app.committer().event(kind::STORAGE_RESIZED, entry, data);
        let modified = app.ports.image_tools.modified(&target.image.path).await;
        let undone = self.undone(&target, (before, size), modified, definition.as_ref());
        let ended = target.work_done(u32::from(definition.is_some()));
        let mut changes = definition.map_or_else(ChangeSet::default, |StoredDefinition { definition, origins }| {
            let (id, expected) = (entry.id, entry.revision);
            ChangeSet::default().and(Change::DefinitionChanged { id, expected, definition, origins })
        });
        changes.changes.extend(ended);
        let id = entry.id;
        let done = Done::changing(done, id, changes).event(event).holding_all(target.into_guards());
        Ok(match undone {
            Ok(call) => done.undone_by_call(call),
            Err(reason) => done.not_undone(reason),
        })
    }
}

impl StorageResize {
    /// Returns the call that reverts a change of the size from `before` to `size`, after which the definition is `new`.
    fn undone(
        &self,
        target: &ImageTarget<'_>,
        (before, size): (ByteSize, ByteSize),
        modified: Option<Timestamp>,
        new: Option<&StoredDefinition>,
    ) -> Result<Option<Call>, Irreversible> {
        let vm = &target.vm;
        if before == size {
            let new = new.map_or(&vm.definition, |stored| &stored.definition);
            return Ok(call_of(&reverting(vm, new, Vec::new())).ok());
        }
        if let Some(again) = self.revert.as_ref().and_then(|revert| revert.again.as_deref()) {
            return Ok(Some(again.clone()));
        }
        match (target.is_live(), size < before) {
            (true, _) => return Err(Irreversible::SpaceInUse),
            (false, true) => return Err(Irreversible::DataCutOff),
            (false, false) => {}
        }
        let image = |size, becomes| {
            let (format, size, becomes) = (Some(target.image.format.clone()), Some(size), Some(becomes));
            ExpectedImage { format, size, becomes, ..ExpectedImage::new(target.image.path.clone()) }
        };
        let expected = Expected { images: vec![image(before, size)], ..Expected::vm(vm).not_started_since(vm) };
        let again = Self { revert: Some(Box::new(Revert::new(expected))), ..self.clone() };
        let resized = ExpectedImage { modified, ..image(size, before) };
        let expected = Expected { images: vec![resized], ..Expected::vm(vm).not_started_since(vm) };
        let stored = StoredDefinition { definition: vm.definition.clone(), origins: vm.origins.clone() };
        let revert = Revert {
            expected: new.map_or(expected.clone(), |new| expected.with_definition(&new.definition)),
            // Also one that was not changed: it may have the new size, and would get the old one.
            definition: Some(stored),
            again: call_of(&again).ok().map(Box::new),
            ..Revert::default()
        };
        let inverse = Self {
            shrink: true,
            revert: Some(Box::new(revert)),
            ..Self::new(vm.entry.id.to_string(), &self.drive, SizeChange::To(before))
        };
        Ok(call_of(&inverse).ok())
    }

    /// Changes the size in place; not part of the job, as a `qemu-img` that is killed can damage the image.
    ///
    /// `qemu-img` refuses that while the image has a bitmap of changes that is not valid.
    async fn resize_stopped(
        &self,
        app: &App,
        target: &ImageTarget<'_>,
        size: ByteSize,
        is_smaller: bool,
    ) -> Result<(), Error> {
        let work = target.work(&|_, _| {});
        if is_smaller {
            forget_changes(app, &target.image.path, work.guard).await?;
        }
        let resized = app.ports.image_tools.resize(&target.image, size, self.shrink, &work).await;
        let is_refused = !is_smaller && matches!(resized, Err(ImageError::Refused { .. }));
        if is_refused && forget_invalid_changes(app, &target.image.path, work.guard).await? {
            return Ok(app.ports.image_tools.resize(&target.image, size, self.shrink, &work).await?);
        }
        Ok(resized?)
    }

    fn check_shrink(&self, target: &ImageTarget<'_>, from: ByteSize, to: ByteSize) -> Result<(), Error> {
        if !self.shrink {
            let (vm, drive) = (target.vm.entry.name.clone(), self.drive.clone());
            return Err(StorageError::ShrinkRefused { vm, drive, from, to }.into());
        }
        target.require_stopped()
    }
}

/// Has the running QEMU change the size of its node.
///
/// QEMU refuses that while the node has a bitmap of changes that is not valid; then the next backup is a full one.
async fn resize_live(app: &App, target: &ImageTarget<'_>, size: ByteSize) -> Result<(), Error> {
    let entry = &target.vm.entry;
    if target.spec.snapshot {
        // QEMU has the image open for reading, and the overlay has its size.
        target.require_stopped()?;
    }
    let Some(monitored) = Monitored::live(app, entry).await? else {
        return Err(Error::not_running(entry, app.observer().observe_locked(entry).await.status));
    };
    let nodes = QmpCommand::new("query-named-block-nodes").with("flat", true);
    let nodes = monitored.or_unresponsive(monitored.execute(&nodes).await)?;
    // The definition may have changed since the start.
    let has_image = |found: &&Value| {
        // That of a layer has another name until the next start.
        let is_of_drive = found["node-name"].as_str() == Some(target.spec.name.as_str())
            || found["drv"].as_str() == Some(target.image.format.as_str());
        is_of_drive && found["file"].as_str() == target.image.path.to_str()
    };
    let found = nodes.as_array().into_iter().flatten().find(has_image).and_then(|found| found["node-name"].as_str());
    let Some(node) = found else { return Err(target.not_attached().into()) };
    let resize = QmpCommand::new("block_resize").with("node-name", node).with("size", size.bytes());
    let resized = monitored.execute(&resize).await;
    if resized.as_ref().is_err_and(|error| error.refusal().is_some()) {
        let mut session = monitored.or_unresponsive(monitored.session().await)?;
        let forgotten = forget_invalid_changes_live(&mut *session, node, app.timeouts().qmp).await;
        if monitored.or_unresponsive(forgotten)? {
            return monitored.or_unresponsive(monitored.execute(&resize).await).map(drop);
        }
    }
    monitored.or_unresponsive(resized).map(drop)
}

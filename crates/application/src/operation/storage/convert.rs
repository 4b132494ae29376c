//! `storage convert`: writes the image of a drive in another format, or without its backing files, or elsewhere.

use std::path::{Path, PathBuf};

use crate::app::operations::call_of;
use crate::checkpoint::layers::refuse_layers;
use crate::config::check_machine;
use crate::history::{require_expected, restore_records};
use crate::start::create_disks::find_drive;
use derive_setters::Setters;
use maqet_domain::change::{Change, ChangeSet, StorageRecord};
use maqet_domain::config::Node;
use maqet_domain::event::kind;
use maqet_domain::history::Irreversible;
use maqet_domain::history::{CopySource, Expected, ExpectedImage};
use maqet_domain::port::{ImageError, ImageFile, RewritePlan};
use maqet_domain::revert::{Revert, RevertedRecord, StoredDefinition};
use maqet_domain::size::ByteSize;
use maqet_domain::storage::{FileId, StorageSpec};
use maqet_domain::vm::{PendingWork, VmEntry};
use maqet_fault_points::FaultPoint;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::target::ImageTarget;
use crate::app::commit::work_done;
use crate::app::operations::{Done, Effect, Operation};
use crate::app::shown;
use crate::config::origins;
use crate::start::drives::images_used_by;
use crate::storage::error::StorageError;
use crate::storage::lock::lock_images;
use crate::{App, Error, HumanDuration};

/// Write the image of a drive in another format, without its backing files, or elsewhere
///
/// The VM must be stopped. The new image has all data of the old one and of its backing files, and the definition is
/// changed to it. An image at the same path replaces the old one once it is complete; else the old one stays where it is,
/// until you remove it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Setters)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
#[setters(into)]
pub struct StorageConvert {
    /// The VM: a name, an ID, or a unique prefix of an ID
    pub vm: String,
    /// The drive, by its name under `storage`
    pub drive: String,
    /// The format of the new image
    #[cfg_attr(feature = "clap", arg(value_name = "FORMAT", value_parser = clap::builder::PossibleValuesParser::new(FORMATS)))]
    pub to: String,
    /// Write the new image to this file; by default to the path of the old one with the extension of the format
    #[cfg_attr(feature = "clap", arg(long, value_name = "FILE"))]
    #[setters(strip_option)]
    pub file: Option<PathBuf>,
    /// Compress the data, which makes reading it slower; what the guest writes later is not compressed
    #[serde(default)]
    #[cfg_attr(feature = "clap", arg(long))]
    pub compress: bool,
    /// Allow an image with snapshots, which the new one does not have
    #[serde(default)]
    #[cfg_attr(feature = "clap", arg(long))]
    pub discard_snapshots: bool,
    /// Remove the old image once the definition has the new one
    #[serde(default)]
    #[cfg_attr(feature = "clap", arg(long))]
    pub remove_old: bool,
    /// Timeout, after which the drive is as it was [default: none]
    #[cfg_attr(feature = "clap", arg(long, value_name = "DURATION"))]
    #[setters(strip_option)]
    pub timeout: Option<HumanDuration>,
    /// What it has in addition if it reverts a change; `undo` sets it.
    #[cfg_attr(feature = "clap", arg(skip))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[setters(skip)]
    pub revert: Option<Box<Revert>>,
}

/// The formats of new images, which are the names of their storage types, too.
const FORMATS: [&str; 2] = ["qcow2", "raw"];

/// The storage types of images that can be converted.
const SOURCES: [&str; 6] = ["qcow2", "raw", "vmdk", "vdi", "vhdx", "vpc"];

impl StorageConvert {
    /// Converts a drive to a format.
    pub fn new(vm: impl Into<String>, drive: impl Into<String>, to: impl Into<String>) -> Self {
        Self {
            vm: vm.into(),
            drive: drive.into(),
            to: to.into(),
            file: None,
            compress: false,
            discard_snapshots: false,
            remove_old: false,
            timeout: None,
            revert: None,
        }
    }
}

/// The result of a conversion.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct StorageConverted {
    /// The VM's ID.
    pub id: String,
    /// The VM's name.
    pub name: String,
    /// The drive.
    pub drive: String,
    /// Its image.
    pub file: String,
    /// Its format.
    pub format: String,
    /// The space that it takes on the host.
    pub allocated_bytes: u64,
    /// The image before, where it is another file that still exists.
    pub old_file: Option<String>,
}

impl Operation for StorageConvert {
    const NAME: &'static str = "storage.convert";
    const EFFECT: Effect = Effect::Changes;
    type Output = StorageConverted;

    fn irreversible(&self) -> Option<Irreversible> {
        self.remove_old.then_some(Irreversible::ImageReplaced)
    }

    fn revert(&self) -> Option<&Revert> {
        self.revert.as_deref()
    }

    async fn run(&self, app: &App) -> Result<Done<StorageConverted>, Error> {
        let target = ImageTarget::lock(app, &self.vm, &self.drive, Self::NAME, self.timeout).await?;
        require_expected(app, self.revert.as_deref(), Some(&target.vm)).await?;
        refuse_layers(app, &target.vm.entry, Some(&self.drive)).await?;
        target.require_free().await?;
        if let Some(revert) = self.revert.as_deref().filter(|revert| revert.definition.is_some()) {
            return take_back(app, target, self, revert).await;
        }
        let conversion = Conversion::plan(self, app, &target).await?;
        let new_guards = if conversion.is_in_place() {
            Vec::new()
        } else {
            lock_images(app, [conversion.to.path.as_path()], Self::NAME).await?
        };
        target.require_no_snapshots(self.discard_snapshots).await?;
        target.require_sound().await?;
        let plan = RewritePlan {
            from: target.image.clone(),
            to: conversion.to.clone(),
            is_compressed: self.compress,
            keeps_backing: false,
        };
        target.job.set_stage("writing the new image");
        let progress = target.job.share_reporter(conversion.size.bytes());
        let entry = conversion.begin(app, &target.vm.entry, None).await?;
        let rewritten = target.job.run(app.ports.image_tools.rewrite(&plan, &target.work(&progress))).await;
        drop(progress);
        let rewritten =
            conversion.or_end(app, &entry, rewritten.and_then(|written| written.map_err(Error::from))).await?;
        let allocated = rewritten.actual_size();
        let entry = conversion.begin(app, &entry, Some(rewritten.file())).await?;
        let placed = rewritten.put_in_place().map_err(Error::from);
        conversion.or_end(app, &entry, placed).await?;

        // A VM that needs it may have been defined meanwhile.
        let is_removed =
            self.remove_old && !conversion.is_in_place() && target.other_uses().await.is_ok_and(|uses| uses.is_empty());
        let is_kept = !is_removed && !conversion.is_in_place();
        let done = StorageConverted {
            id: entry.id.to_string(),
            name: entry.name.to_string(),
            drive: self.drive.clone(),
            file: shown(&conversion.to.path),
            format: conversion.to.format.clone(),
            allocated_bytes: allocated.bytes(),
            old_file: is_kept.then(|| shown(&target.image.path)),
        };
        let file = |image: &ImageFile| json!({ "file": shown(&image.path), "format": image.format });
        let data = json!({ "drive": self.drive, "from": file(&target.image), "to": file(&conversion.to) });
        let event = app.committer().event(kind::STORAGE_CONVERTED, &entry, data);
        let old = conversion.old.filter(|_| is_removed).map(|id| (target.image.path.clone(), id));
        // The guest has the same disk as before.
        let is_same = conversion.is_in_place() && conversion.definition.is_none() && !self.discard_snapshots;
        let undone = if is_kept { self.undone(app, &target, &conversion).await? } else { None };
        let used = if conversion.is_in_place() { images_used_by(app, &target.vm).await } else { None };
        let mut changes = conversion.changes(app, &entry);
        changes.changes.extend(used);
        let guards = target.into_guards().into_iter().chain(new_guards).collect();
        let done = Done::changing(done, entry.id, changes).event(event).replaced_image(old).holding_all(guards);
        Ok(match undone {
            Some(inverse) => done.undone_by(&inverse),
            None if is_same => done.into_note(),
            None => done.not_undone(Irreversible::ImageReplaced),
        })
    }
}

/// Has the drive use its old image again, and removes the new one, which has nothing that the old one lacks.
async fn take_back(
    app: &App,
    target: ImageTarget<'_>,
    convert: &StorageConvert,
    revert: &Revert,
) -> Result<Done<StorageConverted>, Error> {
    target.require_unshared().await?;
    target.require_no_snapshots(false).await?;
    let (link, _) = target.examine().await?;
    let StoredDefinition { definition, origins } = revert.definition.clone().unwrap_or_else(|| StoredDefinition {
        definition: target.vm.definition.clone(),
        origins: target.vm.origins.clone(),
    });
    let machine = check_machine(app, definition.clone())?;
    let spec = find_drive(&target.vm.entry, &machine, &convert.drive)?;
    let old = target.path_of(spec);
    let entry = &target.vm.entry;
    let done = StorageConverted {
        id: entry.id.to_string(),
        name: entry.name.to_string(),
        drive: convert.drive.clone(),
        file: shown(&old),
        format: convert.to.clone(),
        allocated_bytes: 0,
        old_file: None,
    };
    let file = |path: &Path, format: &str| json!({ "file": shown(path), "format": format });
    let (from, to) = (file(&target.image.path, &target.image.format), file(&old, &convert.to));
    let data = json!({ "drive": convert.drive, "from": from, "to": to });
    let event = app.committer().event(kind::STORAGE_CONVERTED, entry, data);
    let (id, expected) = (entry.id, entry.revision);
    let mut changes = ChangeSet::default().and(Change::DefinitionChanged { id, expected, definition, origins });
    changes.changes.extend(restore_records(app, id, &revert.records).await?);
    let removed = link.file.map(|file| (target.image.path.clone(), file));
    Ok(Done::changing(done, id, changes)
        .event(event)
        .replaced_image(removed)
        .holding_all(target.into_guards())
        .undone_by_call(revert.again.as_deref().cloned()))
}

/// What a conversion writes.
struct Conversion {
    drive: String,
    to: ImageFile,
    /// The old image.
    old: Option<FileId>,
    /// Whether the new image is a file of its own.
    is_elsewhere: bool,
    /// The storage type.
    kind: String,
    size: ByteSize,
    /// The new definition, unless it stays.
    definition: Option<Node>,
}

impl Conversion {
    /// Decides where the new image is and what its definition is, before anything is written.
    async fn plan(convert: &StorageConvert, app: &App, target: &ImageTarget<'_>) -> Result<Self, Error> {
        let spec = &target.spec;
        let kind = new_type(convert, target)?;
        let (link, size) = target.examine().await?;
        let path = convert.new_path(app, target, &kind);
        let is_elsewhere = path != target.image.path;
        if is_elsewhere || convert.to != target.image.format {
            if app.ports.images.exists(&path).await {
                return Err(ImageError::Exists { path }.into());
            }
            if convert.remove_old {
                target.require_unshared().await?;
            }
        }
        let is_default = path == target.default_path(&kind);
        let file = (!is_default || spec.file.is_some()).then(|| path.to_string_lossy().into_owned());
        let size_key = (spec.size.is_some() || spec.backing.is_some()).then(|| size.to_string());
        let keys = [
            ("type", Some(kind.clone())),
            ("file", file),
            ("backing_file", None),
            ("backing_format", None),
            ("size", size_key),
        ];
        let is_set =
            |new: &StorageSpec| new.driver.type_name() == kind && new.backing.is_none() && target.path_of(new) == path;
        let is_changed = is_elsewhere || spec.backing.is_some() || spec.driver.type_name() != kind;
        let definition = if is_changed {
            Some(target.with_keys(&keys, is_set)?.ok_or_else(|| target.not_in_definition())?)
        } else {
            None
        };
        let (drive, to) = (convert.drive.clone(), ImageFile { path, format: convert.to.clone() });
        Ok(Self { drive, to, old: link.file, is_elsewhere, kind, size, definition })
    }

    const fn is_in_place(&self) -> bool {
        !self.is_elsewhere
    }

    /// Records a new file as pending, to be removed again until the definition has it; returns the entry as it is then.
    async fn begin(&self, app: &App, entry: &VmEntry, file: Option<FileId>) -> Result<VmEntry, Error> {
        let path = self.to.path.clone();
        let work = if self.is_in_place() {
            PendingWork::ImageRewrite { path }
        } else {
            PendingWork::StorageConvert { path, file }
        };
        let entry = app.committer().begin_work(entry, StorageConvert::NAME, work, Vec::new()).await?;
        app.faults.reach(FaultPoint::Marked(StorageConvert::NAME));
        Ok(entry)
    }

    /// Returns the result of a step; after a failure nothing is pending.
    async fn or_end<T>(&self, app: &App, entry: &VmEntry, result: Result<T, Error>) -> Result<T, Error> {
        if result.is_err() {
            app.committer().end_work(entry, Vec::new()).await?;
        }
        result
    }

    /// Returns what is written once the image is in place; `entry` is the VM as it was last written.
    fn changes(self, app: &App, entry: &VmEntry) -> ChangeSet {
        let mut changes = ChangeSet::default();
        let mut entry = entry.clone();
        if let Some(definition) = self.definition {
            let (id, expected, origins) = (entry.id, entry.revision, origins(&definition));
            changes = changes.and(Change::DefinitionChanged { id, expected, definition, origins });
            entry.revision = entry.revision.next();
        }
        if self.is_elsewhere {
            let record = StorageRecord {
                path: self.to.path,
                vm: Some(entry.id),
                drive: self.drive,
                kind: self.kind,
                size: Some(self.size),
                created_at: app.committer().now(),
            };
            changes = changes.and(Change::StorageAdded(record));
        }
        changes.and(work_done(&entry))
    }
}

impl StorageConvert {
    /// Returns the call that has the drive use its old image again.
    async fn undone(
        &self,
        app: &App,
        target: &ImageTarget<'_>,
        conversion: &Conversion,
    ) -> Result<Option<Self>, Error> {
        let (vm, path) = (&target.vm, &conversion.to.path);
        let Some(new) = &conversion.definition else { return Ok(None) };
        let tools = &app.ports.image_tools;
        // The drive gets its content again, which is the same even if it was written and undone meanwhile.
        let old = ExpectedImage {
            file: conversion.old,
            modified: tools.modified(&target.image.path).await,
            format: Some(target.image.format.clone()),
            copied_from: Some(CopySource { path: path.clone(), format: conversion.to.format.clone() }),
            ..ExpectedImage::new(target.image.path.clone())
        };
        // What was written to it since would be lost, also by what is no VM.
        let written = ExpectedImage {
            file: tools.identify(path).await.map(|(_, file)| file),
            modified: tools.modified(path).await,
            format: Some(conversion.to.format.clone()),
            // An image that was only written in another way, as by a conversion in place, is as good.
            copied_from: Some(CopySource { path: target.image.path.clone(), format: target.image.format.clone() }),
            ..ExpectedImage::new(path.clone())
        };
        // It may have been written in another way since, as by a conversion in place: whatever it is, it stays.
        let (format, size) = (Some(target.image.format.clone()), Some(conversion.size));
        let found_again = ExpectedImage { format, size, ..ExpectedImage::new(target.image.path.clone()) };
        let (images, free_paths) = (vec![found_again], vec![path.clone()]);
        let expected = Expected { images, free_paths, ..Expected::vm(vm).not_started_since(vm) };
        let again = Self { revert: Some(Box::new(Revert::new(expected))), ..self.clone() };
        let record = app.ports.store.storage_at(path).await?;
        let stored = StoredDefinition { definition: vm.definition.clone(), origins: vm.origins.clone() };
        let expected =
            Expected { images: vec![old, written], ..Expected::vm(vm).not_started_since(vm).with_definition(new) };
        let revert = Revert {
            definition: Some(stored),
            records: vec![RevertedRecord { path: path.clone(), record }],
            again: call_of(&again).ok().map(Box::new),
            ..Revert::new(expected)
        };
        let inverse = Self::new(vm.entry.id.to_string(), &self.drive, &target.image.format);
        Ok(Some(Self { revert: Some(Box::new(revert)), ..inverse }))
    }

    /// Returns where the new image is.
    fn new_path(&self, app: &App, target: &ImageTarget<'_>, kind: &str) -> PathBuf {
        let extension = app.drivers().get(kind).map_or(kind, |driver| driver.extension());
        match (&self.file, &target.spec.file) {
            (Some(file), _) => file.clone(),
            _ if self.to == target.image.format => target.image.path.clone(),
            (None, Some(old)) => with_extension(old, extension),
            (None, None) => target.default_path(kind),
        }
    }
}

/// Returns a path with the extension of another format; a name without one that is known keeps it.
fn with_extension(old: &Path, extension: &str) -> PathBuf {
    let is_known = old
        .extension()
        .is_some_and(|found| ["qcow2", "raw", "img", "vmdk", "vdi", "vhdx", "vhd"].iter().any(|known| found == *known));
    if is_known {
        return old.with_extension(extension);
    }
    let mut path = old.as_os_str().to_owned();
    path.push(".");
    path.push(extension);
    PathBuf::from(path)
}

/// Returns the storage type that the drive has with the new format.
fn new_type(convert: &StorageConvert, target: &ImageTarget<'_>) -> Result<String, Error> {
    let (spec, kind) = (&target.spec, target.spec.driver.type_name());
    let is_readonly_type = spec.driver.is_readonly(spec) && !spec.readonly;
    if convert.to == target.image.format && !is_readonly_type {
        return Ok(kind.to_owned());
    }
    if SOURCES.contains(&kind) && FORMATS.contains(&convert.to.as_str()) {
        return Ok(convert.to.clone());
    }
    let (vm, drive) = (target.vm.entry.name.clone(), convert.drive.clone());
    Err(StorageError::FormatUnsupported { vm, drive, kind, format: convert.to.clone() }.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_with_extension_replaces_only_known_extensions() {
        let path = |old: &str| with_extension(Path::new(old), "raw");

        assert_eq!(path("/d/a.qcow2"), Path::new("/d/a.raw"));
        assert_eq!(path("/d/a.img"), Path::new("/d/a.raw"));
        assert_eq!(path("/d/debian-12.5"), Path::new("/d/debian-12.5.raw"));
        assert_eq!(path("/d/a"), Path::new("/d/a.raw"));
    }
}

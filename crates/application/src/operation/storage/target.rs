//! The image of a drive, locked for an operation that changes or checks it.

use std::path::PathBuf;

use maqet_domain::change::Change;
use maqet_domain::config::{Node, SourceLocation, Value};
use maqet_domain::port::{Guard, ImageCheck, ImageError, ImageFile, ImageLink, ImageUse, ImageWork};
use maqet_domain::size::ByteSize;
use maqet_domain::snapshot::tag;
use maqet_domain::storage::{ImageAccess, StorageSpec};
use maqet_domain::vm::{Action, PendingWork, Status, Vm, VmEntry};

use crate::app::commit::work_done;
use crate::config::{check_machine, with_locations};
use crate::job::Job;
use crate::start::create_disks::find_drive;
use crate::start::drives::Drive;
use crate::start::image_owner::of_owner;
use crate::storage::error::StorageError;
use crate::storage::lock::lock_images;
use crate::trash::used_files::{FileUse, UsedFiles};
use crate::{App, Error, HumanDuration};

/// The image of a drive, with the locks of its VM and of the image.
pub(super) struct ImageTarget<'a> {
    app: &'a App,
    pub(super) job: Job<'a>,
    pub(super) vm: Vm,
    pub(super) spec: StorageSpec,
    pub(super) image: ImageFile,
    status: Status,
    guard: Box<dyn Guard>,
    image_guards: Vec<Box<dyn Guard>>,
}

impl<'a> ImageTarget<'a> {
    /// Locks the VM and the image of one of its drives.
    pub(super) async fn lock(
        app: &'a App,
        vm: &str,
        drive: &str,
        operation: &'static str,
        timeout: Option<HumanDuration>,
    ) -> Result<Self, Error> {
        let (guard, vm) = app.vms().lock(vm, operation).await?;
        let machine = app.machine(&vm)?;
        let spec = find_drive(&vm.entry, &machine, drive)?.clone();
        let not_an_image = || StorageError::not_an_image(&vm.entry.name, &spec);
        let used = Drive::new(&spec, &app.folders.vm_storage(&vm.entry.name)).image_use().ok_or_else(not_an_image)?;
        let image = ImageFile { path: used.path, format: used.format.ok_or_else(not_an_image)? };
        let status = app.observer().observe_locked(&vm.entry).await.status;
        let image_guards = lock_images(app, [image.path.as_path()], operation).await?;
        let job = app.jobs.start(operation, &vm.entry.name).within(timeout);
        Ok(Self { app, job, vm, spec, image, status, guard, image_guards })
    }

    /// Returns whether a process of the VM has the image, or may have it.
    pub(super) const fn is_live(&self) -> bool {
        self.status.is_live()
    }

    /// Refuses to go on unless the VM is stopped and no other process has the image open.
    pub(super) async fn require_free(&self) -> Result<(), Error> {
        self.require_stopped()?;
        let unlocked = self.app.ports.images.require_unlocked(&self.use_for(ImageAccess::Write)).await;
        of_owner(self.app, &self.vm.entry, unlocked).await
    }

    /// Refuses to go on unless the VM is stopped.
    pub(super) fn require_stopped(&self) -> Result<(), Error> {
        let transition = self.status.transition(Action::ChangeDisks);
        transition.map(drop).map_err(|invalid| Error::wrong_state(&self.vm.entry, invalid))
    }

    /// Refuses to go on if the image has snapshots that would be lost, unless that is allowed.
    pub(super) async fn require_no_snapshots(&self, may_be_lost: bool) -> Result<(), Error> {
        let snapshots = self.app.ports.images.info(&self.image.path).await?.snapshots;
        if snapshots.is_empty() || may_be_lost {
            return Ok(());
        }
        let (vm, drive) = (self.vm.entry.name.clone(), self.spec.name.to_string());
        let name = |snapshot| format!("`{}`", tag::name_of(snapshot, &snapshots).escape_debug());
        let names = snapshots.iter().map(name).collect();
        Err(StorageError::HasSnapshots { vm, drive, names }.into())
    }

    /// Refuses to go on if the image has errors: a copy of it would have lost what they hide.
    pub(super) async fn require_sound(&self) -> Result<(), Error> {
        let Some(found) = self.check(&self.image).await? else { return Ok(()) };
        let errors = found.corruptions.saturating_add(found.check_errors);
        if errors == 0 {
            return Ok(());
        }
        let (vm, drive) = (self.vm.entry.name.clone(), self.spec.name.to_string());
        Err(StorageError::Damaged { vm, drive, errors }.into())
    }

    /// Checks an image, as part of the job.
    pub(super) async fn check(&self, image: &ImageFile) -> Result<Option<ImageCheck>, Error> {
        self.job.set_stage("checking the image");
        let work = self.work(&|_, _| {});
        let check = self.app.ports.image_tools.check(image, None, &work);
        Ok(self.job.run(self.job.reporting_elapsed(check)).await??)
    }

    /// Returns the image and its backing files.
    pub(super) async fn chain(&self) -> Vec<ImageLink> {
        self.app.ports.image_tools.chain(&self.use_for(ImageAccess::Read)).await
    }

    /// Returns the image itself, with its size.
    ///
    /// Errors: it cannot be used, or is not a regular file.
    pub(super) async fn examine(&self) -> Result<(ImageLink, ByteSize), Error> {
        let Some(link) = self.chain().await.into_iter().next() else { return Err(self.not_a_file().into()) };
        if let Some(problem) = link.problem {
            return Err(ImageError::from(problem).into());
        }
        // That of a block device is not known, and that of another program's format only to `qemu-img`.
        let size = match link.virtual_size {
            None if !["raw", "qcow2"].contains(&self.image.format.as_str()) => {
                Some(self.app.ports.images.info(&self.image.path).await?.virtual_size)
            }
            known => known,
        };
        Ok((link, size.ok_or_else(|| self.not_a_file())?))
    }

    /// Refuses to go on if anything but this drive uses the image, as its own or as a backing file.
    pub(super) async fn require_unshared(&self) -> Result<(), Error> {
        let uses = self.other_uses().await?;
        if uses.is_empty() {
            return Ok(());
        }
        Err(StorageError::UsedByOthers { vm: self.vm.entry.name.clone(), drive: self.spec.name.to_string(), uses }
            .into())
    }

    /// Refuses a size that is less than that of the backing file, of which the guest would see only the beginning.
    pub(super) async fn require_not_below_backing(&self, size: ByteSize) -> Result<(), Error> {
        let chain = self.chain().await;
        let Some(backing) = chain.get(1) else { return Ok(()) };
        let Some(backing_size) = backing.virtual_size.filter(|backing_size| size < *backing_size) else {
            return Ok(());
        };
        let (vm, drive, backing) = (self.vm.entry.name.clone(), self.spec.name.to_string(), backing.path.clone());
        Err(StorageError::BelowBacking { vm, drive, size, backing, backing_size }.into())
    }

    /// Returns how anything but this drive uses the image.
    pub(super) async fn other_uses(&self) -> Result<Vec<FileUse>, Error> {
        let used = UsedFiles::of_all_but(self.app, &self.vm, self.spec.name.as_str()).await?;
        Ok(used.uses_of(&self.image.path).await)
    }

    /// Records that the image is being rewritten, so that no other host takes the VM over meanwhile, and that it is known
    /// after a kill. Ends with [`or_end`](Self::or_end) or [`work_done`](Self::work_done).
    pub(super) async fn begin(&mut self, operation: &str) -> Result<(), Error> {
        let work = PendingWork::ImageRewrite { path: self.image.path.clone() };
        self.vm.entry = self.app.committer().begin_work(&self.vm.entry, operation, work, Vec::new()).await?;
        Ok(())
    }

    /// Returns the result of a step; after a failure nothing is pending.
    pub(super) async fn or_end<T>(&mut self, result: Result<T, Error>) -> Result<T, Error> {
        if result.is_err() {
            self.end().await?;
        }
        result
    }

    /// Records that the image is not being rewritten any more.
    pub(super) async fn end(&mut self) -> Result<(), Error> {
        if self.vm.entry.pending.is_some() {
            self.vm.entry = self.app.committer().end_work(&self.vm.entry, Vec::new()).await?;
        }
        Ok(())
    }

    /// Returns the change that ends the work, after `changes` of the VM in the same commit.
    pub(super) fn work_done(&self, changes: u32) -> Option<Change> {
        self.vm.entry.pending.as_ref()?;
        let revision = (0..changes).fold(self.vm.entry.revision, |revision, _| revision.next());
        Some(work_done(&VmEntry { revision, ..self.vm.entry.clone() }))
    }

    /// Returns what work on the image holds, and where it reports.
    pub(super) fn work<'w>(&'w self, progress: &'w (dyn Fn(u64, u64) + Send + Sync)) -> ImageWork<'w> {
        ImageWork { guard: &*self.guard, progress }
    }

    /// Returns the definition with keys of the drive set, or removed where there is no value, if that is what the drive
    /// then has; `is_set` is asked that.
    ///
    /// A drive that comes from the defaults of the settings is not in the definition.
    pub(super) fn with_keys(
        &self,
        keys: &[(&str, Option<String>)],
        is_set: impl Fn(&StorageSpec) -> bool,
    ) -> Result<Option<Node>, Error> {
        let definition = with_locations(&self.vm);
        let index = self.spec.index;
        let definition = definition.map_entries(|entries| {
            let set = |(key, node): (String, Node)| {
                let node = if key == "storage" { with_item(node, index, keys) } else { node };
                (key, node)
            };
            entries.into_iter().map(set).collect()
        });
        let machine = check_machine(self.app, definition.clone())?;
        let is_right = machine.drive(self.spec.name.as_str()).is_some_and(is_set);
        Ok(is_right.then_some(definition))
    }

    /// Returns the locks, to be held until everything is written.
    pub(super) fn into_guards(self) -> Vec<Box<dyn Guard>> {
        self.image_guards.into_iter().chain([self.guard]).collect()
    }

    fn use_for(&self, access: ImageAccess) -> ImageUse {
        ImageUse { path: self.image.path.clone(), format: Some(self.image.format.clone()), access }
    }

    pub(super) fn not_attached(&self) -> StorageError {
        StorageError::NotAttached { vm: self.vm.entry.name.clone(), drive: self.spec.name.to_string() }
    }

    pub(super) fn not_in_definition(&self) -> StorageError {
        StorageError::NotInDefinition { vm: self.vm.entry.name.clone(), drive: self.spec.name.to_string() }
    }

    /// Returns the path of an image of this type that has none in the definition.
    pub(super) fn default_path(&self, kind: &str) -> PathBuf {
        let extension = self.app.drivers().get(kind).map_or(kind, |driver| driver.extension());
        self.app.folders.vm_storage(&self.vm.entry.name).join(format!("{}.{extension}", self.spec.name))
    }

    /// Returns the path of the image of a drive of this VM.
    pub(super) fn path_of(&self, spec: &StorageSpec) -> PathBuf {
        spec.path(&self.app.folders.vm_storage(&self.vm.entry.name))
    }

    fn not_a_file(&self) -> StorageError {
        let drive = self.spec.name.to_string();
        StorageError::NotAFile { vm: self.vm.entry.name.clone(), drive, path: self.image.path.clone() }
    }
}

fn with_item(list: Node, index: usize, keys: &[(&str, Option<String>)]) -> Node {
    list.map_items(|items| {
        let set = |(at, item): (usize, Node)| if at == index { with_values(item, keys) } else { item };
        items.into_iter().enumerate().map(set).collect()
    })
}

fn with_values(item: Node, keys: &[(&str, Option<String>)]) -> Node {
    item.map_entries(|mut entries| {
        for (key, value) in keys {
            let node = value
                .as_ref()
                .map(|value| Node::new(Value::Text(value.clone())).at(SourceLocation::named("`maqet storage`")));
            let position = entries.iter().position(|(known, _)| known == key);
            match (position, node) {
                (Some(at), Some(node)) => entries[at].1 = node,
                (Some(at), None) => drop(entries.remove(at)),
                (None, Some(node)) => entries.push(((*key).to_owned(), node)),
                (None, None) => {}
            }
        }
        entries
    })
}

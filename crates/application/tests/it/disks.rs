//! Disk images, snapshots and the trash in memory: enough of them to change, move and compare what guests see.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use maqet_domain::Timestamp;
use maqet_domain::machine::FileAccess;
use maqet_domain::port::{
    Clock, DiskImages, FileError, HeldLock, ImageCheck, ImageError, ImageFile, ImageInfo, ImageLink, ImageRepair,
    ImageSummary, ImageTools, ImageUse, ImageUser, ImageWork, PathKind, PathObstacle, Paths, RewritePlan,
    RewrittenImage, Trash, TrashError, TrashPlace,
};
use maqet_domain::size::ByteSize;
use maqet_domain::snapshot::ImageSnapshot;
use maqet_domain::storage::{FileId, ImagePlan, ImageProblem, SharedFileId, UnusableImage};
use maqet_domain::trash::{TrashEntry, TrashId, TrashedImage, TrashedImageLocation};

/// What a guest sees of a disk: its size, and data at offsets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Content {
    size: u64,
    data: BTreeMap<u64, u64>,
}

impl Content {
    /// Returns whether nothing was written.
    pub(crate) fn is_empty(&self) -> bool {
        self.data.is_empty()
    }
}

#[derive(Debug, Clone)]
struct Image {
    format: String,
    content: Content,
    snapshots: Vec<(ImageSnapshot, Content)>,
    file: FileId,
    modified: Timestamp,
}

#[derive(Debug, Default)]
struct Files {
    images: BTreeMap<PathBuf, Image>,
    trash: BTreeMap<TrashId, TrashEntry>,
    /// Grows with each change, and is the time and the number of the next file.
    ticks: u64,
}

/// The files of a host; its clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disks(Arc<Mutex<Files>>);

/// An image as it is compared: its format, what the guest sees, and its snapshots by name.
pub(crate) type ShownImage = (String, Content, Vec<(String, Content)>);

impl Files {
    fn tick(&mut self) -> Timestamp {
        self.ticks += 1;
        Timestamp::from_second(self.ticks.cast_signed()).unwrap()
    }

    fn add(&mut self, path: &Path, format: &str, content: Content) -> FileId {
        let modified = self.tick();
        let file = FileId { device: 1, inode: self.ticks };
        let image = Image { format: format.to_owned(), content, snapshots: Vec::new(), file, modified };
        self.images.insert(path.to_owned(), image);
        file
    }

    fn get(&self, path: &Path) -> Result<&Image, ImageError> {
        self.images.get(path).ok_or_else(|| ImageError::NotFound { path: path.to_owned() })
    }

    /// Changes an image.
    fn change<T>(&mut self, path: &Path, change: impl FnOnce(&mut Image, Timestamp) -> T) -> Result<T, ImageError> {
        let now = self.tick();
        let image = self.images.get_mut(path).ok_or_else(|| ImageError::NotFound { path: path.to_owned() })?;
        image.modified = now;
        Ok(change(image, now))
    }

    fn rename(&mut self, from: &Path, to: &Path) -> Result<(), TrashError> {
        if self.images.contains_key(to) {
            return Err(TrashError::Exists { from: from.to_owned(), to: to.to_owned() });
        }
        let image = self.images.remove(from).ok_or_else(|| TrashError::NotFound { path: from.to_owned() })?;
        self.images.insert(to.to_owned(), image);
        Ok(())
    }
}

impl Disks {
    fn files(&self) -> MutexGuard<'_, Files> {
        self.0.lock().unwrap()
    }

    /// Creates an image that no VM has.
    pub(crate) fn create_raw(&self, path: &str, size: u64) {
        self.files().add(Path::new(path), "raw", Content { size, data: [(0, 7)].into() });
    }

    /// Writes to an image, as a guest does.
    pub(crate) fn write(&self, path: &str, offset: u64, value: u64) {
        self.files().change(Path::new(path), |image, _| image.content.data.insert(offset, value)).unwrap();
    }

    /// Returns what guests see of the images outside of the trash, by their paths.
    pub(crate) fn shown(&self) -> BTreeMap<PathBuf, ShownImage> {
        let shown = |image: &Image| {
            let snapshots = image.snapshots.iter().map(|(snapshot, content)| (snapshot.name.clone(), content.clone()));
            (image.format.clone(), image.content.clone(), snapshots.collect())
        };
        let files = self.files();
        let images = files.images.iter().filter(|(path, _)| !path.starts_with("/d/trash"));
        images.map(|(path, image)| (path.clone(), shown(image))).collect()
    }
}

impl Clock for Disks {
    fn now(&self) -> Timestamp {
        self.files().tick()
    }
}

#[async_trait]
impl Paths for Disks {
    async fn kind(&self, path: &Path) -> PathKind {
        if self.files().images.contains_key(path) { PathKind::File } else { PathKind::NotFound }
    }

    async fn resolve(&self, path: &Path) -> PathBuf {
        path.to_owned()
    }

    async fn obstacle(&self, path: &Path, access: FileAccess) -> Option<PathObstacle> {
        let is_missing = access == FileAccess::Read && !self.files().images.contains_key(path);
        is_missing.then(|| PathObstacle::NotFound { path: path.to_owned() })
    }

    async fn is_huge_pages(&self, _path: &Path) -> bool {
        false
    }

    async fn below(&self, _path: &Path) -> Vec<PathBuf> {
        Vec::new()
    }

    async fn files(&self, directory: &Path) -> Vec<PathBuf> {
        self.files().images.keys().filter(|path| path.starts_with(directory)).cloned().collect()
    }

    async fn read(&self, path: &Path, _limit: usize) -> Result<Vec<u8>, FileError> {
        Err(FileError::NotFound { path: path.to_owned() })
    }
}

#[async_trait]
impl DiskImages for Disks {
    async fn tool_version(&self) -> Result<String, ImageError> {
        Ok("7.2.22".to_owned())
    }

    async fn shared_id(&self, _: &Path) -> Option<SharedFileId> {
        None
    }

    async fn exists(&self, path: &Path) -> bool {
        self.files().images.contains_key(path)
    }

    async fn examine(&self, image: &ImageUse) -> Result<ImageSummary, ImageError> {
        let files = self.files();
        let Ok(found) = files.get(&image.path) else {
            let problem = ImageProblem::NotFound { directory: None };
            return Err(UnusableImage { path: image.path.clone(), overlay: None, problem }.into());
        };
        let virtual_size = Some(ByteSize::from_bytes(found.content.size));
        Ok(ImageSummary { virtual_size, ..ImageSummary::default() })
    }

    async fn content_start(&self, _image: &ImageUse, _bytes: usize) -> Result<Option<Vec<u8>>, ImageError> {
        Ok(None)
    }

    async fn require_unlocked(&self, _image: &ImageUse) -> Result<(), ImageError> {
        Ok(())
    }

    async fn create(&self, plan: &ImagePlan) -> Result<(), ImageError> {
        let content = Content { size: plan.size.unwrap_or_default().bytes(), data: BTreeMap::new() };
        self.files().add(&plan.path, &plan.format, content);
        Ok(())
    }

    async fn convert(&self, from: &Path, _from_format: &str, to: &Path) -> Result<(), ImageError> {
        let mut files = self.files();
        let content = files.get(from)?.content.clone();
        files.add(to, "qcow2", content);
        Ok(())
    }

    async fn info(&self, path: &Path) -> Result<ImageInfo, ImageError> {
        let files = self.files();
        let image = files.get(path)?;
        Ok(ImageInfo {
            format: image.format.clone(),
            virtual_size: ByteSize::from_bytes(image.content.size),
            actual_size: ByteSize::default(),
            snapshots: image.snapshots.iter().map(|(snapshot, _)| snapshot.clone()).collect(),
        })
    }

    async fn user(&self, _path: &Path) -> Option<ImageUser> {
        None
    }

    async fn snapshots(&self, path: &Path) -> Result<Vec<ImageSnapshot>, ImageError> {
        Ok(self.info(path).await?.snapshots)
    }

    async fn create_snapshot(&self, path: &Path, tag: &str, _guard: &HeldLock) -> Result<(), ImageError> {
        self.files().change(path, |image, created_at| {
            // QEMU gives the number of one that was removed again.
            let free = (1..).map(|number: u32| number.to_string());
            let id = free.into_iter().find(|id| image.snapshots.iter().all(|(snapshot, _)| snapshot.id != *id));
            let name = tag.to_owned();
            let id = id.unwrap();
            let snapshot = ImageSnapshot { id, name, created_at, vm_state_bytes: 0, vm_clock_nanos: 0 };
            image.snapshots.push((snapshot, image.content.clone()));
        })
    }

    async fn load_snapshot(&self, path: &Path, tag: &str, _guard: &HeldLock) -> Result<(), ImageError> {
        self.files().change(path, |image, _| {
            let (_, content) = image.snapshots.iter().find(|(snapshot, _)| snapshot.name == tag).unwrap();
            image.content = content.clone();
        })
    }

    async fn remove_snapshot(&self, path: &Path, tag: &str, _guard: &HeldLock) -> Result<(), ImageError> {
        self.files().change(path, |image, _| image.snapshots.retain(|(snapshot, _)| snapshot.name != tag))
    }

    async fn copy_state(&self, _from: &Path, _to: &Path) -> Result<(), ImageError> {
        Ok(())
    }

    async fn remove_state(&self, _path: &Path) -> Result<(), ImageError> {
        Ok(())
    }

    async fn state_copies(&self, _path: &Path) -> Result<Vec<String>, ImageError> {
        Ok(Vec::new())
    }
}

#[async_trait]
impl ImageTools for Disks {
    async fn chain(&self, image: &ImageUse) -> Vec<ImageLink> {
        let files = self.files();
        let Ok(found) = files.get(&image.path) else { return Vec::new() };
        let size = Some(ByteSize::from_bytes(found.content.size));
        let (path, format, file) = (image.path.clone(), Some(found.format.clone()), Some(found.file));
        vec![ImageLink { path, format, virtual_size: size, actual_size: size, file, problem: None }]
    }

    async fn identify(&self, path: &Path) -> Option<(PathBuf, FileId)> {
        Some((path.to_owned(), self.files().get(path).ok()?.file))
    }

    async fn modified(&self, path: &Path) -> Option<Timestamp> {
        Some(self.files().get(path).ok()?.modified)
    }

    async fn has_data(&self, image: &ImageFile, from: ByteSize) -> Result<bool, ImageError> {
        Ok(self.files().get(&image.path)?.content.data.range(from.bytes()..).next().is_some())
    }

    async fn has_same_content(&self, image: &ImageFile, other: &ImageFile) -> Result<bool, ImageError> {
        let files = self.files();
        Ok(files.get(&image.path)?.content == files.get(&other.path)?.content)
    }

    async fn check<'w>(
        &self,
        _image: &ImageFile,
        _repair: Option<ImageRepair>,
        _work: &ImageWork<'w>,
    ) -> Result<Option<ImageCheck>, ImageError> {
        Ok(Some(ImageCheck::default()))
    }

    async fn copy<'w>(&self, from: &Path, to: &Path, _work: &ImageWork<'w>) -> Result<(), ImageError> {
        self.convert(from, "qcow2", to).await
    }

    async fn resize<'w>(
        &self,
        image: &ImageFile,
        size: ByteSize,
        _may_shrink: bool,
        _work: &ImageWork<'w>,
    ) -> Result<(), ImageError> {
        self.files().change(&image.path, |image, _| {
            image.content.size = size.bytes();
            image.content.data.split_off(&size.bytes());
        })
    }

    async fn commit<'w>(&self, image: &ImageFile, _: &ImageWork<'w>) -> Result<(), ImageError> {
        unreachable!("`{}` is not merged", image.path.display())
    }

    async fn rewrite<'w>(
        &self,
        plan: &RewritePlan,
        _work: &ImageWork<'w>,
    ) -> Result<Box<dyn RewrittenImage>, ImageError> {
        let mut files = self.files();
        let content = files.get(&plan.from.path)?.content.clone();
        let hidden = PathBuf::from("/d/trash/rewritten");
        let file = files.add(&hidden, &plan.to.format, content);
        Ok(Box::new(Rewritten { disks: self.clone(), hidden, path: plan.to.path.clone(), file }))
    }

    async fn remove_incomplete(&self, _path: &Path) {}

    async fn remove(&self, path: &Path, file: FileId) -> Result<bool, ImageError> {
        let mut files = self.files();
        let is_there = files.get(path).is_ok_and(|image| image.file == file);
        if is_there {
            files.images.remove(path);
        }
        Ok(is_there)
    }
}

struct Rewritten {
    disks: Disks,
    hidden: PathBuf,
    path: PathBuf,
    file: FileId,
}

impl RewrittenImage for Rewritten {
    fn file(&self) -> FileId {
        self.file
    }

    fn actual_size(&self) -> ByteSize {
        ByteSize::default()
    }

    fn put_in_place(self: Box<Self>) -> Result<(), ImageError> {
        let mut files = self.disks.files();
        files.images.remove(&self.path);
        let image = files.images.remove(&self.hidden).unwrap();
        files.images.insert(self.path, image);
        Ok(())
    }
}

#[async_trait]
impl Trash for Disks {
    async fn entries(&self) -> Result<Vec<TrashEntry>, TrashError> {
        Ok(self.files().trash.values().cloned().collect())
    }

    async fn find(&self, id: &TrashId) -> Option<TrashEntry> {
        self.files().trash.get(id).cloned()
    }

    fn directory(&self, id: &TrashId) -> PathBuf {
        Path::new("/d/trash").join(id.as_str())
    }

    async fn places(&self, id: &TrashId, images: &[PathBuf]) -> Result<Vec<Option<TrashPlace>>, TrashError> {
        let files = self.files();
        let place = |(number, path): (usize, &PathBuf)| {
            let trash = self.directory(id).join(number.to_string());
            let inode = files.get(path).unwrap().file.inode;
            Some(TrashPlace { trash, inode, allocated_bytes: 0 })
        };
        Ok(images.iter().enumerate().map(place).collect())
    }

    async fn describe(&self, entry: &TrashEntry) -> Result<(), TrashError> {
        self.files().trash.insert(entry.id.clone(), entry.clone());
        Ok(())
    }

    async fn rename(&self, from: &Path, to: &Path) -> Result<(), TrashError> {
        self.files().rename(from, to)
    }

    async fn locate(&self, image: &TrashedImage, original: &Path) -> TrashedImageLocation {
        let files = self.files();
        let is_at = |path: &Path| files.get(path).is_ok_and(|found| found.file.inode == image.inode);
        if is_at(&image.trash) {
            TrashedImageLocation::Trash
        } else if is_at(original) {
            TrashedImageLocation::Original
        } else {
            TrashedImageLocation::Missing
        }
    }

    async fn close(&self, entry: &TrashEntry) -> Result<(), TrashError> {
        self.files().trash.remove(&entry.id);
        Ok(())
    }

    async fn delete(&self, entry: &TrashEntry) -> Result<(), TrashError> {
        self.close(entry).await
    }

    async fn finish_deletions(&self, _dry_run: bool) -> Vec<PathBuf> {
        Vec::new()
    }

    async fn hand_over(&self, _from: &str, _to: &str) -> Result<(), TrashError> {
        Ok(())
    }

    async fn prune(&self, _directory: &Path, _left: &str) {}
}

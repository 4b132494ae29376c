use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use maqet_domain::Timestamp;
use maqet_domain::change::StorageRecord;
use maqet_domain::config::Node;
use maqet_domain::trash::{TrashedImage, TrashedVm};
use tempfile::TempDir;

use super::*;

const ID: &str = "0d9f2ac358b1";

struct Fixture {
    root: TempDir,
    trash: LocalTrash,
}

impl Fixture {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let trash = LocalTrash::new(root.path().join("data/trash"), "sqlite:/d/a.db".to_owned());
        Self { root, trash }
    }

    fn image(&self, name: &str) -> PathBuf {
        let path = self.root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, name).unwrap();
        path
    }

    async fn entry(&self, images: &[PathBuf]) -> TrashEntry {
        let id = TrashId::parse(ID).unwrap();
        let places = self.trash.places(&id, images).await.unwrap();
        let images = images.iter().zip(places).map(|(path, place)| {
            let TrashPlace { trash, inode, allocated_bytes } = place.unwrap();
            TrashedImage { record: record(path), is_default: true, trash, inode, allocated_bytes }
        });
        let vm = TrashedVm {
            id: "0d9f2ac3-58b1-4c3e-9a5e-2f1f6f0f7a11".parse().unwrap(),
            name: "web".parse().unwrap(),
            created_at: Timestamp::UNIX_EPOCH,
            definition: Node::empty_map(),
            origins: std::collections::BTreeMap::new(),
            run: None,
        };
        TrashEntry {
            id,
            removed_at: Timestamp::UNIX_EPOCH,
            vm,
            images: images.collect(),
            snapshots: Vec::new(),
            storage: Vec::new(),
            restoring: None,
        }
    }

    /// Moves images to the trash.
    async fn moved(&self, images: &[PathBuf]) -> TrashEntry {
        let entry = self.entry(images).await;
        self.trash.describe(&entry).await.unwrap();
        for image in &entry.images {
            self.trash.rename(&image.record.path, &image.trash).await.unwrap();
        }
        entry
    }

    fn files(&self) -> Vec<String> {
        fn add(folder: &Path, found: &mut Vec<PathBuf>) {
            for entry in fs::read_dir(folder).unwrap().flatten() {
                if entry.file_type().unwrap().is_dir() { add(&entry.path(), found) } else { found.push(entry.path()) }
            }
        }
        let mut found = Vec::new();
        add(self.root.path(), &mut found);
        found.sort();
        let relative = |path: &PathBuf| path.strip_prefix(self.root.path()).unwrap().display().to_string();
        found.iter().map(relative).collect()
    }
}

fn record(path: &Path) -> StorageRecord {
    StorageRecord {
        path: path.to_owned(),
        vm: None,
        drive: "hdd".to_owned(),
        kind: "qcow2".to_owned(),
        size: None,
        created_at: Timestamp::UNIX_EPOCH,
    }
}

#[tokio::test]
async fn test_entry_moved_and_closed_leaves_nothing() {
    let fixture = Fixture::new();
    let image = fixture.image("vms/hdd.qcow2");
    let inode = fs::metadata(&image).unwrap().ino();
    let entry = fixture.moved(std::slice::from_ref(&image)).await;
    let original = &entry.images[0];

    assert_eq!(fixture.trash.entries().await.unwrap(), std::slice::from_ref(&entry));
    assert_eq!(fixture.trash.locate(original, &image).await, TrashedImageLocation::Trash);
    assert_eq!(fixture.files(), [format!("data/trash/{ID}/entry.json"), format!("data/trash/{ID}/hdd.qcow2")]);

    fixture.trash.rename(&original.trash, &image).await.unwrap();
    assert_eq!(fixture.trash.locate(original, &image).await, TrashedImageLocation::Original);
    fixture.trash.close(&entry).await.unwrap();

    assert_eq!(fs::metadata(&image).unwrap().ino(), inode);
    assert_eq!(fixture.files(), ["vms/hdd.qcow2"]);
    assert_eq!(fs::read_dir(fixture.root.path().join("data/trash")).unwrap().count(), 0);
}

#[tokio::test]
async fn test_places_same_name_or_reserved_name_are_apart() {
    let fixture = Fixture::new();
    let images = ["a/hdd.qcow2", "b/hdd.qcow2", "c/entry.json"].map(|name| fixture.image(name));

    let entry = fixture.moved(&images).await;

    let contents = entry.images.iter().map(|image| fs::read_to_string(&image.trash).unwrap());
    assert_eq!(contents.collect::<Vec<_>>(), ["a/hdd.qcow2", "b/hdd.qcow2", "c/entry.json"]);
    fixture.trash.delete(&entry).await.unwrap();
    assert_eq!(fixture.files(), [""; 0]);
    assert_eq!(fs::read_dir(fixture.root.path().join("data/trash")).unwrap().count(), 0);
}

#[tokio::test]
async fn test_places_of_other_file_system_are_beside_the_image() {
    let fixture = Fixture::new();
    let other = tempfile::tempdir_in("/dev/shm").unwrap();
    let here = fs::metadata(fixture.root.path()).unwrap().dev();
    assert_ne!(fs::metadata(other.path()).unwrap().dev(), here, "the test needs two file systems");
    let image = other.path().join("hdd.qcow2");
    fs::write(&image, "x").unwrap();

    let entry = fixture.moved(std::slice::from_ref(&image)).await;

    let trash = &entry.images[0].trash;
    assert_eq!(*trash, other.path().join(".maqet-trash").join(ID).join("hdd.qcow2"));
    assert!(trash.exists() && !image.exists());
    fixture.trash.delete(&entry).await.unwrap();
    assert_eq!(fs::read_dir(other.path()).unwrap().count(), 0);
    assert_eq!(fixture.files(), [""; 0]);
}

#[tokio::test]
async fn test_places_link_has_none() {
    let fixture = Fixture::new();
    let image = fixture.image("vms/hdd.qcow2");
    let link = fixture.root.path().join("vms/link.qcow2");
    symlink(&image, &link).unwrap();

    let places = fixture.trash.places(&TrashId::parse(ID).unwrap(), &[link]).await.unwrap();

    assert_eq!(places, [None]);
}

#[tokio::test]
async fn test_rename_never_replaces_a_file() {
    let fixture = Fixture::new();
    let image = fixture.image("vms/hdd.qcow2");
    let entry = fixture.moved(std::slice::from_ref(&image)).await;
    fixture.image("vms/hdd.qcow2");

    let error = fixture.trash.rename(&entry.images[0].trash, &image).await.unwrap_err();

    assert!(matches!(error, TrashError::Exists { .. }), "{error:?}");
    assert_eq!(fixture.trash.locate(&entry.images[0], &image).await, TrashedImageLocation::Trash);
}

#[tokio::test]
async fn test_interrupted_deletion_is_no_entry_and_is_finished() {
    let fixture = Fixture::new();
    let images = ["a/one.qcow2", "a/two.qcow2"].map(|name| fixture.image(name));
    let entry = fixture.moved(&images).await;
    let folder = fixture.trash.directory(&entry.id);
    fs::rename(folder.join(DESCRIPTION), folder.join(DELETED)).unwrap();
    fs::remove_file(&entry.images[0].trash).unwrap();

    assert_eq!(fixture.trash.entries().await.unwrap(), []);
    assert_eq!(fixture.trash.finish_deletions(true).await, std::slice::from_ref(&folder));
    assert!(entry.images[1].trash.exists());
    assert_eq!(fixture.trash.finish_deletions(false).await, [folder]);

    assert_eq!(fixture.files(), [""; 0]);
}

#[tokio::test]
async fn test_directory_without_entry_is_removed_unless_it_holds_files() {
    let fixture = Fixture::new();
    let (empty, full) = (TrashId::parse(ID).unwrap(), TrashId::parse("ffffffffffff").unwrap());
    let [empty, full] = [empty, full].map(|id| fixture.trash.directory(&id));
    fs::create_dir_all(&empty).unwrap();
    fs::create_dir_all(&full).unwrap();
    fs::write(full.join("hdd.qcow2"), "").unwrap();

    assert_eq!(fixture.trash.finish_deletions(false).await, std::slice::from_ref(&empty));

    assert!(!empty.exists() && full.join("hdd.qcow2").exists());
}

#[tokio::test]
async fn test_entry_of_other_database_is_ignored() {
    let fixture = Fixture::new();
    let entry = fixture.moved(&[fixture.image("vms/hdd.qcow2")]).await;
    let other = LocalTrash::new(fixture.root.path().join("data/trash"), "sqlite:/d/b.db".to_owned());

    assert_eq!(other.entries().await.unwrap(), []);
    assert_eq!(other.find(&entry.id).await, None);
    assert_eq!(fixture.trash.find(&entry.id).await, Some(entry));
}

//! The port [`VmCopies`]: a file `vm.json` beside the records of each VM.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use jiff::Timestamp;
use maqet_domain::change::StorageRecord;
use maqet_domain::config::Node;
use maqet_domain::error::Cause;
use maqet_domain::port::{VmCopies, VmCopy};
use maqet_domain::text::stable_hash;
use maqet_domain::vm::{DriveLayers, Origins, Revision, Vm, VmEntry, VmId, VmName};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::atomic_file::{AtomicFile, replace_unsynced};
use crate::limits::MAX_COPY_BYTES;
use crate::private_file::private_folder;

/// The name of the copy in the folder of the records of a VM.
const NAME: &str = "vm.json";

/// Copies in files, each in the folder of the records of its VM; the ID of their database is in a file beside these.
#[derive(Debug, Clone)]
pub struct FileCopies {
    state: PathBuf,
    database: String,
}

/// The content of the file of the ID of a database.
#[derive(Debug, Serialize, Deserialize)]
struct DatabaseRecord {
    database: String,
    id: Uuid,
}

/// The content of a file.
#[derive(Debug, Serialize, Deserialize)]
struct Content {
    /// The database of the VM: two databases may share the folders of a user.
    database: String,
    id: VmId,
    name: VmName,
    created_at: Timestamp,
    definition: Node,
    origins: Origins,
    storage: Vec<StorageRecord>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    layers: Vec<DriveLayers>,
}

impl FileCopies {
    /// Keeps copies below `state` for the database with this name.
    pub const fn new(state: PathBuf, database: String) -> Self {
        Self { state, database }
    }

    fn folder(&self, id: &VmId) -> PathBuf {
        self.state.join(id.to_string())
    }

    fn database_file(&self) -> PathBuf {
        self.state.join(format!("database-{:016x}.json", stable_hash(self.database.as_bytes())))
    }

    fn read(&self, folder: &Path) -> Option<VmCopy> {
        let content = read(folder)?;
        (content.database == self.database).then(|| content.into_copy(folder))
    }

    /// Returns the copies of this database.
    fn contents(&self) -> impl Iterator<Item = VmCopy> {
        vm_folders(&self.state).into_iter().filter_map(|(_, folder)| self.read(&folder))
    }
}

/// Returns when the copy in `folder` was written; `None` if there is none, and a time if it cannot be read.
pub(crate) fn copied_at(folder: &Path) -> Option<Timestamp> {
    let found = fs::symlink_metadata(folder.join(NAME)).ok()?;
    let modified = found.modified().ok().and_then(|time| Timestamp::try_from(time).ok());
    Some(modified.unwrap_or(Timestamp::MAX))
}

/// Returns the folders with records of VMs.
pub fn vm_folders(state: &Path) -> Vec<(VmId, PathBuf)> {
    let entries = fs::read_dir(state).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path()))).collect()
}

/// Returns the database of the VM whose copy is in `folder`, if there is a copy.
pub fn database_of(folder: &Path) -> Option<String> {
    read(folder).map(|content| content.database)
}

fn read(folder: &Path) -> Option<Content> {
    let mut text = Vec::new();
    File::open(folder.join(NAME)).ok()?.take(MAX_COPY_BYTES).read_to_end(&mut text).ok()?;
    let content: Content = serde_json::from_slice(&text).ok()?;
    (folder.file_name()?.to_str()? == content.id.to_string()).then_some(content)
}

impl Content {
    fn into_copy(self, folder: &Path) -> VmCopy {
        let entry = VmEntry {
            id: self.id,
            name: self.name,
            revision: Revision::FIRST,
            created_at: self.created_at,
            run: None,
            pending: None,
            layers: self.layers,
        };
        let vm = Vm { entry, definition: self.definition, origins: self.origins };
        VmCopy { written_at: copied_at(folder), ..VmCopy::new(vm, self.storage) }
    }
}

#[async_trait]
impl VmCopies for FileCopies {
    async fn write(&self, copy: &VmCopy) -> Result<(), Cause> {
        let entry = &copy.vm.entry;
        let content = Content {
            database: self.database.clone(),
            id: entry.id,
            name: entry.name.clone(),
            created_at: entry.created_at,
            definition: copy.vm.definition.clone(),
            origins: copy.vm.origins.clone(),
            storage: copy.storage.clone(),
            layers: entry.layers.clone(),
        };
        let folder = self.folder(&entry.id);
        private_folder(&folder)?;
        // The durable record is in the database.
        Ok(replace_unsynced(&folder.join(NAME), &serde_json::to_vec(&content)?)?)
    }

    async fn count(&self) -> usize {
        self.contents().count()
    }

    async fn all(&self) -> Vec<VmCopy> {
        let mut all: Vec<VmCopy> = self.contents().collect();
        all.sort_by(|one, other| one.vm.entry.name.cmp(&other.vm.entry.name));
        all
    }

    async fn of_other_databases(&self) -> Vec<VmCopy> {
        let of_other = |folder: &Path| read(folder).filter(|content| content.database != self.database);
        let copy = |(_, folder): (VmId, PathBuf)| Some(of_other(&folder)?.into_copy(&folder));
        vm_folders(&self.state).into_iter().filter_map(copy).collect()
    }

    async fn find(&self, id: &VmId) -> Option<VmCopy> {
        self.read(&self.folder(id))
    }

    async fn remove(&self, id: &VmId) -> Result<(), Cause> {
        match fs::remove_file(self.folder(id).join(NAME)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    async fn hand_over(&self, from: &str, to: &str) -> Result<(), Cause> {
        for (_, folder) in vm_folders(&self.state) {
            let Some(content) = read(&folder).filter(|content| content.database == from) else { continue };
            let path = folder.join(NAME);
            // What was removed after the copy was written stays so.
            let written = fs::metadata(&path)?.modified()?;
            let content = Content { database: to.to_owned(), ..content };
            let mut file = AtomicFile::create(&path)?;
            file.write_all(&serde_json::to_vec(&content)?)?;
            file.set_modified(written)?;
            file.replace_unsynced()?;
        }
        Ok(())
    }

    async fn database_id(&self) -> Option<Uuid> {
        let record: DatabaseRecord = serde_json::from_slice(&fs::read(self.database_file()).ok()?).ok()?;
        (record.database == self.database).then_some(record.id)
    }

    async fn record_database_id(&self, id: Uuid) -> Result<(), Cause> {
        let record = DatabaseRecord { database: self.database.clone(), id };
        private_folder(&self.state)?;
        Ok(replace_unsynced(&self.database_file(), &serde_json::to_vec(&record)?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0d9f2ac3-58b1-4c3e-9a5e-2f1f6f0f7a11";

    fn copies(folder: &Path, database: &str) -> FileCopies {
        FileCopies::new(folder.to_owned(), database.to_owned())
    }

    fn copy_of(name: &str) -> VmCopy {
        let text = format!(
            r#"{{"database": "", "id": "{ID}", "name": "{name}", "created_at": "2026-11-25T10:00:00.123456Z",
                "definition": {{"z": 1, "a": "2G"}}, "origins": {{"a": "web.yaml:2:9"}}, "storage": [{{"path": "/d/a.qcow2",
                "vm": "{ID}", "drive": "hdd", "kind": "qcow2", "size": "1G", "created_at": "2026-11-25T10:00:00Z"}}]}}"#
        );
        serde_json::from_str::<Content>(&text).unwrap().into_copy(Path::new("/nonexistent"))
    }

    /// Returns copies as if they had not been written yet.
    fn unwritten(copies: impl IntoIterator<Item = VmCopy>) -> Vec<VmCopy> {
        copies.into_iter().map(|copy| VmCopy { written_at: None, ..copy }).collect()
    }

    #[tokio::test]
    async fn test_copy_round_trips() {
        let folder = tempfile::tempdir().unwrap();
        let copies = copies(folder.path(), "sqlite:/d/a.db");

        copies.write(&copy_of("old")).await.unwrap();
        copies.write(&copy_of("web")).await.unwrap();

        let found = copies.find(&ID.parse().unwrap()).await;
        assert!(found.as_ref().is_some_and(|copy| copy.written_at.is_some()));
        assert_eq!(unwritten(copies.all().await), [copy_of("web")]);
        assert_eq!(unwritten(found), [copy_of("web")]);
        assert_eq!(fs::read_dir(folder.path().join(ID)).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn test_copy_of_other_database_is_ignored() {
        let folder = tempfile::tempdir().unwrap();
        copies(folder.path(), "sqlite:/d/a.db").write(&copy_of("web")).await.unwrap();

        let other = copies(folder.path(), "sqlite:/d/b.db");

        assert_eq!((other.count().await, other.all().await), (0, Vec::new()));
        assert_eq!(unwritten(other.of_other_databases().await), [copy_of("web")]);
        assert_eq!(database_of(&folder.path().join(ID)).as_deref(), Some("sqlite:/d/a.db"));
    }

    #[tokio::test]
    async fn test_copy_handed_over_keeps_its_content_and_time() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (copies(folder.path(), "sqlite:/d/a.db"), copies(folder.path(), "postgres:db/a"));
        old.write(&copy_of("web")).await.unwrap();
        let long_ago = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000);
        File::options().write(true).open(folder.path().join(ID).join(NAME)).unwrap().set_modified(long_ago).unwrap();
        let written = old.all().await;

        old.hand_over("sqlite:/d/other.db", "sqlite:/d/x.db").await.unwrap();
        old.hand_over(&old.database, "postgres:db/a").await.unwrap();

        assert_eq!((old.count().await, new.all().await), (0, written));
        assert_eq!(fs::read_dir(folder.path().join(ID)).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn test_database_id_is_recorded_for_each_database() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (copies(folder.path(), "postgres:db/a"), copies(folder.path(), "postgres:db/b"));
        let [first, second] = [1, 2].map(Uuid::from_u128);

        one.record_database_id(first).await.unwrap();
        other.record_database_id(first).await.unwrap();
        one.record_database_id(second).await.unwrap();

        assert_eq!((one.database_id().await, other.database_id().await), (Some(second), Some(first)));
        assert_eq!(copies(folder.path(), "postgres:db/c").database_id().await, None);
    }

    #[tokio::test]
    async fn test_copy_broken_or_in_wrong_folder_is_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let copies = copies(folder.path(), "sqlite:/d/a.db");
        copies.write(&copy_of("web")).await.unwrap();
        fs::rename(folder.path().join(ID), folder.path().join(ID.replace('0', "1"))).unwrap();
        fs::create_dir(folder.path().join(ID)).unwrap();
        fs::write(folder.path().join(ID).join(NAME), "{").unwrap();

        assert_eq!(copies.all().await, []);
        assert!(copied_at(&folder.path().join(ID)).is_some());
        assert_eq!(copied_at(folder.path()), None);
    }
}

//! Files of drives that QEMU would refuse: a directory, or the file of another drive.

use std::collections::HashMap;
use std::path::PathBuf;

use maqet_domain::config::{Node, Problem, SourceLocation};
use maqet_domain::machine::Machine;
use maqet_domain::port::PathKind;
use maqet_domain::storage::{Preparation, StorageSpec};

use super::preflight::Preflight;

/// A drive whose files are checked.
struct Drive<'a> {
    storage: &'a StorageSpec,
    path: PathBuf,
    backing: Option<PathBuf>,
}

impl Preflight<'_> {
    /// Returns the files of drives that QEMU would refuse, as problems of the definition.
    pub(crate) async fn drive_conflict_problems(&self, machine: &Machine, definition: &Node) -> Vec<Problem> {
        let entries = definition.get("storage").map(Node::items).unwrap_or_default();
        let name = definition.get("name").and_then(Node::written);
        let vm_storage = name.map(|name| self.folders.storage.join(name)).unwrap_or_default();
        let node = |drive: &Drive<'_>, key: &str| {
            let entry = entries.get(drive.storage.index);
            entry.and_then(|entry| entry.get(key).or(Some(entry))?.location().cloned())
        };
        let mut problems = Vec::new();
        let mut first: HashMap<PathBuf, Drive<'_>> = HashMap::new();
        for storage in &machine.storage {
            let path = storage.path(&vm_storage);
            let backing = match storage.driver.preparation(storage, &path) {
                Preparation::Image(plan) => plan.backing.map(|backing| backing.file),
                Preparation::Existing(_) => None,
                Preparation::Nothing | Preparation::Directory(_) => continue,
            };
            let drive = Drive { storage, path, backing };
            let folders = self.folders_of(&drive).await;
            let is_file = folders.iter().all(|(key, _)| *key != "file");
            for (key, path) in folders {
                let message = format!("`{}` is a directory; a drive needs a file", path.display());
                problems.push(problem(&drive, key, message, node(&drive, key)));
            }
            if !is_file {
                continue;
            }
            let resolved = self.paths.resolve(&drive.path).await;
            match first.get(&resolved) {
                // Two drives of one name: reported elsewhere.
                Some(other) if drive.storage.file.is_none() && other.storage.file.is_none() => {}
                Some(other) if !(drive.storage.keeps_image() && other.storage.keeps_image()) => {
                    let message = format!(
                        "`{}` is already the file of drive `{}`, and one of them is writable",
                        drive.path.display(),
                        other.storage.name
                    );
                    let location = node(&drive, "file");
                    problems.push(Problem { other: node(other, "file"), ..problem(&drive, "file", message, location) });
                }
                Some(_) => {}
                None => drop(first.insert(resolved, drive)),
            }
        }
        problems
    }

    /// Returns the keys of a drive that name a folder, with the folders.
    async fn folders_of(&self, drive: &Drive<'_>) -> Vec<(&'static str, PathBuf)> {
        let file = drive.storage.file.as_ref().map(|file| ("file", file));
        let mut folders = Vec::new();
        for (key, path) in file.into_iter().chain(drive.backing.as_ref().map(|file| ("backing_file", file))) {
            if self.paths.kind(path).await == PathKind::Directory {
                folders.push((key, path.clone()));
            }
        }
        folders
    }
}

fn problem(drive: &Drive<'_>, key: &str, message: String, location: Option<SourceLocation>) -> Problem {
    let path = format!("storage[{}].{key}", drive.storage.index);
    Problem { location, ..Problem::new(path, message) }
}

//! Paths of a machine that no guest may access, with symbolic links resolved.

use std::path::{Path, PathBuf};

use maqet_domain::config::{Node, Problem};
use maqet_domain::machine::Machine;
use maqet_domain::path_policy::{Purpose, refusal, refusal_as_written};
use maqet_domain::storage::Preparation;

use super::preflight::Preflight;
use crate::Error;

/// A path that is refused.
struct RefusedPath {
    /// Which entry of `storage`.
    index: usize,
    /// The keys of the entry that hold a path.
    keys: Vec<&'static str>,
    path: PathBuf,
    reason: String,
}

impl Preflight<'_> {
    /// Refuses a machine that shares a folder, or creates or uses a disk, where the policy forbids it.
    pub(crate) async fn check_paths(&self, machine: &Machine) -> Result<(), Error> {
        match self.refused_paths(machine).await.into_iter().next() {
            None => Ok(()),
            Some(refused) => Err(Error::PathRefused { path: refused.path, reason: refused.reason }),
        }
    }

    /// Returns the refused paths as problems of the definition.
    pub(crate) async fn path_problems(&self, machine: &Machine, definition: &Node) -> Vec<Problem> {
        let entries = definition.get("storage").map(Node::items).unwrap_or_default();
        let problem = |refused: RefusedPath| {
            let entry = entries.get(refused.index);
            let found = refused.keys.iter().find_map(|key| {
                let node = entry?.get(key)?;
                let matches = node.as_text().is_some_and(|text| Path::new(text) == refused.path);
                matches.then_some((format!(".{key}"), node))
            });
            let (key, node) = found.map_or((String::new(), entry), |(key, node)| (key, Some(node)));
            let message = format!("cannot use `{}`: {}", refused.path.display(), refused.reason);
            Problem {
                help: Some("choose another directory".to_owned()),
                location: node.and_then(|node| node.location().cloned()),
                ..Problem::new(format!("storage[{}]{key}", refused.index), message)
            }
        };
        self.refused_paths(machine).await.into_iter().map(problem).collect()
    }

    async fn refused_paths(&self, machine: &Machine) -> Vec<RefusedPath> {
        let mut refused = Vec::new();
        for storage in &machine.storage {
            let named = storage.file.clone().unwrap_or_default();
            let (path, purpose) = match storage.driver.preparation(storage, &named) {
                Preparation::Directory(path) => (path, Purpose::Share),
                Preparation::Image(plan) if storage.file.is_some() => (plan.path, Purpose::Disk),
                Preparation::Existing(path) if storage.file.is_some() => (path, Purpose::Read),
                Preparation::Nothing | Preparation::Image(_) | Preparation::Existing(_) => continue,
            };
            // An entry without a path is reported elsewhere.
            if path.as_os_str().is_empty() {
                continue;
            }
            let exists = purpose == Purpose::Disk && self.images.exists(&path).await;
            let purpose = if exists { Purpose::Read } else { purpose };
            if let Some(reason) = self.refusal_reason(&path, purpose).await {
                let keys = [&["file"], storage.driver.own_path_keys()].concat();
                refused.push(RefusedPath { index: storage.index, keys, path, reason });
            }
        }
        refused
    }

    /// Returns why a path is refused: for where it leads, or as it is written.
    pub(crate) async fn refusal_reason(&self, path: &Path, purpose: Purpose) -> Option<String> {
        let resolved = self.paths.resolve(path).await;
        refusal(&resolved, purpose).or_else(|| refusal_as_written(path, purpose))
    }
}

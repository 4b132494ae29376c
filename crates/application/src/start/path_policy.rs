//! Paths of a machine that no guest may be given, looked at where they really lead.

use std::path::{Path, PathBuf};

use maqet_domain::config::{Node, Problem, ProblemKind};
use maqet_domain::machine::Machine;
use maqet_domain::path_policy::{Purpose, refusal};
use maqet_domain::storage::Preparation;

use crate::{App, Error};

/// A path that is refused.
struct Refused {
    /// Which entry of `storage`.
    index: usize,
    /// The keys of the entry that hold a path.
    keys: Vec<&'static str>,
    path: PathBuf,
    why: String,
}

impl App {
    /// Refuses a machine that shares or makes something where it must not.
    pub(crate) async fn check_paths(&self, machine: &Machine) -> Result<(), Error> {
        match self.refused_paths(machine).await.into_iter().next() {
            None => Ok(()),
            Some(refused) => Err(Error::UnsafePath { path: refused.path, why: refused.why }),
        }
    }

    /// Returns the same as problems of the definition the machine was understood from.
    pub(crate) async fn path_problems(&self, machine: &Machine, definition: &Node) -> Vec<Problem> {
        let entries = definition.get("storage").map(Node::items).unwrap_or_default();
        let problem = |refused: Refused| {
            let entry = entries.get(refused.index);
            let found = refused.keys.iter().find_map(|key| {
                let node = entry?.get(key)?;
                let is_it = node.as_text().is_some_and(|text| Path::new(text) == refused.path);
                is_it.then_some((format!(".{key}"), node))
            });
            let (key, node) = found.map_or((String::new(), entry), |(key, node)| (key, Some(node)));
            Problem {
                kind: ProblemKind::Invalid,
                path: format!("storage[{}]{key}", refused.index),
                message: format!("`{}` may not be used: {}", refused.path.display(), refused.why),
                help: Some("choose a folder of your own".to_owned()),
                place: node.and_then(|node| node.whereabouts().cloned()),
                other: None,
            }
        };
        self.refused_paths(machine).await.into_iter().map(problem).collect()
    }

    async fn refused_paths(&self, machine: &Machine) -> Vec<Refused> {
        let mut refused = Vec::new();
        for storage in &machine.storage {
            let named = storage.file.clone().unwrap_or_default();
            let (path, purpose) = match storage.driver.preparation(storage, &named) {
                Preparation::Folder(path) => (path, Purpose::Share),
                Preparation::Image(plan) if storage.file.is_some() => (plan.path, Purpose::Disk),
                Preparation::Nothing | Preparation::Image(_) | Preparation::Existing(_) => continue,
            };
            // An entry without a path is told as that.
            if path.as_os_str().is_empty() {
                continue;
            }
            if purpose == Purpose::Disk && self.ports.images.exists(&path).await {
                continue;
            }
            if let Some(why) = self.why_refused(&path, purpose).await {
                let keys = [&["file"], storage.driver.own_path_keys()].concat();
                refused.push(Refused { index: storage.index, keys, path, why });
            }
        }
        refused
    }

    /// Looks at a path as it is written and where it leads.
    pub(crate) async fn why_refused(&self, path: &Path, purpose: Purpose) -> Option<String> {
        let leads_to = self.ports.paths.resolve(path).await;
        refusal(&leads_to, purpose).or_else(|| refusal(path, purpose))
    }
}

//! `storage`: the machine's disks.

use std::path::Path;
use std::sync::Arc;

use super::plain::rebased;
use crate::config::{KeyPath, Node, Report, Value};
use crate::machine::{Machine, defaults};
use crate::near::did_you_mean;
use crate::plugin::{ConfigHandler, KeyDoc, Registry, StorageDriver};
use crate::storage::{Backing, DriveName, Interface, StorageSpec};

const KEYS: [&str; 8] = ["name", "type", "size", "file", "interface", "readonly", "backing_file", "backing_format"];

/// The keys of an entry that hold a path.
const PATH_KEYS: [&str; 2] = ["file", "backing_file"];

/// `storage`, with the types it knows.
#[derive(Debug)]
pub(super) struct Storage {
    pub(super) drivers: Registry<dyn StorageDriver>,
}

impl ConfigHandler for Storage {
    fn key(&self) -> &'static str {
        "storage"
    }

    fn documentation(&self) -> KeyDoc {
        KeyDoc {
            summary: "disks",
            form: "a list of maps with name, type, size, file, interface, readonly, backing_file, backing_format",
        }
    }

    fn rebase(&self, node: Node, folder: &Path) -> Node {
        node.map_value(|value| match value {
            Value::List(items) => Value::List(items.into_iter().map(|item| rebase_entry(item, folder)).collect()),
            other => other,
        })
    }

    fn apply(&self, path: &KeyPath, node: &Node, machine: &mut Machine, report: &mut Report) {
        let mut seen: Vec<(String, &Node)> = Vec::new();
        for (index, entry) in report.list(path, node).unwrap_or_default().iter().enumerate() {
            let at = path.index(index);
            if let Some(name_node) = entry.get("name")
                && let Some(name) = name_node.scalar()
            {
                if let Some((_, first)) = seen.iter().find(|(known, _)| *known == name) {
                    let message = format!("there is a drive `{}` already", name.escape_debug());
                    report.twice(&at.key("name"), name_node, first.place.as_ref(), message);
                }
                seen.push((name, name_node));
            }
            machine.storage.extend(self.entry(&at, entry, report));
        }
    }
}

impl Storage {
    /// Reads one entry; every key is looked at, so that all its problems are told at once.
    fn entry(&self, at: &KeyPath, entry: &Node, report: &mut Report) -> Option<StorageSpec> {
        let entries = report.map(at, entry)?;
        for (key, node) in entries {
            if !KEYS.contains(&key.as_str()) {
                report.unknown_key(&at.key(key), node, &KEYS);
            }
        }
        let given = |key: &str| entry.get(key).filter(|node| !node.is_null());

        let name = drive_name(at, entry, report);
        let driver = self.driver(at, given("type"), report);
        let file = given("file").and_then(|node| report.path(&at.key("file"), node));
        let size = given("size").and_then(|node| report.size(&at.key("size"), node, 0));
        let interface = given("interface").map_or(Some(defaults::STORAGE_INTERFACE), |node| {
            report.one_of(&at.key("interface"), node, &Interface::WORDS)
        });
        let readonly = given("readonly").map_or(Some(false), |node| report.boolean(&at.key("readonly"), node));
        let backing = backing(at, entry, report);

        let spec = StorageSpec {
            name: name?,
            driver: driver?,
            file,
            size,
            interface: interface?,
            readonly: readonly?,
            backing,
        };
        spec.driver.clone().check(&spec, at, entry, report);
        Some(spec)
    }

    fn driver(&self, at: &KeyPath, node: Option<&Node>, report: &mut Report) -> Option<Arc<dyn StorageDriver>> {
        let Some(node) = node else {
            return self.drivers.get(defaults::STORAGE_TYPE).cloned();
        };
        let word = report.word(&at.key("type"), node)?;
        let driver = self.drivers.get(&word).cloned();
        if driver.is_none() {
            let message = format!("storage type `{}` is unknown", word.escape_debug());
            let known = self.drivers.names().join(", ");
            let help = did_you_mean(&self.drivers.near(&word)).unwrap_or(format!("known types: {known}"));
            report.wrong_with_help(&at.key("type"), node, message, Some(help));
        }
        driver
    }
}

fn backing(at: &KeyPath, entry: &Node, report: &mut Report) -> Option<Backing> {
    let given = |key: &str| entry.get(key).filter(|node| !node.is_null());
    let format = given("backing_format").and_then(|node| report.word(&at.key("backing_format"), node));
    match (given("backing_file"), given("backing_format")) {
        (Some(file), _) => report.path(&at.key("backing_file"), file).map(|file| Backing { file, format }),
        (None, Some(node)) => {
            report.wrong(&at.key("backing_format"), node, "there is no `backing_file` for this format");
            None
        }
        (None, None) => None,
    }
}

fn drive_name(at: &KeyPath, entry: &Node, report: &mut Report) -> Option<DriveName> {
    let Some(node) = entry.get("name") else {
        report.wrong(at, entry, "a drive needs a `name`");
        return None;
    };
    let text = report.text(&at.key("name"), node)?;
    match DriveName::parse(&text) {
        Ok(name) => Some(name),
        Err(invalid) => {
            report.wrong(&at.key("name"), node, invalid.to_string());
            None
        }
    }
}

fn rebase_entry(entry: Node, folder: &Path) -> Node {
    entry.map_value(|value| match value {
        Value::Map(entries) => Value::Map(
            entries
                .into_iter()
                .map(|(key, node)| {
                    let node = if PATH_KEYS.contains(&key.as_str()) { rebased(node, folder) } else { node };
                    (key, node)
                })
                .collect(),
        ),
        other => other,
    })
}

//! `storage`: the machine's disks.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::json;

use crate::config::{Diagnostics, KeyPath, Node, Value, schema};
use crate::machine::{ConfigHandler, KeyDoc};
use crate::machine::{Machine, defaults};
use crate::qemu::NodeName;
use crate::registry::Registry;
use crate::size::ByteSize;
use crate::storage::StorageDriver;
use crate::storage::{Backing, Cache, Interface, StorageSpec};
use crate::text::{did_you_mean, similar};

const KEYS: [&str; 12] = [
    "name",
    "type",
    "size",
    "file",
    "interface",
    "readonly",
    "backing_file",
    "backing_format",
    "cache",
    "discard",
    "serial",
    "bootindex",
];

/// The smallest disk, in bytes.
const SECTOR: u64 = 512;

/// The size that no disk has: QEMU counts its bytes with 63 bits.
const TOO_LARGE: u64 = 1 << 63;

/// The longest serial number of a drive, in bytes.
const SERIAL_MAX: usize = 20;

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
            form: "a list of maps with name, type, size, file, interface, readonly, backing_file, backing_format, \
                   cache, discard, serial, bootindex, and the type's own keys",
        }
    }

    fn schema(&self) -> serde_json::Value {
        let types = schema::one_of(self.drivers.names());
        let words = |words: &[&str]| schema::one_of(words.iter().copied());
        let mut keys = vec![
            ("name", schema::text()),
            ("type", types),
            ("size", schema::size()),
            ("file", schema::text()),
            ("interface", words(&Interface::WORDS.map(|(word, _)| word))),
            ("readonly", schema::boolean()),
            ("backing_file", schema::text()),
            ("backing_format", schema::text()),
            ("cache", words(&Cache::WORDS.map(|(word, _)| word))),
            ("discard", json!({ "anyOf": [schema::boolean(), words(&["unmap", "ignore"])] })),
            ("serial", schema::text()),
            ("bootindex", schema::whole(0, i64::from(u16::MAX))),
        ];
        for key in self.drivers.iter().flat_map(|driver| driver.own_keys()) {
            if !keys.iter().any(|(known, _)| known == key) {
                keys.push((key, json!({})));
            }
        }
        let mut entry = schema::map(keys);
        entry["required"] = json!(["name"]);
        schema::list(&entry)
    }

    fn rebase(&self, node: Node, folder: &Path) -> Node {
        node.map_value(|value| match value {
            Value::List(items) => Value::List(items.into_iter().map(|item| self.rebase_entry(item, folder)).collect()),
            other => other,
        })
    }

    fn apply(&self, path: &KeyPath, node: &Node, machine: &mut Machine, report: &mut Diagnostics) {
        let mut seen: HashMap<String, &Node> = HashMap::new();
        for (index, entry) in report.list(path, node).unwrap_or_default().iter().enumerate() {
            let at = path.index(index);
            if let Some(name_node) = entry.get("name")
                && let Some(name) = name_node.scalar()
            {
                if let Some(first) = seen.get(&name) {
                    let message = format!("there is a drive `{}` already", name.escape_debug());
                    report.twice(&at.key("name"), name_node, first.whereabouts(), message);
                }
                seen.entry(name).or_insert(name_node);
            }
            machine.storage.extend(self.entry(index, &at, entry, report));
        }
        boot_places(path, node.items(), machine, report);
    }
}

impl Storage {
    /// Reads one entry; every key is looked at, so that all its problems are told at once.
    ///
    /// What has no usable name or interface gets a stand-in, so that the rest is looked at as well.
    fn entry(&self, index: usize, at: &KeyPath, entry: &Node, report: &mut Diagnostics) -> Option<StorageSpec> {
        report.map(at, entry)?;
        let driver = self.driver(at, entry.given("type"), report);
        let own = self.own_keys(at, entry, driver.as_ref(), report);

        let name = drive_name(at, entry, report);
        let file = entry.given("file").and_then(|node| report.path(&at.key("file"), node));
        let size = entry.given("size").and_then(|node| disk_size(&at.key("size"), node, report));
        let interface =
            entry.given("interface").map(|node| report.one_of(&at.key("interface"), node, &Interface::WORDS));
        let readonly = entry.given("readonly").map_or(Some(false), |node| report.boolean(&at.key("readonly"), node));
        let is_read = interface != Some(None) && readonly.is_some() && file.is_some() == entry.given("file").is_some();
        let cache = entry.given("cache").and_then(|node| report.one_of(&at.key("cache"), node, &Cache::WORDS));
        let discard = entry.given("discard").and_then(|node| discard(&at.key("discard"), node, report));
        let serial = entry.given("serial").and_then(|node| serial(&at.key("serial"), node, report));
        let bootindex = entry.given("bootindex").and_then(|node| {
            report.whole(&at.key("bootindex"), node, 0, i64::from(u16::MAX)).and_then(|index| u16::try_from(index).ok())
        });
        let backing = backing(at, entry, report);

        let driver = driver?;
        let spec = StorageSpec {
            index,
            name: name.or_else(|| NodeName::parse(&format!("storage{index}")).ok())?,
            // One without limits: a seat that is not asked for is not counted.
            interface: interface.map_or_else(|| driver.default_interface(), |given| given.unwrap_or(Interface::None)),
            driver,
            file,
            size,
            readonly: readonly.unwrap_or(false),
            backing,
            cache,
            discard,
            serial,
            bootindex,
            own,
        };
        // A type would tell of its own stand-ins.
        if is_read {
            spec.driver.clone().check(&spec, at, entry, report);
        }
        Some(spec)
    }

    /// Returns what stands under the type's own keys, and notes the keys that nobody knows.
    ///
    /// Where the type is not known, a key may be of any type, and what is similar to one is mistyped.
    fn own_keys(
        &self,
        at: &KeyPath,
        entry: &Node,
        driver: Option<&Arc<dyn StorageDriver>>,
        report: &mut Diagnostics,
    ) -> Vec<(String, Node)> {
        let own = match driver {
            Some(driver) => driver.own_keys().to_vec(),
            None => self.drivers.iter().flat_map(|driver| driver.own_keys()).copied().collect(),
        };
        let mut found = Vec::new();
        for (key, node) in entry.entries() {
            if own.contains(&key.as_str()) {
                // Nothing says as much as no key.
                found.extend(Some((key.clone(), node.clone())).filter(|_| !node.is_null()));
            } else if !KEYS.contains(&key.as_str()) {
                let known: Vec<&str> = KEYS.iter().chain(&own).copied().collect();
                // What is like no key we know may be one of the type we do not know.
                if driver.is_some() || !similar(key, known.iter().copied()).is_empty() {
                    report.unknown_key(&at.key(key), node, &known);
                }
            }
        }
        found
    }

    /// Makes the paths of an entry absolute, those under its type's own keys too.
    fn rebase_entry(&self, entry: Node, folder: &Path) -> Node {
        let type_name = entry.get("type").and_then(Node::as_text).unwrap_or(defaults::STORAGE_TYPE);
        let own = self.drivers.get(type_name).map(|driver| driver.own_path_keys()).unwrap_or_default();
        entry.map_value(|value| match value {
            Value::Map(entries) => Value::Map(
                entries
                    .into_iter()
                    .map(|(key, node)| {
                        let is_path = PATH_KEYS.contains(&key.as_str()) || own.contains(&key.as_str());
                        let node = if is_path { node.rebased(folder) } else { node };
                        (key, node)
                    })
                    .collect(),
            ),
            other => other,
        })
    }

    fn driver(&self, at: &KeyPath, node: Option<&Node>, report: &mut Diagnostics) -> Option<Arc<dyn StorageDriver>> {
        let Some(node) = node else {
            return self.drivers.get(defaults::STORAGE_TYPE).cloned();
        };
        let word = report.word(&at.key("type"), node)?;
        let driver = self.drivers.get(&word).cloned();
        if driver.is_none() {
            let message = format!("storage type `{}` is unknown", word.escape_debug());
            let known = self.drivers.names().join(", ");
            let help = did_you_mean(&self.drivers.similar(&word)).unwrap_or(format!("known types: {known}"));
            report.wrong_with_help(&at.key("type"), node, message, Some(help));
        }
        driver
    }
}

/// Notes the drives whose place in the order of booting another one has; QEMU starts none of two.
fn boot_places(path: &KeyPath, entries: &[Node], machine: &Machine, report: &mut Diagnostics) {
    let mut taken: HashMap<u16, &Node> = HashMap::new();
    for storage in &machine.storage {
        let node = entries.get(storage.index).and_then(|entry| entry.get("bootindex"));
        let (Some(place), Some(node)) = (storage.bootindex, node) else { continue };
        if let Some(first) = taken.get(&place) {
            let message = format!("place {place} in the order of booting is taken already");
            report.twice(&path.index(storage.index).key("bootindex"), node, first.whereabouts(), message);
        }
        taken.entry(place).or_insert(node);
    }
}

/// Reads the size of a disk; QEMU takes none that is smaller than a sector, and rounds up to whole ones.
fn disk_size(at: &KeyPath, node: &Node, report: &mut Diagnostics) -> Option<ByteSize> {
    let size = report.size(at, node, 0)?;
    if size.bytes() < SECTOR {
        report.wrong(at, node, format!("a disk has {SECTOR} bytes at least, this has {}", size.bytes()));
        return None;
    }
    if size.bytes() > TOO_LARGE - SECTOR {
        report.wrong(
            at,
            node,
            format!("a disk is smaller than {}, found {}", ByteSize::from_bytes(TOO_LARGE), node.in_words()),
        );
        return None;
    }
    Some(size)
}

/// Reads `discard`: `true` and `unmap` give space back, `false` and `ignore` do not.
fn discard(at: &KeyPath, node: &Node, report: &mut Diagnostics) -> Option<bool> {
    match node.as_text() {
        Some("unmap") => Some(true),
        Some("ignore") => Some(false),
        Some(_) | None => report.boolean(at, node),
    }
}

/// Reads a serial number; a guest sees 20 bytes of one at most (virtio and NVMe).
fn serial(at: &KeyPath, node: &Node, report: &mut Diagnostics) -> Option<String> {
    let text = report.word(at, node)?;
    if text.len() > SERIAL_MAX {
        report.wrong(at, node, format!("a serial number has at most {SERIAL_MAX} bytes, this has {}", text.len()));
        return None;
    }
    Some(text)
}

fn backing(at: &KeyPath, entry: &Node, report: &mut Diagnostics) -> Option<Backing> {
    let given = |key: &str| entry.given(key);
    let format = given("backing_format").and_then(|node| report.word(&at.key("backing_format"), node));
    match (given("backing_file"), given("backing_format")) {
        (Some(file), _) => report.path(&at.key("backing_file"), file).map(|file| Backing { file, format }),
        (None, Some(node)) => {
            report.lacks(&at.key("backing_format"), node, "there is no `backing_file` for this format");
            None
        }
        (None, None) => None,
    }
}

fn drive_name(at: &KeyPath, entry: &Node, report: &mut Diagnostics) -> Option<NodeName> {
    let Some(node) = entry.get("name") else {
        report.wrong(at, entry, "a drive needs a `name`");
        return None;
    };
    let text = report.text(&at.key("name"), node)?;
    match NodeName::parse(&text) {
        Ok(name) => Some(name),
        Err(invalid) => {
            report.wrong(&at.key("name"), node, invalid.to_string());
            None
        }
    }
}

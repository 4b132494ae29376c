//! `storage`: the disks.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use strum::VariantNames;

use super::{attachment, deletes, limits};
use crate::config::{Diagnostics, KeyPath, Node, Value, schema};
use crate::machine::{ConfigHandler, KeyDoc, Machine, defaults};
use crate::qemu::NodeName;
use crate::registry::Registry;
use crate::size::ByteSize;
use crate::storage::{Aio, Backing, Cache, ErrorPolicy, Interface, StorageDriver, StorageSpec};
use crate::text::{did_you_mean, similar};

const KEYS: [&str; 20] = [
    "name", "type", "size", "file", "interface", "readonly", "snapshot", "backing_file", "backing_format", "cache",
    "discard", "serial", "bootindex", "werror", "rerror", "aio", "controller", "port", "iops", "bps",
];

/// The smallest size of a disk, in bytes.
const SECTOR: u64 = 512;

/// A size without a unit is rarely meant as so few bytes.
const MIN_BARE_SIZE: u64 = 1 << 20;

/// Every disk is smaller: QEMU counts its bytes with 63 bits.
const SIZE_LIMIT: u64 = 1 << 63;

/// The longest serial number, in bytes.
const MAX_SERIAL_LEN: usize = 20;

/// The common keys that hold a path.
const PATH_KEYS: [&str; 2] = ["file", "backing_file"];

/// `storage`, with the types it accepts.
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
            value: "a map, or a list of maps, with name, type, size, file, interface, readonly, snapshot, backing_file, \
                   backing_format, cache, discard, serial, bootindex, werror, rerror, aio, iops, bps, controller, port, and the type's own keys",
        }
    }

    fn schema(&self) -> serde_json::Value {
        let mut keys = vec![
            ("name", schema::text()),
            ("type", schema::one_of(self.drivers.names())),
            ("size", schema::size()),
            ("file", schema::text()),
            ("interface", schema::one_of(Interface::VARIANTS.iter().copied())),
            ("readonly", schema::boolean()),
            ("snapshot", schema::boolean()),
            ("backing_file", schema::text()),
            ("backing_format", schema::text()),
            ("cache", schema::one_of(Cache::VARIANTS.iter().copied())),
            ("discard", json!({ "anyOf": [schema::boolean(), schema::one_of(["unmap", "ignore"])] })),
            ("serial", schema::text()),
            ("bootindex", schema::integer(0, i64::from(u16::MAX))),
            ("werror", schema::one_of(ErrorPolicy::VARIANTS.iter().copied())),
            ("rerror", schema::one_of(ErrorPolicy::VARIANTS.iter().copied())),
            ("aio", schema::one_of(Aio::VARIANTS.iter().copied())),
            ("controller", schema::text()),
            ("port", schema::integer(0, i64::from(u8::MAX))),
        ];
        keys.extend(limits::schemas());
        for key in self.drivers.iter().flat_map(|driver| driver.own_keys()) {
            if !keys.iter().any(|(known, _)| known == key) {
                keys.push((key, json!({})));
            }
        }
        let mut entry = schema::map(keys);
        entry["required"] = json!(["name"]);
        json!({ "anyOf": [entry, schema::list(&json!({ "anyOf": [entry, schema::deletion()] }))] })
    }

    fn rebase(&self, node: Node, folder: &Path) -> Node {
        let paths: Vec<&str> = self.drivers.iter().flat_map(|driver| driver.own_path_keys()).copied().collect();
        let node = match node.get("name") {
            Some(_) => in_a_list(node),
            // It is merged into the only drive of another layer.
            None => self.rebase_entry(node, folder, &paths),
        };
        node.map_items(|items| items.into_iter().map(|item| self.rebase_entry(item, folder, &paths)).collect())
    }

    fn apply(&self, path: &KeyPath, node: &Node, machine: &mut Machine, report: &mut Diagnostics) {
        if is_without_name(node) {
            report.missing(path, node, "`name` is missing");
            return;
        }
        let mut seen: HashMap<String, &Node> = HashMap::new();
        for (index, entry) in report.list(path, node).unwrap_or_default().iter().enumerate() {
            let at = path.index(index);
            if self.deletes(entry) {
                continue;
            }
            if let Some(name_node) = entry.get("name")
                && let Some(name) = name_node.written()
            {
                if let Some(first) = seen.get(&name) {
                    let message = format!("another drive is named `{}`", name.escape_debug());
                    report.duplicate(&at.key("name"), name_node, first.location(), message);
                }
                seen.entry(name).or_insert(name_node);
            }
            machine.storage.extend(self.entry(index, &at, entry, report));
        }
        check_mount_tags(path, node.items(), machine, report);
        attachment::check_ports(path, node.items(), machine, report);
    }
}

impl Storage {
    /// Reads one entry and reports all of its problems.
    ///
    /// An invalid name or interface is replaced by a placeholder, so that the rest can be checked.
    fn entry(&self, index: usize, at: &KeyPath, entry: &Node, report: &mut Diagnostics) -> Option<StorageSpec> {
        report.map(at, entry)?;
        let driver = self.driver(at, entry.non_null("type"), report);
        let own = self.own_keys(at, entry, driver.as_ref(), report);

        let name = drive_name(at, entry, report);
        let file = entry.non_null("file").and_then(|node| report.path(&at.key("file"), node));
        let size = entry.non_null("size").and_then(|node| disk_size(&at.key("size"), node, report));
        let interface = entry.non_null("interface").map(|node| report.variant::<Interface>(&at.key("interface"), node));
        let readonly = entry.non_null("readonly").map_or(Some(false), |node| report.boolean(&at.key("readonly"), node));
        let is_valid =
            interface != Some(None) && readonly.is_some() && file.is_some() == entry.non_null("file").is_some();
        let cache = entry.non_null("cache").and_then(|node| report.variant::<Cache>(&at.key("cache"), node));
        let discard = entry.non_null("discard").and_then(|node| discard(&at.key("discard"), node, report));
        let serial = entry.non_null("serial").and_then(|node| serial(&at.key("serial"), node, report));
        let [werror, rerror] = ["werror", "rerror"]
            .map(|key| entry.non_null(key).and_then(|node| report.variant::<ErrorPolicy>(&at.key(key), node)));
        let bootindex = entry.non_null("bootindex").and_then(|node| bootindex(&at.key("bootindex"), node, report));
        let backing = backing(at, entry, report);

        let driver = driver?;
        let spec = StorageSpec {
            index,
            name: name.or_else(|| NodeName::parse(&format!("storage{index}")).ok())?,
            is_default_interface: interface.is_none(),
            // The placeholder has no limit, so that no error about too many drives follows.
            interface: interface.map_or_else(|| driver.default_interface(), |value| value.unwrap_or(Interface::None)),
            driver,
            file,
            size,
            readonly: readonly.unwrap_or(false),
            snapshot: entry.non_null("snapshot").and_then(|node| report.boolean(&at.key("snapshot"), node))
                == Some(true),
            backing,
            cache,
            discard,
            serial,
            bootindex,
            aio: entry.non_null("aio").and_then(|node| report.variant::<Aio>(&at.key("aio"), node)),
            controller: attachment::controller(at, entry, report),
            port: entry.non_null("port").and_then(|node| report.integer(&at.key("port"), node, 0, i64::from(u8::MAX))),
            werror,
            rerror,
            limits: limits::read(at, entry, report),
            own,
        };
        // The type would report errors about placeholders.
        if is_valid {
            spec.driver.clone().check(&spec, at, entry, report);
            check_snapshot(&spec, at, entry, report);
            attachment::check(&spec, at, entry, report);
            limits::check(&spec, at, entry, report);
        }
        Some(spec)
    }

    /// Returns the values of the type's own keys, and reports unknown keys.
    ///
    /// If the type is not known, a key may belong to any type; one that resembles a known key is mistyped.
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
                found.extend(Some((key.clone(), node.clone())).filter(|_| !node.is_null()));
            } else if !KEYS.contains(&key.as_str()) {
                let known: Vec<&str> = KEYS.iter().chain(&own).copied().collect();
                // A key that resembles none may belong to the unknown type.
                if driver.is_some() || !similar(key, known.iter().copied()).is_empty() {
                    report.unknown_key(&at.key(key), node, &known);
                }
            }
        }
        found
    }

    /// Returns whether an item only deletes a drive of an earlier file.
    fn deletes(&self, item: &Node) -> bool {
        deletes(item, &KEYS) && self.drivers.iter().all(|driver| deletes(item, driver.own_keys()))
    }

    /// Makes the paths of an entry absolute, including those of its type's own keys, or of all types if it has none.
    fn rebase_entry(&self, entry: Node, folder: &Path, paths_of_types: &[&str]) -> Node {
        let driver = |name: &Node| self.drivers.get(name.as_text()?);
        let own = match entry.non_null("type") {
            Some(name) => driver(name).map(|driver| driver.own_path_keys()).unwrap_or_default(),
            // The type may be in another layer.
            None => paths_of_types,
        };
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
        let name = report.line(&at.key("type"), node)?;
        let driver = self.drivers.get(&name).cloned();
        if driver.is_none() {
            let message = format!("unknown storage type `{}`", name.escape_debug());
            let known = self.drivers.names().join(", ");
            let help = did_you_mean(&self.drivers.similar(&name)).unwrap_or(format!("known types: {known}"));
            report.error_with_help(&at.key("type"), node, message, Some(help));
        }
        driver
    }
}

/// Returns a single drive as a list.
fn in_a_list(node: Node) -> Node {
    let item = Node { key_location: None, ..node.clone() };
    node.map_value(|_| Value::List(vec![item]))
}

/// Returns whether this is a single drive without a name, which another file may provide.
fn is_without_name(node: &Node) -> bool {
    node.get("name").is_none() && node.entries().iter().any(|(key, _)| KEYS.contains(&key.as_str()))
}

/// Reports `snapshot` of a drive without an image, or whose image is not written.
fn check_snapshot(storage: &StorageSpec, at: &KeyPath, entry: &Node, report: &mut Diagnostics) {
    let Some(node) = entry.non_null("snapshot") else { return };
    let at = at.key("snapshot");
    if storage.driver.image_format().is_none() {
        let kind = storage.driver.type_name();
        report.error(&at, node, format!("`type: {kind}` does not support `snapshot`"));
    } else if storage.snapshot && storage.driver.is_readonly(storage) {
        let help = Some("remove one of them".to_owned());
        report.error_with_help(&at, node, "`snapshot` has no effect on a read-only drive", help);
    }
}

/// Reports shares of one type with one mount tag, of which a guest finds only the first.
fn check_mount_tags(path: &KeyPath, entries: &[Node], machine: &Machine, report: &mut Diagnostics) {
    let mut used: HashMap<(&str, String), &Node> = HashMap::new();
    for storage in &machine.storage {
        let (Some(tag), Some(entry)) = (storage.driver.mount_tag(storage), entries.get(storage.index)) else {
            continue;
        };
        match used.get(&(storage.driver.type_name(), tag.clone())) {
            Some(first) => {
                let message = format!("another share has the mount tag `{}`", tag.escape_debug());
                report.duplicate(&path.index(storage.index), entry, first.location(), message);
            }
            None => drop(used.insert((storage.driver.type_name(), tag), entry)),
        }
    }
}

/// Reads the size of a disk; QEMU refuses sizes below a sector, and rounds up to whole sectors.
fn disk_size(at: &KeyPath, node: &Node, report: &mut Diagnostics) -> Option<ByteSize> {
    let size = report.size(at, node, 0)?;
    let text = node.written().unwrap_or_default();
    if (1..MIN_BARE_SIZE).contains(&size.bytes()) && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let message = format!("`{text}` without a unit is {} bytes, less than a disk needs", size.bytes());
        let help = format!("add the unit, as in `{text}M`; for bytes, write `{text}B`");
        report.error_with_help(at, node, message, Some(help));
        return None;
    }
    if size.bytes() < SECTOR {
        report.error(at, node, format!("a disk of {} bytes is too small, the minimum is {SECTOR}", size.bytes()));
        return None;
    }
    if size.bytes() > SIZE_LIMIT - SECTOR {
        let limit = ByteSize::from_bytes(SIZE_LIMIT);
        report.error(at, node, format!("expected a size below {limit}, found {}", node.description()));
        return None;
    }
    Some(size)
}

/// Reads `discard`: `true` and `unmap` free discarded blocks, `false` and `ignore` do not.
fn discard(at: &KeyPath, node: &Node, report: &mut Diagnostics) -> Option<bool> {
    match node.as_text() {
        Some("unmap") => Some(true),
        Some("ignore") => Some(false),
        Some(_) | None => report.boolean(at, node),
    }
}

pub(super) fn bootindex(at: &KeyPath, node: &Node, report: &mut Diagnostics) -> Option<u16> {
    report.integer(at, node, 0, i64::from(u16::MAX))
}

/// Reads a serial number; guests see at most 20 bytes (virtio and NVMe).
fn serial(at: &KeyPath, node: &Node, report: &mut Diagnostics) -> Option<String> {
    let text = report.line(at, node)?;
    if text.len() > MAX_SERIAL_LEN {
        report.error(
            at,
            node,
            format!("serial number of {} bytes is too long, the limit is {MAX_SERIAL_LEN}", text.len()),
        );
        return None;
    }
    Some(text)
}

fn backing(at: &KeyPath, entry: &Node, report: &mut Diagnostics) -> Option<Backing> {
    let format = entry.non_null("backing_format").and_then(|node| report.line(&at.key("backing_format"), node));
    match (entry.non_null("backing_file"), entry.non_null("backing_format")) {
        (Some(file), _) => report.path(&at.key("backing_file"), file).map(|file| Backing { file, format }),
        (None, Some(node)) => {
            report.missing(&at.key("backing_format"), node, "`backing_format` requires `backing_file`");
            None
        }
        (None, None) => None,
    }
}

fn drive_name(at: &KeyPath, entry: &Node, report: &mut Diagnostics) -> Option<NodeName> {
    let Some(node) = entry.get("name") else {
        report.error(at, entry, "`name` is missing");
        return None;
    };
    report.parse(&at.key("name"), node)
}

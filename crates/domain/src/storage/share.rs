//! Folders of the host that the guest sees.

use std::path::{Path, PathBuf};

use super::{Preparation, Seat, StorageFeatures, StorageSpec};
use crate::config::{KeyPath, Node, Report};
use crate::plugin::StorageDriver;
use crate::qemu::Switch;

/// The longest tag the guest mounts by (9p: 31 bytes with its NUL; virtiofs: 36).
const TAG_MAX: usize = 31;

/// The keys under `options` of a `virtfs` entry, as the Python program had them.
const VIRTFS_OPTIONS: [&str; 3] = ["mount_tag", "security_model", "readonly"];

/// How file owners and modes are kept, by QEMU's names.
const SECURITY_MODELS: [(&str, &str); 4] = [
    ("mapped-xattr", "mapped-xattr"),
    ("mapped-file", "mapped-file"),
    ("passthrough", "passthrough"),
    ("none", "none"),
];

/// Folders shared over 9p by QEMU itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Virtfs;

/// Folders shared by a virtiofsd that runs already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Virtiofs;

impl StorageDriver for Virtfs {
    fn type_name(&self) -> &'static str {
        "virtfs"
    }

    fn summary(&self) -> &'static str {
        "a folder of the host, shared over 9p"
    }

    fn extension(&self) -> &'static str {
        ""
    }

    fn own_keys(&self) -> &'static [&'static str] {
        &["path", "options"]
    }

    fn own_path_keys(&self) -> &'static [&'static str] {
        &["path"]
    }

    fn check(&self, storage: &StorageSpec, at: &KeyPath, entry: &Node, report: &mut Report) {
        no_disk_keys(at, entry, report);
        match storage.own("path") {
            Some(node) => drop(report.path(&at.key("path"), node)),
            None => report.wrong(at, entry, "`type: virtfs` needs the `path` of the folder to share"),
        }
        let at = at.key("options");
        let Some(options) = storage.own("options").filter(|node| !node.is_null()) else {
            return;
        };
        for (key, node) in report.map(&at, options).unwrap_or_default() {
            let at = at.key(key);
            match key.as_str() {
                "mount_tag" => tag(&at, node, report),
                "security_model" => drop(report.one_of(&at, node, &SECURITY_MODELS)),
                "readonly" => drop(report.boolean(&at, node)),
                _ => report.unknown_key(&at, node, &VIRTFS_OPTIONS),
            }
        }
    }

    fn preparation(&self, storage: &StorageSpec, _: &Path) -> Preparation {
        Preparation::Folder(shared(storage).unwrap_or_default())
    }

    fn back_end(&self, storage: &StorageSpec, _: &str) -> Vec<Switch> {
        let path = shared(storage).unwrap_or_default();
        let model = option(storage, "security_model").unwrap_or_else(|| "mapped-xattr".to_owned());
        let share = Switch::new("fsdev").head("local").option("id", storage.name.as_str());
        let share = share.option("path", path.to_string_lossy()).option("security_model", model);
        let is_readonly = storage.readonly || option(storage, "readonly").is_some_and(|word| word == "on");
        vec![if is_readonly { share.flag("readonly", true) } else { share }]
    }

    fn front_end(&self, storage: &StorageSpec, _: Seat) -> Vec<Switch> {
        let name = storage.name.as_str();
        let tag = option(storage, "mount_tag").unwrap_or_else(|| name.to_owned());
        let device = Switch::new("device").head("virtio-9p-pci").option("fsdev", name);
        vec![device.option("mount_tag", tag).option("id", name)]
    }
}

impl StorageDriver for Virtiofs {
    fn type_name(&self) -> &'static str {
        "virtiofs"
    }

    fn summary(&self) -> &'static str {
        "a folder shared by a virtiofsd that you run, by its socket"
    }

    fn extension(&self) -> &'static str {
        ""
    }

    fn own_keys(&self) -> &'static [&'static str] {
        &["socket", "mount_tag"]
    }

    fn own_path_keys(&self) -> &'static [&'static str] {
        &["socket"]
    }

    fn check(&self, storage: &StorageSpec, at: &KeyPath, entry: &Node, report: &mut Report) {
        no_disk_keys(at, entry, report);
        match storage.own("socket") {
            Some(node) => drop(report.path(&at.key("socket"), node)),
            None => report.wrong(at, entry, "`type: virtiofs` needs the `socket` of a virtiofsd"),
        }
        if let Some(node) = storage.own("mount_tag") {
            tag(&at.key("mount_tag"), node, report);
        }
    }

    fn preparation(&self, storage: &StorageSpec, _: &Path) -> Preparation {
        Preparation::Existing(socket(storage))
    }

    fn back_end(&self, storage: &StorageSpec, _: &str) -> Vec<Switch> {
        let id = storage.name.file_node();
        let socket = socket(storage).to_string_lossy().into_owned();
        vec![Switch::new("chardev").head("socket").option("id", id).option("path", socket)]
    }

    fn front_end(&self, storage: &StorageSpec, _: Seat) -> Vec<Switch> {
        let name = storage.name.as_str();
        let tag = storage.own("mount_tag").and_then(Node::scalar).unwrap_or_else(|| name.to_owned());
        let device = Switch::new("device").head("vhost-user-fs-pci").option("chardev", storage.name.file_node());
        vec![device.option("tag", tag).option("id", name)]
    }

    fn features(&self) -> StorageFeatures {
        StorageFeatures { shared_memory: true, ..StorageFeatures::default() }
    }
}

/// Returns the folder a `virtfs` entry shares.
fn shared(storage: &StorageSpec) -> Option<PathBuf> {
    storage.own("path").and_then(Node::as_text).map(PathBuf::from)
}

fn socket(storage: &StorageSpec) -> PathBuf {
    storage.own("socket").and_then(Node::as_text).map(PathBuf::from).unwrap_or_default()
}

fn option(storage: &StorageSpec, key: &str) -> Option<String> {
    storage.own("options").and_then(|options| options.get(key)).and_then(Node::scalar)
}

fn tag(at: &KeyPath, node: &Node, report: &mut Report) {
    if let Some(text) = report.word(at, node)
        && text.len() > TAG_MAX
    {
        report.wrong(at, node, format!("a tag has at most {TAG_MAX} bytes, this has {}", text.len()));
    }
}

/// Notes the keys that only a disk can have.
fn no_disk_keys(at: &KeyPath, entry: &Node, report: &mut Report) {
    const OF_DISKS: [&str; 9] =
        ["file", "size", "interface", "backing_file", "backing_format", "cache", "discard", "serial", "bootindex"];
    for (key, node) in entry.entries().iter().filter(|(key, _)| OF_DISKS.contains(&key.as_str())) {
        report.wrong(&at.key(key), node, format!("a shared folder has no `{key}`"));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::storage::{DriveName, Interface};

    #[test]
    fn test_virtfs_comma_in_the_path_injects_nothing() {
        let own: Node = serde_json::from_str(r#"{"path": "/s/a,readonly=on", "options": {"mount_tag": "t"}}"#).unwrap();
        let storage = StorageSpec {
            name: DriveName::parse("src").unwrap(),
            driver: Arc::new(Virtfs),
            file: None,
            size: None,
            interface: Interface::None,
            readonly: false,
            backing: None,
            cache: None,
            discard: None,
            serial: None,
            bootindex: None,
            own: own.entries().to_vec(),
        };

        let share = Virtfs.back_end(&storage, "");
        let device = Virtfs.front_end(&storage, Seat { position: 0, is_q35: false });

        let expected = "local,id=src,path=/s/a,,readonly=on,security_model=mapped-xattr";
        assert_eq!(share[0].argument(), Some(expected));
        assert_eq!(device[0].argument(), Some("virtio-9p-pci,fsdev=src,mount_tag=t,id=src"));
    }
}

//! Directories of the host shared with the guest.

use std::path::{Path, PathBuf};

use super::{DriveSlot, HostFile, Preparation, StorageDriver, StorageFeatures, StorageSpec};
use crate::config::{Diagnostics, KeyPath, Node};
use crate::qemu::Switch;

/// The longest mount tag, in bytes (9p: 31 with its NUL; virtiofs: 36).
const MAX_TAG_LEN: usize = 31;

/// The keys of `options` of a `virtfs` entry, as in the Python maqet.
const VIRTFS_OPTIONS: [&str; 3] = ["mount_tag", "security_model", "readonly"];

/// How file owners and modes are stored, as QEMU names it.
const SECURITY_MODELS: [&str; 4] = ["mapped-xattr", "mapped-file", "passthrough", "none"];

/// Directories shared over 9p by QEMU itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Virtfs;

/// Directories shared by a running virtiofsd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Virtiofs;

impl StorageDriver for Virtfs {
    fn type_name(&self) -> &'static str {
        "virtfs"
    }

    fn summary(&self) -> &'static str {
        "a directory of the host, shared over 9p"
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

    fn check(&self, storage: &StorageSpec, at: &KeyPath, entry: &Node, report: &mut Diagnostics) {
        check_disk_keys(at, entry, report);
        match storage.own("path") {
            Some(node) => drop(report.path(&at.key("path"), node)),
            None => report.missing(at, entry, "`type: virtfs` requires the `path` of a directory"),
        }
        let Some(options) = storage.own("options") else {
            return;
        };
        let readonly = entry.non_null("readonly");
        if let (Some(outer), Some(inner)) = (readonly.and_then(Node::boolean), options.non_null("readonly"))
            && inner.boolean() == Some(!outer)
        {
            let message = "contradicts the `readonly` of the drive";
            report.duplicate(&at.key("options").key("readonly"), inner, readonly.and_then(Node::location), message);
        }
        let at = at.key("options");
        for (key, node) in report.map(&at, options).unwrap_or_default() {
            let at = at.key(key);
            if node.is_null() && VIRTFS_OPTIONS.contains(&key.as_str()) {
                continue;
            }
            match key.as_str() {
                "mount_tag" => tag(&at, node, report),
                "security_model" => drop(report.one_of(&at, node, &SECURITY_MODELS)),
                "readonly" => drop(report.boolean(&at, node)),
                _ => report.unknown_key(&at, node, &VIRTFS_OPTIONS),
            }
        }
    }

    fn preparation(&self, storage: &StorageSpec, _: &Path) -> Preparation {
        Preparation::Directory(own_path(storage, "path"))
    }

    fn backend(&self, storage: &StorageSpec, _: HostFile<'_>) -> Vec<Switch> {
        let path = own_path(storage, "path");
        let model = option(storage, "security_model").unwrap_or_else(|| "mapped-xattr".to_owned());
        let share = Switch::new("fsdev").head("local").option("id", storage.name.as_str());
        let share = share.option("path", path.to_string_lossy()).option("security_model", model);
        vec![if self.is_readonly(storage) { share.flag("readonly", true) } else { share }]
    }

    fn is_readonly(&self, storage: &StorageSpec) -> bool {
        let options = storage.own("options");
        storage.readonly || options.and_then(|options| options.get("readonly")?.boolean()) == Some(true)
    }

    fn frontend(&self, storage: &StorageSpec, _: DriveSlot) -> Vec<Switch> {
        let name = storage.name.as_str();
        let device = Switch::new("device").head("virtio-9p-pci").option("fsdev", name);
        vec![device.option("mount_tag", self.mount_tag(storage).unwrap_or_default()).option("id", name)]
    }

    fn mount_tag(&self, storage: &StorageSpec) -> Option<String> {
        Some(option(storage, "mount_tag").unwrap_or_else(|| storage.name.to_string()))
    }
}

impl StorageDriver for Virtiofs {
    fn type_name(&self) -> &'static str {
        "virtiofs"
    }

    fn summary(&self) -> &'static str {
        "a directory shared by a virtiofsd that you run, by its socket"
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

    fn check(&self, storage: &StorageSpec, at: &KeyPath, entry: &Node, report: &mut Diagnostics) {
        check_disk_keys(at, entry, report);
        match storage.own("socket") {
            Some(node) => drop(report.path(&at.key("socket"), node)),
            None => report.missing(at, entry, "`type: virtiofs` requires the `socket` of a virtiofsd"),
        }
        if let Some(node) = entry.non_null("readonly") {
            let message = "`type: virtiofs` does not support `readonly`: its virtiofsd decides";
            let help = "remove `readonly` and start virtiofsd with `--readonly` (not supported by that of QEMU 7.2), or set \
                        `type: virtfs`";
            report.error_with_help(&at.key("readonly"), node, message, Some(help.to_owned()));
        }
        if let Some(node) = storage.own("mount_tag") {
            tag(&at.key("mount_tag"), node, report);
        }
    }

    fn preparation(&self, storage: &StorageSpec, _: &Path) -> Preparation {
        Preparation::Existing(own_path(storage, "socket"))
    }

    fn backend(&self, storage: &StorageSpec, _: HostFile<'_>) -> Vec<Switch> {
        let id = storage.name.file_node();
        let socket = own_path(storage, "socket").to_string_lossy().into_owned();
        vec![Switch::new("chardev").head("socket").option("id", id).option("path", socket)]
    }

    fn frontend(&self, storage: &StorageSpec, _: DriveSlot) -> Vec<Switch> {
        let device = Switch::new("device").head("vhost-user-fs-pci").option("chardev", storage.name.file_node());
        vec![device.option("tag", self.mount_tag(storage).unwrap_or_default()).option("id", storage.name.as_str())]
    }

    fn mount_tag(&self, storage: &StorageSpec) -> Option<String> {
        Some(storage.own("mount_tag").and_then(Node::written).unwrap_or_else(|| storage.name.to_string()))
    }

    fn features(&self) -> StorageFeatures {
        StorageFeatures { shared_memory: true, ..StorageFeatures::default() }
    }
}

/// Returns the path under an own key, which was checked.
fn own_path(storage: &StorageSpec, key: &str) -> PathBuf {
    storage.own(key).and_then(Node::as_text).map(PathBuf::from).unwrap_or_default()
}

fn option(storage: &StorageSpec, key: &str) -> Option<String> {
    storage.own("options").and_then(|options| options.get(key)).and_then(Node::written)
}

fn tag(at: &KeyPath, node: &Node, report: &mut Diagnostics) {
    if let Some(text) = report.line(at, node)
        && text.len() > MAX_TAG_LEN
    {
        report.error(at, node, format!("mount tag of {} bytes is too long, the limit is {MAX_TAG_LEN}", text.len()));
    }
}

/// Reports keys that only disks have.
fn check_disk_keys(at: &KeyPath, entry: &Node, report: &mut Diagnostics) {
    const DISK_KEYS: [&str; 14] = [
        "file", "size", "interface", "backing_file", "backing_format", "cache", "discard", "serial", "bootindex",
        "werror", "rerror", "aio", "controller", "port",
    ];
    for key in DISK_KEYS {
        let Some(node) = entry.non_null(key) else { continue };
        report.error(&at.key(key), node, format!("a shared directory does not support `{key}`"));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::machine::ConfigHandler;
    use crate::machine::{Machine, builtin_handlers};
    use crate::qemu::NodeName;
    use crate::storage::{DriveLimits, Interface, builtin_drivers};

    /// Reads a machine with this entry only.
    fn read(entry: &str) -> (Machine, Vec<String>) {
        let handlers = builtin_handlers(&builtin_drivers().unwrap()).unwrap();
        let definition: Node = serde_json::from_str(&format!(r#"{{"storage": [{entry}]}}"#)).unwrap();
        let (machine, problems) = Machine::read(&definition, &handlers);
        (machine, problems.into_iter().map(|problem| format!("{}: {}", problem.path, problem.message)).collect())
    }

    /// Checks the arguments of the backend and the frontend of a valid entry.
    #[track_caller]
    fn check(entry: &str, back: &str, front: &str) {
        let (machine, problems) = read(entry);
        assert_eq!(problems, Vec::<String>::new());

        let storage = &machine.storage[0];
        let backend = storage.driver.backend(storage, HostFile::regular(""));
        let frontend = storage.driver.frontend(storage, DriveSlot { position: 0, is_q35: false, is_numbered: false });

        assert_eq!((backend[0].argument(), frontend[0].argument()), (Some(back), Some(front)));
    }

    #[track_caller]
    fn check_refused(entry: &str, expected: &[&str]) {
        assert_eq!(read(entry).1, expected, "{entry}");
    }

    #[test]
    fn test_virtfs_readonly_in_any_spelling_is_readonly() {
        let share = "local,id=src,path=/s,security_model=mapped-xattr";
        let device = "virtio-9p-pci,fsdev=src,mount_tag=src,id=src";
        for (value, expected) in
            [("true", true), (r#""yes""#, true), (r#""on""#, true), ("false", false), (r#""no""#, false)]
        {
            let expected = format!("{share}{}", if expected { ",readonly=on" } else { "" });
            let type_and_path = r#""name": "src", "type": "virtfs", "path": "/s""#;

            check(&format!(r#"{{{type_and_path}, "options": {{"readonly": {value}}}}}"#), &expected, device);
            check(&format!(r#"{{{type_and_path}, "readonly": {value}}}"#), &expected, device);
        }
    }

    #[test]
    fn test_virtfs_invalid_entry_is_reported_at_each_key() {
        let key = |options: &str| format!(r#"{{"name": "src", "type": "virtfs", "path": "/s", "options": {options}}}"#);
        let tag = |length| key(&format!(r#"{{"mount_tag": "{}"}}"#, "t".repeat(length)));

        check_refused(
            r#"{"name": "src", "type": "virtfs"}"#,
            &["storage[0]: `type: virtfs` requires the `path` of a directory"],
        );
        check_refused(
            r#"{"name": "src", "type": "virtfs", "path": "/s", "size": "1G"}"#,
            &["storage[0].size: a shared directory does not support `size`"],
        );
        check_refused(&key("null"), &[]);
        check_refused(&key("[]"), &["storage[0].options: expected a map, found a list"]);
        check_refused(
            &key(r#"{"readonly": 2}"#),
            &["storage[0].options.readonly: expected `true` or `false`, found the number `2`"],
        );
        check_refused(&key(r#"{"tag": "x"}"#), &["storage[0].options.tag: unknown key `tag`"]);
        check_refused(&tag(31), &[]);
        check_refused(&tag(32), &["storage[0].options.mount_tag: mount tag of 32 bytes is too long, the limit is 31"]);
        assert!(read(&key(r#"{"security_model": "x"}"#)).1[0].contains("expected one of `mapped-xattr`"));
    }

    #[test]
    fn test_virtiofs_is_passed_to_qemu_with_shared_memory() {
        let entry = r#"{"name": "src", "type": "virtiofs", "socket": "/r/a,b", "mount_tag": "t"}"#;

        check(entry, "socket,id=src-file,path=/r/a,,b", "vhost-user-fs-pci,chardev=src-file,tag=t,id=src");

        let (machine, _) = read(entry);
        assert!(machine.storage[0].driver.features().shared_memory);
    }

    #[test]
    fn test_virtiofs_invalid_entry_is_reported_at_each_key() {
        check_refused(
            r#"{"name": "src", "type": "virtiofs"}"#,
            &["storage[0]: `type: virtiofs` requires the `socket` of a virtiofsd"],
        );
        check_refused(
            r#"{"name": "src", "type": "virtiofs", "socket": "/r/s", "cache": "none", "mount_tag": ""}"#,
            &[
                "storage[0].cache: a shared directory does not support `cache`",
                "storage[0].mount_tag: expected a non-empty string, found the string ``",
            ],
        );
    }

    #[test]
    fn test_shares_relative_paths_are_rebased() {
        let handlers = builtin_handlers(&builtin_drivers().unwrap()).unwrap();
        let storage: &dyn ConfigHandler = handlers.get("storage").unwrap().as_ref();
        let list: Node = serde_json::from_str(
            r#"[{"type": "virtfs", "path": "a", "socket": "b"}, {"type": "virtiofs", "path": "a", "socket": "b"}]"#,
        )
        .unwrap();

        let rebased = storage.rebase(list, Path::new("/conf"));

        let expected =
            r#"[{"type":"virtfs","path":"/conf/a","socket":"b"},{"type":"virtiofs","path":"a","socket":"/conf/b"}]"#;
        assert_eq!(serde_json::to_string(&rebased).unwrap(), expected);
    }

    #[test]
    fn test_virtfs_path_cannot_inject_options() {
        let own: Node = serde_json::from_str(r#"{"path": "/s/a,readonly=on", "options": {"mount_tag": "t"}}"#).unwrap();
        let storage = StorageSpec {
            index: 0,
            name: NodeName::parse("src").unwrap(),
            driver: Arc::new(Virtfs),
            file: None,
            size: None,
            interface: Interface::None,
            is_default_interface: false,
            readonly: false,
            snapshot: false,
            backing: None,
            cache: None,
            discard: None,
            serial: None,
            bootindex: None,
            aio: None,
            controller: None,
            port: None,
            werror: None,
            rerror: None,
            limits: DriveLimits::default(),
            own: own.entries().to_vec(),
        };

        let share = Virtfs.backend(&storage, HostFile::regular(""));
        let device = Virtfs.frontend(&storage, DriveSlot { position: 0, is_q35: false, is_numbered: false });

        let expected = "local,id=src,path=/s/a,,readonly=on,security_model=mapped-xattr";
        assert_eq!(share[0].argument(), Some(expected));
        assert_eq!(device[0].argument(), Some("virtio-9p-pci,fsdev=src,mount_tag=t,id=src"));
    }
}

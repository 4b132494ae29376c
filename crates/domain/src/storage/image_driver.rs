//! The storage types that come with maqet.

use std::path::Path;
use std::sync::Arc;

use super::{
    Cache, DEFAULT_SIZE, DriveSlot, ImagePlan, Interface, Preparation, StorageFeatures, StorageSpec, Virtfs, Virtiofs,
};
use crate::config::{Diagnostics, KeyPath, Node};
use crate::qemu::Switch;
use crate::registry::{DuplicateName, Registry};
use crate::size::ByteSize;
use crate::storage::StorageDriver;

/// The largest qcow2 with clusters of 64 KiB, as maqet makes them (`qemu-img` 7.2, tried).
const QCOW2_MOST: ByteSize = ByteSize::from_bytes(2 << 50);

/// Returns a registry with the storage types that come with maqet.
pub fn builtin_drivers() -> Result<Registry<dyn StorageDriver>, DuplicateName> {
    let mut registry: Registry<dyn StorageDriver> = Registry::new("storage type");
    registry.register(Arc::new(Qcow2))?;
    registry.register(Arc::new(Raw))?;
    registry.register(Arc::new(Nvme))?;
    registry.register(Arc::new(Iso))?;
    registry.register(Arc::new(Virtfs))?;
    registry.register(Arc::new(Virtiofs))?;
    Ok(registry)
}

/// Images in QEMU's own format: they grow as they fill and hold snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Qcow2;

/// Images in QEMU's own format, each on an NVMe controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nvme;

/// Images of CDs and DVDs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Iso;

/// Images that are the guest's disk byte by byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Raw;

impl StorageDriver for Qcow2 {
    fn type_name(&self) -> &'static str {
        "qcow2"
    }

    fn summary(&self) -> &'static str {
        "a disk image that grows as it fills and holds snapshots"
    }

    fn extension(&self) -> &'static str {
        "qcow2"
    }

    fn check(&self, storage: &StorageSpec, at: &KeyPath, entry: &Node, report: &mut Diagnostics) {
        no_device_keys(storage, at, entry, report);
        fits_qcow2(storage, at, entry, report);
    }

    fn preparation(&self, storage: &StorageSpec, path: &Path) -> Preparation {
        image_or_existing(storage, path, "qcow2")
    }

    fn back_end(&self, storage: &StorageSpec, path: &str) -> Vec<Switch> {
        image_nodes(storage, path, "qcow2")
    }

    fn features(&self) -> StorageFeatures {
        StorageFeatures { internal_snapshots: true, ..StorageFeatures::default() }
    }
}

impl StorageDriver for Raw {
    fn type_name(&self) -> &'static str {
        "raw"
    }

    fn summary(&self) -> &'static str {
        "a disk image that is the guest's disk byte by byte; no snapshots"
    }

    fn extension(&self) -> &'static str {
        "raw"
    }

    fn check(&self, storage: &StorageSpec, at: &KeyPath, entry: &Node, report: &mut Diagnostics) {
        no_device_keys(storage, at, entry, report);
        if storage.backing.is_some() {
            let node = entry.get("backing_file").unwrap_or(entry);
            report.wrong_with_help(
                &at.key("backing_file"),
                node,
                "a raw image cannot be laid over another one",
                Some("set `type: qcow2`".to_owned()),
            );
        }
    }

    fn preparation(&self, storage: &StorageSpec, path: &Path) -> Preparation {
        image_or_existing(storage, path, "raw")
    }

    fn back_end(&self, storage: &StorageSpec, path: &str) -> Vec<Switch> {
        image_nodes(storage, path, "raw")
    }
}

impl StorageDriver for Nvme {
    fn type_name(&self) -> &'static str {
        "nvme"
    }

    fn summary(&self) -> &'static str {
        "a qcow2 image on an NVMe controller of its own"
    }

    fn extension(&self) -> &'static str {
        "qcow2"
    }

    fn default_interface(&self) -> Interface {
        Interface::Nvme
    }

    fn check(&self, storage: &StorageSpec, at: &KeyPath, entry: &Node, report: &mut Diagnostics) {
        if storage.interface != Interface::Nvme {
            let node = entry.get("interface").unwrap_or(entry);
            report.wrong(&at.key("interface"), node, "`type: nvme` is attached as `nvme`; leave the interface out");
        }
        fits_qcow2(storage, at, entry, report);
    }

    fn preparation(&self, storage: &StorageSpec, path: &Path) -> Preparation {
        image_or_existing(storage, path, "qcow2")
    }

    fn back_end(&self, storage: &StorageSpec, path: &str) -> Vec<Switch> {
        image_nodes(storage, path, "qcow2")
    }

    fn features(&self) -> StorageFeatures {
        StorageFeatures { internal_snapshots: true, ..StorageFeatures::default() }
    }
}

impl StorageDriver for Iso {
    fn type_name(&self) -> &'static str {
        "iso"
    }

    fn summary(&self) -> &'static str {
        "a CD or DVD image, read-only"
    }

    fn extension(&self) -> &'static str {
        "iso"
    }

    fn default_interface(&self) -> Interface {
        Interface::Ide
    }

    fn check(&self, storage: &StorageSpec, at: &KeyPath, entry: &Node, report: &mut Diagnostics) {
        if storage.file.is_none() {
            report.lacks(at, entry, "`type: iso` needs a `file`");
        }
        if !matches!(storage.interface, Interface::Ide | Interface::Sata | Interface::Scsi) {
            let node = entry.get("interface").unwrap_or(entry);
            report.wrong(&at.key("interface"), node, "a CD drive is attached as `ide`, `sata` or `scsi`");
        }
        for key in ["size", "backing_file"] {
            if let Some(node) = entry.given(key) {
                report.wrong(&at.key(key), node, format!("a CD image has no `{key}`"));
            }
        }
        if let Some(node) = entry.given("readonly").filter(|node| node.boolean() == Some(false)) {
            let help = "leave `readonly` out, or set `type: raw` for a disk that can be written";
            report.wrong_with_help(&at.key("readonly"), node, "a CD cannot be written", Some(help.to_owned()));
        }
    }

    fn preparation(&self, _: &StorageSpec, path: &Path) -> Preparation {
        Preparation::Existing(path.to_owned())
    }

    fn back_end(&self, storage: &StorageSpec, path: &str) -> Vec<Switch> {
        image_nodes(storage, path, "raw")
    }

    fn is_readonly(&self, _: &StorageSpec) -> bool {
        true
    }

    fn front_end(&self, storage: &StorageSpec, seat: DriveSlot) -> Vec<Switch> {
        storage.interface.device(storage, seat, "cd").into_iter().collect()
    }
}

/// Notes what is said about a device where there is none.
fn no_device_keys(storage: &StorageSpec, at: &KeyPath, entry: &Node, report: &mut Diagnostics) {
    if storage.interface != Interface::None {
        return;
    }
    let help = |option: &str| {
        let name = &storage.name;
        Some(format!("say it where `arguments` attach it: `- {{device: …, drive: {name}, {option}}}`"))
    };
    for key in ["serial", "bootindex"] {
        if let Some(node) = entry.given(key) {
            let message = format!("`{key}` is of the device, and `interface: none` makes none");
            report.wrong_with_help(&at.key(key), node, message, help(&format!("{key}: …")));
        }
    }
    if storage.writes_through()
        && let Some(node) = entry.given("cache")
    {
        let word = node.scalar().unwrap_or_default();
        let message = format!("with `cache: {word}` the device writes through, and `interface: none` makes none");
        report.wrong_with_help(&at.key("cache"), node, message, help("write-cache: off"));
    }
}

/// Notes a size that no image in QEMU's own format has.
fn fits_qcow2(storage: &StorageSpec, at: &KeyPath, entry: &Node, report: &mut Diagnostics) {
    let Some(_) = storage.size.filter(|size| *size > QCOW2_MOST) else { return };
    let node = entry.get("size").unwrap_or(entry);
    report.wrong(&at.key("size"), node, format!("a qcow2 image has {QCOW2_MOST} at most, found {}", node.in_words()));
}

/// A file that the definition names and gives no size is expected to be there: making an empty disk
/// under a mistyped path would hide the mistake.
fn image_or_existing(storage: &StorageSpec, path: &Path, format: &str) -> Preparation {
    let size = match (&storage.size, &storage.backing, &storage.file) {
        (Some(size), _, _) => Some(*size),
        (None, Some(_), _) => None,
        (None, None, Some(_)) => return Preparation::Existing(path.to_owned()),
        (None, None, None) => Some(DEFAULT_SIZE),
    };
    if storage.readonly && storage.backing.is_none() {
        return Preparation::Existing(path.to_owned());
    }
    Preparation::Image(ImagePlan {
        path: path.to_owned(),
        format: format.to_owned(),
        size,
        backing: storage.backing.clone(),
    })
}

/// The node that reads and writes the file, and above it the node that knows the format.
///
/// Both are named, because snapshots are asked for by node name (`qemu-facts`, QEMU 7.2).
fn image_nodes(storage: &StorageSpec, path: &str, format: &str) -> Vec<Switch> {
    let node = |driver: &str, name: &str| {
        let switch = Switch::new("blockdev").option("driver", driver).option("node-name", name);
        options(switch, storage)
    };
    let file_node = storage.name.file_node();
    vec![
        node("file", &file_node).option("filename", path),
        node(format, storage.name.as_str()).option("file", &file_node),
    ]
}

/// What holds for both nodes.
fn options(mut node: Switch, storage: &StorageSpec) -> Switch {
    if storage.driver.is_readonly(storage) {
        node = node.flag("read-only", true);
    }
    if let Some(discard) = storage.discard {
        node = node.option("discard", if discard { "unmap" } else { "ignore" });
    }
    match storage.cache {
        Some(Cache::None | Cache::Directsync) => node.flag("cache.direct", true),
        Some(Cache::Unsafe) => node.flag("cache.no-flush", true),
        Some(Cache::Writeback | Cache::Writethrough) | None => node,
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::qemu::NodeName;
    use crate::size::ByteSize;

    fn spec() -> StorageSpec {
        StorageSpec {
            index: 0,
            name: NodeName::parse("hdd").unwrap(),
            driver: Arc::new(Qcow2),
            file: None,
            size: None,
            interface: Interface::Virtio,
            readonly: false,
            backing: None,
            cache: None,
            discard: None,
            serial: None,
            bootindex: None,
            own: Vec::new(),
        }
    }

    fn device(storage: &StorageSpec, position: usize) -> String {
        let seat = DriveSlot { position, is_q35: false };
        storage.driver.front_end(storage, seat)[0].argument().unwrap_or_default().to_owned()
    }

    #[test]
    fn test_device_each_interface_sits_where_qemu_takes_it() {
        let on = |interface| StorageSpec { interface, ..spec() };

        assert_eq!(device(&on(Interface::Virtio), 0), "virtio-blk-pci,drive=hdd,id=hdd");
        assert_eq!(device(&on(Interface::Scsi), 0), "scsi-hd,bus=scsi.0,drive=hdd,id=hdd");
        assert_eq!(device(&on(Interface::Sata), 2), "ide-hd,bus=sata.2,drive=hdd,id=hdd");
        assert_eq!(device(&on(Interface::Ide), 2), "ide-hd,bus=ide.1,unit=1,drive=hdd,id=hdd");
        assert_eq!(device(&on(Interface::Nvme), 0), "nvme,drive=hdd,id=hdd,serial=hdd");
        assert!(Qcow2.front_end(&on(Interface::None), DriveSlot { position: 0, is_q35: false }).is_empty());
    }

    #[test]
    fn test_drive_cache_discard_serial_and_bootindex_reach_qemu() {
        let storage = StorageSpec {
            cache: Some(Cache::Directsync),
            discard: Some(true),
            serial: Some("a,b".to_owned()),
            bootindex: Some(2),
            ..spec()
        };

        let nodes = Qcow2.back_end(&storage, "/d/x");

        let node = "driver=qcow2,node-name=hdd,discard=unmap,cache.direct=on,file=hdd-file";
        assert_eq!(nodes[1].argument(), Some(node));
        let shown = "virtio-blk-pci,drive=hdd,id=hdd,serial=a,,b,bootindex=2,write-cache=off";
        assert_eq!(device(&storage, 0), shown);
    }

    #[test]
    fn test_qcow2_path_with_comma_and_quote_injects_nothing() {
        let switches = Qcow2.back_end(&spec(), "/d/a,readonly=on \"ü\"");

        assert_eq!(switches[0].argument(), Some("driver=file,node-name=hdd-file,filename=/d/a,,readonly=on \"ü\""));
        assert_eq!(switches[1].argument(), Some("driver=qcow2,node-name=hdd,file=hdd-file"));
    }

    #[test]
    fn test_preparation_named_file_without_size_must_exist() {
        let storage = StorageSpec { file: Some(PathBuf::from("/d/x")), ..spec() };

        assert_eq!(Qcow2.preparation(&storage, Path::new("/d/x")), Preparation::Existing(PathBuf::from("/d/x")));
    }

    #[test]
    fn test_preparation_unnamed_file_is_made_with_the_default_size() {
        let Preparation::Image(plan) = Qcow2.preparation(&spec(), Path::new("/s/hdd.qcow2")) else {
            panic!("an image is made")
        };

        assert_eq!(plan.size, Some(ByteSize::from_mib(10 * 1024)));
    }
}

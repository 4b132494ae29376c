//! Storage types of disk images.

use std::path::Path;
use std::sync::Arc;

use super::{
    Cache, DEFAULT_SIZE, DriveSlot, HostFile, ImagePlan, Interface, Preparation, StorageDriver, StorageFeatures,
    StorageSpec, Virtfs, Virtiofs,
};
use crate::config::{Diagnostics, KeyPath, Node};
use crate::qemu::Switch;
use crate::registry::{DuplicateName, Registry};
use crate::size::ByteSize;

/// The largest qcow2 image with clusters of 64 KiB, as maqet creates them (tested with `qemu-img` 7.2).
const MAX_QCOW2_SIZE: ByteSize = ByteSize::from_bytes(2 << 50);

/// Returns a registry with the built-in storage types.
pub fn builtin_drivers() -> Result<Registry<dyn StorageDriver>, DuplicateName> {
    let mut registry: Registry<dyn StorageDriver> = Registry::new("storage type");
    for driver in [QCOW2, RAW, NVME, ISO, VMDK, VDI, VHDX, VPC] {
        registry.register(Arc::new(driver))?;
    }
    registry.register(Arc::new(Virtfs))?;
    registry.register(Arc::new(Virtiofs))?;
    Ok(registry)
}

/// Returns whether a format has a storage type of its name; others are for switches, or to be converted.
pub fn is_image_type(format: &str) -> bool {
    [QCOW2, RAW, VMDK, VDI, VHDX, VPC].iter().any(|driver| driver.type_name == format)
}

/// A storage type whose drives are image files.
#[derive(Debug, Clone, Copy)]
pub struct ImageDriver {
    type_name: &'static str,
    summary: &'static str,
    extension: &'static str,
    /// The format of the image, as QEMU names it.
    format: &'static str,
    /// The default interface.
    interface: Interface,
    /// `hd` or `cd`, as in the names of QEMU's devices.
    medium: &'static str,
    is_readonly: bool,
    has_snapshots: bool,
    check: fn(&StorageSpec, &KeyPath, &Node, &mut Diagnostics),
}

/// Images in QEMU's qcow2 format.
pub const QCOW2: ImageDriver = ImageDriver {
    type_name: "qcow2",
    summary: "a disk image that grows as it fills and supports snapshots",
    extension: "qcow2",
    format: "qcow2",
    interface: Interface::DEFAULT,
    medium: "hd",
    is_readonly: false,
    has_snapshots: true,
    check: |storage, at, entry, report| {
        check_device_keys(storage, at, entry, report);
        check_qcow2_size(storage, at, entry, report);
    },
};

/// Images with the plain content of the disk.
pub const RAW: ImageDriver = ImageDriver {
    type_name: "raw",
    summary: "a disk image with the plain content of the disk, without snapshots",
    extension: "raw",
    format: "raw",
    has_snapshots: false,
    check: |storage, at, entry, report| {
        check_device_keys(storage, at, entry, report);
        if storage.backing.is_some() {
            let node = entry.get("backing_file").unwrap_or(entry);
            let help = Some("set `type: qcow2`".to_owned());
            report.error_with_help(&at.key("backing_file"), node, "`type: raw` does not support `backing_file`", help);
        }
    },
    ..QCOW2
};

/// qcow2 images, each on its own NVMe controller.
pub const NVME: ImageDriver = ImageDriver {
    type_name: "nvme",
    summary: "a qcow2 image on its own NVMe controller",
    interface: Interface::Nvme,
    check: |storage, at, entry, report| {
        if storage.interface != Interface::Nvme {
            let node = entry.get("interface").unwrap_or(entry);
            report.error(&at.key("interface"), node, "`type: nvme` requires `interface: nvme`, the default");
        }
        check_error_policies(storage, at, entry, report);
        check_qcow2_size(storage, at, entry, report);
    },
    ..QCOW2
};

/// Images of CDs and DVDs.
pub const ISO: ImageDriver = ImageDriver {
    type_name: "iso",
    summary: "a CD or DVD image, read-only",
    extension: "iso",
    format: "raw",
    interface: Interface::Ide,
    medium: "cd",
    is_readonly: true,
    has_snapshots: false,
    check: check_iso,
};

/// Images of `VMware`.
pub const VMDK: ImageDriver = ImageDriver {
    type_name: "vmdk",
    summary: "an existing disk image of VMware, without snapshots",
    extension: "vmdk",
    format: "vmdk",
    has_snapshots: false,
    check: check_foreign,
    ..QCOW2
};

/// Images of `VirtualBox`.
pub const VDI: ImageDriver = ImageDriver {
    type_name: "vdi",
    summary: "an existing disk image of VirtualBox, without snapshots",
    extension: "vdi",
    format: "vdi",
    ..VMDK
};

/// Images of Hyper-V.
pub const VHDX: ImageDriver = ImageDriver {
    type_name: "vhdx",
    summary: "an existing disk image of Hyper-V, without snapshots",
    extension: "vhdx",
    format: "vhdx",
    ..VMDK
};

/// Images of Virtual PC and Azure.
pub const VPC: ImageDriver = ImageDriver {
    type_name: "vpc",
    summary: "an existing VHD disk image, as of Virtual PC and Azure, without snapshots",
    extension: "vhd",
    format: "vpc",
    ..VMDK
};

impl StorageDriver for ImageDriver {
    fn type_name(&self) -> &'static str {
        self.type_name
    }

    fn summary(&self) -> &'static str {
        self.summary
    }

    fn extension(&self) -> &'static str {
        self.extension
    }

    fn default_interface(&self) -> Interface {
        self.interface
    }

    fn check(&self, storage: &StorageSpec, at: &KeyPath, entry: &Node, report: &mut Diagnostics) {
        check_readonly(self, storage, at, entry, report);
        (self.check)(storage, at, entry, report);
    }

    /// A file with a path and without a size must exist: an empty disk at a mistyped path would hide the mistake.
    fn preparation(&self, storage: &StorageSpec, path: &Path) -> Preparation {
        let size = match (&storage.size, &storage.backing, &storage.file) {
            _ if self.is_readonly => return Preparation::Existing(path.to_owned()),
            (Some(size), _, _) => Some(*size),
            (None, Some(_), _) => None,
            (None, None, Some(_)) => return Preparation::Existing(path.to_owned()),
            (None, None, None) => Some(DEFAULT_SIZE),
        };
        if storage.readonly && storage.backing.is_none() {
            return Preparation::Existing(path.to_owned());
        }
        let backing = storage.backing.clone();
        Preparation::Image(ImagePlan { path: path.to_owned(), format: self.format.to_owned(), size, backing })
    }

    /// A node for the file, and above it one for the format.
    ///
    /// Both are named, because QMP creates snapshots by node name (QEMU 7.2). With limits, both are those of a drive, which
    /// delays what its device requests: a filter above or below the nodes would change what QEMU reports about them, and
    /// one below would delay jobs and the memory in a snapshot, too.
    fn backend(&self, storage: &StorageSpec, file: HostFile<'_>) -> Vec<Switch> {
        let common = node_options(storage);
        let file_node = storage.name.file_node();
        let mut of_file = vec![("driver", file.kind.driver()), ("node-name", file_node.as_str())];
        of_file.extend(&common);
        of_file.push(("filename", file.path));
        of_file.extend(storage.aio.map(|aio| ("aio", <&str>::from(aio))));
        let mut of_format = vec![("driver", self.format), ("node-name", storage.name.as_str())];
        of_format.extend(common);
        let with = |switch: Switch, options: &[(&str, &str)]| {
            options.iter().fold(switch, |switch, (key, value)| switch.option(key, value))
        };
        if storage.limits.is_unlimited() {
            let format = with(Switch::new("blockdev"), &of_format).option("file", &file_node);
            return vec![with(Switch::new("blockdev"), &of_file), format];
        }
        let drive = Switch::new("drive").option("if", "none").option("id", storage.drive_id());
        // As for `-blockdev`: no effect of a `-snapshot`, and no other access than the definition's.
        let drive = with(drive, &of_format).flag("snapshot", false).flag("auto-read-only", false);
        let drive = of_file.iter().fold(drive, |drive, (key, value)| drive.option(&format!("file.{key}"), value));
        vec![storage.limits.of_drive(drive)]
    }

    fn frontend(&self, storage: &StorageSpec, slot: DriveSlot) -> Vec<Switch> {
        storage.interface.device(storage, slot, self.medium).into_iter().collect()
    }

    fn image_format(&self) -> Option<&'static str> {
        Some(self.format)
    }

    fn is_readonly(&self, storage: &StorageSpec) -> bool {
        self.is_readonly || storage.readonly
    }

    fn features(&self) -> StorageFeatures {
        StorageFeatures { internal_snapshots: self.has_snapshots, limits: true, ..StorageFeatures::default() }
    }
}

/// Checks an image in a format of another program, which maqet does not create.
fn check_foreign(storage: &StorageSpec, at: &KeyPath, entry: &Node, report: &mut Diagnostics) {
    check_device_keys(storage, at, entry, report);
    let kind = storage.driver.type_name();
    if storage.file.is_none() {
        report.missing(at, entry, format!("`type: {kind}` requires `file`"));
    }
    for key in ["size", "backing_file"] {
        if let Some(node) = entry.non_null(key) {
            let help = "set `type: qcow2` for a new image".to_owned();
            report.error_with_help(&at.key(key), node, format!("`type: {kind}` does not support `{key}`"), Some(help));
        }
    }
}

fn check_iso(storage: &StorageSpec, at: &KeyPath, entry: &Node, report: &mut Diagnostics) {
    if storage.file.is_none() {
        report.missing(at, entry, "`type: iso` requires `file`");
    }
    if !matches!(storage.interface, Interface::Ide | Interface::Sata | Interface::Scsi) {
        let node = entry.get("interface").unwrap_or(entry);
        report.error(&at.key("interface"), node, "`type: iso` requires `interface: ide`, `sata` or `scsi`");
    }
    for key in ["size", "backing_file"] {
        if let Some(node) = entry.non_null(key) {
            report.error(&at.key(key), node, format!("`type: iso` does not support `{key}`"));
        }
    }
    if let Some(node) = entry.non_null("readonly").filter(|node| node.boolean() == Some(false)) {
        let help = Some("remove `readonly`, or set `type: raw` for a writable disk".to_owned());
        report.error_with_help(&at.key("readonly"), node, "`type: iso` is always read-only", help);
    }
}

/// Reports error policies of a drive whose device has none.
fn check_error_policies(storage: &StorageSpec, at: &KeyPath, entry: &Node, report: &mut Diagnostics) {
    // `none` is reported with the other keys of devices.
    if storage.interface.has_error_policies() || storage.interface == Interface::None {
        return;
    }
    for key in ["werror", "rerror"] {
        if let Some(node) = entry.non_null(key) {
            let message = format!("`interface: {}` does not support `{key}`", storage.interface);
            let help = Some("set `interface: virtio`, `scsi`, `sata` or `ide`".to_owned());
            report.error_with_help(&at.key(key), node, message, help);
        }
    }
}

/// Reports a read-only disk on a bus for which QEMU has no read-only disk.
///
/// QEMU refuses `ide-hd` with a read-only node; `ide-cd`, `scsi-hd`, `virtio-blk-pci` and `nvme` take one (7.2, 10.0).
fn check_readonly(driver: &ImageDriver, storage: &StorageSpec, at: &KeyPath, entry: &Node, report: &mut Diagnostics) {
    let is_ide = matches!(storage.interface, Interface::Ide | Interface::Sata);
    if is_ide && driver.medium == "hd" && driver.is_readonly(storage) {
        let interface = storage.interface;
        let node = entry.non_null("readonly").unwrap_or(entry);
        let message = format!("`interface: {interface}` does not support read-only disks");
        let help = "set `interface: virtio`, `scsi` or `nvme`; or `type: iso` for a CD or DVD image";
        report.error_with_help(&at.key("readonly"), node, message, Some(help.to_owned()));
    }
}

/// Reports keys of the device of a drive without one.
fn check_device_keys(storage: &StorageSpec, at: &KeyPath, entry: &Node, report: &mut Diagnostics) {
    check_error_policies(storage, at, entry, report);
    if storage.interface != Interface::None {
        return;
    }
    let help = |option: &str| {
        let name = &storage.name;
        Some(format!("set it where `arguments` attach the drive: `- {{device: …, drive: {name}, {option}}}`"))
    };
    for key in ["serial", "bootindex", "werror", "rerror"] {
        if let Some(node) = entry.non_null(key) {
            let message = format!("`{key}` requires a device, and `interface: none` has none");
            report.error_with_help(&at.key(key), node, message, help(&format!("{key}: …")));
        }
    }
    if storage.writes_through()
        && let Some(node) = entry.non_null("cache")
    {
        let mode = node.written().unwrap_or_default();
        let message = format!("`cache: {mode}` requires a device, and `interface: none` has none");
        report.error_with_help(&at.key("cache"), node, message, help("write-cache: off"));
    }
}

/// Reports a size beyond the limit of qcow2.
fn check_qcow2_size(storage: &StorageSpec, at: &KeyPath, entry: &Node, report: &mut Diagnostics) {
    if storage.size.is_some_and(|size| size > MAX_QCOW2_SIZE) {
        let node = entry.get("size").unwrap_or(entry);
        let message = format!("expected a size of at most {MAX_QCOW2_SIZE} for qcow2, found {}", node.description());
        report.error(&at.key("size"), node, message);
    }
}

/// Returns the options of both nodes.
pub(super) fn node_options(storage: &StorageSpec) -> Vec<(&'static str, &'static str)> {
    let mut options = Vec::new();
    if storage.driver.is_readonly(storage) {
        options.push(("read-only", "on"));
    }
    if let Some(discard) = storage.discard {
        options.push(("discard", if discard { "unmap" } else { "ignore" }));
    }
    match storage.cache {
        Some(Cache::None | Cache::Directsync) => options.push(("cache.direct", "on")),
        Some(Cache::Unsafe) => options.push(("cache.no-flush", "on")),
        Some(Cache::Writeback | Cache::Writethrough) | None => {}
    }
    options
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::qemu::NodeName;
    use crate::storage::{Aio, DriveLimits, ErrorPolicy, FileKind, Limit};

    fn spec() -> StorageSpec {
        StorageSpec {
            index: 0,
            name: NodeName::parse("hdd").unwrap(),
            driver: Arc::new(QCOW2),
            file: None,
            size: None,
            interface: Interface::Virtio,
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
            own: Vec::new(),
        }
    }

    fn device(storage: &StorageSpec, position: usize) -> String {
        let slot = DriveSlot { position, is_q35: false, is_numbered: false };
        storage.driver.frontend(storage, slot)[0].argument().unwrap_or_default().to_owned()
    }

    #[test]
    fn test_device_of_each_interface() {
        let on = |interface| StorageSpec { interface, ..spec() };

        assert_eq!(device(&on(Interface::Virtio), 0), "virtio-blk-pci,drive=hdd,id=hdd");
        assert_eq!(device(&on(Interface::Scsi), 0), "scsi-hd,bus=scsi.0,drive=hdd,id=hdd");
        assert_eq!(device(&on(Interface::Sata), 2), "ide-hd,bus=sata.2,drive=hdd,id=hdd");
        assert_eq!(device(&on(Interface::Ide), 2), "ide-hd,bus=ide.1,unit=1,drive=hdd,id=hdd");
        assert_eq!(device(&on(Interface::Nvme), 0), "nvme,drive=hdd,id=hdd,serial=hdd");
        assert!(
            QCOW2
                .frontend(&on(Interface::None), DriveSlot { position: 0, is_q35: false, is_numbered: false })
                .is_empty()
        );
    }

    #[test]
    fn test_drive_options_are_passed_to_qemu() {
        let storage = StorageSpec {
            cache: Some(Cache::Directsync),
            discard: Some(true),
            serial: Some("a,b".to_owned()),
            bootindex: Some(2),
            werror: Some(ErrorPolicy::Stop),
            rerror: Some(ErrorPolicy::Report),
            ..spec()
        };

        let nodes = QCOW2.backend(&storage, HostFile::regular("/d/x"));

        let node = "driver=qcow2,node-name=hdd,discard=unmap,cache.direct=on,file=hdd-file";
        assert_eq!(nodes[1].argument(), Some(node));
        let front = "virtio-blk-pci,drive=hdd,id=hdd,serial=a,,b,bootindex=2,werror=stop,rerror=report,write-cache=off";
        assert_eq!(device(&storage, 0), front);
    }

    #[test]
    fn test_drive_with_limits_has_the_same_nodes() {
        let limits = DriveLimits { iops: Some(Limit::Total(5)), bps: None };
        let storage = StorageSpec { cache: Some(Cache::None), aio: Some(Aio::Native), limits, ..spec() };

        let drive = QCOW2.backend(&storage, HostFile::regular("/d/a,readonly=on"));

        let expected = "if=none,id=maqet-limits-hdd,driver=qcow2,node-name=hdd,cache.direct=on,snapshot=off,auto-read-only=off,\
            file.driver=file,file.node-name=hdd-file,file.cache.direct=on,file.filename=/d/a,,readonly=on,file.aio=native,\
            throttling.iops-total=5";
        assert_eq!((drive.len(), drive[0].name(), drive[0].argument()), (1, "drive", Some(expected)));
        assert_eq!(device(&storage, 0), "virtio-blk-pci,drive=maqet-limits-hdd,id=hdd");
        assert_eq!(QCOW2.backend(&storage.unlimited(), HostFile::regular("/d")).len(), 2);
    }

    #[test]
    fn test_qcow2_path_cannot_inject_options() {
        let switches = QCOW2.backend(&spec(), HostFile::regular("/d/a,readonly=on \"ü\""));

        assert_eq!(switches[0].argument(), Some("driver=file,node-name=hdd-file,filename=/d/a,,readonly=on \"ü\""));
        assert_eq!(switches[1].argument(), Some("driver=qcow2,node-name=hdd,file=hdd-file"));
    }

    /// QEMU refuses `driver=file` for a device: "requires '/dev/loop0' to be a regular file" (7.2, 10.0).
    #[test]
    fn test_block_device_has_the_driver_of_devices() {
        let first = |driver: ImageDriver, kind| {
            let storage = StorageSpec { driver: Arc::new(driver), ..spec() };
            let nodes = driver.backend(&storage, HostFile { path: "/dev/x", kind });
            nodes.iter().map(|node| node.argument().unwrap_or_default().to_owned()).collect::<Vec<_>>()
        };

        let file = |driver: &str| format!("driver={driver},node-name=hdd-file,filename=/dev/x");
        let raw = "driver=raw,node-name=hdd,file=hdd-file".to_owned();
        assert_eq!(first(RAW, FileKind::Regular), [file("file"), raw.clone()]);
        assert_eq!(first(RAW, FileKind::BlockDevice), [file("host_device"), raw]);
        assert_eq!(first(QCOW2, FileKind::BlockDevice)[0], file("host_device"));
        let cd = "driver=host_cdrom,node-name=hdd-file,read-only=on,filename=/dev/x";
        assert_eq!(first(ISO, FileKind::CdDrive)[0], cd);
    }

    #[test]
    fn test_preparation_file_without_size_must_exist() {
        let storage = StorageSpec { file: Some(PathBuf::from("/d/x")), ..spec() };

        assert_eq!(QCOW2.preparation(&storage, Path::new("/d/x")), Preparation::Existing(PathBuf::from("/d/x")));
    }

    #[test]
    fn test_preparation_without_file_has_the_default_size() {
        let Preparation::Image(plan) = QCOW2.preparation(&spec(), Path::new("/s/hdd.qcow2")) else {
            panic!("expected an image")
        };

        assert_eq!(plan.size, Some(ByteSize::from_mib(10 * 1024)));
    }
}

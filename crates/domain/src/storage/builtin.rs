//! The storage types that come with maqet.

use std::path::Path;
use std::sync::Arc;

use super::{ImagePlan, Preparation, StorageFeatures, StorageSpec};
use crate::config::{KeyPath, Node, Report};
use crate::machine::defaults;
use crate::plugin::{DuplicateName, Registry, StorageDriver};
use crate::qemu::Switch;

/// Returns a registry with the storage types that come with maqet.
pub fn builtin_drivers() -> Result<Registry<dyn StorageDriver>, DuplicateName> {
    let mut registry: Registry<dyn StorageDriver> = Registry::new("storage type");
    registry.register(Arc::new(Qcow2))?;
    registry.register(Arc::new(Raw))?;
    Ok(registry)
}

/// Images in QEMU's own format: they grow as they fill and hold snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Qcow2;

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

    fn check(&self, _: &StorageSpec, _: &KeyPath, _: &Node, _: &mut Report) {}

    fn preparation(&self, storage: &StorageSpec, path: &Path) -> Preparation {
        image_or_existing(storage, path, "qcow2")
    }

    fn back_end(&self, storage: &StorageSpec, path: &str) -> Vec<Switch> {
        image_nodes(storage, path, "qcow2")
    }

    fn features(&self) -> StorageFeatures {
        StorageFeatures { internal_snapshots: true }
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

    fn check(&self, storage: &StorageSpec, at: &KeyPath, entry: &Node, report: &mut Report) {
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

    fn features(&self) -> StorageFeatures {
        StorageFeatures::default()
    }
}

/// A file that the definition names and gives no size is expected to be there: making an empty disk
/// under a mistyped path would hide the mistake.
fn image_or_existing(storage: &StorageSpec, path: &Path, format: &str) -> Preparation {
    let size = match (&storage.size, &storage.backing, &storage.file) {
        (Some(size), _, _) => Some(*size),
        (None, Some(_), _) => None,
        (None, None, Some(_)) => return Preparation::Existing(path.to_owned()),
        (None, None, None) => Some(defaults::STORAGE_SIZE),
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
        if storage.readonly { switch.flag("read-only", true) } else { switch }
    };
    let file_node = storage.name.file_node();
    vec![
        node("file", &file_node).option("filename", path),
        node(format, storage.name.as_str()).option("file", &file_node),
    ]
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::size::ByteSize;
    use crate::storage::{DriveName, Interface};

    fn spec() -> StorageSpec {
        StorageSpec {
            name: DriveName::parse("hdd").unwrap(),
            driver: Arc::new(Qcow2),
            file: None,
            size: None,
            interface: Interface::Virtio,
            readonly: false,
            backing: None,
        }
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

//! A custom storage type: `type: blank` is a disk that reads as zeroes and discards writes.
//!
//! Run it with `cargo run -p maqet --example custom_storage`; docs/guide/adding-a-storage-type.md explains it.

use std::path::Path;
use std::sync::Arc;

use maqet::domain::config::{Diagnostics, KeyPath, Node};
use maqet::domain::qemu::Switch;
use maqet::domain::size::ByteSize;
use maqet::domain::storage::StorageDriver;
use maqet::domain::storage::{HostFile, Preparation, StorageSpec};
use maqet::operation::{Add, Info};
use maqet::{Document, Environment, Maqet, Overrides, Settings};

/// The default size.
const DEFAULT_BYTES: u64 = 64 << 20;

/// Disks of QEMU's driver `null-co`.
#[derive(Debug)]
struct Blank;

impl StorageDriver for Blank {
    fn type_name(&self) -> &'static str {
        "blank"
    }

    fn summary(&self) -> &'static str {
        "a disk that reads as zeroes and discards writes"
    }

    fn extension(&self) -> &'static str {
        "blank"
    }

    fn check(&self, storage: &StorageSpec, at: &KeyPath, entry: &Node, report: &mut Diagnostics) {
        if storage.file.is_some() {
            let node = entry.get("file").unwrap_or(entry);
            report.error(&at.key("file"), node, "a blank disk has no `file`");
        }
    }

    fn preparation(&self, _: &StorageSpec, _: &Path) -> Preparation {
        Preparation::Nothing
    }

    fn backend(&self, storage: &StorageSpec, _: HostFile<'_>) -> Vec<Switch> {
        let bytes = storage.size.map_or(DEFAULT_BYTES, ByteSize::bytes);
        let node = Switch::new("blockdev").option("driver", "null-co").option("node-name", storage.name.as_str());
        vec![node.option("size", bytes.to_string()).flag("read-zeroes", true)]
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let overrides = Overrides { data_dir: Some(folder.path().into()), ..Overrides::default() };
    let settings = Settings::discover(&Environment::from_process(), &overrides)?;
    let maqet = Maqet::builder(settings).storage_driver(Arc::new(Blank)).open().await?;

    let text = "storage: [{name: scratch, type: blank, size: 1M}]\n".to_owned();
    let document = Document::new("web.yaml", folder.path(), text);
    maqet.run(Add::new(vec![document]).name("web".to_owned())).await?;
    let info = maqet.run(Info::new("web").command_line(true)).await?;

    let line = info.command_line.unwrap_or_default();
    assert!(line.contains("driver=null-co,node-name=scratch,size=1048576,read-zeroes=on"), "{line}");
    assert!(line.contains("-device virtio-blk-pci,drive=scratch,id=scratch"), "{line}");
    Ok(())
}

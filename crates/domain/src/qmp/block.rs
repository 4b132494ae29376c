//! The block devices of a running QEMU, as `query-block` reports them.

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::Value;

/// A block device with a medium.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockMedium {
    /// The name of its block node; QEMU makes one up for an image that was opened without one.
    pub node: String,
    /// The name of its drive, else the path or ID of its device.
    pub device: String,
    /// The file; for nested images, a description of them.
    pub file: PathBuf,
    /// The format, as in `qcow2`.
    pub format: String,
    /// Whether the guest cannot write to it.
    pub is_read_only: bool,
    /// The size the guest sees, in bytes.
    pub virtual_bytes: u64,
}

impl BlockMedium {
    /// Parses a reply to `query-block`; devices without a medium are left out.
    pub fn from_reply(reply: &Value) -> Vec<Self> {
        let devices = reply.as_array().into_iter().flatten();
        devices.filter_map(|device| BlockInfo::deserialize(device).ok()?.into_medium()).collect()
    }
}

/// QAPI `BlockInfo` (QEMU 7.2).
#[derive(Deserialize)]
struct BlockInfo {
    #[serde(default)]
    device: String,
    #[serde(default)]
    qdev: String,
    inserted: Option<Inserted>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Inserted {
    #[serde(default)]
    node_name: String,
    file: String,
    drv: String,
    ro: bool,
    #[serde(default)]
    image: Image,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Image {
    virtual_size: u64,
}

impl BlockInfo {
    fn into_medium(self) -> Option<BlockMedium> {
        let Inserted { node_name, file, drv, ro, image } = self.inserted?;
        let device = if self.device.is_empty() { self.qdev } else { self.device };
        Some(BlockMedium {
            node: node_name,
            device,
            file: PathBuf::from(file),
            format: drv,
            is_read_only: ro,
            virtual_bytes: image.virtual_size,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// As QEMU 7.2 and 10.0 report a drive with a node of its own, the variables of UEFI, `-drive`, and an empty drive.
    #[test]
    fn test_block_media_have_node_device_and_format() {
        let inserted =
            |node: &str, format: &str, ro: bool| json!({ "node-name": node, "drv": format, "ro": ro, "file": "/d/x" });
        let reply = json!([
            { "device": "", "qdev": "/machine/peripheral/hdd/virtio-backend", "inserted": inserted("hdd", "qcow2", false) },
            { "device": "", "qdev": "/machine/system.flash1", "inserted": inserted("uefi-vars", "qcow2", false) },
            { "device": "floppy0", "qdev": "/machine/unattached/device[13]", "inserted": inserted("#block150", "raw", true) },
            { "device": "", "qdev": "/machine/peripheral-anon/device[0]" },
        ]);

        let media = BlockMedium::from_reply(&reply);

        let parts =
            media.iter().map(|one| (one.node.as_str(), one.device.as_str(), one.format.as_str(), one.is_read_only));
        let expected = [
            ("hdd", "/machine/peripheral/hdd/virtio-backend", "qcow2", false),
            ("uefi-vars", "/machine/system.flash1", "qcow2", false),
            ("#block150", "floppy0", "raw", true),
        ];
        assert_eq!(parts.collect::<Vec<_>>(), expected);
        assert_eq!(BlockMedium::from_reply(&json!({})), []);
    }
}

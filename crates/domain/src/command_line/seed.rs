//! The seed of the guest: a read-only disk.

use serde_json::json;

use super::{LaunchContext, PathNotUtf8, utf8};
use crate::machine::Machine;
use crate::qemu::Switch;

/// The ID of the disk, and of its image.
const SEED: &str = "maqet-seed";

/// Returns the switches of the disk, which QEMU creates after all other devices; none without a seed.
///
/// It is a plain image: unlike a directory as `vvfat`, every build of QEMU has that.
pub(super) fn switches(machine: &Machine, context: &LaunchContext) -> Result<Vec<Switch>, PathNotUtf8> {
    let Some(bus) = machine.seed_bus(&context.architecture, &context.binary) else { return Ok(Vec::new()) };
    let image = context.paths.seed_image();
    let blockdev = json!({
        "driver": "raw", "node-name": SEED, "read-only": true,
        "file": { "driver": "file", "filename": utf8(&image)?, "read-only": true },
    });
    let device = json!({ "driver": bus.virtio("blk"), "id": SEED, "drive": SEED });
    Ok(vec![Switch::verbatim("blockdev", blockdev.to_string()), Switch::verbatim("device", device.to_string())])
}

//! UEFI firmware and its variable store.

use std::path::PathBuf;

use maqet_domain::machine::{Firmware, Machine};
use maqet_domain::port::{ImageUse, UefiFirmware};
use maqet_domain::storage::ImageAccess;
use maqet_domain::vm::{VmEntry, VmName};

use super::disk_error::DiskError;
use super::drives::is_missing;
use super::lost_images::MissingImage;
use super::preflight::Preflight;
use crate::Error;

/// The file name of a VM's UEFI variable store; a qcow2 image, so that it can be part of a snapshot.
const VARIABLES: &str = "uefi-vars.qcow2";

/// The name of a VM's UEFI variable store, as of a drive.
pub(crate) const VARIABLES_NAME: &str = "uefi-vars";

impl Preflight<'_> {
    /// Finds the firmware of a machine with `firmware: uefi`.
    pub(crate) async fn uefi(&self, machine: &Machine) -> Result<Option<UefiFirmware>, Error> {
        if machine.firmware != Firmware::Uefi {
            return Ok(None);
        }
        let architecture = self.architecture(machine);
        let kind = machine.kind().unwrap_or(match architecture.as_str() {
            "aarch64" | "arm" | "riscv64" | "riscv32" | "loongarch64" => "virt",
            _ => "pc",
        });
        Ok(Some(self.firmware.uefi(&architecture, kind).await?))
    }

    /// Returns the path of a VM's variable store.
    pub(crate) fn uefi_variables(&self, name: &VmName) -> PathBuf {
        self.folders.vm_storage(name).join(VARIABLES)
    }

    /// Returns how a VM uses its variable store.
    pub(crate) fn variables_use(&self, name: &VmName) -> ImageUse {
        let path = self.uefi_variables(name);
        ImageUse { path, format: Some("qcow2".to_owned()), access: ImageAccess::Write }
    }

    /// Checks the variable store of a machine with `firmware: uefi`; returns it if it does not exist.
    pub(crate) async fn check_variables(
        &self,
        entry: &VmEntry,
        machine: &Machine,
        recreate: &[String],
    ) -> Result<Option<MissingImage>, Error> {
        if machine.firmware != Firmware::Uefi {
            return Ok(None);
        }
        let image = self.variables_use(&entry.name);
        let (name, path) = (VARIABLES_NAME.to_owned(), image.path.clone());
        match self.images.examine(&image).await {
            Ok(_) if recreate.contains(&name) => Err(DiskError::RecreateConflict { drive: name, path }.into()),
            Ok(_) => Ok(None),
            Err(error) if is_missing(&error) => Ok(Some(MissingImage { name, path, is_default: true })),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the path or the name of the QEMU of a machine.
    pub(crate) fn binary_name(&self, machine: &Machine) -> String {
        machine.binary.clone().unwrap_or_else(|| format!("qemu-system-{}", self.architecture(machine)))
    }

    /// Returns the guest's architecture.
    pub(crate) fn architecture(&self, machine: &Machine) -> String {
        machine.arch.map_or_else(|| self.host.facts().architecture, str::to_owned)
    }
}

//! UEFI firmware and its variable store.

use std::path::PathBuf;

use maqet_domain::machine::{Firmware, Machine};
use maqet_domain::port::UefiFirmware;
use maqet_domain::vm::VmEntry;

use super::preflight::Preflight;
use crate::Error;

/// The file name of a VM's UEFI variable store; a qcow2 image, so that it can be part of a snapshot.
const VARIABLES: &str = "uefi-vars.qcow2";

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
    pub(crate) fn uefi_variables(&self, entry: &VmEntry) -> PathBuf {
        self.folders.vm_storage(&entry.name).join(VARIABLES)
    }

    /// Creates the variable store of a machine with `firmware: uefi`, unless it exists.
    pub(crate) async fn prepare_firmware(&self, entry: &VmEntry, machine: &Machine) -> Result<(), Error> {
        let Some(firmware) = self.uefi(machine).await? else {
            return Ok(());
        };
        let store = self.uefi_variables(entry);
        if !self.images.exists(&store).await {
            self.images.convert(&firmware.variables, &firmware.variables_format, &store).await?;
        }
        Ok(())
    }

    /// Returns the guest's architecture.
    pub(crate) fn architecture(&self, machine: &Machine) -> String {
        machine.arch.map_or_else(|| self.host.facts().architecture, str::to_owned)
    }
}

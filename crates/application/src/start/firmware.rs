//! UEFI for machines that ask for it.

use std::path::PathBuf;

use maqet_domain::command_line::UefiFiles;
use maqet_domain::machine::{Firmware, Machine};
use maqet_domain::port::UefiFirmware;
use maqet_domain::vm::VmEntry;

use crate::{App, Error};

/// The name of a VM's variable store; a qcow2, so that it can be part of a snapshot.
const VARIABLES: &str = "uefi-vars.qcow2";

impl App {
    /// Finds the firmware of a machine that asks for UEFI.
    pub(crate) async fn uefi(&self, machine: &Machine) -> Result<Option<UefiFirmware>, Error> {
        if machine.firmware != Firmware::Uefi {
            return Ok(None);
        }
        let architecture = self.architecture(machine);
        let kind = machine.kind().unwrap_or(match architecture.as_str() {
            "aarch64" | "arm" | "riscv64" | "riscv32" | "loongarch64" => "virt",
            _ => "pc",
        });
        Ok(Some(self.ports.firmware.uefi(&architecture, kind).await?))
    }

    /// Returns the files QEMU opens: the shared program and the VM's own variables.
    pub(crate) fn uefi_files(&self, entry: &VmEntry, firmware: UefiFirmware) -> UefiFiles {
        let variables = self.uefi_variables(entry);
        UefiFiles { code: firmware.code, code_format: firmware.code_format, variables }
    }

    /// Returns where the variables of a VM are, once there are any.
    pub(crate) fn uefi_variables(&self, entry: &VmEntry) -> PathBuf {
        self.vm_storage(&entry.name).join(VARIABLES)
    }

    /// Makes the variable store of a machine that asks for UEFI, unless it is there.
    pub(crate) async fn prepare_firmware(&self, entry: &VmEntry, machine: &Machine) -> Result<(), Error> {
        let Some(firmware) = self.uefi(machine).await? else {
            return Ok(());
        };
        let store = self.uefi_variables(entry);
        if !self.ports.images.exists(&store).await {
            self.ports.images.convert(&firmware.variables, &firmware.variables_format, &store).await?;
        }
        Ok(())
    }

    /// Returns the guest's architecture.
    pub(crate) fn architecture(&self, machine: &Machine) -> String {
        machine.arch.map_or_else(|| self.ports.host.facts().architecture, str::to_owned)
    }
}

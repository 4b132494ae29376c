//! What `start` would make before it runs QEMU, for those who run the command line themselves.

use maqet_domain::command_line::{copy_setup_commands, image_setup_commands, run_setup_commands};
use maqet_domain::machine::Machine;
use maqet_domain::storage::{Backing, Preparation};
use maqet_domain::vm::{RunPaths, VmEntry};

use crate::{App, Error};

impl App {
    /// Returns the commands of a shell that make what is not there yet and QEMU needs.
    pub(crate) async fn groundwork(
        &self,
        entry: &VmEntry,
        machine: &Machine,
        paths: &RunPaths,
    ) -> Result<Vec<String>, Error> {
        let mut commands = run_setup_commands(paths);
        if let Some(firmware) = self.uefi(machine).await? {
            let (from, format) = (firmware.variables.clone(), firmware.variables_format.clone());
            let own = self.uefi_files(entry, firmware).variables;
            if !self.ports.images.exists(&own).await {
                commands.extend(copy_setup_commands(&from, &format, &own));
            }
        }
        let vm_storage = self.vm_storage(&entry.name);
        for storage in &machine.storage {
            if let Preparation::Image(plan) = storage.driver.preparation(storage, &storage.path(&vm_storage))
                && !self.ports.images.exists(&plan.path).await
            {
                let format = match &plan.backing {
                    Some(backing) => self.backing_format(backing).await,
                    None => None,
                };
                commands.extend(image_setup_commands(&plan, format.as_deref()));
            }
        }
        Ok(commands)
    }

    /// Returns the format of what an image is laid over; none if it cannot be told now, which is no reason to show nothing.
    async fn backing_format(&self, backing: &Backing) -> Option<String> {
        match &backing.format {
            Some(format) => Some(format.clone()),
            None => self.ports.images.info(&backing.file).await.ok().map(|info| info.format),
        }
    }
}

//! What `start` creates before it runs QEMU, as shell commands for users who run the command line themselves.

use maqet_domain::command_line::{copy_setup_commands, image_setup_commands, run_setup_commands};
use maqet_domain::machine::Machine;
use maqet_domain::storage::{Backing, Preparation};
use maqet_domain::vm::{RunPaths, VmEntry};

use super::preflight::Preflight;
use crate::Error;

impl Preflight<'_> {
    /// Returns the shell commands that create the files QEMU needs and that do not exist yet.
    pub(crate) async fn setup_commands(
        &self,
        entry: &VmEntry,
        machine: &Machine,
        paths: &RunPaths,
    ) -> Result<Vec<String>, Error> {
        let mut commands = run_setup_commands(paths);
        if let Some(firmware) = self.uefi(machine).await? {
            let own = self.uefi_variables(entry);
            if !self.images.exists(&own).await {
                commands.extend(copy_setup_commands(&firmware.variables, &firmware.variables_format, &own));
            }
        }
        let vm_storage = self.folders.vm_storage(&entry.name);
        for storage in &machine.storage {
            if let Preparation::Image(plan) = storage.driver.preparation(storage, &storage.path(&vm_storage))
                && !self.images.exists(&plan.path).await
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

    /// Returns the format of a backing file, or nothing if it cannot be read now.
    async fn backing_format(&self, backing: &Backing) -> Option<String> {
        match &backing.format {
            Some(format) => Some(format.clone()),
            None => self.images.info(&backing.file).await.ok().map(|info| info.format),
        }
    }
}

//! What `start` creates before it runs QEMU, as shell commands for users who run the command line themselves.

use std::path::Path;

use maqet_domain::command_line::{
    copy_setup_commands, image_setup_commands, overlay_setup_commands, run_setup_commands,
};
use maqet_domain::machine::Machine;
use maqet_domain::storage::Backing;
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
        let missing = self.missing_images(entry, machine).await;
        // A start would refuse to create them.
        let lost = self.lost_images(entry, missing.clone()).await?;
        let is_new = |path: &Path| {
            missing.iter().any(|image| image.path == path) && !lost.iter().any(|image| image.path == path)
        };
        if let Some(firmware) = self.uefi(machine).await? {
            let own = self.uefi_variables(&entry.name);
            if is_new(&own) {
                let (from, format) = self.variables_template(machine, &firmware).await?;
                commands.extend(copy_setup_commands(&from, &format, &own));
            }
        }
        for drive in self.drives(&entry.name, machine) {
            if let Some(plan) = drive.plan().filter(|plan| is_new(&plan.path)) {
                let format = match &plan.backing {
                    Some(backing) => self.backing_format(backing).await,
                    None => None,
                };
                commands.extend(image_setup_commands(plan, format.as_deref()));
            }
            let overlay = drive.overlay(paths);
            commands.extend(overlay.iter().flat_map(overlay_setup_commands));
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

//! Files that QEMU would empty, replace or write, and that are images, by their content or because a VM has them, or
//! files that this VM uses otherwise.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use maqet_domain::config::{Node, Problem};
use maqet_domain::error::{Explain, Explanation, Fault};
use maqet_domain::machine::{Machine, WrittenAs, WrittenFile, files_used_otherwise};
use maqet_domain::port::{ImageUse, PathKind, StoreError};
use maqet_domain::storage::ImageAccess;
use maqet_domain::vm::{Vm, VmEntry, VmId, VmName};

use super::check_disks::CheckedDisks;
use super::disk_error::DiskError;
use super::preflight::Preflight;
use crate::Error;

/// Why a file is not for output.
#[derive(Debug, Clone, PartialEq, Eq)]
enum OutputConflict {
    /// The VM uses it for something else, by this path.
    Used(PathBuf),
    /// It is an image in this format.
    Image(&'static str),
    /// It is an image of this VM.
    OfVm(VmName),
    /// It is a disk of the host.
    BlockDevice,
}

/// An output file of QEMU that would destroy what is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputRefusal {
    file: WrittenFile,
    conflict: OutputConflict,
}

impl std::fmt::Display for OutputRefusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = self.file.path.display();
        let effect = match self.file.written_as {
            WrittenAs::Output => "empty",
            WrittenAs::Socket => "remove",
            WrittenAs::Memory { .. } | WrittenAs::Port => "write to",
        };
        write!(f, "`-{}` would {effect} `{path}`, ", self.file.switch)?;
        match &self.conflict {
            OutputConflict::Used(other) if *other == self.file.path => {
                f.write_str("which the VM uses otherwise as well")
            }
            OutputConflict::Used(other) => write!(f, "which is `{}`, which the VM uses otherwise", other.display()),
            OutputConflict::Image(format) => write!(f, "which looks like an image in format {format}"),
            OutputConflict::OfVm(vm) => write!(f, "which VM `{vm}` uses as an image"),
            OutputConflict::BlockDevice => f.write_str("which is a block device"),
        }
    }
}

impl std::error::Error for OutputRefusal {}

impl Explain for OutputRefusal {
    fn explain(&self) -> Explanation {
        let explanation = Explanation::new("storage.use-conflict", Fault::Usage);
        let explanation = match self.file.written_as {
            WrittenAs::Memory { .. } => explanation.hint("name a file that is not an image, or add `readonly=on`"),
            _ => explanation.hint(format!("name another file for `{}`", self.file.switch)),
        };
        match self.conflict {
            OutputConflict::Image(_) => explanation.hint("move it away if it is not an image"),
            OutputConflict::Used(_) | OutputConflict::OfVm(_) | OutputConflict::BlockDevice => explanation,
        }
    }
}

/// Files that a VM writes, and those that are not to be written to: each resolved, with what it is.
struct Known {
    /// Those that the VM uses otherwise, by these paths.
    used: Vec<(PathBuf, PathBuf)>,
    /// The images of other VMs.
    of_others: Vec<(PathBuf, VmName)>,
}

impl Preflight<'_> {
    /// Refuses files that QEMU writes besides images if they are images, or if the VM uses them otherwise.
    pub(super) async fn check_written_files(
        &self,
        entry: &VmEntry,
        machine: &Machine,
        args: &[String],
        disks: &CheckedDisks<'_>,
    ) -> Result<(), Error> {
        let files: Vec<WrittenFile> = machine.written_files().into_iter().filter(is_written).collect();
        if files.is_empty() {
            return Ok(());
        }
        let of_drives = disks.drives.iter().filter_map(|drive| Some(drive.image_use()?.path));
        let used = of_drives.chain(disks.backing.iter().cloned()).chain(files_used_otherwise(args)).collect();
        let known = self.known_files(used, self.images_of_others(&entry.name).await?).await;
        for file in files {
            if let Some(conflict) = self.output_conflict(&file, &known).await {
                return Err(DiskError::from(OutputRefusal { file, conflict }).into());
            }
        }
        Ok(())
    }

    /// Returns such files as problems of the definition.
    pub(crate) async fn written_file_problems(&self, machine: &Machine, definition: &Node) -> Vec<Problem> {
        let files = machine.written_files_in(definition).into_iter().filter(|(.., file)| is_written(file));
        let files: Vec<_> = files.collect();
        let Some(name) = definition.get("name").and_then(Node::written) else { return Vec::new() };
        let (false, Ok(name)) = (files.is_empty(), VmName::parse(&name)) else { return Vec::new() };
        let drives = self.drives(&name, machine);
        let of_drives = drives.iter().filter_map(|drive| Some(drive.image_use()?.path));
        let backing = drives.iter().filter_map(|drive| Some(drive.plan()?.backing.as_ref()?.file.clone()));
        let of_switches =
            machine.user_switches().filter_map(|(name, argument)| Some([format!("-{name}"), argument?.to_owned()]));
        let args: Vec<String> = of_switches.flatten().collect();
        let used = of_drives.chain(backing).chain(files_used_otherwise(&args)).collect();
        // A definition can be checked without the database.
        let of_others = self.images_of_others(&name).await.unwrap_or_default();
        let known = self.known_files(used, of_others).await;
        let mut problems = Vec::new();
        for (at, node, file) in files {
            let Some(conflict) = self.output_conflict(&file, &known).await else { continue };
            let refusal = OutputRefusal { file, conflict };
            let help = refusal.explain().hints.into_iter().next();
            let location = node.location().cloned();
            problems.push(Problem { help, location, ..Problem::new(at.to_string(), refusal.to_string()) });
        }
        problems
    }

    /// Resolves the files that a VM uses otherwise, and those of other VMs.
    async fn known_files(&self, used: Vec<PathBuf>, of_others: Vec<(PathBuf, VmName)>) -> Known {
        let mut known = Known { used: Vec::new(), of_others: Vec::new() };
        for path in used {
            known.used.push((self.paths.resolve(&path).await, path));
        }
        for (path, vm) in of_others {
            known.of_others.push((self.paths.resolve(&path).await, vm));
        }
        known
    }

    /// Returns the images of other VMs: those that they were started with, and those of their definitions.
    async fn images_of_others(&self, vm: &VmName) -> Result<Vec<(PathBuf, VmName)>, StoreError> {
        let vms = self.store.vms().await?;
        let others: HashMap<VmId, &Vm> =
            vms.iter().filter(|other| other.entry.name != *vm).map(|other| (other.entry.id, other)).collect();
        let recorded = self.store.all_storage().await?.into_iter();
        let recorded = recorded.filter_map(|record| Some((record.path, others.get(&record.vm?)?.entry.name.clone())));
        let defined =
            others.values().flat_map(|other| images_of(other).into_iter().map(|path| (path, other.entry.name.clone())));
        Ok(recorded.chain(defined).collect())
    }

    async fn output_conflict(&self, file: &WrittenFile, known: &Known) -> Option<OutputConflict> {
        let kind = self.paths.kind(&file.path).await;
        if kind == PathKind::Directory {
            // Memory in a file of QEMU's own there; for the others, QEMU fails.
            return None;
        }
        let resolved = self.paths.resolve(&file.path).await;
        for (other, path) in &known.used {
            if *other == resolved || self.is_one_file(&resolved, other).await {
                return Some(OutputConflict::Used(path.clone()));
            }
        }
        for (other, vm) in &known.of_others {
            if *other == resolved || self.is_one_file(&resolved, other).await {
                return Some(OutputConflict::OfVm(vm.clone()));
            }
        }
        let is_memory = matches!(file.written_as, WrittenAs::Memory { .. });
        match kind {
            // Those of a memory are examined as other images are.
            PathKind::BlockDevice | PathKind::CdDrive if !is_memory => Some(OutputConflict::BlockDevice),
            PathKind::File => {
                let image = ImageUse { path: resolved, format: Some("raw".to_owned()), access: ImageAccess::Read };
                self.images.examine(&image).await.ok()?.resembles.map(OutputConflict::Image)
            }
            _ => None,
        }
    }

    /// Returns whether two paths are hard links of one file.
    async fn is_one_file(&self, first: &Path, second: &Path) -> bool {
        let first = self.images.shared_id(first).await;
        first.is_some() && first == self.images.shared_id(second).await
    }
}

/// Returns whether QEMU changes the content of a file.
fn is_written(file: &WrittenFile) -> bool {
    file.written_as != WrittenAs::Memory { is_shared: false }
}

/// Returns the images that the definition of a VM names under `storage`, also before its first start.
fn images_of(vm: &Vm) -> Vec<PathBuf> {
    let entries = vm.definition.get("storage").map(Node::items).unwrap_or_default();
    let named = entries.iter().flat_map(|entry| ["file", "backing_file"].map(|key| entry.get(key)));
    let paths = named.filter_map(|node| Some(PathBuf::from(node?.written()?)));
    paths.filter(|path| path.is_absolute()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_output_refusal_says_what_qemu_would_do() {
        let shown = |switch: &str, written_as, conflict| {
            let file = WrittenFile { switch: switch.to_owned(), path: "/a".into(), written_as };
            OutputRefusal { file, conflict }.to_string()
        };

        assert_eq!(
            shown("serial", WrittenAs::Output, OutputConflict::Used("/a".into())),
            "`-serial` would empty `/a`, which the VM uses otherwise as well"
        );
        assert_eq!(
            shown("vnc", WrittenAs::Socket, OutputConflict::Used("/b".into())),
            "`-vnc` would remove `/a`, which is `/b`, which the VM uses otherwise"
        );
        assert_eq!(
            shown("D", WrittenAs::Output, OutputConflict::Image("vmdk")),
            "`-D` would empty `/a`, which looks like an image in format vmdk"
        );
    }
}

//! Files that QEMU would empty, replace or write, and that are images, or files that this VM uses otherwise.

use std::path::{Path, PathBuf};

use maqet_domain::error::{Explain, Explanation, Fault};
use maqet_domain::machine::{Machine, WrittenAs, WrittenFile, files_used_otherwise};
use maqet_domain::port::{ImageUse, PathKind};
use maqet_domain::storage::ImageAccess;

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
            OutputConflict::Used(_) | OutputConflict::BlockDevice => explanation,
        }
    }
}

impl Preflight<'_> {
    /// Refuses files that QEMU writes besides images if they are images, or if the VM uses them otherwise.
    pub(super) async fn check_written_files(
        &self,
        machine: &Machine,
        args: &[String],
        disks: &CheckedDisks<'_>,
    ) -> Result<(), Error> {
        let is_written = |file: &WrittenFile| file.written_as != WrittenAs::Memory { is_shared: false };
        let files: Vec<WrittenFile> = machine.written_files().into_iter().filter(is_written).collect();
        if files.is_empty() {
            return Ok(());
        }
        let of_drives = disks.drives.iter().filter_map(|drive| Some(drive.image_use()?.path));
        let mut used = Vec::new();
        for path in of_drives.chain(disks.backing.iter().cloned()).chain(files_used_otherwise(args)) {
            used.push((self.paths.resolve(&path).await, path));
        }
        for file in files {
            if let Some(conflict) = self.output_conflict(&file, &used).await {
                return Err(DiskError::from(OutputRefusal { file, conflict }).into());
            }
        }
        Ok(())
    }

    async fn output_conflict(&self, file: &WrittenFile, used: &[(PathBuf, PathBuf)]) -> Option<OutputConflict> {
        let kind = self.paths.kind(&file.path).await;
        if kind == PathKind::Directory {
            // Memory in a file of QEMU's own there; for the others, QEMU fails.
            return None;
        }
        let resolved = self.paths.resolve(&file.path).await;
        for (other, path) in used {
            if *other == resolved || self.is_one_file(&resolved, other).await {
                return Some(OutputConflict::Used(path.clone()));
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

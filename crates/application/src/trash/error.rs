//! Why images are not moved, restored or deleted.

use std::path::PathBuf;

use maqet_domain::error::{Explain, Explanation, Fault};
use maqet_domain::text::{quote, quoted_list};
use maqet_domain::trash::{InvalidTrashId, TrashId};
use maqet_domain::vm::VmName;

use super::used_files::{FileUse, FileUser};

/// Why images are not moved to the trash, restored from it, or deleted.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum TrashRefusal {
    #[error("cannot move the images of VM `{vm}` to the trash: {}", describe(uses))]
    Used { vm: VmName, uses: Vec<FileUse> },
    #[error("the trash has no entry `{}`", name.escape_debug())]
    EntryNotFound { name: String, known: Vec<String> },
    #[error("several entries of the trash are of VM `{name}`: {}", quoted_list(entries))]
    EntryAmbiguous { name: String, entries: Vec<TrashId> },
    #[error("cannot restore entry `{entry}` of the trash: VM `{name}` already exists")]
    VmExists { entry: TrashId, name: VmName },
    #[error("cannot restore entry `{entry}` of the trash under another name: its VM `{vm}` exists")]
    Renamed { entry: TrashId, vm: VmName },
    #[error("cannot restore entry `{entry}` of the trash: {}", describe(uses))]
    RestoredImageUsed { entry: TrashId, uses: Vec<FileUse> },
    #[error("no image to attach at `{}`", path.display())]
    NoImage { path: PathBuf },
    #[error("cannot attach an image to VM `{vm}`: {}", describe(uses))]
    AttachedImageUsed { vm: VmName, uses: Vec<FileUse> },
    #[error("disk image `{}` has format `{format}`, which no storage type supports", path.display())]
    FormatUnsupported { path: PathBuf, format: String },
    #[error(transparent)]
    Id(#[from] InvalidTrashId),
}

/// Describes uses of files, as in ``/d/base.qcow2` is a backing file of drive `hdd` of VM `clone``.
pub(crate) fn describe(uses: &[FileUse]) -> String {
    let texts: Vec<String> = uses.iter().map(ToString::to_string).collect();
    texts.join("; ")
}

impl Explain for TrashRefusal {
    fn explain(&self) -> Explanation {
        let explain = Explanation::new;
        match self {
            Self::Used { vm, uses } => {
                let explanation = explain("storage.image-in-use", Fault::State)
                    .hint(format!("keep its images: remove only the VM with `maqet rm {vm}`"));
                match uses.iter().find_map(|used| used.user.vm()) {
                    Some(user) => explanation.hint(format!("remove VM `{user}` first, if it is not needed")),
                    None => explanation,
                }
            }
            Self::EntryNotFound { known, .. } if known.is_empty() => explain("trash.entry-not-found", Fault::NotFound),
            Self::EntryNotFound { known, .. } => explain("trash.entry-not-found", Fault::NotFound)
                .hint("list the entries with `maqet storage trash ls`")
                .did_you_mean(known),
            Self::EntryAmbiguous { .. } => {
                explain("trash.entry-ambiguous", Fault::Usage).hint("pass the ID of an entry")
            }
            Self::VmExists { entry, name } => explain("trash.vm-exists", Fault::State)
                .hint(format!("choose another name: `maqet storage trash restore {entry} --name NAME`"))
                .hint(format!("remove the other VM with `maqet rm {name}`")),
            Self::Renamed { entry, .. } => {
                explain("trash.name-conflict", Fault::Usage).hint(format!("run `maqet storage trash restore {entry}`"))
            }
            Self::RestoredImageUsed { .. } => {
                explain("trash.image-in-use", Fault::State).hint("remove that VM, or change its definition")
            }
            Self::NoImage { .. } => explain("storage.image-not-found", Fault::NotFound)
                .hint("list images that no VM uses with `maqet storage orphaned`"),
            Self::AttachedImageUsed { uses, .. } => {
                let explanation = explain("storage.image-in-use", Fault::State);
                if uses.iter().all(|used| used.is_backing) {
                    explanation.hint("pass `--readonly` if the guest only reads it").hint("attach a copy of it")
                } else {
                    explanation.hint("remove the other drive first, or attach a copy of the image")
                }
            }
            Self::FormatUnsupported { path, .. } => explain("storage.format-unsupported", Fault::State).hint(format!(
                "convert it with `qemu-img convert -O qcow2 {} NEW_PATH`",
                quote(&path.to_string_lossy())
            )),
            Self::Id(_) => explain("trash.entry-invalid", Fault::Usage),
        }
    }
}

impl FileUser {
    /// Returns the VM that uses the file, if it is one.
    pub(crate) const fn vm(&self) -> Option<&VmName> {
        match self {
            Self::Drive { vm, .. } | Self::Checkpoint { vm, .. } => Some(vm),
            Self::Image { .. } | Self::Trash { .. } => None,
        }
    }
}

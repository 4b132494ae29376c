//! Why a template is not made, found or removed.

use maqet_domain::error::{Explain, Explanation, Fault};
use maqet_domain::text::similar;
use maqet_domain::vm::VmName;

use crate::trash::error::describe;
use crate::trash::used_files::FileUse;

/// Why a template is not made, found or removed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
#[non_exhaustive]
pub enum TemplateError {
    #[error("there is no template `{name}`")]
    NotFound { name: VmName, known: Vec<VmName> },
    #[error("there is a template `{name}`")]
    Exists { name: VmName },
    #[error("template `{name}` is in use: {}", describe(uses))]
    InUse { name: VmName, uses: Vec<FileUse> },
    #[error("VMs of template `{name}` could not run at once: {}", reasons.join("; "))]
    NotForkable { name: VmName, reasons: Vec<String> },
    #[error("template `{name}` is to be made of a VM and of values besides")]
    SourceConflict { name: VmName },
    /// Its forks have the devices that it had when it was saved.
    #[error("a VM of template `{name}` cannot get {what}")]
    Fixed { name: VmName, what: &'static str },
}

impl Explain for TemplateError {
    fn explain(&self) -> Explanation {
        match self {
            Self::NotFound { name, known } => {
                let near = similar(name.as_str(), known.iter().map(VmName::as_str));
                Explanation::new("template.not-found", Fault::NotFound)
                    .did_you_mean(&near)
                    .or_hint("list them with `maqet template ls`")
            }
            Self::Exists { name } => Explanation::new("template.exists", Fault::State)
                .hint("choose another name")
                .hint(format!("remove it with `maqet template rm {name}`")),
            Self::InUse { .. } => {
                Explanation::new("template.in-use", Fault::State).hint("remove the VMs that were made from it first")
            }
            Self::NotForkable { .. } => Explanation::new("template.network-unsupported", Fault::State)
                .hint("connect its cards to a network of their own, as with `network: user`"),
            Self::SourceConflict { .. } => Explanation::new("template.source-invalid", Fault::Usage)
                .hint("change the definition of the VM with `maqet apply`, or pass files"),
            Self::Fixed { .. } => {
                Explanation::new("template.device-unsupported", Fault::Usage).hint("run it without `--template`")
            }
        }
    }
}

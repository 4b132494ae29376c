//! Templates: VMs that have booted, kept for forks.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::Node;
use crate::qemu::QemuVersion;
use crate::storage::FileId;
use crate::vm::{VmId, VmName};

/// What the name of the VM of a template begins with.
const PREFIX: &str = "template+";

/// What is recorded of a template, in the manifest of its checkpoint: how it is made again, and of what it was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TemplateRecord {
    /// Its name.
    pub name: VmName,
    /// What it is made of.
    pub source: TemplateSource,
    /// What was waited for before the checkpoint.
    pub wait: Vec<String>,
    /// How long that took, in milliseconds.
    pub boot_ms: u64,
    /// What it was made of then.
    pub inputs: TemplateInputs,
}

/// What a template is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TemplateSource {
    /// A VM.
    Vm {
        /// Its ID.
        id: VmId,
        /// Its name at that time.
        name: VmName,
    },
    /// The definition that is recorded with it.
    Definition {
        /// The names of the documents that it is of.
        from: Vec<String>,
    },
}

/// Everything that a template depends on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TemplateInputs {
    /// The definition, before it was changed for a template.
    pub definition: Node,
    /// The version of QEMU.
    pub qemu: QemuVersion,
    /// The binary of QEMU, the images with their backing files, and the UEFI variables, which exist.
    pub files: Vec<TemplateFile>,
}

/// A file that a template depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateFile {
    /// Its path.
    pub path: PathBuf,
    /// Which file it is.
    pub file: FileId,
    /// When it was last written.
    pub modified_at: Option<Timestamp>,
}

impl TemplateRecord {
    /// Returns the name that the name of the VM of a template begins with.
    pub fn vm_name(template: &VmName) -> String {
        format!("{PREFIX}{template}")
    }

    /// Returns whether this may be the name of the VM of a template.
    pub fn is_vm_name(name: &VmName, id: &VmId) -> bool {
        name.as_str().starts_with(PREFIX) && name.is_of_throw_away(id)
    }
}

impl TemplateInputs {
    /// Returns why what would be made of `now` is another template; `None` if it would be the same.
    pub fn change(&self, now: &Self) -> Option<String> {
        if self.qemu != now.qemu {
            return Some(format!("it is of QEMU {}, and QEMU is {} now", self.qemu, now.qemu));
        }
        if self.definition != now.definition {
            return Some("its definition has changed".to_owned());
        }
        let changed = self.files.iter().find(|file| !now.files.contains(file));
        let added = now.files.iter().find(|file| !self.files.contains(file));
        changed.or(added).map(|file| format!("`{}` has changed", file.path.display()))
    }
}

//! The TPM of a VM and its state.

use std::path::{Path, PathBuf};

use maqet_domain::command_line::{TPM_STATE_FILE, Tpm};
use maqet_domain::error::{Explain, Explanation, Fault};
use maqet_domain::machine::{Machine, tpm_device};
use maqet_domain::port::{DiskImages, ImageError};
use maqet_domain::qemu::NodeName;
use maqet_domain::snapshot::tag::is_safety;
use maqet_domain::vm::{VmEntry, VmName};

use super::disk_error::DiskError;
use super::lost_images::MissingImage;
use super::preflight::Preflight;
use crate::Error;

/// The name of the state of a VM's TPM, as of a drive; no drive has it.
pub(crate) const TPM_NAME: &str = NodeName::TPM_STATE;

/// Returns the tags of the copies of the state at `state` that exist: those of safety snapshots, with which they are made.
pub(crate) async fn copy_tags(images: &dyn DiskImages, state: &Path) -> Result<Vec<String>, ImageError> {
    let mut tags = images.state_copies(state).await?;
    tags.retain(|tag| is_safety(tag));
    Ok(tags)
}

/// Returns the path of a copy of the state at `state`.
pub(crate) fn copy_path(state: &Path, tag: &str) -> PathBuf {
    let mut path = state.as_os_str().to_owned();
    path.push(".");
    path.push(tag);
    path.into()
}

/// Why a machine cannot have a TPM.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum TpmError {
    #[error("QEMU has no TPM for the architecture `{architecture}`")]
    Unsupported { architecture: String },
    #[error("the state of a TPM cannot be in `{}`: swtpm does not support a comma in its path", path.display())]
    PathInvalid { path: PathBuf },
}

impl Explain for TpmError {
    fn explain(&self) -> Explanation {
        match self {
            Self::Unsupported { .. } => {
                Explanation::new("tpm.architecture-unsupported", Fault::Usage).hint("remove `tpm` from the definition")
            }
            Self::PathInvalid { .. } => Explanation::new("tpm.path-invalid", Fault::Host)
                .hint("pass a directory without a comma with `--data-dir` or `--runtime-dir`"),
        }
    }
}

impl Preflight<'_> {
    /// Returns the TPM of a machine that has one.
    pub(crate) fn tpm(&self, name: &VmName, machine: &Machine) -> Result<Option<Tpm>, Error> {
        if !machine.tpm {
            return Ok(None);
        }
        let architecture = self.architecture(machine);
        let directory = self.folders.vm_storage(name);
        if let Some(path) = [&directory, &self.folders.runtime].into_iter().find(|path| has_comma(path)) {
            return Err(TpmError::PathInvalid { path: path.clone() }.into());
        }
        match tpm_device(&architecture) {
            Some(device) => Ok(Some(Tpm { device, directory })),
            None => Err(TpmError::Unsupported { architecture }.into()),
        }
    }

    /// Returns the path of the state of a VM's TPM.
    pub(crate) fn tpm_state(&self, name: &VmName) -> PathBuf {
        self.folders.vm_storage(name).join(TPM_STATE_FILE)
    }

    /// Checks the state of a machine's TPM; returns it if it does not exist.
    pub(crate) async fn check_tpm(
        &self,
        entry: &VmEntry,
        machine: &Machine,
        recreate: &[String],
    ) -> Result<Option<MissingImage>, Error> {
        let path = self.tpm_state(&entry.name);
        if !machine.tpm {
            return Ok(None);
        }
        let name = TPM_NAME.to_owned();
        match self.images.exists(&path).await {
            true if recreate.contains(&name) => Err(DiskError::RecreateConflict { drive: name, path }.into()),
            true => Ok(None),
            false => Ok(Some(MissingImage { name, path, is_default: true })),
        }
    }
}

fn has_comma(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().contains(&b',')
}

//! Copies of the state of a TPM, which are kept with safety snapshots.
//!
//! Memory holds the state of the TPM, so that a load into a running VM has swtpm replace the file with it. No image holds
//! the file. So whatever loads all drives keeps a copy of it as it keeps their states: a copy is a snapshot of the "drive"
//! [`TPM_NAME`], with a tag of the same pair, in a file beside the state. Only [`BEFORE_LOAD`] has one.

use std::path::PathBuf;

use maqet_domain::snapshot::tag::BEFORE_LOAD;
use maqet_domain::vm::{ImageTag, VmName};

use crate::start::tpm::{TPM_NAME, copy_path, copy_tags};
use crate::{App, Error};

/// The copies of the state of a VM's TPM.
pub(crate) struct TpmCopies {
    state: PathBuf,
    /// The tag of the copy that exists.
    old: Option<String>,
    has_state: bool,
}

/// Returns whether `tag` is of a TPM, and not of an image.
pub(crate) fn is_of_tpm(tag: &ImageTag) -> bool {
    tag.drive == TPM_NAME
}

fn copy_of(tag: &ImageTag) -> PathBuf {
    copy_path(&tag.path, &tag.tag)
}

impl TpmCopies {
    pub(crate) async fn find(app: &App, vm: &VmName) -> Self {
        let state = app.preflight().tpm_state(vm);
        let mut old = None;
        for tag in copy_tags() {
            if old.is_none() && app.ports.images.exists(&copy_path(&state, &tag)).await {
                old = Some(tag);
            }
        }
        Self { has_state: app.ports.images.exists(&state).await, old, state }
    }

    /// Returns the copy that is to be made before a load, and the one that it replaces; nothing without a TPM.
    pub(crate) fn safety(&self) -> (Option<ImageTag>, Option<ImageTag>) {
        let free = copy_tags().into_iter().find(|tag| Some(tag) != self.old.as_ref());
        (free.filter(|_| self.has_state).map(|tag| self.tag(tag)), self.of(BEFORE_LOAD))
    }

    /// Returns the copy that was made together with the snapshot `name`.
    pub(crate) fn of(&self, name: &str) -> Option<ImageTag> {
        self.old.clone().filter(|_| name == BEFORE_LOAD).map(|tag| self.tag(tag))
    }

    fn tag(&self, tag: String) -> ImageTag {
        ImageTag { drive: TPM_NAME.to_owned(), path: self.state.clone(), tag }
    }
}

/// Makes a copy.
pub(crate) async fn create(app: &App, tag: &ImageTag) -> Result<(), Error> {
    Ok(app.ports.images.copy_state(&tag.path, &copy_of(tag)).await?)
}

/// Puts a copy in place of the state; no swtpm uses it.
pub(crate) async fn load(app: &App, tag: &ImageTag) -> Result<(), Error> {
    Ok(app.ports.images.copy_state(&copy_of(tag), &tag.path).await?)
}

/// Removes a copy, if it exists.
pub(crate) async fn remove(app: &App, tag: &ImageTag) -> Result<(), Error> {
    Ok(app.ports.images.remove_state(&copy_of(tag)).await?)
}

/// Returns whether a copy exists.
pub(crate) async fn is_present(app: &App, tag: &ImageTag) -> bool {
    app.ports.images.exists(&copy_of(tag)).await
}

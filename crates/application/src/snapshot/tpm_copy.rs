//! Copies of the state of a TPM, which are kept with safety snapshots.
//!
//! Memory holds the state of the TPM, so that a load into a running VM has swtpm replace the file with it. No image holds
//! the file. So whatever loads all drives keeps a copy of it as it keeps their states: a copy is a snapshot of the "drive"
//! [`TPM_NAME`], in a file beside the state, and has the tag of the snapshots of the images with which it was made.

use std::path::PathBuf;

use maqet_domain::snapshot::tag::is_safety;
use maqet_domain::vm::{ImageTag, VmName};

use crate::start::tpm::{TPM_NAME, copy_path, copy_tags};
use crate::{App, Error};

/// The copies of the state of a VM's TPM.
pub(crate) struct TpmCopies {
    state: PathBuf,
    tags: Vec<String>,
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
    pub(crate) async fn find(app: &App, vm: &VmName) -> Result<Self, Error> {
        let state = app.preflight().tpm_state(vm);
        let tags = copy_tags(&*app.ports.images, &state).await?;
        Ok(Self { has_state: app.ports.images.exists(&state).await, tags, state })
    }

    /// Returns whether there is a copy with this tag.
    pub(crate) fn has_tag(&self, tag: &str) -> bool {
        self.tags.iter().any(|copy| copy == tag)
    }

    /// Returns the copy that is to be made together with snapshots with this tag; nothing without a TPM.
    pub(crate) fn safety(&self, tag: String) -> Option<ImageTag> {
        self.has_state.then(|| self.tag(tag))
    }

    /// Returns the copies, but for those that were made with snapshots that `stay`.
    pub(crate) fn without(&self, stay: &[ImageTag]) -> impl Iterator<Item = ImageTag> {
        let gone = self.tags.iter().filter(|tag| !stay.iter().any(|image| image.tag == **tag));
        gone.map(|tag| self.tag(tag.clone()))
    }

    /// Returns the copy that was made together with these snapshots.
    pub(crate) fn of(&self, images: &[ImageTag]) -> Option<ImageTag> {
        let found = images.iter().find(|image| is_safety(&image.tag) && self.has_tag(&image.tag));
        found.map(|image| self.tag(image.tag.clone()))
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

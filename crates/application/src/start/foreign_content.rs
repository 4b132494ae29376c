//! Images that are opened as raw and have the content of another format.
//!
//! The guest would see the bytes of the image, and destroy it by writing. Content that raw disks have as well, such as
//! that of LUKS, is not of another format.

use std::path::PathBuf;

use maqet_domain::config::{Node, Problem, ProblemKind};
use maqet_domain::error::{Explain, Explanation, Fault};
use maqet_domain::machine::{Machine, UserImage};
use maqet_domain::port::{ForeignBacking, ImageSummary, ImageUse};
use maqet_domain::storage::{ImageAccess, ImagePlan, is_image_type};
use maqet_domain::text::quote;

use super::disk_error::DiskError;
use super::drives::Drive;
use super::preflight::Preflight;
use crate::Error;

/// What opens an image as raw.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Opener {
    /// The drive of this name.
    Drive(String),
    /// The drive of this name, which is `type: iso`.
    Cd(String),
    /// An overlay that does not exist yet, of the drive of this name.
    PlannedOverlay(String),
    /// An overlay.
    Overlay(PathBuf),
    /// A switch of the user.
    Switch(&'static str),
}

/// An image that is opened as raw and has the content of another format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignContent {
    path: PathBuf,
    format: &'static str,
    opener: Opener,
    is_written: bool,
}

impl std::fmt::Display for ForeignContent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (path, format) = (self.path.display(), self.format);
        match &self.opener {
            Opener::Drive(drive) => {
                write!(f, "drive `{drive}` is raw, but the content of `{path}` looks like {format}")
            }
            Opener::Cd(drive) => write!(
                f,
                "drive `{drive}` is `type: iso`, which the guest reads as it is, but the content of `{path}` looks like {format}"
            ),
            Opener::PlannedOverlay(drive) => {
                write!(f, "the backing file of drive `{drive}` is raw, but the content of `{path}` looks like {format}")
            }
            Opener::Overlay(overlay) => write!(
                f,
                "`{path}`, the backing file of `{}`, is opened as raw, but its content looks like {format}",
                overlay.display()
            ),
            Opener::Switch(switch) => {
                write!(f, "`-{switch}` opens `{path}` as raw, but its content looks like {format}")
            }
        }
    }
}

impl std::error::Error for ForeignContent {}

impl Explain for ForeignContent {
    fn explain(&self) -> Explanation {
        let explanation = Explanation::new("storage.format-conflict", Fault::Usage);
        self.hints().into_iter().fold(explanation, Explanation::hint)
    }
}

impl ForeignContent {
    /// Returns whether the guest would destroy the image, or an overlay would be of no use.
    pub(crate) fn is_harmful(&self) -> bool {
        match self.opener {
            Opener::Drive(_) | Opener::Cd(_) => self.is_written,
            Opener::PlannedOverlay(_) => true,
            Opener::Overlay(_) => false,
            // The way for those who mean it.
            Opener::Switch(switch) => self.is_written && switch == "drive",
        }
    }

    /// Returns what to do, most likely first.
    pub(crate) fn hints(&self) -> Vec<String> {
        let (path, format) = (quote(&self.path.to_string_lossy()), self.format);
        let has_type = is_image_type(format);
        let convert = format!("convert it with `qemu-img convert -f {format} -O raw {path} NEW_PATH`");
        let as_it_is = "if the guest is to write to it as it is";
        match &self.opener {
            Opener::Drive(drive) => {
                let by_type = has_type.then(|| format!("set `type: {format}` for drive `{drive}`"));
                let open = "attach it with `blockdev` and `device` under `arguments`";
                let anyway =
                    self.is_written.then(|| format!("{open} {as_it_is}, or set `readonly: true` to only read it"));
                by_type.into_iter().chain([convert]).chain(anyway).collect()
            }
            Opener::Cd(drive) => {
                let as_disk = has_type.then(|| format!("set `type: {format}` for drive `{drive}` if it is a disk"));
                as_disk.into_iter().chain([convert]).collect()
            }
            Opener::PlannedOverlay(_) => {
                vec![format!("set `backing_format: {format}`, or remove it to have the format detected")]
            }
            Opener::Overlay(overlay) => {
                let overlay = quote(&overlay.to_string_lossy());
                vec![format!("run `qemu-img rebase -u -b {path} -F {format} {overlay}` while no VM uses it")]
            }
            Opener::Switch("drive") => {
                let anyway = self.is_written.then(|| format!("attach it with `-blockdev` and `-device` {as_it_is}"));
                [format!("set `format={format}`")].into_iter().chain(anyway).collect()
            }
            Opener::Switch(_) => vec![format!("set `driver={format}`")],
        }
    }

    fn problem(&self, path: String, node: Option<&Node>) -> Problem {
        let kind = if self.is_harmful() { ProblemKind::Invalid } else { ProblemKind::Warning };
        let location = node.and_then(|node| node.location().cloned());
        Problem { kind, location, help: self.hints().into_iter().next(), ..Problem::new(path, self.to_string()) }
    }
}

impl Preflight<'_> {
    /// Returns the images of a drive and below it that are opened as raw and are not.
    pub(crate) fn foreign_content(drive: &Drive<'_>, image: &ImageSummary) -> Option<ForeignContent> {
        let name = drive.storage.name.to_string();
        if let Some(format) = image.resembles {
            let is_written = drive.image_use().is_some_and(|image| image.access == ImageAccess::Write);
            let is_cd = drive.storage.driver.type_name() == "iso";
            let opener = if is_cd { Opener::Cd(name) } else { Opener::Drive(name) };
            return Some(ForeignContent { path: drive.path.clone(), format, opener, is_written });
        }
        let ForeignBacking { path, overlay, format } = image.foreign_backing.clone()?;
        Some(ForeignContent { path, format, opener: Opener::Overlay(overlay), is_written: false })
    }

    /// Returns such a backing file of an image that is to be created.
    pub(super) async fn foreign_backing(&self, drive: &Drive<'_>, plan: &ImagePlan) -> Option<ForeignContent> {
        let backing = plan.backing.as_ref().filter(|backing| backing.format.as_deref() == Some("raw"))?;
        let format = self.content_of_raw(backing.file.clone()).await?;
        let opener = Opener::PlannedOverlay(drive.storage.name.to_string());
        Some(ForeignContent { path: backing.file.clone(), format, opener, is_written: false })
    }

    /// Refuses images of the user's switches that a guest would destroy; returns the others as warnings.
    pub(super) async fn check_raw_images(&self, machine: &Machine) -> Result<Vec<String>, Error> {
        let mut warnings = Vec::new();
        for image in machine.user_images().into_iter().filter(|image| image.is_raw) {
            match self.foreign_image(image).await {
                Some(foreign) if foreign.is_harmful() => return Err(DiskError::from(foreign).into()),
                Some(foreign) => warnings.push(foreign.to_string()),
                None => {}
            }
        }
        Ok(warnings)
    }

    /// Returns all of these as problems of the definition, and warnings.
    pub(crate) async fn foreign_content_problems(&self, machine: &Machine, definition: &Node) -> Vec<Problem> {
        let entries = definition.get("storage").map(Node::items).unwrap_or_default();
        let name = definition.get("name").and_then(Node::written);
        let vm_storage = name.map(|name| self.folders.storage.join(name)).unwrap_or_default();
        let mut problems = Vec::new();
        for storage in &machine.storage {
            let drive = Drive::new(storage, &vm_storage);
            let Some(image) = drive.image_use() else { continue };
            let found = if image.format.as_deref() == Some("raw") {
                let summary = self.images.examine(&image).await.unwrap_or_default();
                Self::foreign_content(&drive, &summary).map(|foreign| ("type", foreign))
            } else if let Some(plan) = drive.plan()
                && plan.backing.is_some()
                && !self.images.exists(&plan.path).await
            {
                let foreign = self.foreign_backing(&drive, plan).await;
                foreign.map(|foreign| ("backing_format", foreign))
            } else {
                None
            };
            if let Some((key, foreign)) = found {
                let entry = entries.get(storage.index);
                let node = entry.map(|entry| entry.get(key).unwrap_or(entry));
                problems.push(foreign.problem(format!("storage[{}].{key}", storage.index), node));
            }
        }
        for (at, node, image) in machine.user_images_in(definition).into_iter().filter(|(.., image)| image.is_raw) {
            let foreign = self.foreign_image(image).await;
            problems.extend(foreign.map(|foreign| foreign.problem(at.to_string(), Some(node))));
        }
        problems
    }

    async fn foreign_image(&self, image: UserImage) -> Option<ForeignContent> {
        let format = self.content_of_raw(image.path.clone()).await?;
        let is_written = image.access == ImageAccess::Write;
        Some(ForeignContent { path: image.path, format, opener: Opener::Switch(image.switch), is_written })
    }

    async fn content_of_raw(&self, path: PathBuf) -> Option<&'static str> {
        let image = ImageUse { path, format: Some("raw".to_owned()), access: ImageAccess::Read };
        self.images.examine(&image).await.ok()?.resembles
    }
}

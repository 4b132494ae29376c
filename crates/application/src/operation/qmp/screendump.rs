//! `qmp screendump`: a screenshot in a file.

use std::path::PathBuf;

use derive_setters::Setters;
use maqet_domain::picture::PictureFormat;
use serde::{Deserialize, Serialize};

use crate::app::operations::{Done, Effect, Operation};
use crate::app::shown;
use crate::input::screen::ScreenError;
use crate::{App, Error, HumanDuration};

/// Writes a screenshot of a running or paused VM to a file, atomically.
///
/// [`App::screen`] returns the image itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Setters)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
#[setters(into)]
pub struct QmpScreendump {
    /// The VM: a name, an ID, or a unique prefix of an ID.
    pub vm: String,
    /// The destination; an existing file is replaced.
    pub file: PathBuf,
    /// The image format; by default that of the file's extension, and PNG without one.
    pub format: Option<PictureFormat>,
    /// The timeout for each reply of QEMU.
    pub timeout: Option<HumanDuration>,
}

/// A screenshot that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Screendump {
    /// The ID of the VM.
    pub id: String,
    /// The name of the VM.
    pub name: String,
    /// The path of the image.
    pub file: String,
    /// The image format.
    pub format: PictureFormat,
    /// The width in pixels.
    pub width: u32,
    /// The height in pixels.
    pub height: u32,
    /// The size of the file.
    pub bytes: usize,
}

impl QmpScreendump {
    /// Writes a screenshot to `file`, in the format of its extension.
    pub fn new(vm: impl Into<String>, file: impl Into<PathBuf>) -> Self {
        Self { vm: vm.into(), file: file.into(), format: None, timeout: None }
    }
}

impl Operation for QmpScreendump {
    const NAME: &'static str = "qmp.screendump";
    const EFFECT: Effect = Effect::Reads;
    type Output = Screendump;

    async fn run(&self, app: &App) -> Result<Done<Screendump>, Error> {
        let format = match self.format {
            Some(format) => format,
            None => PictureFormat::from_path(&self.file).map_err(ScreenError::from)?,
        };
        let picture = app.screen(&self.vm, format, self.timeout).await?;
        app.ports.pictures.save(&self.file, &picture.bytes).await.map_err(ScreenError::from)?;
        Ok(Done::reading(Screendump {
            id: picture.id.to_string(),
            name: picture.name.to_string(),
            file: shown(&self.file),
            format,
            width: picture.width,
            height: picture.height,
            bytes: picture.bytes.len(),
        }))
    }
}

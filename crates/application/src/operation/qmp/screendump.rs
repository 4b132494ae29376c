//! `qmp screendump`: a picture of the screen.

use std::path::PathBuf;

use maqet_domain::picture::PictureFormat;
use serde::{Deserialize, Serialize};

use crate::app::operations::{Done, Effect, Operation};
use crate::app::shown;
use crate::input::screen::ScreenError;
use crate::{App, Error, HumanDuration};

/// Takes a picture of what a running or paused VM shows, and puts it into a file.
///
/// The file comes into being whole, or stays as it was. [`App::screen`] returns the picture itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QmpScreendump {
    /// The VM: a name, an id, or the unique beginning of one.
    pub vm: String,
    /// Where the picture goes; a file that is there is replaced.
    pub file: PathBuf,
    /// Its format; if left out, what the file's name ends with says it, and PNG where it ends with nothing.
    #[serde(default)]
    pub format: Option<PictureFormat>,
    /// How long QEMU may take.
    #[serde(default)]
    pub timeout: Option<HumanDuration>,
}

/// A picture that was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Screendump {
    /// The VM's name.
    pub name: String,
    /// Where the picture is.
    pub file: String,
    /// Its format.
    pub format: PictureFormat,
    /// Its width in pixels.
    pub width: u32,
    /// Its height in pixels.
    pub height: u32,
    /// The length of the file.
    pub bytes: usize,
}

impl QmpScreendump {
    /// Puts the picture at `file`, in the format that its name says.
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
            None => PictureFormat::of_file(&self.file).map_err(ScreenError::from)?,
        };
        let picture = app.screen(&self.vm, format, self.timeout).await?;
        app.ports.pictures.save(&self.file, &picture.bytes).await.map_err(ScreenError::from)?;
        Ok(Done::reading(Screendump {
            name: picture.vm.to_string(),
            file: shown(&self.file),
            format,
            width: picture.width,
            height: picture.height,
            bytes: picture.bytes.len(),
        }))
    }
}

//! Screenshots of running VMs.

use std::time::Duration;

use maqet_domain::error::{Explain, Explanation, Fault};
use maqet_domain::picture::{PictureFormat, Ppm, UnsupportedFormat, png_size};
use maqet_domain::port::{Monitors, PictureError, PictureFile, Pictures};
use maqet_domain::qmp::wording::is_without_screen;
use maqet_domain::qmp::{QmpCommand, QmpError};
use maqet_domain::vm::{Run, VmEntry, VmId, VmName};
use serde_json::Value;

use crate::app::shown;
use crate::vm::monitor::Monitored;
use crate::{App, Error, HumanDuration};

/// Why there is no screenshot.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum ScreenError {
    #[error("VM `{vm}` has no screen")]
    Unavailable {
        vm: VmName,
        /// QEMU's refusal, if it was asked.
        source: Option<QmpError>,
    },
    #[error(transparent)]
    Picture(#[from] PictureError),
    #[error(transparent)]
    Format(#[from] UnsupportedFormat),
}

impl Explain for ScreenError {
    fn explain(&self) -> Explanation {
        match self {
            Self::Unavailable { vm, .. } => Explanation::new("screen.unavailable", Fault::State)
                .hint(format!("add a graphics card with `maqet apply {vm} --set vga=std`, and restart the VM"))
                .hint(format!("read its serial console with `maqet logs {vm}`")),
            Self::Picture(source) => source.explain(),
            Self::Format(source) => source.explain(),
        }
    }
}

/// A screenshot.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Picture {
    /// The ID of the VM.
    pub id: VmId,
    /// The name of the VM.
    pub name: VmName,
    /// The image format.
    pub format: PictureFormat,
    /// The width in pixels.
    pub width: u32,
    /// The height in pixels.
    pub height: u32,
    /// The contents of the image file.
    pub bytes: Vec<u8>,
}

impl App {
    /// Takes a screenshot of the first screen of a running or paused VM.
    ///
    /// QEMU writes it to the private folder of the run, from where it is read and removed. `timeout` is for each reply of
    /// QEMU. A QEMU without PNG (before 7.1, or built without) writes PPM, which is converted.
    pub async fn screen(
        &self,
        vm: &str,
        format: PictureFormat,
        timeout: Option<HumanDuration>,
    ) -> Result<Picture, Error> {
        let vm = Monitored::find(self, vm).await?;
        let timeout = timeout.map_or(self.timeouts().qmp, HumanDuration::duration);
        let picture = Screen::new(self, &vm.run, timeout).picture(&vm.entry, format).await;
        vm.or_unresponsive(picture)
    }
}

/// The first screen of a running VM.
pub(crate) struct Screen<'a> {
    monitors: &'a dyn Monitors,
    pictures: &'a dyn Pictures,
    run: &'a Run,
    timeout: Duration,
}

impl<'a> Screen<'a> {
    /// Makes the screen of a run; `timeout` is for each reply of QEMU.
    pub(crate) fn new(app: &'a App, run: &'a Run, timeout: Duration) -> Self {
        Self { monitors: &*app.ports.monitors, pictures: &*app.ports.pictures, run, timeout }
    }

    /// Returns what the screen shows, as PPM, even if that is one of QEMU's own.
    pub(crate) async fn dump(&self) -> Result<Vec<u8>, Error> {
        let file = self.pictures.new_file(&self.run.paths, PictureFormat::Ppm);
        self.dump_to(file.as_ref()).await
    }

    async fn picture(&self, entry: &VmEntry, format: PictureFormat) -> Result<Picture, Error> {
        if self.shows_no_guest().await {
            return Err(ScreenError::Unavailable { vm: entry.name.clone(), source: None }.into());
        }
        let file = self.pictures.new_file(&self.run.paths, format);
        if format == PictureFormat::Png {
            match self.execute(&screendump(file.as_ref(), true)).await {
                Ok(_) => return Ok(picture(entry, format, file.read().map_err(ScreenError::from)?)?),
                // Perhaps it has no PNG; any other reason recurs below.
                Err(QmpError::Refused { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let ppm = self.dump_to(file.as_ref()).await.map_err(|error| screen_error(&entry.name, error))?;
        let bytes = match format {
            PictureFormat::Ppm => ppm,
            PictureFormat::Png => self.pictures.to_png(&ppm).map_err(ScreenError::from)?,
        };
        Ok(picture(entry, format, bytes)?)
    }

    async fn dump_to(&self, file: &dyn PictureFile) -> Result<Vec<u8>, Error> {
        self.execute(&screendump(file, false)).await?;
        Ok(file.read().map_err(ScreenError::from)?)
    }

    /// Returns whether the screen is one of QEMU's own, such as an empty terminal, which it has without a graphics card
    /// if the parallel port is not configured.
    async fn shows_no_guest(&self) -> bool {
        let command = QmpCommand::new("qom-get").with("path", "/backend/console[0]").with("property", "device");
        // A QEMU without this property decides when the screenshot is taken.
        self.execute(&command).await.is_ok_and(|device| device == "")
    }

    async fn execute(&self, command: &QmpCommand) -> Result<Value, QmpError> {
        self.monitors.execute(&self.run.paths, command, self.timeout).await
    }
}

fn screen_error(vm: &VmName, error: Error) -> Error {
    match error {
        Error::Qmp(source) if source.refusal().is_some_and(is_without_screen) => {
            ScreenError::Unavailable { vm: vm.clone(), source: Some(source) }.into()
        }
        error => error,
    }
}

fn screendump(file: &dyn PictureFile, as_png: bool) -> QmpCommand {
    let command = QmpCommand::new("screendump").with("filename", shown(file.path()));
    if as_png { command.with("format", "png") } else { command }
}

fn picture(entry: &VmEntry, format: PictureFormat, bytes: Vec<u8>) -> Result<Picture, ScreenError> {
    let size = match format {
        PictureFormat::Png => png_size(&bytes),
        PictureFormat::Ppm => Ppm::parse(&bytes).map(|ppm| (ppm.width, ppm.height)),
    };
    let (width, height) = size.ok_or(PictureError::InvalidImage { length: bytes.len() })?;
    Ok(Picture { id: entry.id, name: entry.name.clone(), format, width, height, bytes })
}

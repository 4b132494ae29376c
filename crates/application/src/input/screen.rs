//! Screenshots of running VMs.

use std::time::Duration;

use maqet_domain::error::{Explain, Explanation, Fault};
use maqet_domain::picture::{PictureFormat, Ppm, UnsupportedFormat, png_size};
use maqet_domain::port::{Monitors, PictureError, PictureFile, Pictures};
use maqet_domain::qmp::wording::is_without_screen;
use maqet_domain::qmp::{FIRST_CONSOLE, FirstConsole, QmpCommand, QmpError, children};
use maqet_domain::vm::{Run, VmEntry, VmId, VmName};
use serde_json::Value;

use crate::app::shown;
use crate::device::session::PERIPHERAL;
use crate::vm::ended::or_ended;
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
        let picture = Screen::new(self, &vm.entry.name, &vm.run, timeout).picture(&vm.entry, format).await;
        match vm.or_unresponsive(picture) {
            Ok(picture) => Ok(picture),
            Err(error) => Err(or_ended(self, vm.entry.id.to_string().as_str(), error).await),
        }
    }
}

/// The screen of a running VM.
pub(crate) struct Screen<'a> {
    monitors: &'a dyn Monitors,
    pictures: &'a dyn Pictures,
    vm: &'a VmName,
    run: &'a Run,
    timeout: Duration,
}

impl<'a> Screen<'a> {
    /// Makes the screen of a run; `timeout` is for each reply of QEMU.
    pub(crate) fn new(app: &'a App, vm: &'a VmName, run: &'a Run, timeout: Duration) -> Self {
        Self { monitors: &*app.ports.monitors, pictures: &*app.ports.pictures, vm, run, timeout }
    }

    /// Returns what the screen shows, as PPM.
    pub(crate) async fn dump(&self) -> Result<Vec<u8>, Error> {
        let file = self.pictures.new_file(&self.run.paths, PictureFormat::Ppm);
        let device = self.device(file.as_ref()).await?;
        self.dump_to(file.as_ref(), device.as_deref()).await
    }

    async fn picture(&self, entry: &VmEntry, format: PictureFormat) -> Result<Picture, Error> {
        let file = self.pictures.new_file(&self.run.paths, format);
        let device = self.device(file.as_ref()).await?;
        if format == PictureFormat::Png {
            match self.execute(&screendump(file.as_ref(), device.as_deref(), true)).await {
                Ok(_) => return Ok(picture(entry, format, file.read().map_err(ScreenError::from)?)?),
                // Perhaps it has no PNG; any other reason recurs below.
                Err(QmpError::Refused { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let ppm = self.dump_to(file.as_ref(), device.as_deref()).await?;
        let bytes = match format {
            PictureFormat::Ppm => ppm,
            PictureFormat::Png => self.pictures.to_png(&ppm).map_err(ScreenError::from)?,
        };
        Ok(picture(entry, format, bytes)?)
    }

    async fn dump_to(&self, file: &dyn PictureFile, device: Option<&str>) -> Result<Vec<u8>, Error> {
        match self.execute(&screendump(file, device, false)).await {
            Ok(_) => Ok(file.read().map_err(ScreenError::from)?),
            Err(error) if error.refusal().is_some_and(is_without_screen) => Err(self.unavailable(Some(error)).into()),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the display device that QEMU must be given to dump the screen; none if that is its first console.
    ///
    /// Errors: `Unavailable` if the VM has only consoles of QEMU itself, as that of a parallel port, of which QEMU
    /// would take a picture as well.
    async fn device(&self, file: &dyn PictureFile) -> Result<Option<String>, Error> {
        let owner = QmpCommand::new("qom-get").with("path", FIRST_CONSOLE).with("property", "device");
        match self.execute(&owner).await {
            Ok(device) if device != "" => return Ok(None),
            Ok(_) | Err(QmpError::Refused { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let consoles = match self.list("/backend").await? {
            Some(children) => FirstConsole::from_children(&children),
            None => FirstConsole::NotListed,
        };
        match consoles {
            FirstConsole::NotListed => Ok(None),
            FirstConsole::Unspecified => self.hotplugged(file).await,
            FirstConsole::Unusable => Err(self.unavailable(None).into()),
        }
    }

    /// Returns the first device that has a console beside those that QEMU lists.
    async fn hotplugged(&self, file: &dyn PictureFile) -> Result<Option<String>, Error> {
        for (id, _) in self.list(PERIPHERAL).await?.unwrap_or_default() {
            match self.execute(&screendump(file, Some(&id), false)).await {
                Ok(_) => return Ok(Some(id)),
                Err(QmpError::Refused { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(self.unavailable(None).into())
    }

    /// Returns the names and types of the objects at `path`, if there is one.
    async fn list(&self, path: &str) -> Result<Option<Vec<(String, String)>>, QmpError> {
        match self.execute(&QmpCommand::new("qom-list").with("path", path)).await {
            Ok(reply) => Ok(Some(children(&reply))),
            Err(QmpError::Refused { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn execute(&self, command: &QmpCommand) -> Result<Value, QmpError> {
        self.monitors.execute(&self.run.paths, command, self.timeout).await
    }

    fn unavailable(&self, source: Option<QmpError>) -> ScreenError {
        ScreenError::Unavailable { vm: self.vm.clone(), source }
    }
}

fn screendump(file: &dyn PictureFile, device: Option<&str>, as_png: bool) -> QmpCommand {
    let command = QmpCommand::new("screendump").with("filename", shown(file.path()));
    let command = if let Some(device) = device { command.with("device", device) } else { command };
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

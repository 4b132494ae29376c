//! Pictures of a running machine's screen.

use std::time::Duration;

use maqet_domain::error::{Explain, Fault};
use maqet_domain::picture::{PictureFormat, Ppm, UnknownFormat, png_size};
use maqet_domain::port::{PictureError, PicturePlace};
use maqet_domain::qmp::{QmpCommand, QmpError};
use maqet_domain::vm::{Run, VmEntry, VmName};

use crate::app::shown;
use crate::vm::monitor::Monitored;
use crate::{App, Error, HumanDuration};

/// Why there is no picture of a screen.
#[derive(Debug, thiserror::Error)]
pub enum ScreenError {
    /// The machine has no graphics card.
    #[error("the VM `{vm}` has no screen")]
    None {
        /// The VM.
        vm: VmName,
        /// QEMU's words, where it said any.
        source: Option<QmpError>,
    },
    /// The picture could not be handled.
    #[error(transparent)]
    Picture(#[from] PictureError),
    /// The file's name asks for a format that is none.
    #[error(transparent)]
    Format(#[from] UnknownFormat),
}

impl Explain for ScreenError {
    fn code(&self) -> &'static str {
        match self {
            Self::None { .. } => "screen.none",
            Self::Picture(inner) => inner.code(),
            Self::Format(inner) => inner.code(),
        }
    }

    fn fault(&self) -> Fault {
        match self {
            Self::None { .. } => Fault::State,
            Self::Picture(inner) => inner.fault(),
            Self::Format(inner) => inner.fault(),
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::None { vm, .. } => vec![
                format!("give it a graphics card with `maqet apply {vm} --set vga=std`, and start it anew"),
                format!("or read its serial console with `maqet logs {vm}`"),
            ],
            Self::Picture(inner) => inner.hints(),
            Self::Format(inner) => inner.hints(),
        }
    }
}

/// A picture of a screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// The VM.
    pub vm: VmName,
    /// Its format.
    pub format: PictureFormat,
    /// Its width in pixels.
    pub width: u32,
    /// Its height in pixels.
    pub height: u32,
    /// The whole file.
    pub bytes: Vec<u8>,
}

impl App {
    /// Takes a picture of what a running or paused VM shows on its first screen.
    ///
    /// QEMU writes it into the private folder of the run, from where it is read and removed; `timeout` is for QEMU's
    /// answers. A QEMU without PNG (before 7.1, or built without) writes PPM, which is converted here.
    pub async fn screen(
        &self,
        vm: &str,
        format: PictureFormat,
        timeout: Option<HumanDuration>,
    ) -> Result<Picture, Error> {
        let Monitored { entry, run, process } = self.monitored(vm).await?;
        let taken = self.take(&entry, &run, format, timeout).await;
        self.or_unresponsive(&entry.name, &process, taken)
    }

    async fn take(
        &self,
        entry: &VmEntry,
        run: &Run,
        format: PictureFormat,
        timeout: Option<HumanDuration>,
    ) -> Result<Picture, Error> {
        let deadline = timeout.map_or(self.timeouts().qmp, HumanDuration::duration);
        if self.shows_no_guest(run, deadline).await {
            return Err(ScreenError::None { vm: entry.name.clone(), source: None }.into());
        }
        let place = self.ports.pictures.place(&run.paths, format);
        if format == PictureFormat::Png {
            let dumped = self.ports.monitors.execute(&run.paths, &screendump(place.as_ref(), true), deadline).await;
            match dumped {
                Ok(_) => return Ok(picture(entry, format, place.read().map_err(ScreenError::from)?)?),
                // What else it may be that it refuses shows without PNG.
                Err(QmpError::Refused { .. }) => {}
                Err(other) => return Err(other.into()),
            }
        }
        let dumped = self.dump(run, place.as_ref(), deadline).await;
        let bytes = dumped.map_err(|error| without_screen(entry, error))?;
        match format {
            PictureFormat::Ppm => Ok(picture(entry, format, bytes)?),
            PictureFormat::Png => {
                let made = self.ports.pictures.to_png(&bytes).map_err(ScreenError::from)?;
                Ok(picture(entry, format, made)?)
            }
        }
    }
}

impl App {
    /// Returns what the first screen shows, as PPM, whether or not it is a guest's.
    pub(crate) async fn dumped_screen(&self, run: &Run) -> Result<Vec<u8>, Error> {
        let place = self.ports.pictures.place(&run.paths, PictureFormat::Ppm);
        self.dump(run, place.as_ref(), self.timeouts().qmp).await
    }

    async fn dump(&self, run: &Run, place: &dyn PicturePlace, deadline: Duration) -> Result<Vec<u8>, Error> {
        self.ports.monitors.execute(&run.paths, &screendump(place, false), deadline).await?;
        Ok(place.read().map_err(ScreenError::from)?)
    }

    /// Returns whether the first screen is one of QEMU's own, which it has where there is no graphics card and nothing
    /// says what the parallel port is connected to: its picture would be that of an empty terminal.
    async fn shows_no_guest(&self, run: &Run, deadline: Duration) -> bool {
        let command = QmpCommand::new("qom-get").with("path", "/backend/console[0]").with("property", "device");
        // A QEMU that does not know the question is taken at its word when it is asked for the picture.
        self.ports.monitors.execute(&run.paths, &command, deadline).await.is_ok_and(|device| device == "")
    }
}

fn screendump(place: &dyn PicturePlace, as_png: bool) -> QmpCommand {
    let command = QmpCommand::new("screendump").with("filename", shown(place.path()));
    if as_png { command.with("format", "png") } else { command }
}

/// Tells a machine without a screen from other refusals; QEMU has no error class for it (7.2: "There is no console to
/// take a screendump from").
fn without_screen(entry: &VmEntry, error: Error) -> Error {
    let is_none =
        |error: &QmpError| matches!(error, QmpError::Refused { description, .. } if description.contains("no console"));
    match error {
        Error::Qmp(refused) if is_none(&refused) => {
            ScreenError::None { vm: entry.name.clone(), source: Some(refused) }.into()
        }
        other => other,
    }
}

fn picture(entry: &VmEntry, format: PictureFormat, bytes: Vec<u8>) -> Result<Picture, ScreenError> {
    let size = match format {
        PictureFormat::Png => png_size(&bytes),
        PictureFormat::Ppm => Ppm::parse(&bytes).map(|ppm| (ppm.width, ppm.height)),
    };
    let (width, height) = size.ok_or(PictureError::NotAPicture { length: bytes.len() })?;
    Ok(Picture { vm: entry.name.clone(), format, width, height, bytes })
}

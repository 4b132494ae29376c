//! `maqet screenshot`.

use std::io::{self, IsTerminal};

use maqet::domain::picture::PictureFormat;
use maqet::{Maqet, operation};

use crate::args::ScreenshotArgs;
use crate::exit_code;
use crate::failure::Failure;
use crate::render::Output;
use crate::render::progress;
use crate::stream::Stdout;

pub(crate) async fn screenshot(maqet: &Maqet, args: ScreenshotArgs, output: &Output) -> Result<u8, Failure> {
    let what = format!("taking a picture of the screen of `{}`", args.vm);
    let ScreenshotArgs { vm, file, image_format: format, timeout } = args;
    if file.as_os_str() == "-" {
        if io::stdout().is_terminal() {
            let hints = vec!["redirect it into a file or a program, or name a file".to_owned()];
            return Err(Failure::usage("a picture is not written to a terminal", hints));
        }
        let taking = maqet.app().screen(&vm, format.unwrap_or(PictureFormat::Png), timeout);
        let picture = progress::shown(output.shows_progress, &what, taking).await?;
        let stdout = Stdout::open();
        stdout.write(picture.bytes).await;
        stdout.finish().await?;
        return Ok(exit_code::DONE);
    }
    // Absolute, so that whoever reads the result finds the file from elsewhere.
    let file = std::path::absolute(&file)?;
    let work = maqet.run(operation::QmpScreendump::new(vm, file).format(format).timeout(timeout));
    output.show(&progress::shown(output.shows_progress, &what, work).await?)?;
    Ok(exit_code::DONE)
}

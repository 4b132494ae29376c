//! `maqet screenshot`.

use std::io::{self, IsTerminal};

use maqet::domain::picture::PictureFormat;
use maqet::{ErrorReport, Maqet, operation};

use super::absolute;
use crate::args::ScreenshotArgs;
use crate::error::{output_failed, usage};
use crate::exit_code;
use crate::render::Output;
use crate::stream::Stdout;

pub(super) async fn screenshot(maqet: &Maqet, args: ScreenshotArgs, output: &Output) -> Result<u8, ErrorReport> {
    let message = format!("taking a screenshot of `{}`", args.vm);
    let ScreenshotArgs { vm, file, image_format: format, timeout } = args;
    if file.as_os_str() == "-" {
        if io::stdout().is_terminal() {
            return Err(usage("cannot write an image to a terminal").hint("redirect standard output, or pass a file"));
        }
        let screen = maqet.app().screen(&vm, format.unwrap_or(PictureFormat::Png), timeout);
        let picture = output.progress(&message, screen).await?;
        let stdout = Stdout::open();
        stdout.write(picture.bytes).await;
        stdout.finish().await.map_err(output_failed)?;
        return Ok(exit_code::DONE);
    }
    let work = maqet.run(operation::QmpScreendump::new(vm, absolute(&file)?).format(format).timeout(timeout));
    output.finish(&output.progress(&message, work).await?)
}

//! `maqet keys` and `maqet type`.

use std::path::Path;

use maqet::{Maqet, limits, operation};

use super::input::{self, Most};
use crate::args::{KeysArgs, TypeArgs};
use crate::exit_code;
use crate::failure::Failure;
use crate::render::Output;
use crate::render::progress;

/// What is typed at most.
const TYPED: Most = Most {
    bytes: limits::MAX_TYPED_BYTES,
    what: "that are typed at most",
    instead: "bring it to the guest as a file: on a disk, in a shared folder",
};

pub(crate) async fn keys(maqet: &Maqet, args: KeysArgs, output: &Output) -> Result<u8, Failure> {
    let what = format!("pressing keys of `{}`", args.vm);
    let KeysArgs { vm, chords: keys, hold, timeout } = args;
    let work = maqet.run(operation::QmpKeys::new(vm, keys).hold(hold).timeout(timeout));
    let reports = maqet.app().watch_progress();
    output.show(&progress::counted(output.shows_progress, &what, reports, work).await?)?;
    Ok(exit_code::DONE)
}

/// Reads what is to be typed from a file, or from standard input.
///
/// Nothing is refused: it is what a pipe brings whose other end failed, and then `--enter` would confirm who knows what.
async fn read_text(file: Option<&Path>, output: &Output) -> Result<String, Failure> {
    let (text, name) = match file {
        Some(file) => (input::file(file, TYPED)?, file.display().to_string()),
        None => (input::standard_input(TYPED, output).await?, input::STANDARD_INPUT.to_owned()),
    };
    if text.is_empty() {
        let hint = "look at what should have written it; to press Enter alone, use `maqet keys VM enter`";
        return Err(Failure::usage(format!("there is nothing in `{name}` to type"), vec![hint.to_owned()]));
    }
    Ok(text)
}

pub(crate) async fn type_text(maqet: &Maqet, args: TypeArgs, output: &Output) -> Result<u8, Failure> {
    let what = format!("typing at `{}`", args.vm);
    let TypeArgs { vm, text, file, layout, enter, delay, timeout } = args;
    let text = match (text, file) {
        (_, Some(file)) if file == Path::new("-") => read_text(None, output).await?,
        (_, Some(file)) => read_text(Some(&file), output).await?,
        (Some(text), None) if text == "-" => read_text(None, output).await?,
        (text, None) => text.unwrap_or_default(),
    };
    let typing = operation::QmpType::new(vm, text).layout(layout).enter(enter).delay(delay).timeout(timeout);
    let work = maqet.run(typing);
    let reports = maqet.app().watch_progress();
    output.show(&progress::counted(output.shows_progress, &what, reports, work).await?)?;
    Ok(exit_code::DONE)
}

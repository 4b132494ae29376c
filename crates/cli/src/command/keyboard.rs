//! `maqet keys` and `maqet type`.

use std::path::Path;

use maqet::{ErrorReport, Maqet, limits, operation};

use super::input::{self, Limit};
use crate::args::{KeysArgs, TypeArgs};
use crate::error::usage;
use crate::render::Output;

const TEXT_LIMIT: Limit = Limit {
    bytes: limits::MAX_TYPED_BYTES,
    subject: "texts to type",
    hint: "pass it to the guest as a file, on a disk or in a shared directory",
};

pub(super) async fn keys(maqet: &Maqet, args: KeysArgs, output: &Output) -> Result<u8, ErrorReport> {
    let message = format!("pressing keys on `{}`", args.vm);
    let KeysArgs { vm, chords: keys, hold, timeout } = args;
    let work = maqet.run(operation::QmpKeys::new(vm, keys).hold(hold).timeout(timeout));
    output.finish(&output.progress(&message, work).await?)
}

pub(super) async fn type_text(maqet: &Maqet, args: TypeArgs, output: &Output) -> Result<u8, ErrorReport> {
    let message = format!("typing on `{}`", args.vm);
    let TypeArgs { vm, text, file, layout, enter, delay, timeout } = args;
    let text = match (text, file) {
        (_, Some(file)) if file == Path::new("-") => read_text(None, output).await?,
        (_, Some(file)) => read_text(Some(&file), output).await?,
        (Some(text), None) if text == "-" => read_text(None, output).await?,
        (text, None) => text.unwrap_or_default(),
    };
    let typing = operation::QmpType::new(vm, text).layout(layout).enter(enter).delay(delay).timeout(timeout);
    let work = maqet.run(typing);
    output.finish(&output.progress(&message, work).await?)
}

/// Reads the text to type from a file, or from standard input.
///
/// An empty text is refused: it comes from a pipe whose other end failed, and `--enter` would then confirm an unknown
/// prompt.
async fn read_text(file: Option<&Path>, output: &Output) -> Result<String, ErrorReport> {
    let (text, name) = match file {
        Some(file) => (input::file(file, TEXT_LIMIT)?, file.display().to_string()),
        None => (input::standard_input(TEXT_LIMIT, output).await?, input::STANDARD_INPUT.to_owned()),
    };
    if text.is_empty() {
        let hint = "check the command that writes it; to press only Enter, run `maqet keys VM enter`";
        return Err(usage(format!("no text to type: `{name}` is empty")).hint(hint));
    }
    Ok(text)
}

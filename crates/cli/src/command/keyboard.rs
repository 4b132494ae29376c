//! `maqet keys` and `maqet type`.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use maqet::{Maqet, limits, operation};

use crate::arguments::{Keys, Type};
use crate::exit;
use crate::failure::Failure;
use crate::progress;
use crate::render::Output;

pub(crate) async fn keys(maqet: &Maqet, arguments: Keys, output: &Output) -> Result<u8, Failure> {
    let what = format!("pressing keys of `{}`", arguments.vm);
    let Keys { vm, chords: keys, hold, timeout } = arguments;
    let work = maqet.run(operation::QmpKeys { vm, keys, hold, timeout });
    let reports = maqet.app().watch_progress();
    output.show(&progress::counted(output.shows_progress, &what, reports, work).await?)?;
    Ok(exit::DONE)
}

pub(crate) async fn type_text(maqet: &Maqet, arguments: Type, output: &Output) -> Result<u8, Failure> {
    let what = format!("typing at `{}`", arguments.vm);
    let Type { vm, text, file, layout, enter, delay, timeout } = arguments;
    let text = match (text, file) {
        (_, Some(file)) => read_file(&file)?,
        (Some(text), None) if text == "-" => read_input().await?,
        (text, None) => text.unwrap_or_default(),
    };
    let work = maqet.run(operation::QmpType { vm, text, layout, enter, delay, timeout });
    let reports = maqet.app().watch_progress();
    output.show(&progress::counted(output.shows_progress, &what, reports, work).await?)?;
    Ok(exit::DONE)
}

fn read_file(path: &Path) -> Result<String, Failure> {
    let name = path.display().to_string();
    let file = File::open(path).map_err(|error| unreadable(&name, &error))?;
    read(file, &name)
}

/// Reads standard input on a thread of its own, which is not waited for: nobody may ever write to it, and Ctrl-C has
/// to be answered all the same.
async fn read_input() -> Result<String, Failure> {
    let (tell, told) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        // Nobody may want to know any more.
        let _ = tell.send(read(io::stdin().lock(), "standard input"));
    });
    told.await.unwrap_or_else(|_| Ok(String::new()))
}

/// Reads a text that can be typed: one byte more than is allowed is enough to be told so.
fn read(stream: impl Read, name: &str) -> Result<String, Failure> {
    let most = u64::try_from(limits::TYPED_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    stream.take(most).read_to_end(&mut bytes).map_err(|error| unreadable(name, &error))?;
    if bytes.len() > limits::TYPED_BYTES {
        return Err(Failure::usage(
            format!("`{name}` has more than the {} bytes that are typed at most", limits::TYPED_BYTES),
            vec!["bring it to the guest as a file: on a disk, in a shared folder".to_owned()],
        ));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Failure::usage(format!("`{name}` is not UTF-8 text (byte {at} is not)"), Vec::new())
    })
}

fn unreadable(name: &str, error: &io::Error) -> Failure {
    Failure { causes: vec![error.to_string()], ..Failure::usage(format!("could not read `{name}`"), Vec::new()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_read_text_at_the_limit_is_taken_and_longer_one_refused() {
        let most = vec![b'x'; limits::TYPED_BYTES];

        assert_eq!(read(most.as_slice(), "t").unwrap().len(), limits::TYPED_BYTES);
        assert!(read([most, vec![b'x']].concat().as_slice(), "t").unwrap_err().message.contains("65536 bytes"));
    }

    #[test]
    fn test_read_bytes_that_are_no_text_are_refused_with_their_place() {
        assert_eq!(read(b"ab\xff".as_slice(), "t").unwrap_err().message, "`t` is not UTF-8 text (byte 2 is not)");
    }
}

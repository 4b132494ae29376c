//! Texts that are given in a file or on standard input.

use std::fs::File;
use std::io::{self, IsTerminal, Read, StdinLock};
use std::path::Path;

use crate::failure::Failure;
use crate::render::Output;

/// What standard input is called.
pub(super) const STANDARD_INPUT: &str = "standard input";

/// How long a text may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Most {
    pub(super) bytes: usize,
    /// Says what this limit is of, behind the number of bytes.
    pub(super) what: &'static str,
    /// Says what to do with a longer one.
    pub(super) instead: &'static str,
}

/// Reads a file.
pub(super) fn file(path: &Path, most: Most) -> Result<String, Failure> {
    let name = path.display().to_string();
    let file = File::open(path).map_err(|error| unreadable(&name, &error))?;
    read(file, &name, most)
}

/// Reads a text from standard input.
pub(super) async fn standard_input(most: Most, output: &Output) -> Result<String, Failure> {
    from_standard_input(output, move |stream| read(stream, STANDARD_INPUT, most)).await
}

/// Reads standard input on a thread of its own, which is not waited for: nobody may ever write to it, and Ctrl-C has
/// to be answered all the same.
pub(super) async fn from_standard_input<T: Send + 'static>(
    output: &Output,
    read: impl FnOnce(StdinLock<'static>) -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    if io::stdin().is_terminal() {
        output.note("reading standard input: end it with Ctrl-D on an empty line");
    }
    let (tell, told) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        // Nobody may want to know any more.
        let _ = tell.send(read(io::stdin().lock()));
    });
    told.await.unwrap_or_else(|_| Err(Failure::usage(format!("could not read `{STANDARD_INPUT}`"), Vec::new())))
}

/// Reads a text: one byte more than is allowed is enough to be told so.
fn read(stream: impl Read, name: &str, most: Most) -> Result<String, Failure> {
    let enough = u64::try_from(most.bytes).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    stream.take(enough).read_to_end(&mut bytes).map_err(|error| unreadable(name, &error))?;
    if bytes.len() > most.bytes {
        return Err(Failure::usage(
            format!("`{name}` has more than the {} bytes {}", most.bytes, most.what),
            vec![most.instead.to_owned()],
        ));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Failure::usage(format!("`{name}` is not UTF-8 text (byte {at} is not)"), Vec::new())
    })
}

/// Returns the failure of something that could not be read.
pub(super) fn unreadable(name: &str, error: &io::Error) -> Failure {
    Failure { causes: vec![error.to_string()], ..Failure::usage(format!("could not read `{name}`"), Vec::new()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: Most = Most { bytes: 100, what: "that are typed at most", instead: "bring it" };

    #[test]
    fn test_read_text_at_the_limit_is_taken_and_longer_one_refused() {
        let most = vec![b'x'; MOST.bytes];

        assert_eq!(read(most.as_slice(), "t", MOST).unwrap().len(), MOST.bytes);
        let longer = read([most, vec![b'x']].concat().as_slice(), "t", MOST).unwrap_err();
        assert!(longer.message.contains("100 bytes that are typed at most"));
    }

    #[test]
    fn test_read_bytes_that_are_no_text_are_refused_with_their_place() {
        assert_eq!(read(b"ab\xff".as_slice(), "t", MOST).unwrap_err().message, "`t` is not UTF-8 text (byte 2 is not)");
    }
}

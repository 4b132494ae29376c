//! Text from files and standard input.

use std::fs::File;
use std::io::{self, IsTerminal, Read, StdinLock};
use std::path::Path;

use maqet::ErrorReport;

use crate::error::usage;
use crate::render::Output;

/// The name of standard input in messages.
pub(super) const STANDARD_INPUT: &str = "standard input";

/// The largest text that is accepted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    pub(super) bytes: usize,
    /// What has this limit, as in `QMP arguments`.
    pub(super) subject: &'static str,
    /// What to do with a longer text.
    pub(super) hint: &'static str,
}

/// Reads a file.
pub(super) fn file(path: &Path, limit: Limit) -> Result<String, ErrorReport> {
    let name = path.display().to_string();
    let file = File::open(path).map_err(|error| unreadable(&name, &error))?;
    read(file, &name, limit)
}

/// Reads standard input.
pub(super) async fn standard_input(limit: Limit, output: &Output) -> Result<String, ErrorReport> {
    from_standard_input(output, move |stream| read(stream, STANDARD_INPUT, limit)).await
}

/// Reads standard input on its own thread, which is never joined: a blocked read must not delay Ctrl-C.
pub(super) async fn from_standard_input<T: Send + 'static>(
    output: &Output,
    read: impl FnOnce(StdinLock<'static>) -> Result<T, ErrorReport> + Send + 'static,
) -> Result<T, ErrorReport> {
    if io::stdin().is_terminal() {
        output.note("reading standard input; press Ctrl-D on an empty line to end it");
    }
    let (sender, receiver) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        // The receiver is gone after Ctrl-C.
        let _ = sender.send(read(io::stdin().lock()));
    });
    receiver.await.unwrap_or_else(|_| Err(usage(format!("cannot read {STANDARD_INPUT}"))))
}

/// Reads a text, and one byte more than the limit to detect a longer one.
fn read(stream: impl Read, name: &str, limit: Limit) -> Result<String, ErrorReport> {
    let most = u64::try_from(limit.bytes).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    stream.take(most).read_to_end(&mut bytes).map_err(|error| unreadable(name, &error))?;
    if bytes.len() > limit.bytes {
        let message = format!("`{name}` is too large: {} are limited to {} bytes", limit.subject, limit.bytes);
        return Err(usage(message).hint(limit.hint));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        usage(format!("`{name}` is not UTF-8: invalid byte at offset {at}"))
    })
}

/// Returns the error for a file or stream that cannot be read.
pub(super) fn unreadable(name: &str, error: &io::Error) -> ErrorReport {
    usage(format!("cannot read `{name}`")).cause(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Limit = Limit { bytes: 100, subject: "texts", hint: "use a file" };

    #[test]
    fn test_read_text_at_the_limit_is_accepted_and_longer_refused() {
        let longest = vec![b'x'; LIMIT.bytes];

        assert_eq!(read(longest.as_slice(), "t", LIMIT).unwrap().len(), LIMIT.bytes);
        let error = read([longest, vec![b'x']].concat().as_slice(), "t", LIMIT).unwrap_err();
        assert_eq!(error.message, "`t` is too large: texts are limited to 100 bytes");
    }

    #[test]
    fn test_read_invalid_utf8_is_refused_with_its_offset() {
        let error = read(b"ab\xff".as_slice(), "t", LIMIT).unwrap_err();

        assert_eq!(error.message, "`t` is not UTF-8: invalid byte at offset 2");
    }
}

//! Reading the files of `/proc`.
//!
//! They have no length, so that reading them as usual begins with 32 bytes and takes a system call for each doubling.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// More than most of these files have.
const USUAL_BYTES: usize = 4_096;

/// Reads a file of `/proc`.
pub(crate) fn read(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(USUAL_BYTES);
    // With a limit, the length is not asked for.
    File::open(path)?.take(u64::MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Does the same for a file that is text.
pub(crate) fn read_text(path: impl AsRef<Path>) -> io::Result<String> {
    String::from_utf8(read(path)?).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn test_read_file_of_any_length_is_complete() {
        let folder = tempfile::tempdir().unwrap();
        for length in [0, 1, USUAL_BYTES - 1, USUAL_BYTES, USUAL_BYTES + 1, 100_000] {
            let (file, content) = (folder.path().join(length.to_string()), vec![b'x'; length]);
            fs::write(&file, &content).unwrap();

            assert_eq!(read(&file).unwrap(), content);
        }
    }

    #[test]
    fn test_read_text_of_other_bytes_is_an_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), b"\xff").unwrap();

        assert_eq!(read_text(file.path()).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(read_text("/proc/self/comm").unwrap(), fs::read_to_string("/proc/self/comm").unwrap());
    }
}

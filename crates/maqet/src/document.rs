//! Reads a configuration file from the disk.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use maqet_application::config::Document;
use maqet_application::limits;
use maqet_domain::{Explain, Fault};

/// Why a file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It is not there, may not be read, or is a folder.
    #[error("could not read `{}`", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is larger than any configuration.
    #[error("`{}` is larger than {} bytes, so it is no configuration", path.display(), limits::CONFIG_BYTES)]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// It is no text.
    #[error("`{}` is not UTF-8 text (byte {at} is not)", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
        /// The first byte that is not.
        at: usize,
    },
}

impl Explain for ReadError {
    fn code(&self) -> &'static str {
        match self {
            Self::Io { .. } => "config.unreadable",
            Self::TooLarge { .. } => "config.too-large",
            Self::NotText { .. } => "config.not-text",
        }
    }

    fn fault(&self) -> Fault {
        Fault::Usage
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Io { .. } => vec!["look at the path and at the permissions of the file".to_owned()],
            Self::TooLarge { .. } | Self::NotText { .. } => vec!["name a YAML file".to_owned()],
        }
    }
}

/// Reads a file whole, as long as it can be a configuration.
///
/// Relative paths in it are relative to its folder, which becomes absolute here.
pub fn read_document(path: &Path) -> Result<Document, ReadError> {
    let io = |source| ReadError::Io { path: path.to_owned(), source };
    let absolute = std::path::absolute(path).map_err(io)?;
    let folder = absolute.parent().unwrap_or(Path::new("/")).to_owned();
    let file = File::open(path).map_err(io)?;
    read_from(file, path, folder)
}

/// Reads a stream as if it were the file `path` in `folder`.
pub(crate) fn read_from(stream: impl Read, path: &Path, folder: PathBuf) -> Result<Document, ReadError> {
    let most = u64::try_from(limits::CONFIG_BYTES).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    let read = stream.take(most.saturating_add(1)).read_to_end(&mut bytes);
    read.map_err(|source| ReadError::Io { path: path.to_owned(), source })?;
    if bytes.len() > limits::CONFIG_BYTES {
        return Err(ReadError::TooLarge { path: path.to_owned() });
    }
    let text = String::from_utf8(bytes)
        .map_err(|error| ReadError::NotText { path: path.to_owned(), at: error.utf8_error().valid_up_to() })?;
    Ok(Document { name: path.display().to_string(), folder, text })
}

impl crate::Maqet {
    /// Reads a document from a stream, such as standard input; `name` is what messages call it.
    pub fn read_stream(stream: impl Read, name: &str, folder: PathBuf) -> Result<Document, ReadError> {
        read_from(stream, Path::new(name), folder)
    }
}

//! Reads a configuration file from the disk.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use maqet_application::config::Document;
use maqet_application::limits;
use maqet_domain::text::quote;
use maqet_domain::{Explain, Fault};

use crate::writers::{Insecurity, Writers};

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
    /// Somebody else can write it, and with it what QEMU is told to do.
    #[error("`{}` is not safe to use: {insecurity}", path.display())]
    Insecure {
        /// The file.
        path: PathBuf,
        /// Who can write it.
        insecurity: Insecurity,
    },
}

impl Explain for ReadError {
    fn code(&self) -> &'static str {
        match self {
            Self::Io { .. } => "config.unreadable",
            Self::TooLarge { .. } => "config.too-large",
            Self::NotText { .. } => "config.not-text",
            Self::Insecure { .. } => "config.insecure",
        }
    }

    fn fault(&self) -> Fault {
        Fault::Usage
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Io { .. } => vec!["look at the path and at the permissions of the file".to_owned()],
            Self::TooLarge { .. } | Self::NotText { .. } => vec!["name a YAML file".to_owned()],
            Self::Insecure { path, insecurity } => {
                let mut hints = vec![insecurity.remedy(&quote(&path.to_string_lossy()))];
                if matches!(insecurity, Insecurity::GroupWrites { .. }) {
                    hints
                        .push("new files are made so where the umask is 002; with `umask 022` they are not".to_owned());
                }
                hints.push("use it all the same with `--allow-insecure-config`".to_owned());
                hints
            }
        }
    }
}

/// Reads a file whole, as long as it can be a configuration and nobody but `writers` can have written it.
///
/// Relative paths in it are relative to its folder, which becomes absolute here. What is checked is the opened file,
/// so that no other can be put in its place between the check and the reading; of a link that is where it leads.
pub fn read_document(path: &Path, writers: Writers) -> Result<Document, ReadError> {
    let io = |source| ReadError::Io { path: path.to_owned(), source };
    let absolute = std::path::absolute(path).map_err(io)?;
    let folder = absolute.parent().unwrap_or(Path::new("/")).to_owned();
    let file = File::open(path).map_err(io)?;
    match writers.refused(&file, path).map_err(io)? {
        Some(insecurity) => Err(ReadError::Insecure { path: path.to_owned(), insecurity }),
        None => read_from(file, path, folder),
    }
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

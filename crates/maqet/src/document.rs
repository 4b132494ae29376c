//! Reads configuration files from disk.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use maqet_application::config::Document;
use maqet_application::limits;
use maqet_domain::error::Explanation;
use maqet_domain::text::quote;
use maqet_domain::{Explain, Fault};

use crate::permissions::{InsecureFiles, Insecurity};

/// Why a file could not be read.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum ReadError {
    #[error("cannot read `{}`", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("`{}` is too large for a configuration: more than {} bytes", path.display(), limits::MAX_CONFIG_BYTES)]
    TooLarge { path: PathBuf },
    #[error("`{}` is not UTF-8 text: invalid byte at offset {offset}", path.display())]
    NotText { path: PathBuf, offset: usize },
    #[error("refusing to use `{}`: {insecurity}", path.display())]
    Insecure { path: PathBuf, insecurity: Insecurity },
}

impl Explain for ReadError {
    fn explain(&self) -> Explanation {
        match self {
            Self::Io { .. } => Explanation::new("config.unavailable", Fault::Usage)
                .hint("check the path and the permissions of the file"),
            Self::TooLarge { .. } => Explanation::new("config.too-large", Fault::Usage).hint("pass a YAML file"),
            Self::NotText { .. } => Explanation::new("config.encoding-invalid", Fault::Usage).hint("pass a YAML file"),
            Self::Insecure { path, insecurity } => {
                let file = quote(&path.to_string_lossy());
                let explanation = Explanation::new("config.permissions-insecure", Fault::Usage);
                match insecurity {
                    Insecurity::GroupWrites { .. } => explanation
                        .hint(format!("check its content, then run `chmod go-w {file}`"))
                        .hint("set `umask 022` to create files that the group cannot write"),
                    Insecurity::OthersWrite { .. } => {
                        explanation.hint(format!("check its content, then run `chmod go-w {file}`"))
                    }
                    Insecurity::OtherOwner { .. } => explanation.hint("check its content, and use a copy that you own"),
                    Insecurity::OpenDirectory { .. } => {
                        explanation.hint("move it to a directory that only you can write")
                    }
                }
                .hint("pass `--allow-insecure-config` to use it anyway")
            }
        }
    }
}

/// Reads a whole file, if it is small enough for a configuration and other users cannot write it.
///
/// Relative paths in it are relative to its directory, which becomes absolute here. The opened file is checked, so that
/// it cannot be replaced between check and read; for a symbolic link that is its target.
pub fn read_document(path: &Path, insecure_files: InsecureFiles) -> Result<Document, ReadError> {
    let io_error = |source| ReadError::Io { path: path.to_owned(), source };
    let absolute = std::path::absolute(path).map_err(io_error)?;
    let folder = absolute.parent().unwrap_or(Path::new("/")).to_owned();
    let file = File::open(path).map_err(io_error)?;
    match insecure_files.check(&file, path).map_err(io_error)? {
        Some(insecurity) => Err(ReadError::Insecure { path: path.to_owned(), insecurity }),
        None => read_from(file, path, folder),
    }
}

/// Reads a stream as if it were the file `path` in `folder`.
pub(crate) fn read_from(stream: impl Read, path: &Path, folder: PathBuf) -> Result<Document, ReadError> {
    let limit = u64::try_from(limits::MAX_CONFIG_BYTES).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    let read = stream.take(limit.saturating_add(1)).read_to_end(&mut bytes);
    read.map_err(|source| ReadError::Io { path: path.to_owned(), source })?;
    if bytes.len() > limits::MAX_CONFIG_BYTES {
        return Err(ReadError::TooLarge { path: path.to_owned() });
    }
    let text = String::from_utf8(bytes)
        .map_err(|error| ReadError::NotText { path: path.to_owned(), offset: error.utf8_error().valid_up_to() })?;
    Ok(Document::new(path.display().to_string(), folder, text))
}

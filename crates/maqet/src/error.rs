//! Why maqet could not be opened.

use std::path::PathBuf;

use maqet_application::config::ConfigError;
use maqet_domain::error::Cause;
use maqet_domain::port::StoreError;
use maqet_domain::registry::DuplicateName;
use maqet_domain::text::did_you_mean;
use maqet_domain::{Explain, Fault};

use crate::document::ReadError;

/// Why maqet could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Neither `HOME` nor the variables that would do instead are set.
    #[error("there is no home folder: `HOME` is not set to an absolute path")]
    NoHome,
    /// A folder cannot be used.
    #[error("the folder `{}` cannot be used", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: Cause,
    },
    /// The database's URL names no store that is known.
    #[error("`{url}` names no database that maqet knows")]
    UnknownStore {
        /// What was given.
        url: String,
        /// The schemes that are known.
        known: Vec<String>,
        /// Schemes that look like it.
        similar: Vec<String>,
    },
    /// A file could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The settings file is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The store could not be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A plug-in brings a name that is there already.
    #[error(transparent)]
    Plugin(#[from] DuplicateName),
}

impl Explain for OpenError {
    fn code(&self) -> &'static str {
        match self {
            Self::NoHome => "host.no-home",
            Self::Folder { .. } => "host.folder",
            Self::UnknownStore { .. } => "store.unknown",
            Self::Read(inner) => inner.code(),
            Self::Config(inner) => inner.code(),
            Self::Store(inner) => inner.code(),
            Self::Plugin(inner) => inner.code(),
        }
    }

    fn fault(&self) -> Fault {
        match self {
            Self::NoHome | Self::Folder { .. } => Fault::Host,
            Self::UnknownStore { .. } => Fault::Usage,
            Self::Read(inner) => inner.fault(),
            Self::Config(inner) => inner.fault(),
            Self::Store(inner) => inner.fault(),
            Self::Plugin(inner) => inner.fault(),
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::NoHome => vec!["set `HOME`, or name the folders with `--data-dir` and the other flags".to_owned()],
            Self::Folder { .. } => vec!["look at its owner and permissions, or choose another folder".to_owned()],
            Self::UnknownStore { known, similar, .. } => {
                let schemes = known.iter().map(|scheme| format!("`{scheme}:`")).collect::<Vec<_>>().join(", ");
                vec![did_you_mean(similar).unwrap_or_else(|| format!("begin it with one of {schemes}, or give a path"))]
            }
            Self::Read(inner) => inner.hints(),
            Self::Config(inner) => inner.hints(),
            Self::Store(inner) => inner.hints(),
            Self::Plugin(inner) => inner.hints(),
        }
    }
}

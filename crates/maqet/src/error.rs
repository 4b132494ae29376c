//! Errors of opening maqet.

use std::path::PathBuf;

use maqet_application::ErrorReport;
use maqet_application::config::ConfigError;
use maqet_domain::error::{Cause, Explanation};
use maqet_domain::port::StoreError;
use maqet_domain::registry::DuplicateName;
use maqet_domain::{Explain, Fault};

use crate::document::ReadError;

/// Why maqet could not be opened.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum OpenError {
    #[error("cannot find the home directory: `HOME` is not set to an absolute path")]
    NoHome,
    #[error("cannot use the directory `{}`", path.display())]
    Directory { path: PathBuf, source: Cause },
    #[error("unsupported database URL `{url}`")]
    UnknownStore { url: String, known: Vec<String>, similar: Vec<String> },
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Plugin(#[from] DuplicateName),
}

impl Explain for OpenError {
    fn explain(&self) -> Explanation {
        match self {
            Self::NoHome => Explanation::new("host.home-required", Fault::Host)
                .hint("set `HOME`, or choose the directories with `--data-dir` and the other options"),
            Self::Directory { .. } => Explanation::new("host.directory-unavailable", Fault::Host)
                .hint("check its owner and permissions, or choose another directory"),
            Self::UnknownStore { known, similar, .. } => {
                let schemes = known.iter().map(|scheme| format!("`{scheme}:`")).collect::<Vec<_>>().join(", ");
                Explanation::new("store.url-unsupported", Fault::Usage)
                    .did_you_mean(similar)
                    .or_hint(format!("use a path, or a URL that begins with {schemes}"))
            }
            Self::Read(error) => error.explain(),
            Self::Config(error) => error.explain(),
            Self::Store(error) => error.explain(),
            Self::Plugin(error) => error.explain(),
        }
    }
}

impl From<OpenError> for ErrorReport {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Config(config) => config.into(),
            other => Self::from_error(&other),
        }
    }
}

impl From<ReadError> for ErrorReport {
    fn from(error: ReadError) -> Self {
        Self::from_error(&error)
    }
}

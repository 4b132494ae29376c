//! A failure on its way to standard error.

use maqet::domain::config::Problem;
use maqet::{ConfigError, Error, Explain, Fault, OpenError};

/// What is shown of a failure, whatever failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: String,
    pub(crate) fault: Fault,
    pub(crate) message: String,
    pub(crate) causes: Vec<String>,
    pub(crate) hints: Vec<String>,
    /// What is wrong in a configuration, with the texts it stands in.
    pub(crate) config: Option<ConfigError>,
}

impl Failure {
    /// Makes the failure of a request that makes no sense.
    pub(crate) fn usage(message: impl Into<String>, hints: Vec<String>) -> Self {
        Self {
            code: "usage".to_owned(),
            fault: Fault::Usage,
            message: message.into(),
            causes: Vec::new(),
            hints,
            config: None,
        }
    }

    /// Makes the failure of an error that explains itself.
    pub(crate) fn explained(error: &(impl Explain + 'static)) -> Self {
        let mut causes = Vec::new();
        let mut source = error.source();
        while let Some(cause) = source {
            causes.push(cause.to_string());
            source = cause.source();
        }
        Self {
            code: error.code().to_owned(),
            fault: error.fault(),
            message: error.to_string(),
            causes,
            hints: error.hints(),
            config: None,
        }
    }

    /// Returns what is wrong in a configuration.
    pub(crate) fn problems(&self) -> &[Problem] {
        self.config.as_ref().map_or(&[], |config| &config.problems)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let failure = Self::explained(&error);
        let config = if let Error::Config(config) = error { Some(config) } else { None };
        Self { config, ..failure }
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        let failure = Self::explained(&error);
        let config = if let OpenError::Config(config) = error { Some(config) } else { None };
        Self { config, ..failure }
    }
}

impl From<maqet::ReadError> for Failure {
    fn from(error: maqet::ReadError) -> Self {
        Self::explained(&error)
    }
}

/// Standard output is gone or full.
impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self {
            code: "output".to_owned(),
            fault: Fault::Failed,
            message: "could not write the result".to_owned(),
            causes: vec![error.to_string()],
            hints: Vec::new(),
            config: None,
        }
    }
}

//! An error as front ends show it: the same fields in a terminal, in JSON output and from a server.

use maqet_domain::config::Problem;
use maqet_domain::error::{Explain, Explanation, Fault};
use serde::Serialize;
use serde_json::{Value, json};

use crate::config::{ConfigError, Sources};
use crate::error::Error;

/// An error and everything it says, independent of its type.
///
/// Serialized, it is the object under `error` in the JSON output; [`ErrorReport::to_document`] is that document.
///
/// ```
/// use maqet_application::ErrorReport;
/// use maqet_domain::error::{Explanation, Fault};
///
/// let report = ErrorReport::new("no VM `wbe`", Explanation::new("vm.not-found", Fault::NotFound));
/// assert_eq!(report.to_document()["error"]["code"], "vm.not-found");
/// ```
#[derive(Debug, Clone, Serialize)]
pub struct ErrorReport {
    /// The stable name of the failure, as in `vm.not-found`.
    pub code: &'static str,
    /// Who is at fault, from which a front end derives its exit code or HTTP status.
    #[serde(skip)]
    pub fault: Fault,
    /// What went wrong.
    pub message: String,
    /// Why, from the nearest cause to the first.
    pub causes: Vec<String>,
    /// What the reader can do, each starting with a verb.
    pub hints: Vec<String>,
    /// The problems of an invalid configuration, in the order of its files.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Problem>,
    /// The texts that the problems refer to.
    #[serde(skip)]
    pub sources: Sources,
}

impl ErrorReport {
    /// Makes a report that does not come from an error type.
    pub fn new(message: impl Into<String>, explanation: Explanation) -> Self {
        let Explanation { code, fault, hints } = explanation;
        Self {
            code,
            fault,
            message: message.into(),
            causes: Vec::new(),
            hints,
            problems: Vec::new(),
            sources: Sources::default(),
        }
    }

    /// Makes the report of an error, with its chain of sources as causes.
    pub fn from_error(error: &(impl Explain + 'static)) -> Self {
        let causes = std::iter::successors(error.source(), |cause| cause.source()).map(ToString::to_string).collect();
        Self { causes, ..Self::new(error.to_string(), error.explain()) }
    }

    /// Adds a cause.
    #[must_use]
    pub fn cause(mut self, cause: &impl ToString) -> Self {
        self.causes.push(cause.to_string());
        self
    }

    /// Adds a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Returns the JSON document for this error: `{"error": {"code": …, "message": …, "causes": […], "hints": […]}}`.
    pub fn to_document(&self) -> Value {
        json!({ "error": self })
    }
}

impl From<ConfigError> for ErrorReport {
    fn from(error: ConfigError) -> Self {
        let report = Self::from_error(&error);
        let ConfigError { problems, sources } = error;
        Self { problems, sources, ..report }
    }
}

impl From<Error> for ErrorReport {
    fn from(error: Error) -> Self {
        match error {
            Error::Config(config) => config.into(),
            other => Self::from_error(&other),
        }
    }
}

#[cfg(test)]
mod tests {
    use maqet_domain::config::{Diagnostics, KeyPath};

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot start `web`")]
    struct Failed(#[source] std::io::Error);

    impl Explain for Failed {
        fn explain(&self) -> Explanation {
            Explanation::new("vm.start-failed", Fault::Failed).hint("run `maqet logs web --qemu`")
        }
    }

    #[test]
    fn test_report_of_error_has_causes_and_hints() {
        let report = ErrorReport::from_error(&Failed(std::io::Error::other("no space")));

        let expected = json!({ "error": {
            "code": "vm.start-failed",
            "message": "cannot start `web`",
            "causes": ["no space"],
            "hints": ["run `maqet logs web --qemu`"],
        }});
        assert_eq!(report.to_document(), expected);
        assert_eq!(report.fault, Fault::Failed);
    }

    #[test]
    fn test_report_of_config_error_has_problems() {
        let node = crate::config::read("web.yaml", "memry: 1G").unwrap();
        let mut diagnostics = Diagnostics::default();
        diagnostics.unknown_key(&KeyPath::top("memry"), &node, &["memory"]);

        let report = ErrorReport::from(ConfigError::new(diagnostics.into_problems(), Sources::default()));

        let error = &report.to_document()["error"];
        assert_eq!((&error["code"], &error["problems"][0]["path"]), (&json!("config.invalid"), &json!("memry")));
    }
}

//! Errors of tasks, with cause and hints.

use std::error::Error;
use std::iter;

/// A failed task: what failed (`Display`), why (`source`), how to fix it (hints).
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub(crate) struct Failure {
    what: String,
    #[source]
    cause: Option<Box<dyn Error + Send + Sync>>,
    hints: Vec<String>,
}

impl Failure {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), cause: None, hints: Vec::new() }
    }

    pub(crate) fn because(self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { cause: Some(cause.into()), ..self }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Prints the failure to standard error, with one line for each cause and hint.
    pub(crate) fn print(&self) {
        let red = anstyle::AnsiColor::Red.on_default().bold();
        let bold = anstyle::Style::new().bold();

        anstream::eprintln!("{red}error:{red:#} {self}");
        for cause in iter::successors(self.source(), |&cause| cause.source()) {
            anstream::eprintln!("  {bold}because:{bold:#} {cause}");
        }
        for hint in &self.hints {
            anstream::eprintln!("  {bold}hint:{bold:#} {hint}");
        }
    }
}

/// Turns an error into a failure that names the failed action.
pub(crate) trait OrFailure<T> {
    /// Names the failed action, as in "cannot write `x`".
    fn or_failure(self, what: impl FnOnce() -> String) -> super::Result<T>;
}

impl<T, E: Error + Send + Sync + 'static> OrFailure<T> for Result<T, E> {
    fn or_failure(self, what: impl FnOnce() -> String) -> super::Result<T> {
        self.map_err(|error| Failure::new(what()).because(error))
    }
}

//! What every error reports beyond its message.
//!
//! The message (`Display`) says what went wrong, `source()` says why, and [`Explain::explain`] returns the rest: the
//! stable code that scripts compare, who is at fault, and what the reader can do.

use crate::text::did_you_mean;

/// The source of an error whose type is private to an adapter.
pub type Cause = Box<dyn std::error::Error + Send + Sync + 'static>;

/// Who is at fault for an error; the command line turns it into the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The work was tried and failed.
    Failed,
    /// The request itself is invalid: a flag, a file, a value.
    Usage,
    /// A VM, drive or snapshot does not exist.
    NotFound,
    /// The thing exists and is in the wrong state, or its name is in use.
    State,
    /// The host cannot do it: a tool, a permission or a capability is missing.
    Host,
    /// Another process holds it; a retry may succeed.
    Busy,
    /// The deadline passed; the work may still complete.
    TimedOut,
}

/// What an error says beyond its message.
///
/// ```
/// use maqet_domain::error::{Explanation, Fault};
///
/// let explanation = Explanation::new("vm.not-found", Fault::NotFound).hint("list the VMs with `maqet ls`");
/// assert_eq!(explanation.hints, ["list the VMs with `maqet ls`"]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The stable name of this failure, as in `vm.not-found`; it never changes once released.
    pub code: &'static str,
    /// Who is at fault.
    pub fault: Fault,
    /// What the reader can do, each starting with a verb.
    pub hints: Vec<String>,
}

impl Explanation {
    /// Makes an explanation without hints.
    pub const fn new(code: &'static str, fault: Fault) -> Self {
        Self { code, fault, hints: Vec::new() }
    }

    /// Adds a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Adds a hint that names what was probably meant, if `similar` holds anything.
    #[must_use]
    pub fn did_you_mean(mut self, similar: &[String]) -> Self {
        self.hints.extend(did_you_mean(similar));
        self
    }

    /// Adds `hint` if there is no hint yet.
    #[must_use]
    pub fn or_hint(self, hint: impl Into<String>) -> Self {
        if self.hints.is_empty() { self.hint(hint) } else { self }
    }
}

/// An error that can be shown to a person and compared by a script.
pub trait Explain: std::error::Error {
    /// Returns the code, the fault and the hints of this error.
    fn explain(&self) -> Explanation;

    /// Returns the stable name of this failure.
    fn code(&self) -> &'static str {
        self.explain().code
    }

    /// Returns who is at fault.
    fn fault(&self) -> Fault {
        self.explain().fault
    }

    /// Returns what the reader can do about it.
    fn hints(&self) -> Vec<String> {
        self.explain().hints
    }
}

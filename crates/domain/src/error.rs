//! What every error of maqet can say of itself beyond its message.
//!
//! The message (`Display`) says what went wrong, `source()` says why, [`Explain::hints`] says what
//! to do, [`Explain::fault`] whose fault it is, and [`Explain::code`] is the stable name scripts
//! compare with.

/// The source of an error whose type is an adapter's own business.
pub type Cause = Box<dyn std::error::Error + Send + Sync + 'static>;

/// Whose fault an error is; the command line turns it into the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The work was tried and failed.
    Failed,
    /// The request itself is wrong: a flag, a file, a value.
    Usage,
    /// A VM, drive or snapshot that is not there.
    NotFound,
    /// The thing is there and in the wrong state, or its name is taken.
    State,
    /// The host cannot: a tool, a permission or an ability is missing.
    Host,
    /// Somebody else holds it; trying again may work.
    Busy,
    /// The deadline passed; the work may still complete.
    TimedOut,
}

/// An error that can be shown to a person and compared by a script.
pub trait Explain: std::error::Error {
    /// Returns the stable name of this failure, as in `vm.not-found`; it never changes once released.
    fn code(&self) -> &'static str;

    /// Returns whose fault it is.
    fn fault(&self) -> Fault;

    /// Returns what the reader can do about it, each a sentence that begins with a verb.
    fn hints(&self) -> Vec<String> {
        Vec::new()
    }
}

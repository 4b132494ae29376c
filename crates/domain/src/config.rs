//! The open tree a configuration is read into, where each part of it stands, and what is wrong.

mod diagnostics;
mod location;
mod node;
mod problem;
pub mod schema;

pub use self::diagnostics::{Diagnostics, KeyPath};
pub use self::location::SourceLocation;
pub use self::node::{Node, Value};
pub use self::problem::{Problem, ProblemKind};

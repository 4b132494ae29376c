//! The tree a configuration is read into, its source locations, and the problems found in it.

mod diagnostics;
mod location;
mod node;
pub mod number;
mod problem;
mod raw;
pub mod schema;
mod secret;
mod unusable_path;

pub use self::diagnostics::{Diagnostics, KeyPath};
pub use self::location::SourceLocation;
pub use self::node::{Node, Value};
pub use self::problem::{Problem, ProblemKind};
pub use self::raw::Raw;
pub use self::secret::{is_secret, names_secrets};
pub(crate) use self::unusable_path::unexpanded;

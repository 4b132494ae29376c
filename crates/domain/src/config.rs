//! The open tree a configuration is read into, where each part of it stands, and what is wrong.

mod node;
mod place;
mod problem;
mod report;
pub mod schema;

pub use self::node::shortened;
pub use self::node::{Node, Value};
pub use self::place::Place;
pub use self::problem::{Problem, ProblemKind};
pub use self::report::{KeyPath, Report};

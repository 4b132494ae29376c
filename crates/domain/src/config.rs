//! The open tree a configuration is read into, where each part of it stands, and what is wrong.

mod node;
mod place;
mod problem;
mod report;

pub use self::node::{Node, Value};
pub use self::place::Place;
pub use self::problem::Problem;
pub use self::report::{KeyPath, Report};

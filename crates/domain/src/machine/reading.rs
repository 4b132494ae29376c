//! Reading definitions in the tests of keys.

use super::{Machine, builtin_handlers};
use crate::storage::builtin_drivers;

/// Returns the machine of a definition in JSON, and its problems as `path: message`.
pub(super) fn read(definition: &str) -> (Machine, Vec<String>) {
    let handlers = builtin_handlers(&builtin_drivers().unwrap()).unwrap();
    let (machine, problems) = Machine::read(&serde_json::from_str(definition).unwrap(), &handlers);
    (machine, problems.into_iter().map(|problem| format!("{}: {}", problem.path, problem.message)).collect())
}

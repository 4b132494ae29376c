//! `defaults` of the settings file: a definition that all others are merged over.

use maqet_domain::config::{Diagnostics, KeyPath, Node, Problem, ProblemKind};
use maqet_domain::machine::ConfigHandler;
use maqet_domain::machine::Machine;
use maqet_domain::registry::Registry;

use super::{ConfigError, Sources};

/// Checks the defaults on their own; `sources` has their text.
pub fn check_defaults(
    defaults: &Node,
    handlers: &Registry<dyn ConfigHandler>,
    sources: &Sources,
) -> Result<(), ConfigError> {
    let mut report = Diagnostics::default();
    if let Some(node) = defaults.non_null("name") {
        let message = "`name` cannot be a default";
        let help = "set `name` in the file of the VM, or pass `--name`".to_owned();
        report.error_with_help(&KeyPath::top("name"), node, message, Some(help));
    }
    let (_, mut problems) = Machine::read(defaults, handlers);
    // The file of the VM may provide what is missing.
    problems.retain(|problem| problem.kind != ProblemKind::Missing);
    let problems: Vec<Problem> = report.into_problems().into_iter().chain(problems).map(under_defaults).collect();
    if problems.is_empty() { Ok(()) } else { Err(ConfigError::new(problems, sources.clone())) }
}

fn under_defaults(problem: Problem) -> Problem {
    Problem { path: format!("defaults.{}", problem.path), ..problem }
}

#[cfg(test)]
mod tests {
    use maqet_domain::machine::builtin_handlers;
    use maqet_domain::storage::builtin_drivers;

    use super::*;

    #[track_caller]
    fn check(defaults: &str, expected: &[&str]) {
        let handlers = builtin_handlers(&builtin_drivers().unwrap()).unwrap();
        let defaults: Node = serde_json::from_str(defaults).unwrap();

        let problems = check_defaults(&defaults, &handlers, &Sources::default()).map_err(|error| error.problems);

        let paths: Vec<String> = problems.err().unwrap_or_default().into_iter().map(|problem| problem.path).collect();
        assert_eq!(paths, expected);
    }

    #[test]
    fn test_defaults_may_be_incomplete() {
        check(r#"{"network": {"mode": "bridge"}, "storage": [{"name": "src", "type": "virtfs"}]}"#, &[]);
    }

    #[test]
    fn test_defaults_that_no_vm_can_complete_are_errors() {
        check(r#"{"name": "web", "network": {"mode": "lan"}}"#, &["defaults.name", "defaults.network.mode"]);
    }
}

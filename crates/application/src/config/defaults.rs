//! `defaults` of the settings file: a definition that is laid under every other.

use maqet_domain::config::{KeyPath, Node, Problem, Report};
use maqet_domain::machine::Machine;
use maqet_domain::plugin::{ConfigHandler, Registry};

use super::{ConfigError, Sources};

/// Checks the defaults by themselves, before any VM is asked about; `sources` has the text they stand in.
pub fn check_defaults(
    defaults: &Node,
    handlers: &Registry<dyn ConfigHandler>,
    sources: &Sources,
) -> Result<(), ConfigError> {
    let mut report = Report::default();
    if let Some(node) = defaults.given("name") {
        let message = "a name is of one VM and no default";
        let help = "give it as `name` in the VM's own file, or as `--name`".to_owned();
        report.wrong_with_help(&KeyPath::top("name"), node, message, Some(help));
    }
    let (_, problems) = Machine::read(defaults, handlers);
    let problems: Vec<Problem> = report.into_problems().into_iter().chain(problems).map(below).collect();
    if problems.is_empty() { Ok(()) } else { Err(ConfigError::new(problems, sources.clone())) }
}

fn below(problem: Problem) -> Problem {
    Problem { path: format!("defaults.{}", problem.path), ..problem }
}

//! `defaults` of the settings file: a definition that all others are merged over.

use maqet_domain::config::{Diagnostics, KeyPath, Node, Problem, ProblemKind, Value};
use maqet_domain::machine::ConfigHandler;
use maqet_domain::machine::Machine;
use maqet_domain::network::default_card_name;
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
    if let Some(node) = defaults.get("storage").filter(|node| is_unnamed_drive(node)) {
        // Beside no drive of a VM, or several, it would be one without a name.
        let message = "a drive of the defaults requires a `name`, by which the files of VMs refer to it";
        let help = "add a `name`; what all drives have in common cannot be a default".to_owned();
        report.error_with_help(&KeyPath::top("storage"), node, message, Some(help));
    }
    let (_, mut problems) = Machine::read(defaults, handlers);
    // The file of the VM may provide what is missing.
    problems.retain(|problem| problem.kind != ProblemKind::Missing);
    let problems: Vec<Problem> = report.into_problems().into_iter().chain(problems).map(under_defaults).collect();
    if problems.is_empty() { Ok(()) } else { Err(ConfigError::new(problems, sources.clone())) }
}

fn is_unnamed_drive(storage: &Node) -> bool {
    matches!(storage.value, Value::Map(_)) && storage.get("name").is_none()
}

/// Returns the defaults for a VM.
///
/// A card without a name is the default card, so a VM with several cards has it only if one of them is the default card.
pub(super) fn defaults_for(defaults: Node, definition: &Node) -> Node {
    let is_default_card = defaults.get("network").is_some_and(|network| match cards_of(network).as_slice() {
        [card] => matches!(card.value, Value::Map(_) | Value::Text(_)) && card.non_null("name").is_none(),
        [..] => false,
    });
    let cards = definition.get("network").map(cards_of).unwrap_or_default();
    let is_first = |(index, card): (usize, &&Node)| match card.get("name").and_then(Node::written) {
        Some(name) => name == default_card_name(0),
        None => index == 0,
    };
    if !is_default_card || cards.len() < 2 || cards.iter().enumerate().any(is_first) {
        return defaults;
    }
    defaults.map_entries(|entries| entries.into_iter().filter(|(key, _)| key != "network").collect())
}

/// Returns the cards of `network`.
fn cards_of(network: &Node) -> Vec<&Node> {
    match &network.value {
        Value::List(items) => items.iter().filter(|item| item.deletion().is_none()).collect(),
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Text(_) | Value::Map(_) => {
            vec![network]
        }
    }
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
    #[test]
    fn test_defaults_drive_requires_a_name() {
        check(r#"{"storage": {"size": "20G"}}"#, &["defaults.storage"]);
        check(r#"{"storage": {"name": null, "size": "20G"}}"#, &["defaults.storage"]);
        check(r#"{"storage": [{"size": "20G"}]}"#, &["defaults.storage[0]"]);
        check(
            r#"{"storage": [{"name": "root", "size": "20G"}], "network": {"model": "e1000"}, "usb": ["tablet"]}"#,
            &[],
        );
    }

    #[test]
    fn test_defaults_card_without_a_name_is_the_default_card() {
        let is_used = |defaults: &str, vm: &str| {
            let read = |network: &str| serde_json::from_str::<Node>(&format!(r#"{{"network": {network}}}"#)).unwrap();
            defaults_for(read(defaults), &read(vm)).get("network").is_some()
        };
        let named = r#"[{"name": "lan"}, {"name": "wan"}]"#;

        for card in [r#"{"model": "e1000"}"#, r#"[{"model": "e1000"}]"#, r#"["passt"]"#] {
            for vm in [
                "null",
                r#""passt""#,
                r#"{"name": "lan"}"#,
                r#"[{"name": "lan"}, {"net1": null}]"#,
                r#"["user", "user"]"#,
            ] {
                assert!(is_used(card, vm), "{card} {vm}");
            }
            assert!(is_used(card, r#"[{"name": "lan"}, {"name": "net0"}]"#), "{card}");
            assert!(!is_used(card, named), "{card}");
            assert!(!is_used(card, r#"[{"name": "lan"}, "user"]"#), "{card}");
        }
        assert!(is_used(r#"{"name": "management"}"#, named));
        assert!(is_used(r#"["user", "user"]"#, named));
    }
}

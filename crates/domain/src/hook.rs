//! Hooks: programs of the user's own that run when something happened.

use std::path::Path;

use crate::config::{Diagnostics, KeyPath, Node, Value};
use crate::event::kind;
use crate::text::glob_matches;
use crate::text::similar;

/// What the types of QEMU's own events begin with, as in `qemu.SHUTDOWN`.
pub const QEMU_EVENTS: &str = "qemu.";

/// A program that is run when an event happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// The types of events it is for; `*` stands for any text and `?` for one character.
    pub events: String,
    /// The program and its arguments; no shell is involved.
    pub command: Vec<String>,
}

impl Hook {
    /// Returns whether it is for events of this type.
    pub fn is_for(&self, kind: &str) -> bool {
        glob_matches(&self.events, kind)
    }

    /// Returns whether it may be for events of QEMU.
    pub fn is_for_qemu(&self) -> bool {
        let before_star = self.events.split(['*', '?']).next().unwrap_or_default();
        before_star.starts_with(QEMU_EVENTS) || (before_star != self.events && QEMU_EVENTS.starts_with(before_star))
    }

    /// Reads hooks: types of events, and for each the words of one command or a list of such.
    pub fn read_all(path: &KeyPath, node: &Node, report: &mut Diagnostics) -> Vec<Self> {
        let mut hooks = Vec::new();
        for (events, commands) in report.map(path, node).unwrap_or_default() {
            let path = path.key(events);
            check_type(&path, events, commands, report);
            if commands.is_null() {
                continue;
            }
            let several = commands.items().iter().any(|item| matches!(item.value, Value::List(_)));
            let each: Vec<(KeyPath, &Node)> = if several {
                commands.items().iter().enumerate().map(|(index, command)| (path.index(index), command)).collect()
            } else {
                vec![(path, commands)]
            };
            for (path, command) in each {
                if let Some(command) = read_command(&path, command, report) {
                    hooks.push(Self { events: events.clone(), command });
                }
            }
        }
        hooks
    }

    /// Returns the value under `hooks` with programs that are given by a relative path made absolute.
    pub fn rebase(node: Node, folder: &Path) -> Node {
        node.map_value(|value| match value {
            Value::Map(entries) => {
                let rebased = |(key, command)| (key, rebase_command(command, folder));
                Value::Map(entries.into_iter().map(rebased).collect())
            }
            other => other,
        })
    }
}

/// A type that can never happen is a typing error.
fn check_type(path: &KeyPath, events: &str, node: &Node, report: &mut Diagnostics) {
    let hook = Hook { events: events.to_owned(), command: Vec::new() };
    if hook.is_for_qemu() || kind::ALL.iter().any(|kind| hook.is_for(kind)) {
        return;
    }
    let similar = similar(events, kind::ALL);
    let help = similar.first().map(|name| format!("did you mean `{name}`?"));
    let message = format!("there is no type of event `{}`", events.escape_debug());
    report.wrong_key(path, node, message, help.or(Some("see `maqet events --help`".to_owned())));
}

fn read_command(path: &KeyPath, node: &Node, report: &mut Diagnostics) -> Option<Vec<String>> {
    let words = report.list(path, node)?;
    if words.is_empty() {
        report.wrong(path, node, "a hook needs a command");
        return None;
    }
    if let Some(program) = words.first().filter(|program| is_path(program)) {
        report.path(&path.index(0), program)?;
    }
    let words = words.iter().enumerate().map(|(index, word)| report.text(&path.index(index), word));
    let words: Vec<Option<String>> = words.collect();
    let words: Vec<String> = words.into_iter().collect::<Option<_>>()?;
    if words.first().is_some_and(String::is_empty) || words.iter().any(|word| word.contains('\0')) {
        report.wrong(path, node, "a command has a name, and no NUL in its words");
        return None;
    }
    Some(words)
}

/// A program that is a name alone is looked up in PATH.
fn rebase_command(node: Node, folder: &Path) -> Node {
    node.map_value(|value| match value {
        Value::List(items) if items.iter().any(|item| matches!(item.value, Value::List(_))) => {
            Value::List(items.into_iter().map(|item| rebase_command(item, folder)).collect())
        }
        Value::List(mut items) => {
            if let Some(program) = items.first_mut() {
                *program = rebase_program(program.clone(), folder);
            }
            Value::List(items)
        }
        other => other,
    })
}

fn rebase_program(node: Node, folder: &Path) -> Node {
    if is_path(&node) { node.rebased(folder) } else { node }
}

fn is_path(program: &Node) -> bool {
    program.as_text().is_some_and(|text| text.contains('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> (Vec<(String, Vec<String>)>, Vec<String>) {
        let mut report = Diagnostics::default();
        let node: Node = serde_json::from_str(json).unwrap();
        let hooks = Hook::read_all(&KeyPath::top("hooks"), &node, &mut report);
        let problems = report.problems().iter().map(|problem| format!("{}: {}", problem.path, problem.message));
        (hooks.into_iter().map(|hook| (hook.events, hook.command)).collect(), problems.collect())
    }

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn test_hooks_one_command_or_several_are_read() {
        let (hooks, problems) = read(r#"{"vm.started": ["say", "up", 7], "qemu.*": [["a"], ["b", "c"]]}"#);

        let expected = [
            ("vm.started".to_owned(), words(&["say", "up", "7"])),
            ("qemu.*".to_owned(), words(&["a"])),
            ("qemu.*".to_owned(), words(&["b", "c"])),
        ];
        assert_eq!((hooks.as_slice(), problems.as_slice()), (expected.as_slice(), [].as_slice()));
    }

    #[test]
    fn test_hooks_what_is_wrong_is_told_where_it_stands() {
        let (hooks, problems) = read(
            r#"{"vm.strated": ["x"], "vm.stopped": [], "vm.paused": "beep", "vm.reset": [""], "vm.defined": ["~/x"]}"#,
        );

        assert_eq!(hooks.len(), 1, "the first is read, and told");
        assert_eq!(
            problems,
            [
                "hooks.vm.strated: there is no type of event `vm.strated`",
                "hooks.vm.stopped: a hook needs a command",
                "hooks.vm.paused: expected a list, found the text `beep`",
                "hooks.vm.reset: a command has a name, and no NUL in its words",
                "hooks.vm.defined[0]: `~` stands for the home folder in a shell only",
            ]
        );
    }

    #[test]
    fn test_hook_patterns_reach_qemu_only_where_they_can() {
        let is_for_qemu = |events: &str| Hook { events: events.to_owned(), command: Vec::new() }.is_for_qemu();

        assert!(is_for_qemu("*") && is_for_qemu("qemu.SHUTDOWN") && is_for_qemu("qem*") && is_for_qemu("qemu.*"));
        assert!(!is_for_qemu("vm.*") && !is_for_qemu("vm.started") && !is_for_qemu("qemu"));
    }

    #[test]
    fn test_hook_program_beside_the_file_is_found_from_elsewhere() {
        let node: Node = serde_json::from_str(r#"{"a": ["./x", "./y"], "b": [["say"], ["d/e"]]}"#).unwrap();

        let rebased = Hook::rebase(node, Path::new("/c"));

        assert_eq!(serde_json::to_string(&rebased).unwrap(), r#"{"a":["/c/./x","./y"],"b":[["say"],["/c/d/e"]]}"#);
    }
}

//! Hooks: the user's programs that run on events.

use std::path::Path;

use crate::config::{Diagnostics, KeyPath, Node, Value};
use crate::event::kind;
use crate::text::{did_you_mean, glob_matches, similar};

/// The prefix of the types of QEMU's events, as in `qemu.SHUTDOWN`.
pub const QEMU_EVENTS: &str = "qemu.";

/// A program to run on events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// A pattern of event types; `*` matches any text and `?` one character.
    pub events: String,
    /// The program and its arguments; run without a shell.
    pub command: Vec<String>,
}

impl Hook {
    /// Returns whether events of this type trigger it.
    pub fn matches(&self, kind: &str) -> bool {
        glob_matches(&self.events, kind)
    }

    /// Returns whether events of QEMU can trigger it.
    pub fn matches_qemu(&self) -> bool {
        let before_star = self.events.split(['*', '?']).next().unwrap_or_default();
        before_star.starts_with(QEMU_EVENTS) || (before_star != self.events && QEMU_EVENTS.starts_with(before_star))
    }

    /// Reads hooks: a map from event types to a command (a list of arguments) or a list of commands.
    pub fn read_all(path: &KeyPath, node: &Node, report: &mut Diagnostics) -> Vec<Self> {
        let mut hooks = Vec::new();
        for (events, commands) in report.map(path, node).unwrap_or_default() {
            let path = path.key(events);
            check_event_type(&path, events, commands, report);
            if commands.is_null() {
                continue;
            }
            let is_list = commands.items().iter().any(|item| matches!(item.value, Value::List(_)));
            let commands: Vec<(KeyPath, &Node)> = if is_list {
                commands.items().iter().enumerate().map(|(index, command)| (path.index(index), command)).collect()
            } else {
                vec![(path, commands)]
            };
            for (path, command) in commands {
                if let Some(command) = read_command(&path, command, report) {
                    hooks.push(Self { events: events.clone(), command });
                }
            }
        }
        hooks
    }

    /// Returns the value of `hooks` with the relative paths of programs made absolute.
    pub fn rebase(node: Node, folder: &Path) -> Node {
        let rebased = |(key, command)| (key, rebase_command(command, folder));
        node.map_entries(|entries| entries.into_iter().map(rebased).collect())
    }
}

/// Reports a pattern that matches no event.
fn check_event_type(path: &KeyPath, events: &str, node: &Node, report: &mut Diagnostics) {
    let hook = Hook { events: events.to_owned(), command: Vec::new() };
    if hook.matches_qemu() || kind::ALL.iter().any(|kind| hook.matches(kind)) {
        return;
    }
    let help = did_you_mean(&similar(events, kind::ALL));
    let message = format!("unknown event type `{}`", events.escape_debug());
    report.key_error(path, node, message, help.or(Some("run `maqet events --help` for the event types".to_owned())));
}

fn read_command(path: &KeyPath, node: &Node, report: &mut Diagnostics) -> Option<Vec<String>> {
    let items = report.list(path, node)?;
    if items.is_empty() {
        report.error(path, node, "a hook requires a command");
        return None;
    }
    if let Some(program) = items.first().filter(|program| is_path(program)) {
        report.path(&path.index(0), program)?;
    }
    let args = items.iter().enumerate().map(|(index, arg)| report.text(&path.index(index), arg));
    let args: Vec<Option<String>> = args.collect();
    let args: Vec<String> = args.into_iter().collect::<Option<_>>()?;
    if args.first().is_some_and(String::is_empty) || args.iter().any(|arg| arg.contains('\0')) {
        report.error(path, node, "a command requires the name of a program, and must not contain a NUL");
        return None;
    }
    Some(args)
}

/// A program without a slash is searched for in PATH.
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

    fn args(args: &[&str]) -> Vec<String> {
        args.iter().map(|arg| (*arg).to_owned()).collect()
    }

    #[test]
    fn test_hooks_commands_and_lists_of_commands_are_read() {
        let (hooks, problems) = read(r#"{"vm.started": ["say", "up", 7], "qemu.*": [["a"], ["b", "c"]]}"#);

        let expected = [
            ("vm.started".to_owned(), args(&["say", "up", "7"])),
            ("qemu.*".to_owned(), args(&["a"])),
            ("qemu.*".to_owned(), args(&["b", "c"])),
        ];
        assert_eq!((hooks.as_slice(), problems.as_slice()), (expected.as_slice(), [].as_slice()));
    }

    #[test]
    fn test_hooks_problems_name_their_keys() {
        let (hooks, problems) = read(
            r#"{"vm.strated": ["x"], "vm.stopped": [], "vm.paused": "beep", "vm.reset": [""], "vm.defined": ["~/x"]}"#,
        );

        assert_eq!(hooks.len(), 1, "the first is read despite its error");
        assert_eq!(
            problems,
            [
                "hooks.vm.strated: unknown event type `vm.strated`",
                "hooks.vm.stopped: a hook requires a command",
                "hooks.vm.paused: expected a list, found the string `beep`",
                "hooks.vm.reset: a command requires the name of a program, and must not contain a NUL",
                "hooks.vm.defined[0]: `~` is expanded by shells only",
            ]
        );
    }

    #[test]
    fn test_hook_patterns_that_can_match_qemu_events() {
        let matches_qemu = |events: &str| Hook { events: events.to_owned(), command: Vec::new() }.matches_qemu();

        assert!(matches_qemu("*") && matches_qemu("qemu.SHUTDOWN") && matches_qemu("qem*") && matches_qemu("qemu.*"));
        assert!(!matches_qemu("vm.*") && !matches_qemu("vm.started") && !matches_qemu("qemu"));
    }

    #[test]
    fn test_hook_relative_program_is_made_absolute() {
        let node: Node = serde_json::from_str(r#"{"a": ["./x", "./y"], "b": [["say"], ["d/e"]]}"#).unwrap();

        let rebased = Hook::rebase(node, Path::new("/c"));

        assert_eq!(serde_json::to_string(&rebased).unwrap(), r#"{"a":["/c/./x","./y"],"b":[["say"],["/c/d/e"]]}"#);
    }
}

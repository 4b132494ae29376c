//! A QMP command.

use serde::Serialize;
use serde_json::{Map, Value, json};

/// The command that passes a line to the human monitor.
const HUMAN_MONITOR: &str = "human-monitor-command";

/// A QMP command.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct QmpCommand {
    /// The name, as in `query-status`.
    pub execute: String,
    /// The arguments; left out where there are none.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub arguments: Map<String, Value>,
}

impl QmpCommand {
    /// Makes a command without arguments.
    pub fn new(execute: impl Into<String>) -> Self {
        Self { execute: execute.into(), arguments: Map::new() }
    }

    /// Adds an argument.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.arguments.insert(name.to_owned(), value.into());
        self
    }

    /// Makes the command that runs `actions` together: all of them take effect, at one point in time, or none.
    pub fn transaction(actions: impl IntoIterator<Item = Self>) -> Self {
        let actions = actions.into_iter().map(|action| json!({ "type": action.execute, "data": action.arguments }));
        QmpCommand::new("transaction").with("actions", actions.collect::<Vec<Value>>())
    }

    /// Makes the command that passes `line` to the human monitor.
    pub fn human_monitor(line: &str) -> Self {
        Self::new(HUMAN_MONITOR).with("command-line", line)
    }

    /// Makes the command that passes `command` with one argument to the human monitor, whatever is in it (`get_str`, QEMU 7.2).
    pub fn human_monitor_with(command: &str, argument: &str) -> Self {
        let mut quoted = String::with_capacity(argument.len() + 2);
        for character in argument.chars() {
            match character {
                '"' | '\\' => quoted.extend(['\\', character]),
                '\n' => quoted.push_str("\\n"),
                '\r' => quoted.push_str("\\r"),
                _ => quoted.push(character),
            }
        }
        Self::human_monitor(&format!("{command} \"{quoted}\""))
    }

    /// Returns the line that goes to the human monitor, if this is such a command.
    pub fn human_monitor_line(&self) -> Option<&str> {
        self.arguments.get("command-line").filter(|_| self.execute == HUMAN_MONITOR)?.as_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_human_monitor_argument_is_quoted() {
        let command = QmpCommand::human_monitor_with("drive_add 0", "file=/a b/\"c\"\\d\n");

        assert_eq!(command.human_monitor_line(), Some(r#"drive_add 0 "file=/a b/\"c\"\\d\n""#));
    }
}

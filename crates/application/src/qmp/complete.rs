//! Completion of a line of the QMP shell.

use maqet_domain::qmp::{Argument, Schema};

/// Completions of the last word of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completions {
    /// Where the word begins, in bytes.
    pub start: usize,
    /// The candidates, in order: commands, keys with their `=` or `.`, or keys with their values.
    pub candidates: Vec<String>,
}

/// Completes the end of `line`: a command, a key or a value.
pub fn completions(schema: &Schema, line: &str) -> Completions {
    let start =
        line.rfind(char::is_whitespace).map_or(0, |at| at + line[at..].chars().next().map_or(1, char::len_utf8));
    let (before, word) = line.split_at(start);
    let mut args = before.split_whitespace();
    let candidates = match args.next() {
        None => commands(schema, word),
        Some(command) if !command.starts_with(['{', '#']) => {
            arguments(schema, command, &args.collect::<Vec<_>>(), word)
        }
        Some(_) => Vec::new(),
    };
    Completions { start, candidates }
}

fn commands(schema: &Schema, word: &str) -> Vec<String> {
    // Most commands take arguments, so a space follows.
    schema.commands().filter(|name| name.starts_with(word)).map(|name| format!("{name} ")).collect()
}

fn arguments(schema: &Schema, command: &str, args: &[&str], word: &str) -> Vec<String> {
    let (key, value) = word.split_once('=').map_or((word, None), |(key, value)| (key, Some(value)));
    let under = key.rsplit_once('.').map_or("", |(under, _)| under);
    let arguments = schema.arguments(command, args, under);
    if let Some(value) = value {
        let values = arguments.into_iter().filter(|one| one.name == key).flat_map(|one| one.values);
        return values.filter(|one| one.starts_with(value)).map(|one| format!("{key}={one} ")).collect();
    }
    let is_given = |one: &Argument| args.iter().any(|arg| arg.split('=').next() == Some(&one.name));
    let wanted = arguments.iter().filter(|one| one.name.starts_with(key) && !is_given(one));
    let (required, optional): (Vec<&Argument>, Vec<&Argument>) = wanted.partition(|one| one.is_required);
    required.into_iter().chain(optional).map(with_end).collect()
}

fn with_end(argument: &Argument) -> String {
    format!("{}{}", argument.name, if argument.has_parts { "." } else { "=" })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema() -> Schema {
        let text = |name: &str, json: &str| json!({"name": name, "meta-type": "builtin", "json-type": json});
        let reply = json!([
            text("str", "string"),
            text("int", "int"),
            text("bool", "boolean"),
            {"name": "none", "meta-type": "object", "members": []},
            {"name": "driver", "meta-type": "enum", "values": ["file", "qcow2", "raw"],
             "members": [{"name": "file"}, {"name": "qcow2"}, {"name": "raw"}]},
            {"name": "below", "meta-type": "object", "members": [{"name": "filename", "type": "str"}]},
            {"name": "block", "meta-type": "object", "members": [
                {"name": "node-name", "type": "str", "default": null}, {"name": "driver", "type": "driver"},
                {"name": "read-only", "type": "bool", "default": null}, {"name": "file", "type": "below"}]},
            {"name": "blockdev-add", "meta-type": "command", "arg-type": "block", "ret-type": "none"},
            {"name": "blockdev-del", "meta-type": "command", "arg-type": "none", "ret-type": "none"},
            {"name": "quit", "meta-type": "command", "arg-type": "none", "ret-type": "none"},
        ]);
        Schema::from_reply(&reply).unwrap()
    }

    #[track_caller]
    fn check(line: &str, start: usize, candidates: &[&str]) {
        let found = completions(&schema(), line);

        assert_eq!(
            (found.start, found.candidates),
            (start, candidates.iter().map(|word| (*word).to_owned()).collect()),
            "{line}"
        );
    }

    #[test]
    fn test_completions_of_command_match_its_beginning() {
        check("", 0, &["blockdev-add ", "blockdev-del ", "quit "]);
        check("blo", 0, &["blockdev-add ", "blockdev-del "]);
        check("  q", 2, &["quit "]);
        check("x", 0, &[]);
    }

    #[test]
    fn test_completions_of_keys_list_required_first_and_once() {
        check("blockdev-add ", 13, &["driver=", "file.", "node-name=", "read-only="]);
        check("blockdev-add driver=raw n", 24, &["node-name="]);
        check("blockdev-add driver=raw d", 24, &[]);
        check("blockdev-add file.", 13, &["file.filename="]);
        check("quit ", 5, &[]);
        check("no-such a", 8, &[]);
    }

    #[test]
    fn test_completions_of_values_are_those_of_the_schema() {
        check("blockdev-add driver=", 13, &["driver=file ", "driver=qcow2 ", "driver=raw "]);
        check("blockdev-add driver=q", 13, &["driver=qcow2 "]);
        check("blockdev-add read-only=o", 13, &["read-only=on ", "read-only=off "]);
        check("blockdev-add node-name=h", 13, &[]);
    }

    #[test]
    fn test_completions_of_json_message_are_empty() {
        check("{\"execute\": bl", 12, &[]);
    }
}

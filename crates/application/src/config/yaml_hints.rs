//! Plain messages and hints for the errors of the YAML crate.

/// Part of a message of the crate, a replacement if its message is unclear, and how to fix it.
const HINTS: [(&str, Option<&str>, &str); 14] = [
    ("cannot deserialize null into string", Some("a key cannot be null"), "quote it: `\"null\"`"),
    ("expected string scalar", Some("a key must be a string, not a list or a map"), "quote it"),
    (" tab", None, "indent with spaces"),
    ("tabs disallowed", None, "indent with spaces"),
    ("did not find expected '-' indicator", None, "indent all keys of an entry like the first one, after the `- `"),
    ("did not find expected key", None, "indent the line like the lines around it"),
    ("simple key expected ':'", Some("invalid YAML: a key needs a `:` followed by a space"), "write `KEY: VALUE`"),
    (
        "mapping values are not allowed",
        Some("invalid YAML: a second key is not allowed here"),
        "indent the line like the lines around it, or quote a string that contains `: `",
    ),
    ("illegal placement of ':'", None, "close the preceding `[`"),
    ("did not find expected ',' or '}'", None, "close the preceding `{`, or add a comma between two keys"),
    ("unexpected character", None, "quote a string that contains it"),
    ("unknown anchor", None, "quote a string that starts with `*`"),
    ("unknown escape character", None, "write `\\\\` for a backslash, or use single quotes"),
    (
        "invalid trailing content after",
        None,
        "double a quote inside single quotes, and write `\\\"` inside double quotes",
    ),
];

/// Returns the message for an error of the crate, and how to fix it.
pub(super) fn message_and_help(error: &str) -> (String, Option<String>) {
    let not_yaml = || format!("invalid YAML: {error}");
    match HINTS.iter().find(|(part, ..)| error.contains(part)) {
        Some((_, message, help)) => (message.map_or_else(not_yaml, str::to_owned), Some((*help).to_owned())),
        None => (not_yaml(), None),
    }
}

#[cfg(test)]
mod tests {
    use crate::config::read;

    #[track_caller]
    fn check(text: &str, message: &str, help: &str) {
        let problems = read("f", text).unwrap_err();

        let [problem] = problems.try_into().unwrap();
        assert!(problem.message.contains(message), "{text:?}: {problem:?}");
        assert!(problem.help.as_ref().unwrap().contains(help), "{text:?}: {problem:?}");
    }

    #[test]
    fn test_hints_for_keys() {
        check("labels: {null: 3}\n", "a key cannot be null", "quote it");
        check("[a]: 1\n", "a key must be a string", "quote it");
        check("a: 1\nmemory:1G\nb: 2\n", "a key needs a `:` followed by a space", "`KEY: VALUE`");
        check("vga: std: x\n", "second key", "`: `");
        check("a: 1\n b: 2\n", "second key", "indent the line");
    }

    #[test]
    fn test_hints_for_values_name_what_to_quote() {
        for text in ["name: @web\n", "name: `web`\n", "name: %x\n"] {
            check(text, "unexpected character", "quote");
        }
        check("file: *.img\n", "unknown anchor", "quote a string that starts with `*`");
        check("file: \"C:\\windows\"\n", "escape", "single quotes");
        check("name: 'it's'\n", "trailing content", "double a quote");
    }

    #[test]
    fn test_hints_for_unclosed_brackets() {
        check("labels: {a: b\ncpu: 2\n", "expected ',' or '}'", "close the preceding `{`");
        check("args: [a, b\ncpu: 2\n", "placement of ':'", "close the preceding `[`");
    }

    #[test]
    fn test_hints_for_indentation() {
        check("a:\n\t- b\n", "tabs", "spaces");
        check("a:\n  - b: 1\n\tc: 1\n", "tab", "spaces");
        check("a:\n  - b: 1\n   c: 1\n", "'-' indicator", "after the `- `");
        check("a:\n- b: 1\n - c: 1\n", "expected key", "indent the line");
    }
}

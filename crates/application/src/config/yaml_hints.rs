//! What the reader of YAML says, in words of people who write configurations.

/// Words of the reader, ours for them if its own are no help, and what would help.
const KNOWN: [(&str, Option<&str>, &str); 15] = [
    ("cannot deserialize null into string", Some("a key cannot be nothing"), "quote it: `\"null\"`"),
    ("expected string scalar", Some("a key is a text, not a list or a map"), "quote it if it is one"),
    ("non-finite float", Some("this is no number that can be written down"), "quote it if it is a text"),
    (" tab", None, "indent with spaces"),
    ("tabs disallowed", None, "indent with spaces"),
    ("did not find expected '-' indicator", None, "indent the keys of an entry as its first one, behind the `- `"),
    ("did not find expected key", None, "indent the line as those beside it"),
    ("simple key expected ':'", Some("this is not YAML: a key needs a `:` and a space after it"), "write `KEY: VALUE`"),
    (
        "mapping values are not allowed",
        Some("this is not YAML: there can be no second key here"),
        "indent the line as those beside it, or quote a text that holds `: `",
    ),
    ("illegal placement of ':'", None, "close the `[` before this line"),
    ("did not find expected ',' or '}'", None, "close the `{` before this, or put a comma between two keys"),
    ("unexpected character", None, "quote a text that holds it"),
    ("unknown anchor", None, "quote a text that begins with `*`"),
    ("unknown escape character", None, "write `\\\\` for a backslash, or use single quotes"),
    (
        "invalid trailing content after",
        None,
        "double a quote inside single quotes, and write `\\\"` inside double quotes",
    ),
];

/// Returns the message for what the reader said, and what would help.
pub(super) fn advice(said: &str) -> (String, Option<String>) {
    let not_yaml = || format!("this is not YAML: {said}");
    match KNOWN.iter().find(|(words, ..)| said.contains(words)) {
        Some((_, ours, help)) => (ours.map_or_else(not_yaml, str::to_owned), Some((*help).to_owned())),
        None => (not_yaml(), None),
    }
}

#[cfg(test)]
mod tests {
    use crate::config::read;

    #[track_caller]
    fn check(text: &str, message: &str, help: &str) {
        let problems = read("f", text).unwrap_err();

        let told = problems.iter().map(|problem| (problem.message.as_str(), problem.help.as_deref()));
        let told: Vec<_> = told.map(|(message, help)| (message, help.unwrap_or_default())).collect();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].0.contains(message) && told[0].1.contains(help), "{text:?}: {told:?}");
    }

    #[test]
    fn test_advice_on_keys_is_in_our_words() {
        check("labels: {null: 3}\n", "a key cannot be nothing", "quote it");
        check("[a]: 1\n", "a key is a text", "quote it");
        check("a: 1\nmemory:1G\nb: 2\n", "a key needs a `:` and a space", "`KEY: VALUE`");
        check("vga: std: x\n", "no second key", "`: `");
        check("a: 1\n b: 2\n", "no second key", "indent the line");
    }

    #[test]
    fn test_advice_on_values_says_what_to_quote() {
        for text in ["name: @web\n", "name: `web`\n", "name: %x\n"] {
            check(text, "unexpected character", "quote");
        }
        check("file: *.img\n", "unknown anchor", "quote a text that begins with `*`");
        check("cpu: .nan\n", "no number", "quote");
        check("file: \"C:\\windows\"\n", "escape", "single quotes");
        check("name: 'it's'\n", "trailing content", "double a quote");
    }

    #[test]
    fn test_advice_on_what_is_left_open_says_where_to_close_it() {
        check("labels: {a: b\ncpu: 2\n", "expected ',' or '}'", "close the `{`");
        check("args: [a, b\ncpu: 2\n", "placement of ':'", "close the `[`");
    }

    #[test]
    fn test_advice_on_indentation_says_how() {
        check("a:\n\t- b\n", "tabs", "spaces");
        check("a:\n  - b: 1\n\tc: 1\n", "tab", "spaces");
        check("a:\n  - b: 1\n   c: 1\n", "'-' indicator", "behind the `- `");
        check("a:\n- b: 1\n - c: 1\n", "expected key", "indent the line");
    }
}

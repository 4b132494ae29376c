//! Secrets in a definition, which are stored with it and not shown.

use crate::config::{Node, Value, is_secret};

/// What is shown instead of a secret.
pub const HIDDEN: &str = "(hidden)";

/// Returns a definition without its secrets: credentials, and passwords of users, unless they are in files.
#[must_use]
pub fn without_secrets(definition: Node) -> Node {
    without_secrets_at("", definition)
}

/// Returns a part of a definition without its secrets; `path` is that of the part, as in `seed.users`.
#[must_use]
pub fn without_secrets_at(path: &str, node: Node) -> Node {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    node.map_value(|value| match value {
        Value::Map(entries) => {
            let hide = |(key, node): (String, Node)| {
                let node = without_secrets_at(&below(&key), node);
                (key, node)
            };
            Value::Map(entries.into_iter().map(hide).collect())
        }
        Value::List(items) => {
            Value::List(items.into_iter().map(|item| without_secrets_at(&below("[]"), item)).collect())
        }
        Value::Text(text) if text.starts_with('@') => Value::Text(text),
        Value::Null => Value::Null,
        _ if is_secret(path) => Value::Text(HIDDEN.to_owned()),
        other => other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::reading;

    fn node(text: &str) -> Node {
        serde_json::from_str(text).unwrap()
    }

    fn hidden(path: &str, text: &str) -> String {
        serde_json::to_string(&without_secrets_at(path, node(text))).unwrap()
    }

    #[test]
    fn test_secrets_of_a_definition_are_hidden_and_files_are_not() {
        let shown = without_secrets(node(
            r#"{"credentials":{"a.b":"s1","n":5,"f":"@/f","d":null},
                "seed":{"users":["u",{"name":"x","password":"s2"},{"name":"y","password":"@/p"}],"hostname":"h"},
                "labels":{"password":"shown"}}"#,
        ));

        let expected = r#"{"credentials":{"a.b":"(hidden)","n":"(hidden)","f":"@/f","d":null},"seed":{"users":["u",{"name":"x","password":"(hidden)"},{"name":"y","password":"@/p"}],"hostname":"h"},"labels":{"password":"shown"}}"#;
        assert_eq!(serde_json::to_string(&shown).unwrap(), expected);
    }

    #[test]
    fn test_secrets_of_a_difference_are_hidden() {
        assert_eq!(hidden("credentials.a.b", r#""s""#), r#""(hidden)""#);
        assert_eq!(hidden("credentials", r#"{"a":"s"}"#), r#"{"a":"(hidden)"}"#);
        assert_eq!(hidden("seed.users.x.password", r#""s""#), r#""(hidden)""#);
        assert_eq!(hidden("seed.users.x", r#"{"password":"s"}"#), r#"{"password":"(hidden)"}"#);
        assert_eq!(hidden("seed.users", r#"[{"password":"s"}]"#), r#"[{"password":"(hidden)"}]"#);
        assert_eq!(hidden("seed.hostname", r#""s""#), r#""s""#);
    }

    #[test]
    fn test_hidden_secret_is_refused_in_a_definition() {
        for definition in
            [r#"{"credentials": {"a": "(hidden)"}}"#, r#"{"seed": {"users": [{"name": "x", "password": "(hidden)"}]}}"#]
        {
            let problems = reading::read(definition).1;
            assert!(problems[0].ends_with(": the value is hidden"), "{problems:?}");
        }
    }
}

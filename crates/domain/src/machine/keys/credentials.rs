//! The key of what the services of a guest take at its boot: `credentials`.

use std::path::Path;

use serde_json::json;

use super::KeySpec;
use super::seed::{map_values, rebase_source, source};
use super::table::doc;
use crate::config::{Diagnostics, KeyPath, Node, schema};
use crate::first_boot::{Credentials, MAX_CREDENTIALS};
use crate::machine::Machine;

/// The key `credentials`, as a table of one.
pub(super) const CREDENTIAL_KEYS: &[KeySpec] = &[KeySpec::new(
    "credentials",
    doc(
        "credentials for the services of the guest, which systemd takes at its boot",
        "a map of names to values, or to files as in `@FILE`",
    ),
    || json!({ "type": "object", "additionalProperties": { "anyOf": [schema::text(), { "type": "null" }] } }),
    credentials,
)
.rebased_by(rebase)];

fn rebase(node: Node, folder: &Path) -> Node {
    map_values(node, |_, value| rebase_source(value, folder))
}

fn credentials(path: &KeyPath, node: &Node, machine: &mut Machine, report: &mut Diagnostics) {
    let mut credentials = Credentials::default();
    let entries = report.map(path, node).unwrap_or_default().iter().filter(|(_, value)| !value.is_null());
    for ((name, value), number) in entries.zip(1..) {
        let at = path.key(name);
        if !Credentials::is_name(name) {
            let help = Some("use letters, digits and `._-@`".to_owned());
            report.key_error(&at, value, "invalid name of a credential", help);
        } else if number > usize::from(MAX_CREDENTIALS) {
            report.key_error(&at, value, format!("more than {MAX_CREDENTIALS} credentials"), None);
        } else if let Some(value) = source(report, &at, value) {
            credentials.insert(name.clone(), value);
        }
    }
    machine.credentials = credentials;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::first_boot::TextSource;
    use crate::machine::reading;

    fn read(credentials: &str) -> (Credentials, Vec<String>) {
        let (machine, problems) = reading::read(&format!(r#"{{"credentials": {credentials}}}"#));
        (machine.credentials, problems)
    }

    #[test]
    fn test_credentials_are_texts_or_files() {
        let (credentials, problems) = read(r#"{"a": "x\ny", "b": "@/f", "c": 10, "d": null}"#);

        let mut expected = Credentials::default();
        expected.insert("a".to_owned(), TextSource::Text("x\ny".to_owned()));
        expected.insert("b".to_owned(), TextSource::File("/f".into()));
        expected.insert("c".to_owned(), TextSource::Text("10".to_owned()));
        assert_eq!((credentials, problems), (expected, Vec::new()));
    }

    #[test]
    fn test_credentials_wrong_value_is_one_error_at_its_key() {
        let many: Vec<String> = (0..33).map(|number| format!(r#""n{number}": "v""#)).collect();
        let many = format!("{{{}}}", many.join(", "));
        for (credentials, expected) in [
            (r#"{"a/b": "x"}"#, "credentials.a/b: invalid name of a credential"),
            (r#"{"a": "@~/x"}"#, "credentials.a: `~` is expanded by shells only"),
            (r#"{"a": {}}"#, "credentials.a: expected a string, found a map"),
            (&many, "credentials.n32: more than 32 credentials"),
            (r#""a""#, "credentials: expected a map, found a string"),
        ] {
            assert_eq!(read(credentials).1, [expected], "{credentials}");
        }
    }

    #[test]
    fn test_credentials_files_are_resolved_against_the_file() {
        let node = rebase(serde_json::from_str(r#"{"a":"@k","b":"k"}"#).unwrap(), Path::new("/d"));

        assert_eq!(serde_json::to_string(&node).unwrap(), r#"{"a":"@/d/k","b":"k"}"#);
    }
}

//! Differences between two definitions.

use maqet_domain::config::{KeyPath, Node, Value};
use maqet_domain::machine::without_secrets_at;
use serde::Serialize;

/// One difference.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// The key, as in `storage.hdd.size`.
    pub path: String,
    /// The old value; `None` if it is new.
    pub before: Option<Node>,
    /// The new value; `None` if it is removed.
    pub after: Option<Node>,
}

impl Difference {
    /// Hides the secrets in its values; it remains one where only a secret differs.
    #[must_use]
    pub fn without_secrets(self) -> Self {
        let hide = |value: Option<Node>| value.map(|value| without_secrets_at(&self.path, value));
        let (before, after) = (hide(self.before), hide(self.after));
        Self { path: self.path, before, after }
    }
}

/// Returns the differences, in the order of the keys.
///
/// Lists of named entries are compared by name, other lists as a whole.
pub fn differences(before: &Node, after: &Node) -> Vec<Difference> {
    let mut found = Vec::new();
    compare(&KeyPath::default(), Some(before), Some(after), &mut found);
    found
}

fn compare(path: &KeyPath, before: Option<&Node>, after: Option<&Node>, found: &mut Vec<Difference>) {
    if before == after {
        return;
    }
    if let (Some(before), Some(after)) = (before.and_then(named), after.and_then(named)) {
        for (name, node) in &before {
            let other = after.iter().find(|(known, _)| known == name).map(|(_, node)| *node);
            compare(&path.key(name), Some(node), other, found);
        }
        for (name, node) in after.iter().filter(|(name, _)| !before.iter().any(|(known, _)| known == name)) {
            compare(&path.key(name), None, Some(node), found);
        }
        return;
    }
    found.push(Difference { path: path.to_string(), before: before.cloned(), after: after.cloned() });
}

/// Returns the entries of a map, or of a list whose items all have a name.
fn named(node: &Node) -> Option<Vec<(String, &Node)>> {
    if matches!(node.value, Value::Map(_)) {
        return Some(node.entries().iter().map(|(key, node)| (key.clone(), node)).collect());
    }
    let named = node.items().iter().map(|item| Some((item.get("name")?.written()?, item)));
    named.collect::<Option<Vec<_>>>().filter(|named| !named.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_differences_name_changed_new_and_removed_values() {
        let parse = |text| serde_json::from_str::<Node>(text).unwrap();
        let before = parse(r#"{"memory":"1G","cpu":1,"storage":[{"name":"a","size":"1G"}]}"#);
        let after = parse(r#"{"memory":"2G","vga":"std","storage":[{"name":"a","size":"2G"},{"name":"b"}]}"#);

        let paths: Vec<String> = differences(&before, &after).into_iter().map(|one| one.path).collect();

        assert_eq!(paths, ["memory", "cpu", "storage.a.size", "storage.b", "vga"]);
    }
}

//! Where the values of a definition came from.

use maqet_domain::config::{KeyPath, Node, Place, Value};
use maqet_domain::vm::Origins;

/// Returns the place of every scalar and every empty list or map of a definition.
pub fn origins(definition: &Node) -> Origins {
    let mut found = Origins::new();
    collect(&KeyPath::default(), definition, &mut found);
    found
}

fn collect(path: &KeyPath, node: &Node, found: &mut Origins) {
    match &node.value {
        Value::Map(entries) if !entries.is_empty() => {
            for (key, node) in entries {
                collect(&path.key(key), node, found);
            }
        }
        Value::List(items) if !items.is_empty() => {
            for (index, node) in items.iter().enumerate() {
                collect(&path.index(index), node, found);
            }
        }
        Value::Null
        | Value::Bool(_)
        | Value::Int(_)
        | Value::Float(_)
        | Value::Text(_)
        | Value::List(_)
        | Value::Map(_) => {
            if let Some(place) = node.whereabouts() {
                found.insert(path.to_string(), place.to_string());
            }
        }
    }
}

/// Returns a definition whose values stand where `origins` say they came from.
pub fn with_origins(definition: Node, origins: &Origins) -> Node {
    put(&KeyPath::default(), definition, origins)
}

fn put(path: &KeyPath, node: Node, origins: &Origins) -> Node {
    let place = origins.get(&path.to_string()).map(|origin| Place::named(origin.as_str()));
    let value = match node.value {
        Value::Map(entries) => Value::Map(
            entries
                .into_iter()
                .map(|(key, node)| {
                    let node = put(&path.key(&key), node, origins);
                    (key, node)
                })
                .collect(),
        ),
        Value::List(items) => Value::List(
            items.into_iter().enumerate().map(|(index, node)| put(&path.index(index), node, origins)).collect(),
        ),
        scalar => scalar,
    };
    Node { value, place: place.or(node.place), key: node.key }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::read;

    #[test]
    fn test_origins_name_file_and_line_of_each_value() {
        let node = read("a.yaml", "memory: 1G\nstorage:\n  - name: hdd\n").unwrap();

        let origins = origins(&node);

        assert_eq!(origins["memory"], "a.yaml:1:9");
        assert_eq!(origins["storage[0].name"], "a.yaml:3:11");
    }
}

//! The origins of a definition's values: their source locations as text.

use maqet_domain::config::{KeyPath, Node, SourceLocation};
use maqet_domain::vm::{Origins, Vm};

/// Returns the location of every scalar and every empty list or map of a definition.
pub fn origins(definition: &Node) -> Origins {
    let mut found = Origins::new();
    collect(&KeyPath::default(), definition, &mut found);
    found
}

fn collect(path: &KeyPath, node: &Node, found: &mut Origins) {
    for (key, node) in node.entries() {
        collect(&path.key(key), node, found);
    }
    for (index, node) in node.items().iter().enumerate() {
        collect(&path.index(index), node, found);
    }
    let is_leaf = node.entries().is_empty() && node.items().is_empty();
    if let Some(location) = node.location().filter(|_| is_leaf) {
        found.insert(path.to_string(), location.to_string());
    }
}

/// Returns a definition with the locations of `origins`.
pub fn with_origins(definition: Node, origins: &Origins) -> Node {
    locate(&KeyPath::default(), definition, origins)
}

/// Returns the definition of a VM with the locations that were stored.
pub(crate) fn with_locations(vm: &Vm) -> Node {
    with_origins(vm.definition.clone(), &vm.origins)
}

fn locate(path: &KeyPath, node: Node, origins: &Origins) -> Node {
    let entry = |(key, node): (String, Node)| {
        let node = locate(&path.key(&key), node, origins);
        (key, node)
    };
    let item = |(index, node)| locate(&path.index(index), node, origins);
    let node = node
        .map_entries(|entries| entries.into_iter().map(entry).collect())
        .map_items(|items| items.into_iter().enumerate().map(item).collect());

    let location = origins.get(&path.to_string()).map(|origin| parse_location(origin));
    // The locations of lists and maps are not stored; that of their first value is close.
    let first = node.entries().first().map(|(_, node)| node).or(node.items().first());
    let first_location = first.and_then(|node| node.value_location.clone());
    let value_location = location.or_else(|| node.value_location.clone()).or(first_location);
    Node { value_location, ..node }
}

/// Parses the text of a location, as in `web.yaml:2:9`.
fn parse_location(text: &str) -> SourceLocation {
    let number = |text: Option<&str>| text.and_then(|text| text.parse().ok()).filter(|number| *number > 0);
    let mut parts = text.rsplitn(3, ':');
    match (number(parts.next()), number(parts.next()), parts.next()) {
        (Some(column), Some(line), Some(source)) => SourceLocation { line, column, ..SourceLocation::named(source) },
        (_, _, _) => SourceLocation::named(text),
    }
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

    #[test]
    fn test_with_origins_restores_the_locations() {
        let text = "memory: 1G\nstorage:\n  - name: hdd\n    size: 2G\n";
        let known = origins(&read("a:1.yaml", text).unwrap());
        let stored: Node = serde_json::from_str(r#"{"memory":"1G","storage":[{"name":"hdd","size":"2G"}]}"#).unwrap();

        let node = with_origins(stored, &known);

        let shown = |node: &Node| node.location().map(|it| (it.source.to_string(), it.line, it.column));
        let at = |line, column| Some(("a:1.yaml".to_owned(), line, column));
        let drive = &node.get("storage").unwrap().items()[0];
        assert_eq!(shown(node.get("memory").unwrap()), at(1, 9));
        assert_eq!([shown(node.get("storage").unwrap()), shown(drive)], [at(3, 11), at(3, 11)]);
        assert_eq!(shown(drive.get("size").unwrap()), at(4, 11));
        assert_eq!(origins(&node), known);
        assert_eq!(parse_location("option `--memory`"), SourceLocation::named("option `--memory`"));
    }
}

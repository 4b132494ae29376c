//! Removing keys from a definition.

use std::collections::HashMap;

use maqet_domain::config::Node;

/// Returns a definition without the keys at `paths`, as in `storage[0].sise`.
///
/// Keys may contain dots and brackets, so the paths are matched along the tree. A single walk removes all of them:
/// there can be tens of thousands.
pub(super) fn remove_keys(node: Node, paths: &[&str]) -> Node {
    if paths.is_empty() {
        return node;
    }
    node.map_entries(|entries| remove_from_map(entries, paths)).map_items(|items| remove_from_list(items, paths))
}

fn remove_from_map(entries: Vec<(String, Node)>, paths: &[&str]) -> Vec<(String, Node)> {
    let indices: HashMap<&str, usize> = entries.iter().map(|(key, _)| key.as_str()).zip(0..).collect();
    let mut is_removed = vec![false; entries.len()];
    let mut below: Vec<Vec<&str>> = vec![Vec::new(); entries.len()];
    for path in paths {
        if let Some(index) = indices.get(path) {
            is_removed[*index] = true;
            continue;
        }
        for (end, _) in path.match_indices(['.', '[']) {
            if let Some(index) = indices.get(&path[..end]) {
                below[*index].push(path[end..].trim_start_matches('.'));
            }
        }
    }
    drop(indices);
    let kept = entries.into_iter().zip(below).zip(is_removed).filter(|(_, is_removed)| !is_removed);
    kept.map(|(((key, node), below), _)| (key, remove_keys(node, &below))).collect()
}

fn remove_from_list(items: Vec<Node>, paths: &[&str]) -> Vec<Node> {
    let mut below: Vec<Vec<&str>> = vec![Vec::new(); items.len()];
    for path in paths {
        let indexed = path.strip_prefix('[').and_then(|rest| rest.split_once(']'));
        let Some((index, rest)) = indexed else { continue };
        if let Some(below) = index.parse::<usize>().ok().and_then(|index| below.get_mut(index)) {
            below.push(rest.trim_start_matches('.'));
        }
    }
    items.into_iter().zip(below).map(|(item, below)| remove_keys(item, &below)).collect()
}

#[cfg(test)]
mod tests {
    use maqet_domain::config::Value;

    use super::*;

    #[track_caller]
    fn check(definition: &str, paths: &[&str], expected: &str) {
        let node: Node = serde_json::from_str(definition).unwrap();

        assert_eq!(serde_json::to_string(&remove_keys(node, paths)).unwrap(), expected);
    }

    #[test]
    fn test_remove_keys_keeps_the_others() {
        check(
            r#"{"a":1,"storage":[{"name":"x","sise":2},{"name":"y","sise":1}],"m":{"k":{"b":1,"c":2}}}"#,
            &["storage[1].sise", "a", "m.k.c"],
            r#"{"storage":[{"name":"x","sise":2},{"name":"y"}],"m":{"k":{"b":1}}}"#,
        );
        check(r#"{"a":1,"l":[1]}"#, &["b", "l[1].x", "l[x]", "l.y", "a.b"], r#"{"a":1,"l":[1]}"#);
    }

    #[test]
    fn test_remove_keys_with_dots_in_their_names() {
        check(
            r#"{"a":1,"a.b":2,"storage":[{"name":"x","c.d[0]":1}]}"#,
            &["a.b", "storage[0].c.d[0]"],
            r#"{"a":1,"storage":[{"name":"x"}]}"#,
        );
        check(r#"{"labels":{"x":1},"labels.x":2}"#, &["labels.x"], r#"{"labels":{"x":1}}"#);
    }

    /// A walk for each of them would take minutes.
    #[test]
    fn test_remove_keys_tens_of_thousands_are_fast() {
        let keys: Vec<String> = (0..50_000).map(|number| format!("k{number}")).collect();
        let entries = keys.iter().map(|key| (key.clone(), Node::text("x")));
        let known = ("memory".to_owned(), Node::text("1G"));
        let node = Node::new(Value::Map(entries.chain([known]).collect()));
        let paths: Vec<&str> = keys.iter().map(String::as_str).collect();

        let left = remove_keys(node, &paths);

        assert_eq!(serde_json::to_string(&left).unwrap(), r#"{"memory":"1G"}"#);
    }
}

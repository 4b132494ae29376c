//! Nulls that delete nothing.

use maqet_domain::config::{KeyPath, Node, Problem, SourceLocation};
use maqet_domain::text::{did_you_mean, similar};

use super::merge::{NAMED_LISTS, deleted};

/// Returns a warning for each null of a definition that deletes no entry of a list, no label and no argument with an ID,
/// and is therefore still in `whole`, the definition merged over the defaults.
///
/// Other keys are not reported: null is the usual way to write that they have no value.
pub(super) fn without_effect(definition: &Node, whole: &Node) -> Vec<Problem> {
    let entries = NAMED_LISTS.into_iter().flat_map(|list| entries(list, definition, whole));
    entries.chain(labels(definition, whole)).chain(arguments(definition, whole)).collect()
}

fn entries(list: &'static str, definition: &Node, whole: &Node) -> Vec<Problem> {
    let items = definition.get(list).map(Node::items).unwrap_or_default().iter().enumerate();
    let deletions: Vec<(usize, &Node)> = items.filter(|(_, item)| item.deletion().is_some()).collect();
    if deletions.is_empty() {
        return Vec::new();
    }
    let whole = whole.get(list).map(Node::items).unwrap_or_default();
    let names: Vec<String> = whole.iter().filter_map(|item| item.get("name")?.written()).collect();
    let left = deletions.into_iter().filter(|(_, item)| whole.contains(item));
    let warnings = left.filter_map(|(index, item)| {
        let (name, null) = item.entries().first()?;
        let message = format!("`{}` is not in `{list}`: the null deletes nothing", name.escape_debug());
        let help = did_you_mean(&similar(name, names.iter().map(String::as_str)));
        Some(warning(&KeyPath::top(list).index(index), message, help, null.key_location.clone()))
    });
    warnings.collect()
}

fn arguments(definition: &Node, whole: &Node) -> Vec<Problem> {
    let items = |node: &Node| node.get("arguments").map(Node::items).unwrap_or_default().to_vec();
    let whole = items(whole);
    let left = items(definition).into_iter().enumerate().filter(|(_, item)| whole.contains(item));
    let warnings = left.filter_map(|(index, item)| {
        let (name, id) = deleted(&item)?;
        let id = id.escape_debug();
        let message = format!("no earlier `-{name}` has the ID `{id}`: the null deletes nothing");
        // QEMU has a backend of this name.
        let help =
            (name == "chardev").then(|| format!("quote it for the backend `null`: `{{chardev: \"null\", id: {id}}}`"));
        Some(warning(&KeyPath::top("arguments").index(index), message, help, item.location().cloned()))
    });
    warnings.collect()
}

fn labels(definition: &Node, whole: &Node) -> Vec<Problem> {
    let nulls =
        definition.get("labels").map(Node::entries).unwrap_or_default().iter().filter(|(_, node)| node.is_null());
    let is_left = |key: &str| whole.get("labels").and_then(|labels| labels.get(key)).is_some();
    let warnings = nulls.filter(|(key, _)| is_left(key)).map(|(key, node)| {
        let help = Some("quote it if it is a text: `\"null\"`".to_owned());
        let path = KeyPath::top("labels").key(key);
        warning(&path, "the null deletes nothing: there is no such label".to_owned(), help, node.location().cloned())
    });
    warnings.collect()
}

fn warning(path: &KeyPath, message: String, help: Option<String>, location: Option<SourceLocation>) -> Problem {
    Problem { help, location, ..Problem::new(path, message) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::merge::merge_builtin as merge;

    #[track_caller]
    fn check(defaults: &str, definition: &str, expected: &[&str]) {
        let [defaults, definition]: [Node; 2] = [defaults, definition].map(|text| serde_json::from_str(text).unwrap());
        let whole = merge(defaults, definition.clone());

        let warnings = without_effect(&definition, &whole);

        let shown: Vec<String> = warnings.iter().map(Problem::title).collect();
        assert_eq!(shown, expected);
    }

    #[test]
    fn test_null_that_deletes_nothing_is_a_warning() {
        check(
            "{}",
            r#"{"storage":[{"name":"data"},{"dta":null}],"labels":{"a":null,"b":"null"},"vga":null}"#,
            &[
                "`storage[1]`: `dta` is not in `storage`: the null deletes nothing",
                "`labels.a`: the null deletes nothing: there is no such label",
            ],
        );
        check(
            "{}",
            r#"{"arguments":[{"chardev":null,"id":"c"},{"netdev":null,"id":"n"},{"kernel":null},{"device":"e1000","id":"d"}]}"#,
            &[
                "`arguments[0]`: no earlier `-chardev` has the ID `c`: the null deletes nothing",
                "`arguments[1]`: no earlier `-netdev` has the ID `n`: the null deletes nothing",
            ],
        );
        check(
            "{}",
            r#"{"network":[{"lan":null}]}"#,
            &["`network[0]`: `lan` is not in `network`: the null deletes nothing"],
        );
    }

    #[test]
    fn test_null_that_deletes_a_default_is_no_warning() {
        check(
            r#"{"storage":[{"name":"data"}],"network":{"model":"a"},"labels":{"a":1}}"#,
            r#"{"storage":[{"data":null}],"network":[{"net0":null}],"labels":{"a":null}}"#,
            &[],
        );
        check(r#"{"storage":[{"data":null}],"labels":{"a":null}}"#, "{}", &[]);
        let netdev = r#"{"arguments":[{"netdev":"user","id":"n"}]}"#;
        check(netdev, r#"{"arguments":[{"netdev":null,"id":"n"}]}"#, &[]);
        check(r#"{"args":["-netdev","user,id=n"]}"#, r#"{"arguments":[{"netdev":null,"id":"n"}]}"#, &[]);
    }
}

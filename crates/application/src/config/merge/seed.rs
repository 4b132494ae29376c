//! Merging of `seed`.

use maqet_domain::config::{Node, Value};

use super::raw::merge_by_key;
use super::{append, join, merge_nested};

/// Merges two seeds: users by name, keys, packages and groups as sets, and commands in their order. `- {NAME: null}`
/// deletes the earlier one in each of these lists.
pub(super) fn merge_seed(base: Node, over: Node) -> Node {
    join(base, over, append, |key, base, over| match key {
        "users" => join(base, over, merge_users, merge_nested),
        _ => merge_list(key, base, over),
    })
}

fn merge_list(key: &str, base: Node, over: Node) -> Node {
    match key {
        "packages" | "ssh_keys" | "groups" => join(base, over, merge_set, merge_nested),
        // One may be run twice.
        "run" => join(base, over, |base, over| merge_by_key(base, over, |_| None, Some, keep), merge_nested),
        _ => merge_nested(key, base, over),
    }
}

fn merge_set(base: Vec<Node>, over: Vec<Node>) -> Vec<Node> {
    merge_by_key(base, over, Node::written, Some, keep)
}

fn merge_users(base: Vec<Node>, over: Vec<Node>) -> Vec<Node> {
    merge_by_key(base, over, name_of, Some, merge_user)
}

/// Merges two users of one name, each a map or the name alone.
fn merge_user(base: Node, over: Node) -> Node {
    match (&base.value, &over.value) {
        (Value::Map(_), Value::Map(_)) => join(base, over, append, merge_list),
        (Value::Map(_), _) => base,
        (_, _) => over,
    }
}

fn name_of(user: &Node) -> Option<String> {
    match user.value {
        Value::Map(_) => user.get("name")?.written(),
        _ => user.written(),
    }
}

fn keep(below: Node, _: Node) -> Node {
    below
}

#[cfg(test)]
mod tests {
    use super::super::tests::check;

    #[track_caller]
    fn check_list(list: &str, base: &str, over: &str, expected: &str) {
        let of = |items: &str| format!(r#"{{"seed":{{"{list}":{items}}}}}"#);
        check(&of(base), &of(over), &of(expected));
    }

    #[test]
    fn test_merge_seed_null_deletes_one_of_each_list() {
        for list in ["packages", "ssh_keys", "run"] {
            check_list(list, r#"["a","b"]"#, r#"[{"a":null},"c"]"#, r#"["b","c"]"#);
            check_list(list, r#"["a"]"#, r#"[{"x":null}]"#, r#"["a",{"x":null}]"#);
        }
        check_list("users", r#"["a",{"name":"b","sudo":false}]"#, r#"[{"b":null},"c"]"#, r#"["a","c"]"#);
        check_list("users", r#"["a",{"name":"b"}]"#, r#"[{"a":null}]"#, r#"[{"name":"b"}]"#);
        check(
            r#"{"seed":{"users":[{"name":"a","groups":["g","h"]}]}}"#,
            r#"{"seed":{"users":[{"name":"a","groups":[{"g":null},"i"]}]}}"#,
            r#"{"seed":{"users":[{"name":"a","groups":["h","i"]}]}}"#,
        );
        check(
            r#"{"seed":{"files":{"/a":"x","/b":"y"}}}"#,
            r#"{"seed":{"files":{"/a":null}}}"#,
            r#"{"seed":{"files":{"/b":"y"}}}"#,
        );
    }

    #[test]
    fn test_merge_seed_users_are_merged_by_name() {
        check_list(
            "users",
            r#"["a",{"name":"b","sudo":false,"ssh_keys":["k"]}]"#,
            r#"[{"name":"b","sudo":null,"ssh_keys":["k","l"]},{"name":"a","shell":"/s"},"b"]"#,
            r#"[{"name":"a","shell":"/s"},{"name":"b","ssh_keys":["k","l"]},"b"]"#,
        );
        check_list("users", r#"[{"name":"a","sudo":false}]"#, r#"["a"]"#, r#"[{"name":"a","sudo":false}]"#);
    }

    #[test]
    fn test_merge_seed_sets_have_one_of_each_and_commands_all() {
        check_list("packages", r#"["a","b"]"#, r#"["b","c"]"#, r#"["a","b","c"]"#);
        check_list("run", r#"["a",["b","c"]]"#, r#"["a"]"#, r#"["a",["b","c"],"a"]"#);
    }
}

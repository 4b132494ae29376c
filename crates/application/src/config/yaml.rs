//! YAML; the only module that knows the crate that reads it.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use maqet_domain::config::{Node, Problem, ProblemKind, SourceLocation, Value};
use maqet_domain::text::shortened;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_yaml::{Location, Spanned, Tagged};

use super::yaml_hints::advice;
use crate::limits;

/// Reads a YAML text into a tree that remembers where everything stands in `source`, or tells what is wrong with it.
///
/// Booleans are `true` and `false` only; `on`, `yes`, `017` and `1_000` stay texts, as QEMU wants
/// them. An empty text is an empty map.
pub fn read(source: &str, text: &str) -> Result<Node, Vec<Problem>> {
    let mut problems = Vec::new();
    let node = read_noting(source, text, &mut problems);
    node.filter(|_| problems.is_empty()).ok_or(problems)
}

/// Reads of a YAML text what can be read: of keys that stand twice the first one. Notes what is wrong.
pub(super) fn read_noting(source: &str, text: &str, problems: &mut Vec<Problem>) -> Option<Node> {
    match tree(source, text, problems) {
        Ok(node) => Some(without_duplicates(node, problems)),
        Err(problem) => {
            problems.push(problem);
            None
        }
    }
}

fn tree(source: &str, text: &str, problems: &mut Vec<Problem>) -> Result<Node, Problem> {
    let source: Arc<str> = source.into();
    if text.len() > limits::MAX_CONFIG_BYTES {
        let message = format!("the file has {} bytes; {} is the most", text.len(), limits::MAX_CONFIG_BYTES);
        return Err(problem(message, SourceLocation::named(source)));
    }
    let options = serde_yaml::options! {
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        // Told here, where the place of the first one is known too.
        duplicate_keys: serde_yaml::DuplicateKeyPolicy::PassThrough,
        // So are tags, but for those of what a merge key takes in, which are not passed on.
        reject_unsupported_tags: text.contains("<<"),
        budget: serde_yaml::budget! {
            max_depth: limits::MAX_CONFIG_DEPTH,
            max_nodes: limits::MAX_CONFIG_NODES,
        },
        alias_limits: serde_yaml::alias_limits! {
            max_total_replayed_events: limits::MAX_CONFIG_ALIASED,
        },
    };
    let tree: Tree = serde_yaml::from_str_with_options(text, options).map_err(|error| refusal(&error, &source))?;
    let node = widened(tree.into_node(&source, problems), text);
    Ok(if node.is_null() { node.map_value(|_| Value::Map(Vec::new())) } else { node })
}

/// Returns the tree with lists and maps as long as they are on their first line; the reader knows where they begin.
fn widened(node: Node, text: &str) -> Node {
    let ends = |node: &Node| node.place.as_ref().map_or(0, |place| place.offset + place.length);
    let (value, end) = match node.value {
        Value::List(items) => {
            let items: Vec<Node> = items.into_iter().map(|item| widened(item, text)).collect();
            let end = items.last().map(ends);
            (Value::List(items), end)
        }
        Value::Map(entries) => {
            let entries: Vec<(String, Node)> =
                entries.into_iter().map(|(key, node)| (key, widened(node, text))).collect();
            let end = entries.last().map(|(_, node)| ends(node));
            (Value::Map(entries), end)
        }
        scalar => return Node { value: scalar, ..node },
    };
    let place = node.place.map(|place| match text.get(place.offset..) {
        Some(rest) => {
            SourceLocation { length: length_of_line(rest, end.map(|end| end.saturating_sub(place.offset))), ..place }
        }
        None => place,
    });
    Node { value, place, ..node }
}

/// Returns how much of the first line of `text` a list or map takes whose last value ends at `inner`.
fn length_of_line(text: &str, inner: Option<usize>) -> usize {
    let line = text.lines().next().unwrap_or_default();
    let inner = inner.unwrap_or(1);
    let is_flow = line.starts_with(['[', '{']);
    let closed = line.get(inner..).and_then(|rest| rest.find([']', '}'])).filter(|_| is_flow);
    closed.map_or_else(|| inner.min(line.trim_end().len()), |at| inner + at + 1)
}

/// Returns the tree without the keys that stood in their map already; notes each, with the place of the first.
fn without_duplicates(node: Node, problems: &mut Vec<Problem>) -> Node {
    node.map_value(|value| match value {
        Value::Map(entries) => {
            let mut seen: HashMap<String, Option<SourceLocation>> = HashMap::new();
            let mut kept = Vec::with_capacity(entries.len());
            for (key, node) in entries {
                if let Some(first) = seen.get(&key) {
                    let message = format!("the key `{}` stands here twice", key.escape_debug());
                    let place = node.key.clone().unwrap_or_else(|| SourceLocation::named(""));
                    problems.push(Problem { other: first.clone(), ..problem(message, place) });
                } else {
                    seen.insert(key.clone(), node.key.clone());
                    kept.push((key, without_duplicates(node, problems)));
                }
            }
            Value::Map(kept)
        }
        Value::List(items) => Value::List(items.into_iter().map(|item| without_duplicates(item, problems)).collect()),
        scalar => scalar,
    })
}

fn problem(message: String, place: SourceLocation) -> Problem {
    Problem { kind: ProblemKind::Invalid, path: String::new(), message, help: None, place: Some(place), other: None }
}

/// Says in our words what the reader refused.
fn refusal(error: &serde_yaml::Error, source: &Arc<str>) -> Problem {
    let place = error.location().map_or_else(|| SourceLocation::named(Arc::clone(source)), |at| place(&at, source));
    // What is met inside an alias is wrapped, so that the message can name both of its ends.
    let mut error = error.without_snippet();
    while let serde_yaml::Error::AliasError { error: inner, .. } = error {
        error = inner.without_snippet();
    }
    if let serde_yaml::Error::UnsupportedTag { tag, .. } = &error {
        return without_meaning(tag, place);
    }
    let (message, help) = match error {
        serde_yaml::Error::Budget { .. } => (
            format!(
                "the file holds more than a configuration may: {} values, those of aliases counted each time, {} deep",
                limits::MAX_CONFIG_NODES,
                limits::MAX_CONFIG_DEPTH
            ),
            None,
        ),
        serde_yaml::Error::MultipleDocuments { .. } => (
            "the file holds several YAML documents".to_owned(),
            Some("give each a file of its own; several files are merged".to_owned()),
        ),
        serde_yaml::Error::AliasReplayLimitExceeded { .. } => {
            (format!("the aliases of the file stand for more than {} values", limits::MAX_CONFIG_ALIASED), None)
        }
        other => {
            let text = other.to_string();
            let text = text.split(" at line ").next().unwrap_or_default();
            advice(text)
        }
    };
    Problem { help, ..problem(message, place) }
}

fn place(location: &Location, source: &Arc<str>) -> SourceLocation {
    let number = |value: u64| u32::try_from(value).unwrap_or(0);
    let bytes = |value: Option<u64>| value.and_then(|value| usize::try_from(value).ok()).unwrap_or(0);
    SourceLocation {
        source: Arc::clone(source),
        line: number(location.line()),
        column: number(location.column()),
        offset: bytes(location.span().byte_offset()),
        length: bytes(location.span().byte_len()),
    }
}

/// A node as the reader gives it: with its location and its tag.
struct Tree(Tagged<Spanned<Branch>>);

enum Branch {
    Plain(Value),
    List(Vec<Tree>),
    Map(Vec<(Key, Tree)>),
}

type Key = Tagged<Spanned<String>>;

impl Tree {
    /// Returns the tree as ours, and notes its tags that have no meaning.
    fn into_node(self, source: &Arc<str>, problems: &mut Vec<Problem>) -> Node {
        let Tagged(spanned, tag) = self.0;
        let place = place(&spanned.referenced, source);
        problems.extend(tag.as_deref().and_then(|tag| refused_tag(tag, &place)));
        let value = match spanned.value {
            Branch::Plain(value) => value,
            Branch::List(items) => {
                Value::List(items.into_iter().map(|item| item.into_node(source, problems)).collect())
            }
            Branch::Map(entries) => {
                Value::Map(entries.into_iter().map(|(key, tree)| entry(key, tree, source, problems)).collect())
            }
        };
        Node { value, place: Some(place), key: None }
    }
}

fn entry(key: Key, tree: Tree, source: &Arc<str>, problems: &mut Vec<Problem>) -> (String, Node) {
    let Tagged(key, tag) = key;
    let place = place(&key.referenced, source);
    problems.extend(tag.as_deref().and_then(|tag| refused_tag(tag, &place)));
    (key.value, Node { key: Some(place), ..tree.into_node(source, problems) })
}

/// Returns what is wrong with a tag, unless it is one of the core, which the reader minds.
fn refused_tag(tag: &str, place: &SourceLocation) -> Option<Problem> {
    const OF_YAML: &str = "tag:yaml.org,2002:";
    let core = ["str", "int", "float", "bool", "null", "seq", "map"];
    let own = tag.strip_prefix(OF_YAML);
    let has_meaning = tag == "!" || own.is_some_and(|name| core.contains(&name));
    let shown = own.map_or_else(|| tag.to_owned(), |name| format!("!!{name}"));
    (!has_meaning).then(|| without_meaning(&shown, place.clone()))
}

fn without_meaning(tag: &str, place: SourceLocation) -> Problem {
    let help = Some("leave it out, or quote the whole value if it begins with a `!`".to_owned());
    Problem { help, ..problem(format!("the YAML tag {} has no meaning here", shortened(tag)), place) }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Tagged::deserialize(deserializer).map(Self)
    }
}

impl<'de> Deserialize<'de> for Branch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(BranchVisitor)
    }
}

struct BranchVisitor;

impl<'de> Visitor<'de> for BranchVisitor {
    type Value = Branch;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Branch, E> {
        Ok(Branch::Plain(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Branch, E> {
        Ok(Branch::Plain(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Branch, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Branch, E> {
        Ok(Branch::Plain(Value::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Branch, E> {
        Ok(Branch::Plain(Value::Int(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Branch, E> {
        let value = i64::try_from(value).map_or_else(|_| Value::Text(value.to_string()), Value::Int);
        Ok(Branch::Plain(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Branch, E> {
        Ok(Branch::Plain(Value::Float(value)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Branch, E> {
        Ok(Branch::Plain(Value::Text(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Branch, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Branch::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Branch, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Branch::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let node = read("f", text).unwrap();

        assert_eq!(serde_json::to_string(&node).unwrap(), expected);
    }

    #[track_caller]
    fn check_refused(text: &str, at: (u32, u32), expected: &str) {
        let [problem] = read("f", text).unwrap_err().try_into().unwrap();

        let place = problem.place.unwrap();
        assert_eq!((problem.message.as_str(), (place.line, place.column)), (expected, at));
    }

    #[test]
    fn test_yaml_words_that_other_readers_change_stay_texts() {
        check("[on, yes, 017, 1_000, 'true', true, 0x10]", r#"["on","yes","017","1_000","true",true,16]"#);
    }

    #[test]
    fn test_yaml_empty_text_is_an_empty_map() {
        check("", "{}");
        check("# nothing\n", "{}");
    }

    #[test]
    fn test_yaml_value_knows_its_line_and_column() {
        let node = read("f", "a: 1\nb:\n  c: x\n").unwrap();

        let place = node.get("b").unwrap().get("c").unwrap().place.clone().unwrap();

        assert_eq!((place.line, place.column), (3, 6));
    }

    #[test]
    fn test_yaml_duplicate_key_is_refused_where_it_stands() {
        check_refused("a: 1\na: 2\n", (2, 1), "the key `a` stands here twice");
        check_refused("x: [{a: 1, b: {c: 1,\n  c: 2}}]\n", (2, 3), "the key `c` stands here twice");
        check_refused("x: &x {a: 1}\ny: *x\nx: 2\n", (3, 1), "the key `x` stands here twice");
    }

    #[test]
    fn test_yaml_list_or_map_is_as_long_as_it_is_on_its_first_line() {
        let text = "a: [1, {b: 2} ]  # x\nb: {}\nc:\n  - d: 1\n    e: 2\nf: [1,\n  2]\n";
        let node = read("f", text).unwrap();

        let shown = |key: &str| {
            let place = node.get(key).unwrap().place.clone().unwrap();
            &text[place.offset..place.offset + place.length]
        };

        assert_eq!([shown("a"), shown("b"), shown("c"), shown("f")], ["[1, {b: 2} ]", "{}", "- d: 1", "[1,"]);
    }

    #[test]
    fn test_yaml_duplicate_key_tells_where_the_first_one_is() {
        let problems = read("f", "b: 0\na: 1\na: 2\na: 3\n").unwrap_err();

        let paths =
            problems.iter().map(|problem| [&problem.place, &problem.other].map(|place| place.as_ref().unwrap()));
        let told: Vec<String> = paths.map(|[place, other]| format!("{place} and {other}")).collect();
        assert_eq!(told, ["f:3:1 and f:2:1", "f:4:1 and f:2:1"]);
    }

    #[test]
    fn test_yaml_merge_key_that_is_overridden_is_no_duplicate() {
        check("base: &base {a: 1}\nover: {<<: *base, a: 2}\n", r#"{"base":{"a":1},"over":{"a":2}}"#);
    }

    #[test]
    fn test_yaml_tag_of_no_meaning_is_refused_wherever_it_stands() {
        for (text, at, tag) in [
            ("a: !foo 1G", (1, 9), "!foo"),
            ("a: !foo", (1, 8), "!foo"),
            ("a: [1, !x {b: 1}]", (1, 11), "!x"),
            ("!foo a: 1", (1, 6), "!foo"),
            ("--- !foo\na: 1", (2, 1), "!foo"),
            ("a: !!binary aGk=", (1, 13), "!!binary"),
            ("!!binary aGk=: 1", (1, 10), "!!binary"),
            ("a: !!set {b}", (1, 10), "!!set"),
            ("a: !<tag:example.com,2026:x> 1", (1, 30), "tag:example.com,2026:x"),
        ] {
            check_refused(text, at, &format!("the YAML tag `{tag}` has no meaning here"));
        }
        let [first, second] = read("f", "a: !x 1\nb: !y 2").unwrap_err().try_into().unwrap();
        assert_eq!([first, second].map(|problem| problem.place.unwrap().line), [1, 2]);
    }

    /// The reader keeps neither the key nor what is tagged there.
    #[test]
    fn test_yaml_tag_of_what_a_merge_key_takes_in_is_refused() {
        check_refused("<<: !x {a: 1}", (1, 8), "the YAML tag `!x` has no meaning here");
        check("<<: !!map {a: 1}", r#"{"a":1}"#);
    }

    #[test]
    fn test_yaml_tag_of_the_core_says_what_a_value_is() {
        check(
            "[!!str 5, !!int '5', !!bool true, !!null '', !!seq [], !!map {}, ! 5]",
            r#"["5",5,true,null,[],{},"5"]"#,
        );
        check("!!str 5: 1", r#"{"5":1}"#);
    }

    #[test]
    fn test_yaml_tab_is_refused_with_advice() {
        let problems = read("f", "a:\n\t- b\n").unwrap_err();

        assert_eq!(problems[0].help.as_deref(), Some("indent with spaces"));
    }

    #[test]
    fn test_yaml_too_deep_or_too_much_through_an_alias_is_told_as_that() {
        let list = |inner: &str| "[".repeat(20) + inner + &"]".repeat(20);
        let deep = format!("x: &a {}\ny: {}\n", list("1"), list("*a"));
        let most = format!("x: &a [{}]\ny: [*a, *a]\n", "1, ".repeat(limits::MAX_CONFIG_ALIASED - 10));

        let told = [deep, most].map(|text| read("f", &text).unwrap_err()[0].message.clone());

        assert!(told[0].ends_with("those of aliases counted each time, 32 deep"), "{}", told[0]);
        assert!(told[1].starts_with("the aliases of the file stand for more than"), "{}", told[1]);
    }

    #[test]
    fn test_yaml_too_deep_or_too_large_is_refused() {
        assert!(read("f", &"[".repeat(100)).is_err());
        assert!(read("f", &"#".repeat(limits::MAX_CONFIG_BYTES + 1)).is_err());
    }

    #[test]
    fn test_yaml_alias_bomb_is_refused() {
        let mut bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n".to_owned();
        for (name, below) in ["b", "c", "d", "e", "f", "g"].iter().zip(["a", "b", "c", "d", "e", "f"]) {
            use std::fmt::Write;
            let aliases = vec![format!("*{below}"); 9].join(",");
            writeln!(bomb, "{name}: &{name} [{aliases}]").unwrap();
        }

        assert!(read("f", &bomb).is_err());
    }

    proptest! {
        #[test]
        fn test_yaml_any_text_never_panics(text in any::<String>()) {
            let _ = read("f", &text);
        }
    }
}

//! YAML; the only module that uses the YAML crate.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use maqet_domain::config::{Node, Problem, Raw, SourceLocation, Value, names_secrets};
use maqet_domain::text::shortened;
use serde::Deserialize;
use serde_yaml::{Location, Spanned, Tagged};

use super::spelling::as_written;
use super::yaml_hints::message_and_help;
use crate::limits;

/// Reads a YAML text into a tree with locations in `source`, or returns its problems.
///
/// A number is what JSON and YAML write alike; any other scalar stays the string that was written, as QEMU expects it:
/// `0x10`, `1e5`, `017`, `on`. An empty text is an empty map.
pub fn read(source: &str, text: &str) -> Result<Node, Vec<Problem>> {
    let mut problems = Vec::new();
    let node = read_partially(source, text, &mut problems);
    node.filter(|_| problems.is_empty()).ok_or(problems)
}

/// Reads as much of a YAML text as possible, of duplicate keys the first, and adds its problems.
pub(super) fn read_partially(source: &str, text: &str, problems: &mut Vec<Problem>) -> Option<Node> {
    let earlier = problems.len();
    let node = match tree(source, text, problems) {
        Ok(node) => Some(without_duplicates(node, problems)),
        Err(problem) => {
            problems.push(problem);
            None
        }
    };
    if problems.len() > earlier && names_secrets(text) {
        problems[earlier..].iter_mut().for_each(hide_value);
    }
    node
}

/// Removes the name of a tag or an anchor, which may be a secret that should have been quoted.
fn hide_value(problem: &mut Problem) {
    if problem.message.contains("YAML tag") || problem.message.contains("anchor") {
        let end = problem.message.find(['`', '\'', '"']).unwrap_or(problem.message.len());
        problem.message.truncate(problem.message[..end].trim_end().len());
    }
}

fn tree(source: &str, text: &str, problems: &mut Vec<Problem>) -> Result<Node, Problem> {
    let source: Arc<str> = source.into();
    if text.len() > limits::MAX_CONFIG_BYTES {
        let message = format!("file of {} bytes is too large: the limit is {}", text.len(), limits::MAX_CONFIG_BYTES);
        return Err(problem(message, SourceLocation::named(source)));
    }
    let options = serde_yaml::options! {
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        // `.inf` is a string, see `as_written`.
        non_finite_float_policy: serde_yaml::NonFiniteFloatPolicy::PassThrough,
        // Reported below, with the location of the first one.
        duplicate_keys: serde_yaml::DuplicateKeyPolicy::PassThrough,
        // So are tags, except for those in the value of a merge key, which the crate does not pass on.
        reject_unsupported_tags: text.contains("<<"),
        budget: serde_yaml::budget! {
            max_depth: limits::MAX_CONFIG_DEPTH,
            max_nodes: limits::MAX_CONFIG_NODES,
        },
        alias_limits: serde_yaml::alias_limits! {
            max_total_replayed_events: limits::MAX_CONFIG_ALIASED,
        },
    };
    let tree: YamlNode = serde_yaml::from_str_with_options(text, options).map_err(|error| refusal(&error, &source))?;
    let node = with_lengths(tree.into_node(&mut Reader { source: &source, text, problems }), text);
    Ok(if node.is_null() { node.map_value(|_| Value::Map(Vec::new())) } else { node })
}

/// Sets the length of lists and maps to their length on the first line; the crate only knows where they start.
fn with_lengths(node: Node, text: &str) -> Node {
    let node = node
        .map_items(|items| items.into_iter().map(|item| with_lengths(item, text)).collect())
        .map_entries(|entries| entries.into_iter().map(|(key, node)| (key, with_lengths(node, text))).collect());
    let location = match (&node.value, &node.value_location) {
        (Value::List(_) | Value::Map(_), Some(location)) => location.clone(),
        (_, _) => return node,
    };
    let Some(rest) = text.get(location.offset..) else { return node };
    let last = node.entries().last().map(|(_, node)| node).or(node.items().last());
    let end = |node: &Node| node.value_location.as_ref().map_or(0, |location| location.offset + location.length);
    let length = length_on_line(rest, last.map(|last| end(last).saturating_sub(location.offset)));
    node.at(SourceLocation { length, ..location })
}

/// Returns the length on the first line of `text` of a list or map whose last value ends at `inner`.
fn length_on_line(text: &str, inner: Option<usize>) -> usize {
    let line = text.lines().next().unwrap_or_default();
    let inner = inner.unwrap_or(1);
    let is_flow = line.starts_with(['[', '{']);
    let closed = line.get(inner..).and_then(|rest| rest.find([']', '}'])).filter(|_| is_flow);
    closed.map_or_else(|| inner.min(line.trim_end().len()), |at| inner + at + 1)
}

/// Removes duplicate keys and reports each, with the location of the first.
fn without_duplicates(node: Node, problems: &mut Vec<Problem>) -> Node {
    let node = node.map_items(|items| items.into_iter().map(|item| without_duplicates(item, problems)).collect());
    node.map_entries(|entries| {
        if !has_duplicates(&entries) {
            return entries.into_iter().map(|(key, node)| (key, without_duplicates(node, problems))).collect();
        }
        let mut seen: HashMap<String, Option<SourceLocation>> = HashMap::new();
        let mut kept = Vec::with_capacity(entries.len());
        for (key, node) in entries {
            if let Some(first) = seen.get(&key) {
                let message = format!("duplicate key `{}`", key.escape_debug());
                let location = node.key_location.clone().unwrap_or_else(|| SourceLocation::named(""));
                problems.push(Problem { other: first.clone(), ..problem(message, location) });
            } else {
                seen.insert(key.clone(), node.key_location.clone());
                kept.push((key, without_duplicates(node, problems)));
            }
        }
        kept
    })
}

fn has_duplicates(entries: &[(String, Node)]) -> bool {
    // Comparing the few keys of a usual map is quicker than hashing them.
    const SMALL: usize = 16;

    if entries.len() <= SMALL {
        return entries
            .iter()
            .enumerate()
            .any(|(at, (key, _))| entries[..at].iter().any(|(earlier, _)| earlier == key));
    }
    let mut seen = HashSet::new();
    !entries.iter().all(|(key, _)| seen.insert(key.as_str()))
}

fn problem(message: String, location: SourceLocation) -> Problem {
    Problem { location: Some(location), ..Problem::new("", message) }
}

/// Converts an error of the crate.
fn refusal(error: &serde_yaml::Error, source: &Arc<str>) -> Problem {
    let location =
        error.location().map_or_else(|| SourceLocation::named(Arc::clone(source)), |at| convert(&at, source));
    // An error inside an alias is wrapped, so that its message can name both locations.
    let mut error = error.without_snippet();
    while let serde_yaml::Error::AliasError { error: inner, .. } = error {
        error = inner.without_snippet();
    }
    if let serde_yaml::Error::UnsupportedTag { tag, .. } = &error {
        return unsupported_tag(tag, location);
    }
    let (message, help) = match error {
        serde_yaml::Error::Budget { .. } => (
            format!(
                "file exceeds the limits of a configuration: {} values (aliases are expanded), {} levels",
                limits::MAX_CONFIG_NODES,
                limits::MAX_CONFIG_DEPTH
            ),
            None,
        ),
        serde_yaml::Error::MultipleDocuments { .. } => (
            "file contains more than one YAML document".to_owned(),
            Some("split it into several files, which are merged".to_owned()),
        ),
        serde_yaml::Error::AliasReplayLimitExceeded { .. } => {
            (format!("aliases expand to more than {} values", limits::MAX_CONFIG_ALIASED), None)
        }
        other => {
            let text = other.to_string();
            let text = text.split(" at line ").next().unwrap_or_default();
            message_and_help(text)
        }
    };
    Problem { help, ..problem(message, location) }
}

fn convert(location: &Location, source: &Arc<str>) -> SourceLocation {
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

/// A node with its location and its tag.
#[derive(Deserialize)]
#[serde(transparent)]
struct YamlNode(Tagged<Spanned<Raw<YamlKey, YamlNode>>>);

type YamlKey = Tagged<Spanned<String>>;

/// What a tree is converted with.
struct Reader<'a> {
    source: &'a Arc<str>,
    text: &'a str,
    /// Where unsupported tags are reported.
    problems: &'a mut Vec<Problem>,
}

impl YamlNode {
    /// Converts the tree.
    fn into_node(self, reader: &mut Reader<'_>) -> Node {
        let Tagged(spanned, tag) = self.0;
        let location = convert(&spanned.referenced, reader.source);
        reader.problems.extend(tag.as_deref().and_then(|tag| check_tag(tag, &location)));
        let node = match spanned.value {
            // A tag sets the type; JSON has no infinity.
            Raw::Scalar(value) if tag.is_some() && !matches!(value, Value::Float(float) if !float.is_finite()) => {
                Node::new(value)
            }
            Raw::Scalar(value) => as_written(value, || slice(reader.text, &spanned.defined)),
            Raw::List(items) => Node::new(Value::List(items.into_iter().map(|item| item.into_node(reader)).collect())),
            Raw::Map(entries) => {
                Node::new(Value::Map(entries.into_iter().map(|(key, tree)| entry(key, tree, reader)).collect()))
            }
        };
        node.at(location)
    }
}

fn entry(key: YamlKey, tree: YamlNode, reader: &mut Reader<'_>) -> (String, Node) {
    let Tagged(key, tag) = key;
    let location = convert(&key.referenced, reader.source);
    reader.problems.extend(tag.as_deref().and_then(|tag| check_tag(tag, &location)));
    (key.value, Node { key_location: Some(location), ..tree.into_node(reader) })
}

/// Returns the part of the text at a location.
fn slice<'a>(text: &'a str, location: &Location) -> &'a str {
    let bytes = |value: Option<u64>| value.and_then(|value| usize::try_from(value).ok());
    let range = bytes(location.span().byte_offset()).zip(bytes(location.span().byte_len()));
    range.and_then(|(offset, length)| text.get(offset..offset + length)).unwrap_or_default()
}

/// Returns an error about a tag unless it is a core tag, which the crate interprets.
fn check_tag(tag: &str, location: &SourceLocation) -> Option<Problem> {
    const CORE_PREFIX: &str = "tag:yaml.org,2002:";
    let core = ["str", "int", "float", "bool", "null", "seq", "map"];
    let own = tag.strip_prefix(CORE_PREFIX);
    let is_supported = tag == "!" || own.is_some_and(|name| core.contains(&name));
    let shown = own.map_or_else(|| tag.to_owned(), |name| format!("!!{name}"));
    (!is_supported).then(|| unsupported_tag(&shown, location.clone()))
}

fn unsupported_tag(tag: &str, location: SourceLocation) -> Problem {
    let help = Some("remove it, or quote the whole value if it starts with a `!`".to_owned());
    Problem { help, ..problem(format!("unsupported YAML tag {}", shortened(tag)), location) }
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

    #[test]
    fn test_yaml_secret_that_is_not_quoted_is_not_shown() {
        for text in ["credentials: {a: !s3cret x}\n", "credentials: {a: *s3cret}\n", "x: 1\npassword: !s3cret\n"] {
            let problems = read("f", text).unwrap_err();

            assert!(!format!("{problems:?}").contains("s3cret"), "{problems:?}");
        }
    }

    #[track_caller]
    fn check_refused(text: &str, at: (u32, u32), expected: &str) {
        let [problem] = read("f", text).unwrap_err().try_into().unwrap();

        let location = problem.location.unwrap();
        assert_eq!((problem.message.as_str(), (location.line, location.column)), (expected, at));
    }

    #[test]
    fn test_yaml_ambiguous_scalars_stay_strings() {
        check("[on, yes, 017, 1_000, 'true', true, 0x10]", r#"["on","yes","017","1_000","true",true,"0x10"]"#);
    }

    #[test]
    fn test_yaml_empty_text_is_an_empty_map() {
        check("", "{}");
        check("# nothing\n", "{}");
    }

    #[test]
    fn test_yaml_value_knows_its_line_and_column() {
        let node = read("f", "a: 1\nb:\n  c: x\n").unwrap();

        let location = node.get("b").unwrap().get("c").unwrap().value_location.clone().unwrap();

        assert_eq!((location.line, location.column), (3, 6));
    }

    #[test]
    fn test_yaml_duplicate_key_is_an_error_at_its_location() {
        check_refused("a: 1\na: 2\n", (2, 1), "duplicate key `a`");
        check_refused("x: [{a: 1, b: {c: 1,\n  c: 2}}]\n", (2, 3), "duplicate key `c`");
        check_refused("x: &x {a: 1}\ny: *x\nx: 2\n", (3, 1), "duplicate key `x`");
    }

    #[test]
    fn test_yaml_list_or_map_has_its_length_on_the_first_line() {
        let text = "a: [1, {b: 2} ]  # x\nb: {}\nc:\n  - d: 1\n    e: 2\nf: [1,\n  2]\n";
        let node = read("f", text).unwrap();

        let shown = |key: &str| {
            let location = node.get(key).unwrap().value_location.clone().unwrap();
            &text[location.offset..location.offset + location.length]
        };

        assert_eq!([shown("a"), shown("b"), shown("c"), shown("f")], ["[1, {b: 2} ]", "{}", "- d: 1", "[1,"]);
    }

    #[test]
    fn test_yaml_duplicate_key_names_the_first_one() {
        let problems = read("f", "b: 0\na: 1\na: 2\na: 3\n").unwrap_err();

        let locations =
            problems.iter().map(|problem| [&problem.location, &problem.other].map(|it| it.as_ref().unwrap()));
        let locations: Vec<String> = locations.map(|[location, other]| format!("{location} and {other}")).collect();
        assert_eq!(locations, ["f:3:1 and f:2:1", "f:4:1 and f:2:1"]);
    }

    #[test]
    fn test_yaml_overridden_merge_key_is_not_a_duplicate() {
        check("base: &base {a: 1}\nover: {<<: *base, a: 2}\n", r#"{"base":{"a":1},"over":{"a":2}}"#);
    }

    #[test]
    fn test_yaml_unsupported_tag_is_refused_everywhere() {
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
            check_refused(text, at, &format!("unsupported YAML tag `{tag}`"));
        }
        let [first, second] = read("f", "a: !x 1\nb: !y 2").unwrap_err().try_into().unwrap();
        assert_eq!([first, second].map(|problem| problem.location.unwrap().line), [1, 2]);
    }

    /// The crate passes on neither the key nor the tag.
    #[test]
    fn test_yaml_unsupported_tag_of_a_merge_key_is_refused() {
        check_refused("<<: !x {a: 1}", (1, 8), "unsupported YAML tag `!x`");
        check("<<: !!map {a: 1}", r#"{"a":1}"#);
    }

    #[test]
    fn test_yaml_core_tags_set_the_type() {
        check(
            "[!!str 5, !!int '5', !!bool true, !!null '', !!seq [], !!map {}, ! 5]",
            r#"["5",5,true,null,[],{},"5"]"#,
        );
        check("!!str 5: 1", r#"{"5":1}"#);
    }

    #[test]
    fn test_yaml_tab_is_refused_with_help() {
        let problems = read("f", "a:\n\t- b\n").unwrap_err();

        assert_eq!(problems[0].help.as_deref(), Some("indent with spaces"));
    }

    #[test]
    fn test_yaml_duplicate_keys_are_found_in_maps_of_any_size() {
        for size in [2, 16, 17, 100] {
            let keys: Vec<String> = (1..size).map(|number| format!("k{number}: 1")).collect();

            let problems = read("f", &format!("{}\nk1: 2\n", keys.join("\n"))).unwrap_err();

            assert_eq!(problems.len(), 1, "{size}");
            assert_eq!(problems[0].message, "duplicate key `k1`");
            let lines = [&problems[0].location, &problems[0].other].map(|at| at.as_ref().unwrap().line);
            assert_eq!(lines, [size, 1]);
        }
    }

    #[test]
    fn test_yaml_limits_count_aliases() {
        let list = |inner: &str| "[".repeat(20) + inner + &"]".repeat(20);
        let deep = format!("x: &a {}\ny: {}\n", list("1"), list("*a"));
        let large = format!("x: &a [{}]\ny: [*a, *a]\n", "1, ".repeat(limits::MAX_CONFIG_ALIASED - 10));

        let messages = [deep, large].map(|text| read("f", &text).unwrap_err()[0].message.clone());

        assert!(messages[0].ends_with("(aliases are expanded), 32 levels"), "{}", messages[0]);
        assert!(messages[1].starts_with("aliases expand to more than"), "{}", messages[1]);
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

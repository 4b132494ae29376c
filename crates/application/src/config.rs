//! Configuration: from documents to one definition.
//!
//! Each document is read into a tree with source locations ([`read`]), its relative paths are made absolute, and the
//! trees are merged left to right ([`merge`]). The domain checks the result (`Machine::check`).

mod defaults;
mod deletion;
mod difference;
mod error;
mod merge;
mod origin;
mod remove_keys;
mod set;
mod spelling;
mod yaml;
mod yaml_hints;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use maqet_domain::config::{Diagnostics, KeyPath, Node, Problem, ProblemKind, SourceLocation, Value};
use maqet_domain::machine::{ConfigHandler, Machine};
use maqet_domain::registry::Registry;
use serde::{Deserialize, Serialize};

use crate::{App, Error};

pub use self::defaults::check_defaults;
pub use self::difference::{Difference, differences};
pub use self::error::{ConfigError, Sources};
pub use self::merge::merge;
pub(crate) use self::origin::with_locations;
pub use self::origin::{origins, with_origins};
use self::remove_keys::remove_keys;
pub use self::set::{InvalidSetting, set};
use self::set::{Setting, number_or_text};
pub use self::yaml::read;

/// A YAML document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Document {
    /// Its name in messages: the path as it was given.
    pub name: String,
    /// The directory that its relative paths start from; absolute.
    // The alias is the name in the history of databases with schema 1.
    #[serde(alias = "folder")]
    pub directory: PathBuf,
    /// The text.
    pub text: String,
}

impl Document {
    /// Makes a document; `directory` is absolute, relative paths in the text start from it.
    pub fn new(name: impl Into<String>, directory: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        Self { name: name.into(), directory: directory.into(), text: text.into() }
    }
}

/// The keys whose values are options of QEMU.
const QEMU_OPTIONS: [&str; 3] = ["arguments", "machine", "boot"];

/// The layers of a definition, lowest first: documents, flags, single values.
pub(crate) struct Layers<'a> {
    pub(crate) documents: &'a [Document],
    pub(crate) flags: Vec<(&'static str, Option<String>)>,
    pub(crate) set: &'a [String],
    pub(crate) lenient: bool,
}

/// A checked definition.
pub(crate) struct Checked {
    pub(crate) definition: Node,
    /// Unknown keys that were removed, nulls that delete nothing, and what is probably not meant.
    pub(crate) warnings: Vec<Problem>,
}

/// Merges layers over `base` and checks the result; all problems are reported together.
pub(crate) async fn check_layers(app: &App, layers: &Layers<'_>, base: Node) -> Result<Checked, Error> {
    let Loaded { definition, mut sources, problems: unreadable } = load(layers, base, app.handlers());
    sources.extend(&app.settings().sources);
    let whole = over_defaults(app, definition.clone());
    let (machine, mut problems) = Machine::read(&whole, app.handlers());
    problems.extend(app.preflight().path_problems(&machine, &whole).await);
    problems.extend(app.preflight().link_socket_problems(&machine, &whole).await);
    let mut missing = app.preflight().drive_conflict_problems(&machine, &whole).await;
    missing.extend(app.preflight().backing_problems(&machine, &whole).await);
    missing.extend(app.preflight().foreign_content_problems(&machine, &whole).await);
    missing.extend(app.preflight().written_file_problems(&machine, &whole).await);
    missing.extend(app.preflight().tap_warnings(&machine, &whole));
    let known: HashSet<String> = problems.iter().map(|problem| problem.path.clone()).collect();
    problems.extend(missing.into_iter().filter(|one| !known.contains(&one.path)));

    // What is missing may be in a file that cannot be read.
    if !unreadable.is_empty() {
        problems.retain(|problem| problem.kind != ProblemKind::Missing);
    }
    problems.extend(unreadable);

    let (mut warnings, problems): (Vec<Problem>, Vec<Problem>) =
        problems.into_iter().partition(|problem| match problem.kind {
            ProblemKind::Warning => true,
            ProblemKind::UnknownKey => layers.lenient,
            ProblemKind::Missing | ProblemKind::Invalid => false,
        });
    if !problems.is_empty() {
        return Err(ConfigError::new(problems, sources).into());
    }
    let unknown = warnings.iter().filter(|problem| problem.kind == ProblemKind::UnknownKey);
    let unknown: Vec<&str> = unknown.map(|problem| problem.path.as_str()).collect();
    let definition = remove_keys(definition, &unknown);
    warnings.extend(deletion::without_effect(&definition, &whole));
    Ok(Checked { definition, warnings })
}

/// Checks a definition whose nodes hold their source locations, merged over the defaults of the settings.
pub(crate) fn check_machine(app: &App, definition: Node) -> Result<Machine, Error> {
    Machine::check(&over_defaults(app, definition), app.handlers())
        .map_err(|problems| ConfigError::new(problems, app.settings().sources.clone()).into())
}

/// Merges a definition over the defaults of the settings.
fn over_defaults(app: &App, definition: Node) -> Node {
    let defaults = defaults::defaults_for(app.settings().defaults.clone(), &definition);
    merge(defaults, definition, app.handlers())
}

/// Merged layers.
struct Loaded {
    definition: Node,
    sources: Sources,
    /// Problems of parts that could not be read and are not in the definition.
    problems: Vec<Problem>,
}

/// Reads the documents and merges the layers.
fn load(layers: &Layers<'_>, base: Node, handlers: &Registry<dyn ConfigHandler>) -> Loaded {
    let mut sources = Sources::default();
    let mut problems: Vec<Problem> = Vec::new();
    let mut merged = base;
    for document in layers.documents {
        sources.add(document);
        let Some(node) = yaml::read_partially(&document.name, &document.text, &mut problems) else { continue };
        let mut report = Diagnostics::default();
        // Merging would lose a document that is not a map.
        if report.map(&KeyPath::default(), &node).is_some() {
            merged = merge(merged, rebased(node, &document.directory, handlers), handlers);
        }
        problems.extend(report.into_problems());
    }
    merged = merge(merged, flag_layer(&layers.flags), handlers);
    for setting in layers.set {
        match Setting::read(&merged, setting) {
            Ok(setting) => merged = setting.over(merged, handlers),
            Err(invalid) => problems.push(invalid.into()),
        }
    }
    Loaded { definition: merged, sources, problems }
}

/// Makes a layer of the flags that were passed.
fn flag_layer(flags: &[(&'static str, Option<String>)]) -> Node {
    let entries = flags.iter().filter_map(|(key, value)| {
        let location = SourceLocation::named(format!("option `--{key}`"));
        // A name of digits is a string.
        let read = if *key == "name" { Node::text } else { number_or_text };
        value.as_ref().map(|text| ((*key).to_owned(), read(text).at(location)))
    });
    Node::new(Value::Map(entries.collect()))
}

/// Returns a tree with texts as they were written, and relative paths made absolute; the handler of each key finds its
/// paths.
pub fn rebased(node: Node, folder: &Path, handlers: &Registry<dyn ConfigHandler>) -> Node {
    let rebased = |(key, node): (String, Node)| {
        let node = with_texts(&key, node);
        match handlers.get(&key) {
            Some(handler) => (key, handler.rebase(node, folder)),
            None => (key, node),
        }
    };
    node.map_entries(|entries| entries.into_iter().map(rebased).collect())
}

/// Returns the value of a key with texts as they were written.
fn with_texts(key: &str, node: Node) -> Node {
    if QEMU_OPTIONS.contains(&key) { node.with_option_texts() } else { node.with_texts() }
}

/// Returns a map without the key `name`: of a VM, which is not part of its machine, or of an entry found by its name.
pub(crate) fn without_name(node: Node) -> Node {
    node.map_entries(|entries| entries.into_iter().filter(|(key, _)| key != "name").collect())
}

/// Returns a definition without a label.
pub(crate) fn without_label(definition: Node, label: &str) -> Node {
    let kept = |entries: Vec<(String, Node)>| entries.into_iter().filter(|(key, _)| key != label).collect();
    let changed = |(key, node): (String, Node)| {
        let node = if key == "labels" { node.map_entries(kept) } else { node };
        (key, node)
    };
    definition.map_entries(|entries| {
        let is_empty = |(key, node): &(String, Node)| key == "labels" && node.entries().is_empty();
        entries.into_iter().map(changed).filter(|entry| !is_empty(entry)).collect()
    })
}

#[cfg(test)]
mod tests {
    use maqet_domain::machine::builtin_handlers;
    use maqet_domain::storage::builtin_drivers;

    use super::*;

    fn document(text: &str) -> Document {
        Document { name: "a.yaml".to_owned(), directory: PathBuf::from("/conf"), text: text.to_owned() }
    }

    fn loaded(texts: &[&str], flags: Vec<(&'static str, Option<String>)>) -> Node {
        let handlers = builtin_handlers(&builtin_drivers().unwrap()).unwrap();
        let documents: Vec<Document> = texts.iter().map(|text| document(text)).collect();
        let layers = Layers { documents: &documents, flags, set: &[], lenient: false };
        load(&layers, Node::empty_map(), &handlers).definition
    }

    #[test]
    fn test_load_relative_paths_are_relative_to_their_file() {
        let node = loaded(&["storage: [{name: a, file: d/x.raw}]\nbinary: ./qemu"], vec![]);

        assert_eq!(
            serde_json::to_string(&node).unwrap(),
            r#"{"storage":[{"name":"a","file":"/conf/d/x.raw"}],"binary":"/conf/./qemu"}"#
        );
    }

    /// The name, or the type that has the key, may be in another file.
    #[test]
    fn test_load_paths_of_a_partial_drive_are_relative_to_its_file() {
        let node = loaded(&["storage: {file: x.raw}", "storage: {name: a, type: raw}"], vec![]);
        assert_eq!(
            serde_json::to_string(&node).unwrap(),
            r#"{"storage":[{"name":"a","file":"/conf/x.raw","type":"raw"}]}"#
        );

        let node = loaded(&["storage: [{name: s, type: virtfs}]", "storage: [{name: s, path: src}]"], vec![]);
        assert_eq!(
            serde_json::to_string(&node).unwrap(),
            r#"{"storage":[{"name":"s","type":"virtfs","path":"/conf/src"}]}"#
        );
    }

    #[test]
    fn test_load_flag_overrides_files() {
        let node = loaded(&["memory: 1G"], vec![("memory", Some("2G".to_owned())), ("cpu", None)]);

        assert_eq!(serde_json::to_string(&node).unwrap(), r#"{"memory":"2G"}"#);
    }

    /// The types are those of a file; otherwise equal values would differ.
    #[test]
    fn test_load_flag_of_digits_is_a_number_except_name() {
        let flag = |key, text: &str| (key, Some(text.to_owned()));

        let node = loaded(&["cpu: 2"], vec![flag("name", "7"), flag("memory", "512"), flag("cpu", "2")]);

        assert_eq!(serde_json::to_string(&node).unwrap(), r#"{"cpu":2,"name":"7","memory":512}"#);
        for text in ["null", "true", "[1]", "017", "2 # x", ""] {
            let node = loaded(&[], vec![flag("cpu", text)]);
            assert_eq!(node.get("cpu"), Some(&Node::text(text)), "{text}");
        }
    }

    #[test]
    fn test_load_reports_all_invalid_settings() {
        let handlers = builtin_handlers(&builtin_drivers().unwrap()).unwrap();
        let set = ["memory=", "cpu=2", "nothing"].map(str::to_owned);

        let layers = Layers { documents: &[document("a: [1")], flags: vec![], set: &set, lenient: false };
        let loaded = load(&layers, Node::empty_map(), &handlers);

        let messages: Vec<&str> = loaded.problems.iter().skip(1).map(|problem| problem.message.as_str()).collect();
        let expected =
            ["cannot set `memory=`: the value is missing", "cannot set `nothing`: expected `key.path=value`"];
        assert_eq!(messages, expected);
        assert_eq!(serde_json::to_string(&loaded.definition).unwrap(), r#"{"cpu":2}"#);
    }

    #[test]
    fn test_load_reports_all_invalid_files() {
        let handlers = builtin_handlers(&builtin_drivers().unwrap()).unwrap();

        let documents = [document("a: [1"), document("b: 1\nb: 2")];
        let layers = Layers { documents: &documents, flags: vec![], set: &[], lenient: false };
        let loaded = load(&layers, Node::empty_map(), &handlers);

        let files: Vec<_> = loaded.problems.iter().map(|problem| problem.location.clone().unwrap().line).collect();
        assert_eq!(files, [1, 2]);
    }
}

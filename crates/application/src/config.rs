//! Configuration: from texts to one definition.
//!
//! Each document is read into a tree that remembers where everything stands ([`read`]), its relative
//! paths are made absolute, and the trees are merged left to right ([`merge`]). What the result
//! means is the domain's business (`Machine::check`).

mod error;
mod merge;
mod yaml;

use std::path::{Path, PathBuf};

use maqet_domain::config::{Node, Place, Problem, Value};
use maqet_domain::plugin::{ConfigHandler, Registry};
use serde::{Deserialize, Serialize};

pub use self::error::{ConfigError, Sources};
pub use self::merge::merge;
pub use self::yaml::read;

/// A YAML text and where it came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// What messages call it: the path as it was given.
    pub name: String,
    /// The folder its relative paths are relative to; absolute.
    pub folder: PathBuf,
    /// The text.
    pub text: String,
}

/// Reads `documents`, puts `flags` on top, and returns the merged definition with its sources.
///
/// All problems of all documents are told at once.
pub(crate) fn load(
    documents: &[Document],
    flags: Vec<(&'static str, Option<String>)>,
    handlers: &Registry<dyn ConfigHandler>,
) -> Result<(Node, Sources), ConfigError> {
    let mut sources = Sources::default();
    let mut problems: Vec<Problem> = Vec::new();
    let mut merged = Node::empty_map();
    for document in documents {
        sources.add(document);
        match read(&document.name, &document.text) {
            Ok(node) => merged = merge(merged, rebased(node, &document.folder, handlers)),
            Err(problem) => problems.push(problem),
        }
    }
    if !problems.is_empty() {
        return Err(ConfigError::new(problems, sources));
    }
    Ok((merge(merged, flag_layer(flags)), sources))
}

/// Turns given flags into a layer of their own.
fn flag_layer(flags: Vec<(&'static str, Option<String>)>) -> Node {
    let entries = flags.into_iter().filter_map(|(key, value)| {
        let place = Place::named(format!("flag `--{key}`"));
        value.map(|text| (key.to_owned(), Node::text(text).at(place)))
    });
    Node::new(Value::Map(entries.collect()))
}

/// Makes the relative paths of a document absolute; each key knows its own.
fn rebased(node: Node, folder: &Path, handlers: &Registry<dyn ConfigHandler>) -> Node {
    node.map_value(|value| match value {
        Value::Map(entries) => Value::Map(
            entries
                .into_iter()
                .map(|(key, node)| match handlers.get(&key) {
                    Some(handler) => (key, handler.rebase(node, folder)),
                    None => (key, node),
                })
                .collect(),
        ),
        other => other,
    })
}

#[cfg(test)]
mod tests {
    use maqet_domain::machine::builtin_handlers;
    use maqet_domain::storage::builtin_drivers;

    use super::*;

    fn document(text: &str) -> Document {
        Document { name: "a.yaml".to_owned(), folder: PathBuf::from("/conf"), text: text.to_owned() }
    }

    fn loaded(texts: &[&str], flags: Vec<(&'static str, Option<String>)>) -> Node {
        let handlers = builtin_handlers(&builtin_drivers().unwrap()).unwrap();
        let documents: Vec<Document> = texts.iter().map(|text| document(text)).collect();
        load(&documents, flags, &handlers).unwrap().0
    }

    #[test]
    fn test_load_relative_paths_are_relative_to_their_file() {
        let node = loaded(&["storage: [{name: a, file: d/x.raw}]\nbinary: ./qemu"], vec![]);

        assert_eq!(
            serde_json::to_string(&node).unwrap(),
            r#"{"storage":[{"name":"a","file":"/conf/d/x.raw"}],"binary":"/conf/./qemu"}"#
        );
    }

    #[test]
    fn test_load_flag_wins_over_the_files() {
        let node = loaded(&["memory: 1G"], vec![("memory", Some("2G".to_owned())), ("cpu", None)]);

        assert_eq!(serde_json::to_string(&node).unwrap(), r#"{"memory":"2G"}"#);
    }

    #[test]
    fn test_load_two_broken_files_are_both_told() {
        let handlers = builtin_handlers(&builtin_drivers().unwrap()).unwrap();

        let error = load(&[document("a: [1"), document("b: 1\nb: 2")], vec![], &handlers).unwrap_err();

        assert_eq!(error.problems.len(), 2);
    }
}

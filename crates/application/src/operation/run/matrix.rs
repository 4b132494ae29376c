//! A list of runs, as in a file: each with its own definition, values and command.

use std::path::{Path, PathBuf};

use maqet_domain::config::{Diagnostics, KeyPath, Node, Value};
use maqet_domain::guest::EnvironmentVariable;

use crate::config::{ConfigError, Document, Sources, read};

/// The keys of a case.
const KEYS: [&str; 6] = ["name", "vm", "files", "set", "env", "command"];

/// One of several runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MatrixCase {
    /// Its name, unique in its file.
    pub name: String,
    /// The VM whose definition and disks are used, if it names one.
    pub vm: Option<String>,
    /// The files of the definition; absolute.
    pub files: Vec<PathBuf>,
    /// Single values, each as `key.path=value`, besides those of all cases.
    pub set: Vec<String>,
    /// Variables of the environment, as in `NAME=VALUE`, besides those of all cases.
    pub environment: Vec<String>,
    /// The program and its arguments, instead of those of all cases; a text is run by a shell.
    pub command: Option<Vec<String>>,
}

/// Reads a list of runs.
///
/// Errors: the problems of the file, all together.
pub fn read_matrix(document: &Document) -> Result<Vec<MatrixCase>, ConfigError> {
    let invalid = |problems| {
        let mut sources = Sources::default();
        sources.add(document);
        ConfigError::new(problems, sources)
    };
    let node = read(&document.name, &document.text).map_err(invalid)?;
    let mut report = Diagnostics::default();
    let at = KeyPath::default();
    let mut cases: Vec<MatrixCase> = Vec::new();
    let items = report.list(&at, &node).unwrap_or_default();
    for (index, item) in items.iter().enumerate() {
        let at = at.index(index);
        let Some(case) = case(&at, item, index, &document.directory, &mut report) else { continue };
        if cases.iter().any(|known| known.name == case.name) {
            report.error(&at.key("name"), item, format!("another case is named `{}`", case.name.escape_debug()));
        }
        cases.push(case);
    }
    if items.is_empty() && report.is_clean() {
        report.error(&at, &node, "the list is empty");
    }
    if report.is_clean() {
        return Ok(cases);
    }
    Err(invalid(report.into_problems()))
}

fn case(at: &KeyPath, item: &Node, index: usize, folder: &Path, report: &mut Diagnostics) -> Option<MatrixCase> {
    for (key, node) in report.map(at, item)? {
        if !KEYS.contains(&key.as_str()) {
            report.unknown_key(&at.key(key), node, &KEYS);
        }
    }
    let mut text = |key: &str| item.non_null(key).and_then(|node| report.line(&at.key(key), node));
    let name = text("name").unwrap_or_else(|| format!("case-{}", index + 1));
    let vm = text("vm");
    let files = texts(at, item, "files", report).into_iter().map(|file| folder.join(file)).collect();
    let set = settings(at, item, report);
    let environment = settings_of("env", at, item, report);
    // Without a value, it is that of the caller.
    for variable in environment.iter().filter(|variable| variable.contains('=')) {
        if let Err(error) = variable.parse::<EnvironmentVariable>() {
            report.error(&at.key("env"), item, error.to_string());
        }
    }
    let command = item.non_null("command").map(|node| match &node.value {
        Value::List(_) => texts(at, item, "command", report),
        _ => ["sh", "-c"].map(str::to_owned).into_iter().chain(report.text(&at.key("command"), node)).collect(),
    });
    Some(MatrixCase { name, vm, files, set, environment, command })
}

/// Reads a text or a list of texts.
fn texts(at: &KeyPath, item: &Node, key: &str, report: &mut Diagnostics) -> Vec<String> {
    let Some(node) = item.non_null(key) else { return Vec::new() };
    let at = at.key(key);
    match &node.value {
        Value::List(items) => {
            items.iter().enumerate().filter_map(|(index, item)| report.text(&at.index(index), item)).collect()
        }
        _ => report.text(&at, node).into_iter().collect(),
    }
}

/// Reads values of a definition: a list of `key.path=value`, or a map from paths to values.
fn settings(at: &KeyPath, item: &Node, report: &mut Diagnostics) -> Vec<String> {
    settings_of("set", at, item, report)
}

/// Reads a list of `NAME=VALUE`, or a map.
fn settings_of(key: &str, at: &KeyPath, item: &Node, report: &mut Diagnostics) -> Vec<String> {
    let Some(Value::Map(entries)) = item.non_null(key).map(|node| &node.value) else {
        return texts(at, item, key, report);
    };
    let value = |node: &Node| match &node.value {
        // Of values of a definition, which are read as YAML, of which JSON is a part.
        Value::List(_) | Value::Map(_) | Value::Null if key == "set" => serde_json::to_string(node).ok(),
        _ => node.written(),
    };
    let mut all = Vec::new();
    for (name, node) in entries {
        match value(node) {
            Some(value) => all.push(format!("{name}={value}")),
            None => report.expected(&at.key(key).key(name), node, "a text"),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<MatrixCase>, Vec<String>> {
        let document = Document::new("matrix.yaml", "/m", text);
        read_matrix(&document).map_err(|error| {
            error.problems.iter().map(|problem| format!("{}: {}", problem.path, problem.message)).collect()
        })
    }

    #[test]
    fn test_matrix_reads_all_forms() {
        let text = "\
- {name: small, files: a.yaml, set: {memory: 256M, cpu: 2, network.forward: [\"0:22\"]}, command: 'ls | wc'}
- {vm: web, set: [memory=1G], env: {A: b c, N: 1}, command: [make, test]}
- {files: [/x/a.yaml, b.yaml], env: [A=1]}
";

        let cases = read(text).unwrap();

        let strings = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let small = MatrixCase {
            name: "small".to_owned(),
            files: vec!["/m/a.yaml".into()],
            set: strings(&["memory=256M", "cpu=2", "network.forward=[\"0:22\"]"]),
            command: Some(strings(&["sh", "-c", "ls | wc"])),
            ..MatrixCase::default()
        };
        let web = MatrixCase {
            name: "case-2".to_owned(),
            vm: Some("web".to_owned()),
            set: strings(&["memory=1G"]),
            environment: strings(&["A=b c", "N=1"]),
            command: Some(strings(&["make", "test"])),
            ..MatrixCase::default()
        };
        let last = MatrixCase {
            name: "case-3".to_owned(),
            files: vec!["/x/a.yaml".into(), "/m/b.yaml".into()],
            environment: strings(&["A=1"]),
            ..MatrixCase::default()
        };
        assert_eq!(cases, [small, web, last]);
    }

    #[test]
    fn test_matrix_reports_all_problems() {
        let text = "- {name: a, imge: x}\n- {name: a, env: [1A=x]}\n- 7\n";

        let problems = read(text).unwrap_err();

        assert_eq!(
            problems,
            [
                "[0].imge: unknown key `imge`",
                "[1].env: invalid variable `1A=x`: expected `NAME=VALUE`, with letters, digits and `_` in the name",
                "[1].name: another case is named `a`",
                "[2]: expected a map, found the number `7`",
            ]
        );
        assert_eq!(read("[]").unwrap_err(), [": the list is empty"]);
        assert_eq!(read("a: 1").unwrap_err().len(), 1);
    }
}

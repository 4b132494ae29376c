//! An invalid configuration, with the texts of its files.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use maqet_domain::config::{Node, Problem, names_secrets};
use maqet_domain::error::{Explain, Explanation, Fault};

use super::Document;
use super::yaml::read_partially;

/// The texts of the documents by name, so that messages can show lines of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    texts: Vec<(String, Arc<str>)>,
    /// The lines with secrets, by document, from 1.
    hidden: Vec<(String, RangeInclusive<u32>)>,
}

impl Sources {
    /// Adds a document.
    pub fn add(&mut self, document: &Document) {
        self.texts.push((document.name.clone(), document.text.as_str().into()));
    }

    /// Adds the documents of another value.
    pub fn extend(&mut self, more: &Self) {
        self.texts.extend(more.texts.iter().cloned());
        self.hidden.extend(more.hidden.iter().cloned());
    }

    /// Finds the lines with secrets.
    fn hide_secrets(&mut self) {
        for (name, text) in &self.texts {
            self.hidden.extend(secret_lines(text).into_iter().map(|lines| (name.clone(), lines)));
        }
    }

    /// Returns whether a line has a secret, or may have one.
    pub fn is_hidden(&self, name: &str, line: u32) -> bool {
        self.hidden.iter().any(|(known, lines)| known == name && lines.contains(&line))
    }

    /// Returns the text of a document.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.texts.iter().find(|(known, _)| known == name).map(|(_, text)| &**text)
    }

    /// Returns the position of a problem in the order of the documents.
    fn order(&self, problem: &Problem) -> (usize, u32, u32) {
        problem.location.as_ref().map_or((usize::MAX, 0, 0), |location| {
            let document = self.texts.iter().position(|(name, _)| **name == *location.source);
            (document.unwrap_or(usize::MAX), location.line, location.column)
        })
    }
}

/// Returns the lines of a text that may have secrets: all of them, if it is no YAML.
fn secret_lines(text: &str) -> Vec<RangeInclusive<u32>> {
    let mut lines = Vec::new();
    match read_partially("", text, &mut Vec::new()) {
        Some(node) => add_secret_lines("", &node, false, text, &mut lines),
        None if names_secrets(text) => lines.push(0..=u32::MAX),
        None => {}
    }
    lines
}

/// Adds the lines of credentials, users and passwords below a key, also of keys that are not spelled like that.
fn add_secret_lines(key: &str, node: &Node, is_seed: bool, text: &str, lines: &mut Vec<RangeInclusive<u32>>) {
    if names_secrets(key) || is_seed && key.starts_with("user") {
        add_lines(node, text, lines);
        return;
    }
    let is_seed = key == "seed";
    for (key, node) in node.entries() {
        add_secret_lines(key, node, is_seed, text, lines);
    }
    for item in node.items() {
        add_secret_lines("", item, is_seed, text, lines);
    }
}

/// Adds all lines of a value and its key.
fn add_lines(node: &Node, text: &str, lines: &mut Vec<RangeInclusive<u32>>) {
    for location in node.key_location.iter().chain(&node.value_location) {
        let value = text.get(location.offset..location.offset + location.length).unwrap_or_default();
        let breaks = u32::try_from(value.trim_end().split(['\n', '\r']).count()).unwrap_or(u32::MAX);
        lines.push(location.line..=location.line.saturating_add(breaks - 1));
    }
    node.entries().iter().map(|(_, node)| node).chain(node.items()).for_each(|node| add_lines(node, text, lines));
}

/// The limit of problems in one message; there can be tens of thousands.
const MAX_PROBLEMS: usize = 20;

/// The problems of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The problems, in source order; never empty.
    pub problems: Vec<Problem>,
    /// The texts of the documents.
    pub sources: Sources,
}

impl ConfigError {
    /// Makes an error of these problems, sorted in source order.
    pub fn new(mut problems: Vec<Problem>, mut sources: Sources) -> Self {
        sources.hide_secrets();
        problems.sort_by_key(|problem| sources.order(problem));
        Self { problems, sources }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.as_slice() {
            [one] => write!(f, "invalid configuration: {}", ProblemLine(one)),
            many => {
                write!(f, "invalid configuration: {} problems", many.len())?;
                many.iter().take(MAX_PROBLEMS).try_for_each(|problem| write!(f, "; {}", ProblemLine(problem)))?;
                if many.len() > MAX_PROBLEMS { f.write_str("; …") } else { Ok(()) }
            }
        }
    }
}

impl std::error::Error for ConfigError {}

impl Explain for ConfigError {
    fn explain(&self) -> Explanation {
        Explanation::new("config.invalid", Fault::Usage)
    }
}

/// A problem on one line.
struct ProblemLine<'a>(&'a Problem);

impl fmt::Display for ProblemLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let problem = self.0;
        if let Some(location) = &problem.location {
            write!(f, "{location}: ")?;
        }
        f.write_str(&problem.title())?;
        if let Some(other) = &problem.other {
            write!(f, " (the other is at {other})")?;
        }
        if let Some(help) = &problem.help {
            write!(f, " ({help})")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, shown: &str) {
        let mut sources = Sources::default();
        sources.add(&Document::new("f", "/", text));
        let problem = Problem::new("x", "wrong");
        let sources = ConfigError::new(vec![problem], sources).sources;
        let visible = text.lines().zip(1..).filter(|(_, line)| !sources.is_hidden("f", *line));
        assert_eq!(visible.map(|(line, _)| line).collect::<Vec<_>>().join("|"), shown, "{text}");
    }

    #[test]
    fn test_sources_lines_with_secrets_are_hidden() {
        check("cpu: x\ncredentials:\n  a/b: s3cret\nvga: std\n", "cpu: x|vga: std");
        check("a: 1\ncredentials: s3cret\nb: 2\n", "a: 1|b: 2");
        check("seed: {hostname: a b, users: [{name: x, password: s3cret}]}\nb: 2\n", "b: 2");
        check("seed:\n  hostname: a b\n  users:\n    - passwd: s3cret\n      name: x\n", "seed:|  hostname: a b");
        check("seed:\n  users:\n    - password: |\n        one\n        s3cret\n  run: [a]\n", "seed:|  run: [a]");
        check("seed:\n  users:\n    - password: \"one\n        s3cret\"\n  run: [a]\n", "seed:|  run: [a]");
        check("a: 1\nseed:\n  users: [{password: \"s3cret}]\n", "");
        check("a: 1\nmemory: \"1\n", "a: 1|memory: \"1");
    }
}

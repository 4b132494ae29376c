//! An invalid configuration, with the texts of its files.

use std::fmt;
use std::sync::Arc;

use maqet_domain::config::Problem;
use maqet_domain::error::{Explain, Explanation, Fault};

use super::Document;

/// The texts of the documents by name, so that messages can show lines of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    texts: Vec<(String, Arc<str>)>,
}

impl Sources {
    /// Adds a document.
    pub fn add(&mut self, document: &Document) {
        self.texts.push((document.name.clone(), document.text.as_str().into()));
    }

    /// Adds the documents of another value.
    pub fn extend(&mut self, more: &Self) {
        self.texts.extend(more.texts.iter().cloned());
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
    pub fn new(mut problems: Vec<Problem>, sources: Sources) -> Self {
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

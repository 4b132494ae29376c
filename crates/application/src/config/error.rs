//! A configuration that is wrong, with the texts that show where.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use maqet_domain::config::Problem;
use maqet_domain::error::{Explain, Fault};

use super::Document;

/// The texts of the documents by their names, so that a message can show the line it is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    texts: BTreeMap<String, Arc<str>>,
}

impl Sources {
    /// Adds a document.
    pub fn add(&mut self, document: &Document) {
        self.texts.insert(document.name.clone(), document.text.as_str().into());
    }

    /// Returns the text of a document.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.texts.get(name).map(|text| &**text)
    }
}

/// Everything that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// What is wrong, in the order it was found; never empty.
    pub problems: Vec<Problem>,
    /// The texts it stands in.
    pub sources: Sources,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.as_slice() {
            [one] => write!(f, "the configuration is wrong: {}", Line(one)),
            many => {
                write!(f, "the configuration is wrong in {} places", many.len())?;
                many.iter().try_for_each(|problem| write!(f, "; {}", Line(problem)))
            }
        }
    }
}

impl std::error::Error for ConfigError {}

impl Explain for ConfigError {
    fn code(&self) -> &'static str {
        "config.invalid"
    }

    fn fault(&self) -> Fault {
        Fault::Usage
    }
}

/// A problem on one line.
struct Line<'a>(&'a Problem);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let problem = self.0;
        if let Some(place) = &problem.place {
            write!(f, "{place}: ")?;
        }
        if !problem.path.is_empty() {
            write!(f, "`{}`: ", problem.path.escape_debug())?;
        }
        f.write_str(&problem.message)?;
        if let Some(other) = &problem.other {
            write!(f, " (the other is at {other})")?;
        }
        if let Some(help) = &problem.help {
            write!(f, " ({help})")?;
        }
        Ok(())
    }
}

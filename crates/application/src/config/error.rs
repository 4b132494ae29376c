//! A configuration that is wrong, with the texts that show where.

use std::fmt;
use std::sync::Arc;

use maqet_domain::config::Problem;
use maqet_domain::error::{Explain, Explanation, Fault};

use super::Document;

/// The texts of the documents by their names, so that a message can show the line it is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    texts: Vec<(String, Arc<str>)>,
}

impl Sources {
    /// Adds a document.
    pub fn add(&mut self, document: &Document) {
        self.texts.push((document.name.clone(), document.text.as_str().into()));
    }

    /// Adds what another one has.
    pub fn extend(&mut self, more: &Self) {
        self.texts.extend(more.texts.iter().cloned());
    }

    /// Returns the text of a document.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.texts.iter().find(|(known, _)| known == name).map(|(_, text)| &**text)
    }

    /// Returns where a problem comes when they are told in the order of the documents.
    fn order(&self, problem: &Problem) -> (usize, u32, u32) {
        problem.place.as_ref().map_or((usize::MAX, 0, 0), |place| {
            let document = self.texts.iter().position(|(name, _)| **name == *place.source);
            (document.unwrap_or(usize::MAX), place.line, place.column)
        })
    }
}

/// How many problems one line of text names; nobody reads more, and there can be tens of thousands.
const MOST_ON_A_LINE: usize = 20;

/// Everything that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// What is wrong, in the order it stands; never empty.
    pub problems: Vec<Problem>,
    /// The texts it stands in.
    pub sources: Sources,
}

impl ConfigError {
    /// Makes an error of what is wrong, told in the order in which it stands.
    pub fn new(mut problems: Vec<Problem>, sources: Sources) -> Self {
        problems.sort_by_key(|problem| sources.order(problem));
        Self { problems, sources }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.as_slice() {
            [one] => write!(f, "the configuration is wrong: {}", Line(one)),
            many => {
                write!(f, "the configuration is wrong in {} places", many.len())?;
                many.iter().take(MOST_ON_A_LINE).try_for_each(|problem| write!(f, "; {}", Line(problem)))?;
                if many.len() > MOST_ON_A_LINE { f.write_str("; …") } else { Ok(()) }
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

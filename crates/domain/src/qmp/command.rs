//! A QMP command.

use serde::Serialize;
use serde_json::{Map, Value};

/// A command of QMP.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct QmpCommand {
    /// Its name, as in `query-status`.
    pub execute: String,
    /// Its arguments; left out where there are none.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub arguments: Map<String, Value>,
}

impl QmpCommand {
    /// Makes a command without arguments.
    pub fn new(execute: impl Into<String>) -> Self {
        Self { execute: execute.into(), arguments: Map::new() }
    }

    /// Adds an argument.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.arguments.insert(name.to_owned(), value.into());
        self
    }
}

//! Registries of named values.

use std::sync::Arc;

use crate::error::{Explain, Explanation, Fault};
use crate::text::similar_or_foreign;

/// A value with a name to register it under.
pub trait Named {
    /// Returns the name.
    fn name(&self) -> &'static str;
}

/// Values of one kind by name; a plain value, not a global.
#[derive(Debug)]
pub struct Registry<T: ?Sized> {
    kind: &'static str,
    entries: Vec<Arc<T>>,
}

/// A name that is registered already.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} `{name}` is already registered")]
#[expect(missing_docs, reason = "the message names the fields")]
pub struct DuplicateName {
    pub kind: &'static str,
    pub name: String,
}

impl Explain for DuplicateName {
    fn explain(&self) -> Explanation {
        Explanation::new("plugin.name-exists", Fault::Usage)
    }
}

impl<T: ?Sized> Clone for Registry<T> {
    fn clone(&self) -> Self {
        Self { kind: self.kind, entries: self.entries.clone() }
    }
}

impl<T: Named + ?Sized> Registry<T> {
    /// Makes an empty registry; `kind` is what it holds, as in `storage type`.
    pub const fn new(kind: &'static str) -> Self {
        Self { kind, entries: Vec::new() }
    }

    /// Adds an entry; its name must be new.
    pub fn register(&mut self, entry: Arc<T>) -> Result<(), DuplicateName> {
        if self.get(entry.name()).is_some() {
            return Err(DuplicateName { kind: self.kind, name: entry.name().to_owned() });
        }
        self.entries.push(entry);
        Ok(())
    }

    /// Returns the entry with this name.
    pub fn get(&self, name: &str) -> Option<&Arc<T>> {
        self.entries.iter().find(|entry| entry.name() == name)
    }

    /// Returns the entries in the order they were registered.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<T>> {
        self.entries.iter()
    }

    /// Returns the names in the order they were registered.
    pub fn names(&self) -> Vec<&'static str> {
        self.entries.iter().map(|entry| entry.name()).collect()
    }

    /// Returns the names that resemble `name`.
    pub fn similar(&self, name: &str) -> Vec<String> {
        similar_or_foreign(name, &self.names())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{QCOW2, builtin_drivers};

    #[test]
    fn test_registry_duplicate_name_is_an_error() {
        let mut registry = builtin_drivers().unwrap();

        let refused = registry.register(Arc::new(QCOW2));

        assert_eq!(refused, Err(DuplicateName { kind: "storage type", name: "qcow2".to_owned() }));
    }

    #[test]
    fn test_registry_similar_name_is_found() {
        assert_eq!(builtin_drivers().unwrap().similar("qcow"), ["qcow2"]);
        assert_eq!(builtin_drivers().unwrap().similar("cdrom"), ["iso"]);
    }
}
